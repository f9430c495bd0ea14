//! SHARED: which node serves which slot.
//!
//! The control plane publishes an immutable [`Snapshot`]; the data plane loads it, patches one slot
//! when a node says `MOVED`, and hints when it looks stale. This is the only place where both planes
//! meet.

mod diff;
mod node;
mod shared;
mod slot;
mod snapshot;

pub use diff::{Diff, diff};
pub use node::{Health, Node, NodeId, NodeIdError};
pub use shared::SharedTopology;
pub use slot::{SLOTS, Slot, SlotRange, hash_tag};
pub use snapshot::{NodeIx, Shard, ShardIx, Snapshot, SnapshotError};
