//! `slotgate move-slots` and `rebalance` on real nodes: under load, killed, refused.

use crate::support::client::request;
use crate::support::digest::{digest, expect_unharmed};
use crate::support::gateway::Gateway;
use crate::support::program::{bootstrap, expect, run, slotgate};
use crate::support::real_cluster::RealCluster;
use crate::support::slot_move::{SlotMove, node_id};
use crate::support::wait_until;
use slotgate::topology::Slot;
use std::process::{Output, Stdio};
use std::thread;
use std::time::Duration;

pub const SETTINGS: [(&str, &str); 3] =
    [("appendonly", "no"), ("enable-debug-command", "yes"), ("cluster-node-timeout", "60000")];

/// Nodes of which the first three are primaries of one cluster; the others are met and have no slots.
pub fn cluster_with_spares(spares: usize) -> RealCluster {
    let cluster = RealCluster::start_unformed_with(3 + spares, &SETTINGS);
    expect(&bootstrap(&cluster.addrs()[..3], &["--yes", "--replicas", "0"]).output().unwrap(), 0, "Done");
    for spare in 3..3 + spares {
        meet(&cluster, spare);
    }
    cluster
}

pub fn meet(cluster: &RealCluster, node: usize) {
    let port = cluster.addrs()[node].port();
    cluster.client(0).expect(&format!("CLUSTER MEET 127.0.0.1 {port}"), "+OK\r\n");
    wait_until("all nodes know the new one", || {
        (0..cluster.addrs().len()).all(|ix| {
            let nodes = cluster.client(ix).call_text(&["CLUSTER", "NODES"]);
            ix > node || (nodes.matches(" connected").count() == node + 1 && !nodes.contains("handshake"))
        })
    });
}

/// Writes `count` keys of several types, some of one slot.
pub fn fill(cluster: &RealCluster, count: usize) {
    for node in 0..3 {
        let mut client = cluster.client(node);
        let mine: Vec<usize> =
            (0..count).filter(|ix| cluster_slot(&key(*ix)) / 5462 == node as u16).collect();
        for chunk in mine.chunks(500) {
            let write = |ix: &usize| match ix % 4 {
                0 => request(&["RPUSH", &key(*ix), "a", "b", &ix.to_string()]),
                1 => request(&["HSET", &key(*ix), "field", &ix.to_string()]),
                2 => request(&["SET", &key(*ix), &ix.to_string(), "EX", "100000"]),
                _ => request(&["SET", &key(*ix), &ix.to_string()]),
            };
            client.send_raw(chunk.iter().flat_map(write).collect::<Vec<u8>>());
            for _ in chunk {
                let reply = client.read();
                assert!(!reply.starts_with(b"-"), "{}", String::from_utf8_lossy(&reply));
            }
        }
    }
}

pub fn key(ix: usize) -> String {
    // A slot with more keys than one round moves, and keys all over.
    if ix.is_multiple_of(5) { format!("{{full}}:{ix}") } else { format!("key:{ix}") }
}

/// The slot, cut where the formed cluster's ranges end: 0-5460, 5461-10922, 10923-16383.
fn cluster_slot(key: &str) -> u16 {
    let slot = Slot::of_key(key.as_bytes()).number();
    if slot <= 5460 { 0 } else { (slot + 1).min(16383) }
}

pub fn at(cluster: &RealCluster, ix: usize) -> String {
    cluster.addrs()[ix].to_string()
}

pub fn rebalance(cluster: &RealCluster, args: &[&str]) -> Output {
    let first = at(cluster, 0);
    run(&[&["rebalance", &first, "--yes"], args].concat())
}

#[track_caller]
pub fn expect_whole(cluster: &RealCluster) {
    let check = || run(&["check", &at(cluster, 0), "--replicas", "0"]);
    // News of roles and of new members is still on its way for a moment.
    let mut last = check();
    wait_until("the cluster is whole", || {
        last = check();
        last.status.success()
    });
    expect(&last, 0, "Nothing is wrong");
}

