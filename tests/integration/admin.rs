//! What operators see of a running gateway: probes, metrics, the topology, and its end.

use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, shared};
use crate::support::wait_until;
use slotgate::telemetry::table::TABLE;
use std::net::TcpListener;
use std::process::{Command, Output};

fn slotgate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_slotgate")).args(args).output().expect("the built binary starts")
}

#[test]
fn every_metric_of_the_table_is_served_with_help_and_type() {
    let gateway = Gateway::start(shared());
    let (status, text) = gateway.admin_get("/metrics");
    assert_eq!(status, 200);
    for metric in TABLE {
        let kind = format!("# TYPE {} {}\n", metric.name, metric.kind.as_str());
        let help = format!("# HELP {} ", metric.name);
        assert!(text.contains(&kind) && text.contains(&help), "{} is missing in\n{text}", metric.name);
    }
    let has = |line: &str| text.lines().any(|have| have.starts_with(line));
    assert!(has("slotgate_slots_served 16384"), "{text}");
    assert!(has("slotgate_topology_age_seconds "), "{text}");
    for addr in shared() {
        let is_told = |line: &str| line.contains(&format!("addr=\"{addr}\"")) && line.ends_with(" 1");
        let told: Vec<&str> = text.lines().filter(|line| is_told(line)).collect();
        assert!(told.len() == 1 && told[0].contains("health=\"ok\""), "{addr}: {told:?}");
    }
}

#[test]
fn the_topology_is_told_as_the_cluster_is() {
    let gateway = Gateway::start(shared());
    let (status, text) = gateway.admin_get("/api/topology");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 200);
    assert_eq!(report["is_ready"], true);
    let shards = report["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 3, "{text}");
    let slots: u64 = shards.iter().map(|shard| shard["slot_count"].as_u64().unwrap()).sum();
    assert_eq!(slots, 16384);
    assert!(shards.iter().all(|shard| shard["replicas"].as_array().unwrap().len() == 1), "{text}");
}

#[test]
fn without_a_cluster_it_is_alive_and_says_why_it_is_not_ready() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start_unready(&[nobody], &[]);
    assert_eq!(gateway.admin_get("/livez").0, 200);
    let mut reason = String::new();
    wait_until("the reason names the seed that does not answer", || {
        let (status, text) = gateway.admin_get("/readyz");
        assert_eq!(status, 503);
        reason = text;
        reason.contains(&nobody.to_string())
    });
    assert!(reason.starts_with("not ready: no node of the cluster has answered yet"), "{reason}");
}

#[test]
fn a_failed_primary_that_nobody_replaces_makes_it_unready_by_name() {
    let settings = [("cluster-node-timeout", "1000"), ("cluster-replica-no-failover", "yes")];
    let mut cluster = RealCluster::start_with(&settings);
    let gateway = Gateway::start_with(cluster.addrs(), &["--refresh", "200ms"]);
    let lost = cluster.addrs()[0];
    cluster.kill(0);
    wait_until("/readyz names the lost primary", || {
        let (status, reason) = gateway.admin_get("/readyz");
        status == 503 && reason.contains(&format!("at {lost} is held for failed and still owns slots 0-5460"))
    });
    assert_eq!(gateway.admin_get("/readyz/any").0, 200, "two shards live");
    let (_, text) = gateway.admin_get("/metrics");
    assert!(
        text.contains("\nslotgate_ready 0\n") && text.contains("\nslotgate_slots_covered 16384\n"),
        "{text}"
    );
    cluster.restart(0);
    wait_until("/readyz is content again", || gateway.admin_get("/readyz").0 == 200);
}

#[test]
fn a_signal_ends_it_in_good_order() {
    let mut gateway = Gateway::start(shared());
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log());
    assert!(gateway.log().contains("\"message\":\"drained\""), "{}", gateway.log());
}

#[test]
fn a_port_in_use_is_named_with_the_flag_that_gives_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (used, free) in [("--listen", "--admin"), ("--admin", "--listen")] {
        let output = slotgate(&["serve", "--seed", "127.0.0.1:1", used, &taken, free, "127.0.0.1:0"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(&taken) && error.contains(used), "{error}");
    }
}

#[test]
fn explain_names_the_node_that_the_cluster_names() {
    let gateway = Gateway::start(shared());
    let (_, text) = gateway.admin_get("/api/topology");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    // Slot 8000 is in the middle third.
    let shards = report["shards"].as_array().unwrap();
    let owner = shards.iter().find(|shard| shard["slots"][0] == "5461-10922").unwrap();

    let seed = shared()[0].to_string();
    let words = ["explain", "--seed", &seed, "--output", "json", "SET", "user:{42}:name", "x"];
    let output = slotgate(&words);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["command"], "set");
    assert_eq!(answer["keys"][0]["slot"], 8000);
    assert_eq!(answer["keys"][0]["shard"]["primary_addr"], owner["primary"]["addr"]);
    assert_eq!(answer["route"]["kind"], "one");
}
