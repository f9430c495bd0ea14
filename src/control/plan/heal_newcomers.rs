//! heal, newcomers: an empty node that the operator named becomes the replica of a primary without one. Pure.

use super::first_start::is_uncovered;
use super::heal::{Case, Plan};
use super::placement::Place;
use super::scale::is_unwanted;
use crate::control::action::{Action, Party};
use crate::control::observe::Flags;
use crate::control::view::Observation;
use std::net::SocketAddr;
use std::time::Duration;

/// A member without slots that somebody else let in may be about to get some.
const IDLE: Duration = Duration::from_secs(120);

pub fn heal(case: Case<'_>, plan: &mut Plan) {
    let (survey, nodes) = (case.survey, &case.survey.view.nodes);
    // A first start that was cut short has its own plan for them.
    if case.pods.is_some() && is_uncovered(nodes) {
        return;
    }
    // Whoever is to end takes no role.
    let is_leaving =
        |addr: SocketAddr| case.pods.and_then(|pods| pods.at(addr.ip())).is_some_and(|pod| pod.is_leaving);
    let mut vacant: Vec<&Observation> = nodes.iter().filter(|node| is_vacant(node, nodes)).collect();
    let is_due = |node: &&Observation| {
        let id = node.view.id();
        is_unused(node)
            && !is_leaving(node.view.asked)
            && (case.memory.is_invited(id) || case.memory.idle_for(id, case.now).is_some_and(|idle| idle >= IDLE))
            // Somebody may follow it, empty as it is.
            && !nodes.iter().any(|other| other.view.myself().primary == Some(id))
            && nodes.iter().all(|other| other.view.line(id).is_some())
    };
    for node in nodes.iter().filter(is_due) {
        if let Some(primary) = take(&mut vacant, node) {
            let action = Action::Replicate { node: survey.party(node), primary: survey.party(primary) };
            plan.step("missing-replica", action);
        }
    }
    // Those that were invited and are not known to all yet will need a vacancy each.
    let coming = nodes.iter().filter(|node| is_unused(node) && case.memory.is_invited(node.view.id()));
    let mut places = vacant.len().saturating_sub(coming.filter(|node| !is_due(node)).count());
    for newcomer in &survey.newcomers {
        let addr = newcomer.view.asked;
        // Its pod ends, or it left the cluster just now and its pod is to go.
        if is_leaving(addr) || case.pods.is_some_and(|pods| is_unwanted(pods, addr)) {
            continue;
        }
        let (Some(hub), Some(home)) = (nodes.first(), survey.home(newcomer.view.id())) else { continue };
        if places == 0 {
            let text = format!("{addr} is empty and not needed: every primary has a replica");
            plan.note("spare-node", text, Some(format!("slotgate add {addr} {}", hub.view.asked)));
            continue;
        }
        places -= 1;
        let (node, other) = (survey.party(hub), Party { id: newcomer.view.id(), addr: home });
        plan.step("newcomer", Action::Meet { node, other, bus_port: newcomer.view.myself().bus_port });
    }
}

/// A primary of slots that nobody follows, by its own word or by theirs; those that it holds for failed
/// do not count.
fn is_vacant(node: &Observation, nodes: &[Observation]) -> bool {
    let me = node.view.myself();
    let has_replica =
        node.view.members().any(|line| line.primary == Some(me.id) && !line.flags.has(Flags::FAILED));
    let is_followed = nodes.iter().any(|other| other.view.myself().primary == Some(me.id));
    !me.slots.is_empty() && me.primary.is_none() && !has_replica && !is_followed
}

fn is_unused(node: &Observation) -> bool {
    let me = node.view.myself();
    me.slots.is_empty() && me.open_slots.is_empty() && me.primary.is_none() && node.info.keys == 0
}

/// The vacancy that suits the node best: in another zone, else on another host, and else the first.
fn take<'a>(vacant: &mut Vec<&'a Observation>, node: &Observation) -> Option<&'a Observation> {
    let own = Place::of(node);
    let nearness = |ix: &usize| own.nearness(&Place::of(vacant[*ix]));
    let best = (0..vacant.len()).min_by_key(nearness)?;
    Some(vacant.remove(best))
}
