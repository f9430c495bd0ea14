//! backup: an RDB of each shard, and a manifest that makes a backup of them.
//!
//! Each shard's data is taken as a replica takes it (`replication`), from a replica where one is linked, and
//! checked while it passes (`shard_file`). All shards are taken at once, yet each at a moment of its own. The
//! manifest is written last: a folder without one holds no backup.

pub mod folder;
pub mod manifest;
mod shard_file;
pub mod source;

pub use folder::{Folder, FolderError};
pub use manifest::{FileEntry, MANIFEST, Manifest, ManifestError, ShardEntry};
pub use source::{Refusal, Source, keep_members, sources};

use super::observe::observe_cluster;
use super::rdb::RdbError;
use super::replication::ReplicationError;
use crate::backend::Credentials;
use shard_file::Draft;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A slow reader of events holds the shards up rather than memory.
const EVENTS: usize = 64;

/// What happens while a backup is taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// So much more of some shard has been written.
    Written { bytes: u64, keys: u64 },
    /// Something that people should know.
    Note(String),
}

/// Why there is no backup. What was written for it has been removed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    #[error("{addr} sent data that cannot be kept: {source}")]
    Rdb { addr: SocketAddr, source: RdbError },
    #[error("{0}; what moved between shards may be missing, so nothing was kept: run it again")]
    Moved(Refusal),
    #[error("slots changed their owners meanwhile; keys may be missing, so nothing was kept: run it again")]
    OtherOwners,
    #[error("a shard's work ended unexpectedly: {0}")]
    Panicked(String),
}

/// How to reach the nodes.
#[derive(Clone, Debug)]
pub struct Config {
    pub credentials: Credentials,
    /// For each step of asking one node.
    pub limit: Duration,
}

/// Takes a backup of these shards into an empty folder; `tell` hears what happens.
///
/// # Errors
/// A shard could not be taken or written, or slots moved meanwhile. Nothing is left then.
pub async fn take(
    config: &Config,
    sources: Vec<Source>,
    folder: Folder,
    mut tell: impl FnMut(Event),
) -> Result<Manifest, BackupError> {
    let (began, sources) = (SystemTime::now(), Arc::new(sources));
    let folder = Arc::new(folder);
    let (events, mut heard) = mpsc::channel(EVENTS);
    let mut running = JoinSet::<Result<(usize, ShardEntry), BackupError>>::new();
    for ix in 0..sources.len() {
        let (config, sources, events) = (config.clone(), sources.clone(), events.clone());
        let draft = Draft::new(folder.clone(), ix + 1, &sources[ix]);
        running.spawn(async move { Ok((ix, draft.take(&config, &sources[ix], &events).await?)) });
    }
    drop(events);
    let mut shards = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some(event) = heard.recv() => tell(event),
            ended = running.join_next() => match ended {
                None => break,
                Some(Ok(shard)) => shards.push(shard?),
                Some(Err(error)) => return Err(BackupError::Panicked(error.to_string())),
            },
        }
    }
    while let Ok(event) = heard.try_recv() {
        tell(event);
    }
    check_owners(config, &sources).await?;
    shards.sort_by_key(|(ix, _): &(usize, ShardEntry)| *ix);
    let shards = shards.into_iter().map(|(_, shard)| shard).collect();
    let manifest = Manifest::new(began, SystemTime::now(), shards);
    folder.finish(&manifest)?;
    Ok(manifest)
}

/// A key that moves between two snapshots is in neither of them.
async fn check_owners(config: &Config, before: &[Source]) -> Result<(), BackupError> {
    let addrs: Vec<SocketAddr> = before.iter().map(|source| source.primary.addr).collect();
    let view = observe_cluster(&addrs, &config.credentials, config.limit).await;
    let now = source::owned(&view).map_err(BackupError::Moved)?;
    let then: Vec<_> = before.iter().map(|source| (source.primary.id, source.slots.clone())).collect();
    if now == then { Ok(()) } else { Err(BackupError::OtherOwners) }
}
