//! observe: ask every endpoint at once what it is and what it sees, each with a deadline.

mod info;
mod node_line;

pub use info::{ClusterInfo, NodeInfo, Release, Role};
pub use node_line::{Direction, Flags, NodeLine, NodeLineError, OpenSlot, parse_nodes};
