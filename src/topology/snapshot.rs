//! The agreed picture of the cluster at one moment. Pure; never changed after it is published.

use super::{Health, Node, NodeId, SLOTS, Slot, SlotRange};
use std::net::SocketAddr;
use std::time::Instant;

/// A node's place in [`Snapshot::nodes`]; valid for that snapshot only.
pub type NodeIx = u16;
/// A shard's place in [`Snapshot::shards`]; valid for that snapshot only.
pub type ShardIx = u16;

const UNOWNED: ShardIx = ShardIx::MAX;

/// A primary and its replicas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shard {
    pub primary: NodeIx,
    pub replicas: Vec<NodeIx>,
}

/// A primary that is about to hand its slots over, as was announced: new writes for them are held until the
/// new owner is told, or the time is over. Reads go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandingOver {
    pub primary: NodeId,
    /// Who takes over.
    pub to: NodeId,
    pub until: Instant,
}

/// Slot → shard → node. `version` is our own counter, given when the snapshot is published.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub version: u64,
    nodes: Vec<Node>,
    shards: Vec<Shard>,
    slots: Box<[ShardIx; SLOTS]>,
    pub(super) handing_over: Vec<HandingOver>,
}

/// Parts that do not fit together into a snapshot.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SnapshotError {
    #[error("a shard names node {0}, but there are only {1} nodes")]
    NoSuchNode(NodeIx, usize),
    #[error("more than 65534 nodes or shards")]
    TooMany,
}

impl Snapshot {
    /// Nothing known yet: no nodes, no slot owned.
    pub fn empty() -> Snapshot {
        Snapshot {
            version: 0,
            nodes: Vec::new(),
            shards: Vec::new(),
            slots: Box::new([UNOWNED; SLOTS]),
            handing_over: Vec::new(),
        }
    }

