//! Ctrl-C in the middle: every command that changes a cluster ends after the step under way, leaves nothing
//! half-way, and says how to go on; and that is how it goes on.

use super::support::client::{Client, request};
use super::support::one_line::OneLine;
use super::support::program::{bootstrap, expect, run, slotgate};
use super::support::real_cluster::RealCluster;
use super::support::slot_move::SlotMove;
use super::support::wait_until;
use slotgate::topology::Slot;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

/// Nodes that nobody ends should not be taken for dead because the machine is busy.
const CALM: (&str, &str) = ("cluster-node-timeout", "60000");

fn at(cluster: &RealCluster, ix: usize) -> String {
    cluster.addrs()[ix].to_string()
}

/// What Ctrl-C sends.
fn press_ctrl_c(child: &Child) {
    // SAFETY: `kill` touches no memory; the child is not waited for yet, so its id is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
}

/// Runs it, presses Ctrl-C while it is at the line that contains `step`, and gives all that it said.
#[track_caller]
fn interrupt(command: Command, step: &str) -> String {
    let (said, code) = press_at(command, step);
    assert_eq!(code, Some(1), "{said}");
    said
}

/// The same, with the exit code: a quick step may be the last one before Ctrl-C is heard.
#[track_caller]
fn press_at(mut command: Command, step: &str) -> (String, Option<i32>) {
    let (mut lines, writer) = OneLine::new();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    // It holds the write end.
    drop(command);
    let (mut said, mut is_pressed) = (String::new(), false);
    while let Some(line) = lines.peek() {
        if !is_pressed && line.contains(step) {
            press_ctrl_c(&child);
            is_pressed = true;
        }
        said += &line;
        lines.take();
    }
    let status = child.wait().unwrap();
    assert!(is_pressed, "it never came to {step:?}:\n{said}");
    (said, status.code())
}

#[track_caller]
fn contains(said: &str, text: &str) {
    assert!(said.contains(text), "{text:?} is missing in\n{said}");
}

#[test]
fn a_cluster_that_is_being_formed_is_finished_by_the_same_command() {
    let cluster = RealCluster::start_unformed_with(6, &[("repl-diskless-sync-delay", "7")]);
    let form = || bootstrap(cluster.addrs(), &["--yes"]);
    let said = interrupt(form(), "[3/17]");
    contains(&said, "Finishing what is under way");
    contains(&said, "no step was left half-way. To go on from here, run the same command again");
    assert!(!said.contains("[17/17]"), "{said}");
    // While it waits for the nodes to know each other, the contacts are under way.
    let said = interrupt(form(), "Waiting for all nodes to know each other");
    contains(&said, "run the same command again");
    expect(&form().output().unwrap(), 0, "Done");
    expect(&run(&["check", &at(&cluster, 0), "--replicas", "1"]), 0, "Nothing is wrong");
    // What bootstrap changes for a while is put back at every end.
    for ix in 0..6 {
        let delay = cluster.client(ix).call_text(&["CONFIG", "GET", "repl-diskless-sync-delay"]);
        assert!(delay.contains("\r\n7\r\n"), "{delay}");
    }
}

#[test]
fn a_node_that_is_being_added_is_a_member_after_the_same_command() {
    let cluster = RealCluster::start_unformed_with(4, &[CALM]);
    expect(&bootstrap(&cluster.addrs()[..3], &["--yes", "--replicas", "0"]).output().unwrap(), 0, "Done");
    let (first, new) = (at(&cluster, 0), at(&cluster, 3));
    let said = loop {
        match press_at(slotgate(&["add", &new, &first, "--yes"]), "[1/2]") {
            (said, Some(1)) => break said,
            // It was a member before Ctrl-C was heard: once more from the start.
            (said, code) => assert_eq!(code, Some(0), "{said}"),
        }
        expect(&run(&["remove", &new, &first, "--yes"]), 0, "");
    };
    contains(&said, "To go on from here, run the same command again");
    expect(&run(&["add", &new, &first, "--yes"]), 0, &new);
    expect(&run(&["check", &first, "--replicas", "0"]), 0, "Nothing is wrong: 4 nodes agree");
}

