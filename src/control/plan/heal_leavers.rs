//! heal, leavers: members that are gone for good are forgotten, last of all. Pure.
//!
//! A forgotten node that comes back must be emptied to be let in again. So only who is not on the
//! operator's list of nodes is forgotten, after a long silence, when every other member answers and all
//! hold it for failed, own its slots and follow others. Whose pod proves that it cannot come back is not waited for.

use super::heal::{Case, Plan};
use super::replaced::is_replaced;
use crate::control::action::Action;
use crate::control::observe::Flags;
use crate::topology::NodeId;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

/// A reboot, a slow start or a moved volume is over by then.
const PATIENCE: Duration = Duration::from_secs(600);

pub fn heal(case: Case<'_>, plan: &mut Plan) {
    let view = &case.survey.view;
    if !plan.steps.is_empty() || view.nodes.is_empty() {
        return;
    }
    let silent: Vec<NodeId> =
        case.memory.ours().iter().copied().filter(|id| view.of(*id).is_none()).collect();
    let (mut gone, others): (Vec<NodeId>, Vec<NodeId>) =
        silent.into_iter().partition(|id| is_gone(case, *id));
    gone.sort_unstable();
    // Whoever does not hear of it brings it back by gossip a minute later.
    if !others.is_empty() {
        return;
    }
    for leaver in gone {
        if is_replaced(case, leaver) || case.listed.is_some_and(|listed| !is_listed(case, leaver, listed)) {
            for node in &view.nodes {
                plan.step("left", Action::Forget { node: case.survey.party(node), leaver });
            }
        } else {
            let text = format!(
                "the member {} has not answered for {} minutes: start it again, or, if it is gone for good, remove it \
                 (slotgate does that for nodes that are not in --seed-file)",
                leaver.short(),
                PATIENCE.as_secs() / 60
            );
            let command = format!("slotgate remove {leaver} {}", view.nodes[0].view.asked);
            plan.note("gone-member", text, Some(command));
        }
    }
}

/// Whether nobody needs the member any more and everybody knows that it is gone.
fn is_gone(case: Case<'_>, id: NodeId) -> bool {
    let nodes = &case.survey.view.nodes;
    let is_proven = is_replaced(case, id);
    let is_long = is_proven || case.memory.silent_for(id, case.now).is_some_and(|silent| silent >= PATIENCE);
    let is_agreed = nodes.iter().all(|node| {
        let is_gone = |flags: Flags| flags.has(Flags::FAILED) || (is_proven && flags.has(Flags::NO_ADDRESS));
        node.view.line(id).is_none_or(|line| is_gone(line.flags) && line.slots.is_empty())
            && node.view.myself().primary != Some(id)
    });
    is_long && is_agreed && nodes.iter().any(|node| node.view.line(id).is_some())
}

/// Whether the list names the place of the member, which no other node has by now.
fn is_listed(case: Case<'_>, id: NodeId, listed: &HashSet<SocketAddr>) -> bool {
    let lines = case.survey.view.nodes.iter().filter_map(|node| Some((node.view.asked, node.view.line(id)?)));
    let mut addrs = lines.filter_map(|(asked, line)| line.addr(asked));
    addrs.any(|addr| listed.contains(&addr) && !case.survey.is_taken(addr))
}
