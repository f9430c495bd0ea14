//! scale: as many shards as wished, with as many replicas each, in the pods with the lowest numbers, which
//! are the ones that Kubernetes keeps → one step nearer to that. Pure.
//!
//! More: pods, members, replicas for primaries without slots, and only then slots. Fewer: slots first, then
//! roles, then every leaver is forgotten and emptied, and only then there are fewer pods. Whoever leads goes
//! on from what is there.

use super::failover::switch_all_from;
use super::placement::Place;
use super::rebalance::{Holder, rebalance};
use super::wish::{Case, Next, is_owner, party};
use crate::control::action::{Action, Party};
use crate::control::edit::Edit;
use crate::control::pods::{Pod, Pods, Size, StatefulSet};
use crate::control::view::Observation;
use crate::topology::NodeId;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// With fewer primaries, the loss of one leaves no majority to elect its replica.
const FEWEST_SHARDS: u32 = 3;
/// How far from their share primaries may be, in percent.
const TOLERANCE: u8 = 2;
/// As for a restart.
const MAX_LAG: u64 = 16 << 20;

pub(super) fn next(case: Case<'_>, set: &StatefulSet) -> Next {
    let progress = &set.progress;
    let (Some(shards), Some(replicas)) = (set.wishes.shards, set.wishes.replicas) else {
        return match progress.scaling {
            Some(size) => {
                let text = format!(
                    "scaling to {size} was stopped before its end: say 'slotgate scale' how many shards and replicas \
                     there are to be"
                );
                Next::Wait { kind: "scaling-stopped", text }
            }
            None => Next::Nothing,
        };
    };
    let size = Size { shards, replicas };
    if shards < FEWEST_SHARDS || replicas == 0 {
        let text = format!(
            "{size} is wished, and is not done: fewer than {FEWEST_SHARDS} shards have no majority when one fails, and \
             without a replica a restart is an outage. Wish for more with 'slotgate scale'"
        );
        return Next::Wait { kind: "scaling-refused", text };
    }
    let is_short = set.replicas < size.pods();
    let is_begun = progress.scaling == Some(size);
    if progress.scaling.is_none() && progress.scaled == Some(size) && !is_short {
        return Next::Nothing;
    }
    if set.is_stale {
        return wait("Kubernetes has not taken in the last change of the StatefulSet".into());
    }
    if !is_begun || is_short {
        // Pods that somebody took away by lowering `replicas` have their slots with them.
        if let Some(why) = case.obstacle(set).filter(|_| !is_begun && progress.scaled != Some(size)) {
            return wait(why);
        }
        return Next::Edit(Edit::BeginScaling { size, raise_to: is_short.then_some(size.pods()) });
    }
    case.obstacle(set).map_or_else(|| Shape::of(case, size).next(), wait)
}

/// Who is there, and who is to be what.
struct Shape<'a> {
    case: Case<'a>,
    size: Size,
    /// Those who have slots at the end, by id; their shards' members may yet change places.
    keepers: BTreeMap<NodeId, &'a Observation>,
}

impl<'a> Shape<'a> {
    fn of(case: Case<'a>, size: Size) -> Shape<'a> {
        let mut shape = Shape { case, size, keepers: BTreeMap::new() };
        let mut owners: Vec<&Observation> = case.view.nodes.iter().filter(|node| is_owner(node)).collect();
        // Those that end come last: with the fewest members that stay, then with the highest number. Neither
        // changes when a shard's members change roles.
        let members = |owner: &Observation| shape.members(owner.view.id());
        owners.sort_by_cached_key(|owner| {
            let staying = members(owner).into_iter().filter(|node| shape.stays(node)).count();
            let highest = members(owner).into_iter().filter_map(|node| case.ordinal(node)).max();
            (std::cmp::Reverse(staying), highest)
        });
        owners.truncate(size.shards as usize);
        let mut keepers: BTreeMap<NodeId, &Observation> =
            owners.into_iter().map(|owner| (owner.view.id(), owner)).collect();
        shape.add_primaries(&mut keepers);
        shape.keepers = keepers;
        shape
    }

    /// A shard's members.
    fn members(&self, primary: NodeId) -> Vec<&'a Observation> {
        self.case.view.of(primary).into_iter().chain(self.case.replicas(primary)).collect()
    }

    /// Whether its pod is one of those that Kubernetes keeps.
    fn stays(&self, node: &Observation) -> bool {
        self.case.ordinal(node).is_some_and(|ordinal| ordinal < self.size.pods())
    }

