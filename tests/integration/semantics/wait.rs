//! WAIT: never says that replicas have what they have not.

use crate::support::client::Client;
use crate::support::fake_node::{FakeCluster, gateway_for, say};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, owner_of, shared};
use crate::support::wait_until;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Nobody is taken for dead while nodes are frozen.
const CALM: (&str, &str) = ("cluster-node-timeout", "60000");

#[test]
fn wait_counts_only_replicas_that_have_what_was_written() {
    let cluster = RealCluster::start_with(&[CALM]);
    let gateway = Gateway::start(cluster.addrs());
    let mut client = gateway.client();
    client.expect("SET wait:a 1", "+OK\r\n");
    client.expect("WAIT 1 0", ":1\r\n");
    (3..6).for_each(|replica| cluster.freeze(replica));
    client.expect("SET wait:a 2", "+OK\r\n");
    client.expect("WAIT 1 100", ":0\r\n");
    // Nothing new was written since.
    client.expect("WAIT 1 100", ":0\r\n");
    (3..6).for_each(|replica| cluster.thaw(replica));
    client.expect("WAIT 1 0", ":1\r\n");
    client.expect("DBSIZE", ":1\r\n");
}

#[test]
fn one_frozen_replica_of_three_is_enough_for_none() {
    let cluster = RealCluster::start_with(&[CALM]);
    let gateway = Gateway::start(cluster.addrs());
    let mut client = gateway.client();
    client.expect("WAIT 1 0", ":1\r\n");
    cluster.freeze(4);
    for number in 0..50 {
        client.call(&["SET", &format!("wait:{number}"), "x"]);
    }
    client.expect("WAIT 1 100", ":0\r\n");
    cluster.thaw(4);
    client.expect("WAIT 1 0", ":1\r\n");
}

#[test]
fn a_wait_that_is_refused_by_a_node_says_why_and_counts_nothing() {
    for (refused, reply) in [
        ("SET", "-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
        ("SET", "-NOREPLICAS Not enough good replicas to write.\r\n"),
        ("DEL", "-NOPERM User default has no permissions to run the 'del' command\r\n"),
        ("MULTI", "-NOPERM User default has no permissions to run the 'multi' command\r\n"),
    ] {
        let nodes = FakeCluster::start(2, move |asked| match asked.line.split(' ').next().unwrap() {
            word if word == refused && asked.node == 1 => say(reply),
            "EXEC" if asked.node == 1 => {
                say("-EXECABORT Transaction discarded because of previous errors.\r\n")
            }
            word => say(answer(word)),
        });
        let gateway = gateway_for(&nodes);
        gateway.client().expect("WAIT 1 100", reply);
    }
}

#[test]
fn a_wait_is_asked_of_the_same_node_again_when_its_slot_is_being_moved() {
    for refusal in ["ASK", "MOVED"] {
        let refused = AtomicUsize::new(0);
        let nodes = FakeCluster::start(2, move |asked| match asked.line.split(' ').next().unwrap() {
            "SET" if asked.node == 0 && refused.fetch_add(1, Ordering::Relaxed) < 2 => {
                let key = asked.line.split(' ').nth(1).unwrap();
                let slot = crate::support::fake_node::slot_of(key);
                say(format!("-{refusal} {slot} {}\r\n", asked.addrs[1]))
            }
            "EXEC" if asked.node == 0 && asked.earlier < 2 => {
                say("-EXECABORT Transaction discarded because of previous errors.\r\n")
            }
            "WAIT" if asked.node == 1 => say(":5\r\n"),
            word => say(answer(word)),
        });
        let gateway = gateway_for(&nodes);
        gateway.client().expect("WAIT 1 60000", ":1\r\n");
        let log = nodes.log();
        let sets = log.iter().filter(|(node, line)| *node == 0 && line.starts_with("SET slotgate:wait:"));
        assert_eq!(sets.count(), 3, "{refusal}: {log:?}");
    }
}

/// What a node says that refuses nothing and has one replica.
fn answer(word: &str) -> &'static str {
    match word {
        "SET" | "DEL" => "+QUEUED\r\n",
        "EXEC" => "*2\r\n+OK\r\n:1\r\n",
        "WAIT" => ":1\r\n",
        _ => "+OK\r\n",
    }
}

#[test]
fn nobody_sees_the_keys_of_the_gateway() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let mut watcher = Client::connect(owner_of(shared(), "wait:seen"));
    let keys = |node: &mut Client| node.call_text(&["KEYS", "slotgate:*"]);
    for _ in 0..20 {
        client.send(&["WAIT", "1", "0"]);
        assert_eq!(keys(&mut watcher), "*0\r\n");
        assert_eq!(client.read(), b":1\r\n");
    }
    for replica in shared() {
        let mut node = Client::connect(*replica);
        wait_until("replicas have none of them", || keys(&mut node) == "*0\r\n");
    }
}
