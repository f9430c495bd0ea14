//! One client's trouble is its own.

use crate::support::client::{Client, request};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{owner_of, shared, whole_keyspace};
use crate::support::wait_until;
use std::io::{ErrorKind, Write as _};
use std::time::Duration;

/// More than the gateway keeps of a client's replies and both sockets take together.
const FLOOD: usize = 200 << 20;

#[test]
fn invariant_6_a_client_that_does_not_read_delays_nobody_and_is_bounded() {
    let gateway = Gateway::start_with(shared(), &["--workers", "1"]);
    let mut other = gateway.client();
    let value = "v".repeat(100_000);
    for ix in 0..3 {
        assert_eq!(other.call(&["SET", &format!("fairness:{ix}"), &value]), b"+OK\r\n");
    }
    let before = gateway.memory_kb();
    // Asks for more than anybody could keep for it, on all shards, and reads none of it.
    let slow = gateway.client();
    let asks: Vec<u8> = (0..50).flat_map(|ix| request(&["GET", &format!("fairness:{}", ix % 3)])).collect();
    let (mut written, mut stream) = (0, slow.stream());
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    while written / asks.len() * 50 * value.len() < FLOOD {
        match stream.write(&asks[written % asks.len()..]) {
            Ok(count) => written += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("the slow client was cut: {error}"),
        }
        other.expect("STRLEN fairness:0", ":100000\r\n");
    }
    for ix in 0..300 {
        other.expect(&format!("SET fairness:other:{ix} 1"), "+OK\r\n");
        other.expect(&format!("MGET fairness:other:{ix} fairness:none"), "*2\r\n$1\r\n1\r\n$-1\r\n");
    }
    let grown = gateway.memory_kb().saturating_sub(before);
    assert!(grown < 64 << 10, "memory grew by {grown} KB");
}

#[test]
fn a_client_that_was_paused_gets_everything_once_it_reads() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let value = "w".repeat(50_000);
    client.call(&["SET", "fairness:late", &value]);
    let mut writer = client.stream().try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..600 {
            writer.write_all(&request(&["GET", "fairness:late"])).unwrap();
        }
    });
    // Nothing is read until the gateway, too, has stopped reading or has it all.
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..600 {
        assert!(client.read().len() > 50_000);
    }
    thread.join().unwrap();
    client.expect("PING", "+PONG\r\n");
}

#[test]
fn clients_beyond_the_limit_are_turned_away_in_redis_own_words() {
    let gateway = Gateway::start_with(shared(), &["--max-clients", "2"]);
    let (mut one, _two) = (gateway.client(), gateway.client());
    one.expect("PING", "+PONG\r\n");
    let mut third = Client::connect(gateway.addr());
    assert_eq!(third.read_to_end(), b"-ERR max number of clients reached\r\n");
    drop(_two);
    wait_until("a place is free", || {
        let mut next = Client::connect(gateway.addr());
        next.send_raw(b"QUIT\r\n");
        next.read_to_end().starts_with(b"+OK")
    });
}

#[test]
fn invariant_6_a_shard_that_keeps_a_command_waiting_delays_no_other_shard() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start_with(&cluster, &["--workers", "1"]);
    let (mut waiting, mut other) = (gateway.client(), gateway.client());
    let mut node = Client::connect(owner_of(&cluster, "b"));
    node.expect("CLIENT PAUSE 600000 WRITE", "+OK\r\n");
    // Keys of three shards; the same client's later commands wait for their turn, no other client's do.
    waiting.send_raw([request(&["SET", "b", "1"]), request(&["SET", "c", "1"]), request(&["PING"])].concat());
    wait_until("the later command is carried out", || other.call(&["GET", "c"]) == b"$1\r\n1\r\n");
    for _ in 0..100 {
        other.expect("SET a 1", "+OK\r\n");
        other.expect("MGET a c", "*2\r\n$1\r\n1\r\n$1\r\n1\r\n");
    }
    assert_eq!(node.call_text(&["GET", "b"]), "$-1\r\n", "it waits still");
    node.expect("CLIENT UNPAUSE", "+OK\r\n");
    for reply in ["+OK\r\n", "+OK\r\n", "+PONG\r\n"] {
        assert_eq!(waiting.read(), reply.as_bytes());
    }
}
