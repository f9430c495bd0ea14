//! `slotgate restore`: a backup into a cluster of any shape.

use super::change::Change;
use super::pace::Pace;
use super::table::{Table, bytes, things};
use super::{Ended, Exit, nodes};
use crate::control::backup::{self, Manifest};
use crate::control::loader::Settings;
use crate::control::restore::{self, Backup, Census, Outcome, Target};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// Put a backup into a cluster with any number of shards
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate restore /backup/2026-11-23 redis-0:6379
  slotgate restore /backup/today redis-0:6379 --dry-run
  slotgate restore /backup/today redis-0:6379 --replace --yes

Reads and checks the whole backup first: a damaged one changes nothing. Then loads the functions into every
primary and each key, with its time to live, into the owner of its slot, following moved slots and
failovers. Keys whose time is over are left out. A cluster that has keys is refused unless --replace is
given: then keys of the same name are overwritten, and others kept. After a break, run it again with
--replace. At the end the keys are counted.
Exit code 3: not done, because it would not be safe: a cluster that is not whole, has keys, or has too
little memory, or a server too old for a value. SLOTGATE_USER and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// The folder that 'slotgate backup' wrote
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    cluster: nodes::Cluster,
    /// Overwrite keys that are there
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    change: Change,
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    let is_json = args.change.is_json();
    let credentials = args.change.credentials(&args.cluster.login)?;
    let manifest = Manifest::read(&args.dir).map_err(Ended::wrong)?;
    let saved = Backup { dir: args.dir.clone(), manifest };
    // Files are read at once, beside the loading.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut view = args.cluster.observe(&credentials).await?;
        backup::keep_members(&mut view);
        let refused = |why: String| Ended::refused(format!("{why}; nothing was written"));
        let mut targets = restore::targets(&view)
            .map_err(|not_whole| refused(format!("{not_whole}. Look at it with 'slotgate doctor'")))?;
        restore::ask_limits(&mut targets, &credentials, nodes::LIMIT).await;
        let Some(owners) = restore::target::owners(&targets) else {
            return Err(refused("a slot has no owner".into()).into());
        };
        let mut pace = Pace::new("checked", is_json);
        pace.bytes.wanted = saved.manifest.bytes();
        let owner = Arc::new(move |slot: crate::topology::Slot| owners[slot.index()]);
        let census = restore::check(&saved, owner, |bytes| pace.add(0, bytes)).await?;
        pace.end();
        if !is_json {
            print!("{}", text(&saved.manifest, &census, &targets));
        }
        if let Some(refusal) = restore::refusal(&census, &targets, args.replace) {
            return Err(refused(refusal.to_string()).into());
        }
        if args.change.dry_run {
            answer(is_json, "planned", &census, &targets, None);
            return Ok(Exit::Fine);
        }
        if !args.change.is_confirmed()? {
            return Ok(Exit::Wrong);
        }
        let settings = Settings {
            addrs: targets.iter().map(|target| target.addr).collect(),
            credentials,
            limit: nodes::LIMIT,
            patience: args.change.timeout.0,
            may_replace: args.replace,
        };
        let again = |error: String| {
            Ended::wrong(format!(
                "{error}. What was restored until then stays; to go on, run it again with --replace"
            ))
        };
        let before: u64 = targets.iter().map(|target| target.info.keys).sum();
        let addrs = settings.addrs.clone();
        restore::load_functions(&settings, &addrs, &census.functions).await.map_err(Ended::wrong)?;
        let mut pace = Pace::new("restored", is_json);
        pace.keys.wanted = census.keys;
        let loading = restore::load(&saved, settings.clone(), |keys, bytes| pace.add(keys, bytes));
        let outcome = tokio::select! {
            loaded = loading => loaded.map_err(|error| again(error.to_string()))?,
            Ok(()) = tokio::signal::ctrl_c() => return Err(again("stopped".into()).into()),
        };
        pace.end();
        // The owners may have changed meanwhile.
        let mut view = args.cluster.observe(&settings.credentials).await?;
        backup::keep_members(&mut view);
        let now = restore::targets(&view).map_err(|not_whole| again(not_whole.to_string()))?;
        let addrs: Vec<_> = now.iter().map(|target| target.addr).collect();
        let after = restore::count_keys(&settings, &addrs).await?;
        let found = Found { before, after, outcome: &outcome };
        answer(is_json, "restored", &census, &targets, Some(&found));
        finish(&census, &found, pace.seconds(), is_json)
    })
}

