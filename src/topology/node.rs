//! A node: one Redis or Valkey process, known by its 40-digit id. Pure.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// A node's name for life: 40 hexadecimal digits that the node chose at its first start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 40]);

/// A text that is not a node id.
#[derive(Debug, thiserror::Error)]
#[error("not a node id (40 hexadecimal digits): {0:?}")]
pub struct NodeIdError(String);

impl NodeId {
    /// The id as its 40 digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a node id holds hexadecimal digits only")
    }

    /// The first eight digits: enough for a person to tell nodes apart.
    pub fn short(&self) -> &str {
        &self.as_str()[..8]
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<NodeId, NodeIdError> {
        match <[u8; 40]>::try_from(text.as_bytes()) {
            Ok(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(NodeId(digits)),
            _ => Err(NodeIdError(text.chars().take(60).collect())),
        }
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the cluster's nodes judge a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Health {
    /// Nobody complains.
    #[default]
    Ok,
    /// Some node cannot reach it (`fail?`).
    Suspect,
    /// The majority agreed that it is gone (`fail`).
    Failed,
}

/// One node as the topology knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    pub id: NodeId,
    /// Where it takes client connections.
    pub addr: SocketAddr,
    /// Its `cluster-announce-hostname`, by which a redirect may name it.
    pub hostname: Option<Box<str>>,
    pub health: Health,
}
