//! `slotgate bootstrap` and `check` on real nodes.

use super::support::one_line::OneLine;
use super::support::program::{bootstrap, expect, run, states};
use super::support::real_cluster::RealCluster;
use super::support::wait_until;
use std::net::SocketAddr;
use std::process::ExitStatus;

#[test]
fn lone_nodes_become_a_whole_cluster_once_and_check_sees_what_dies() {
    let mut cluster = RealCluster::start_unformed(6);
    let addrs = cluster.addrs().to_vec();
    let first = addrs[0].to_string();
    expect(&bootstrap(&addrs, &["--dry-run"]).output().unwrap(), 0, "give slots 5461-10922 to");
    expect(&bootstrap(&addrs, &[]).output().unwrap(), 1, "Nothing was changed");
    assert!(states(&addrs).iter().all(|lines| lines.len() == 1), "a dry run and a refusal change nothing");
    expect(&run(&["check", &first]), 1, "no node owns the slots 0-16383");

    expect(&bootstrap(&addrs, &["--yes"]).output().unwrap(), 0, "Done: 6 nodes agree");
    expect(&run(&["check", &addrs[5].to_string()]), 0, "Nothing is wrong: 6 nodes agree");
    for (replica, primary) in [(3, 0), (4, 1), (5, 2)] {
        let info = cluster.client(replica).call_text(&["INFO", "replication"]);
        assert!(info.contains(&format!("master_port:{}\r", addrs[primary].port())), "{info}");
    }

    let before = states(&addrs);
    expect(&bootstrap(&addrs, &["--yes"]).output().unwrap(), 0, "nothing was changed");
    let again = bootstrap(&addrs, &["--yes", "--output", "json"]).output().unwrap();
    expect(&again, 0, "\"unchanged\"");
    assert_eq!(states(&addrs), before);

    cluster.kill(4);
    let output = run(&["check", &first, "--output", "json"]);
    expect(&output, 1, "\"silent\"");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["healthy"], report["nodes"].as_array().unwrap().len()), (&false.into(), 5));
    assert_eq!(run(&["check"]).status.code(), Some(2));
    assert_eq!(run(&["check", "no-port"]).status.code(), Some(2));
}

#[test]
fn primaries_are_spread_over_zones_and_replicas_kept_out_of_their_primarys() {
    let cluster = RealCluster::start_like_pods(6, 31);
    let addrs = cluster.addrs();
    let zones = |of: [&str; 6]| -> Vec<String> {
        let named = addrs.iter().zip(of).map(|(addr, zone)| format!("{addr}={zone}"));
        named.flat_map(|zone| ["--zone".to_string(), zone]).collect()
    };
    let pairs = ["a", "a", "b", "b", "c", "c"];
    let formed = bootstrap(addrs, &["--yes", "--output", "json"]).args(zones(pairs)).output().unwrap();
    expect(&formed, 0, "formed");
    let plan: serde_json::Value = serde_json::from_slice(&formed.stdout).unwrap();
    assert_eq!(plan["plan"]["warnings"], serde_json::json!([]));
    let members = plan["plan"]["members"].as_array().unwrap();
    let place = |addr: &serde_json::Value| addrs.iter().position(|own| *addr == own.to_string().as_str());
    let primaries = members.iter().filter(|member| member["replica_of"].is_null());
    let primaries: Vec<_> = primaries.map(|member| place(&member["address"]).unwrap()).collect();
    assert_eq!(primaries, [0, 2, 4]);
    for member in members {
        if let Some(primary) = place(&member["replica_of"]) {
            assert_ne!(pairs[place(&member["address"]).unwrap()], pairs[primary], "{member}");
        }
    }
    let first = addrs[0].to_string();
    let doctor = |of: [&str; 6]| {
        let zones = zones(of);
        let words = ["doctor", &first].into_iter().chain(zones.iter().map(String::as_str));
        run(&words.collect::<Vec<_>>())
    };
    expect(&doctor(pairs), 0, "nothing is wrong");
    expect(&doctor(["a", "b", "a", "b", "c", "c"]), 1, "2 of 3 primaries are in the zone a");
    let unknown = bootstrap(addrs, &["--dry-run", "--zone", "127.0.0.1:1=a"]).output().unwrap();
    expect(&unknown, 2, "--zone names 127.0.0.1:1, where no node answers");
}

