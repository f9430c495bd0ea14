//! Commands about the whole keyspace: one answer over all shards.

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{shared, whole_keyspace};
use crate::support::value::Value;
use std::collections::BTreeSet;

/// The texts of a list.
fn texts(reply: &[u8]) -> Vec<String> {
    Value::of(reply).items().into_iter().map(|item| item.text().to_owned()).collect()
}

/// One step of a scan: the next cursor and the keys.
fn scan(client: &mut Client, cursor: &str, options: &[&str]) -> (String, Vec<String>) {
    let reply = client.call(&[&["SCAN", cursor], options].concat());
    let value = Value::of(&reply);
    let items = match &value {
        Value::List(items) => items,
        other => panic!("{other:?}"),
    };
    let keys = items[1].items().into_iter().map(|item| item.text().to_owned()).collect();
    (items[0].text().to_owned(), keys)
}

/// A whole scan; also checks every cursor.
fn scan_all(client: &mut Client, options: &[&str], mut at_each_step: impl FnMut(usize)) -> Vec<String> {
    let (mut cursor, mut keys) = ("0".to_string(), Vec::new());
    for step in 0.. {
        let (next, some) = scan(client, &cursor, options);
        assert!(next.parse::<i64>().is_ok(), "{next} is not below 2^63");
        assert!(next == "0" || !next.starts_with('0'), "{next} would not survive being read as a number");
        keys.extend(some);
        if next == "0" {
            return keys;
        }
        assert!(step < 100_000, "the scan does not end");
        cursor = next;
        at_each_step(step);
    }
    unreachable!()
}

fn fill(client: &mut Client, prefix: &str, count: usize) -> BTreeSet<String> {
    let keys: BTreeSet<String> = (0..count).map(|ix| format!("{prefix}{ix}")).collect();
    let mut args = vec!["MSET".to_string()];
    args.extend(keys.iter().flat_map(|key| [key.clone(), "x".to_string()]));
    assert_eq!(client.call(&args), b"+OK\r\n");
    keys
}

#[test]
fn a_scan_finds_every_key_that_is_there_all_the_time_while_others_come_and_go() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let (mut client, mut other) = (gateway.client(), gateway.client());
    let stay = fill(&mut client, "stays:", 1000);
    fill(&mut client, "goes:", 500);
    let found = scan_all(&mut client, &["COUNT", "20"], |step| {
        for ix in 0..10 {
            other.call(&["DEL", &format!("goes:{}", step * 10 + ix)]);
            other.call(&["SET", &format!("comes:{}", step * 10 + ix), "x"]);
        }
    });
    let found: BTreeSet<String> = found.into_iter().collect();
    assert!(stay.is_subset(&found), "left out: {:?}", stay.difference(&found).take(5).collect::<Vec<_>>());
}

#[test]
fn a_scan_of_a_still_keyspace_finds_nothing_that_is_not_there() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let mut client = gateway.client();
    assert_eq!(scan_all(&mut client, &[], |_| ()), [""; 0], "an empty cluster");
    let keys = fill(&mut client, "key:", 700);
    for options in [&["COUNT", "1000"][..], &[], &["COUNT", "7", "MATCH", "key:*"]] {
        let found: BTreeSet<String> = scan_all(&mut client, options, |_| ()).into_iter().collect();
        assert_eq!(found, keys, "{options:?}");
    }
}

#[test]
fn scan_options_count() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let keys = fill(&mut client, "keyspace:options:", 60);
    client.expect("RPUSH keyspace:options:list x", ":1\r\n");
    client.expect("SADD keyspace:options:set x", ":1\r\n");
    let pattern = ["MATCH", "keyspace:options:*"];
    let find = |client: &mut Client, more: &[&str]| -> BTreeSet<String> {
        scan_all(client, &[&pattern, more].concat(), |_| ()).into_iter().collect()
    };
    assert_eq!(find(&mut client, &["COUNT", "500"]).len(), 62);
    assert_eq!(find(&mut client, &["TYPE", "list"]), ["keyspace:options:list".to_string()].into());
    assert_eq!(find(&mut client, &["TYPE", "string", "COUNT", "100"]), keys);
    client.call(&["HELLO", "3"]);
    assert_eq!(find(&mut client, &["TYPE", "set"]), ["keyspace:options:set".to_string()].into());
    for line in ["SCAN x", "SCAN -1"] {
        client.expect(line, "-ERR invalid cursor\r\n");
    }
    client.expect("SCAN", "-ERR wrong number of arguments for 'scan' command\r\n");
    client.expect("SCAN 0 COUNT 0", "-ERR syntax error\r\n");
    client.expect("SCAN 0 COUNT", "-ERR syntax error\r\n");
}

