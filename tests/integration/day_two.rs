//! The commands of the second day on real nodes: `failover`, `switch-all-from`, `status`, `doctor`, `fix`,
//! `call`, `config set`, `set-timeout`.

use super::support::program::{expect, run, states};
use super::support::real_cluster::RealCluster;
use super::support::slot_move::node_id;
use std::net::Ipv4Addr;
use std::process::Output;

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
