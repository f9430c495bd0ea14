//! Nodes come back at other addresses, under `serve --manage` with a seed file.

use crate::client::Client;
use crate::lab::Lab;
use crate::load::{Load, Tally};
use crate::report::Row;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Clients for each shard: half of them count, half of them set and get.
const CLIENTS: usize = 2;
/// Keys of the cluster that must not be touched.
const KEYS: usize = 300;
const SERVING: Duration = Duration::from_secs(10);
const LINKED: Duration = Duration::from_secs(30);

/// All six nodes get new addresses at once; the seed file says so when the last is up, and once more only
/// when all hold each other for failed.
pub fn all_new(slotgate: &Path, _: u32) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for is_late in [false, true] {
        let mut lab = managed(slotgate, 101)?;
        let roles = roles(&lab)?;
        let load = Load::start(lab.gateway, &lab.keys(), CLIENTS);
        let moved = elsewhere(lab.nodes.addrs(), 102);
        lab.move_to(&moved.iter().copied().enumerate().collect::<Vec<_>>())?;
        if is_late {
            lab.wait_until("all nodes miss all others", |lab| {
                (0..6).try_fold(true, |so_far, node| {
                    Ok(so_far && lab.ask(node, &["CLUSTER", "NODES"])?.matches("fail?").count() == 5)
                })
            })?;
        }
        let known = Instant::now();
        list(&lab, &moved)?;
        wait_served(&lab)?;
        let served = known.elapsed();
        lab.wait_until_whole()?;
        let linked = known.elapsed();
        let tally = Tally::of(&load.stop());
        let what = match is_late {
            false => "six nodes with new addresses at once",
            true => "the same, told when all hold each other for failed",
        };
        rows.push(times(what, served, linked));
        rows.push(same_roles(what, &lab, &roles)?);
        rows.push(Row::new(
            &format!("{what}: clients"),
            "nothing lost or twice",
            format!(
                "{}, {} of unknown outcome, {} lost, {} twice",
                tally.words(),
                tally.unknown,
                tally.lost,
                tally.twice
            ),
            tally.lost + tally.twice == 0,
        ));
    }
    Ok(rows)
}

/// Five nodes take each other's addresses and one a new one; the address that is left is now another
/// cluster's node, and still in the seed file.
pub fn permuted(slotgate: &Path, _: u32) -> Result<Vec<Row>> {
    let mut lab = managed(slotgate, 103)?;
    let mut other = Lab::unformed_like_pods(slotgate, 3, 104)?;
    other.bootstrap_with(0)?;
    write_keys(&other)?;
    let (roles, others) = (roles(&lab)?, shape(&other)?);
    let old = lab.nodes.addrs().to_vec();
    let mut moved = [&old[1..], &elsewhere(&old, 105)[5..]].concat();
    let moves: Vec<(usize, SocketAddr)> = moved.iter().copied().enumerate().collect();
    lab.move_to(&moves)?;
    other.move_to(&[(0, old[0])])?;
    let known = Instant::now();
    moved.push(old[0]);
    list(&lab, &moved)?;
    wait_served(&lab)?;
    let served = known.elapsed();
    lab.wait_until_whole()?;
    lab.wait_until("all look for all where they are", |lab| {
        let addrs = lab.nodes.addrs();
        (0..6).try_fold(true, |so_far, node| {
            let nodes = lab.ask(node, &["CLUSTER", "NODES"])?;
            let is_right = addrs.iter().all(|addr| nodes.contains(&format!(" {addr}@")));
            Ok(so_far && is_right && !nodes.contains("noaddr"))
        })
    })?;
    let linked = known.elapsed();
    let what = "addresses permuted, one another cluster's now";
    let (now, keys) = (shape(&other)?, read_keys(&other)?);
    let is_untouched = now == others && keys == KEYS;
    let measured = match is_untouched {
        true => format!("{} nodes, {keys} keys, as before", now.len()),
        false => format!("{keys} of {KEYS} keys; was {others:?}, is {now:?}"),
    };
    Ok(vec![
        times(what, served, linked),
        same_roles(what, &lab, &roles)?,
        Row::new(&format!("{what}: the other cluster"), "untouched and never met", measured, is_untouched),
    ])
}

