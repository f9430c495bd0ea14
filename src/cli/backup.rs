//! `slotgate backup`: all data of a cluster, in a folder.

use super::pace::Pace;
use super::table::{bytes, things};
use super::{Ended, Exit, Output, nodes};
use crate::control::backup::{self, BackupError, Config, Event, Folder, FolderError, Manifest, Source};
use serde_json::json;
use std::path::PathBuf;

/// Save all data of a cluster into a folder: an RDB of each shard, and a manifest with checksums
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate backup /backup/2026-11-23 redis-0:6379
  slotgate backup /backup/today 10.0.0.1:6379 10.0.0.2:6379 --output json
  slotgate backup /backup/today redis-0:6379 --dry-run

DIR must be new or empty. Each shard's data is taken from a replica where one is linked, else from its
primary, all shards at once, and checked while it comes; each shard is as it was at a moment of its own.
manifest.json is written last: a folder without it holds no backup. Only their owner may read the files;
they hold keys, values and functions, never users or passwords. 'sha256sum' checks them, 'slotgate restore'
puts them into a cluster of any shape, and a server reads each file as its dump.rdb.
Exit code 3: the cluster is not whole, slots are being moved, or DIR is not empty.
The user needs PSYNC, REPLCONF, PING, INFO and CLUSTER. SLOTGATE_USER and SLOTGATE_PASSWORD count as for
'serve'.")]
pub struct Args {
    /// The folder to write
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    cluster: nodes::Cluster,
    /// Say what would be taken from where, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The shape of the answer; with json, progress goes to the standard error
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let is_json = args.output == Output::Json;
    let credentials = args.cluster.login.credentials()?;
    // Shards are hashed and scanned at once.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut view = args.cluster.observe(&credentials).await?;
        backup::keep_members(&mut view);
        let sources = backup::sources(&view).map_err(|refusal| {
            Ended::refused(format!("{refusal}. Look at it with 'slotgate doctor'; nothing was written"))
        })?;
        if args.dry_run {
            show(&sources, is_json);
            return Ok(Exit::Fine);
        }
        let folder = Folder::open(&args.dir).map_err(ended)?;
        let mut pace = Pace::new("written", is_json);
        pace.keys.wanted = sources.iter().map(|source| source.last.keys).sum();
        let config = Config { credentials, limit: nodes::LIMIT };
        let taking = backup::take(&config, sources, folder, |event| match event {
            Event::Written { keys, bytes } => pace.add(keys, bytes),
            Event::Note(text) => pace.note(&text),
        });
        let manifest = tokio::select! {
            taken = taking => taken.map_err(|error| match error {
                BackupError::Folder(error) => ended(error),
                other => Ended::wrong(other),
            })?,
            Ok(()) = tokio::signal::ctrl_c() => {
                return Err(Ended::wrong("stopped: there is no backup, and what was written has been removed").into());
            }
        };
        pace.end();
        tell(args, &manifest, pace.seconds(), is_json);
        Ok(Exit::Fine)
    })
}

fn ended(error: FolderError) -> Ended {
    match error {
        FolderError::HasBackup(_) | FolderError::NotEmpty(_) => Ended::refused(error),
        _ => Ended::wrong(error),
    }
}

fn show(sources: &[Source], is_json: bool) {
    if is_json {
        let shard = |source: &Source| {
            let giver = source.linked.first().unwrap_or(&source.last);
            json!({
                "primary": source.primary.addr.to_string(),
                "slots": source.slots.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "source": giver.node.addr.to_string(),
                "is_from_replica": giver.is_replica,
                "keys": giver.keys,
            })
        };
        println!(
            "{:#}",
            json!({ "result": "planned", "shards": sources.iter().map(shard).collect::<Vec<_>>() })
        );
        return;
    }
    for source in sources {
        let giver = source.linked.first().unwrap_or(&source.last);
        let role = if giver.is_replica { "its replica" } else { "the primary itself (no replica is linked)" };
        println!("{}: {} keys from {role} {}", source.primary, giver.keys, giver.node);
    }
    println!("Nothing was written: this was a dry run.");
}

fn tell(args: &Args, manifest: &Manifest, seconds: f64, is_json: bool) {
    let dir = args.dir.display();
    if is_json {
        let answer = json!({
            "result": "saved",
            "dir": dir.to_string(),
            "keys": manifest.keys(),
            "bytes": manifest.bytes(),
            "seconds": seconds,
            "manifest": manifest,
        });
        println!("{answer:#}");
        return;
    }
    for shard in &manifest.shards {
        let file = &shard.file;
        println!(
            "{}: {} keys, {}B, from {} {}",
            file.name,
            file.keys,
            bytes(file.bytes),
            if shard.is_from_replica { "replica" } else { "primary" },
            shard.source.address
        );
    }
    let (keys, size) = (manifest.keys(), bytes(manifest.bytes()));
    let shards = things(manifest.shards.len(), "shard");
    println!("Saved {keys} keys of {shards}, {size}B, to {dir} in {seconds:.1} s.");
}
