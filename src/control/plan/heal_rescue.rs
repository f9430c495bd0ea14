//! heal, rescue: a primary that came back under its id, but without its keys, is not given to its replicas as
//! what they must become. Pure.
//!
//! Such a node lost its data and not its `nodes.conf`, and came back before it was held for failed: nobody
//! elects anybody, and each replica throws its copy away as soon as the empty one has sent its own. Between
//! the two there are seconds (`repl-diskless-sync-delay`, 5 s by default), in which a replica that still has
//! its copy can take over. Later nothing is left to rescue, which is told.

use super::heal::{Case, Plan};
use crate::control::action::Action;
use crate::control::observe::Role;
use crate::control::view::Observation;
use std::time::Duration;

/// Both nodes tell their times in whole seconds.
const SLACK: Duration = Duration::from_secs(2);

pub fn heal(case: Case<'_>, plan: &mut Plan) {
    let nodes = &case.survey.view.nodes;
    for primary in nodes.iter().filter(|node| is_bare(node)) {
        let (id, addr) = (primary.view.id(), primary.view.asked);
        let holds = |node: &&Observation| {
            node.view.myself().primary == Some(id) && still_holds(node) && was_cut_off(case, primary, node)
        };
        let offset =
            |node: &Observation| case.survey.facts(node.view.id()).map_or(0, |facts| facts.link.offset);
        let best = nodes.iter().filter(holds).max_by_key(|node| (offset(node), node.view.id()));
        if let Some(replica) = best {
            let text = format!(
                "the primary {addr} came back without its keys: its data was lost. Its replica {} still has them and \
                 takes over; what was written to {addr} since then is given up",
                replica.view.asked
            );
            plan.find("data-lost", text, None);
            let (node, primary) = (case.survey.party(replica), case.survey.party(primary));
            plan.step("data-lost", Action::Rescue { node, primary });
        } else if let Some(keys) = case.memory.lost_keys(id) {
            let text = format!(
                "the primary {addr} came back without its {keys} keys, and no replica still has them: restore them \
                 from a backup (slotgate restore)"
            );
            plan.note("keys-lost", text, None);
        }
    }
}

/// A primary of slots without a single key.
pub fn is_bare(node: &Observation) -> bool {
    let me = node.view.myself();
    me.primary.is_none() && !me.slots.is_empty() && node.info.keys == 0 && !node.info.is_loading
}

/// A replica with keys that does not follow anybody at the moment: its copy is that of before.
pub fn still_holds(node: &Observation) -> bool {
    node.info.keys > 0 && matches!(node.info.role, Role::Replica { is_link_up: false, .. })
}

/// Whether the replica was cut off when the primary started: whoever emptied it since then by a command did so
/// over a link that was up.
fn was_cut_off(case: Case<'_>, primary: &Observation, replica: &Observation) -> bool {
    let down_for = case.survey.facts(replica.view.id()).and_then(|facts| facts.link.down_for);
    down_for.is_some_and(|down| primary.info.uptime <= down + SLACK)
}
