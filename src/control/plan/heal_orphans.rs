//! heal, orphans: slots whose primary is gone go to a replica that lives. Pure.
//!
//! The nodes elect by themselves once gossip has brought the suspicions of most primaries together, and half
//! a second to a second after that. We ask all of them, so we know first, and let the best replica ask for
//! votes at once: when most primaries suspect the lost one, or have no link to it while it has not answered us for
//! their node timeout. Only with the votes of the majority (`CLUSTER FAILOVER FORCE`) and from a copy that was
//! followed until the primary was lost; everything else is for a person to decide.

use super::heal::{Case, Plan, redis_cli};
use super::replaced::is_replaced;
use crate::control::action::Action;
use crate::control::observe::{Flags, NodeLine};
use crate::control::view::Observation;
use crate::topology::{NodeId, SlotRange};
use std::collections::BTreeMap;
use std::time::Duration;

/// So long a primary is silent before it is said that no majority is there to elect its successor.
const PATIENCE: Duration = Duration::from_secs(10);
/// `cluster-replica-validity-factor` is 10 by default: so many node timeouts a copy may be older.
const VALIDITY: u32 = 10;
/// The factor's measure also counts `repl-ping-replica-period`, 10 s by default.
const PING_PERIOD: Duration = Duration::from_secs(10);

pub fn heal(case: Case<'_>, plan: &mut Plan) {
    let view = &case.survey.view;
    let mut owners: BTreeMap<NodeId, &[SlotRange]> = BTreeMap::new();
    for line in view.nodes.iter().flat_map(|node| node.view.members()).filter(|line| !line.slots.is_empty()) {
        owners.entry(line.id).or_insert(&line.slots);
    }
    // By most of the primaries that answer, so that one node's old word does not count.
    let voters: Vec<&Observation> =
        view.nodes.iter().filter(|node| !node.view.myself().slots.is_empty()).collect();
    let has_majority = voters.len() * 2 > owners.len();
    let patience = node_timeout(case);
    for (primary, slots) in &owners {
        let silent = case.memory.silent_for(*primary, case.now);
        let is_overdue = patience.is_some_and(|patience| silent.is_some_and(|silent| silent >= patience));
        // A node begins to count when it next sends a ping, up to half a node timeout after its link broke.
        let misses = |line: &NodeLine| is_accused(line) || (is_overdue && !line.is_linked);
        let accuses = |voter: &&&Observation| voter.view.line(*primary).is_some_and(misses);
        let is_lost = match has_majority {
            true => voters.iter().filter(accuses).count() * 2 > owners.len(),
            // Without a majority nobody may call anybody failed.
            false => silent.is_some_and(|silent| silent >= PATIENCE),
        };
        let is_lost = is_lost || (has_majority && is_replaced(case, *primary));
        if view.of(*primary).is_some() || !is_lost {
            continue;
        }
        let slots = slots.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        orphan(case, *primary, &slots, has_majority, plan);
    }
}

/// An owner of slots that a node has not reached for its node timeout, or holds for failed.
pub fn is_accused(line: &NodeLine) -> bool {
    !line.slots.is_empty() && (line.flags.has(Flags::SUSPECT) || line.flags.has(Flags::FAILED))
}

fn orphan(case: Case<'_>, primary: NodeId, slots: &str, has_majority: bool, plan: &mut Plan) {
    let name = primary.short();
    let follows = |node: &&Observation| node.view.myself().primary == Some(primary);
    let link =
        |node: &Observation| case.survey.facts(node.view.id()).map(|facts| facts.link).unwrap_or_default();
    let replicas = case.survey.view.nodes.iter().filter(follows);
    let Some(best) = replicas.max_by_key(|node| (link(node).offset, node.view.id())) else {
        let text = format!(
            "the primary {name} of the slots {slots} does not answer and has no replica that does: start one of \
             them again, on its data"
        );
        plan.find("lost-shard", text, None);
        return;
    };
    let addr = best.view.asked;
    if !has_majority {
        let text = format!(
            "the primary {name} of the slots {slots} does not answer, and neither do most other primaries, so no \
             replica can be elected: start them again. If they are gone for good, the replica {addr} can take over \
             without votes; writes that it does not have are lost, and a primary that still runs elsewhere would \
             be a second one"
        );
        plan.find("no-majority", text, Some(redis_cli(addr, "CLUSTER FAILOVER TAKEOVER")));
        return;
    }
    let force = Some(redis_cli(addr, "CLUSTER FAILOVER FORCE"));
    if best.view.myself().flags.has(Flags::NO_FAILOVER) {
        let text = format!(
            "the primary {name} of the slots {slots} does not answer, and cluster-replica-no-failover forbids the \
             replica {addr} to take over"
        );
        plan.find("failover-forbidden", text, force);
        return;
    }
    let lost_for = case.memory.silent_for(primary, case.now).unwrap_or_default();
    let newest = lost_for + node_timeout(case).unwrap_or_default() * VALIDITY + PING_PERIOD;
    let is_fresh = link(best).down_for.is_some_and(|down| down <= newest);
    if !is_fresh {
        let text = format!(
            "the primary {name} of the slots {slots} does not answer, and the copy of the best replica, {addr}, is \
             older than its loss: start the primary again, or give up the writes since then"
        );
        plan.find("old-copy", text, force);
        return;
    }
    plan.step("orphaned-slots", Action::Elect { node: case.survey.party(best), primary });
}

/// The longest of those that are known.
fn node_timeout(case: Case<'_>) -> Option<Duration> {
    let timeouts =
        case.survey.view.nodes.iter().filter_map(|node| {
            Some(case.survey.facts(node.view.id())?.settings.as_ref()?.usual_node_timeout())
        });
    timeouts.max()
}