/// A run that is killed in its first step, or in the next one when it was `last`'s: that step, or its
/// status when it had none.
fn killed_in_a_step(addrs: &[SocketAddr], last: Option<&str>) -> Result<String, ExitStatus> {
    let (mut lines, writer) = OneLine::new();
    // The command, which holds the write end, is dropped at the end of this statement.
    let mut child = bootstrap(addrs, &["--yes"]).stdout(writer).spawn().unwrap();
    while let Some(line) = lines.peek() {
        if let Some((_, step)) = line.trim_end().split_once("] ")
            && Some(step) != last
        {
            child.kill().unwrap();
            child.wait().unwrap();
            return Ok(step.to_string());
        }
        lines.take();
    }
    Err(child.wait().unwrap())
}

#[test]
fn a_bootstrap_that_is_killed_in_every_step_is_finished_by_the_next() {
    let cluster = RealCluster::start_unformed(6);
    let addrs = cluster.addrs();
    let plan = bootstrap(addrs, &["--dry-run", "--output", "json"]).output().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let steps = plan["plan"]["actions"].as_array().unwrap();
    let mut killed_in: Vec<String> = Vec::new();
    let mut ended = None;
    wait_until("a run finds nothing left to do", || {
        match killed_in_a_step(addrs, killed_in.last().map(String::as_str)) {
            Ok(step) => killed_in.push(step),
            Err(status) => ended = Some(status),
        }
        ended.is_some()
    });
    assert!(ended.unwrap().success());
    assert_eq!(steps.len(), 17);
    for step in steps.iter().map(|step| step.as_str().unwrap()) {
        assert!(killed_in.iter().any(|killed| killed == step), "no run was killed in {step}: {killed_in:?}");
    }
    expect(&run(&["check", &addrs[0].to_string(), "--replicas", "1"]), 0, "Nothing is wrong");
}

#[test]
fn nodes_that_are_not_empty_are_refused_by_name_and_nothing_is_changed() {
    let cluster = RealCluster::start_unformed(8);
    let addrs = cluster.addrs();
    let mut with_key = cluster.client(4);
    with_key.expect("CLUSTER ADDSLOTSRANGE 0 16383", "+OK\r\n");
    wait_until("a lone node with all slots serves", || with_key.call_text(&["SET", "a", "1"]) == "+OK\r\n");
    with_key.expect("CLUSTER DELSLOTSRANGE 0 16383", "+OK\r\n");
    let port = addrs[6].port().to_string();
    assert_eq!(cluster.client(7).call_text(&["CLUSTER", "MEET", "127.0.0.1", &port]), "+OK\r\n");
    wait_until("two nodes are a cluster of their own", || {
        [6, 7].iter().all(|ix| {
            let nodes = cluster.client(*ix).call_text(&["CLUSTER", "NODES"]);
            nodes.matches(" connected").count() == 2 && !nodes.contains("handshake")
        })
    });
    wait_until("the two have epochs of their own", || {
        let epoch = |ix: usize| {
            let info = cluster.client(ix).call_text(&["CLUSTER", "INFO"]);
            info.lines().find_map(|line| line.strip_prefix("cluster_my_epoch:")?.parse::<u64>().ok()).unwrap()
        };
        epoch(6) != epoch(7)
    });

    let before = states(addrs);
    let refused = bootstrap(&addrs[..6], &["--yes"]).output().unwrap();
    expect(&refused, 3, &format!("{} is not empty: it holds 1 keys", addrs[4]));
    let foreign: Vec<SocketAddr> = [0, 1, 2, 3, 5, 6].map(|ix| addrs[ix]).to_vec();
    let refused = bootstrap(&foreign, &["--yes"]).output().unwrap();
    expect(
        &refused,
        3,
        &format!("{} is not empty: it already belongs to a cluster with {}", addrs[6], addrs[7]),
    );
    let refused = bootstrap(&addrs[..4], &["--yes"]).output().unwrap();
    expect(&refused, 3, "name 6 nodes");
    assert_eq!(states(addrs), before);
}
