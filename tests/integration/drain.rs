//! SIGTERM: no new clients, nothing under way is lost, a clean end in time.

use crate::support::client::{Client, bulk, request};
use crate::support::gateway::Gateway;
use crate::support::payload::Payload;
use crate::support::real_cluster::{RealCluster, shared};
use crate::support::wait_until;

fn wait_until_draining(gateway: &Gateway) {
    wait_until("it drains", || gateway.log().contains("\"message\":\"draining\""));
}

#[test]
fn a_drain_answers_what_is_under_way_takes_nobody_new_and_ends_well() {
    let mut gateway = Gateway::start(shared());
    let (mut idle, mut blocked, mut other) = (gateway.client(), gateway.client(), gateway.client());
    idle.expect("PING", "+PONG\r\n");
    blocked.send(&["BLPOP", "drain:list", "0"]);
    // Something to wait for: a reply that is not there yet, and its pipelined followers.
    blocked.send_raw([request(&["SET", "drain:a", "1"]), request(&["INCR", "drain:a"])].concat());
    wait_until("it waits", || other.call_text(&["CLIENT", "LIST"]).contains("cmd=blpop"));
    gateway.terminate();
    wait_until_draining(&gateway);
    assert_eq!(gateway.admin_get("/readyz").0, 503);
    assert_eq!(gateway.admin_get("/livez").0, 200);
    assert_eq!(idle.read_to_end(), b"", "who waits for nothing is let go");
    wait_until("nobody new is taken", || Client::try_connect(gateway.addr()).is_none());
    Gateway::start(shared()).client().expect("RPUSH drain:list x", ":1\r\n");
    assert_eq!(blocked.read(), b"*2\r\n$10\r\ndrain:list\r\n$1\r\nx\r\n");
    assert_eq!(blocked.read(), b"+OK\r\n");
    assert_eq!(blocked.read(), b":2\r\n");
    assert_eq!(blocked.read_to_end(), b"");
    assert!(gateway.wait().success());
    assert!(gateway.log().contains("\"message\":\"drained\""));
    Gateway::start(shared()).client().expect("DEL drain:a", ":1\r\n");
}

#[test]
fn a_drain_delivers_a_large_reply_whole() {
    let mut gateway = Gateway::start(shared());
    let payload = Payload::new(32 << 20, 1);
    let mut client = gateway.client();
    payload.send_set(&mut client, "drain:large");
    assert_eq!(client.read(), b"+OK\r\n");
    client.send(&["GET", "drain:large"]);
    assert_eq!(payload.read_prefix(&mut client, 1 << 20).0, 1 << 20);
    gateway.terminate();
    wait_until_draining(&gateway);
    assert_eq!(payload.read_on(&mut client, 1 << 20, payload.len()), (payload.len(), true));
    assert_eq!(client.read_to_end(), b"");
    assert!(gateway.wait().success());
    Gateway::start(shared()).client().expect("DEL drain:large", ":1\r\n");
}

#[test]
fn a_drain_waits_for_requests_that_are_held() {
    let mut cluster = RealCluster::start_with(&[("appendonly", "no"), ("cluster-node-timeout", "1500")]);
    let mut gateway = Gateway::start_with(cluster.addrs(), &["--hold", "60s", "--drain-timeout", "80s"]);
    let mut client = gateway.client();
    client.expect("SET drain:held 1", "+OK\r\n");
    client.expect("WAIT 1 0", ":1\r\n");
    cluster.kill(cluster.owner_of_key("drain:held"));
    client.send(&["GET", "drain:held"]);
    wait_until("it is held", || gateway.metric("slotgate_held_total") > 0.0);
    gateway.terminate();
    assert_eq!(client.read(), bulk("1"));
    assert_eq!(client.read_to_end(), b"");
    assert!(gateway.wait().success());
}

#[test]
fn a_drain_ends_well_after_its_timeout_whoever_is_still_there() {
    let mut gateway = Gateway::start_with(shared(), &["--drain-timeout", "500ms"]);
    let (mut blocked, mut subscribed, mut half) = (gateway.client(), gateway.client(), gateway.client());
    blocked.send(&["BLPOP", "drain:never", "0"]);
    subscribed.send(&["SUBSCRIBE", "drain:news"]);
    assert!(subscribed.read().ends_with(b":1\r\n"));
    half.send_raw("*2\r\n$3\r\nGET\r\n");
    half.stream().set_nodelay(true).unwrap();
    wait_until("they are clients", || gateway.metric("slotgate_clients") == 3.0);
    gateway.terminate();
    assert!(gateway.wait().success());
    assert_eq!(blocked.read_to_end(), b"");
    assert_eq!(half.read_to_end(), b"");
}

#[test]
fn a_second_signal_ends_at_once_and_says_so_by_its_exit_code() {
    let mut gateway = Gateway::start_with(shared(), &["--drain-timeout", "600s"]);
    let mut blocked = gateway.client();
    blocked.send(&["BLPOP", "drain:never", "0"]);
    wait_until("it is a client", || gateway.metric("slotgate_clients") == 1.0);
    gateway.terminate();
    wait_until_draining(&gateway);
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(1));
    assert_eq!(blocked.read_to_end(), b"");
}

#[test]
fn a_gateway_that_found_no_cluster_ends_without_delay() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut gateway = Gateway::start_unready(&[nobody], &[]);
    gateway.terminate();
    assert!(gateway.wait().success());
    assert!(!gateway.log().contains("did not end in time"), "{}", gateway.log());
}
