//! heal, guard: no elections while addresses are mended. Pure.
//!
//! Nodes that find each other again after a while hold each other for failed for twice the node timeout,
//! and a replica that hears so first takes over from a primary that runs well. So
//! `cluster-replica-no-failover` is set on all for that time. Each node carries a mark of it, by which a
//! manager that was killed meanwhile, or another one, knows what to set back, and leaves alone what the
//! operator has set: `cluster-migration-barrier` is raised by [`MARK`]. Replicas that do not move to
//! other primaries during the repair are welcome, too.

use super::heal::{Case, Plan};
use super::heal_addresses::Wrong;
use crate::control::action::Action;
use crate::control::observe::Flags;
use crate::control::survey::{Survey, is_accused};
use crate::topology::NodeId;
use std::time::Duration;

/// What the mark adds to `cluster-migration-barrier`; nobody sets so many replicas by hand.
pub const MARK: u64 = 1_000_000;

/// Elections are held back at most for so many node timeouts, and this much more: a member that stays
/// away that long has failed, whatever its address.
const TIMEOUTS: u32 = 4;
const LONGEST: Duration = Duration::from_secs(15);

/// Plans guards where they are missing.
pub fn raise(case: Case<'_>, plan: &mut Plan) {
    let survey = case.survey;
    if !is_wanted(survey) || is_spent(case) {
        return;
    }
    for node in &survey.view.nodes {
        let me = node.view.myself();
        let is_asked = survey.facts(me.id).is_some_and(|facts| facts.settings.is_some());
        if !is_asked {
            let text = format!(
                "{} does not let us read or change its settings (CONFIG): a primary may be replaced needlessly \
                 while addresses are repaired",
                node.view.asked
            );
            plan.find("no-guard", text, None);
        } else if !me.flags.has(Flags::NO_FAILOVER) {
            plan.step("repair-begins", Action::Guard { node: survey.party(node) });
        }
    }
}

/// Plans to lift the guards when all who are there have found each other, or after too long.
pub fn lift(case: Case<'_>, plan: &mut Plan) {
    if is_wanted(case.survey) && !is_spent(case) {
        return;
    }
    for node in case.survey.view.nodes.iter().filter(|node| is_marked(case.survey, node.view.id())) {
        plan.step("repair-ended", Action::Unguard { node: case.survey.party(node) });
    }
}

/// Whether any node is guarded by a manager.
pub fn is_held(survey: &Survey) -> bool {
    survey.view.nodes.iter().any(|node| is_marked(survey, node.view.id()))
}

/// Whether the node carries our mark.
pub fn is_marked(survey: &Survey, id: NodeId) -> bool {
    let settings = survey.facts(id).and_then(|facts| facts.settings.as_ref());
    settings.is_some_and(|settings| settings.migration_barrier >= MARK)
}

/// Whether the nodes may soon misjudge each other: a primary is looked for in the wrong place, or, with a
/// guard up, a member that answers us is held for failed or not connected yet. One that is dead must be
/// replaced, guard or not.
pub fn is_wanted(survey: &Survey) -> bool {
    let owns = |id: &NodeId| survey.view.of(*id).is_some_and(|node| !node.view.myself().slots.is_empty());
    if Wrong::find(survey).pairs.iter().any(|(_, target)| owns(target)) {
        return true;
    }
    let lines = survey.view.nodes.iter().flat_map(|node| node.view.members());
    let mut apart = lines.filter(|line| is_accused(line.flags) || !line.is_linked);
    is_held(survey) && apart.any(|line| survey.view.of(line.id).is_some())
}

fn is_spent(case: Case<'_>) -> bool {
    let timeouts = case.survey.view.nodes.iter().filter_map(|node| {
        case.survey.facts(node.view.id())?.settings.as_ref().map(|settings| settings.node_timeout)
    });
    let longest = timeouts.max().unwrap_or_default() * TIMEOUTS + LONGEST;
    case.memory.guarded_for(case.now).is_some_and(|guarded| guarded > longest)
}
