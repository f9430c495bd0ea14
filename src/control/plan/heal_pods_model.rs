//! The pods of the model of a cluster, for the tests of healing by what Kubernetes says.

use super::model::{World, host};
use crate::control::pods::{Pod, Pods, StatefulSet};
use std::net::SocketAddr;

impl World {
    /// A pod for each node of these, in this order, on three machines in turn.
    pub(super) fn pods_of(&self, nodes: std::ops::Range<usize>) -> Pods {
        let count = nodes.len() as u32;
        let pod = |n: usize| Pod {
            name: format!("redis-{n}"),
            uid: format!("uid-{n}"),
            ordinal: n as u32,
            addr: Some(self.node(n).at),
            host: Some(format!("m{}", n % 3)),
            is_ready: true,
            is_running: true,
            revision: Some("r1".into()),
            ..Pod::default()
        };
        let name = "redis".into();
        let set = StatefulSet {
            name,
            replicas: count,
            update_revision: Some("r1".into()),
            ..StatefulSet::default()
        };
        Pods { pods: nodes.map(pod).collect(), set: Some(set) }
    }

    /// Six empty nodes that know nobody, in a pod each.
    pub(super) fn unformed() -> World {
        let mut world = World::new();
        world.nodes = (0..6).map(|n| World::lone(n, host(n as u8))).collect();
        world.pods = Some(world.pods_of(0..6));
        world
    }

    /// A whole cluster, a pod for each node, looked at once.
    pub(super) fn in_pods() -> World {
        let mut world = World::new();
        world.pods = Some(world.pods_of(0..6));
        world.look();
        world
    }

    pub(super) fn pod_mut(&mut self, n: usize) -> &mut Pod {
        &mut self.pods.as_mut().unwrap().pods[n]
    }

    pub(super) fn replicas(&mut self, count: u32) {
        self.pods.as_mut().unwrap().set.as_mut().unwrap().replicas = count;
    }

    /// The pod comes back with an empty node instead of its own.
    pub(super) fn lose_volume(&mut self, pod: usize, new: usize, at: SocketAddr) {
        self.node_mut(pod).is_up = false;
        self.nodes.push(World::lone(new, at));
        (self.pod_mut(pod).addr, self.pod_mut(pod).uid) = (Some(at), format!("uid-{new}"));
    }

    pub(super) fn accuse_by_all(&mut self, lost: usize) {
        for n in (0..self.nodes.len()).filter(|n| *n != lost) {
            let viewer = self.nodes[n].id;
            if self.nodes[n].is_up && !self.nodes[n].others.is_empty() {
                self.accuse(viewer, lost);
            }
        }
    }
}
