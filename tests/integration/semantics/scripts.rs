//! Scripts: on the node of their keys, on any node without keys, known to all nodes once loaded.

use crate::support::client::{Client, request};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, shared};
use crate::support::slot_move::SlotMove;
use crate::support::value::Value;
use crate::support::wait_until;

#[test]
fn a_script_runs_where_its_keys_are() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    for ix in 0..30 {
        let key = format!("scripts:key:{ix}");
        let script = "redis.call('SET', KEYS[1], ARGV[1]); return {KEYS[1], redis.call('STRLEN', KEYS[1])}";
        let reply = client.call_text(&["EVAL", script, "1", &key, "four"]);
        assert_eq!(reply, format!("*2\r\n${}\r\n{key}\r\n:4\r\n", key.len()));
    }
    assert_eq!(
        client.call(&["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "scripts:key:7"]),
        b"$4\r\nfour\r\n"
    );
}

#[test]
fn a_script_without_keys_runs_on_any_node() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    assert_eq!(
        client.call(&["EVAL", "return {1, 'two', {3}, ARGV[1]}", "0", "x"]),
        b"*4\r\n:1\r\n$3\r\ntwo\r\n*1\r\n:3\r\n$1\r\nx\r\n"
    );
    assert_eq!(
        client.call(&["EVAL", "return redis.error_reply('MINE and no other')", "0"]),
        b"-MINE and no other\r\n"
    );
}

#[test]
fn a_script_with_keys_of_several_slots_is_refused_with_what_to_do() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    for line in [
        "EVAL return~1 2 scripts:a scripts:b",
        "EVALSHA 0123456789012345678901234567890123456789 2 a b",
        "FCALL f 2 a b",
    ] {
        let reply = client.call_text(&crate::support::both::words(line));
        assert!(reply.starts_with("-CROSSSLOT ") && reply.contains("hash tag"), "{line}: {reply}");
    }
}

#[test]
fn a_loaded_script_is_known_to_every_node() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let reply = client.call(&["SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1]) -- of scripts"]);
    let sha = Value::of(&reply).text().to_owned();
    let unknown = "0123456789012345678901234567890123456789";
    assert_eq!(client.call(&["SCRIPT", "EXISTS", &sha, unknown, &sha]), b"*3\r\n:1\r\n:0\r\n:1\r\n");
    for ix in 0..30 {
        assert_eq!(client.call(&["EVALSHA", &sha, "1", &format!("scripts:loaded:{ix}")]), b":1\r\n");
        client.call(&["DEL", &format!("scripts:loaded:{ix}")]);
    }
    let reply = client.call_text(&["EVALSHA", unknown, "1", "a"]);
    assert!(reply.starts_with("-NOSCRIPT "), "{reply}");
    let reply = client.call_text(&["SCRIPT", "LOAD", "this is no script"]);
    assert!(reply.starts_with("-ERR Error compiling script"), "{reply}");
}

#[test]
fn a_loaded_function_library_is_known_to_every_node() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let library = "#!lua name=scripts_test\nredis.register_function('scripts_test_incr', function(keys) return redis.call('INCR', keys[1]) end)";
    assert_eq!(client.call(&["FUNCTION", "LOAD", "REPLACE", library]), b"$12\r\nscripts_test\r\n");
    for ix in 0..30 {
        assert_eq!(
            client.call(&["FCALL", "scripts_test_incr", "1", &format!("scripts:function:{ix}")]),
            b":1\r\n"
        );
        client.call(&["DEL", &format!("scripts:function:{ix}")]);
    }
    assert_eq!(client.call(&["FUNCTION", "DELETE", "scripts_test"]), b"+OK\r\n");
    assert_eq!(client.call(&["FCALL", "scripts_test_incr", "1", "a"]), b"-ERR Function not found\r\n");
}

/// A script, and what it is called by (`printf ... | sha1sum`).
const COUNT: (&str, &str) =
    ("return redis.call('INCR', KEYS[1])", "61636018f4e6b5817b89791bbed242f93fa089e3");

