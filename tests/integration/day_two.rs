//! The commands of the second day on real nodes: `failover`, `switch-all-from`, `status`, `doctor`, `call`,
//! `config set`, `set-timeout`; and how all of them, and `fix`, end on a bad day.

use super::support::program::{expect, run, slotgate, states};
use super::support::real_cluster::RealCluster;
use super::support::slot_move::{SlotMove, node_id};
use super::support::wait_until;
use slotgate::topology::Slot;
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Command, Output};

/// Nodes that nobody ends should not be taken for dead because the machine is busy.
const CALM: [(&str, &str); 1] = [("cluster-node-timeout", "60000")];

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

fn hosts() -> [Ipv4Addr; 3] {
    [11, 12, 13].map(|n| Ipv4Addr::new(127, 0, 0, n))
}

fn is_primary(cluster: &RealCluster, ix: usize) -> bool {
    cluster.client(ix).call_text(&["ROLE"]).contains("master")
}

#[test]
fn a_failover_changes_the_roles_that_were_named_and_nothing_else() {
    let cluster = RealCluster::start_with(&CALM);
    let addrs: Vec<String> = cluster.addrs().iter().map(ToString::to_string).collect();
    let before = states(cluster.addrs());

    let planned = run(&["failover", &addrs[0], &addrs[2], "--dry-run", "--output", "json"]);
    expect(&planned, 0, "planned");
    assert_eq!(json(&planned)["hand_overs"][0]["replica"], addrs[3].as_str());
    expect(&run(&["failover", &addrs[0], &addrs[2]]), 1, "Nothing was changed");
    expect(&run(&["failover", &addrs[0], &addrs[2], "--output", "json"]), 2, "--yes");
    expect(&run(&["failover", "ffff0000ffff", &addrs[2], "--yes"]), 2, "no node of this cluster");
    expect(&run(&["failover", "abc", &addrs[2], "--yes"]), 2, "at least 4");
    assert_eq!(states(cluster.addrs()), before, "so far nothing was changed");

    expect(&run(&["failover", &addrs[0], &addrs[2], "--yes"]), 0, "Done: all nodes agree");
    assert!(!is_primary(&cluster, 0) && is_primary(&cluster, 3));
    expect(&run(&["check", &addrs[1]]), 0, "Nothing is wrong");

    let id = node_id(&mut cluster.client(0));
    let done = run(&["failover", &id[..20], &addrs[5], "--yes", "--output", "json"]);
    expect(&done, 0, "done");
    assert_eq!(json(&done)["hand_overs"][0]["replica"], addrs[0].as_str());
    assert!(is_primary(&cluster, 0) && !is_primary(&cluster, 3));
    expect(&run(&["check", &addrs[1]]), 0, "Nothing is wrong");
}

#[test]
fn a_failover_that_could_lose_writes_is_refused() {
    let mut cluster = RealCluster::start_with(&CALM);
    let addrs: Vec<String> = cluster.addrs().iter().map(ToString::to_string).collect();
    cluster.kill(3);
    let refused = run(&["failover", &addrs[0], &addrs[2], "--yes"]);
    expect(&refused, 3, &format!("the primary {} has no replica that could take over", addrs[0]));
    expect(&run(&["failover", &addrs[3], &addrs[2], "--yes"]), 3, "cannot be asked");
    cluster.kill(1);
    expect(&run(&["failover", &addrs[4], &addrs[2], "--yes"]), 3, "could lose its last writes");
    assert!(!is_primary(&cluster, 4));
    cluster.kill(0);
    expect(&run(&["failover", &addrs[5], &addrs[2], "--yes"]), 3, "only 1 of 3 primaries are there to vote");
    assert!(is_primary(&cluster, 2));
}

#[test]
fn no_primary_is_left_on_a_host_that_is_switched_from() {
    let cluster = RealCluster::start_on_hosts(&hosts(), &[]);
    let addrs: Vec<String> = cluster.addrs().iter().map(ToString::to_string).collect();
    let there: Vec<usize> = (0..6).filter(|ix| is_primary(&cluster, *ix) && ix % 3 == 0).collect();
    assert_eq!(there, [0]);
    expect(&run(&["switch-all-from", "127.0.0.99", &addrs[1], "--yes"]), 2, "no node of this cluster");
    expect(&run(&["switch-all-from", "127.0.0.11", &addrs[1], "--yes"]), 0, "Done");
    assert!(!is_primary(&cluster, 0) && !is_primary(&cluster, 3));
    let again = run(&["switch-all-from", "127.0.0.11", &addrs[1], "--yes", "--output", "json"]);
    expect(&again, 0, "unchanged");
    expect(&run(&["check", &addrs[1]]), 0, "Nothing is wrong");
}

/// The findings of `doctor` above a hint: kind and commands.
fn findings(addr: &str) -> Vec<(String, Vec<String>)> {
    let report = json(&run(&["doctor", addr, "--output", "json"]));
    let findings = report["findings"].as_array().unwrap().iter();
    let above = findings.filter(|finding| finding["severity"] != "hint");
    above
        .map(|finding| {
            let repair = finding["repair"].as_array().unwrap().iter();
            let repair = repair.map(|command| command.as_str().unwrap().to_string()).collect();
            (finding["kind"].as_str().unwrap().to_string(), repair)
        })
        .collect()
}