    fn stayers(&self) -> impl Iterator<Item = &'a Observation> {
        self.case.view.nodes.iter().filter(|node| self.stays(node))
    }

    /// Primaries without slots that are to get some: first those that somebody follows already, then those
    /// whose machine has the fewest primaries, then by number.
    fn add_primaries(&self, keepers: &mut BTreeMap<NodeId, &'a Observation>) {
        while keepers.len() < self.size.shards as usize {
            let is_free = |node: &&&Observation| {
                let me = node.view.myself();
                me.primary.is_none() && me.slots.is_empty() && !keepers.contains_key(&me.id)
            };
            let nodes: Vec<&Observation> = self.stayers().collect();
            let standing = |node: &&&Observation| {
                let own = Place::of(node);
                let near: usize =
                    keepers.values().map(|other| own.nearness(&Place::of(other)) as usize).sum();
                let is_followed = self.case.replicas(node.view.id()).next().is_some();
                (!is_followed, near, self.case.ordinal(node))
            };
            let Some(next) = nodes.iter().filter(is_free).min_by_key(standing) else { return };
            keepers.insert(next.view.id(), next);
        }
    }

    fn next(&self) -> Next {
        let newcomers = self.newcomers();
        if !newcomers.is_empty() {
            return Next::Act { reason: "newcomer", actions: newcomers };
        }
        for pod in self.case.pods.pods.iter().filter(|pod| pod.ordinal < self.size.pods()) {
            if self.case.node(pod).is_none() {
                return self.forgotten(pod).map_or_else(|| wait(not_a_member(pod)), Next::Remove);
            }
        }
        if self.keepers.len() < self.size.shards as usize {
            return match self.superfluous() {
                // Only an emptied node can become a primary of other slots.
                Some(node) => Next::Remove(party(node)),
                None => wait(format!("only {} nodes can be primaries", self.keepers.len())),
            };
        }
        let replicate = self.replicate();
        if !replicate.is_empty() {
            return Next::Act { reason: "scale", actions: replicate };
        }
        if self.case.has_open_slots || self.is_uneven() {
            return Next::Move { to: self.keepers.keys().copied().collect() };
        }
        self.leave()
    }

    /// Empty nodes in pods that stay are let in.
    fn newcomers(&self) -> Vec<Action> {
        let Some(hub) = self.stayers().next().or(self.case.view.nodes.first()) else { return Vec::new() };
        let coming = self.case.newcomers.iter().filter(|node| self.stays(node));
        let meet = |node: &Observation| Action::Meet {
            node: party(hub),
            other: party(node),
            bus_port: node.view.myself().bus_port,
        };
        coming.map(meet).collect()
    }

    /// A replica whose primary has another one, of the largest shard.
    fn superfluous(&self) -> Option<&'a Observation> {
        let size = |node: &&Observation| {
            let primary = node.view.myself().primary;
            primary.map_or(0, |primary| self.members(primary).len())
        };
        let replicas = self.stayers().filter(|node| size(node) > 2);
        replicas.max_by_key(|node| (size(node), self.case.ordinal(node)))
    }

    /// A node that was forgotten, and is not emptied yet. Whether it may be is looked at then.
    fn forgotten(&self, pod: &Pod) -> Option<Party> {
        let addr = pod.addr?;
        let there = self.case.strangers.iter().find(|stranger| stranger.addr.ip() == addr.ip())?;
        there.is_forgotten.then_some(Party { id: there.id, addr: there.addr })
    }

    /// How many members that stay each keeper's shard lacks.
    fn lacking(&self) -> BTreeMap<NodeId, i64> {
        let wanted = i64::from(self.size.replicas) + 1;
        let staying = |id: NodeId| self.members(id).into_iter().filter(|node| self.stays(node)).count();
        self.keepers.keys().map(|id| (*id, wanted - staying(*id) as i64)).collect()
    }

    /// Members that stay and that no shard needs where they are follow a primary whose shard lacks some.
    fn replicate(&self) -> Vec<Action> {
        let mut lacking = self.lacking();
        let mut actions = Vec::new();
        for node in self.stayers() {
            let me = node.view.myself();
            let is_primary_needed = self.keepers.contains_key(&me.id)
                || !me.slots.is_empty()
                || self.case.replicas(me.id).next().is_some();
            let is_free = match me.primary {
                None => !is_primary_needed,
                Some(primary) => match lacking.get(&primary) {
                    Some(lacks) => *lacks < 0,
                    // A shard that ends keeps its copy until it has no slots.
                    None => self.case.view.of(primary).is_none_or(|primary| !is_owner(primary)),
                },
            };
            if !is_free {
                continue;
            }
            let own = Place::of(node);
            let suits = |(id, _): &(&NodeId, &i64)| {
                let nearest = self.members(**id).into_iter().map(|other| own.nearness(&Place::of(other)));
                (nearest.max(), **id)
            };
            let needy = lacking.iter().filter(|(_, lacks)| **lacks > 0).min_by_key(suits);
            let Some(primary) = needy.map(|(id, _)| *id) else { continue };
            let Some(keeper) = self.keepers.get(&primary) else { continue };
            lacking.entry(primary).and_modify(|lacks| *lacks -= 1);
            if let Some(left) = me.primary {
                lacking.entry(left).and_modify(|lacks| *lacks += 1);
            }
            actions.push(Action::Replicate { node: party(node), primary: party(keeper) });
        }
        actions
    }

    /// Whether slots are not yet where they belong.
    fn is_uneven(&self) -> bool {
        let primaries = self.case.view.nodes.iter().filter(|node| node.view.myself().primary.is_none());
        let holders: Vec<Holder> = primaries
            .map(|node| Holder {
                node: party(node),
                slots: node.view.myself().slots.clone(),
                weight: u32::from(self.keepers.contains_key(&node.view.id())),
            })
            .collect();
        let is_misplaced = |holder: &Holder| (holder.weight == 0) != holder.slots.is_empty();
        // A wish for other replicas only leaves the shares as they are.
        let is_other_shards = self
            .case
            .pods
            .set
            .as_ref()
            .is_none_or(|set| set.progress.scaled.is_none_or(|scaled| scaled.shards != self.size.shards));
        holders.iter().any(is_misplaced)
            || (is_other_shards && rebalance(&holders, TOLERANCE).is_ok_and(|moves| !moves.is_empty()))
    }

    /// One that leaves and follows a primary without slots, which is free for another shard only without it.
    fn hanger_on(&self) -> Option<&'a Observation> {
        let is_of_no_use = |primary: NodeId| {
            !self.keepers.contains_key(&primary)
                && self.case.view.of(primary).is_some_and(|node| !is_owner(node))
        };
        let mut leavers = self.case.view.nodes.iter().filter(|node| !self.stays(node));
        leavers.find(|node| node.view.myself().primary.is_some_and(is_of_no_use))
    }

    /// Everything is where it belongs but for those that leave.
    fn leave(&self) -> Next {
        if let Some((id, lacks)) = self.lacking().into_iter().find(|(_, lacks)| *lacks > 0) {
            if let Some(node) = self.hanger_on() {
                return Next::Remove(party(node));
            }
            return wait(format!("{} lacks {lacks} members that stay", id.short()));
        }
        let leaving: Vec<_> =
            self.case.pods.pods.iter().filter(|pod| pod.ordinal >= self.size.pods()).rev().collect();
        let ips: Vec<IpAddr> = leaving.iter().filter_map(|pod| Some(pod.addr?.ip())).collect();
        match switch_all_from(self.case.view, &ips, MAX_LAG) {
            Err(refusal) => return wait(refusal.to_string()),
            Ok(overs) => {
                if let Some(over) = overs.first() {
                    return Next::Act { reason: "scale", actions: vec![over.action()] };
                }
            }
        }
        for pod in leaving {
            if let Some(node) = self.case.node(pod) {
                return Next::Remove(party(node));
            }
            if let Some(node) = self.forgotten(pod) {
                return Next::Remove(node);
            }
            if !self.case.is_spare(pod) {
                return wait(not_a_member(pod));
            }
        }
        Next::Edit(Edit::EndScaling { size: self.size })
    }
}

/// Whether the wish leaves no place for the node there; then it is not let in anew.
pub fn is_unwanted(pods: &Pods, addr: SocketAddr) -> bool {
    let Some(size) = pods.set.as_ref().and_then(|set| set.progress.scaling) else { return false };
    pods.at(addr.ip()).is_some_and(|pod| pod.ordinal >= size.pods())
}

fn not_a_member(pod: &Pod) -> String {
    format!("the node in {} is neither a member of the cluster nor empty", pod.name)
}

fn wait(text: String) -> Next {
    Next::Wait { kind: "scaling-waits", text: format!("scaling waits: {text}") }
}

#[cfg(test)]
#[path = "scale_tests.rs"]
mod tests;
