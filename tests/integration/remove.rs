//! `slotgate remove` on real nodes: under load, killed, stopped, beside a manager, refused.

use crate::support::client::{Client, request};
use crate::support::digest::{digest, expect_unharmed};
use crate::support::gateway::Gateway;
use crate::support::program::{expect, run, slotgate};
use crate::support::real_cluster::RealCluster;
use crate::support::slot_move::node_id;
use crate::support::wait_until;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

/// Nodes that nobody ends should not be taken for dead because the machine is busy.
const CALM: [(&str, &str); 2] = [("cluster-node-timeout", "60000"), ("enable-debug-command", "yes")];
/// Longer than a node bans one that it forgot (60 s) and gossip takes to pass.
const BAN_IS_OVER: Duration = Duration::from_secs(66);

/// So many shards of a primary and `replicas` replicas each; the primaries are the first nodes.
fn shards(count: usize, replicas: usize) -> RealCluster {
    let cluster = RealCluster::start_unformed_with(count * (1 + replicas), &CALM);
    cluster.form(replicas);
    cluster
}

fn at(cluster: &RealCluster, ix: usize) -> String {
    cluster.addrs()[ix].to_string()
}

/// The node's own line of `CLUSTER NODES`, by words.
fn own_line(addr: SocketAddr) -> Vec<String> {
    let nodes = Client::connect(addr).call_text(&["CLUSTER", "NODES"]);
    let line = nodes.lines().find(|line| line.contains("myself")).unwrap();
    line.split(' ').map(str::to_string).collect()
}

fn slot_count(addr: SocketAddr) -> usize {
    let ranges = own_line(addr).into_iter().skip(8).map(|range| {
        let (start, end) = range.split_once('-').unwrap_or((&range, &range));
        end.parse::<usize>().unwrap() - start.parse::<usize>().unwrap() + 1
    });
    ranges.sum()
}

/// Which nodes follow the node.
fn replicas_of(cluster: &RealCluster, primary: usize) -> Vec<usize> {
    let id = node_id(&mut cluster.client(primary));
    (0..cluster.addrs().len()).filter(|ix| own_line(cluster.addrs()[*ix])[3] == id).collect()
}

/// Whether the node is alone, of a new id, and empty, also after a restart.
#[track_caller]
fn expect_reset(cluster: &mut RealCluster, ix: usize, old_id: &str) {
    for is_restarted in [false, true] {
        if is_restarted {
            cluster.restart(ix);
        }
        let nodes = cluster.client(ix).call_text(&["CLUSTER", "NODES"]);
        assert_eq!(nodes.matches('@').count(), 1, "{nodes}");
        assert!(!nodes.contains(old_id), "{nodes}");
        assert_eq!(slot_count(cluster.addrs()[ix]), 0, "{nodes}");
        cluster.client(ix).expect("DBSIZE", ":0\r\n");
        let setting = cluster.client(ix).call_text(&["CONFIG", "GET", "cluster-allow-replica-migration"]);
        assert!(setting.ends_with("yes\r\n"), "{setting}");
    }
}

/// Which of the nodes know the id.
fn knowing(cluster: &RealCluster, nodes: &[usize], id: &str) -> Vec<usize> {
    let knows = |ix: &usize| cluster.client(*ix).call_text(&["CLUSTER", "NODES"]).contains(id);
    nodes.iter().copied().filter(knows).collect()
}

/// Writes keys of every type.
fn fill(gateway: &Gateway, count: usize) {
    let mut client = gateway.client();
    for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
        let write = |ix: &usize| {
            let (key, value) = (format!("still:{ix}"), ix.to_string());
            match ix % 6 {
                0 => request(&["RPUSH", &key, "a", &value]),
                1 => request(&["HSET", &key, "field", &value]),
                2 => request(&["SET", &key, &value, "EX", "100000"]),
                3 => request(&["SADD", &key, &value, "b"]),
                4 => request(&["ZADD", &key, &value, "b"]),
                _ => request(&["XADD", &key, "1-1", "field", &value]),
            }
        };
        client.send_raw(chunk.iter().flat_map(write).collect::<Vec<u8>>());
        for _ in chunk {
            let reply = client.read();
            assert!(!reply.starts_with(b"-"), "{}", String::from_utf8_lossy(&reply));
        }
    }
}

