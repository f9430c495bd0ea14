//! View: what every node says, before anyone decides who is right. Pure.

use super::observe::{ClusterInfo, Flags, NodeInfo, NodeLine, ObserveError};
use crate::topology::{NodeId, SLOTS, SlotRange};
use std::collections::HashMap;
use std::net::SocketAddr;

/// What one node says of the whole cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// The address at which it was asked.
    pub asked: SocketAddr,
    pub cluster: ClusterInfo,
    lines: Vec<NodeLine>,
    /// The place of its own line.
    myself: usize,
    /// The members' places by id; views of a thousand members are compared member by member.
    places: HashMap<NodeId, usize>,
}

impl NodeView {
    /// A view from its lines; `None` when the node's own line is missing.
    pub fn new(asked: SocketAddr, cluster: ClusterInfo, lines: Vec<NodeLine>) -> Option<NodeView> {
        let myself = lines.iter().position(|line| line.flags.has(Flags::MYSELF))?;
        let members = lines.iter().enumerate().filter(|(_, line)| !line.flags.has(Flags::HANDSHAKE));
        let places = members.map(|(place, line)| (line.id, place)).collect();
        Some(NodeView { asked, cluster, lines, myself, places })
    }

    /// What the node says of itself.
    pub fn myself(&self) -> &NodeLine {
        &self.lines[self.myself]
    }

    pub fn id(&self) -> NodeId {
        self.myself().id
    }

    /// All lines, its own included.
    pub fn lines(&self) -> &[NodeLine] {
        &self.lines
    }

    /// Those that are members by its word: no first contact under way.
    pub fn members(&self) -> impl Iterator<Item = &NodeLine> {
        self.lines.iter().filter(|line| !line.flags.has(Flags::HANDSHAKE))
    }

    /// What it says of one member.
    pub fn line(&self, id: NodeId) -> Option<&NodeLine> {
        self.places.get(&id).map(|place| &self.lines[*place])
    }

    /// Who owns which ranges by its word, in the order of the ids: equal for two nodes that agree.
    pub fn ownership(&self) -> Vec<(NodeId, &[SlotRange])> {
        let owners = self.members().filter(|line| !line.slots.is_empty());
        let mut owners: Vec<_> = owners.map(|line| (line.id, line.slots.as_slice())).collect();
        owners.sort_unstable_by_key(|(id, _)| *id);
        owners
    }

    /// For each slot, whether anyone owns it by this node's word.
    pub fn coverage(&self) -> Vec<bool> {
        let mut covered = vec![false; SLOTS];
        for slot in self.members().flat_map(|line| &line.slots).flat_map(|range| range.slots()) {
            covered[slot.index()] = true;
        }
        covered
    }
}

/// What one node says of the cluster and of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observation {
    pub view: NodeView,
    pub info: NodeInfo,
}

/// An endpoint that could not be asked.
#[derive(Debug)]
pub struct Silent {
    pub addr: SocketAddr,
    pub error: ObserveError,
}

/// Keys that a primary holds of slots which others own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stray {
    pub addr: SocketAddr,
    pub slots: Vec<SlotRange>,
    pub keys: u64,
}

/// What all endpoints said when they were asked at once, in the order in which they were named.
#[derive(Debug, Default)]
pub struct View {
    pub nodes: Vec<Observation>,
    pub silent: Vec<Silent>,
    /// Empty unless they were looked for ([`super::stray`]).
    pub strays: Vec<Stray>,
}

impl View {
    /// The observation made at an address.
    pub fn at(&self, addr: SocketAddr) -> Option<&Observation> {
        self.nodes.iter().find(|node| node.view.asked == addr)
    }

    /// The observation of a node.
    pub fn of(&self, id: NodeId) -> Option<&Observation> {
        self.nodes.iter().find(|node| node.view.id() == id)
    }
}
