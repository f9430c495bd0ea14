//! `slotgate backup` and `restore` on real nodes: there and back into another shape, damaged, refused, cut off.

mod cut_short;
mod refused;
mod there_and_back;

use crate::support::client::Client;
use crate::support::keys::{SETTINGS, Told, requests, tell_all};
use crate::support::program::{bootstrap, expect, run};
use crate::support::real_cluster::RealCluster;
use crate::support::wait_until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('answer', function() return 42 end)";

/// One node that owns all slots.
fn one_shard(settings: &[(&str, &str)]) -> RealCluster {
    let cluster = RealCluster::start_unformed_with(1, &[&SETTINGS, settings].concat());
    let mut client = cluster.client(0);
    client.expect("CLUSTER ADDSLOTSRANGE 0 16383", "+OK\r\n");
    wait_until("it serves", || client.call_text(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
    cluster
}

/// So many primaries without replicas.
fn shards(count: usize) -> RealCluster {
    let cluster = RealCluster::start_unformed_with(count, &SETTINGS);
    expect(&bootstrap(cluster.addrs(), &["--yes", "--replicas", "0"]).output().unwrap(), 0, "Done");
    cluster
}

/// Where a backup goes: a folder that is yet to be made.
fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    (dir, path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn backup(path: &Path, at: SocketAddr, more: &[&str]) -> Output {
    run(&[&["backup", text(path), &at.to_string()], more].concat())
}

fn restore(path: &Path, at: SocketAddr, more: &[&str]) -> Output {
    run(&[&["restore", text(path), &at.to_string()], more].concat())
}

fn json(output: &Output) -> Value {
    expect(output, 0, "");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A connection to each primary.
fn primaries(addrs: &[SocketAddr]) -> Vec<Client> {
    let clients = addrs.iter().map(|addr| Client::connect(*addr));
    clients
        .filter_map(|mut client| client.call_text(&["ROLE"]).contains("master").then_some(client))
        .collect()
}

/// All keys of a cluster, none of them twice.
fn all_keys(addrs: &[SocketAddr]) -> BTreeMap<Vec<u8>, Told> {
    let mut all = BTreeMap::new();
    for mut client in primaries(addrs) {
        for (key, told) in tell_all(&mut client) {
            assert_eq!(all.insert(key, told), None, "a key is on two nodes");
        }
    }
    all
}

/// Keys of all types, each on the primary of its slot, and a library of functions on all.
fn fill(addrs: &[SocketAddr]) {
    let mut clients = primaries(addrs);
    for (key, words) in requests() {
        let mut replies = clients.iter_mut().map(|client| client.call(&words));
        let reply = replies.find(|reply| !reply.starts_with(b"-MOVED")).expect("somebody owns the slot");
        assert!(!reply.starts_with(b"-"), "{key:?}: {}", String::from_utf8_lossy(&reply));
    }
    clients.iter_mut().for_each(|client| drop(client.call(&["FUNCTION", "LOAD", LIBRARY])));
}

/// Waits until each replica has its primary's last write.
fn settle(addrs: &[SocketAddr]) {
    primaries(addrs).iter_mut().for_each(|client| client.expect("WAIT 1 60000", ":1\r\n"));
}
