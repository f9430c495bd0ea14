//! SCAN over the whole cluster: a cursor that says which shard is being scanned, and how far.
//!
//! Pure. Clients see an integer below 2^63. From the top: 9 bits that tell whether the slots' owners
//! are still those of the scan's beginning, 14 bits for the first slot of the shard, 40 bits for the
//! node's own cursor. When owners changed, the scan begins anew: keys may come twice, but none that
//! was there all the time is left out.

use crate::topology::{ShardIx, Slot, Snapshot};
use std::hash::{Hash, Hasher};

const NODE_BITS: u32 = 40;
const SLOT_BITS: u32 = 14;
const OWNERS_BITS: u32 = 9;

/// A point in a scan of the whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    owners: u64,
    /// The first slot of the shard that is scanned.
    slot: Slot,
    /// The first slot of the shard after it.
    next: Option<Slot>,
    /// The node's own cursor.
    pub node: u64,
}

impl Cursor {
    /// Where to go on with the client's `cursor`; from the beginning when the owners have changed
    /// since it was given out. `None` while no slot has an owner.
    pub fn resume(cursor: u64, order: &ScanOrder) -> Option<(Cursor, ShardIx)> {
        let node = cursor & ((1 << NODE_BITS) - 1);
        let slot = cursor >> NODE_BITS & ((1 << SLOT_BITS) - 1);
        let is_same = cursor >> (NODE_BITS + SLOT_BITS) == order.owners;
        let at = order.firsts.iter().position(|(first, _)| is_same && first.index() as u64 == slot);
        let (at, node) = at.map_or((0, 0), |at| (at, node));
        let next = order.firsts.get(at + 1).map(|(first, _)| *first);
        let (slot, shard) = *order.firsts.get(at)?;
        Some((Cursor { owners: order.owners, slot, next, node }, shard))
    }

    /// The client's next cursor after the node answered with `node`; 0 at the end. `None` when the
    /// node's cursor has more bits than there is room for.
    pub fn after(&self, node: u64) -> Option<u64> {
        if node >> NODE_BITS != 0 {
            return None;
        }
        let slot = match (node, self.next) {
            (0, None) => return Some(0),
            (0, Some(next)) => next,
            (_, _) => self.slot,
        };
        Some(self.owners << (NODE_BITS + SLOT_BITS) | (slot.index() as u64) << NODE_BITS | node)
    }
}

/// In which order a topology's shards are scanned; made once per topology.
#[derive(Debug, Default)]
pub struct ScanOrder {
    /// The shards that own slots with the first slot of each, in the order of these.
    firsts: Vec<(Slot, ShardIx)>,
    /// A few bits that change when a slot's primary changes: a node's cursor means nothing to
    /// another.
    owners: u64,
}

impl ScanOrder {
    pub fn of(topology: &Snapshot) -> ScanOrder {
        let mut is_seen = vec![false; topology.shards().len()];
        let mut firsts = Vec::new();
        let mut hasher = rustc_hash::FxHasher::default();
        let mut last = None;
        for slot in Slot::all() {
            let shard = topology.shard_of(slot);
            if shard == last {
                continue;
            }
            last = shard;
            (slot.number(), topology.primary_of(slot).map(|node| node.id)).hash(&mut hasher);
            if let Some(shard) = shard
                && !std::mem::replace(&mut is_seen[usize::from(shard)], true)
            {
                firsts.push((slot, shard));
            }
        }
        // Never zero: the client's cursor 0 is the beginning.
        ScanOrder { firsts, owners: (hasher.finish() >> (64 - OWNERS_BITS)).max(1) }
    }

    /// One slot of every shard that has any: a way to name the shard.
    pub fn first_slots(&self) -> Vec<Slot> {
        self.firsts.iter().map(|(slot, _)| *slot).collect()
    }

    /// The first slot that a shard owns.
    pub fn first_slot_of(&self, shard: ShardIx) -> Option<Slot> {
        self.firsts.iter().find(|(_, other)| *other == shard).map(|(slot, _)| *slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Health, Node, Shard, SlotRange};

    fn order(split: u16) -> ScanOrder {
        let node = |n: u8| Node {
            id: format!("{n:040}").parse().unwrap(),
            addr: std::net::SocketAddr::from(([127, 0, 0, 1], 7000 + u16::from(n))),
            hostname: None,
            health: Health::Ok,
        };
        let shard = |primary| Shard { primary, replicas: vec![] };
        let range = |start, end| vec![SlotRange::new(start, end).unwrap()];
        let shards = vec![(shard(0), range(split, 16383)), (shard(1), range(0, split - 1))];
        ScanOrder::of(&Snapshot::new(vec![node(0), node(1)], shards).unwrap())
    }

    #[test]
    fn a_scan_visits_every_shard_once_in_the_order_of_slots() {
        let order = order(8000);
        let (cursor, shard) = Cursor::resume(0, &order).unwrap();
        assert_eq!((cursor.node, shard), (0, 1));
        let within = cursor.after(77).unwrap();
        let (cursor, shard) = Cursor::resume(within, &order).unwrap();
        assert_eq!((cursor.node, shard), (77, 1));
        let (cursor, shard) = Cursor::resume(cursor.after(0).unwrap(), &order).unwrap();
        assert_eq!((cursor.node, shard), (0, 0));
        assert_eq!(cursor.after(0), Some(0));
    }

    #[test]
    fn a_scan_begins_anew_when_slots_have_moved() {
        let (cursor, _) = Cursor::resume(0, &order(8000)).unwrap();
        let (cursor, shard) = Cursor::resume(cursor.after(0).unwrap(), &order(8001)).unwrap();
        assert_eq!((cursor.node, shard), (0, 1));
    }

    #[test]
    fn cursors_stay_below_two_to_the_63_and_fit() {
        let (cursor, _) = Cursor::resume(0, &order(8000)).unwrap();
        assert!(cursor.after((1 << NODE_BITS) - 1).unwrap() < 1 << 63);
        assert_eq!(cursor.after(1 << NODE_BITS), None);
        assert!(Cursor::resume(0, &ScanOrder::default()).is_none());
    }
}
