//! Addresses that are no longer true: a node's own, a member's in another's table, and the one at which
//! a replica looks for its primary. Pure.
//!
//! A node may be asked under another address than the one by which the nodes know it; that alone is no
//! finding as long as the nodes reach it.

use super::Fact;
use crate::control::observe::{Flags, NodeLine, Role};
use crate::control::problem::join;
use crate::control::view::{Observation, View};
use crate::topology::NodeId;
use std::net::{IpAddr, SocketAddr};

pub(super) fn facts(view: &View) -> Vec<Fact> {
    let mut facts = Vec::new();
    for node in &view.nodes {
        facts.extend(own_address(view, node));
        facts.extend(primary_address(view, node));
        facts.extend(node.view.members().filter_map(|line| member_address(view, node, line)));
    }
    facts
}

/// Nodes that all others look for elsewhere, when they are several: repaired one by one, in the right order,
/// by nobody's hand.
pub(super) fn moved(view: &View) -> Option<Fact> {
    let is_moved = |node: &&Observation| {
        let (id, asked) = (node.view.id(), node.view.asked);
        let mut others = view.nodes.iter().filter(|other| other.view.id() != id).peekable();
        let seen = |other: &Observation| other.view.line(id).and_then(|line| line.addr(other.view.asked));
        others.peek().is_some()
            && others.all(|other| seen(other).is_some_and(|seen| seen != asked && !is_proven(view, id, seen)))
    };
    let moved: Vec<SocketAddr> = view.nodes.iter().filter(is_moved).map(|node| node.view.asked).collect();
    if moved.len() < 2 {
        return None;
    }
    let text = format!("the others look elsewhere for {} of {} nodes", moved.len(), view.nodes.len());
    let all: Vec<SocketAddr> = view.nodes.iter().map(|node| node.view.asked).collect();
    Some(Fact::new("moved-nodes", text).with("all", join(&all, ",")))
}

/// Whether another node is connected to `id` at this address.
fn is_proven(view: &View, id: NodeId, addr: SocketAddr) -> bool {
    let lines = view.nodes.iter().filter(|node| node.view.id() != id);
    lines.filter_map(|node| Some((node.view.line(id)?, node.view.asked))).any(|(line, asked)| {
        let is_accused = line.flags.has(Flags::SUSPECT) || line.flags.has(Flags::FAILED);
        line.is_linked && !is_accused && line.addr(asked) == Some(addr)
    })
}

fn own_address(view: &View, node: &Observation) -> Option<Fact> {
    let (asked, me) = (node.view.asked, node.view.myself());
    // A node that nobody has met does not know its address yet.
    let own = SocketAddr::new(me.ip?, me.port);
    if own == asked || is_proven(view, me.id, own) {
        return None;
    }
    let text = format!("{asked} believes that its own address is {own}");
    Some(Fact::new("stale-own-address", text).with_node("node", asked).with("ip", asked.ip()))
}

fn member_address(view: &View, viewer: &Observation, line: &NodeLine) -> Option<Fact> {
    if line.flags.has(Flags::MYSELF) {
        return None;
    }
    let (asked, seen) = (viewer.view.asked, line.addr(viewer.view.asked)?);
    let member = view.of(line.id)?.view.asked;
    if seen == member || is_proven(view, line.id, seen) {
        return None;
    }
    let text = format!("{asked} looks for {} at {seen}, but it is at {member}", line.id.short());
    let fact = Fact::new("wrong-address", text).with_node("viewer", asked);
    Some(fact.with("ip", member.ip()).with("port", member.port()))
}

/// A replica's `master_host` is set when it begins to follow, and a change of address that it hears of by
/// gossip does not reach it.
fn primary_address(view: &View, node: &Observation) -> Option<Fact> {
    let Role::Replica { primary_host, primary_port, .. } = &node.info.role else { return None };
    let primary = node.view.myself().primary?;
    // A name is looked up at every attempt.
    let seen = SocketAddr::new(primary_host.parse::<IpAddr>().ok()?, *primary_port);
    let line = node.view.line(primary)?.addr(node.view.asked);
    let answered = view.of(primary).map(|primary| primary.view.asked);
    if line.is_none() || [line, answered].contains(&Some(seen)) {
        return None;
    }
    let is = answered.or(line).map_or_else(|| "elsewhere".into(), |addr| addr.to_string());
    let text = format!("the replica {} looks for its primary at {seen}, but it is at {is}", node.view.asked);
    Some(
        Fact::new("stale-primary-address", text)
            .with_node("node", node.view.asked)
            .with("primary_id", primary),
    )
}