    /// Assembles a snapshot; of two shards that claim one slot the later one gets it.
    ///
    /// # Errors
    /// A shard that names a node which is not there, or more parts than an index can count.
    pub fn new(nodes: Vec<Node>, shards: Vec<(Shard, Vec<SlotRange>)>) -> Result<Snapshot, SnapshotError> {
        if nodes.len() >= usize::from(NodeIx::MAX) || shards.len() >= usize::from(UNOWNED) {
            return Err(SnapshotError::TooMany);
        }
        let mut snapshot = Snapshot { nodes, ..Snapshot::empty() };
        for (shard, ranges) in shards {
            for &node in shard.replicas.iter().chain([&shard.primary]) {
                if usize::from(node) >= snapshot.nodes.len() {
                    return Err(SnapshotError::NoSuchNode(node, snapshot.nodes.len()));
                }
            }
            let ix = snapshot.shards.len() as ShardIx;
            snapshot.shards.push(shard);
            for slot in ranges.into_iter().flat_map(SlotRange::slots) {
                snapshot.slots[slot.index()] = ix;
            }
        }
        Ok(snapshot)
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    pub fn node(&self, ix: NodeIx) -> &Node {
        &self.nodes[usize::from(ix)]
    }

    pub fn shard(&self, ix: ShardIx) -> &Shard {
        &self.shards[usize::from(ix)]
    }

    /// The shard that owns `slot`, or `None` while nobody does.
    #[inline]
    pub fn shard_of(&self, slot: Slot) -> Option<ShardIx> {
        let ix = self.slots[slot.index()];
        (ix != UNOWNED).then_some(ix)
    }

    /// The primary of the shard that owns `slot`.
    pub fn primary_of(&self, slot: Slot) -> Option<&Node> {
        self.shard_of(slot).map(|ix| self.node(self.shard(ix).primary))
    }

    /// The primaries of all shards that own slots, in the shards' order.
    pub fn primaries(&self) -> impl Iterator<Item = &Node> {
        let mut owns = vec![false; self.shards.len()];
        for &ix in self.slots.iter().filter(|ix| **ix != UNOWNED) {
            owns[usize::from(ix)] = true;
        }
        self.shards.iter().zip(owns).filter(|(_, owns)| *owns).map(|(shard, _)| self.node(shard.primary))
    }

    /// The slots that `shard` owns.
    pub fn ranges_of(&self, shard: ShardIx) -> Vec<SlotRange> {
        SlotRange::cover(Slot::all().filter(|slot| self.slots[slot.index()] == shard))
    }

    /// How many slots have an owner.
    pub fn covered(&self) -> usize {
        self.slots.iter().filter(|ix| **ix != UNOWNED).count()
    }

    /// How many slots have an owner that nobody holds for failed.
    pub fn served(&self) -> usize {
        let healthy: Vec<bool> =
            self.shards.iter().map(|shard| self.node(shard.primary).health != Health::Failed).collect();
        self.slots.iter().filter(|ix| **ix != UNOWNED && healthy[usize::from(**ix)]).count()
    }

    pub fn node_by_id(&self, id: &NodeId) -> Option<NodeIx> {
        self.nodes.iter().position(|node| node.id == *id).map(|ix| ix as NodeIx)
    }

    pub fn node_by_addr(&self, addr: SocketAddr) -> Option<NodeIx> {
        self.nodes.iter().position(|node| node.addr == addr).map(|ix| ix as NodeIx)
    }

    pub fn node_by_hostname(&self, hostname: &str, port: u16) -> Option<NodeIx> {
        self.nodes
            .iter()
            .position(|node| node.addr.port() == port && node.hostname.as_deref() == Some(hostname))
            .map(|ix| ix as NodeIx)
    }

    /// The shard whose primary or replica is `node`.
    pub fn shard_of_node(&self, node: NodeIx) -> Option<ShardIx> {
        self.shards
            .iter()
            .position(|shard| shard.primary == node || shard.replicas.contains(&node))
            .map(|ix| ix as ShardIx)
    }

    /// The hand-over that was announced of `primary`, until its time is over.
    pub fn handing_over(&self, primary: NodeId, now: Instant) -> Option<&HandingOver> {
        self.handing_over.iter().find(|over| over.primary == primary && over.until > now)
    }

    /// This snapshot with `slots` owned by `node`, as a `MOVED` or an announcement said: they go to the shard
    /// whose primary the node is; a replica that answers for a slot was promoted and leads its shard from
    /// now on; a node without a shard gets one of its own.
    pub fn with_owner(&self, slots: impl IntoIterator<Item = Slot>, node: NodeIx) -> Snapshot {
        let mut next = self.clone();
        let ix = match next.shard_of_node(node) {
            Some(ix) => {
                let shard = &mut next.shards[usize::from(ix)];
                if shard.primary != node {
                    shard.replicas.retain(|replica| *replica != node);
                    shard.replicas.push(std::mem::replace(&mut shard.primary, node));
                }
                ix
            }
            None => {
                next.shards.push(Shard { primary: node, replicas: Vec::new() });
                (next.shards.len() - 1) as ShardIx
            }
        };
        for slot in slots {
            next.slots[slot.index()] = ix;
        }
        next
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut map = f.debug_map();
        for (ix, shard) in self.shards.iter().enumerate() {
            let slots: Vec<String> = self.ranges_of(ix as ShardIx).iter().map(ToString::to_string).collect();
            map.entry(&self.node(shard.primary).addr, &slots);
        }
        map.finish()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn node(n: u8) -> Node {
        Node {
            id: format!("{n:040x}").parse().unwrap(),
            addr: SocketAddr::from(([127, 0, 0, n], 6379)),
            hostname: Some(format!("redis-{n}").into()),
            health: Health::Ok,
        }
    }

    pub(crate) fn two_shards() -> Snapshot {
        let shard = |primary, replicas| Shard { primary, replicas };
        Snapshot::new(
            vec![node(0), node(1), node(2)],
            vec![
                (shard(0, vec![2]), vec![SlotRange::new(0, 8191).unwrap()]),
                (shard(1, vec![]), vec![SlotRange::new(8192, 16383).unwrap()]),
            ],
        )
        .unwrap()
    }

    #[test]
    fn every_slot_leads_to_its_primary() {
        let snapshot = two_shards();
        assert_eq!(snapshot.covered(), SLOTS);
        assert_eq!(snapshot.primary_of(Slot::new(0).unwrap()), Some(&node(0)));
        assert_eq!(snapshot.primary_of(Slot::new(16383).unwrap()), Some(&node(1)));
        assert_eq!(snapshot.primaries().count(), 2);
    }

    #[test]
    fn a_moved_slot_goes_alone() {
        let next = two_shards().with_owner(Slot::new(7), 1);
        assert_eq!(next.primary_of(Slot::new(7).unwrap()), Some(&node(1)));
        assert_eq!(next.primary_of(Slot::new(8).unwrap()), Some(&node(0)));
    }

    #[test]
    fn a_replica_that_answers_for_a_slot_leads_its_shard() {
        let next = two_shards().with_owner(Slot::new(7), 2);
        assert_eq!(next.primary_of(Slot::new(8).unwrap()), Some(&node(2)));
        assert_eq!(next.shard(0).replicas, [0]);
    }

    #[test]
    fn slots_of_a_failed_primary_are_covered_but_not_served() {
        let mut snapshot = two_shards();
        snapshot.nodes[0].health = Health::Failed;
        assert_eq!((snapshot.covered(), snapshot.served()), (SLOTS, 8192));
    }

    #[test]
    fn a_shard_with_an_unknown_node_is_refused() {
        let shard = Shard { primary: 9, replicas: vec![] };
        assert_eq!(Snapshot::new(vec![node(0)], vec![(shard, vec![])]), Err(SnapshotError::NoSuchNode(9, 1)));
    }
}
