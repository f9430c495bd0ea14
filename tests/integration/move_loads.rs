//! `slotgate rebalance --by keys|bytes` and the limits of a move, on real nodes.

use crate::move_slots::{at, cluster_with_spares, count_slots, expect_whole, rebalance};
use crate::support::client::request;
use crate::support::digest::digest;
use crate::support::program::{expect, run, slotgate};
use crate::support::real_cluster::RealCluster;
use crate::support::slot_move::SlotMove;
use crate::support::wait_until;
use slotgate::topology::Slot;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// Writes strings of `size` bytes to a slot's owner.
fn write(cluster: &RealCluster, tag: &str, keys: usize, size: usize) {
    let mut client = cluster.client(cluster.owner_of_key(&format!("{{{tag}}}")));
    let value = "x".repeat(size);
    for ix in 0..keys {
        client.send_raw(request(&["SET", &format!("{{{tag}}}:{ix}"), &value]));
        assert_eq!(client.read(), b"+OK\r\n");
    }
}

fn keys_of(cluster: &RealCluster) -> Vec<usize> {
    (0..3)
        .map(|ix| cluster.client(ix).call_text(&["DBSIZE"]).trim_start_matches(':').trim().parse().unwrap())
        .collect()
}

#[test]
fn keys_are_shared_out_whatever_slots_they_are_in() {
    let cluster = cluster_with_spares(0);
    // Ten full slots of the first primary, and few keys elsewhere.
    let (mut full, mut few) = (0, 0);
    for ix in 0.. {
        let tag = format!("t{ix}");
        match cluster.owner_of_key(&format!("{{{tag}}}")) {
            0 if full < 10 => {
                write(&cluster, &tag, 90, 10);
                full += 1;
            }
            1 | 2 if few < 10 => {
                write(&cluster, &tag, 3, 10);
                few += 1;
            }
            _ if full == 10 && few == 10 => break,
            _ => {}
        }
    }
    let before = digest(cluster.addrs());
    assert_eq!(keys_of(&cluster).iter().sum::<usize>(), 930);
    expect(&rebalance(&cluster, &[]), 0, "nothing was changed");
    let dry = run(&[
        "rebalance",
        &at(&cluster, 0),
        "--by",
        "keys",
        "--threshold",
        "20",
        "--dry-run",
        "--output",
        "json",
    ]);
    expect(&dry, 0, "\"keys\": 270");
    expect(&rebalance(&cluster, &["--by", "keys", "--threshold", "20"]), 0, "(270 keys)");
    let keys = keys_of(&cluster);
    assert!(keys.iter().all(|keys| keys.abs_diff(310) <= 62), "{keys:?}");
    assert!((0..3).all(|ix| count_slots(&cluster, ix).abs_diff(5461) <= 10));
    expect(&rebalance(&cluster, &["--by", "keys", "--threshold", "20"]), 0, "nothing was changed");
    expect_whole(&cluster);
    assert!(digest(cluster.addrs()) == before, "keys were lost or changed");
}

#[test]
fn bytes_are_shared_out_although_the_keys_are_as_many() {
    let cluster = cluster_with_spares(0);
    for ix in 0..60 {
        let tag = format!("t{ix}");
        let is_first = cluster.owner_of_key(&format!("{{{tag}}}")) == 0;
        write(&cluster, &tag, 10, if is_first { 100_000 } else { 10_000 });
    }
    let before = digest(cluster.addrs());
    expect(&rebalance(&cluster, &["--by", "bytes", "--threshold", "10"]), 0, " bytes)");
    let keys = keys_of(&cluster);
    assert!(keys[0] < keys[1].min(keys[2]), "{keys:?}");
    expect_whole(&cluster);
    assert!(digest(cluster.addrs()) == before, "keys were lost or changed");
}

fn count(cluster: &RealCluster, node: usize) -> usize {
    keys_of(cluster)[node]
}

/// Moves the slot of this tag from the first primary to the second one.
fn mover(cluster: &RealCluster, tag: &str, limit: [&str; 2]) -> Command {
    let slot = Slot::of_key(tag.as_bytes()).number().to_string();
    let (from, to) = (at(cluster, 0), at(cluster, 1));
    let mut mover = slotgate(&["move-slots", "--from", &from, "--to", &to, "--slots", &slot, &from, "--yes"]);
    mover.args(limit).stdout(Stdio::piped());
    mover
}