#[test]
fn a_script_that_was_run_once_is_known_for_every_key() {
    let cluster = RealCluster::start_without_replicas(&[("appendonly", "no")]);
    let gateway = Gateway::start_with(cluster.addrs(), &["--workers", "2"]);
    let (mut client, mut other) = (gateway.client(), gateway.client());
    let (body, sha) = COUNT;
    let no_script = |reply: String| assert!(reply.starts_with("-NOSCRIPT "), "{reply}");
    let exists = |client: &mut Client| client.call_text(&["SCRIPT", "EXISTS", sha]);
    no_script(client.call_text(&["EVALSHA", sha, "1", "a"]));
    assert_eq!(exists(&mut client), "*1\r\n:0\r\n");
    assert_eq!(client.call_text(&["EVAL", body, "1", "count"]), ":1\r\n");
    assert_eq!(exists(&mut other), "*1\r\n:1\r\n");
    for ix in 0..30 {
        let key = format!("count:{ix}");
        assert_eq!(other.call_text(&["EVALSHA", &sha.to_uppercase(), "1", &key]), ":1\r\n");
        client.expect("MULTI", "+OK\r\n");
        assert_eq!(client.call_text(&["EVALSHA", sha, "1", &key]), "+QUEUED\r\n");
        client.expect("EXEC", "*1\r\n:2\r\n");
        client.expect(&format!("WATCH {key}"), "+OK\r\n");
        client.expect("MULTI", "+OK\r\n");
        assert_eq!(client.call_text(&["EVALSHA", sha, "1", &key]), "+QUEUED\r\n");
        client.expect("EXEC", "*1\r\n:3\r\n");
    }
    // A node that has lost it says so once.
    for node in 0..3 {
        cluster.client(node).expect("SCRIPT FLUSH", "+OK\r\n");
    }
    for ix in 0..30 {
        let key = format!("count:{ix}");
        let reply = client.call_text(&["EVALSHA", sha, "1", &key]);
        if reply != ":4\r\n" {
            no_script(reply);
            assert_eq!(client.call_text(&["EVALSHA", sha, "1", &key]), ":4\r\n");
        }
    }
    client.expect("SCRIPT FLUSH", "+OK\r\n");
    assert_eq!(exists(&mut other), "*1\r\n:0\r\n");
    for ix in 0..30 {
        no_script(client.call_text(&["EVALSHA", sha, "1", &format!("count:{ix}")]));
    }
    let broken = client.call_text(&["EVAL", "this is no script", "0"]);
    assert!(broken.starts_with("-ERR Error compiling script"), "{broken}");
    // printf 'this is no script' | sha1sum
    let reply = client.call_text(&["SCRIPT", "EXISTS", "8374e9a60e1a8e9a9c0111f4c1d11ae8e7696ba3"]);
    assert_eq!(reply, "*1\r\n:0\r\n");
}

#[test]
fn a_script_follows_a_slot_on_the_move() {
    let cluster = RealCluster::start_without_replicas(&[("appendonly", "no")]);
    let gateway = Gateway::start_with(cluster.addrs(), &["--workers", "1", "--refresh", "1h"]);
    let mut client = gateway.client();
    let (body, sha) = COUNT;
    assert_eq!(client.call_text(&["EVAL", body, "1", "a{mv}"]), ":1\r\n");
    let to = (cluster.owner_of_key("{mv}") + 1) % 3;
    let mut moving = SlotMove::begin(&cluster, "{mv}", to);
    moving.move_keys(&["a{mv}"]);
    // By ASK, alone and in a transaction, with more behind it in the pipeline.
    let evalsha = request(&["EVALSHA", sha, "1", "a{mv}"]);
    let get = request(&["GET", "a{mv}"]);
    client.send_raw([&evalsha[..], &get, &request(&["MULTI"]), &evalsha, &request(&["EXEC"]), &get].concat());
    for reply in [":2\r\n", "$1\r\n2\r\n", "+OK\r\n", "+QUEUED\r\n", "*1\r\n:3\r\n", "$1\r\n3\r\n"] {
        assert_eq!(String::from_utf8_lossy(&client.read()), reply);
    }
    cluster.client(to).expect("SCRIPT FLUSH", "+OK\r\n");
    moving.finish();
    // By MOVED, to a node that has lost it without a word.
    let reply = client.call_text(&["EVALSHA", sha, "1", "a{mv}"]);
    assert!(reply == ":4\r\n" || reply.starts_with("-NOSCRIPT "), "{reply}");
    let next = if reply == ":4\r\n" { ":5\r\n" } else { ":4\r\n" };
    assert_eq!(client.call_text(&["EVALSHA", sha, "1", "a{mv}"]), next);
}

#[test]
fn a_script_that_runs_for_ever_is_killed_whatever_connection_it_came_by() {
    let cluster = RealCluster::start_without_replicas(&[("lua-time-limit", "10")]);
    let gateway = Gateway::start_with(cluster.addrs(), &["--workers", "1"]);
    for words in
        [&["EVAL", "while true do end", "0"][..], &["EVAL", "while true do end", "1", "scripts:busy"]]
    {
        let (mut client, mut other) = (gateway.client(), gateway.client());
        client.send(words);
        if words[2] == "0" {
            wait_until("one Redis would be busy", || other.call(&["PING"]).starts_with(b"-BUSY "));
        }
        // Not before the node knows that it takes long.
        wait_until("it is killed", || other.call(&["SCRIPT", "KILL"]) == b"+OK\r\n");
        let reply = String::from_utf8(client.read()).unwrap();
        assert!(reply.contains("killed by user"), "{reply}");
        other.expect("PING", "+PONG\r\n");
        other.expect("GET scripts:busy", "$-1\r\n");
        let reply = other.call_text(&["SCRIPT", "KILL"]);
        assert!(reply.starts_with("-NOTBUSY "), "{reply}");
    }
}

#[test]
fn a_script_that_names_no_key_runs_where_its_key_is() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    for ix in 0..9 {
        let script = format!("return redis.call('SET', 'scripts:undeclared:{ix}', ARGV[1])");
        assert_eq!(client.call(&["EVAL", &script, "0", "v"]), b"+OK\r\n");
        assert_eq!(client.call(&["GET", &format!("scripts:undeclared:{ix}")]), b"$1\r\nv\r\n");
    }
    let script = "for ix = 0, 8 do redis.call('DEL', 'scripts:undeclared:' .. ix) end";
    let reply = client.call_text(&["EVAL", script, "0"]);
    assert!(reply.contains("non local key") && reply.contains("EVAL script 1 key"), "{reply}");
}