#[test]
fn a_shard_leaves_under_load_without_an_error_or_a_lost_key_and_its_nodes_stay_away() {
    let mut cluster = shards(4, 1);
    let gateway = Gateway::start(&cluster.addrs()[..3]);
    fill(&gateway, 12_000);
    let (first, primary, replica) = (at(&cluster, 0), 3, replicas_of(&cluster, 3)[0]);
    let ids = [primary, replica].map(|ix| node_id(&mut cluster.client(ix)));
    let rest: Vec<usize> = (0..8).filter(|ix| *ix != primary && *ix != replica).collect();
    expect_unharmed(&cluster, &gateway, |load| {
        let removed = run(&["remove", &at(&cluster, primary), &first, "--yes"]);
        expect(&removed, 0, "no member knows it, and it is empty");
        // Nobody copied a primary's keys but the replica that was handed on.
        let copies = |ix: &usize| {
            let info = cluster.client(*ix).call_text(&["INFO", "stats"]);
            let count = info.lines().find_map(|line| line.strip_prefix("sync_full:")).unwrap();
            count.parse::<usize>().unwrap()
        };
        assert_eq!([0, 1, 2].iter().map(copies).sum::<usize>(), 3 + 1);
        load.wait_for_progress(1000);
        // By its id, and any node is good enough to ask.
        let removed = run(&["remove", &ids[1][..8], &at(&cluster, replica), "--yes", "--output", "json"]);
        expect(&removed, 0, "\"removed\"");
        load.wait_for_progress(1000);
        expect(&run(&["check", &first]), 0, "Nothing is wrong");
        let again = run(&["remove", &ids[0], &first, "--yes"]);
        expect(&again, 2, "no node of this cluster");
        thread::sleep(BAN_IS_OVER);
        for id in &ids {
            assert_eq!(knowing(&cluster, &rest, id), [0usize; 0], "{id} came back");
        }
    });
    for (ix, id) in [primary, replica].into_iter().zip(&ids) {
        expect_reset(&mut cluster, ix, id);
    }
    let mut sizes: Vec<usize> = rest.iter().map(|ix| slot_count(cluster.addrs()[*ix])).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 0, 0, 5461, 5461, 5462]);
    expect(&run(&["check", &first]), 0, "Nothing is wrong");
}