#[test]
fn a_cluster_grows_and_shrinks_under_load_without_an_error_or_a_lost_key() {
    let cluster = cluster_with_spares(1);
    fill(&cluster, 20_000);
    let gateway = Gateway::start(&cluster.addrs()[..3]);
    let spare = at(&cluster, 3);
    expect_unharmed(&cluster, &gateway, |load| {
        expect(&rebalance(&cluster, &["--use-empty"]), 0, "Moved 4096 slots");
        load.wait_for_progress(1000);
        expect(&rebalance(&cluster, &["--use-empty"]), 0, "nothing was changed");
        expect(&rebalance(&cluster, &["--weight", &format!("{spare}=0")]), 0, "Moved 4096 slots");
    });
    assert_eq!(count_slots(&cluster, 3), 0);
}

#[test]
fn a_move_that_is_killed_anywhere_is_ended_by_the_next_run() {
    let cluster = cluster_with_spares(1);
    fill(&cluster, 30_000);
    let before = digest(cluster.addrs());
    let first = at(&cluster, 0);
    let (mut kills, mut left_open) = (0u64, 0);
    wait_until("a run is left to end by itself", || {
        let mut child = slotgate(&["rebalance", &first, "--yes", "--use-empty", "--threshold", "0"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Ever later, so that runs get further and the last one to its end.
        thread::sleep(Duration::from_millis(30 + 15 * kills));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return true;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        let has_open = |ix| cluster.client(ix).call_text(&["CLUSTER", "NODES"]).contains('[');
        left_open += usize::from((0..4).any(has_open));
        false
    });
    if !moves_atomically(&cluster) {
        assert!(left_open > 0, "none of {kills} kills hit a slot on its way");
    }
    expect_whole(&cluster);
    assert!(digest(cluster.addrs()) == before, "keys were lost or changed");
    let sizes = (0..4).map(|ix| count_slots(&cluster, ix)).collect::<Vec<_>>();
    assert_eq!(sizes, [4096; 4]);
}

/// Whether the nodes move slots by themselves: no slot is open then, and no node stands still.
pub fn moves_atomically(cluster: &RealCluster) -> bool {
    let mut client = cluster.client(0);
    client.call(&["AUTH", "hunter2"]);
    let commands = client.call_text(&["COMMAND", "DOCS", "CLUSTER"]);
    ["cluster|migrateslots", "cluster|migration"].iter().any(|name| commands.contains(name))
}

pub fn count_slots(cluster: &RealCluster, ix: usize) -> usize {
    let nodes = cluster.client(ix).call_text(&["CLUSTER", "NODES"]);
    let own = nodes.lines().find(|line| line.contains("myself")).unwrap();
    // Open slots stand in brackets, and are counted where they are owned.
    let ranges = own.split(' ').skip(8).filter(|range| !range.starts_with('[')).map(|range| {
        let (start, end) = range.split_once('-').unwrap_or((range, range));
        end.parse::<usize>().unwrap() - start.parse::<usize>().unwrap() + 1
    });
    ranges.sum()
}

#[test]
fn slots_left_open_in_any_state_are_finished_or_closed() {
    let cluster = cluster_with_spares(0);
    fill(&cluster, 2000);
    let before = digest(cluster.addrs());
    let set = |node: usize, words: &str| {
        cluster.client(node).expect(&format!("CLUSTER SETSLOT {words}"), "+OK\r\n");
    };
    let id = |node: usize| node_id(&mut cluster.client(node));
    // Half of the keys are on the target.
    let mut half = SlotMove::begin(&cluster, "{full}", (cluster.owner_of_key("{full}") + 1) % 3);
    half.move_keys(&[&key(0), &key(5), &key(10)]);
    // Killed after the first SETSLOT; after the source's only; after the target's last.
    set(1, &format!("1 IMPORTING {}", id(0)));
    set(0, &format!("2 MIGRATING {}", id(1)));
    set(1, &format!("3 IMPORTING {}", id(0)));
    set(0, &format!("3 MIGRATING {}", id(1)));
    let mut mover = slotgate(&["move-slots", "--from", &at(&cluster, 0), "--to", &at(&cluster, 1)]);
    mover.args(["--slots", "3", &at(&cluster, 0), "--dry-run"]);
    expect(&mover.output().unwrap(), 0, "Left by an earlier run");
    expect(&rebalance(&cluster, &[]), 0, "finish the move of slot 2");
    expect_whole(&cluster);
    assert!(digest(cluster.addrs()) == before, "keys were lost or changed");
}

#[test]
fn keys_that_differ_on_both_nodes_are_left_to_a_person() {
    let cluster = cluster_with_spares(0);
    let from = cluster.owner_of_key("{both}");
    let to = (from + 1) % 3;
    cluster.client(from).expect("MSET a{both} same b{both} ours", "+OK\r\n");
    let moving = SlotMove::begin(&cluster, "{both}", to);
    let mut target = cluster.client(to);
    for set in ["SET a{both} same", "SET b{both} theirs"] {
        target.expect("ASKING", "+OK\r\n");
        target.expect(set, "+OK\r\n");
    }
    drop(moving);
    expect(&rebalance(&cluster, &[]), 1, "the key \"b{both}\"");
    cluster.client(from).expect("GET b{both}", "$4\r\nours\r\n");
    target.expect("ASKING", "+OK\r\n");
    target.expect("GET b{both}", "$6\r\ntheirs\r\n");
    target.expect("ASKING", "+OK\r\n");
    target.expect("DEL b{both}", ":1\r\n");
    expect(&rebalance(&cluster, &[]), 0, "finish the move");
    expect_whole(&cluster);
    target.expect("MGET a{both} b{both}", "*2\r\n$4\r\nsame\r\n$4\r\nours\r\n");
}

#[test]
fn what_would_be_wrong_or_unsafe_is_refused_with_the_next_step() {
    let mut cluster = cluster_with_spares(0);
    fill(&cluster, 2000);
    let (a, b, c) = (at(&cluster, 0), at(&cluster, 1), at(&cluster, 2));
    let mover = |args: &[&str]| run(&[&["move-slots", "--yes", &a], args].concat());
    expect(&mover(&["--from", &a, "--to", "nobody", "--count", "1"]), 2, "no primary is called");
    expect(&mover(&["--from", &a, "--to", &a, "--count", "1"]), 2, "both --from and --to");
    expect(&mover(&["--from", &a, "--to", &b, "--count", "9999"]), 2, "owns 5461 slots");
    expect(&mover(&["--from", &a, "--to", &b, "--slots", "16383"]), 3, "owned by neither");
    assert_eq!(mover(&["--from", &a, "--to", &b]).status.code(), Some(2));
    expect(&run(&["rebalance", &a, "--weight", &format!("{a}=x")]), 2, "whole number");
    expect(&run(&["rebalance", &a]), 0, "nothing was changed");
    let dry = run(&["move-slots", &a, "--from", &a, "--to", &b, "--count", "9", "--dry-run"]);
    expect(&dry, 0, "move 9 slots");
    let unanswered = run(&["move-slots", &a, "--from", &a, "--to", &b, "--count", "9"]);
    expect(&unanswered, 1, "the answer was not 'yes'");

    cluster.client(1).expect("CONFIG SET maxmemory 1mb", "+OK\r\n");
    expect(&mover(&["--from", &a, "--to", &b, "--slots", "0-5000"]), 3, "raise its maxmemory");
    cluster.client(1).expect("CONFIG SET maxmemory 0", "+OK\r\n");
    expect(&mover(&["--from", &a, "--to", &b, "--slots", "10-19"]), 0, "Moved 10 slots");
    expect(&mover(&["--from", &a, "--to", &b, "--slots", "10-19"]), 0, "nothing was changed");
    expect_whole(&cluster);

    cluster.kill(2);
    let refused = mover(&["--from", &a, "--to", &b, "--slots", "20-29", "--timeout", "1s"]);
    expect(&refused, 3, &format!("{c} cannot be asked"));
}

#[test]
fn an_empty_node_is_added_once_with_functions_and_any_other_is_refused() {
    let cluster = RealCluster::start_unformed_with(7, &SETTINGS);
    expect(&bootstrap(&cluster.addrs()[..3], &["--yes", "--replicas", "0"]).output().unwrap(), 0, "Done");
    let first = at(&cluster, 0);
    let library = "#!lua name=lib\nredis.register_function('one', function() return 1 end)";
    for ix in 0..3 {
        cluster.client(ix).call(&["FUNCTION", "LOAD", library]);
    }
    let add = |node: usize, args: &[&str]| run(&[&["add", &at(&cluster, node), &first], args].concat());
    expect(&add(3, &["--dry-run"]), 0, "let");
    expect(&add(3, &[]), 1, "Nothing was changed");
    expect(&add(3, &["--yes"]), 0, "all nodes know it");
    expect(&add(3, &["--yes"]), 0, "member already");
    assert!(cluster.client(3).call_text(&["FUNCTION", "LIST"]).contains("lib"));
    expect(&add(4, &["--yes", "--replica-of", &at(&cluster, 1)]), 0, "Added");
    expect(&add(5, &["--yes", "--replica-of", "nobody"]), 2, "no primary is called");
    // One of another cluster, though empty.
    let port = at(&cluster, 6).rsplit_once(':').unwrap().1.to_string();
    cluster.client(5).call(&["CLUSTER", "MEET", "127.0.0.1", &port]);
    wait_until("two nodes are a cluster of their own", || {
        cluster.client(5).call_text(&["CLUSTER", "NODES"]).matches(" connected").count() == 2
    });
    expect(&add(5, &["--yes"]), 3, "belongs to a cluster");
    let known = cluster.client(0).call_text(&["CLUSTER", "NODES"]);
    assert_eq!(known.matches("connected").count(), 5, "{known}");
    expect(&rebalance(&cluster, &["--use-empty"]), 0, "Moved 4096 slots");
    let epochs = (0..4).map(|ix| {
        let info = cluster.client(ix).call_text(&["CLUSTER", "INFO"]);
        info.lines().find_map(|line| line.strip_prefix("cluster_my_epoch:")).unwrap().to_string()
    });
    let mut epochs: Vec<String> = epochs.collect();
    epochs.sort();
    epochs.dedup();
    assert_eq!(epochs.len(), 4, "{epochs:?}");
}

#[test]
fn a_big_key_is_announced_and_moved_whole_with_a_password() {
    let login = [("requirepass", "hunter2"), ("masterauth", "hunter2")];
    let cluster = RealCluster::start_unformed_with(3, &[&SETTINGS[..], &login].concat());
    let mut form = bootstrap(cluster.addrs(), &["--yes", "--replicas", "0"]);
    expect(&form.env("SLOTGATE_PASSWORD", "hunter2").output().unwrap(), 0, "Done");
    let clients: Vec<_> = (0..3)
        .map(|ix| {
            let mut client = cluster.client(ix);
            client.expect("AUTH hunter2", "+OK\r\n");
            client
        })
        .collect();
    let [mut source, mut target, _] = <[_; 3]>::try_from(clients).ok().unwrap();
    // The key of slot 5061.
    assert_eq!(Slot::of_key(b"bar").number(), 5061);
    source.expect("SETRANGE bar 20000000 x", ":20000001\r\n");
    let mut mover = slotgate(&["move-slots", "--from", &at(&cluster, 0), "--to", &at(&cluster, 1)]);
    mover.args(["--slots", "5000-5100", &at(&cluster, 2), "--yes"]).env("SLOTGATE_PASSWORD", "hunter2");
    let output = mover.output().unwrap();
    if !moves_atomically(&cluster) {
        expect(&output, 0, "Big key: bar of slot 5061");
    }
    expect(&output, 0, "Moved 101 slots with 1 keys");
    target.expect("STRLEN bar", ":20000001\r\n");
    let mut wrong = slotgate(&["rebalance", &at(&cluster, 0), "--yes", "--timeout", "1s"]);
    expect(&wrong.env("SLOTGATE_PASSWORD", "wrong").output().unwrap(), 1, "WRONGPASS");
}