#[test]
fn open_slots_are_settled_one_by_one_and_the_rest_by_the_same_command() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let first = at(&cluster, 0);
    let keys = ["{a}:1", "{b}:1", "{c}:1"];
    for key in keys {
        let owner = cluster.owner_of(Slot::of_key(key.as_bytes()));
        cluster.client(owner).expect(&format!("SET {key} {key}"), "+OK\r\n");
        SlotMove::begin(&cluster, key, (owner + 1) % 3);
    }
    let fix = ["fix", &first, "--yes"];
    let said = interrupt(slotgate(&fix), "[1/3]");
    contains(&said, "no step was left half-way. To go on from here, run the same command again");
    assert!(!said.contains("[3/3]"), "{said}");
    expect(&run(&fix), 0, "Done");
    expect(&run(&["check", &first]), 0, "Nothing is wrong");
    for key in keys {
        let owner = cluster.owner_of(Slot::of_key(key.as_bytes()));
        cluster.client(owner).expect(&format!("GET {key}"), &format!("${}\r\n{key}\r\n", key.len()));
    }
}

#[test]
fn of_several_hand_overs_the_one_under_way_is_finished_and_the_others_are_left() {
    let hosts = [21, 22].map(|n| Ipv4Addr::new(127, 0, 0, n));
    let cluster = RealCluster::start_on_hosts(&hosts, &[]);
    let away = ["switch-all-from", "127.0.0.21", &at(&cluster, 1), "--yes"];
    let is_primary = |ix: usize| cluster.client(ix).call_text(&["ROLE"]).contains("master");
    assert_eq!((0..6).map(is_primary).collect::<Vec<_>>(), [true, true, true, false, false, false]);
    let said = interrupt(slotgate(&away), "[1/2]");
    contains(&said, "1 took over, 1 did not begin. To go on with those, run the same command again");
    let there = [0, 2, 4].into_iter().filter(|ix| is_primary(*ix)).count();
    assert_eq!(there, 1);
    expect(&run(&away), 0, "Done");
    assert!(![0, 2, 4].into_iter().any(is_primary));

    // A single one is not to be repeated: that would turn it back.
    let primary = at(&cluster, 1);
    let said = interrupt(slotgate(&["failover", &primary, &primary, "--yes"]), "[1/1]");
    contains(&said, "nothing is left to do: 'slotgate check");
    assert!(!said.contains("run the same command again"), "{said}");
    assert!(!is_primary(1) && is_primary(4));
    wait_until("all agree", || run(&["check", &at(&cluster, 0)]).status.success());
}

/// Of the move that is interrupted.
const KEYS: usize = 150_000;

