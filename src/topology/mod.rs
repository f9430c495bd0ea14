//! SHARED: which node serves which slot.
//!
//! The control plane publishes an immutable [`Snapshot`]; the data plane loads it, patches one slot
//! when a node says `MOVED`, and hints when it looks stale. This is the only place where both planes
//! meet.

/// The channel of the cluster on which planned changes are announced to all gateways. Clients neither publish
/// there nor hear of it.
pub const ANNOUNCEMENTS: &[u8] = b"slotgate:announcements";

mod diff;
mod node;
mod shared;
mod slot;
mod snapshot;

pub use diff::{Diff, diff};
pub use node::{Health, Node, NodeId, NodeIdError};
pub use shared::SharedTopology;
pub use slot::{SLOTS, Slot, SlotRange, hash_tag};
pub use snapshot::{HandingOver, NodeIx, Shard, ShardIx, Snapshot, SnapshotError};
