//! SIGKILL after each single change that slotgate makes to nodes: the next run goes on, and it ends in the
//! same state as without the kill.

mod addresses;

use super::support::client::{Client, request};
use super::support::digest::digest;
use super::support::killer::{Changes, after_each};
use super::support::program::{bootstrap, expect, run, slotgate};
use super::support::real_cluster::RealCluster;
use super::support::wait_until;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;

/// What a cluster is, but for the nodes' ids and epochs: slots, primary and settings of each node.
type Shape = BTreeMap<SocketAddr, (String, Option<SocketAddr>, Vec<String>)>;

/// The settings that anything here changes for a while.
const SETTINGS: &[&str] = &[
    "cluster-node-timeout",
    "cluster-replica-no-failover",
    "cluster-migration-barrier",
    "repl-diskless-sync-delay",
    "repl-diskless-sync-max-replicas",
];

fn shape(addrs: &[SocketAddr]) -> Shape {
    let own_line = |addr: SocketAddr| {
        let nodes = Client::connect(addr).call_text(&["CLUSTER", "NODES"]);
        nodes.lines().find(|line| line.contains("myself")).unwrap().to_string()
    };
    let lines: Vec<(SocketAddr, String)> = addrs.iter().map(|addr| (*addr, own_line(*addr))).collect();
    let place = |id: &str| lines.iter().find(|(_, line)| line.starts_with(id)).map(|(addr, _)| *addr);
    lines
        .iter()
        .map(|(addr, line)| {
            let words: Vec<&str> = line.split(' ').collect();
            let mut node = Client::connect(*addr);
            let settings = SETTINGS.iter().map(|name| setting(&mut node, name)).collect();
            (*addr, (words[8..].join(" "), place(words[3]), settings))
        })
        .collect()
}

fn setting(node: &mut Client, name: &str) -> String {
    let reply = node.call_text(&["CONFIG", "GET", name]);
    format!("{name} {}", reply.trim_end().lines().next_back().unwrap())
}

/// Writes keys to the primary of each, which are `addrs` in the order of their slots.
fn fill(addrs: &[SocketAddr], count: usize) {
    let mut nodes: Vec<Client> = addrs.iter().map(|addr| Client::connect(*addr)).collect();
    for number in 0..count {
        let key = format!("key:{number}");
        let slot = slotgate::topology::Slot::of_key(key.as_bytes()).number();
        // 0-5460, 5461-10922, 10923-16383
        let owner = [5460, 10922, 16383].iter().position(|last| slot <= *last).unwrap();
        nodes[owner].send_raw(request(&["RPUSH", &key, &number.to_string(), "x"]));
        assert_eq!(nodes[owner].read(), b":2\r\n");
    }
}

