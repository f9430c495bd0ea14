//! Slots of few small keys, which Redis 7 and newer move by copying and switching them.

use crate::move_slots::{SETTINGS, at, cluster_with_spares, expect_whole, rebalance};
use crate::support::client::Client;
use crate::support::digest::digest_of;
use crate::support::gateway::Gateway;
use crate::support::program::{expect, run, slotgate};
use crate::support::real_cluster::RealCluster;
use crate::support::slot_move::node_id;
use crate::support::wait_until;
use slotgate::topology::Slot;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The key beside copies: it has the first number as its tag that falls into the slot.
fn mark(slot: Slot) -> String {
    let tag = (0..).find(|tag: &u32| Slot::of_key(tag.to_string().as_bytes()) == slot).unwrap();
    format!("slotgate:copying:{{{tag}}}")
}

/// Three keys of one slot on their owner, and older copies of them on another node, as a run leaves them that
/// is killed before it switches the slot. Gives the slot, the owner, and where the copies are.
fn copied(cluster: &RealCluster) -> (Slot, usize, usize) {
    let (slot, from) = (Slot::of_key(b"half"), cluster.owner_of_key("{half}"));
    let to = (from + 1) % 3;
    let (mut source, mut target) = (cluster.client(from), cluster.client(to));
    source.expect("MSET changed{half} old deleted{half} old same{half} old", "+OK\r\n");
    let owner = node_id(&mut source);
    target.expect(&format!("CLUSTER SETSLOT {slot} IMPORTING {owner}"), "+OK\r\n");
    let keys = ["changed{half}", "deleted{half}", "same{half}"].map(|key| (key.to_string(), "old"));
    for (key, value) in keys.into_iter().chain([(mark(slot), owner.as_str())]) {
        target.expect("ASKING", "+OK\r\n");
        target.expect(&format!("SET {key} {value}"), "+OK\r\n");
    }
    // What clients did after the run had died.
    source.expect("SET changed{half} new", "+OK\r\n");
    source.expect("DEL deleted{half}", ":1\r\n");
    (slot, from, to)
}

