//! What is done to the cluster, one function each.

use crate::addresses;
use crate::lab::Lab;
use crate::load::{Load, Record, Tally, p99};
use crate::report::Row;
use crate::resize::resize;
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

type Scenario = fn(&Path, u32) -> Result<Vec<Row>>;

pub const ALL: &[(&str, Scenario)] = &[
    ("form", form),
    ("failover", failover),
    ("restart", restart),
    ("kill", kill),
    ("resize", resize),
    ("addresses", addresses::all_new),
    ("permuted", addresses::permuted),
    ("moves", crate::moves::moves),
];

/// Clients for each shard: half of them count, half of them set and get.
const CLIENTS: usize = 8;
/// Of six nodes; the replica of node `i` is node `i + 3`, and the other way round after a failover.
const SHARDS: usize = 3;
/// A node that was elected begins no other election for four node timeouts (`clusterHandleSlaveFailover`,
/// auth_retry_time); the lab's are 5 s.
const NEXT_ELECTION: Duration = Duration::from_millis(20_500);
/// The time to look at an undisturbed cluster before and after.
const CALM: Duration = Duration::from_secs(2);

/// Six fresh nodes, until all agree and all replicas are linked.
fn form(slotgate: &Path, _: u32) -> Result<Vec<Row>> {
    let lab = Lab::unformed(slotgate, 6)?;
    let begun = Instant::now();
    lab.bootstrap()?;
    let ours = begun.elapsed();
    lab.wait_until_whole()?;
    let whole = begun.elapsed();
    let lab = Lab::unformed(slotgate, 6)?;
    let begun = Instant::now();
    let output = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(lab.addrs())
        .args(["--cluster-replicas", "1", "--cluster-yes"])
        .output()
        .context("redis-cli was not found (Debian, Ubuntu: apt-get install redis-tools)")?;
    ensure!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stdout));
    lab.wait_until_whole()?;
    let theirs = begun.elapsed();
    let measured = format!("{ours:.1?}, whole after {whole:.1?}; redis-cli {theirs:.1?}");
    Ok(vec![Row::new("bootstrap of six nodes", "<= 5 s", measured, whole <= Duration::from_secs(5))])
}

/// Every shard in turn changes its primary, as often as asked.
fn failover(slotgate: &Path, times: u32) -> Result<Vec<Row>> {
    let lab = Lab::serving(slotgate)?;
    let keys = lab.keys();
    let load = Load::start(lab.gateway, &keys, CLIENTS);
    let calm = span(CALM);
    let mut changes = Vec::new();
    // When each node was last elected.
    let mut elected: Vec<Option<Instant>> = vec![None; lab.nodes.addrs().len()];
    for _ in 0..times {
        for (shard, key) in keys.iter().enumerate() {
            let primary = lab.primary_of(key)?;
            let next = (primary + SHARDS) % elected.len();
            if let Some(at) = elected[next] {
                thread::sleep(NEXT_ELECTION.saturating_sub(at.elapsed()));
            }
            let begun = Instant::now();
            change_primary(&lab, primary)?;
            elected[next] = Some(Instant::now());
            changes.push((shard, (begun, Instant::now())));
        }
    }
    let records = load.stop();
    let tally = Tally::of(&records);
    let others = |shard: usize| records.iter().filter(move |record| record.shard != shard);
    let during: Vec<Duration> =
        changes.iter().filter_map(|(shard, span)| p99(others(*shard), &[*span])).collect();
    let mut sorted = during.clone();
    sorted.sort_unstable();
    let (before, during) = (p99(&records, &[calm]).unwrap_or_default(), sorted[sorted.len() / 2]);
    let what = format!("{} planned failovers", changes.len());
    Ok(vec![
        no_errors(&what, &tally),
        Row::new(
            &format!("{what}: longest command"),
            "<= 250 ms",
            format!("{:.0?}", tally.longest),
            tally.longest <= Duration::from_millis(250),
        ),
        Row::new(
            &format!("{what}: p99 of other shards"),
            "unmoved (<= 2x)",
            format!("{before:.1?} -> {during:.1?}"),
            during <= before * 2,
        ),
    ])
}

/// All nodes restart, one after the other, primaries after they handed over.
fn restart(slotgate: &Path, _: u32) -> Result<Vec<Row>> {
    let mut lab = Lab::serving(slotgate)?;
    let load = Load::start(lab.gateway, &lab.keys(), CLIENTS);
    for node in (0..6).rev() {
        if lab.is_primary(node)? {
            change_primary(&lab, node)?;
        }
        lab.kill(node);
        lab.restart(node)?;
        lab.wait_until_whole()?;
    }
    let records = load.stop();
    Ok(vec![no_errors("rolling restart of six nodes", &Tally::of(&records))])
}

