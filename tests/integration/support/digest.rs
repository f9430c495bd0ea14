//! What a cluster holds, in a form that is quickly compared: before and after a change, all keys are the same.

use super::client::Client;
use super::gateway::Gateway;
use super::real_cluster::RealCluster;
use super::shard_load::{Load, run_ordered_client};
use super::value::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;

/// All keys of the cluster of these nodes, each with the digest of its value, type and having a time to live.
pub fn digest(addrs: &[SocketAddr]) -> BTreeMap<String, String> {
    let mut digests = BTreeMap::new();
    for addr in addrs {
        for (key, value) in digest_of(&mut Client::connect(*addr)) {
            let twin = digests.insert(key.clone(), value);
            assert_eq!(twin, None, "{key:?} is on two nodes");
        }
    }
    digests
}

/// The same of one node; a replica has none of its own.
pub fn digest_of(client: &mut Client) -> BTreeMap<String, String> {
    let mut digests = BTreeMap::new();
    if !client.call_text(&["ROLE"]).contains("master") {
        return digests;
    }
    let keys = Value::of(&client.call(&["KEYS", "*"]));
    for keys in keys.items().chunks(1000) {
        let mut question = vec!["DEBUG", "DIGEST-VALUE"];
        question.extend(keys.iter().map(|key| key.text()));
        let values = Value::of(&client.call(&question));
        assert_eq!(values.items().len(), keys.len());
        let pairs = keys.iter().zip(values.items());
        digests.extend(pairs.map(|(key, value)| (key.text().to_string(), value.text().to_string())));
    }
    digests
}

/// Makes a change while clients write through the gateway: none of them may see an error, and all keys that
/// were there before must be the same afterwards.
#[track_caller]
pub fn expect_unharmed(cluster: &RealCluster, gateway: &Gateway, change: impl FnOnce(&Load)) {
    const CLIENTS: usize = 8;
    let before = digest(cluster.addrs());
    let load = Load::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let load = &load;
                scope.spawn(move || {
                    run_ordered_client(gateway, &format!("busy:{number}"), 1 + number % 3 * 4, load)
                })
            })
            .collect();
        let _guard = load.guard();
        load.wait_for_progress(1000);
        change(&load);
        load.wait_for_progress(1000);
        load.is_over.store(true, Ordering::Relaxed);
        for client in clients {
            let tally = client.join().unwrap();
            assert_eq!((tally.unknown, tally.not_run, tally.fallen_back), (0, 0, 0), "{tally:?}");
        }
    });
    // What the clients wrote goes; what remains is what was there before.
    let mut client = gateway.client();
    for number in 0..CLIENTS {
        for ix in 0..8 {
            client.call(&["DEL", &format!("busy:{number}:{ix}")]);
        }
    }
    assert!(digest(cluster.addrs()) == before, "keys were lost or changed");
}
