//! One client's trouble is its own.

use crate::support::client::{Client, request};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::shared;
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
    let mut asked = 0;
    slow.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut stream = slow.stream();
    while asked < FLOOD {
        match stream.write(&asks) {
            Ok(_) => asked += 50 * value.len(),
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
fn a_command_that_takes_long_on_one_shard_delays_no_other_shard() {
    let gateway = Gateway::start_with(shared(), &["--workers", "1"]);
    let (mut slow, mut other) = (gateway.client(), gateway.client());
    // Three keys, one a shard; the script holds the node of the first.
    let script = "local t = redis.call('TIME'); local s = t[1] * 1000000 + t[2]; repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] > s + 400000; return 'slow'";
    slow.send(&["EVAL", script, "1", "b"]);
    let mut count = 0;
    slow.stream().set_nonblocking(true).unwrap();
    let mut is_done = false;
    while !is_done {
        other.expect("GET fairness:none:c", "$-1\r\n");
        other.expect("GET a", "$-1\r\n");
        count += 1;
        is_done = slow.stream().peek(&mut [0]).is_ok();
    }
    slow.stream().set_nonblocking(false).unwrap();
    assert_eq!(slow.read(), b"$4\r\nslow\r\n");
    assert!(count > 1, "no command of another shard was served meanwhile");
}
