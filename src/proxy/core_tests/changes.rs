//! What happens to a cluster: primaries die, or hand over, and the gateway may be told.

use super::world::World;
use crate::topology::{HandingOver, NodeId};
use std::time::Duration;

impl World {
    /// A shard's primary dies and its replica takes over.
    pub fn fail_over(&mut self, shard: usize) {
        let old = self.cluster.primaries[shard];
        self.cluster.primaries[shard] = (old + 2) % 4;
        self.cluster.is_alive[old] = false;
        self.cluster.is_alive[(old + 2) % 4] = true;
        for ix in self.wires_to(old) {
            self.cut(ix);
        }
    }

    /// The gateway hears that a shard's primary is about to hand over.
    pub fn announce_hand_over(&mut self, shard: usize, lasts: Duration) {
        let [primary, to] = self.ids(shard);
        let until = self.start + self.elapsed + lasts;
        self.shared.begin_hand_over(HandingOver { primary, to, until });
        self.core.load_topology();
        self.work();
    }

    /// The gateway hears that it does not.
    pub fn announce_end(&mut self, shard: usize) {
        self.shared.end_hand_over(self.ids(shard)[0]);
        self.core.load_topology();
        self.work();
    }

    /// A shard's replica takes over from its primary, which lives on.
    pub fn hand_over(&mut self, shard: usize, is_told: bool) {
        let old = self.cluster.primaries[shard];
        self.cluster.primaries[shard] = (old + 2) % 4;
        self.cluster.is_alive[(old + 2) % 4] = true;
        if is_told {
            let snapshot = self.cluster.snapshot();
            self.shared.give(&snapshot.ranges_of(shard as u16), self.ids(shard)[0]);
            self.core.load_topology();
        }
        self.work();
    }

    /// A shard's primary, and its replica.
    fn ids(&self, shard: usize) -> [NodeId; 2] {
        let snapshot = self.cluster.snapshot();
        let primary = self.cluster.primaries[shard];
        [primary, (primary + 2) % 4].map(|node| snapshot.node(node as u16).id)
    }
}