#[test]
fn slots_that_are_being_moved_are_moved_whole_and_the_rest_by_the_command_that_it_says() {
    // A primary without slots stays one.
    let cluster = RealCluster::start_without_replicas(&[("cluster-allow-replica-migration", "no")]);
    let (from, to) = (at(&cluster, 0), at(&cluster, 1));
    let ours = (0..).map(|ix| format!("key:{ix}"));
    let ours = ours.filter(|key| Slot::of_key(key.as_bytes()).number() < 5461);
    let mut source = cluster.client(0);
    // Many times what is under way at once.
    let ours: Vec<String> = ours.take(KEYS).collect();
    for some in ours.chunks(1000) {
        source.send_raw(some.iter().flat_map(|key| request(&["SET", key, "value"])).collect::<Vec<u8>>());
        assert!(some.iter().all(|_| source.read() == b"+OK\r\n"));
    }
    let begun = || cluster.client(0).call_text(&["CLUSTER", "NODES"]).contains("->-");
    let stopped = |args: &[&str]| {
        let mut command = slotgate(args);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("the first slots are on their way", begun);
        press_ctrl_c(&child);
        child.wait_with_output().unwrap()
    };
    let check = ["check", &from, "--replicas", "0"];
    let rebalance = ["rebalance", "--weight", &format!("{from}=0"), &from, "--yes"];
    expect(&stopped(&rebalance), 1, "no slot was left half-way. To go on: run the same command again");
    expect(&run(&check), 0, "Nothing is wrong");
    assert_ne!(source.call_text(&["DBSIZE"]), ":0\r\n");

    let left = stopped(&["move-slots", "--from", &from, "--to", &to, "--count", "1000", &from, "--yes"]);
    expect(&left, 1, "no slot was left half-way");
    let said = String::from_utf8_lossy(&left.stderr).into_owned();
    let go_on = said.lines().find_map(|line| line.split_once("To go on: slotgate ")).expect("it says how").1;
    let go_on: Vec<&str> = go_on.split(' ').chain(["--yes"]).collect();
    expect(&run(&go_on), 0, "Moved");
    expect(&run(&rebalance), 0, "Moved");
    expect(&run(&check), 0, "Nothing is wrong");
    source.expect("DBSIZE", ":0\r\n");
    let keys = |ix: usize| cluster.client(ix).call_text(&["DBSIZE"])[1..].trim().parse::<u64>().unwrap();
    assert_eq!(keys(1) + keys(2), KEYS as u64);
}

#[test]
fn a_backup_leaves_no_folder_and_a_restore_is_gone_on_with() {
    // A node that waits for other replicas before it sends its data gives time to press.
    let waits = [("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "600")];
    let cluster = RealCluster::start_without_replicas(&waits);
    let mut nodes: Vec<Client> = (0..3).map(|ix| cluster.client(ix)).collect();
    for (ix, node) in nodes.iter_mut().enumerate() {
        let ours = (0..).map(|n| format!("key:{n}"));
        let ours = ours.filter(|key| cluster.owner_of(Slot::of_key(key.as_bytes())) == ix);
        for key in ours.take(50) {
            node.expect(&format!("SET {key} 1"), "+OK\r\n");
        }
    }
    let any = at(&cluster, 0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    let backup = ["backup", path.to_str().unwrap(), &any];
    let quiet = |args: &[&str]| {
        let mut command = slotgate(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let child = quiet(&backup);
    wait_until("the nodes are asked for their data", || {
        nodes.iter_mut().all(|node| node.call_text(&["INFO", "replication"]).contains("connected_slaves:1"))
    });
    press_ctrl_c(&child);
    let output = child.wait_with_output().unwrap();
    expect(&output, 1, "there is no backup, and what was written has been removed");
    assert!(!path.exists());
    for node in &mut nodes {
        node.expect("CONFIG SET repl-diskless-sync-delay 0", "+OK\r\n");
    }
    expect(&run(&backup), 0, "Saved 150 keys");

    for node in &mut nodes {
        node.expect("FLUSHALL", "+OK\r\n");
    }
    // One takes no writes for now.
    nodes[1].expect("CLIENT PAUSE 600000 WRITE", "+OK\r\n");
    let child = quiet(&["restore", path.to_str().unwrap(), &any, "--yes"]);
    wait_until("the others have their keys", || {
        [0, 2].iter().all(|ix| nodes[*ix].call_text(&["DBSIZE"]) == ":50\r\n")
    });
    press_ctrl_c(&child);
    let output = child.wait_with_output().unwrap();
    expect(&output, 1, "What was restored until then stays; to go on, run it again with --replace");
    nodes[1].expect("CLIENT UNPAUSE", "+OK\r\n");
    expect(&run(&["restore", path.to_str().unwrap(), &any, "--yes", "--replace"]), 0, "150 keys");
    assert!(nodes.iter_mut().all(|node| node.call_text(&["DBSIZE"]) == ":50\r\n"));
}
