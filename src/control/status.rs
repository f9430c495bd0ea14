//! Status: a view as shards with their members, and how the cluster is in one line. Pure.

use super::doctor::{Finding, Severity};
use super::observe::{Memory, NodeLine, Role};
use super::view::{Observation, View};
use crate::topology::{NodeId, SLOTS, SlotRange};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The cluster's shards by their first slot; those without slots last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    pub shards: Vec<ShardStatus>,
}

/// A primary and its replicas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardStatus {
    pub slots: Vec<SlotRange>,
    /// The primary first, unless nobody knows it.
    pub members: Vec<Member>,
}

impl ShardStatus {
    pub fn slot_count(&self) -> usize {
        self.slots.iter().map(|range| range.count()).sum()
    }
}

/// One node of a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub id: NodeId,
    pub addr: Option<SocketAddr>,
    pub is_primary: bool,
    /// It shares its primary's host.
    pub is_beside_primary: bool,
    /// What it said of itself; `None` when it did not answer.
    pub state: Option<MemberState>,
}

/// What a member says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberState {
    pub keys: u64,
    pub memory: Memory,
    /// Of replicas: whether the link to the primary is up.
    pub is_link_up: Option<bool>,
    /// Of replicas whose primary answered: how many bytes it was behind when both were asked.
    pub lag: Option<u64>,
    pub server: String,
}

/// Orders a view by shards.
pub fn status(view: &View) -> Status {
    let mut lines: BTreeMap<NodeId, (&NodeLine, SocketAddr)> = BTreeMap::new();
    for node in &view.nodes {
        for line in node.view.members() {
            lines.entry(line.id).or_insert((line, node.view.asked));
        }
    }
    // A node's own word on itself counts more than others'.
    for node in &view.nodes {
        lines.insert(node.view.id(), (node.view.myself(), node.view.asked));
    }
    let mut shards: BTreeMap<NodeId, ShardStatus> = BTreeMap::new();
    for (id, (line, asked)) in &lines {
        let shard = shards
            .entry(line.primary.unwrap_or(*id))
            .or_insert_with(|| ShardStatus { slots: Vec::new(), members: Vec::new() });
        shard.slots.extend(&line.slots);
        shard.members.push(member(view, line, *asked));
    }
    let mut shards: Vec<ShardStatus> = shards.into_values().collect();
    for shard in &mut shards {
        shard.members.sort_by_key(|member| (!member.is_primary, member.addr));
        let host = shard.members.first().filter(|first| first.is_primary).and_then(|first| first.addr);
        for member in shard.members.iter_mut().filter(|member| !member.is_primary) {
            member.is_beside_primary =
                host.zip(member.addr).is_some_and(|(primary, own)| primary.ip() == own.ip());
        }
    }
    shards.sort_by_key(|shard| (shard.slots.is_empty(), shard.slots.first().copied()));
    Status { shards }
}

fn member(view: &View, line: &NodeLine, asked: SocketAddr) -> Member {
    let node = view.of(line.id);
    let state = node.map(|node| MemberState {
        keys: node.info.keys,
        memory: node.info.memory,
        is_link_up: match node.info.role {
            Role::Primary => None,
            Role::Replica { is_link_up, .. } => Some(is_link_up),
        },
        lag: lag(view, node),
        server: node.info.server.clone(),
    });
    Member {
        id: line.id,
        addr: node.map(|node| node.view.asked).or_else(|| line.addr(asked)),
        is_primary: line.primary.is_none(),
        is_beside_primary: false,
        state,
    }
}

fn lag(view: &View, replica: &Observation) -> Option<u64> {
    let primary = view.of(replica.view.myself().primary?)?;
    Some(primary.info.offset.saturating_sub(replica.info.offset))
}

/// The cluster in one line, and whether it is healthy: nothing above a hint was found.
pub fn verdict(status: &Status, findings: &[Finding]) -> (bool, String) {
    let members = || status.shards.iter().flat_map(|shard| &shard.members);
    let (shards, nodes) =
        (status.shards.iter().filter(|shard| !shard.slots.is_empty()).count(), members().count());
    let keys = members().filter(|member| member.is_primary).filter_map(|member| member.state.as_ref());
    let keys = keys.map(|state| state.keys).fold(0, u64::saturating_add);
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let Some(first) = findings.first().filter(|_| errors + warnings > 0) else {
        let text =
            format!("Healthy: {shards} shards, {nodes} nodes, all {SLOTS} slots covered, {keys} keys.");
        return (true, text);
    };
    (false, format!("NOT healthy (errors: {errors}, warnings: {warnings}). First: {}.", first.text))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