/// Runs the removal and kills it at its `line`-th line of progress; whether it ended before that.
fn run_and_kill_at(args: &[&str], line: usize) -> bool {
    let mut child = slotgate(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let is_progress = |line: &String| line.starts_with('[') || line.starts_with("Waiting");
    if lines.filter(is_progress).nth(line).is_some() {
        child.kill().unwrap();
        child.wait().unwrap();
        return false;
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

#[test]
fn a_removal_that_is_killed_after_any_step_is_ended_by_the_next_run() {
    let mut cluster = shards(4, 1);
    let gateway = Gateway::start(cluster.addrs());
    fill(&gateway, 6000);
    let before = digest(cluster.addrs());
    let (first, leaver, id) = (at(&cluster, 1), at(&cluster, 2), node_id(&mut cluster.client(2)));
    let args = ["remove", &leaver, &first, "--yes"];
    let mut kills = 0;
    // Each run gets further than the one before.
    while !run_and_kill_at(&args, kills) {
        kills += 1;
        assert!(kills < 20, "no run came to its end");
    }
    assert!(kills >= 3, "it was killed {kills} times only");
    // Once more at a moment of its own choice, after the end: there is nothing to do harm to.
    expect(&run(&args), 0, "Removed");
    expect(&run(&["check", &first]), 0, "Nothing is wrong");
    assert!(digest(cluster.addrs()) == before, "keys were lost or changed");
    let sizes: Vec<usize> = [0, 1, 3].iter().map(|ix| slot_count(cluster.addrs()[*ix])).collect();
    assert!(sizes.iter().all(|size| (5461..=5462).contains(size)), "{sizes:?}");
    let mut followed: Vec<usize> = [0, 1, 3].iter().map(|ix| replicas_of(&cluster, *ix).len()).collect();
    followed.sort_unstable();
    assert_eq!(followed, [1, 1, 2]);
    assert_eq!(knowing(&cluster, &[0, 1, 3, 4, 5, 6, 7], &id), [0usize; 0]);
    expect_reset(&mut cluster, 2, &id);
}

#[test]
fn a_removal_that_is_killed_at_any_moment_is_ended_by_the_next_run() {
    let mut cluster = shards(4, 0);
    let gateway = Gateway::start(cluster.addrs());
    fill(&gateway, 6000);
    let before = digest(cluster.addrs());
    let (first, leaver, id) = (at(&cluster, 1), at(&cluster, 0), node_id(&mut cluster.client(0)));
    let mut kills = 0u64;
    wait_until("a run is left to end by itself", || {
        let mut child =
            slotgate(&["remove", &leaver, &first, "--yes"]).stdout(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(30 + 13 * kills));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return true;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        false
    });
    assert!(kills > 2, "it was killed {kills} times only");
    expect(&run(&["check", &first, "--replicas", "0"]), 0, "Nothing is wrong");
    assert!(digest(cluster.addrs()) == before, "keys were lost or changed");
    assert_eq!(knowing(&cluster, &[1, 2, 3], &id), [0usize; 0]);
    expect_reset(&mut cluster, 0, &id);
}

#[test]
fn a_removal_that_is_interrupted_leaves_nothing_half_way_and_says_how_to_go_on() {
    let cluster = shards(4, 0);
    let gateway = Gateway::start(cluster.addrs());
    fill(&gateway, 30_000);
    let before = digest(cluster.addrs());
    let (first, leaver) = (at(&cluster, 0), at(&cluster, 3));
    let mut child = slotgate(&["remove", &leaver, &first, "--yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("[1/3]")));
    // SAFETY: `kill` touches no memory; the child is not waited for yet, so its id is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    lines.for_each(drop);
    let output = child.wait_with_output().unwrap();
    expect(&output, 1, "run the same command again");
    expect(&run(&["check", &first, "--replicas", "0"]), 0, "Nothing is wrong");
    assert!(slot_count(cluster.addrs()[3]) > 0);
    expect(&run(&["remove", &leaver, &first, "--yes"]), 0, "Removed");
    assert!(digest(cluster.addrs()) == before, "keys were lost or changed");
}

#[test]
fn what_would_be_unsafe_is_refused_and_nothing_is_changed() {
    let mut cluster = shards(3, 1);
    let (first, replica) = (at(&cluster, 0), replicas_of(&cluster, 1)[0]);
    let spare = at(&cluster, replica);
    let remove = |args: &[&str]| run(&[&["remove"], args, &["--yes", "--timeout", "2s"]].concat());
    let nodes = |cluster: &RealCluster| run(&["status", &at(cluster, 0), "--output", "json"]).stdout;
    expect(&remove(&[&at(&cluster, 1), &first]), 3, "only 2 primaries with slots would be left");
    expect(&remove(&[&spare, &first]), 3, "is the only linked replica of");
    expect(&remove(&["ffffffff", &first]), 2, "no node of this cluster");
    expect(&remove(&["127.0.0.1:1", &first]), 2, "no node of this cluster");
    expect(&run(&["remove", &spare, &first, "--allow-no-replica"]), 1, "Nothing was changed");
    let planned = run(&["remove", &at(&cluster, 1), &first, "--allow-few-primaries", "--dry-run"]);
    expect(&planned, 0, &format!("make {spare} a replica of"));
    let planned = ["remove", &spare, &first, "--allow-no-replica", "--dry-run", "--output", "json"];
    let planned: Value = serde_json::from_slice(&run(&planned).stdout).unwrap();
    let kinds: Vec<&Value> = planned["steps"].as_array().unwrap().iter().map(|step| &step["kind"]).collect();
    assert_eq!(kinds, ["forget", "reset"]);
    cluster.client(0).expect("CONFIG SET maxmemory 1mb", "+OK\r\n");
    cluster.client(2).expect("CONFIG SET maxmemory 1mb", "+OK\r\n");
    let full = remove(&[&at(&cluster, 1), &first, "--allow-few-primaries"]);
    expect(&full, 3, "raise its maxmemory");
    assert!(String::from_utf8_lossy(&nodes(&cluster)).contains(&spare));
    assert_eq!(slot_count(cluster.addrs()[1]), 5462);

    // A member that may be alive and does not answer would bring the node back.
    let other = replicas_of(&cluster, 2)[0];
    cluster.freeze(other);
    expect(&remove(&[&spare, &first, "--allow-no-replica"]), 3, "does not answer");
    cluster.thaw(other);
    cluster.kill(1);
    expect(&remove(&[&at(&cluster, 1), &first, "--allow-few-primaries"]), 3, "owns the slots");
    expect(&remove(&[&spare, &first, "--allow-no-replica"]), 3, "does not answer");
    assert_eq!(own_line(cluster.addrs()[replica])[0].len(), 40);
}

#[test]
fn the_dead_without_slots_are_forgotten_and_the_last_replica_goes_with_permission() {
    let mut cluster = shards(3, 1);
    let first = at(&cluster, 0);
    fill(&Gateway::start(cluster.addrs()), 600);
    let (dead, last) = (replicas_of(&cluster, 1)[0], replicas_of(&cluster, 2)[0]);
    let id = node_id(&mut cluster.client(dead));
    cluster.kill(dead);
    expect(&run(&["remove", &id, &first, "--yes"]), 0, "cannot be reset");
    let rest: Vec<usize> = (0..6).filter(|ix| *ix != dead).collect();
    assert_eq!(knowing(&cluster, &rest, &id), [0usize; 0]);
    // It comes back, takes itself for a member, and is not let in; then it is reset.
    cluster.restart(dead);
    wait_until("it looks for the others", || {
        cluster.client(dead).call_text(&["CLUSTER", "NODES"]).matches('@').count() == 6
    });
    expect(&run(&["remove", &at(&cluster, dead), &first, "--yes"]), 0, "Removed");
    expect_reset(&mut cluster, dead, &id);
    assert_eq!(knowing(&cluster, &rest, &id), [0usize; 0]);

    let id = node_id(&mut cluster.client(last));
    let removed = run(&["remove", &at(&cluster, last), &first, "--yes", "--allow-no-replica"]);
    expect(&removed, 0, "is left without a replica");
    expect_reset(&mut cluster, last, &id);
}

#[test]
fn a_manager_beside_it_does_not_bring_the_node_back() {
    let mut cluster = shards(4, 1);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nodes.txt");
    let list: String = cluster.addrs().iter().map(|addr| format!("{addr}\n")).collect();
    std::fs::write(&file, list).unwrap();
    let gateway =
        Gateway::start_with(&cluster.addrs()[..2], &["--manage", "--seed-file", file.to_str().unwrap()]);
    let status = || serde_json::from_str::<Value>(&gateway.admin_get("/api/status").1).unwrap();
    wait_until("the manager is content", || status()["phase"] == "healthy");
    let (first, primary, replica) = (at(&cluster, 0), 3, replicas_of(&cluster, 3)[0]);
    for ix in [primary, replica] {
        let id = node_id(&mut cluster.client(ix));
        expect(&run(&["remove", &at(&cluster, ix), &first, "--yes"]), 0, "Removed");
        expect_reset(&mut cluster, ix, &id);
    }
    // Still listed, they are spares.
    wait_until("the manager tells of two spare nodes", || {
        let report = status();
        let findings = report["findings"].as_array().unwrap();
        findings.iter().filter(|finding| finding["kind"] == "spare-node").count() == 2
    });
    let report = status();
    assert_eq!(report["actions"].as_array().map(Vec::len), Some(0), "{report}");
    expect(&run(&["check", &first]), 0, "Nothing is wrong");
    // A spare is taken in once a replica is missing.
    let vacant = replicas_of(&cluster, 0)[0];
    cluster.client(0).expect("CONFIG SET cluster-node-timeout 5000", "+OK\r\n");
    let removed = run(&["remove", &at(&cluster, vacant), &first, "--yes", "--allow-no-replica"]);
    expect(&removed, 0, "Removed");
    wait_until("one of the spares follows the primary without a replica", || {
        (0..3).all(|ix| !replicas_of(&cluster, ix).is_empty())
    });
}