fn count_keys(node: &mut Client, slot: Slot) -> u64 {
    let reply = node.call_text(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
    reply.trim_end().trim_start_matches(':').parse().unwrap()
}

#[test]
fn copies_that_a_killed_run_did_not_switch_are_thrown_away() {
    let cluster = cluster_with_spares(0);
    let (slot, from, to) = copied(&cluster);
    let (mut source, mut target) = (cluster.client(from), cluster.client(to));
    let before = digest_of(&mut source);
    expect(&rebalance(&cluster, &[]), 0, "");
    expect_whole(&cluster);
    assert_eq!(count_keys(&mut target, slot), 0);
    assert_eq!(digest_of(&mut source), before);
    // Were the owner another node by now, the copies may be all there is.
    target.expect(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", node_id(&mut source)), "+OK\r\n");
    for (key, value) in [(mark(slot), "0".repeat(40)), ("kept{half}".into(), "only".into())] {
        target.expect("ASKING", "+OK\r\n");
        target.expect(&format!("SET {key} {value}"), "+OK\r\n");
    }
    expect(&rebalance(&cluster, &[]), 0, "finish or close the move");
    expect_whole(&cluster);
    target.expect("MGET kept{half} changed{half}", "*2\r\n$4\r\nonly\r\n$3\r\nnew\r\n");
    assert_eq!(count_keys(&mut target, slot), 3);
}

#[test]
fn fix_throws_them_away_too() {
    let cluster = cluster_with_spares(0);
    let (slot, from, to) = copied(&cluster);
    let before = digest_of(&mut cluster.client(from));
    expect(&run(&["fix", &at(&cluster, from), "--yes"]), 0, "");
    expect_whole(&cluster);
    assert_eq!(count_keys(&mut cluster.client(to), slot), 0);
    assert_eq!(digest_of(&mut cluster.client(from)), before);
}

/// When a key expires, in milliseconds since 1970; -1: never.
fn expires(node: &mut Client, key: &str) -> i64 {
    node.call_text(&["PEXPIRETIME", key]).trim_end().trim_start_matches(':').parse().unwrap()
}

#[test]
fn values_of_all_types_and_their_times_arrive_as_they_were() {
    let cluster = cluster_with_spares(0);
    let (slot, from) = (Slot::of_key(b"all"), cluster.owner_of_key("{all}"));
    let to = (from + 1) % 3;
    let mut source = cluster.client(from);
    for command in [
        "SET s{all} v",
        "SET later{all} v PXAT 9000000000123",
        "RPUSH l{all} a b c",
        "SADD set{all} a b c",
        "SADD ints{all} 1 2 3",
        "HSET h{all} f v g w",
        "ZADD z{all} 1 a 2.5 b",
        "XADD x{all} 1-1 f v",
        "PFADD p{all} a b",
        "EXPIRE h{all} 100000",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        assert!(!source.call(&words).starts_with(b"-"), "{command}");
    }
    let before = digest_of(&mut source);
    let times = ["s{all}", "later{all}", "h{all}"].map(|key| (key, expires(&mut source, key)));
    let mut mover = slotgate(&["move-slots"]);
    mover.args(["--from", &at(&cluster, from), "--to", &at(&cluster, to), "--slots"]);
    mover.args([&slot.to_string(), "--yes", &at(&cluster, from)]);
    expect(&mover.output().unwrap(), 0, "Moved 1 slots with 9 keys");
    let mut target = cluster.client(to);
    let after = digest_of(&mut target);
    assert!(before.iter().all(|(key, value)| after.get(key) == Some(value)), "{before:?}\n{after:?}");
    for (key, time) in times {
        // MIGRATE tells how long a key has left, and that from when on it is there.
        assert!(expires(&mut target, key).abs_diff(time) < 1000, "{key}");
    }
    assert_eq!((count_keys(&mut source, slot), count_keys(&mut target, slot)), (0, 9));
    expect_whole(&cluster);
}

#[test]
fn a_user_who_may_run_no_scripts_moves_slots_all_the_same() {
    let users = [("user", "default off"), ("user", "mover on >hunter2 ~* &* +@all -@scripting")];
    let cluster = RealCluster::start_unformed_with(3, &[&SETTINGS[..], &users].concat());
    let login = |words: &[&str]| {
        let mut command = slotgate(words);
        command.env("SLOTGATE_USER", "mover").env("SLOTGATE_PASSWORD", "hunter2");
        command.output().unwrap()
    };
    let addrs: Vec<String> = (0..3).map(|ix| at(&cluster, ix)).collect();
    let form = ["bootstrap", "--replicas", "0", "--yes", &addrs[0], &addrs[1], &addrs[2]];
    expect(&login(&form), 0, "");
    let mut source = cluster.client(0);
    source.expect("AUTH mover hunter2", "+OK\r\n");
    // Slot 3300.
    source.expect("MSET b 1 a{b} 2", "+OK\r\n");
    let to = ["move-slots", "--from", &addrs[0], "--to", &addrs[1], "--slots", "3300", "--yes", &addrs[0]];
    expect(&login(&to), 0, "Moved 1 slots with 2 keys");
}

#[test]
fn a_large_value_among_small_ones_goes_with_its_slot() {
    let cluster = cluster_with_spares(0);
    let (slot, from) = (Slot::of_key(b"mix"), cluster.owner_of_key("{mix}"));
    let to = (from + 1) % 3;
    let mut source = cluster.client(from);
    for n in 0..40 {
        // Not compressed away by DUMP.
        let value: String =
            (0..if n == 20 { 3 << 20 } else { 10 }).map(|_| fastrand::alphanumeric()).collect();
        source.call(&["SET", &format!("{n}{{mix}}"), &value]);
    }
    let before = digest_of(&mut source);
    let mut mover = slotgate(&["move-slots"]);
    mover.args(["--from", &at(&cluster, from), "--to", &at(&cluster, to), "--slots"]);
    mover.args([&slot.to_string(), "--yes", &at(&cluster, from)]);
    expect(&mover.output().unwrap(), 0, "Moved 1 slots with 40 keys");
    assert_eq!(digest_of(&mut cluster.client(to)), before);
    expect_whole(&cluster);
}

#[test]
fn keys_that_clients_change_while_they_are_copied_keep_every_change() {
    let cluster = cluster_with_spares(0);
    let (slot, from) = (Slot::of_key(b"hot"), cluster.owner_of_key("{hot}"));
    let to = (from + 1) % 3;
    let mut source = cluster.client(from);
    // So many that clients come between reading and switching them.
    for n in 0..1500 {
        source.expect(&format!("SET {n}{{hot}} value"), "+OK\r\n");
    }
    let gateway = Gateway::start(&cluster.addrs()[..1]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut client = gateway.client();
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                count += 1;
                client.expect("INCR {hot}", &format!(":{count}\r\n"));
            }
            count
        });
        wait_until("the client counts", || source.call_text(&["EXISTS", "{hot}"]) == ":1\r\n");
        let mut mover = slotgate(&["move-slots"]);
        mover.args(["--from", &at(&cluster, from), "--to", &at(&cluster, to), "--slots"]);
        mover.args([&slot.to_string(), "--yes", &at(&cluster, from)]);
        let moved = mover.output().unwrap();
        is_over.store(true, Ordering::Relaxed);
        let count = client.join().unwrap();
        expect(&moved, 0, "Moved 1 slots with 1501 keys");
        cluster.client(to).expect("GET {hot}", &format!("${}\r\n{count}\r\n", count.to_string().len()));
    });
    expect_whole(&cluster);
}
