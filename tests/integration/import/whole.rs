//! Everything that a source holds arrives: types, times to live, names, functions, of one server or of a cluster.

use super::{Move, count, json, say};
use crate::support::client::Client;
use crate::support::real_cluster::{RealCluster, owner_of};
use std::path::Path;
use std::time::Duration;

#[test]
fn every_type_expiry_and_name_arrives_and_nothing_is_left_to_do() {
    let all = Move::usual();
    let mut source = all.source.client(0);
    for line in [
        "SET string value",
        "SET number 12345",
        "SET expiring soon PXAT 4000000000000",
        "RPUSH list a b c",
        "SADD set 1 2 3",
        "SADD words a b c",
        "ZADD zset 1.5 a 2 b",
        "HSET hash f1 v1 f2 v2",
        "PFADD hll a b c",
        "SETBIT bits 1000 1",
        "GEOADD geo 13.361389 38.115556 Palermo",
        "XADD stream 1-1 f v",
        "XADD stream 2-1 f v",
        "XGROUP CREATE stream group 0",
        "XREADGROUP GROUP group one COUNT 1 STREAMS stream >",
    ] {
        let reply = source.call_text(&line.split(' ').collect::<Vec<_>>());
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    }
    let tables =
        "for i = 1, 3000 do redis.call('SADD', 'bigset', 'm' .. i) redis.call('HSET', 'bighash', 'f' .. i, i)
        redis.call('ZADD', 'bigzset', i / 7, 'm' .. i) redis.call('RPUSH', 'biglist', i) end";
    say(&mut source, &["EVAL", tables, "0"], "$-1\r\n");
    say(&mut source, &["SET", "binary \r\n\0\u{7f}é", "v\0\r\n"], "+OK\r\n");
    say(&mut source, &["SET", "", "the empty name"], "+OK\r\n");
    let large = vec![b'x'; 64 << 20];
    source.set_patience(Duration::from_secs(120));
    assert_eq!(source.call(&[&b"SET"[..], b"large", &large]), b"+OK\r\n");
    let library = "#!lua name=lib\nredis.register_function('f', function() return 7 end)";
    say(&mut source, &["FUNCTION", "LOAD", library], "$3\r\nlib\r\n");
    let keys = source.call_text(&["DBSIZE"]);

    all.import(&["--dry-run"], 0, "database 0");
    assert_eq!(count(&all.cluster), 0);
    let output = all.import(&["--yes", "--output", "json"], 0, "");
    let answer = json(&output);
    assert_eq!(answer["result"], "imported", "{answer}");
    assert_eq!(format!(":{}\r\n", answer["compared"]), keys);
    assert_eq!(answer["same"], answer["compared"], "{answer}");
    assert!(!all.state().exists(), "nothing is left to go on with");

    for (key, words) in [
        ("string", &["GET", "string"][..]),
        ("expiring", &["PEXPIRETIME", "expiring"]),
        ("list", &["LRANGE", "list", "0", "-1"]),
        ("zset", &["ZRANGE", "zset", "0", "-1", "WITHSCORES"]),
        ("hash", &["HGETALL", "hash"]),
        ("hll", &["PFCOUNT", "hll"]),
        ("bits", &["BITCOUNT", "bits"]),
        ("geo", &["GEOPOS", "geo", "Palermo"]),
        ("stream", &["XRANGE", "stream", "-", "+"]),
        ("stream", &["XPENDING", "stream", "group"]),
        ("bigset", &["SCARD", "bigset"]),
        ("bighash", &["HGET", "bighash", "f2999"]),
        ("bigzset", &["ZSCORE", "bigzset", "m2999"]),
        ("biglist", &["LINDEX", "biglist", "2999"]),
        ("binary \r\n\0\u{7f}é", &["GET", "binary \r\n\0\u{7f}é"]),
        ("", &["GET", ""]),
        ("large", &["STRLEN", "large"]),
    ] {
        assert_eq!(all.ask(key, words), source.call_text(words), "{words:?}");
    }
    for ix in 0..3 {
        assert_eq!(all.cluster.client(ix).call_text(&["FCALL", "f", "0"]), ":7\r\n");
    }
    all.import(&["--yes"], 0, "Done. Point your app at slotgate now");
}

#[test]
fn another_cluster_is_read_whole() {
    let all = Move::new(RealCluster::start_without_replicas(&[]), RealCluster::start_without_replicas(&[]));
    for n in 0..200 {
        let key = format!("key:{n}");
        let mut owner = Client::connect(owner_of(all.source.addrs(), &key));
        say(&mut owner, &["SET", &key, "value"], "+OK\r\n");
    }
    all.import(&["--yes"], 0, "Compared 200 keys: 200 are the same");
    assert_eq!(count(&all.cluster), 200);
    assert!(!Path::new(&all.state()).exists());
}
