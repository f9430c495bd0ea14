//! Bad input and bad days: each command on each day on which it must not go on. It says what is wrong and
//! what to do next, ends with the exit code that fits (1 something is wrong, 2 used wrongly, 3 refused), and
//! leaves the cluster as it was.

use super::support::program::{expect, run, slotgate};
use super::support::real_cluster::RealCluster;
use super::support::slot_move::node_id;
use super::support::wait_until;
use slotgate::topology::Slot;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Nodes that nobody ends should not be taken for dead because the machine is busy.
const CALM: (&str, &str) = ("cluster-node-timeout", "60000");

fn at(cluster: &RealCluster, ix: usize) -> String {
    cluster.addrs()[ix].to_string()
}

/// Runs what a person would type.
fn say(command: &str) -> std::process::Output {
    run(&command.split(' ').collect::<Vec<_>>())
}

/// What these nodes know of their cluster, but for times, links, and who is thought to be gone.
fn shape(addrs: &[SocketAddr]) -> Vec<Vec<String>> {
    let states = super::support::program::states(addrs);
    let calm = |line: String| line.replace(",fail?", "").replace(",fail", "");
    states.into_iter().map(|lines| lines.into_iter().map(calm).collect()).collect()
}

/// A backup of an empty cluster, for `restore` to begin with.
fn saved(cluster: &RealCluster) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("saved");
    expect(&say(&format!("backup {} {}", path.display(), at(cluster, 0))), 0, "Saved");
    (dir, path)
}

/// Every command, as it would be given to the cluster at `{}`; `spare` is a lone node, `source` a Redis.
fn commands(spare: &str, source: &str, saved: &Path) -> Vec<String> {
    let (old, new) = (saved.display(), saved.with_file_name("new"));
    vec![
        format!("bootstrap {{}} {spare} {source} --replicas 0 --yes"),
        "check {}".into(),
        "status {}".into(),
        "doctor {}".into(),
        "fix {} --yes".into(),
        format!("add {spare} {{}} --yes"),
        format!("remove {spare} {{}} --yes"),
        "rebalance {} --yes".into(),
        "move-slots --from 1234 --to 5678 --count 1 {} --yes".into(),
        format!("failover {spare} {{}} --yes"),
        "switch-all-from 127.0.0.1 {} --yes".into(),
        format!("backup {} {{}}", new.display()),
        format!("restore {old} {{}} --yes"),
        format!("import --from {source} {{}} --yes"),
        "call {} -- PING".into(),
        "config set maxmemory 1gb {}".into(),
        "set-timeout 5000 {}".into(),
    ]
}

#[test]
fn every_command_says_at_once_what_to_do_about_a_seed_that_is_no_use() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let (spare, lone) = (RealCluster::start_unformed(1), RealCluster::start_standalone());
    let (_dir, saved) = saved(&cluster);
    let (spare, source) = (at(&spare, 0), at(&lone, 0));
    let dead = "127.0.0.1:1".to_string();
    for ix in 0..3 {
        let mut node = cluster.client(ix);
        node.expect("CONFIG SET masterauth hunter2", "+OK\r\n");
        node.expect("CONFIG SET requirepass hunter2", "+OK\r\n");
    }
    let days: [(&str, &String, &str, &str); 4] = [
        ("a dead seed", &dead, "", "is it running, and is this its client port"),
        ("no cluster node", &source, "", "cluster-enabled yes"),
        ("no password", &at(&cluster, 0), "", "--password-file"),
        ("a wrong password", &at(&cluster, 0), "wrong", "--password-file"),
    ];
    for (day, seed, password, next_step) in days {
        for command in commands(&spare, &source, &saved) {
            let command = command.replace("{}", seed);
            let mut process = slotgate(&command.split(' ').collect::<Vec<_>>());
            if !password.is_empty() {
                process.env("SLOTGATE_PASSWORD", password);
            }
            println!("On the day of {day}: slotgate {command}");
            expect(&process.output().unwrap(), 1, next_step);
        }
    }
    assert!(!saved.with_file_name("new").exists(), "no backup was begun");
    let mut node = cluster.client(1);
    node.expect("AUTH hunter2", "+OK\r\n");
    assert!(node.call_text(&["CONFIG", "GET", "maxmemory"]).contains("\r\n0\r\n"));
    assert!(node.call_text(&["CLUSTER", "INFO"]).contains("cluster_known_nodes:3"));
}

