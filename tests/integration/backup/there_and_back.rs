//! What was saved comes back, whatever the shape of the cluster, and nothing else.

use super::{all_keys, backup, fill, json, one_shard, place, restore, settle, shards, text};
use crate::support::client::Client;
use crate::support::keys::SETTINGS;
use crate::support::program::{expect, slotgate};
use crate::support::real_cluster::{RealCluster, owner_of};
use crate::support::wait_until;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn all_types_come_back_in_a_cluster_of_another_shape() {
    let (source, target) = (RealCluster::start_with(&SETTINGS), shards(4));
    fill(source.addrs());
    settle(source.addrs());
    let before = all_keys(source.addrs());
    let (_dir, path) = place();
    // Of the nodes that are named, one answers.
    let nobody = "127.0.0.1:1".parse().unwrap();
    let saved = json(&backup(&path, nobody, &[&source.addrs()[4].to_string(), "--output", "json"]));
    assert_eq!(saved["keys"], before.len());
    let shards = saved["manifest"]["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 3);
    for shard in shards {
        assert_eq!(shard["is_from_replica"], true);
        assert_eq!(shard["source"]["address"], shard["replicas"][0]["address"]);
        assert_eq!(shard["file"]["functions"], 1);
        assert!(shard["replication_offset"].as_u64().unwrap() > 0);
        let file = path.join(shard["file"]["name"].as_str().unwrap());
        let sum = std::process::Command::new("sha256sum").arg(&file).output().unwrap();
        assert!(sum.stdout.starts_with(shard["file"]["sha256"].as_str().unwrap().as_bytes()));
    }
    for file in fs::read_dir(&path).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    let planned = json(&restore(&path, target.addrs()[0], &["--dry-run", "--output", "json"]));
    assert_eq!((&planned["keys"], &planned["types"]["stream"]), (&before.len().into(), &2.into()));
    let to = planned["to"].as_array().unwrap();
    let shares: Vec<u64> = to.iter().map(|to| to["keys"].as_u64().unwrap()).collect();
    assert_eq!((shares.len(), shares.iter().sum::<u64>()), (4, before.len() as u64));
    assert_eq!(all_keys(target.addrs()).len(), 0, "a dry run writes nothing");

    expect(&restore(&path, target.addrs()[2], &["--yes"]), 0, &format!("Restored {} keys", before.len()));
    assert_eq!(all_keys(target.addrs()), before);
    for (addr, share) in to.iter().zip(&shares) {
        let mut client = Client::connect(addr["address"].as_str().unwrap().parse().unwrap());
        client.expect("DBSIZE", &format!(":{share}\r\n"));
        client.expect("FCALL answer 0", ":42\r\n");
    }
    let (then, now) = (owner_of(source.addrs(), "stream"), owner_of(target.addrs(), "stream"));
    for question in [vec!["XINFO", "GROUPS", "stream"], vec!["XPENDING", "stream", "busy"]] {
        assert_eq!(Client::connect(now).call_text(&question), Client::connect(then).call_text(&question));
    }
}

#[test]
fn a_shard_without_a_linked_replica_is_taken_from_its_primary() {
    let mut cluster = RealCluster::start_with(&SETTINGS);
    let dead = (3..6).find(|ix| cluster.client(*ix).call_text(&["ROLE"]).contains("slave")).unwrap();
    let replica = cluster.addrs()[dead].to_string();
    cluster.kill(dead);
    let (_dir, path) = place();
    let output = backup(&path, cluster.addrs()[0], &["--output", "json"]);
    let saved = json(&output);
    let shards = saved["manifest"]["shards"].as_array().unwrap();
    assert_eq!(shards.iter().filter(|shard| shard["is_from_replica"] == true).count(), 2);
    assert!(!shards.iter().any(|shard| shard["source"]["address"] == replica));
    expect(&output, 0, "from the primary itself");
}

#[test]
fn keys_that_are_there_are_overwritten_only_when_told_and_others_are_kept() {
    let (source, target) = (one_shard(&[]), shards(3));
    fill(source.addrs());
    let before = all_keys(source.addrs());
    let (_dir, path) = place();
    expect(&backup(&path, source.addrs()[0], &[]), 0, "Saved");
    let mut there = Client::connect(owner_of(target.addrs(), "string:plain"));
    there.expect("SET string:plain other", "+OK\r\n");
    let mut mine = Client::connect(owner_of(target.addrs(), "mine"));
    mine.expect("SET mine value", "+OK\r\n");
    expect(&restore(&path, target.addrs()[0], &["--yes"]), 3, "has 2 keys: restore into an empty one");
    there.expect("GET string:plain", "$5\r\nother\r\n");
    expect(&restore(&path, target.addrs()[0], &["--yes", "--replace"]), 0, "Restored");
    let mut after = all_keys(target.addrs());
    assert!(after.remove(b"mine".as_slice()).is_some());
    assert_eq!(after, before);
}

#[test]
fn keys_whose_time_is_over_are_left_out_and_counted() {
    let (source, target) = (one_shard(&[]), one_shard(&[]));
    let mut client = source.client(0);
    // Otherwise the node may remove it before it is saved.
    client.expect("DEBUG SET-ACTIVE-EXPIRE 0", "+OK\r\n");
    client.expect("SET key value", "+OK\r\n");
    client.expect("SET over value PX 1", "+OK\r\n");
    client.expect("DEBUG SLEEP 0.01", "+OK\r\n");
    let (_dir, path) = place();
    expect(&backup(&path, source.addrs()[0], &[]), 0, "Saved 2 keys");
    let restored = json(&restore(&path, target.addrs()[0], &["--yes", "--output", "json"]));
    assert_eq!((&restored["restored"], &restored["expired"]), (&1.into(), &1.into()));
    target.client(0).expect("DBSIZE", ":1\r\n");
}

#[test]
fn no_password_is_in_a_backup() {
    let settings = [("requirepass", "hunter2"), ("masterauth", "hunter2")];
    let cluster = RealCluster::start_unformed_with(1, &[&SETTINGS[..], &settings].concat());
    let mut client = cluster.client(0);
    client.expect("AUTH hunter2", "+OK\r\n");
    client.expect("CLUSTER ADDSLOTSRANGE 0 16383", "+OK\r\n");
    client.expect("ACL SETUSER other on >hunter2 ~* +@all", "+OK\r\n");
    wait_until("it serves", || client.call_text(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
    client.expect("SET key value", "+OK\r\n");
    let (_dir, path) = place();
    expect(&backup(&path, cluster.addrs()[0], &[]), 1, "password");
    let mut command = slotgate(&["backup", text(&path), &cluster.addrs()[0].to_string()]);
    expect(&command.env("SLOTGATE_PASSWORD", "hunter2").output().unwrap(), 0, "Saved 1 keys");
    for file in fs::read_dir(&path).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(7).any(|bytes| bytes == b"hunter2"));
    }
}
