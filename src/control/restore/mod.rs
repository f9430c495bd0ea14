//! restore: a backup into a cluster of any shape.
//!
//! First everything is read and checked (`file`) and counted by where it will go (`census`); then what the
//! cluster is (`target`) decides whether it may; only then functions and keys are loaded (`loader`), each key
//! to the owner of its slot. Run again after a break, it overwrites what the first run wrote.

mod census;
mod file;
pub mod target;

pub use census::{Census, Share};
pub use file::FileError;
pub use target::{Refusal, Target, refusal, targets};

use super::backup::Manifest;
use super::loader::{Item, LoadError, Loader, Report, Settings};
use super::node_client::{NodeClient, NodeError, Reply};
use super::observe::observe_settings;
use super::rdb::{self, Keep};
use crate::backend::Credentials;
use crate::topology::Slot;
use bytes::Bytes;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The largest value that is taken from a file: more than any server takes in one request.
const MAX_VALUE: u64 = 4 << 30;
/// How many keys, and about how many bytes, go from reading to loading at once; a larger value goes alone.
const BATCH_KEYS: usize = 256;
const BATCH_BYTES: u64 = 1 << 20;
/// How many batches may wait, besides one that each file's reader holds.
const WAITING: usize = 1;
/// A slow reader of events holds the work up rather than memory.
const EVENTS: usize = 64;

/// Why a backup was not restored, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{0}; nothing was written")]
    Damaged(FileError),
    #[error("{0}, although it was whole before: do not change a backup while it is restored")]
    Changed(FileError),
    #[error("{addr} does not take the functions: {source}")]
    Functions { addr: SocketAddr, source: NodeError },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("a part of the work ended unexpectedly: {0}")]
    Panicked(String),
}

/// A backup that is going to be restored.
#[derive(Clone, Debug)]
pub struct Backup {
    pub dir: PathBuf,
    pub manifest: Manifest,
}

/// Reads and checks all files of a backup, several at once, and counts what they hold by the owner of each
/// slot; `tell` hears how many bytes more were read.
///
/// # Errors
/// A file is missing or is not what the manifest says.
pub async fn check(
    backup: &Backup,
    owners: Arc<dyn Fn(Slot) -> SocketAddr + Send + Sync>,
    mut tell: impl FnMut(u64),
) -> Result<Census, RestoreError> {
    let (events, mut heard) = mpsc::channel(EVENTS);
    let mut running = JoinSet::new();
    for shard in backup.manifest.shards.clone() {
        let (dir, owners, events) = (backup.dir.clone(), owners.clone(), events.clone());
        running.spawn_blocking(move || {
            let mut census = Census::new(SystemTime::now());
            // Nobody listens any more when another file is damaged.
            let read = |bytes| events.blocking_send(bytes).is_ok();
            file::read(&dir, &shard.file, Keep::Sizes, read, |item| {
                census.count(&item, &*owners);
                true
            })?;
            census.weigh(shard.memory);
            Ok((census, functions(&dir, &shard.file)?))
        });
    }
    drop(events);
    let mut census = Census::new(SystemTime::now());
    loop {
        tokio::select! {
            biased;
            Some(bytes) = heard.recv() => tell(bytes),
            ended = running.join_next() => match ended {
                None => return Ok(census),
                Some(Ok(counted)) => {
                    let (counted, functions) = counted.map_err(RestoreError::Damaged)?;
                    census.add(counted, functions);
                }
                Some(Err(error)) => return Err(RestoreError::Panicked(error.to_string())),
            },
        }
    }
}

/// Asks each target how long a value it takes; one that does not let us read its settings is left open.
pub async fn ask_limits(targets: &mut [Target], credentials: &Credentials, limit: Duration) {
    const NAMES: &[&str] = &["proto-max-bulk-len"];
    let addrs: Vec<SocketAddr> = targets.iter().map(|target| target.addr).collect();
    let told = observe_settings(&addrs, NAMES, credentials, limit).await;
    for target in targets {
        let settings = told.get(&target.addr).and_then(|settings| settings.as_ref().ok());
        target.max_value = settings.and_then(|settings| settings.get(NAMES[0])?.parse().ok());
    }
}

