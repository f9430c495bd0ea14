//! The topology that the control plane publishes follows a real cluster.

use super::support::client::Client;
use super::support::real_cluster::RealCluster;
use super::support::wait_until;
use slotgate::control::refresh::{self, RefreshStatus};
use slotgate::topology::{SLOTS, SharedTopology, Slot};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn the_topology_follows_a_failover_and_a_slot_that_moves() {
    let cluster = RealCluster::start();
    let addrs = cluster.addrs().to_vec();
    let topology = Arc::new(SharedTopology::default());
    // Only hints make it look within the time of this test.
    let config = refresh::Config {
        seeds: vec![addrs[0].into()],
        refresh: Duration::from_secs(3600),
        ..refresh::Config::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let status = Arc::new(RefreshStatus::default());
    runtime.spawn(refresh::run(config, topology.clone(), status, None, std::future::pending()));
    let owner = |slot: u16| topology.load().primary_of(Slot::new(slot).unwrap()).map(|node| node.addr);
    wait_until("all slots are covered", || topology.load().covered() == SLOTS);
    assert_eq!((owner(0), owner(16383)), (Some(addrs[0]), Some(addrs[2])));

    let new = addrs.iter().position(|addr| {
        let info = Client::connect(*addr).call_text(&["INFO", "replication"]);
        info.contains(&format!("master_port:{}\r", addrs[0].port()))
    });
    let new = new.expect("the first primary has a replica");
    cluster.client(new).expect("CLUSTER FAILOVER", "+OK\r\n");
    topology.hint_stale();
    wait_until("the promoted replica owns the slots", || owner(0) == Some(addrs[new]));
    assert_eq!(topology.load().covered(), SLOTS);

    let id = |addr: SocketAddr| {
        let reply = Client::connect(addr).call_text(&["CLUSTER", "MYID"]);
        reply.lines().nth(1).unwrap().to_string()
    };
    // Slot 16383 is empty, so its ownership is all there is to move.
    let target = id(addrs[1]);
    for ix in [1, 2] {
        let words = format!("CLUSTER SETSLOT 16383 NODE {target}");
        if ix == 1 {
            let source = id(addrs[2]);
            cluster.client(1).expect(&format!("CLUSTER SETSLOT 16383 IMPORTING {source}"), "+OK\r\n");
        }
        cluster.client(ix).expect(&words, "+OK\r\n");
    }
    topology.hint_stale();
    wait_until("slot 16383 moved", || owner(16383) == Some(addrs[1]));
    assert_eq!(owner(16382), Some(addrs[2]));
}