#[test]
fn any_cursor_that_a_client_makes_up_is_harmless() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    for cursor in ["1", "17", "1099511627776", "9223372036854775807", "18446744073709551615"] {
        let (next, _) = scan(&mut client, cursor, &[]);
        assert!(next.parse::<i64>().is_ok(), "{cursor} led to {next}");
    }
}

#[test]
fn keys_and_dbsize_are_those_of_all_shards() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let mut client = gateway.client();
    client.expect("DBSIZE", ":0\r\n");
    client.expect("KEYS *", "*0\r\n");
    client.expect("RANDOMKEY", "$-1\r\n");
    let keys = fill(&mut client, "k:", 300);
    client.expect("DBSIZE", ":300\r\n");
    assert_eq!(texts(&client.call(&["KEYS", "*"])).into_iter().collect::<BTreeSet<_>>(), keys);
    assert_eq!(texts(&client.call(&["KEYS", "k:29?"])).len(), 10);
    client.expect("KEYS {tag}*", "*0\r\n");
    client.expect("FLUSHALL", "+OK\r\n");
    client.expect("DBSIZE", ":0\r\n");
    fill(&mut client, "k:", 30);
    client.expect("FLUSHDB ASYNC", "+OK\r\n");
    client.expect("DBSIZE", ":0\r\n");
    client.expect("FLUSHALL NOW", "-ERR syntax error\r\n");
}

#[test]
fn randomkey_reaches_every_shard() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let mut client = gateway.client();
    let keys = fill(&mut client, "", 6);
    let mut seen = BTreeSet::new();
    // The chance to miss one of six in 300 draws is less than one in 10^20.
    for _ in 0..300 {
        seen.insert(Value::of(&client.call(&["RANDOMKEY"])).text().to_owned());
    }
    assert_eq!(seen, keys);
}

#[test]
fn commands_over_several_slots_are_carried_out_in_parts_and_answered_as_one() {
    let gateway = Gateway::start(shared());
    for protocol in ["2", "3"] {
        let mut client = gateway.client();
        client.call(&["HELLO", protocol]);
        let keys: Vec<String> = (0..40).map(|ix| format!("keyspace:many:{ix}")).collect();
        let pairs: Vec<String> =
            keys.iter().flat_map(|key| [key.clone(), format!("value of {key}")]).collect();
        assert_eq!(client.call(&[&["MSET".to_string()], &pairs[..]].concat()), b"+OK\r\n");
        let missing = "keyspace:many:missing".to_string();
        let asked: Vec<String> =
            [&["MGET".to_string()], &keys[20..], std::slice::from_ref(&missing), &keys[..20], &keys[..1]]
                .concat();
        let values = Value::of(&client.call(&asked));
        let expected: Vec<Value> = asked[1..]
            .iter()
            .map(|key| if *key == missing { Value::Null } else { Value::Text(format!("value of {key}")) })
            .collect();
        assert_eq!(values, Value::List(expected));
        let all = |name: &str| {
            [&[name.to_string()], &keys[..], &keys[..1], std::slice::from_ref(&missing)].concat()
        };
        assert_eq!(client.call(&all("EXISTS")), b":41\r\n", "a key given twice counts twice");
        assert_eq!(client.call(&all("TOUCH")), b":41\r\n");
        assert_eq!(client.call(&all("UNLINK")), b":40\r\n", "and is gone after the first time");
        assert_eq!(client.call(&all("DEL")), b":0\r\n");
    }
}
