//! `slotgate backup` and `restore` on real nodes: there and back into another shape, damaged, refused, cut off.

use crate::support::client::Client;
use crate::support::keys::{SETTINGS, Told, bulks, requests, tell_all};
use crate::support::program::{bootstrap, expect, run, slotgate};
use crate::support::real_cluster::{RealCluster, owner_of};
use crate::support::wait_until;
use serde_json::Value;
use slotgate::topology::Slot;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
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
fn a_damaged_backup_changes_nothing() {
    let (source, target) = (one_shard(&[]), one_shard(&[]));
    fill(source.addrs());
    let (_dir, path) = place();
    expect(&backup(&path, source.addrs()[0], &[]), 0, "Saved");
    let file = rdb_of(&path);
    let refused = |file: &Path, damaged: &[u8], says: &str| {
        let whole = fs::read(file).unwrap();
        fs::write(file, damaged).unwrap();
        expect(&restore(&path, target.addrs()[0], &["--yes"]), 1, says);
        fs::write(file, whole).unwrap();
        target.client(0).expect("DBSIZE", ":0\r\n");
    };
    let whole = fs::read(&file).unwrap();
    // A byte of a value, which only a checksum can tell.
    let mut flipped = whole.clone();
    let at = whole.windows(13).position(|bytes| bytes == b"the empty key").unwrap();
    flipped[at] ^= 1;
    refused(&file, &flipped, "its SHA-256 is not that of the manifest");
    refused(&file, &whole[..whole.len() - 1], "as its manifest says");
    let manifest = path.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    refused(&manifest, &text.as_bytes()[..text.len() / 2], "this is no whole backup");
    refused(&manifest, text.replace("\"keys\": ", "\"keys\": 1").as_bytes(), "keys and not");
    refused(
        &manifest,
        text.replace("\"name\": \"", "\"name\": \"../backup/").as_bytes(),
        "is no file's name",
    );

    let away = path.with_extension("away");
    fs::rename(&file, &away).unwrap();
    expect(&restore(&path, target.addrs()[0], &["--yes"]), 1, "of the backup is missing");
    fs::rename(&away, &file).unwrap();
    fs::rename(&manifest, &away).unwrap();
    expect(&restore(&path, target.addrs()[0], &["--yes"]), 1, "name the folder that 'slotgate backup' wrote");
    fs::rename(&away, &manifest).unwrap();
    target.client(0).expect("DBSIZE", ":0\r\n");
    expect(&restore(&path, target.addrs()[0], &["--yes"]), 0, "Restored");
}

/// The only RDB in a folder.
fn rdb_of(path: &Path) -> PathBuf {
    let files = fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
    let mut rdbs = files.filter(|file| file.extension().is_some_and(|extension| extension == "rdb"));
    let rdb = rdbs.next().unwrap();
    assert_eq!(rdbs.next(), None);
    rdb
}

#[test]
fn a_full_disk_leaves_no_backup_behind() {
    let cluster = one_shard(&[]);
    cluster.client(0).expect("DEBUG POPULATE 2000 key 1000", "+OK\r\n");
    // Without compression, the file has the two million bytes of the values.
    cluster.client(0).expect("CONFIG SET rdbcompression no", "+OK\r\n");
    let (_dir, path) = place();
    let mut command = slotgate(&["backup", text(&path), &cluster.addrs()[0].to_string()]);
    // SAFETY: both calls are async-signal-safe and touch no memory of ours but `limit`.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
            // Without its signal, a file that may grow no more is an error like a full disk.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
            Ok(())
        });
    }
    let output = command.output().unwrap();
    expect(&output, 1, "There is no backup; what was written of it has been removed");
    assert!(!path.exists());
    expect(&backup(&path, cluster.addrs()[0], &[]), 0, "Saved 2000 keys");
}

fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "part")
}

/// A backup whose files are begun, of a node that is slow.
fn waiting_backup(cluster: &RealCluster, path: &Path) -> Child {
    let mut command = slotgate(&["backup", text(path), &cluster.addrs()[0].to_string()]);
    let running = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_until("its files are begun", || {
        fs::read_dir(path).is_ok_and(|mut files| files.any(|file| is_part(&file.unwrap().path())))
    });
    running
}

/// A node that takes half a minute to send its data.
fn slow_shard() -> RealCluster {
    let cluster = one_shard(&[]);
    cluster.client(0).expect("DEBUG POPULATE 60 key 10", "+OK\r\n");
    cluster.client(0).expect("CONFIG SET rdb-key-save-delay 500000", "+OK\r\n");
    cluster
}

