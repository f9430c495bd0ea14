//! Scripts: on the node of their keys, on any node without keys, known to all nodes once loaded.

use crate::support::gateway::Gateway;
use crate::support::real_cluster::shared;
use crate::support::value::Value;

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
