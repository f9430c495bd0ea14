//! What a plain client meets without a gateway: the reason why there is one, and the proof that the
//! clusters under the other tests are what they should be.

use crate::support::real_cluster::{RealCluster, shared};
use crate::support::{client::Client, wait_until};
use slotgate::topology::Slot;

#[test]
fn a_plain_client_of_a_bare_cluster_is_sent_away_for_keys_of_other_shards() {
    let mut node = Client::connect(shared()[0]);
    let replies: Vec<String> =
        (0..300).map(|ix| node.call_text(&["SET", &format!("bare_cluster:{ix}"), "x"])).collect();
    let is_ok = |reply: &&String| *reply == "+OK\r\n";
    let is_moved = |reply: &&String| reply.starts_with("-MOVED ");
    assert!(replies.iter().all(|reply| is_ok(&reply) || is_moved(&reply)), "{replies:?}");
    assert!(replies.iter().filter(is_ok).count() > 30, "{replies:?}");
    assert!(replies.iter().filter(is_moved).count() > 100, "{replies:?}");
}

#[test]
fn the_nodes_compute_the_slots_that_we_compute() {
    let mut node = Client::connect(shared()[0]);
    for key in ["a", "user:{42}:name", "{}x", "{x", "x}y{", "{a}{b}", "", "a b"] {
        let slot = Slot::of_key(key.as_bytes());
        assert_eq!(node.call_text(&["CLUSTER", "KEYSLOT", key]), format!(":{slot}\r\n"), "{key}");
    }
}

#[test]
fn a_private_cluster_survives_the_loss_of_a_primary() {
    let mut cluster = RealCluster::start_with(&[("cluster-node-timeout", "1000")]);
    cluster.kill(0);
    let mut witness = cluster.client(1);
    wait_until("a replica has taken over", || {
        let shards = witness.call_text(&["CLUSTER", "NODES"]);
        shards.matches("master").count() == 4
            && witness.call_text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    });
}