fn has(findings: &[(String, Vec<String>)], kind: &str) -> bool {
    findings.iter().any(|(found, _)| found == kind)
}

/// Runs a command that doctor printed, as a person would.
#[track_caller]
fn repair(findings: &[(String, Vec<String>)], kind: &str) {
    let (_, commands) =
        findings.iter().find(|(found, _)| found == kind).unwrap_or_else(|| panic!("{findings:?}"));
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let output = match words[0] {
            "slotgate" => run(&words[1..]),
            program => Command::new(program).args(&words[1..]).output().unwrap(),
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && !text.contains("ERR"), "{command}: {text}");
    }
}

#[test]
fn status_and_doctor_find_nothing_in_a_healthy_cluster_and_what_is_wrong_in_another() {
    let mut cluster = RealCluster::start_on_hosts(&hosts(), &[]);
    let addrs: Vec<String> = cluster.addrs().iter().map(ToString::to_string).collect();
    let shown = run(&["status", &addrs[4]]);
    expect(&shown, 0, "Healthy: 3 shards, 6 nodes, all 16384 slots covered, 0 keys.");
    expect(&shown, 0, "5461-10922");
    expect(&run(&["doctor", &addrs[4]]), 0, "6 nodes looked at: nothing is wrong");

    // An address that is no longer true.
    cluster.client(1).expect("CONFIG SET cluster-announce-ip 127.0.0.99", "+OK\r\n");
    let mut found = Vec::new();
    wait_until("the stale address is found", || {
        found = findings(&addrs[1]);
        has(&found, "stale-own-address")
    });
    repair(&found, "stale-own-address");
    wait_until("the repair has healed it", || findings(&addrs[0]).is_empty());

    // Settings that were changed on one node.
    cluster.client(2).expect("CONFIG SET cluster-replica-no-failover yes", "+OK\r\n");
    let found = findings(&addrs[0]);
    assert!(has(&found, "no-automatic-failover") && has(&found, "settings-differ"), "{found:?}");

    cluster.kill(3);
    let found = findings(&addrs[0]);
    assert!(has(&found, "silent"), "{found:?}");
    expect(&run(&["doctor", &addrs[0]]), 1, &format!("ERROR: {} cannot be asked", addrs[3]));
    let status = run(&["status", &addrs[0], "--output", "json"]);
    expect(&status, 1, "NOT healthy");
    let status = json(&status);
    let shards = status["shards"].as_array().unwrap().iter();
    let mut members = shards.flat_map(|shard| shard["members"].as_array().unwrap());
    let lost = members.find(|member| member["address"] == addrs[3].as_str()).unwrap();
    assert_eq!((&lost["answers"], &lost["role"]), (&false.into(), &"replica".into()));
    expect(&run(&["status", &addrs[0]]), 1, "DOES NOT ANSWER");
}

#[test]
fn a_command_is_answered_by_the_nodes_that_were_meant() {
    let cluster = RealCluster::start_with(&CALM);
    let addrs: Vec<String> = cluster.addrs().iter().map(ToString::to_string).collect();
    expect(&run(&["call", &addrs[0], "--", "PING"]), 0, "All 6 answers are the same.");
    let output = run(&["call", "--only", "replicas", &addrs[0], "--output", "json", "--", "ROLE"]);
    let answers = json(&output)["answers"].as_array().unwrap().clone();
    assert!(answers.len() == 3 && answers.iter().all(|answer| answer["answer"][0] == "slave"), "{answers:?}");
    let output = run(&["call", "--only", "primaries", &addrs[4], "--output", "json", "--", "ROLE"]);
    let answers = json(&output)["answers"].as_array().unwrap().clone();
    assert!(
        answers.len() == 3 && answers.iter().all(|answer| answer["answer"][0] == "master"),
        "{answers:?}"
    );
    expect(
        &run(&["call", &addrs[0], "--", "CLUSTER", "MYID"]),
        0,
        "The answers differ, 6 kinds among 6 nodes",
    );
    expect(&run(&["call", &addrs[0], "--", "NOSUCH"]), 1, "(error) ERR unknown command");
    expect(&run(&["call", &addrs[0], "--", "INFO", "server"]), 0, "== ");
    assert_eq!(run(&["call", &addrs[0]]).status.code(), Some(2));
}

