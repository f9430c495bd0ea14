//! The gateway as one Redis: what a plain client sees.

use crate::support::client::request;
use crate::support::gateway::Gateway;
use crate::support::real_cluster::shared;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";

#[test]
fn invariant_7_a_plain_client_never_sees_moved() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    for ix in 0..300 {
        client.expect(&format!("SET one_redis:{ix} {ix}"), "+OK\r\n");
        client.expect(&format!("GET one_redis:{ix}"), &format!("${}\r\n{ix}\r\n", ix.to_string().len()));
    }
}

#[test]
fn keys_of_all_shards_are_one_request() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    client.expect("MSET one_redis:a 1 one_redis:b 2 one_redis:c 3", "+OK\r\n");
    client.expect(
        "MGET one_redis:c one_redis:none one_redis:a one_redis:b",
        "*4\r\n$1\r\n3\r\n$-1\r\n$1\r\n1\r\n$1\r\n2\r\n",
    );
    client.expect("DEL one_redis:a one_redis:b one_redis:c one_redis:none", ":3\r\n");
}

#[test]
fn invariant_1_pipelined_replies_come_in_the_order_of_their_requests() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    // Keys of all shards, a reply of the gateway's own and an error in between.
    let (mut requests, mut replies) = (Vec::new(), String::new());
    for ix in 0..500 {
        let (key, value) = (format!("one_redis:order:{ix}"), format!("value-{ix:03}"));
        for args in [&["SET", &key, &value][..], &["ECHO", &value], &["LPUSH", &key, "x"], &["GET", &key]] {
            requests.extend(request(args));
        }
        replies += &format!("+OK\r\n$9\r\n{value}\r\n{WRONG_TYPE}$9\r\n{value}\r\n");
    }
    client.send_raw(requests);
    let got: Vec<u8> = (0..2000).flat_map(|_| client.read()).collect();
    assert_eq!(String::from_utf8_lossy(&got), replies);
}

#[test]
fn a_client_that_sends_and_ends_in_one_go_gets_its_replies_and_an_end() {
    let gateway = Gateway::start(shared());
    let mut clients: Vec<_> = (0..200).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(&["SET", "one_redis:end", "x"]);
        client.shutdown_write();
    }
    for client in &mut clients {
        assert_eq!(client.read_to_end(), b"+OK\r\n");
    }
}