/// The libraries of a file: they stand before its first key.
fn functions(dir: &Path, entry: &super::backup::FileEntry) -> Result<Vec<Vec<u8>>, FileError> {
    let mut found = Vec::new();
    if entry.functions > 0 {
        file::read(
            dir,
            entry,
            Keep::Values { limit: MAX_VALUE },
            |_| true,
            |item| {
                if let rdb::Item::Function(function) = item {
                    found.push(function.into_payload());
                }
                (found.len() as u64) < entry.functions
            },
        )?;
    }
    Ok(found)
}

/// Loads the functions into every primary; one of the same name is replaced.
///
/// # Errors
/// A node does not take them.
pub async fn load_functions(
    settings: &Settings,
    primaries: &[SocketAddr],
    functions: &[Vec<u8>],
) -> Result<(), RestoreError> {
    for addr in primaries.iter().copied().filter(|_| !functions.is_empty()) {
        let mut client = NodeClient::connect(addr, &settings.credentials, settings.limit).await?;
        for payload in functions {
            let words = [b"FUNCTION".as_slice(), b"RESTORE", payload, b"REPLACE"];
            let loaded = client.call(&words).await;
            loaded.map_err(|source| RestoreError::Functions { addr, source })?;
        }
    }
    Ok(())
}

/// What a restore came to.
#[derive(Clone, Default, Debug)]
pub struct Outcome {
    pub report: Report,
    /// Keys that were left out because their time was over.
    pub expired: u64,
}

/// Loads all keys, of all files at once; `tell` hears how many more were handed over, with the bytes of
/// their values.
///
/// # Errors
/// A file changed meanwhile, or the cluster does not take the keys any more. What was written stays.
pub async fn load(
    backup: &Backup,
    settings: Settings,
    mut tell: impl FnMut(u64, u64),
) -> Result<Outcome, RestoreError> {
    let mut loader = Loader::open(settings).await?;
    let mut outcome = Outcome::default();
    let (batches, mut found) = mpsc::channel(WAITING);
    let mut reading = JoinSet::new();
    for shard in backup.manifest.shards.clone() {
        let (dir, batches) = (backup.dir.clone(), batches.clone());
        reading.spawn_blocking(move || read_keys(&dir, &shard.file, &batches));
    }
    drop(batches);
    while let Some(batch) = found.recv().await {
        for entry in batch {
            let size = entry.value.size();
            if is_over(entry.expires_at, SystemTime::now()) {
                outcome.expired += 1;
            } else {
                // 0 means never to RESTORE.
                let expiry = entry.expires_at.map(|at| at.as_millis().clamp(1, i64::MAX as u128) as u64);
                let payload = Bytes::from(entry.value.into_payload());
                loader.restore(Item { key: entry.key.into(), expiry, payload }).await?;
            }
            tell(1, size);
        }
    }
    while let Some(read) = reading.join_next().await {
        let read = read.map_err(|error| RestoreError::Panicked(error.to_string()))?;
        read.map_err(RestoreError::Changed)?;
    }
    loader.flush().await?;
    outcome.report = loader.report().clone();
    Ok(outcome)
}

/// Gives all keys of a file in batches, until nobody wants them any more.
fn read_keys(
    dir: &Path,
    entry: &super::backup::FileEntry,
    batches: &mpsc::Sender<Vec<rdb::Entry>>,
) -> Result<(), FileError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    file::read(
        dir,
        entry,
        Keep::Values { limit: MAX_VALUE },
        |_| true,
        |item| {
            let rdb::Item::Key(entry) = item else { return true };
            bytes += entry.value.size();
            batch.push(entry);
            if batch.len() < BATCH_KEYS && bytes < BATCH_BYTES {
                return true;
            }
            bytes = 0;
            batches.blocking_send(std::mem::take(&mut batch)).is_ok()
        },
    )?;
    let _ = batches.blocking_send(batch);
    Ok(())
}

/// Whether a key's time is over.
fn is_over(expires_at: Option<Duration>, now: SystemTime) -> bool {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    expires_at.is_some_and(|at| at <= now)
}

/// How many keys the primaries hold.
///
/// # Errors
/// One of them does not answer.
pub async fn count_keys(settings: &Settings, primaries: &[SocketAddr]) -> Result<u64, RestoreError> {
    let mut keys = 0;
    for addr in primaries {
        let mut client = NodeClient::connect(*addr, &settings.credentials, settings.limit).await?;
        match client.call(&["DBSIZE"]).await? {
            Reply::Integer(count) => keys += count.unsigned_abs(),
            _ => return Err(NodeError::Unexpected { addr: *addr, what: "DBSIZE".into() }.into()),
        }
    }
    Ok(keys)
}
