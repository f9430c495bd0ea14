//! What is lost together: replicas beside their primary, a majority of primaries on one host, too few
//! primaries to vote. Pure. A host is an address; zones are not known here.

use super::Fact;
use crate::control::view::{NodeView, View};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// With fewer primaries, those that are left after a loss are no majority.
const MIN_PRIMARIES: usize = 3;

pub(super) fn facts(view: &View) -> Vec<Fact> {
    let views: Vec<&NodeView> = view.nodes.iter().map(|node| &node.view).collect();
    let primaries: Vec<&NodeView> = views
        .iter()
        .copied()
        .filter(|view| view.myself().primary.is_none() && !view.myself().slots.is_empty())
        .collect();
    let mut facts = votes(view, &primaries);
    let hosts: BTreeSet<IpAddr> = views.iter().map(|view| view.asked.ip()).collect();
    match hosts.iter().collect::<Vec<_>>().as_slice() {
        // Where there is one host only, nobody is misplaced.
        [host] if views.len() > 1 => facts.push(Fact::new("one-host", format!("all nodes are on {host}"))),
        [] | [_] => {}
        _ => {
            facts.extend(views.iter().filter_map(|replica| beside_primary(&views, replica)));
            facts.extend(majority(&views, &primaries));
        }
    }
    facts
}

fn votes(view: &View, primaries: &[&NodeView]) -> Vec<Fact> {
    let mut facts = Vec::new();
    // All owners of slots, those that do not answer too.
    let owners: BTreeSet<_> = primaries.iter().flat_map(|view| view.ownership()).map(|(id, _)| id).collect();
    let alive = owners.iter().filter(|id| view.of(**id).is_some()).count();
    if (1..MIN_PRIMARIES).contains(&owners.len()) {
        let text = format!("there are {} primaries with slots, fewer than {MIN_PRIMARIES}", owners.len());
        facts.push(Fact::new("few-primaries", text));
    } else if alive < owners.len() && alive.saturating_sub(1) * 2 <= owners.len() {
        let text = format!("{alive} of {} primaries answer", owners.len());
        let mut fact = Fact::new("minority-risk", text);
        for id in owners.iter().filter(|id| view.of(**id).is_none()).take(1) {
            let addr = view.nodes.iter().find_map(|node| node.view.line(*id)?.addr(node.view.asked));
            fact = addr.into_iter().fold(fact, |fact, addr| fact.with_node("node", addr));
        }
        facts.push(fact);
    }
    facts
}

fn beside_primary(views: &[&NodeView], replica: &NodeView) -> Option<Fact> {
    let primary_of = |view: &NodeView| {
        let id = view.myself().primary?;
        views.iter().copied().find(|view| view.id() == id)
    };
    let primary = primary_of(replica)?;
    let host = replica.asked.ip();
    if primary.asked.ip() != host {
        return None;
    }
    let text = format!("the replica {} is on the host of its primary {}", replica.asked, primary.asked);
    let fact = Fact::new("replica-on-primary-host", text).with_node("node", replica.asked);
    // The two change places with each other's primary, where that sets both apart.
    let other = views.iter().copied().find(|other| {
        other.asked.ip() != primary.asked.ip()
            && primary_of(other).is_some_and(|its| its.id() != primary.id() && its.asked.ip() != host)
    });
    Some(match other.and_then(|other| Some((other, primary_of(other)?))) {
        Some((other, its)) => {
            fact.with("other_id", its.id()).with_node("other", other.asked).with("primary_id", primary.id())
        }
        None => fact,
    })
}

fn majority(views: &[&NodeView], primaries: &[&NodeView]) -> Option<Fact> {
    let mut on: BTreeMap<IpAddr, Vec<&NodeView>> = BTreeMap::new();
    for primary in primaries {
        on.entry(primary.asked.ip()).or_default().push(primary);
    }
    let (host, there) = on.into_iter().find(|(_, there)| there.len() * 2 > primaries.len())?;
    let text = format!("{} of {} primaries are on the host {host}", there.len(), primaries.len());
    // One that has a replica elsewhere to hand over to.
    let movable = there.iter().find(|primary| {
        let mut replicas = views.iter().filter(|view| view.myself().primary == Some(primary.id()));
        replicas.any(|replica| replica.asked.ip() != host)
    });
    let fact = Fact::new("majority-on-one-host", text);
    Some(movable.into_iter().fold(fact, |fact, primary| fact.with("primary", primary.asked)))
}