#[test]
fn with_half_of_the_nodes_down_every_command_says_so_and_changes_no_role_and_no_slot() {
    let mut cluster = RealCluster::start_with(&[CALM]);
    let (spare, source) = (RealCluster::start_unformed(1), RealCluster::start_standalone());
    let (_dir, saved) = saved(&cluster);
    let all: Vec<String> = cluster.addrs().iter().map(ToString::to_string).collect();
    for ix in [0, 1, 5] {
        cluster.kill(ix);
    }
    let before = shape(&cluster.addrs()[2..5]);
    let (old, new) = (saved.display(), saved.with_file_name("new"));
    let (any, replica, last) = (&all[2], &all[4], &all[2]);
    let whole = all.join(" ");
    for (command, code, next_step) in [
        (format!("bootstrap {whole} --yes"), 1, "Start it, or name another node"),
        (format!("check {any}"), 1, "says how to repair it"),
        (format!("status {any}"), 1, "says how to repair it"),
        (format!("doctor {any}"), 1, "1 of 3 primaries answer"),
        (format!("fix {any} --yes"), 1, "how to repair it"),
        (format!("add {} {any} --yes --timeout 1s", at(&spare, 0)), 3, "'slotgate doctor' says how"),
        (format!("remove {replica} {any} --yes --timeout 1s"), 3, "does not answer"),
        (format!("remove {last} {any} --yes --timeout 1s"), 3, "does not answer"),
        (format!("rebalance {any} --yes --timeout 1s"), 3, "'slotgate doctor' says how"),
        (
            format!("move-slots --from {last} --to {} --count 1 {any} --yes --timeout 1s", all[0]),
            3,
            "'slotgate doctor'",
        ),
        (format!("failover {replica} {any} --yes"), 3, "bring more of them up first"),
        (format!("switch-all-from 127.0.0.1 {any} --yes"), 3, "nothing was changed"),
        (format!("backup {} {any}", new.display()), 3, "'slotgate doctor'"),
        (format!("restore {old} {any} --yes"), 3, "'slotgate doctor'"),
        (format!("import --from {} {any} --yes", at(&source, 0)), 1, "'slotgate doctor'"),
        (format!("call {any} -- PING"), 1, "NOT ASKED"),
        (format!("config set maxmemory 0 {any}"), 1, "run this again when it answers"),
        (format!("set-timeout 60000 {any}"), 1, "run this again when it answers"),
    ] {
        println!("slotgate {command}");
        expect(&say(&command), code, next_step);
    }
    assert_eq!(shape(&cluster.addrs()[2..5]), before);
    assert!(!new.exists(), "no backup was begun");
}

#[test]
fn a_node_of_another_cluster_and_one_with_keys_are_left_alone_by_every_command() {
    let (ours, theirs) = (RealCluster::start_without_replicas(&[]), RealCluster::start_without_replicas(&[]));
    let with_key = RealCluster::start_unformed(1);
    let mut node = with_key.client(0);
    node.expect("CLUSTER ADDSLOTSRANGE 0 16383", "+OK\r\n");
    wait_until("a lone node with all slots serves", || node.call_text(&["SET", "a", "1"]) == "+OK\r\n");
    node.expect("CLUSTER DELSLOTSRANGE 0 16383", "+OK\r\n");
    let before = (shape(ours.addrs()), shape(theirs.addrs()), shape(with_key.addrs()));
    let (our, second, their, full) = (at(&ours, 0), at(&ours, 1), at(&theirs, 0), at(&with_key, 0));
    for (command, code, text) in [
        (format!("add {their} {our} --yes"), 3, "belongs to a cluster with 2 others"),
        (format!("add {their} {our} --replica-of auto --yes"), 3, "Only an empty node may join"),
        (format!("add {full} {our} --yes"), 3, "holds 1 keys. Only an empty node may join"),
        (format!("bootstrap {our} {second} {their} --replicas 0 --yes"), 3, "already belongs to a cluster"),
        (format!("bootstrap {our} {second} {full} --replicas 0 --yes"), 3, "is not empty"),
        (format!("remove {their} {our} --yes"), 2, "is no node of this cluster; 'slotgate status"),
        (format!("failover {their} {our} --yes"), 2, "is no node of this cluster; 'slotgate status"),
        (format!("move-slots --from {their} --to {our} --count 1 {our} --yes"), 2, "no primary is called"),
        (format!("rebalance --weight {their}=0 {our} --yes"), 2, "no primary is called"),
        // Both named as if they were one.
        (format!("rebalance --use-empty {our} {their} --yes --timeout 1s"), 3, "'slotgate doctor' says how"),
        (format!("fix {our} {their} --yes"), 1, "Nothing was changed"),
        (format!("check {our} {their}"), 1, "says how to repair it"),
    ] {
        println!("slotgate {command}");
        expect(&say(&command), code, text);
    }
    assert_eq!((shape(ours.addrs()), shape(theirs.addrs()), shape(with_key.addrs())), before);
    node.expect("CLUSTER ADDSLOTSRANGE 0 16383", "+OK\r\n");
    wait_until("its key is there", || node.call_text(&["GET", "a"]) == "$1\r\n1\r\n");
}

