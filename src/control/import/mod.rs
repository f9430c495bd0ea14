//! import: all keys of another server into the cluster, while it is written to.
//!
//! The source tells which keys are written (`watch`). Every key is listed, read and brought (`pass`, through
//! the loader); those written meanwhile are read and brought again, until nothing new comes. No command of
//! the source's clients is ever repeated: a key is always brought as it is, so that bringing it twice does
//! no harm, and a run that was cut short is simply run again (`brought`). At the end everything is compared
//! (`verify`).

mod brought;
mod compare;
mod functions;
mod open;
mod pass;
mod run;
mod source;
mod target;
mod verify;
mod watch;

pub use brought::BroughtError;
pub use compare::Difference;
pub use run::{Import, Outcome, Outlook};
pub use verify::Verification;

use super::loader::{self, LoadError};
use super::migrate::Stop;
use super::node_client::NodeError;
use crate::backend::Credentials;
use bytes::Bytes;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The source as a person named it.
    pub source_name: String,
    pub source: SocketAddr,
    pub source_credentials: Credentials,
    /// The source's database; without a choice the only one that has keys.
    pub database: Option<u32>,
    /// The cluster.
    pub target: loader::Settings,
    /// Whether keys that the cluster has already are replaced.
    pub may_replace: bool,
    /// Where it is noted what was brought.
    pub state: PathBuf,
    /// Whether the source is watched; otherwise nobody may write to it.
    pub wants_watch: bool,
    /// Goes on until told to end, or until nothing was written for so long.
    pub follow: Option<Option<Duration>>,
    /// For how long the source is to take no writes from the last pass on.
    pub pause: Option<Duration>,
    /// How many keys are compared at the end; all of them without a number.
    pub sample: Option<u64>,
    pub stop: Stop,
}

/// What happens during an import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A part begins; how many keys it will deal with, about.
    Begin { what: &'static str, keys: u64 },
    /// So many keys more, of so many bytes.
    Step { keys: u64, bytes: u64 },
    /// Everything written so far is in the cluster, but for so many keys.
    Following { waiting: u64 },
    /// Something that people should know.
    Note(String),
}

/// Why an import does not begin or does not go on. What was brought stays.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("the source: {0}")]
    Source(NodeError),
    #[error("the cluster: {0}")]
    Target(NodeError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    State(#[from] BroughtError),
    #[error("the source {0} is a node of the cluster itself: name another source")]
    Itself(SocketAddr),
    #[error("the source is a cluster and not all of it can be read: {0}")]
    SourceCluster(String),
    #[error("a cluster has database 0 only, and the source has keys in {}: choose one with --db", list_databases(.0))]
    Databases(Vec<(u32, u64)>),
    #[error(
        "the cluster has {count} of the source's keys already, with other values: {}. Delete or rename them, or let them be replaced with --replace",
        show(&.examples[..examples.len().min(10)])
    )]
    Conflicts { count: u64, examples: Vec<Bytes> },
    #[error(
        "the cluster has functions of its own, other than the source's ({text}): delete them, or let them be replaced with --replace"
    )]
    Functions { text: String },
    #[error(
        "{addr} does not tell what is written to it ({text}): Redis 6 and later does, to users who may run CLIENT and HELLO. Stop all writers and import with --no-watch"
    )]
    NoWatch { addr: SocketAddr, text: String },
    #[error("stopped")]
    Stopped,
}

impl ImportError {
    /// Whether the import should simply go on as soon as the servers answer again.
    pub fn is_passing(&self) -> bool {
        match self {
            ImportError::Source(error) | ImportError::Target(error) => match error {
                NodeError::Refused { text, .. } => text.starts_with("LOADING"),
                NodeError::Connect { .. } | NodeError::Timeout { .. } | NodeError::Broken { .. } => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether it was refused because it would not be safe.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            ImportError::Itself(_)
                | ImportError::Databases(_)
                | ImportError::Conflicts { .. }
                | ImportError::Functions { .. }
                | ImportError::NoWatch { .. }
                | ImportError::State(BroughtError::Other { .. } | BroughtError::Foreign { .. })
        )
    }
}

fn list_databases(databases: &[(u32, u64)]) -> String {
    let each = databases.iter().map(|(database, keys)| format!("{database} ({keys})"));
    format!("several: {}", each.collect::<Vec<_>>().join(", "))
}

/// Keys for people; bytes that are no text are shown as escapes.
pub fn show(keys: &[Bytes]) -> String {
    keys.iter().map(|key| format!("\"{}\"", key.escape_ascii())).collect::<Vec<_>>().join(", ")
}
