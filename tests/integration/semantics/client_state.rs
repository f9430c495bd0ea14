//! What a client sets for its own connection stays its own, though all share connections to nodes.

use crate::support::both::Both;
use crate::support::client::{Client, bulk, request};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, shared};
use crate::support::wait_until;

/// The number after `id` in a HELLO reply differs from client to client.
fn without_id(reply: &str) -> String {
    let (before, after) = reply.split_once("$2\r\nid\r\n:").expect("an id");
    let (_, after) = after.split_once("\r\n").unwrap();
    format!("{before}id{after}")
}

#[test]
fn hello_switches_the_protocol_and_shows_one_standalone_server() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    let mut both = Both::connect(&gateway, &server);
    let release = both.model.call_text(&["HELLO"]).split("\r\n").nth(8).unwrap().to_owned();
    wait_until("the nodes' release is known", || both.ours.call_text(&["HELLO"]).contains(&release));
    for line in
        ["HELLO", "HELLO 3", "HELLO", "HELLO 2", "HELLO 3 SETNAME me", "HELLO 3 AUTH default any SETNAME me"]
    {
        let words: Vec<&str> = line.split(' ').collect();
        let (ours, model) = (both.ours.call_text(&words), both.model.call_text(&words));
        assert_eq!(without_id(&ours), without_id(&model), "{line}");
    }
    both.same("CLIENT GETNAME");
    both.ours.expect("HGETALL client_state:none", "%0\r\n");
}

#[test]
fn a_hello_that_fails_changes_nothing() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    let mut both = Both::connect(&gateway, &server);
    both.same("CLIENT SETNAME first");
    for line in [
        "HELLO 4",
        "HELLO 1",
        "HELLO x",
        "HELLO 3 NONSENSE",
        "HELLO 3 SETNAME",
        "HELLO 3 SETNAME a~b",
        "HELLO 3 AUTH default",
    ] {
        both.same(line);
        both.same("CLIENT GETNAME");
        both.same("GET client_state:none");
    }
    // A server carries options out one by one and has the new name by now.
    for (line, error) in [
        ("HELLO 3 SETNAME second NONSENSE", "-ERR Syntax error in HELLO option 'NONSENSE'\r\n"),
        (
            "HELLO 3 SETNAME second AUTH nobody wrong",
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        ),
    ] {
        both.ours.expect(line, error);
        both.ours.expect("CLIENT GETNAME", "$5\r\nfirst\r\n");
    }
    both.ours.expect("GET client_state:none", "$-1\r\n");
}

#[test]
fn a_protocol_chosen_in_a_pipeline_holds_from_there_on() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let lines =
        ["GET client_state:none", "HELLO 3", "GET client_state:none", "HELLO 2", "GET client_state:none"];
    let bytes: Vec<u8> =
        lines.iter().flat_map(|line| request(&line.split(' ').collect::<Vec<_>>())).collect();
    client.send_raw(bytes);
    assert_eq!(client.read(), b"$-1\r\n");
    assert!(client.read().starts_with(b"%7\r\n"));
    assert_eq!(client.read(), b"_\r\n");
    assert!(client.read().starts_with(b"*14\r\n"));
    assert_eq!(client.read(), b"$-1\r\n");
}

#[test]
fn clients_of_one_gateway_keep_their_own_name_protocol_and_transaction() {
    let gateway = Gateway::start(shared());
    let (mut one, mut other) = (gateway.client(), gateway.client());
    assert!(one.call_text(&["HELLO", "3", "SETNAME", "one"]).starts_with('%'));
    other.expect("CLIENT SETNAME other", "+OK\r\n");
    one.expect("MULTI", "+OK\r\n");
    one.expect("GET client_state:none", "+QUEUED\r\n");
    other.expect("GET client_state:none", "$-1\r\n");
    other.expect("CLIENT GETNAME", "$5\r\nother\r\n");
    other.expect("EXEC", "-ERR EXEC without MULTI\r\n");
    one.expect("EXEC", "*1\r\n_\r\n");
    one.expect("CLIENT GETNAME", "$3\r\none\r\n");
    let ids = [&mut one, &mut other].map(|client| client.call(&["CLIENT", "ID"]));
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn client_list_shows_the_gateways_clients() {
    let gateway = Gateway::start(shared());
    let (mut one, mut other) = (gateway.client(), gateway.client());
    one.expect("CLIENT SETNAME first-one", "+OK\r\n");
    one.expect("CLIENT SETINFO LIB-NAME lib", "+OK\r\n");
    let list = other.call_text(&["CLIENT", "LIST"]);
    assert_eq!(list.matches("id=").count(), 2, "{list}");
    assert!(list.contains(&format!("addr={} ", one.stream().local_addr().unwrap())), "{list}");
    assert!(list.contains("name=first-one ") && list.contains("lib-name=lib "), "{list}");
    let info = one.call_text(&["CLIENT", "INFO"]);
    assert!(info.contains("name=first-one ") && info.matches("id=").count() == 1, "{info}");
    drop(one);
    wait_until("a client that left is not listed", || {
        !other.call_text(&["CLIENT", "LIST"]).contains("first-one")
    });
}

#[test]
fn reset_makes_a_connection_as_new() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    let mut both = Both::connect(&gateway, &server);
    for client in [&mut both.ours, &mut both.model] {
        client.call(&["HELLO", "3", "SETNAME", "me"]);
    }
    both.same("MULTI");
    both.same("SET client_state:reset 1");
    assert_eq!(both.same("RESET"), "+RESET\r\n");
    both.same("CLIENT GETNAME");
    both.same("EXEC");
    both.same("GET client_state:reset");
    both.same("WATCH client_state:reset");
    both.same("RESET");
    let mut other = Both::connect(&gateway, &server);
    other.same("SET client_state:reset 2");
    for line in ["MULTI", "GET client_state:reset", "EXEC"] {
        both.same(line);
    }
}