/// What was found after the keys were loaded.
struct Found<'a> {
    before: u64,
    after: u64,
    outcome: &'a Outcome,
}

impl Found<'_> {
    /// The fewest keys that must be there now: all that were restored, but for those that may have expired
    /// since.
    fn least(&self, census: &Census) -> u64 {
        self.outcome.report.restored.saturating_sub(census.expiring)
    }
}

/// Says what came of it.
///
/// # Errors
/// Keys were refused or are missing.
fn finish(census: &Census, found: &Found<'_>, seconds: f64, is_json: bool) -> anyhow::Result<Exit> {
    let report = &found.outcome.report;
    for refused in &report.refused {
        let key = String::from_utf8_lossy(&refused.key[..refused.key.len().min(100)]).into_owned();
        eprintln!("Not restored: {key:?}: {}", refused.why);
    }
    let failed = report.busy + report.bad;
    if failed > 0 {
        let text = format!(
            "{failed} keys were not restored; see above. To overwrite keys that are there, run it again with --replace"
        );
        return Err(Ended::wrong(text).into());
    }
    if found.after < found.least(census) {
        let text = format!(
            "{} keys were restored, but the cluster has {}: somebody deleted keys, or its nodes evict them",
            report.restored, found.after
        );
        return Err(Ended::wrong(text).into());
    }
    if !is_json {
        let expired = match found.outcome.expired {
            0 => String::new(),
            keys => format!(" {keys} keys had expired and were left out."),
        };
        println!(
            "Restored {} keys in {seconds:.1} s.{expired} The cluster had {} keys and has {} now.",
            report.restored, found.before, found.after
        );
    }
    Ok(Exit::Fine)
}

fn text(manifest: &Manifest, census: &Census, targets: &[Target]) -> String {
    let mut out = format!(
        "The backup of {}: {}, {} keys ({} of them expired), {} of functions. It is whole.\n",
        manifest.began,
        things(manifest.shards.len(), "shard"),
        census.keys,
        census.expired,
        if census.functions.len() == 1 {
            "1 library".to_string()
        } else {
            format!("{} libraries", census.functions.len())
        }
    );
    let kinds: Vec<String> = census.kinds.iter().map(|(kind, keys)| format!("{keys} {kind}")).collect();
    if !kinds.is_empty() {
        out += &format!("Types: {}\n", kinds.join(", "));
    }
    let mut table = Table::new(&["TO", "SLOTS", "KEYS", "SERIALIZED", "HAS"]);
    for target in targets {
        let share = census.shares.get(&target.addr).copied().unwrap_or_default();
        let slots: usize = target.slots.iter().map(|range| range.count()).sum();
        table.push(vec![
            target.addr.to_string(),
            slots.to_string(),
            share.keys.to_string(),
            format!("{}B", bytes(share.bytes)),
            format!("{} keys", target.info.keys),
        ]);
    }
    out + &table.text()
}

fn answer(is_json: bool, result: &str, census: &Census, targets: &[Target], found: Option<&Found<'_>>) {
    if !is_json {
        if result == "planned" {
            println!("Nothing was written: this was a dry run.");
        }
        return;
    }
    let to = |target: &Target| {
        let share = census.shares.get(&target.addr).copied().unwrap_or_default();
        json!({ "address": target.addr.to_string(), "keys": share.keys, "bytes": share.bytes })
    };
    let report = found.map(|found| &found.outcome.report);
    let refused = |report: &crate::control::loader::Report| -> Vec<Value> {
        let each = report.refused.iter();
        each.map(
            |refused| json!({ "key": String::from_utf8_lossy(&refused.key), "why": refused.why.to_string() }),
        )
        .collect()
    };
    let answer = json!({
        "result": result,
        "keys": census.keys,
        "types": census.kinds,
        "functions": census.functions.len(),
        "to": targets.iter().map(to).collect::<Vec<_>>(),
        "restored": report.map(|report| report.restored),
        "expired": found.map_or(census.expired, |found| found.outcome.expired),
        "not_restored": report.map(|report| report.busy + report.bad),
        "refused": report.map(refused),
        "keys_before": found.map(|found| found.before),
        "keys_after": found.map(|found| found.after),
    });
    println!("{answer:#}");
}
