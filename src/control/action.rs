//! Action: one change to one node, as data. Pure; carried out by [`super::act`].

use super::problem::{join, name_slots};
use crate::topology::{NodeId, Slot, SlotRange};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

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
    /// Brings the keys of one slot together on `node`, makes that its owner and closes the slot everywhere.
    SettleSlot {
        node: Party,
        slot: Slot,
        /// Primaries that may hold keys of the slot, or hold it open.
        from: Vec<Party>,
        /// The other primaries, which are told too.
        others: Vec<Party>,
        /// A key that both have with different values may go; it is saved first.
        may_lose: bool,
    },
    /// Tells a replica once more whom it follows, because it looks in the wrong place.
    Relink {
        node: Party,
        primary: Party,
    },
    /// Corrects the address that a node was told to announce.
    Announce {
        node: Party,
        ip: IpAddr,
    },
    /// Keeps a node out of elections, and marks that it was us.
    Guard {
        node: Party,
    },
    /// Shortens the node timeout of a guarded node, so that it forgives soon those that it held for failed.
    Hasten {
        node: Party,
    },
    /// Takes both back.
    Unguard {
        node: Party,
    },
    /// Sets the delay before first copies as it was before a cluster was formed.
    RestoreDelay {
        node: Party,
    },
    /// Lets a replica stand for election in place of its failed primary.
    Elect {
        node: Party,
        primary: NodeId,
    },
    /// Lets a replica take over from its primary that came back without the keys.
    Rescue {
        node: Party,
        primary: Party,
    },
    Forget {
        node: Party,
        leaver: NodeId,
    },
    /// Forgets a member that lives, because it is to leave.
    Dismiss {
        node: Party,
        leaver: NodeId,
    },
    /// Takes a node that nobody knows any more out of its cluster, and empties it.
    Reset {
        node: Party,
    },
}

impl Action {
    /// A word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::SetConfigEpoch { .. } => "set-config-epoch",
            Action::AddSlots { .. } => "add-slots",
            Action::Meet { .. } => "meet",
            Action::Replicate { .. } => "replicate",
            Action::Failover { .. } => "failover",
            Action::SettleSlot { .. } => "settle-slot",
            Action::Relink { .. } => "relink",
            Action::Announce { .. } => "announce",
            Action::Guard { .. } => "guard",
            Action::Hasten { .. } => "hasten",
            Action::Unguard { .. } => "unguard",
            Action::RestoreDelay { .. } => "restore-delay",
            Action::Elect { .. } => "elect",
            Action::Rescue { .. } => "rescue",
            Action::Forget { .. } => "forget",
            Action::Dismiss { .. } => "dismiss",
            Action::Reset { .. } => "reset",
        }
    }

    /// The node that is told to do it.
    pub fn node(&self) -> Party {
        match self {
            Action::SetConfigEpoch { node, .. }
            | Action::AddSlots { node, .. }
            | Action::Meet { node, .. }
            | Action::Replicate { node, .. }
            | Action::Failover { node, .. }
            | Action::SettleSlot { node, .. }
            | Action::Relink { node, .. }
            | Action::Announce { node, .. }
            | Action::Guard { node }
            | Action::Hasten { node }
            | Action::Unguard { node }
            | Action::RestoreDelay { node }
            | Action::Elect { node, .. }
            | Action::Rescue { node, .. }
            | Action::Forget { node, .. }
            | Action::Dismiss { node, .. }
            | Action::Reset { node } => *node,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::SetConfigEpoch { node, epoch } => write!(f, "set config epoch {epoch} on {node}"),
            Action::AddSlots { node, ranges } => write!(f, "give {} to {node}", name_slots(ranges)),
            Action::Meet { node, other, .. } => write!(f, "let {node} meet {other}"),
            Action::Replicate { node, primary } => write!(f, "make {node} a replica of {primary}"),
            Action::Failover { node, primary } => write!(f, "let {node} take over from {primary}"),
            Action::SettleSlot { node, slot, from, may_lose, .. } => {
                write!(f, "settle slot {slot} on {node}")?;
                if !from.is_empty() {
                    write!(f, ", with the keys that {} may hold", join(from, " "))?;
                }
                f.write_str(if *may_lose { "; of keys that differ its own win" } else { "" })
            }
            Action::Relink { node, primary } => write!(f, "connect {node} to its primary {primary} again"),
            Action::Announce { node, ip } => write!(f, "let {node} announce {ip}"),
            Action::Guard { node } => write!(f, "keep {node} out of elections"),
            Action::Hasten { node } => write!(f, "let {node} forgive soon those that are back"),
            Action::Unguard { node } => write!(f, "let {node} take part in elections again"),
            Action::RestoreDelay { node } => write!(f, "set the delay of first copies on {node} as it was"),
            Action::Elect { node, primary } => {
                write!(f, "let {node} stand for election in place of {}", primary.short())
            }
            Action::Rescue { node, primary } => {
                write!(f, "let {node}, which still has the keys, take over from {primary}")
            }
            Action::Forget { node, leaver } | Action::Dismiss { node, leaver } => {
                write!(f, "let {node} forget {}", leaver.short())
            }
            Action::Reset { node } => write!(f, "reset and empty {node}"),
        }
    }
}