#[test]
fn names_and_other_settings_are_checked_as_by_redis() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    let mut both = Both::connect(&gateway, &server);
    for line in [
        "CLIENT GETNAME",
        "CLIENT SETNAME a~b",
        "CLIENT SETNAME good",
        "CLIENT GETNAME",
        "CLIENT SETNAME",
        "CLIENT NO-EVICT on",
        "CLIENT NO-EVICT maybe",
        "CLIENT GETREDIR",
        "CLIENT REPLY MAYBE",
        "CLIENT REPLY ON",
        "CLIENT NOSUCHTHING",
        "CLIENT",
        "SELECT 0",
        "SELECT -1",
        "SELECT 99",
        "SELECT x",
        "AUTH any",
        "AUTH default any",
        "AUTH nobody any",
        "PING a b",
        "ECHO",
        "ECHO a b",
        "QUIT now",
    ] {
        both.same(line);
    }
}

/// Sends `bytes` and a last ECHO; gives what is said until its reply.
fn said(client: &mut Client, lines: &[&str]) -> String {
    let bytes: Vec<u8> =
        lines.iter().flat_map(|line| request(&line.split(' ').collect::<Vec<_>>())).collect();
    client.send_raw([bytes, request(&["CLIENT", "REPLY", "ON"]), request(&["ECHO", "end"])].concat());
    let (mut all, end) = (Vec::new(), bulk("end"));
    while !all.ends_with(&end) {
        all.extend_from_slice(&client.read());
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn client_reply_off_and_skip_silence_this_client_alone() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    let mut both = Both::connect(&gateway, &server);
    let mut other = gateway.client();
    for lines in [
        &["SET client_state:r 1", "CLIENT REPLY SKIP", "INCR client_state:r", "GET client_state:r"][..],
        &["CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "INCR client_state:r", "GET client_state:r"],
        &["CLIENT REPLY SKIP", "NOSUCHCOMMAND", "PING"],
        &["CLIENT REPLY SKIP", "MGET client_state:r client_state:s", "PING"],
        &["CLIENT REPLY SKIP"],
        &["CLIENT REPLY OFF", "INCR client_state:r", "MGET a b", "PING", "NOSUCHCOMMAND", "GET"],
        &["CLIENT REPLY OFF", "CLIENT REPLY SKIP", "INCR client_state:r"],
        &["CLIENT REPLY OFF", "MULTI", "INCR client_state:r", "EXEC"],
        &["GET client_state:r"],
    ] {
        assert_eq!(said(&mut both.ours, lines), said(&mut both.model, lines), "{lines:?}");
        other.expect("ECHO still~here", "$10\r\nstill~here\r\n");
    }
}

#[test]
fn reset_ends_client_reply_off() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    let both = Both::connect(&gateway, &server);
    let said = both.same_end(b"CLIENT REPLY OFF\r\nPING\r\nRESET\r\nPING\r\n");
    assert_eq!(said, "+RESET\r\n+PONG\r\n");
}

#[test]
fn commands_that_would_stop_a_node_are_refused() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    for line in ["SHUTDOWN NOSAVE", "REPLICAOF NO ONE", "FAILOVER ABORT"] {
        let reply = client.call_text(&line.split(' ').collect::<Vec<_>>());
        assert!(reply.starts_with("-ERR '") && reply.contains("slotgate"), "{line}: {reply}");
    }
    client.expect("PING", "+PONG\r\n");
}