#[test]
fn too_few_nodes_for_the_replicas_that_were_wished_are_refused_and_missing_ones_are_told() {
    let lone = RealCluster::start_unformed(5);
    let named: Vec<String> = lone.addrs().iter().map(ToString::to_string).collect();
    let named = named.join(" ");
    expect(&say(&format!("bootstrap {named} --yes")), 3, "name 6 nodes or more");
    expect(&say(&format!("bootstrap {named} --replicas 2 --yes")), 3, "ask for fewer replicas");
    assert!(shape(lone.addrs()).iter().all(|lines| lines.len() == 1));
    expect(&say(&format!("bootstrap {named} --replicas 0 --yes")), 0, "Done");
    let any = at(&lone, 0);
    expect(&say(&format!("check {any} --replicas 1")), 1, "has 0 replicas in order, not 1");
    expect(&say(&format!("doctor {any} --replicas 1")), 1, "slotgate add");
}

#[test]
fn no_move_begins_that_would_overload_the_memory_of_its_target() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let any = at(&cluster, 0);
    let mut first = cluster.client(0);
    let value = "x".repeat(1000);
    let ours =
        (0..).map(|ix| format!("key:{ix}")).filter(|key| cluster.owner_of(Slot::of_key(key.as_bytes())) == 0);
    for key in ours.take(300) {
        assert_eq!(first.call_text(&["SET", &key, &value]), "+OK\r\n");
    }
    for ix in [1, 2] {
        cluster.client(ix).expect("CONFIG SET maxmemory 1mb", "+OK\r\n");
    }
    let before = shape(cluster.addrs());
    for command in [
        format!("rebalance --weight {any}=0 {any} --yes"),
        format!("move-slots --from {any} --to {} --slots 0-5460 {any} --yes", at(&cluster, 1)),
        format!("remove {any} {any} --allow-few-primaries --yes"),
    ] {
        println!("slotgate {command}");
        expect(&say(&command), 3, "raise its maxmemory");
    }
    assert_eq!(shape(cluster.addrs()), before);
    first.expect("DBSIZE", ":300\r\n");
}

#[test]
fn a_node_whose_disk_is_full_is_told_and_its_cluster_is_not_changed_until_it_can_write() {
    let settings = [("enable-protected-configs", "yes"), ("save", "3600 1"), ("appendonly", "no")];
    let cluster = RealCluster::start_without_replicas(&settings);
    let (any, other) = (at(&cluster, 0), at(&cluster, 2));
    let spare = RealCluster::start_unformed(1);
    let mut node = cluster.client(1);
    let dir = node.call_text(&["CONFIG", "GET", "dir"]);
    let dir = dir.lines().last().unwrap().to_string();
    // Nobody can write there, as on a disk without room.
    node.expect("CONFIG SET dir /proc", "+OK\r\n");
    node.call(&["BGSAVE"]);
    wait_until("the save has failed", || {
        node.call_text(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:err")
    });
    let before = shape(cluster.addrs());
    for (command, code, text) in [
        (format!("status {any}"), 1, "could not write its data to disk"),
        (format!("doctor {any}"), 1, "BGSAVE"),
        (format!("move-slots --from {any} --to {other} --count 10 {any} --yes"), 3, "Make room on its disk"),
        (format!("rebalance --weight {any}=0 {any} --yes"), 3, "Make room on its disk"),
        (format!("add {} {any} --yes", at(&spare, 0)), 3, "Make room on its disk"),
        (format!("remove {other} {any} --allow-few-primaries --yes"), 3, "Make room on its disk"),
    ] {
        println!("slotgate {command}");
        expect(&say(&command), code, text);
    }
    assert_eq!(shape(cluster.addrs()), before);
    assert_eq!(shape(spare.addrs())[0].len(), 1);

    assert_eq!(node.call_text(&["CONFIG", "SET", "dir", &dir]), "+OK\r\n");
    wait_until("a save has worked", || {
        node.call(&["BGSAVE"]);
        node.call_text(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:ok")
    });
    let moved = say(&format!("move-slots --from {any} --to {other} --count 10 {any} --yes"));
    expect(&moved, 0, "Moved 10 slots");
}

#[test]
fn a_key_that_cannot_be_saved_for_want_of_room_is_not_given_up() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let slot = Slot::of_key(b"a");
    let (owner, other) = (cluster.owner_of(slot), (cluster.owner_of(slot) + 1) % 3);
    let (mut holder, mut importer) = (cluster.client(owner), cluster.client(other));
    holder.expect("SET a kept", "+OK\r\n");
    let id = node_id(&mut holder);
    importer.expect(&format!("CLUSTER SETSLOT {slot} IMPORTING {id}"), "+OK\r\n");
    importer.expect("ASKING", "+OK\r\n");
    importer.expect("SET a lost", "+OK\r\n");
    // A file on a disk without room.
    let fix = format!("fix {} --yes --allow-data-loss {slot} --save-to /dev/full", at(&cluster, 0));
    expect(&say(&fix), 1, "Run the same command again");
    expect(&say(&fix), 1, "/dev/full");
    importer.expect("ASKING", "+OK\r\n");
    importer.expect("GET a", "$4\r\nlost\r\n");
    holder.expect("GET a", "$4\r\nkept\r\n");
}
