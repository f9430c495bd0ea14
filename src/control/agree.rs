//! agree: several nodes' views → one [`Snapshot`]. Pure.
//!
//! Nodes learn of a change one after the other, a cut-off minority never does, and an address may by
//! now belong to a stranger. So: strangers are not heard; nodes that say `cluster_state:fail` are not
//! heard while others say `ok`; for each slot the claim with the highest config epoch wins, as among
//! the nodes themselves (Redis cluster specification, "hash slots configuration propagation"), and of
//! equal epochs the one with the most votes.

use super::observe::{Flags, NodeLine};
use super::view::NodeView;
use crate::topology::{Health, Node, NodeId, SLOTS, Shard, Slot, SlotRange, Snapshot, SnapshotError};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

/// A view and how we came to ask that node.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    pub view: &'a NodeView,
    /// A configured seed led there, not only our own memory of an address.
    pub is_seed: bool,
}

/// What the views that count add up to.
#[derive(Debug)]
pub struct Agreement {
    pub snapshot: Snapshot,
    /// How many views it rests on.
    pub voters: usize,
}

impl Agreement {
    /// Whether it may replace `current`. One that covers fewer slots needs a second witness, or a
    /// second look (`is_second_look`); one that covers none never replaces one that covers some.
    pub fn may_replace(&self, current: &Snapshot, is_second_look: bool) -> bool {
        let (new, old) = (self.snapshot.covered(), current.covered());
        new >= old || (new > 0 && (self.voters > 1 || is_second_look))
    }
}

/// The views that count: those of members of the cluster that we know, or, when no view is, those
/// that a seed led to; of these the ones that say `ok`, or all when none does.
pub fn voters<'a>(heard: &[Heard<'a>], current: &Snapshot) -> Vec<&'a NodeView> {
    let is_known = |view: &NodeView| view.members().any(|line| current.node_by_id(&line.id).is_some());
    let mut views: Vec<&NodeView> =
        heard.iter().map(|heard| heard.view).filter(|view| is_known(view)).collect();
    if views.is_empty() {
        views = heard.iter().filter(|heard| heard.is_seed).map(|heard| heard.view).collect();
    }
    if views.iter().any(|view| view.cluster.is_ok) {
        views.retain(|view| view.cluster.is_ok);
    }
    // Two addresses may lead to one node.
    let mut seen = HashSet::new();
    views.retain(|view| seen.insert(view.id()));
    views
}

/// Agrees on one snapshot; `None` without a single view that counts.
///
/// # Errors
/// More members than a snapshot can hold.
pub fn agree(heard: &[Heard<'_>], current: &Snapshot) -> Result<Option<Agreement>, SnapshotError> {
    let views = voters(heard, current);
    if views.is_empty() {
        return Ok(None);
    }
    let owners = slot_owners(&views);
    let owning: HashSet<NodeId> = owners.chunk_by(|a, b| a == b).filter_map(|run| run[0]).collect();
    let mut known: BTreeMap<NodeId, usize> = BTreeMap::new();
    for line in views.iter().flat_map(|view| view.members()) {
        *known.entry(line.id).or_default() += 1;
    }
    // Whom most have forgotten is gone, even if the news has not reached all.
    let is_member = |id: &NodeId, votes: usize| votes * 2 > views.len() || owning.contains(id);
    let nodes: Vec<Node> = known
        .iter()
        .filter(|(id, votes)| is_member(id, **votes))
        .filter_map(|(id, _)| judge_node(*id, &views, current))
        .collect();
    let shards = shards(&nodes, &owners, &owning, &views);
    Ok(Some(Agreement { snapshot: Snapshot::new(nodes, shards)?, voters: views.len() }))
}

fn slot_owners(views: &[&NodeView]) -> Vec<Option<NodeId>> {
    // For each view and slot: the place of the claiming line.
    let claims: Vec<Vec<Option<&NodeLine>>> = views
        .iter()
        .map(|view| {
            let mut claims = vec![None; SLOTS];
            for line in view.members().filter(|line| !line.flags.has(Flags::REPLICA)) {
                for range in &line.slots {
                    claims[range.start.index()..=range.end.index()].fill(Some(line));
                }
            }
            claims
        })
        .collect();
    let mut owners: Vec<Option<NodeId>> = Vec::with_capacity(SLOTS);
    for slot in 0..SLOTS {
        // Claims go by ranges: the next slot's are mostly the same, line by line.
        let is_as_before =
            |claims: &Vec<Option<&NodeLine>>| same_line(claims[slot], claims[slot.wrapping_sub(1)]);
        owners.push(match owners.last() {
            Some(owner) if claims.iter().all(is_as_before) => *owner,
            _ => winner(claims.iter().filter_map(|claims| claims[slot])),
        });
    }
    owners
}

fn same_line(a: Option<&NodeLine>, b: Option<&NodeLine>) -> bool {
    a.map(std::ptr::from_ref) == b.map(std::ptr::from_ref)
}

/// Of the lines that claim a slot, the node that has it.
fn winner<'a>(claims: impl Iterator<Item = &'a NodeLine> + Clone) -> Option<NodeId> {
    let votes = |id| claims.clone().filter(|line| line.id == id).count();
    claims
        .clone()
        .map(|line| (line.epoch, line.id))
        .max_by_key(|(epoch, id)| (*epoch, votes(*id), *id))
        .map(|(_, id)| id)
}

