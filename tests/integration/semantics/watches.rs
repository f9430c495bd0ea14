//! WATCH: no transaction on a lost watch.

use super::transactions::play;
use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::real_cluster::shared;
use crate::support::wait_until;

#[test]
fn a_watched_key_that_changes_makes_exec_answer_null() {
    let gateway = Gateway::start(shared());
    for (protocol, null) in [("2", "*-1\r\n"), ("3", "_\r\n")] {
        let (mut client, mut other) = (gateway.client(), gateway.client());
        client.call(&["HELLO", protocol]);
        client.expect("SET transactions:w 1", "+OK\r\n");
        client.expect("WATCH transactions:w", "+OK\r\n");
        other.expect("SET transactions:w 2", "+OK\r\n");
        client.expect("MULTI", "+OK\r\n");
        client.expect("SET transactions:w 3", "+QUEUED\r\n");
        client.expect("EXEC", null);
        client.expect("GET transactions:w", "$1\r\n2\r\n");
        // The watch is over now.
        client.expect("MULTI", "+OK\r\n");
        client.expect("INCR transactions:w", "+QUEUED\r\n");
        client.expect("EXEC", "*1\r\n:3\r\n");
    }
}

#[test]
fn a_watched_key_that_stays_lets_exec_run() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    client.expect("SET {transactions}stays 1", "+OK\r\n");
    client.expect("WATCH {transactions}stays {transactions}other", "+OK\r\n");
    client.expect("WATCH {transactions}third", "+OK\r\n");
    client.expect("GET {transactions}stays", "$1\r\n1\r\n");
    client.expect("MULTI", "+OK\r\n");
    client.expect("INCR {transactions}stays", "+QUEUED\r\n");
    client.expect("EXEC", "*1\r\n:2\r\n");
}

#[test]
fn a_client_that_changes_its_own_watched_key_has_changed_it() {
    play(&[
        "SET {transactions}own 1",
        "WATCH {transactions}own",
        "SET {transactions}own 2",
        "MULTI",
        "GET {transactions}own",
        "EXEC",
        "WATCH {transactions}own",
        "SET {transactions}own 3",
        "UNWATCH",
        "MULTI",
        "GET {transactions}own",
        "EXEC",
        "WATCH {transactions}own",
        "SET {transactions}own 4",
        "MULTI",
        "DISCARD",
        "MULTI",
        "GET {transactions}own",
        "EXEC",
    ]);
}

#[test]
fn a_watch_that_is_lost_with_its_connection_makes_exec_answer_null() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    client.expect("SET transactions:lost 1", "+OK\r\n");
    client.expect("WATCH transactions:lost", "+OK\r\n");
    // All connections of the gateway to its nodes break; the others come back.
    for addr in shared() {
        Client::connect(*addr).call(&["CLIENT", "KILL", "TYPE", "normal"]);
    }
    wait_until("the gateway serves again", || client.call(&["GET", "transactions:lost"]).starts_with(b"$"));
    client.expect("MULTI", "+OK\r\n");
    client.expect("SET transactions:lost 2", "+QUEUED\r\n");
    client.expect("EXEC", "*-1\r\n");
    client.expect("GET transactions:lost", "$1\r\n1\r\n");
}

#[test]
fn a_watch_of_keys_that_the_transaction_does_not_share_a_slot_with_is_refused() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let reply = client.call_text(&["WATCH", "transactions:x", "transactions:y"]);
    assert!(reply.starts_with("-CROSSSLOT "), "{reply}");
    client.expect("WATCH transactions:x", "+OK\r\n");
    client.expect("MULTI", "+OK\r\n");
    client.expect("SET transactions:y 1", "+QUEUED\r\n");
    let reply = client.call_text(&["EXEC"]);
    assert!(reply.starts_with("-CROSSSLOT "), "{reply}");
    client.expect("GET transactions:y", "$-1\r\n");
}

#[test]
fn a_watch_left_in_another_slot_holds_up_one_transaction_and_no_more() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    client.expect("WATCH transactions:left", "+OK\r\n");
    client.expect("WATCH transactions:next", "+OK\r\n");
    client.expect("MULTI", "+OK\r\n");
    client.expect("INCR transactions:next", "+QUEUED\r\n");
    let reply = client.call_text(&["EXEC"]);
    assert!(reply.starts_with("-CROSSSLOT "), "{reply}");
    client.expect("EXISTS transactions:next", ":0\r\n");
    client.expect("WATCH transactions:next", "+OK\r\n");
    client.expect("MULTI", "+OK\r\n");
    client.expect("EXISTS transactions:next", "+QUEUED\r\n");
    client.expect("EXEC", "*1\r\n:0\r\n");
}

#[test]
fn a_client_that_leaves_takes_its_watch_along() {
    let gateway = Gateway::start(shared());
    for round in 0..10 {
        let mut leaver = gateway.client();
        leaver.expect("WATCH transactions:leaver", "+OK\r\n");
        drop(leaver);
        let mut next = gateway.client();
        next.expect("WATCH transactions:other", "+OK\r\n");
        next.expect(&format!("SET transactions:leaver {round}"), "+OK\r\n");
        next.expect("MULTI", "+OK\r\n");
        next.expect("SET transactions:other 1", "+QUEUED\r\n");
        next.expect("EXEC", "*1\r\n+OK\r\n");
    }
}
