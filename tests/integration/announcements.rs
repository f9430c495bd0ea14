//! Planned changes are told to the gateway over the cluster: writes wait for the new owner, reads do not,
//! and what was announced wrongly harms nobody.

use super::support::client::Client;
use super::support::gateway::Gateway;
use super::support::real_cluster::{RealCluster, owner_of};
use super::support::wait_until;
use std::net::SocketAddr;

const CHANNEL: &str = "slotgate:announcements";
const HELD: &str = "slotgate_held_total";

fn id_of(addr: SocketAddr) -> String {
    Client::connect(addr).call_text(&["CLUSTER", "MYID"]).lines().nth(1).unwrap().to_string()
}

fn begins(primary: SocketAddr, to: SocketAddr) -> String {
    let (primary, to) = (id_of(primary), id_of(to));
    format!(r#"{{"what":"begins","primary":"{primary}","to":"{to}","lasts_ms":60000}}"#)
}

/// Announces it through a node until a write to the slot of `k` is held by the gateway; gives the writer and
/// its key.
fn hold_a_write(cluster: &RealCluster, gateway: &Gateway, message: &str) -> (Client, String) {
    let held = gateway.metric(HELD);
    let mut teller = cluster.client(1);
    let (mut writer, mut tries) = (gateway.client(), 0);
    // The gateway may not have subscribed yet.
    wait_until("a write is held", || {
        teller.call(&["PUBLISH", CHANNEL, message]);
        (writer, tries) = (gateway.client(), tries + 1);
        writer.send(&["INCR", &format!("{{k}}{tries}")]);
        gateway.metric(HELD) > held
    });
    (writer, format!("{{k}}{tries}"))
}

#[test]
fn writes_wait_while_a_shard_changes_hands_and_reads_do_not() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let gateway = Gateway::start(cluster.addrs());
    let owner = owner_of(cluster.addrs(), "k");
    let other = *cluster.addrs().iter().find(|addr| **addr != owner).unwrap();
    let message = begins(owner, other);
    let (mut writer, key) = hold_a_write(&cluster, &gateway, &message);
    gateway.client().expect("GET {k}", "$-1\r\n");
    // Of one client nothing overtakes: its read waits for its write.
    writer.send(&["GET", &key]);
    let ends = format!(r#"{{"what":"ends","primary":"{}"}}"#, id_of(owner));
    cluster.client(0).call(&["PUBLISH", CHANNEL, &ends]);
    assert_eq!((writer.read(), writer.read()), (b":1\r\n".to_vec(), b"$1\r\n1\r\n".to_vec()));
}

#[test]
fn writes_go_on_by_themselves_when_nobody_tells_the_end() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let gateway = Gateway::start(cluster.addrs());
    let owner = owner_of(cluster.addrs(), "k");
    let other = *cluster.addrs().iter().find(|addr| **addr != owner).unwrap();
    let (mut writer, _) = hold_a_write(&cluster, &gateway, &begins(owner, other));
    assert_eq!(writer.read(), b":1\r\n");
}

#[test]
fn a_wrong_owner_that_is_announced_costs_a_redirect_and_nothing_else() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let gateway = Gateway::start(cluster.addrs());
    let owner = owner_of(cluster.addrs(), "k");
    let other = *cluster.addrs().iter().find(|addr| **addr != owner).unwrap();
    let redirects = "slotgate_redirects_total{kind=\"moved\"}";
    let message = format!(r#"{{"what":"owner","node":"{}","slots":[[0,16383]]}}"#, id_of(other));
    let mut client = gateway.client();
    let (before, mut count) = (gateway.metric(redirects), 0);
    wait_until("the gateway heard it and was sent back", || {
        cluster.client(1).call(&["PUBLISH", CHANNEL, &message]);
        count += 1;
        client.expect("INCR k", &format!(":{count}\r\n"));
        gateway.metric(redirects) > before
    });
    client.expect("INCR k", &format!(":{}\r\n", count + 1));
}

#[test]
fn clients_neither_announce_nor_hear_of_it() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let gateway = Gateway::start(cluster.addrs());
    let mut client = gateway.client();
    let refused = client.call_text(&["PUBLISH", CHANNEL, "x"]);
    assert!(refused.starts_with("-NOPERM"), "{refused}");
    client.expect("MULTI", "+OK\r\n");
    assert!(client.call_text(&["PUBLISH", CHANNEL, "x"]).starts_with("-NOPERM"));
    assert!(client.call_text(&["EXEC"]).starts_with("-EXECABORT"));

    let mut listener = gateway.client();
    listener.call(&["PSUBSCRIBE", "*"]);
    cluster.client(0).call(&["PUBLISH", CHANNEL, "hidden"]);
    cluster.client(0).call(&["PUBLISH", "news", "seen"]);
    let heard = String::from_utf8(listener.read()).unwrap();
    assert!(heard.contains("seen") && !heard.contains("hidden"), "{heard}");
    wait_until("the gateway has subscribed", || {
        (0..3).any(|ix| cluster.client(ix).call_text(&["PUBSUB", "CHANNELS"]).contains(CHANNEL))
    });
    client.expect("PUBSUB CHANNELS", "*0\r\n");
}

#[test]
fn a_failover_is_announced_to_gateways_that_nobody_named() {
    let cluster = RealCluster::start();
    let gateway = Gateway::start(cluster.addrs());
    let mut listener = cluster.client(2);
    listener.call(&["SUBSCRIBE", CHANNEL]);
    let (old, new) = (cluster.addrs()[0], id_of(cluster.addrs()[3]));
    let args = ["failover", "--yes", &old.to_string(), &old.to_string()];
    let failover = std::process::Command::new(env!("CARGO_BIN_EXE_slotgate")).args(args).output().unwrap();
    assert!(failover.status.success(), "{failover:?}");
    let [begins, owner] = [(); 2].map(|()| String::from_utf8(listener.read()).unwrap());
    assert!(begins.contains("begins") && begins.contains(&id_of(old)), "{begins}");
    assert!(owner.contains("owner") && owner.contains(&new) && owner.contains("[0,5460]"), "{owner}");
    gateway.client().expect("SET k v", "+OK\r\n");
}