fn quiet(mut command: Command) -> Command {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[track_caller]
fn expect_whole(any: SocketAddr, replicas: usize) {
    let mut seen = String::new();
    wait_until("nothing is wrong", || {
        let checked = run(&["check", &any.to_string(), "--replicas", &replicas.to_string()]);
        let is_whole = checked.status.success();
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        if !is_whole && text != seen {
            eprintln!("{text}");
            seen = text;
        }
        is_whole
    });
}

/// Each change up to this one, which no run does without, was the last one of some run.
#[track_caller]
fn expect_each(hit: &[u64], last: u64) {
    let missed: Vec<u64> = (1..=last).filter(|change| !hit.contains(change)).collect();
    assert!(missed.is_empty(), "no run was killed after {missed:?} changes, only after {hit:?}");
}

/// Empties the nodes and takes each out of its cluster.
fn reset(addrs: &[SocketAddr]) {
    for addr in addrs {
        let mut node = Client::connect(*addr);
        // A replica refuses, and is emptied by the reset.
        node.call_text(&["FLUSHALL"]);
        node.expect("CLUSTER RESET HARD", "+OK\r\n");
    }
    wait_until("all are alone", || {
        let is_alone = |addr: &SocketAddr| {
            Client::connect(*addr).call_text(&["CLUSTER", "NODES"]).matches(":").count() == 1
        };
        addrs.iter().all(is_alone)
    });
}

/// Does the same in several turns at once, each with nodes of its own: most of the time is spent waiting for
/// gossip.
fn in_turns(turns: usize, work: impl Fn(usize) -> Vec<u64> + Sync) -> Vec<u64> {
    thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..turns).map(|turn| scope.spawn(move || work(turn))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// Forms a cluster in runs that are killed after so many of the counted changes each, and then in one that
/// is not; the last numbers are those that were hit.
fn form_killed(turns: usize, most: u64, counted: fn(&str) -> bool) -> Vec<u64> {
    let form = |addrs: &[SocketAddr]| bootstrap(addrs, &["--yes", "--replicas", "1"]);
    in_turns(turns, |turn| {
        // Nobody but the program changes roles, however busy the machine is.
        let settings = [("repl-diskless-sync-delay", "5"), ("cluster-node-timeout", "30000")];
        let cluster = RealCluster::start_unformed_with(6, &settings);
        let addrs = cluster.addrs();
        let settings = shape(addrs);
        expect(&form(addrs).output().unwrap(), 0, "Done");
        let expected = shape(addrs);
        assert!(addrs.iter().all(|addr| expected[addr].2 == settings[addr].2), "{expected:?}");
        let mut changes = Changes::of(addrs).counting(counted);
        after_each(turn, turns, most, |limit| {
            reset(addrs);
            let ended = changes.run_until(quiet(form(addrs)), limit);
            expect(&form(addrs).output().unwrap(), 0, "");
            expect_whole(addrs[0], 1);
            assert_eq!(shape(addrs), expected, "killed after {limit} changes");
            ended
        })
    })
}

#[test]
fn a_cluster_is_formed_whichever_step_was_the_last_one_of_a_killed_run() {
    // How many contacts are needed beyond the first five, gossip decides.
    let (others, meets) = thread::scope(|scope| {
        let meets = scope.spawn(|| form_killed(1, 5, |name| name == "cluster|meet"));
        (form_killed(6, u64::MAX, |name| name != "cluster|meet"), meets.join().unwrap())
    });
    expect_each(&meets, 5);
    // Three delays lifted, six epochs, three ranges of slots, three replicas; the delays are set back all at
    // once.
    expect_each(&others, 15);
}

/// Three primaries without replicas that a busy machine does not unsettle, and more nodes that wait.
fn three_and(waiting: usize) -> RealCluster {
    let settings = [
        ("cluster-node-timeout", "10000"),
        ("enable-debug-command", "yes"),
        // A node that gave all its slots away stays a primary.
        ("cluster-allow-replica-migration", "no"),
    ];
    let cluster = RealCluster::start_unformed_with(3 + waiting, &settings);
    expect(&bootstrap(&cluster.addrs()[..3], &["--yes", "--replicas", "0"]).output().unwrap(), 0, "Done");
    cluster
}

/// Adds a node in runs that are killed after each change in turn, and then in one that is not.
fn add_killed(how: &[&str], least: u64) {
    let cluster = three_and(1);
    let addrs = cluster.addrs();
    let [existing, newcomer] = [addrs[0], addrs[3]].map(|addr| addr.to_string());
    let add = || slotgate(&[&["add", &newcomer, &existing, "--yes"], how].concat());
    let library = "#!lua name=lib\nredis.register_function('one', function() return 1 end)";
    for addr in &addrs[..3] {
        Client::connect(*addr).call(&["FUNCTION", "LOAD", library]);
    }
    expect(&add().output().unwrap(), 0, "Added");
    let expected = shape(addrs);
    let mut changes = Changes::of(addrs);
    let hit = after_each(0, 1, u64::MAX, |limit| {
        let id = Client::connect(addrs[3]).call_text(&["CLUSTER", "MYID"]);
        let id = id.lines().nth(1).unwrap();
        Client::connect(addrs[3]).call(&["FUNCTION", "FLUSH"]);
        reset(&addrs[3..]);
        for addr in &addrs[..3] {
            Client::connect(*addr).expect(&format!("CLUSTER FORGET {id}"), "+OK\r\n");
        }
        let ended = changes.run_until(quiet(add()), limit);
        expect(&add().output().unwrap(), 0, "");
        expect_whole(addrs[0], 0);
        assert_eq!(shape(addrs), expected, "killed after {limit} changes");
        wait_until("it has the functions", || {
            Client::connect(addrs[3]).call_text(&["FUNCTION", "LIST"]).contains("lib")
        });
        ended
    });
    expect_each(&hit, least);
}

#[test]
fn a_node_is_added_whichever_step_was_the_last_one_of_a_killed_run() {
    // Functions, epoch, contact.
    add_killed(&[], 3);
}

#[test]
fn a_replica_is_added_whichever_step_was_the_last_one_of_a_killed_run() {
    // Epoch, contact, role.
    add_killed(&["--replica-of", "auto"], 3);
}

#[test]
fn slots_are_moved_whichever_step_was_the_last_one_of_a_killed_run() {
    let turns = 3;
    let hit = in_turns(turns, |turn| {
        let cluster = three_and(1);
        let addrs = cluster.addrs();
        let names: Vec<String> = addrs.iter().map(SocketAddr::to_string).collect();
        expect(&run(&["add", &names[3], &names[0], "--yes"]), 0, "Added");
        fill(&addrs[..3], 5_000);
        let keys = digest(addrs);
        let before = shape(addrs);
        // So little weight that the steps can be counted: two or three slots.
        let weights: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(ix, name)| format!("{name}={}", if ix < 3 { 2000 } else { 1 }))
            .collect();
        let rebalance = || {
            let mut command = slotgate(&["rebalance", &names[0], "--yes", "--use-empty", "--threshold", "0"]);
            command.args(weights.iter().flat_map(|weight| ["--weight", weight]));
            command
        };
        let bounds = |range: &str| -> (u16, u16) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            (first.parse().unwrap(), last.parse().unwrap())
        };
        let back = || {
            let moved = shape(addrs)[&addrs[3]].0.clone();
            for (name, node) in names[..3].iter().zip(&addrs[..3]) {
                let own = bounds(&before[node].0);
                for range in moved.split(' ').filter(|range| !range.is_empty()).map(bounds) {
                    let (first, last) = (range.0.max(own.0), range.1.min(own.1));
                    if first <= last {
                        let slots = format!("{first}-{last}");
                        let words =
                            ["--from", &names[3], "--to", name, "--slots", &slots, &names[0], "--yes"];
                        expect(&run(&[&["move-slots"], &words[..]].concat()), 0, "");
                    }
                }
            }
            assert_eq!(shape(addrs), before);
        };
        expect(&rebalance().output().unwrap(), 0, "Moved");
        // Which slots are moved, a plan from the middle may choose otherwise; never how many.
        let sizes = || -> Vec<u16> {
            let size = |range: &str| bounds(range).1 - bounds(range).0 + 1;
            shape(addrs).values().map(|(slots, ..)| slots.split(' ').map(size).sum()).collect()
        };
        let expected = sizes();
        let mut changes = Changes::of(addrs);
        after_each(turn, turns, u64::MAX, |limit| {
            back();
            let ended = changes.run_until(quiet(rebalance()), limit);
            expect(&rebalance().output().unwrap(), 0, "");
            expect_whole(addrs[0], 0);
            assert_eq!(sizes(), expected, "killed after {limit} changes");
            assert_eq!(digest(addrs), keys, "killed after {limit} changes");
            ended
        })
    });
    // What is sent in one write cannot be told apart.
    assert!(hit.iter().max() >= Some(&10), "{hit:?}");
}