fn times(what: &str, served: Duration, linked: Duration) -> Row {
    let measured = format!("serving after {served:.1?}, all links up after {linked:.1?}");
    let promised = format!("serving <= {SERVING:?}, links <= {LINKED:?}");
    Row::new(what, &promised, measured, served <= SERVING && linked <= LINKED)
}

fn same_roles(what: &str, lab: &Lab, before: &[String]) -> Result<Row> {
    let now = roles(lab)?;
    let changed = now.iter().zip(before).filter(|(now, before)| now != before).count();
    Ok(Row::new(&format!("{what}: needless role changes"), "0", changed.to_string(), changed == 0))
}

/// Six nodes with an address each, formed, and served by a gateway that manages them.
fn managed(slotgate: &Path, net: u8) -> Result<Lab> {
    let mut lab = Lab::unformed_like_pods(slotgate, 6, net)?;
    lab.bootstrap()?;
    list(&lab, lab.nodes.addrs())?;
    let seeds = seed_file(&lab);
    lab.serve(&["--manage", "--seed-file", &seeds.display().to_string()])?;
    Ok(lab)
}

fn seed_file(lab: &Lab) -> PathBuf {
    lab.nodes.dir().join("seeds.txt")
}

fn list(lab: &Lab, addrs: &[SocketAddr]) -> Result<()> {
    let text: String = addrs.iter().map(|addr| format!("{addr}\n")).collect();
    let (file, new) = (seed_file(lab), lab.nodes.dir().join("seeds.new"));
    fs::write(&new, text)?;
    Ok(fs::rename(new, file)?)
}

/// The same ports on other addresses.
fn elsewhere(addrs: &[SocketAddr], net: u8) -> Vec<SocketAddr> {
    let host = |ix: usize| Ipv4Addr::new(127, 0, net, 1 + ix as u8);
    addrs.iter().enumerate().map(|(ix, addr)| SocketAddr::from((host(ix), addr.port()))).collect()
}

/// Waits until keys of all three shards can be written through the gateway.
fn wait_served(lab: &Lab) -> Result<()> {
    let keys = lab.keys();
    lab.wait_until("all shards are served", |lab| {
        let mut client = Client::connect(lab.gateway)?;
        keys.iter().try_fold(true, |so_far, key| {
            Ok(so_far && client.call(&["SET", &format!("{{{key}}}probe"), "x"])? == "+OK")
        })
    })
}

/// Each node's own line without addresses and times: id, flags, primary, epoch and slots. An election that
/// was taken back shows in the epochs.
fn roles(lab: &Lab) -> Result<Vec<String>> {
    (0..lab.nodes.addrs().len()).map(|node| own_role(&lab.ask(node, &["CLUSTER", "NODES"])?)).collect()
}

fn own_role(nodes: &str) -> Result<String> {
    let line = nodes.lines().find(|line| line.contains("myself")).context("no line of its own")?;
    let words: Vec<&str> = line.split(' ').collect();
    ensure!(words.len() >= 8, "not a line of CLUSTER NODES: {line}");
    Ok([&words[..1], &words[2..4], &words[6..7], &words[8..]].concat().join(" "))
}

/// What each node knows of all members, but for addresses, times and links.
fn shape(lab: &Lab) -> Result<Vec<Vec<String>>> {
    let one = |node: usize| {
        let nodes = lab.ask(node, &["CLUSTER", "NODES"])?;
        let known = nodes.lines().filter(|line| line.contains('@')).map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            [&words[..1], &words[3..4], &words[6..7], &words[8..]].concat().join(" ")
        });
        let mut known: Vec<String> = known.collect();
        known.sort();
        Ok(known)
    };
    (0..lab.nodes.addrs().len()).map(one).collect()
}

/// Writes keys to a cluster that nobody serves, each where it belongs.
fn write_keys(lab: &Lab) -> Result<()> {
    for number in 0..KEYS {
        let key = format!("key:{number}");
        let node = lab.primary_of(&key)?;
        let reply = lab.ask(node, &["SET", &key, &number.to_string()])?;
        ensure!(reply == "+OK", "{reply}");
    }
    Ok(())
}

fn read_keys(lab: &Lab) -> Result<usize> {
    let is_there = |number: &usize| {
        let key = format!("key:{number}");
        let read = lab.primary_of(&key).and_then(|node| lab.ask(node, &["GET", &key]));
        read.is_ok_and(|value| value == number.to_string())
    };
    Ok((0..KEYS).filter(is_there).count())
}
