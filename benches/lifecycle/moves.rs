//! Moving slots full of small keys while clients work: slotgate beside redis-cli, on the same nodes.

use crate::client::Client;
use crate::lab::Lab;
use crate::load::{Load, Tally};
use crate::report::Row;
use crate::scenarios::no_errors;
use anyhow::{Context as _, Result, ensure};
use slotgate::topology::Slot;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A third of all slots, what a primary of three owns, and the keys in them.
const SLOTS: usize = 5461;
const KEYS: usize = 1_000_000;
/// The short form moves every so manieth slot's worth, as densely filled.
const SHORT: usize = 5;
/// redis-cli takes a minute for all of them: it moves this part of what slotgate moves.
const PART: usize = 10;
/// Letters of a value.
const VALUE: usize = 64;
/// Clients for each shard, and how long each rests after a reply: some hundred requests a second, as an app
/// sends them. Clients without a rest would take the cores of a small machine, and the figure is of moving.
const CLIENTS: usize = 1;
const REST: Duration = Duration::from_millis(1);
const PROMISE: f64 = 5.0;
/// How many keys are written before their replies are read.
const WRITTEN: usize = 1000;

/// slotgate moves slots from a primary to an empty one, and redis-cli a part of them back.
pub fn moves(slotgate: &Path, times: u32) -> Result<Vec<Row>> {
    let part = if times >= 7 { 1 } else { SHORT };
    let slots = SLOTS / part;
    let lab = lab(slotgate)?;
    let (source, target) = (lab.nodes.addrs()[0], lab.nodes.addrs()[3]);
    fill(source, slots, KEYS / part)?;
    let load = Load::paced(lab.gateway, &lab.keys(), CLIENTS, REST);
    thread::sleep(Duration::from_secs(1));
    let ours = rate(source, || {
        let range = format!("0-{}", slots - 1);
        let ends = ["--from", &source.to_string(), "--to", &target.to_string()].map(str::to_string);
        let [from, source, to, target] = &ends;
        lab.slotgate(&["move-slots", from, source, to, target, "--slots", &range, "--yes", source])
    })?;
    let theirs = |pipeline: usize| {
        rate(target, || {
            let ids = [id(target)?, id(source)?];
            reshard(target, &ids, slots / PART, pipeline)
        })
    };
    let (usual, wide) = (theirs(10)?, theirs(100)?);
    let tally = Tally::of(&load.stop());
    let ratio = ours.per_second() / usual.per_second();
    let what = format!("moving {slots} slots with {} keys", ours.keys);
    let measured = format!(
        "{ratio:.1} x: {ours}; redis-cli of {} slots: {usual}, with --cluster-pipeline 100: {wide}",
        slots / PART
    );
    Ok(vec![
        Row::new(&what, ">= 5 x redis-cli's rate", measured, ratio >= PROMISE),
        no_errors(&format!("{what}: clients"), &tally),
        Row::new(&format!("{what}: longest command"), "(no promise)", format!("{:.0?}", tally.longest), true),
    ])
}

/// Three primaries that own all slots and one that owns none, served.
fn lab(slotgate: &Path) -> Result<Lab> {
    let mut lab = Lab::unformed(slotgate, 4)?;
    let addrs = lab.addrs();
    let form = ["bootstrap", "--replicas", "0", "--yes", &addrs[0], &addrs[1], &addrs[2]];
    lab.slotgate(&form)?;
    lab.slotgate(&["add", "--yes", &addrs[3], &addrs[0]])?;
    // The one that gives all its slots away would become a replica, and could take none back.
    lab.slotgate(&["config", "set", "cluster-allow-replica-migration", "no", &addrs[0]])?;
    lab.serve(&[])?;
    Ok(lab)
}

/// Writes keys into the first `slots` slots, all of which the node owns.
fn fill(node: SocketAddr, slots: usize, keys: usize) -> Result<()> {
    let mut stream = TcpStream::connect(node)?;
    let value = "x".repeat(VALUE);
    let wanted = (0..).map(|number: u64| format!("key:{number}"));
    let mut wanted = wanted.filter(|key| Slot::of_key(key.as_bytes()).index() < slots).take(keys);
    loop {
        let chunk: Vec<String> = wanted.by_ref().take(WRITTEN).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        let request =
            |key: &String| format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${VALUE}\r\n{value}\r\n", key.len());
        stream.write_all(chunk.iter().map(request).collect::<String>().as_bytes())?;
        let mut replies = vec![0; chunk.len() * "+OK\r\n".len()];
        stream.read_exact(&mut replies)?;
        ensure!(replies.chunks(5).all(|reply| reply == b"+OK\r\n"), "a key was not written");
    }
}

/// How many keys left a node, and in which time.
struct Rate {
    keys: u64,
    took: Duration,
}

impl Rate {
    fn per_second(&self) -> f64 {
        self.keys as f64 / self.took.as_secs_f64()
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} keys/s ({} in {:.1?})", self.per_second(), self.keys, self.took)
    }
}

/// Runs a whole command, its looking and waiting included.
fn rate(source: SocketAddr, run: impl FnOnce() -> Result<()>) -> Result<Rate> {
    let count = || -> Result<u64> {
        let reply = Client::connect(source)?.call(&["DBSIZE"])?;
        reply.trim_start_matches(':').parse().context("DBSIZE gave no number")
    };
    let before = count()?;
    let begun = Instant::now();
    run()?;
    Ok(Rate { took: begun.elapsed(), keys: before.saturating_sub(count()?) })
}

fn id(node: SocketAddr) -> Result<String> {
    Client::connect(node)?.call(&["CLUSTER", "MYID"])
}

fn reshard(node: SocketAddr, [from, to]: &[String; 2], slots: usize, pipeline: usize) -> Result<()> {
    let output = Command::new("redis-cli")
        .args(["--cluster", "reshard", &node.to_string(), "--cluster-yes"])
        .args(["--cluster-from", from, "--cluster-to", to, "--cluster-slots", &slots.to_string()])
        .args(["--cluster-pipeline", &pipeline.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("redis-cli was not found (Debian, Ubuntu: apt-get install redis-tools)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "redis-cli: {}", said.lines().last().unwrap_or_default());
    Ok(())
}
