//! heal, guard: no elections while addresses are mended, and no long grudges. Pure.
//!
//! Nodes that find each other again after a while hold each other for failed for twice the node timeout.
//! A replica that hears so first takes over from a primary that runs well; so `cluster-replica-no-failover`
//! is set on all for that time. Nobody is served in it either; so, when nodes hold each other for failed
//! already, `cluster-node-timeout` is shortened meanwhile, which without the guard would bring more
//! elections. Each guarded node carries a mark that says what was before ([`GuardMark`]), by which a manager
//! that was killed meanwhile, or another one, knows what to set back, and leaves alone what the operator
//! has set.

use super::heal::{Case, Plan};
use super::heal_addresses::Wrong;
use crate::control::action::Action;
use crate::control::mark::GuardMark;
use crate::control::observe::{Flags, HealSettings};
use crate::control::survey::{Survey, is_accused};
use crate::topology::NodeId;
use std::time::Duration;

/// The node timeout during a repair. Twice that is what a node needs to forgive another, and once more
/// until it serves; below, a node that is only busy would be held for failed.
pub const HASTY: Duration = Duration::from_secs(1);

/// Elections are held back at most for so many node timeouts, and this much more: a member that stays
/// away that long has failed, whatever its address.
const TIMEOUTS: u32 = 4;
const LONGEST: Duration = Duration::from_secs(15);

/// Plans guards where they are missing, and haste where nodes hold living primaries for failed.
pub fn raise(case: Case<'_>, plan: &mut Plan) {
    let survey = case.survey;
    if !is_wanted(survey) || is_spent(case) {
        return;
    }
    let mut guarded = Vec::new();
    for node in &survey.view.nodes {
        let me = node.view.myself();
        let settings = survey.facts(me.id).and_then(|facts| facts.settings.as_ref());
        match settings {
            Some(settings) if settings.guard_mark().is_some() => guarded.push((node, settings)),
            // The operator's own, of which nobody takes anything back.
            _ if me.flags.has(Flags::NO_FAILOVER) => {}
            Some(settings) if can_be_marked(settings) => {
                guarded.push((node, settings));
                plan.step("repair-begins", Action::Guard { node: survey.party(node) });
            }
            _ => {
                let text = format!(
                    "{} does not let us read or change its settings (CONFIG), or has unusual ones: a primary may \
                     be replaced needlessly while addresses are repaired",
                    node.view.asked
                );
                plan.find("no-guard", text, None);
            }
        }
    }
    if has_grudge(survey) {
        for (node, _) in guarded.iter().filter(|(_, settings)| settings.node_timeout > HASTY) {
            plan.step("held-for-failed", Action::Hasten { node: survey.party(node) });
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
    settings.is_some_and(|settings| settings.guard_mark().is_some())
}

/// Whether the nodes may soon misjudge each other: a primary is looked for in the wrong place, or, with a
/// guard up, a member that answers us is held for failed, is not connected yet, or serves not yet. One that
/// is dead must be replaced, guard or not.
pub fn is_wanted(survey: &Survey) -> bool {
    if Wrong::find(survey).pairs.iter().any(|(_, target)| owns_slots(survey, *target)) {
        return true;
    }
    let lines = survey.view.nodes.iter().flat_map(|node| node.view.members());
    let mut apart = lines.filter(|line| is_accused(line.flags) || !line.is_linked);
    is_held(survey) && (apart.any(|line| survey.view.of(line.id).is_some()) || is_rejoining(survey))
}

/// Whether primaries that all are there do not serve yet: a node waits for its node timeout before it does,
/// and would wait longer with its usual one.
fn is_rejoining(survey: &Survey) -> bool {
    let lines = survey.view.nodes.iter().flat_map(|node| node.view.members());
    let mut owners = lines.filter(|line| !line.slots.is_empty());
    let mut primaries = survey.view.nodes.iter().filter(|node| owns_slots(survey, node.view.id()));
    primaries.any(|node| !node.view.cluster.is_ok) && owners.all(|line| survey.view.of(line.id).is_some())
}

/// Whether a primary that answers us is held for failed, or soon will be.
fn has_grudge(survey: &Survey) -> bool {
    let lines = survey.view.nodes.iter().flat_map(|node| node.view.members());
    let mut accused = lines.filter(|line| is_accused(line.flags));
    accused.any(|line| owns_slots(survey, line.id))
}

/// By the word of the node itself, which must have answered.
fn owns_slots(survey: &Survey, id: NodeId) -> bool {
    survey.view.of(id).is_some_and(|node| !node.view.myself().slots.is_empty())
}

fn can_be_marked(settings: &HealSettings) -> bool {
    let (node_timeout, barrier) = (settings.node_timeout, settings.migration_barrier);
    GuardMark { node_timeout, barrier }.write().is_some()
}

fn is_spent(case: Case<'_>) -> bool {
    let timeouts =
        case.survey.view.nodes.iter().filter_map(|node| {
            Some(case.survey.facts(node.view.id())?.settings.as_ref()?.usual_node_timeout())
        });
    let longest = timeouts.max().unwrap_or_default() * TIMEOUTS + LONGEST;
    case.memory.guarded_for(case.now).is_some_and(|guarded| guarded > longest)
}