#[test]
fn a_backup_that_is_interrupted_leaves_nothing_behind() {
    let cluster = slow_shard();
    let (_dir, path) = place();
    let running = waiting_backup(&cluster, &path);
    // SAFETY: a process of ours that has not been waited for.
    unsafe { libc::kill(running.id() as i32, libc::SIGINT) };
    expect(&running.wait_with_output().unwrap(), 1, "stopped: there is no backup");
    assert!(!path.exists());
}

#[test]
fn a_node_that_dies_meanwhile_leaves_nothing_behind() {
    let mut cluster = slow_shard();
    let (_dir, path) = place();
    let running = waiting_backup(&cluster, &path);
    cluster.kill(0);
    let output = running.wait_with_output().unwrap();
    expect(&output, 1, &cluster.addrs()[0].to_string());
    assert!(!path.exists(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_folder_with_something_in_it_is_left_as_it_is() {
    let cluster = one_shard(&[]);
    let (_dir, path) = place();
    expect(&backup(&path, cluster.addrs()[0], &[]), 0, "Saved 0 keys");
    let manifest = fs::read(path.join("manifest.json")).unwrap();
    cluster.client(0).expect("SET key value", "+OK\r\n");
    expect(&backup(&path, cluster.addrs()[0], &[]), 3, "holds a backup already");
    assert_eq!(fs::read(path.join("manifest.json")).unwrap(), manifest);
    let (_dir, path) = place();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("notes"), "mine").unwrap();
    expect(&backup(&path, cluster.addrs()[0], &[]), 3, "is not empty");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
}

#[test]
fn a_cluster_that_is_not_whole_is_neither_saved_nor_restored_into() {
    let (mut cluster, whole) = (shards(3), one_shard(&[]));
    let (_dir, path) = place();
    expect(&backup(&path, whole.addrs()[0], &[]), 0, "Saved 0 keys");
    cluster.kill(1);
    let (_other, new) = place();
    expect(&backup(&new, cluster.addrs()[0], &[]), 3, &cluster.addrs()[1].to_string());
    assert!(!new.exists());
    expect(&restore(&path, cluster.addrs()[0], &["--yes"]), 3, "nothing was written");
    cluster.restart(1);
    wait_until("it is whole again", || {
        let says = |ix| cluster.client(ix).call_text(&["CLUSTER", "INFO"]);
        (0..3).all(|ix| says(ix).contains("cluster_state:ok"))
    });
    let slot = Slot::of_key(b"key");
    let holder = owner_of(cluster.addrs(), "key");
    let other = cluster.addrs().iter().find(|addr| **addr != holder).unwrap();
    let id = bulks(&Client::connect(*other).call(&["CLUSTER", "MYID"])).remove(0);
    let id = String::from_utf8(id).unwrap();
    Client::connect(holder).expect(&format!("CLUSTER SETSLOT {slot} MIGRATING {id}"), "+OK\r\n");
    wait_until("a slot under way is why it is refused", || {
        let output = backup(&new, cluster.addrs()[0], &[]);
        output.status.code() == Some(3)
            && String::from_utf8_lossy(&output.stderr).contains("slots are being moved")
    });
    assert!(!new.exists());
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
fn a_restore_that_was_killed_is_continued_with_replace() {
    let (source, target) = (one_shard(&[]), shards(3));
    source.client(0).expect("DEBUG POPULATE 200000 key 100", "+OK\r\n");
    let (_dir, path) = place();
    expect(&backup(&path, source.addrs()[0], &[]), 0, "Saved 200000 keys");
    let mut running = slotgate(&["restore", text(&path), &target.addrs()[0].to_string(), "--yes"]);
    let mut running = running.stdout(Stdio::null()).spawn().unwrap();
    let count = || -> usize {
        let sizes = primaries(target.addrs()).into_iter().map(|mut client| client.call_text(&["DBSIZE"]));
        sizes.map(|size| size[1..].trim_end().parse::<usize>().unwrap()).sum()
    };
    wait_until("some keys are there", || count() > 0);
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(count() < 200_000, "it was killed too late to show anything");
    expect(&restore(&path, target.addrs()[0], &["--yes"]), 3, "add --replace");
    expect(&restore(&path, target.addrs()[1], &["--yes", "--replace"]), 0, "Restored 200000 keys");
    assert_eq!(all_keys(target.addrs()), all_keys(source.addrs()));
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
fn a_target_with_too_little_memory_is_refused() {
    let (source, target) = (one_shard(&[]), one_shard(&[("maxmemory", "8mb")]));
    source.client(0).expect("DEBUG POPULATE 20000 key 1000", "+OK\r\n");
    let (_dir, path) = place();
    expect(&backup(&path, source.addrs()[0], &[]), 0, "Saved 20000 keys");
    expect(&restore(&path, target.addrs()[0], &["--yes"]), 3, "raise its maxmemory");
    target.client(0).expect("DBSIZE", ":0\r\n");
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
