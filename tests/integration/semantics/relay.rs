//! Replies pass through as the bytes that came.

use crate::support::client::{Client, request};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{owner_of, shared};

/// What leads to every kind of reply that a node has.
const LINES: &[&str] = &[
    "SET {relay}s value",
    "GET {relay}s",
    "GET {relay}none",
    "HSET {relay}h a 1 b 2",
    "HGETALL {relay}h",
    "HGETALL {relay}none",
    "SADD {relay}set 1 2 3",
    "SMEMBERS {relay}set",
    "SISMEMBER {relay}set 1",
    "ZADD {relay}z 1.5 a 3 b inf c",
    "ZADD {relay}z INCR 0.1 a",
    "ZSCORE {relay}z c",
    "ZRANGE {relay}z 0 -1 WITHSCORES",
    "ZPOPMAX {relay}z",
    "ZRANK {relay}z nosuch",
    "GEOADD {relay}g 13.361389 38.115556 x",
    "GEOPOS {relay}g x y",
    "INCRBYFLOAT {relay}f 3.25",
    "LPOP {relay}none",
    "LPOP {relay}none 2",
    "BLPOP {relay}none 0.01",
    "XADD {relay}x 1-1 f v",
    "XREAD STREAMS {relay}x 0",
    "XREAD STREAMS {relay}x 9",
    "XINFO STREAM {relay}x",
    "INCR {relay}s",
    "LPUSH {relay}s wrong",
    "OBJECT HELP",
    "LCS {relay}s {relay}s IDX",
    "EVAL redis.setresp(3);return~redis.call('ZSCORE',KEYS[1],'a') 1 {relay}z",
    "EVAL redis.setresp(3);return~{double=3.25} 1 {relay}z",
    "EVAL redis.setresp(3);return~{big_number='123456789012345678901234567890'} 1 {relay}z",
    "EVAL redis.setresp(3);return~{verbatim_string={format='txt',string='hello'}} 1 {relay}z",
    "EVAL redis.setresp(3);return~{map={a=1}} 1 {relay}z",
    "EVAL redis.setresp(3);return~{set={a=true}} 1 {relay}z",
    "EVAL redis.setresp(3);return~{true,false,nil} 1 {relay}z",
    "EVAL return~{ok='FINE'} 1 {relay}z",
    "EVAL return~{err='MINE'} 1 {relay}z",
    "EVAL return~{{{{{1}}}}} 1 {relay}z",
    "EVAL return~{} 1 {relay}z",
    "DEL {relay}s {relay}h {relay}set {relay}z {relay}g {relay}f {relay}x",
];

#[test]
fn invariant_3_a_reply_is_relayed_as_the_bytes_that_came_from_the_node() {
    let gateway = Gateway::start(shared());
    let owner = owner_of(shared(), "relay");
    for protocol in ["2", "3"] {
        let (mut ours, mut node) = (gateway.client(), Client::connect(owner));
        ours.call(&["HELLO", protocol]);
        node.call(&["HELLO", protocol]);
        // Each through the other's keyspace: twice the same commands have the same replies.
        let direct: Vec<String> = LINES.iter().map(|line| node.call_text(&words(line))).collect();
        let relayed: Vec<String> = LINES.iter().map(|line| ours.call_text(&words(line))).collect();
        for ((line, direct), relayed) in LINES.iter().zip(&direct).zip(&relayed) {
            assert_eq!(relayed, direct, "RESP{protocol} {line}");
        }
        // The same in one write.
        ours.send_raw(LINES.iter().flat_map(|line| request(&words(line))).collect::<Vec<u8>>());
        for (line, direct) in LINES.iter().zip(&direct) {
            assert_eq!(&String::from_utf8_lossy(&ours.read()), direct, "RESP{protocol} {line}, pipelined");
        }
    }
}

fn words(line: &str) -> Vec<String> {
    crate::support::both::words(line)
}

#[test]
fn values_of_any_bytes_and_sizes_come_back_as_they_were() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    for size in [0, 1, 15, 16_384, 65_535, 65_536, 131_072, 262_143, 262_144, 262_145, 1_000_003, 5 << 20] {
        let value: Vec<u8> = (0..size).map(|ix| (ix * 31 % 251) as u8).collect();
        assert_eq!(client.call(&[b"SET", &b"relay:size"[..], &value]), b"+OK\r\n", "{size}");
        assert!(client.call(&["GET", "relay:size"]) == crate::support::client::bulk(&value), "{size} bytes");
        assert_eq!(client.call(&["STRLEN", "relay:size"]), format!(":{size}\r\n").into_bytes());
    }
}
