//! Action: one change to one node, as data. Pure; carried out by [`super::act`].

use super::problem::join;
use crate::topology::{NodeId, SlotRange};
use std::fmt;
use std::net::SocketAddr;

/// A node and where to reach it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Party {
    pub id: NodeId,
    pub addr: SocketAddr,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr.fmt(f)
    }
}

/// One idempotent step; shown in words for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Gives a lone node its own config epoch, so that no two primaries start with the same one.
    SetConfigEpoch {
        node: Party,
        epoch: u64,
    },
    AddSlots {
        node: Party,
        ranges: Vec<SlotRange>,
    },
    /// Lets `node` make contact with `other`, whose cluster bus listens on `bus_port`.
    Meet {
        node: Party,
        other: Party,
        bus_port: u16,
    },
    Replicate {
        node: Party,
        primary: Party,
    },
    /// Lets the replica `node` take over from its running primary, without losing a write.
    Failover {
        node: Party,
        primary: Party,
    },
}

impl Action {
    /// The node that is told to do it.
    pub fn node(&self) -> Party {
        match self {
            Action::SetConfigEpoch { node, .. }
            | Action::AddSlots { node, .. }
            | Action::Meet { node, .. }
            | Action::Replicate { node, .. }
            | Action::Failover { node, .. } => *node,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::SetConfigEpoch { node, epoch } => write!(f, "set config epoch {epoch} on {node}"),
            Action::AddSlots { node, ranges } => write!(f, "give slots {} to {node}", join(ranges, " ")),
            Action::Meet { node, other, .. } => write!(f, "let {node} meet {other}"),
            Action::Replicate { node, primary } => write!(f, "make {node} a replica of {primary}"),
            Action::Failover { node, primary } => write!(f, "let {node} take over from {primary}"),
        }
    }
}
