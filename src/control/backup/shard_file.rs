//! One shard's file: its bytes as they come, checked while they pass.

use super::folder::Folder;
use super::manifest::{FileEntry, ShardEntry};
use super::source::{Giver, Source};
use super::{BackupError, Config, Event};
use crate::control::rdb::{Item, Keep, Scanner};
use crate::control::replication::Link;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tokio::sync::mpsc;

/// After how many bytes the progress is told.
const TELL_EVERY: u64 = 1 << 20;

/// A file that is to be written.
pub struct Draft {
    folder: Arc<Folder>,
    name: String,
}

impl Draft {
    /// For shard `number` of the backup.
    pub fn new(folder: Arc<Folder>, number: usize, source: &Source) -> Draft {
        Draft { folder, name: format!("shard-{number}-{}.rdb", source.primary.id.short()) }
    }

    /// Takes the shard's data from the first giver that gives it.
    pub async fn take(
        self,
        config: &Config,
        source: &Source,
        events: &mpsc::Sender<Event>,
    ) -> Result<ShardEntry, BackupError> {
        let (giver, link) = open(config, source, events).await?;
        let place = link.place().clone();
        let file = self.write(link, giver, events).await?;
        Ok(ShardEntry::new(source, giver, (place.history, place.offset), file))
    }

    async fn write(
        self,
        mut link: Link,
        giver: &Giver,
        events: &mpsc::Sender<Event>,
    ) -> Result<FileEntry, BackupError> {
        let damaged = |source| BackupError::Rdb { addr: giver.node.addr, source };
        let mut part = self.folder.create(&self.name)?;
        let (mut scanner, mut hash) = (Scanner::new(Keep::Sizes), Sha256::new());
        let mut file = FileEntry {
            name: self.name,
            bytes: 0,
            keys: 0,
            functions: 0,
            largest_value: 0,
            rdb_version: 0,
            sha256: String::new(),
        };
        let mut told = (0, 0);
        while let Some(piece) = link.read_snapshot().await? {
            let mut rest = &piece[..];
            while let Some(item) = scanner.advance(&mut rest).map_err(damaged)? {
                match item {
                    Item::Key(entry) => {
                        file.keys += 1;
                        file.largest_value = file.largest_value.max(entry.value.size());
                    }
                    Item::Function(_) => file.functions += 1,
                    Item::End { .. } => {}
                }
            }
            // In place: the pieces are small, and a slow disk is to slow the node's sending down.
            part.write(&piece)?;
            hash.update(&piece);
            file.bytes += piece.len() as u64;
            if file.bytes - told.0 >= TELL_EVERY {
                tell(events, &file, &mut told).await;
            }
        }
        scanner.finish().map_err(damaged)?;
        file.rdb_version = scanner.version();
        file.sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        tell(events, &file, &mut told).await;
        // Syncing takes as long as the disk needs; the other shards go on meanwhile.
        let folder = self.folder;
        let kept = tokio::task::spawn_blocking(move || folder.keep(part)).await;
        kept.map_err(|error| BackupError::Panicked(error.to_string()))??;
        Ok(file)
    }
}

async fn tell(events: &mpsc::Sender<Event>, file: &FileEntry, told: &mut (u64, u64)) {
    let event = Event::Written { bytes: file.bytes - told.0, keys: file.keys - told.1 };
    *told = (file.bytes, file.keys);
    let _ = events.send(event).await;
}

/// The first giver that gives its data: a linked replica, or else the primary.
async fn open<'a>(
    config: &Config,
    source: &'a Source,
    events: &mpsc::Sender<Event>,
) -> Result<(&'a Giver, Link), BackupError> {
    let mut why = "no replica of it is linked".to_string();
    for giver in &source.linked {
        match Link::open(giver.node.addr, &config.credentials, config.limit, None).await {
            Ok((link, _)) => return Ok((giver, link)),
            Err(error) => why = error.to_string(),
        }
    }
    let addr = source.last.node.addr;
    let _ =
        events.send(Event::Note(format!("Taking the data of {addr} from the primary itself: {why}"))).await;
    let (link, _) = Link::open(addr, &config.credentials, config.limit, None).await?;
    Ok((&source.last, link))
}