#[test]
fn keys_arrive_in_portions_when_the_rate_is_limited() {
    let cluster = cluster_with_spares(0);
    write(&cluster, "bar", 300, 10);
    let mut child = mover(&cluster, "bar", ["--max-rate", "100"]).spawn().unwrap();
    let mut seen = BTreeSet::new();
    wait_until("the move ends", || {
        seen.insert(count(&cluster, 1));
        child.try_wait().unwrap().is_some()
    });
    expect(&child.wait_with_output().unwrap(), 0, "Moved 1 slots with 300 keys");
    seen.retain(|keys| (1..300).contains(keys));
    assert!(seen.len() >= 3, "{seen:?}");
    expect_whole(&cluster);
}

#[test]
fn a_move_waits_for_slow_nodes_and_ends_what_is_open_when_interrupted() {
    let cluster = cluster_with_spares(0);
    write(&cluster, "bar", 300, 10);
    // No node answers that fast.
    let mut child = mover(&cluster, "bar", ["--max-latency", "1ns"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let told = lines.find(|line| line.as_ref().unwrap().contains("to answer, longer than 1ns: waiting"));
    assert!(told.is_some());
    assert_eq!((count(&cluster, 0), count(&cluster, 1)), (300, 0), "it did not wait");
    // SAFETY: the child has not been waited for, so the id is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    assert_eq!(
        lines.map(Result::unwrap).filter(|line| line.contains("Moved 1 slots with 300 keys")).count(),
        1
    );
    assert!(child.wait().unwrap().success());
    expect_whole(&cluster);
    assert_eq!(count(&cluster, 1), 300);

    let back = ["--from", &at(&cluster, 1), "--to", &at(&cluster, 0), "--slots", "5061"];
    let back = run(&[&["move-slots", &at(&cluster, 0), "--yes", "--max-latency", "1h"][..], &back].concat());
    expect(&back, 0, "Moved 1 slots with 300 keys");
    assert_eq!(run(&["rebalance", &at(&cluster, 0), "--max-rate", "0"]).status.code(), Some(2));
}

#[test]
fn a_stopped_run_is_given_back_by_the_same_command_with_rollback() {
    let cluster = cluster_with_spares(0);
    for ix in 0..300 {
        write(&cluster, &format!("t{ix}"), 10, 10);
    }
    let before = digest(cluster.addrs());
    let (from, to) = (at(&cluster, 0), at(&cluster, 1));
    let moving = ["move-slots", "--from", &from, "--to", &to, "--slots", "0-2000", &from, "--yes"];
    let mut child =
        slotgate(&[&moving[..], &["--max-rate", "200"]].concat()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("some slots have moved", || count_slots(&cluster, 1) > 5461 + 10);
    // SAFETY: the child has not been waited for, so the id is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    wait_until("the run ends", || child.try_wait().unwrap().is_some());
    let stopped = child.wait_with_output().unwrap();
    expect(&stopped, 1, "To undo it: slotgate move-slots");
    let moved = 5461 - count_slots(&cluster, 0);
    assert!((1..2001).contains(&moved), "{moved}");
    // One slot is half-way, as a killed run leaves it.
    let half = (0..300)
        .map(|ix| format!("t{ix}"))
        .find(|tag| Slot::of_key(tag.as_bytes()).number() <= 2000 && cluster.owner_of_key(tag) == 0);
    let tag = half.expect("the last slots of the range have not moved");
    SlotMove::begin(&cluster, &tag, 1).move_keys(&[&format!("{{{tag}}}:3")]);

    let back = run(&[&moving[..], &["--rollback"]].concat());
    expect(&back, 0, "finish the move");
    expect(&back, 0, &format!("Moved {} slots", moved + 1));
    assert_eq!((count_slots(&cluster, 0), count_slots(&cluster, 1)), (5461, 5462));
    expect_whole(&cluster);
    assert!(digest(cluster.addrs()) == before, "keys were lost or changed");
    expect(&run(&[&moving[..], &["--rollback"]].concat()), 0, "nothing was changed");
}
