//! What is lost together: replicas beside their primary, a majority of primaries on one host or in one zone,
//! too few primaries to vote. Pure. A host is an address where nobody named the machine; a zone is what the
//! node was told, or the operator told us.

use super::Fact;
use crate::control::plan::placement::Place;
use crate::control::view::{NodeView, Observation, View};
use std::collections::{BTreeMap, BTreeSet};

/// With fewer primaries, those that are left after a loss are no majority.
const MIN_PRIMARIES: usize = 3;

/// What nodes may be lost with, and the kinds of what may be wrong with it.
struct Level {
    /// Where a node is; `None` where nobody knows.
    of: fn(&Observation) -> Option<String>,
    word: &'static str,
    one: &'static str,
    beside_primary: &'static str,
    majority: &'static str,
}

const HOST: Level = Level {
    of: |node| Some(Place::of(node).host),
    word: "on the host",
    one: "one-host",
    beside_primary: "replica-on-primary-host",
    majority: "majority-on-one-host",
};
const ZONE: Level = Level {
    of: |node| node.info.zone.clone(),
    word: "in the zone",
    one: "one-zone",
    beside_primary: "replica-in-primary-zone",
    majority: "majority-in-one-zone",
};

pub(super) fn facts(view: &View) -> Vec<Fact> {
    let primaries: Vec<&Observation> = view
        .nodes
        .iter()
        .filter(|node| node.view.myself().primary.is_none() && !node.view.myself().slots.is_empty())
        .collect();
    let mut facts = votes(view, &primaries.iter().map(|node| &node.view).collect::<Vec<_>>());
    for level in [HOST, ZONE] {
        let places: BTreeSet<Option<String>> = view.nodes.iter().map(level.of).collect();
        match places.iter().flatten().collect::<Vec<_>>().as_slice() {
            // Where there is one only, nobody is misplaced.
            [place] if places.len() == 1 && view.nodes.len() > 1 => {
                facts.push(Fact::new(level.one, format!("all nodes are {} {place}", level.word)));
            }
            [] | [_] => {}
            _ => {
                facts.extend(view.nodes.iter().filter_map(|replica| beside_primary(view, &level, replica)));
                facts.extend(majority(view, &level, &primaries));
            }
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

fn beside_primary(view: &View, level: &Level, replica: &Observation) -> Option<Fact> {
    let primary_of = |node: &Observation| view.of(node.view.myself().primary?);
    let primary = primary_of(replica)?;
    let (place, host) = ((level.of)(replica)?, HOST.of);
    // One that shares the host is told of already.
    if (level.of)(primary).as_ref() != Some(&place)
        || (level.one != HOST.one && host(primary) == host(replica))
    {
        return None;
    }
    let (asked, its) = (replica.view.asked, primary.view.asked);
    let text = format!("the replica {asked} is {} {place}, as is its primary {its}", level.word);
    let fact = Fact::new(level.beside_primary, text).with_node("node", asked);
    // The two change places with each other's primary, where that sets both apart.
    let other = view.nodes.iter().find(|other| {
        (level.of)(other).as_ref() != Some(&place)
            && primary_of(other).is_some_and(|its| {
                its.view.id() != primary.view.id() && (level.of)(its).as_ref() != Some(&place)
            })
    });
    Some(match other.and_then(|other| Some((other, primary_of(other)?))) {
        Some((other, its)) => fact
            .with("other_id", its.view.id())
            .with_node("other", other.view.asked)
            .with("primary_id", primary.view.id()),
        None => fact,
    })
}

fn majority(view: &View, level: &Level, primaries: &[&Observation]) -> Option<Fact> {
    let mut on: BTreeMap<String, Vec<&Observation>> = BTreeMap::new();
    for primary in primaries {
        on.entry((level.of)(primary)?).or_default().push(primary);
    }
    let (place, there) = on.into_iter().find(|(_, there)| there.len() * 2 > primaries.len())?;
    let text = format!("{} of {} primaries are {} {place}", there.len(), primaries.len(), level.word);
    // One that has a replica elsewhere to hand over to.
    let movable = there.iter().find(|primary| {
        let id = primary.view.id();
        let mut replicas = view.nodes.iter().filter(|node| node.view.myself().primary == Some(id));
        replicas.any(|replica| (level.of)(replica).as_ref() != Some(&place))
    });
    let fact = Fact::new(level.majority, text);
    Some(movable.into_iter().fold(fact, |fact, primary| fact.with("primary", primary.view.asked)))
}