#[test]
fn a_setting_is_changed_on_all_nodes_and_outlives_a_restart() {
    let mut cluster = RealCluster::start_with(&CALM);
    let addrs: Vec<String> = cluster.addrs().iter().map(ToString::to_string).collect();
    let get = |cluster: &RealCluster, ix: usize| {
        cluster.client(ix).call_text(&["CONFIG", "GET", "cluster-node-timeout"])
    };
    expect(&run(&["set-timeout", "7000", &addrs[1], "--dry-run"]), 0, "60000");
    assert_eq!(run(&["set-timeout", "99", &addrs[1]]).status.code(), Some(2));
    assert!((0..6).all(|ix| get(&cluster, ix).contains("60000")));
    expect(&run(&["set-timeout", "7000", &addrs[1]]), 0, "Changed cluster-node-timeout on 6 nodes");
    cluster.restart(5);
    assert!((0..6).all(|ix| get(&cluster, ix).contains("7000")));

    expect(&run(&["config", "set", "maxmemory", "1gb", &addrs[1]]), 0, "1073741824");
    expect(&run(&["config", "set", "no-such-setting", "1", &addrs[1]]), 2, "nothing was changed");
    expect(&run(&["config", "set", "maxmemory-policy", "never", &addrs[1]]), 1, "No node took the new");
    expect(&run(&["config", "set", "requirepass", "hunter2", &addrs[1]]), 2, "standard input");
    cluster.kill(4);
    expect(&run(&["config", "set", "maxmemory", "2gb", &addrs[1]]), 1, "NOT ASKED");
}

/// Every command of the second day, as it would be given to this cluster.
fn commands(addr: &str) -> Vec<Vec<String>> {
    let all = [
        "status {}",
        "doctor {}",
        "fix {} --yes",
        "failover 12345678 {} --yes",
        "switch-all-from 127.0.0.1 {} --yes",
        "call {} -- PING",
        "config set maxmemory 0 {}",
        "set-timeout 5000 {}",
    ];
    all.iter().map(|command| command.replace("{}", addr).split(' ').map(str::to_string).collect()).collect()
}

/// Each of them ends like this.
#[track_caller]
fn all_end(addr: &str, password: Option<&str>, texts: &[&str]) {
    for command in commands(addr) {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let output =
            slotgate(&words).envs(password.map(|password| ("SLOTGATE_PASSWORD", password))).output().unwrap();
        for text in texts {
            expect(&output, 1, text);
        }
    }
}

#[test]
fn a_seed_that_is_dead_or_no_cluster_node_is_told_with_the_next_step() {
    let mut lone = RealCluster::start_standalone();
    let addr = lone.addrs()[0].to_string();
    all_end(
        &addr,
        None,
        &["no node of the cluster could be asked", "cluster support disabled", "cluster-enabled yes"],
    );
    lone.kill(0);
    all_end(&addr, None, &[&format!("cannot connect to {addr}"), "Start it, or name another node"]);
    all_end("no-such-host.invalid:6379", None, &["cannot look up no-such-host.invalid:6379"]);
    for command in commands("no-port") {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        expect(&run(&words), 2, "is not HOST:PORT");
    }
    expect(&run(&["fix", &addr, "--allow-data-loss", "16384"]), 2, "is not a slot");
}

#[test]
fn passwords_are_set_from_a_file_wanted_and_used_between_nodes() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let first = cluster.addrs()[0].to_string();
    let slot = Slot::of_key(b"{a}");
    let (owner, other) = (cluster.owner_of(slot), (cluster.owner_of(slot) + 1) % 3);
    cluster.client(owner).expect("SET {a}:1 1", "+OK\r\n");
    SlotMove::begin(&cluster, "{a}", other);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "hunter2\n").unwrap();
    for setting in ["masterauth", "requirepass"] {
        let mut command = slotgate(&["config", "set", setting, "-", &first]);
        let output = command.stdin(File::open(&file).unwrap()).output().unwrap();
        expect(&output, 0, "Changed");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("hunter2"));
    }
    all_end(&first, None, &["NOAUTH", "SLOTGATE_PASSWORD"]);
    all_end(&first, Some("wrong"), &["WRONGPASS", "check the password"]);
    // Keys move between nodes that want the password of each other.
    let path = file.to_str().unwrap();
    expect(&run(&["fix", &first, "--yes", "--password-file", path]), 0, "Done");
    expect(&run(&["status", &first, "--password-file", path]), 0, "Healthy");
    let mut holder = cluster.client(other);
    holder.expect("AUTH hunter2", "+OK\r\n");
    holder.expect("GET {a}:1", "$1\r\n1\r\n");
}

#[test]
fn with_half_of_the_nodes_down_the_others_are_shown_and_nothing_is_made_worse() {
    let mut cluster = RealCluster::start_with(&CALM);
    let addrs: Vec<String> = cluster.addrs().iter().map(ToString::to_string).collect();
    for ix in [0, 1, 5] {
        cluster.kill(ix);
    }
    let before = states(&cluster.addrs()[2..5]);
    expect(&run(&["status", &addrs[2]]), 1, "DOES NOT ANSWER");
    expect(&run(&["doctor", &addrs[3]]), 1, "1 of 3 primaries answer");
    expect(&run(&["fix", &addrs[2], "--yes"]), 1, "No slot is open");
    expect(&run(&["failover", &addrs[3], &addrs[2], "--yes"]), 3, "no majority");
    expect(&run(&["switch-all-from", "127.0.0.1", &addrs[2], "--yes"]), 3, "nothing was changed");
    expect(&run(&["call", &addrs[4], "--", "PING"]), 1, "NOT ASKED");
    assert_eq!(states(&cluster.addrs()[2..5]), before);
}
