//! Replicas that lost their primary, primaries that lost their replica, slots that lost both.

use super::super::support::client::Client;
use super::super::support::real_cluster::RealCluster;
use super::super::support::wait_until;
use super::{Files, manage, roles, status, tried, wait_for_phase};
use std::net::SocketAddr;

/// `INFO replication` of a node.
fn replication(addr: SocketAddr) -> String {
    Client::connect(addr).call_text(&["INFO", "replication"])
}

#[test]
fn a_replica_that_looks_for_its_primary_at_an_old_address_is_pointed_there_again() {
    let mut cluster = RealCluster::start_like_pods(6, 55);
    cluster.form(1);
    let files = Files::new();
    files.list(cluster.addrs());
    let before = roles(cluster.addrs());
    let (primary, replica) = (cluster.addrs()[0], cluster.addrs()[3]);
    // The replica starts with an old address of its primary. It learns the new one by gossip, which it
    // believes of a node that it alone misses; its replication does not hear of that.
    for ix in [1, 2, 4, 5] {
        cluster.client(ix).expect("CONFIG SET cluster-node-timeout 60000", "+OK\r\n");
    }
    cluster.freeze(0);
    cluster.restart_with_nodes_file(3, |text| text.replace(&primary.ip().to_string(), "127.0.55.99"));
    cluster.client(3).expect("CONFIG SET cluster-node-timeout 1000", "+OK\r\n");
    wait_until("the replica learns by gossip where its primary is", || {
        cluster.client(3).call_text(&["CLUSTER", "NODES"]).contains(&format!(" {primary}@"))
    });
    cluster.thaw(0);
    for ix in 0..6 {
        cluster.client(ix).expect("CONFIG SET cluster-node-timeout 5000", "+OK\r\n");
    }
    let stuck = replication(replica);
    let heals_itself = cluster.client(3).call_text(&["INFO", "server"]).contains("server_name:valkey");
    assert!(
        heals_itself
            || stuck.contains("master_host:127.0.55.99\r") && stuck.contains("master_link_status:down"),
        "{stuck}"
    );

    let gateway = manage(&files, cluster.addrs());
    wait_until("the link is up", || replication(replica).contains("master_link_status:up"));
    wait_for_phase(&gateway, "healthy");
    let reasons = tried(&gateway, "reason");
    // Valkey 8 points its replication there itself.
    let is_helped = reasons.iter().any(|reason| reason == "link-to-old-address");
    assert!(is_helped || heals_itself, "{reasons:?}");
    assert_eq!(roles(cluster.addrs()), before);
}

#[test]
fn new_empty_nodes_in_the_seed_file_become_the_missing_replicas_and_no_more() {
    let cluster = RealCluster::start_like_pods(3, 56);
    cluster.form(0);
    let files = Files::new();
    files.list(cluster.addrs());
    let gateway = manage(&files, cluster.addrs());
    wait_for_phase(&gateway, "healthy");
    let new = RealCluster::start_like_pods(4, 57);
    files.list(&[cluster.addrs(), new.addrs()].concat());
    wait_until("three of the four follow a primary", || {
        let up = |addr: &&SocketAddr| replication(**addr).contains("master_link_status:up");
        new.addrs().iter().filter(up).count() == 3
    });
    wait_for_phase(&gateway, "healthy");
    for primary in cluster.addrs() {
        assert!(replication(*primary).contains("connected_slaves:1\r"), "{}", replication(*primary));
    }
    let report = status(&gateway);
    assert_eq!(report["findings"][0]["kind"], "spare-node", "{report}");
}

#[test]
fn slots_whose_primary_is_gone_go_to_the_replica_when_the_nodes_elect_nobody() {
    let mut cluster = RealCluster::start_like_pods(6, 58);
    cluster.form(1);
    let files = Files::new();
    files.list(cluster.addrs());
    let gateway = manage(&files, cluster.addrs());
    wait_for_phase(&gateway, "healthy");
    let replica = cluster.addrs()[3];
    // So strict that no copy is ever fresh enough once its primary is held for failed.
    cluster.client(3).expect("CONFIG SET cluster-replica-validity-factor 1", "+OK\r\n");
    cluster.client(3).expect("CONFIG SET repl-ping-replica-period 1", "+OK\r\n");
    cluster.client(3).expect("CONFIG SET cluster-node-timeout 100", "+OK\r\n");
    cluster.kill(0);
    wait_until("the replica has taken over", || replication(replica).contains("role:master"));
    let reasons = tried(&gateway, "reason");
    assert!(reasons.iter().any(|reason| reason == "orphaned-slots"), "{reasons:?}");
}