fn judge_node(id: NodeId, views: &[&NodeView], current: &Snapshot) -> Option<Node> {
    let addr = address(id, views).or_else(|| current.node_by_id(&id).map(|ix| current.node(ix).addr))?;
    let lines = || views.iter().filter_map(|view| view.line(id));
    let judges = lines().filter(|line| !line.flags.has(Flags::MYSELF)).count();
    let failed = lines().filter(|line| line.flags.has(Flags::FAILED)).count();
    let suspecting = lines().filter(|line| line.flags.has(Flags::SUSPECT)).count();
    let health = match (failed, suspecting) {
        (0, 0) => Health::Ok,
        (failed, _) if failed * 2 > judges => Health::Failed,
        _ => Health::Suspect,
    };
    let hostname = lines().find_map(|line| line.hostname.as_deref()).map(Box::from);
    Some(Node { id, addr, hostname, health })
}

/// Where a node is: an address at which it answered us, if anyone names that one; else what most of
/// the others say; else its own word, which is stale after it moved until somebody meets it.
fn address(id: NodeId, views: &[&NodeView]) -> Option<SocketAddr> {
    let mut votes: HashMap<SocketAddr, usize> = HashMap::new();
    let mut own = None;
    for view in views {
        let Some(line) = view.line(id) else { continue };
        let Some(addr) = line.addr(view.asked) else { continue };
        if line.flags.has(Flags::MYSELF) {
            own = Some(addr);
        } else {
            *votes.entry(addr).or_default() += 1;
        }
    }
    let answered = views.iter().find(|view| view.id() == id).map(|view| view.asked);
    let proven = answered.filter(|addr| own == Some(*addr) || votes.contains_key(addr));
    proven
        .or_else(|| votes.into_iter().max_by_key(|(addr, count)| (*count, *addr)).map(|(addr, _)| addr))
        .or(own)
}

/// Whom a node replicates: by its own word, or else by most of the others'.
fn primary_of(id: NodeId, views: &[&NodeView]) -> Option<NodeId> {
    if let Some(view) = views.iter().find(|view| view.id() == id) {
        return view.myself().primary;
    }
    let mut votes: HashMap<Option<NodeId>, usize> = HashMap::new();
    for line in views.iter().filter_map(|view| view.line(id)) {
        *votes.entry(line.primary).or_default() += 1;
    }
    votes.into_iter().max_by_key(|(primary, count)| (*count, *primary)).and_then(|(primary, _)| primary)
}

fn shards(
    nodes: &[Node],
    owners: &[Option<NodeId>],
    owning: &HashSet<NodeId>,
    views: &[&NodeView],
) -> Vec<(Shard, Vec<SlotRange>)> {
    let place: HashMap<NodeId, u16> =
        nodes.iter().enumerate().map(|(ix, node)| (node.id, ix as u16)).collect();
    // An owner of slots is a primary, whatever role others still believe it has.
    let follows = |id: NodeId| if owning.contains(&id) { None } else { primary_of(id, views) };
    let mut slots: HashMap<NodeId, Vec<Slot>> = HashMap::new();
    let owned: Vec<(Slot, NodeId)> =
        Slot::all().zip(owners).filter_map(|(slot, owner)| Some((slot, (*owner)?))).collect();
    for run in owned.chunk_by(|a, b| a.1 == b.1) {
        slots.entry(run[0].1).or_default().extend(run.iter().map(|(slot, _)| *slot));
    }
    let mut shards: BTreeMap<NodeId, Shard> = BTreeMap::new();
    for node in nodes.iter().filter(|node| follows(node.id).is_none()) {
        shards.insert(node.id, Shard { primary: place[&node.id], replicas: Vec::new() });
    }
    for node in nodes {
        let Some(primary) = follows(node.id) else { continue };
        // During a failover the old primary may follow the new one while this replica still follows
        // the old one.
        let primary = follows(primary).unwrap_or(primary);
        if let Some(shard) = shards.get_mut(&primary) {
            shard.replicas.push(place[&node.id]);
        }
    }
    shards
        .into_iter()
        .map(|(id, shard)| (shard, SlotRange::cover(slots.remove(&id).unwrap_or_default())))
        .collect()
}

#[cfg(test)]
#[path = "agree_tests.rs"]
mod tests;
