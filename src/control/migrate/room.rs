//! Whether the targets of moves have the memory for what is to come, as far as that can be told before.
//!
//! A guess from the sources' averages: a slot may hold anything. A target that fills up all the same stops
//! the move with its keys still on the source.

use crate::backend::Credentials;
use crate::control::node_client::{NodeClient, NodeError};
use crate::control::plan::rebalance::{Holder, Move};
use crate::topology::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A target that would fill up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{node} has room for about {room} bytes more below its maxmemory, and about {coming} bytes would come: raise \
     its maxmemory, or move fewer slots to it"
)]
pub struct NoRoom {
    pub node: SocketAddr,
    pub room: u64,
    pub coming: u64,
}

/// A node's memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// What its keys take.
    pub data: u64,
    pub used: u64,
    /// `maxmemory`; 0: no limit.
    pub limit: u64,
}

impl Memory {
    /// Reads `INFO memory`; what is missing counts as 0.
    pub fn parse(info: &str) -> Memory {
        let field = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        Memory { data: field("used_memory_dataset"), used: field("used_memory"), limit: field("maxmemory") }
    }
}

/// Asks all nodes that take part.
///
/// # Errors
/// One of them does not answer.
pub async fn memories(
    moves: &[Move],
    credentials: &Credentials,
    limit: Duration,
) -> Result<BTreeMap<NodeId, Memory>, NodeError> {
    let parties = moves.iter().flat_map(|step| [step.source, step.target]);
    let addrs: BTreeMap<NodeId, SocketAddr> = parties.map(|party| (party.id, party.addr)).collect();
    let mut found = BTreeMap::new();
    for (id, addr) in addrs {
        let mut client = NodeClient::connect(addr, credentials, limit).await?;
        found.insert(id, Memory::parse(&client.call_text(&["INFO", "memory"]).await?));
    }
    Ok(found)
}

/// The first target that would fill up.
pub fn no_room(moves: &[Move], holders: &[Holder], memories: &BTreeMap<NodeId, Memory>) -> Option<NoRoom> {
    let memory = |id| memories.get(&id).copied().unwrap_or_default();
    let mut coming: BTreeMap<NodeId, u64> = BTreeMap::new();
    for step in moves {
        let Some(source) = holders.iter().find(|holder| holder.node.id == step.source.id) else { continue };
        let owned: usize = source.slots.iter().map(|range| range.count()).sum();
        let share = u128::from(memory(step.source.id).data) * step.count() as u128 / owned.max(1) as u128;
        *coming.entry(step.target.id).or_default() += u64::try_from(share).unwrap_or(u64::MAX);
    }
    coming.into_iter().find_map(|(id, coming)| {
        let Memory { used, limit, .. } = memory(id);
        let node = moves.iter().find(|step| step.target.id == id)?.target.addr;
        let room = limit.saturating_sub(used);
        (limit > 0 && coming > room).then_some(NoRoom { node, room, coming })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::action::Party;
    use crate::topology::SlotRange;

    #[test]
    fn a_target_must_hold_its_share_of_what_the_source_holds() {
        let party = |ix: u8| {
            let id = format!("{ix:040x}").parse().unwrap();
            Party { id, addr: ([10, 0, 0, ix], 6379).into() }
        };
        let (source, target) = (party(1), party(2));
        let slots = vec![SlotRange::new(0, 99).unwrap()];
        let holders = [Holder { node: source, slots, weight: 1 }];
        let ranges = vec![SlotRange::new(0, 49).unwrap()];
        let moves = [Move { source, target, ranges }];
        let full = Memory::parse("used_memory:1000\r\nused_memory_dataset:800\r\nmaxmemory:0\r\n");
        assert_eq!(full, Memory { data: 800, used: 1000, limit: 0 });
        let refused = |limit| {
            let room = Memory { data: 0, used: 100, limit };
            no_room(&moves, &holders, &BTreeMap::from([(source.id, full), (target.id, room)]))
        };
        assert_eq!(refused(499), Some(NoRoom { node: target.addr, room: 399, coming: 400 }));
        assert_eq!(refused(500), None);
        assert_eq!(refused(0), None);
    }
}