/// A primary dies without a word; beside a manager, which asks for the election, and without one.
fn kill(slotgate: &Path, times: u32) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (args, what) in [(&[][..], "kill -9 of a primary"), (&["--manage"], "kill -9 with --manage")] {
        // When nodes miss one another and stand for election is partly by lot.
        let rounds = if times >= 7 { 3 } else { 1 };
        let killed: Vec<Killed> = (0..rounds).map(|_| kill_one(slotgate, args)).collect::<Result<_>>()?;
        rows.extend(told(what, killed));
    }
    Ok(rows)
}

/// What one death did to clients.
struct Killed {
    records: Vec<Record>,
    /// How long the shard's clients waited.
    back: Duration,
    /// The other shards' p99, before and after it.
    others: (Duration, Duration),
}

fn kill_one(slotgate: &Path, args: &[&str]) -> Result<Killed> {
    let mut lab = Lab::unformed(slotgate, 6)?;
    lab.bootstrap()?;
    lab.serve(args)?;
    let keys = lab.keys();
    let load = Load::start(lab.gateway, &keys, CLIENTS);
    let calm = span(CALM);
    let begun = Instant::now();
    lab.kill(lab.primary_of(&keys[0])?);
    lab.wait_until("another node owns the slots", |lab| Ok(lab.primary_of(&keys[0]).is_ok()))?;
    thread::sleep(CALM);
    let over = Instant::now();
    let records = load.stop();
    let hurt = |record: &&Record| record.shard == 0;
    let back = records.iter().filter(hurt).flat_map(|record| &record.samples);
    // The first replies after the gap.
    let back = back.filter(|sample| sample.sent >= begun || sample.sent + sample.took > begun);
    let back = back.map(|sample| sample.sent + sample.took).filter(|at| *at > begun + Duration::from_secs(1));
    let back = back.min().map_or(Duration::MAX, |at| at - begun);
    let others: Vec<&Record> = records.iter().filter(|record| record.shard != 0).collect();
    let before = p99(others.iter().copied(), &[calm]).unwrap_or_default();
    let during = p99(others.iter().copied(), &[(begun, over)]).unwrap_or_default();
    Ok(Killed { records, back, others: (before, during) })
}

fn told(what: &str, mut rounds: Vec<Killed>) -> Vec<Row> {
    let tally = Tally::of(rounds.iter().flat_map(|killed| &killed.records));
    let promise = Duration::from_secs(5).mul_f64(1.2) + Duration::from_secs(2);
    let middle = rounds.len() / 2;
    rounds.sort_by_key(|killed| killed.back);
    let back = rounds[middle].back;
    let backs: Vec<String> = rounds.iter().map(|killed| format!("{:.1?}", killed.back)).collect();
    rounds.sort_by(|a, b| growth(a).total_cmp(&growth(b)));
    let (before, during) = rounds[middle].others;
    vec![
        Row::new(
            what,
            "0 errors, nothing twice",
            format!(
                "{}, {} of unknown outcome, {} twice, {} acknowledged before they were replicated and lost",
                tally.words(),
                tally.unknown,
                tally.twice,
                tally.lost
            ),
            tally.errors.is_empty() && tally.twice == 0,
        ),
        Row::new(
            &format!("{what}: back after"),
            &format!("<= {promise:.0?}"),
            format!("{back:.1?}, the median of {}", backs.join(", ")),
            back <= promise,
        ),
        Row::new(
            &format!("{what}: p99 of other shards"),
            "unmoved (<= 2x)",
            format!("{before:.1?} -> {during:.1?}"),
            during <= before * 2,
        ),
    ]
}

/// By how much the other shards' p99 grew.
fn growth(killed: &Killed) -> f64 {
    killed.others.1.as_secs_f64() / killed.others.0.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn span(length: Duration) -> (Instant, Instant) {
    let begun = Instant::now();
    thread::sleep(length);
    (begun, Instant::now())
}

/// For planned changes: nothing lost, nothing twice, no error.
pub fn no_errors(what: &str, tally: &Tally) -> Row {
    let mut measured = tally.words();
    if tally.lost + tally.twice + tally.unknown > 0 {
        measured.push_str(&format!(
            ", {} lost, {} twice, {} of unknown outcome",
            tally.lost, tally.twice, tally.unknown
        ));
    }
    let is_kept = tally.errors.is_empty() && tally.lost + tally.twice + tally.unknown == 0;
    Row::new(what, "0 errors, nothing lost or twice", measured, is_kept)
}

fn change_primary(lab: &Lab, node: usize) -> Result<()> {
    let addr = lab.nodes.addrs()[node].to_string();
    lab.slotgate(&["failover", "--yes", &addr, &addr])
}
