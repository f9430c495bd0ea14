//! Replies in the order of the commands, and commands of one slot in theirs, whatever is under way.

use crate::support::client::{Client, bulk, request};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{shared, whole_keyspace};
use std::net::SocketAddr;
use std::thread;

fn frames(lines: &[String]) -> Vec<u8> {
    lines.iter().flat_map(|line| request(&line.split(' ').collect::<Vec<_>>())).collect()
}

#[test]
fn invariant_1_replies_come_in_the_order_of_the_commands_over_all_shards() {
    let gateway = Gateway::start(shared());
    let addr = gateway.addr();
    let clients: Vec<_> =
        (0..8).map(|number| thread::spawn(move || pipeline_in_order(addr, number))).collect();
    clients.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Commands of all kinds at once: local, of one node, of several, blocking, transactions.
fn pipeline_in_order(addr: SocketAddr, number: usize) {
    let mut client = Client::connect(addr);
    for round in 0..15 {
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for ix in 0..100 {
            let (key, other) =
                (format!("order:{number}:{ix}"), format!("order:{number}:{}", (ix * 7 + 3) % 100));
            let value = format!("{round}-{ix}");
            let mut say = |line: String, reply: String| {
                sent.push(line);
                expected.push(reply);
            };
            let bulk_of = |text: &str| format!("${}\r\n{text}\r\n", text.len());
            match ix % 6 {
                0 => say(format!("ECHO {value}"), bulk_of(&value)),
                1 => {
                    say(format!("MSET {key} {value} {other}x {value}"), "+OK\r\n".into());
                    say(format!("GET {key}"), bulk_of(&value));
                    say(format!("MGET {other}x {key}"), format!("*2\r\n{0}{0}", bulk_of(&value)));
                }
                2 => {
                    say("MULTI".into(), "+OK\r\n".into());
                    say(format!("SET {key} {value}"), "+QUEUED\r\n".into());
                    say("EXEC".into(), "*1\r\n+OK\r\n".into());
                    say(format!("GETDEL {key}"), bulk_of(&value));
                }
                3 => {
                    say(format!("RPUSH {key} {value}"), ":1\r\n".into());
                    say(format!("BLPOP {key} 0"), format!("*2\r\n{}{}", bulk_of(&key), bulk_of(&value)));
                }
                4 => say(
                    format!("NOSUCH {ix}"),
                    format!("-ERR unknown command 'NOSUCH', with args beginning with: '{ix}' \r\n"),
                ),
                _ => {
                    say(format!("SET {key} {value}"), "+OK\r\n".into());
                    say(format!("EXISTS {key} {key}"), ":2\r\n".into());
                    say(format!("UNLINK {key} {key}nothing"), ":1\r\n".into());
                    say(format!("GET {key}"), "$-1\r\n".into());
                }
            }
        }
        client.send_raw(frames(&sent));
        for (line, reply) in sent.iter().zip(expected) {
            assert_eq!(String::from_utf8(client.read()).unwrap(), reply, "{line}");
        }
    }
}

#[test]
fn a_command_that_follows_a_split_one_sees_all_of_it() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let keys: Vec<String> = (0..30).map(|ix| format!("order:split:{ix}")).collect();
    for round in 0..50 {
        let pairs: String = keys.iter().map(|key| format!(" {key} {round}")).collect();
        let mut lines = vec![format!("MSET{pairs}")];
        lines.extend(keys.iter().map(|key| format!("GET {key}")));
        lines.push(format!("DEL {}", keys.join(" ")));
        lines.extend(keys.iter().map(|key| format!("EXISTS {key}")));
        client.send_raw(frames(&lines));
        assert_eq!(client.read(), b"+OK\r\n");
        for _ in &keys {
            assert_eq!(client.read(), bulk(round.to_string()));
        }
        assert_eq!(client.read(), b":30\r\n");
        for _ in &keys {
            assert_eq!(client.read(), b":0\r\n");
        }
    }
}

#[test]
fn a_cluster_wide_command_comes_after_all_that_was_sent_before() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let mut client = gateway.client();
    for _ in 0..20 {
        let mut lines: Vec<String> = (0..50).map(|ix| format!("SET order:{ix} x")).collect();
        lines.extend(
            ["MSET a 1 b 2 c 3", "DBSIZE", "FLUSHALL", "DBSIZE", "SET a 1", "DBSIZE", "DEL a"]
                .map(String::from),
        );
        client.send_raw(frames(&lines));
        for _ in 0..51 {
            assert_eq!(client.read(), b"+OK\r\n");
        }
        for reply in [":53\r\n", "+OK\r\n", ":0\r\n", "+OK\r\n", ":1\r\n", ":1\r\n"] {
            assert_eq!(String::from_utf8(client.read()).unwrap(), reply);
        }
    }
}

#[test]
fn ten_thousand_commands_in_one_write_are_all_answered() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let lines: Vec<String> = (0..5000)
        .flat_map(|ix| [format!("SET order:long:{} {ix}", ix % 700), format!("GET order:long:{}", ix % 700)])
        .collect();
    let bytes = frames(&lines);
    // Another thread writes, as the gateway reads no further while too many replies wait.
    let mut writer = client.stream().try_clone().unwrap();
    let thread = thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes).unwrap());
    for ix in 0..5000 {
        assert_eq!(client.read(), b"+OK\r\n");
        assert_eq!(client.read(), bulk(ix.to_string()));
    }
    thread.join().unwrap();
}

#[test]
fn a_client_that_sends_no_more_still_gets_all_replies() {
    let gateway = Gateway::start(shared());
    for count in [1, 3, 2000] {
        let mut client = gateway.client();
        let lines: Vec<String> = (0..count)
            .flat_map(|ix| [format!("SET order:half:{ix} {ix}"), format!("MGET order:half:{ix} order:none")])
            .collect();
        client.send_raw(frames(&lines));
        client.shutdown_write();
        let said = String::from_utf8(client.read_to_end()).unwrap();
        let expected: String = (0..count)
            .map(|ix| format!("+OK\r\n*2\r\n${}\r\n{ix}\r\n$-1\r\n", ix.to_string().len()))
            .collect();
        assert!(said == expected, "of {count} pairs of replies {} bytes came", said.len());
    }
}

#[test]
fn a_client_that_quits_gets_what_it_asked_for_before() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    client.send_raw(b"SET order:quit 1\r\nMGET order:quit order:none\r\nQUIT\r\nSET order:quit 2\r\n");
    assert_eq!(client.read_to_end(), b"+OK\r\n*2\r\n$1\r\n1\r\n$-1\r\n+OK\r\n");
    gateway.client().expect("GET order:quit", "$1\r\n1\r\n");
}

#[test]
fn a_write_that_fails_on_one_node_is_never_answered_as_done() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let mut client = gateway.client();
    let keys: Vec<String> = (0..30).map(|ix| format!("key:{ix}")).collect();
    let pairs: Vec<String> = keys.iter().flat_map(|key| [key.clone(), "x".into()]).collect();
    let mset = [&["MSET".to_string()], &pairs[..]].concat();
    let full =
        cluster.iter().find(|addr| Client::connect(**addr).call_text(&["ROLE"]).contains("master")).unwrap();
    let mut node = Client::connect(*full);
    node.expect("CONFIG SET maxmemory 1", "+OK\r\n");
    let partial = client.call_text(&mset);
    let single: Vec<String> = keys.iter().map(|key| client.call_text(&["SET", key, "y"])).collect();
    let read = client.call_text(&[&["MGET".to_string()], &keys[..]].concat());
    node.expect("CONFIG SET maxmemory 0", "+OK\r\n");
    assert!(partial.starts_with("-OOM ") && partial.contains("parts failed"), "{partial}");
    let refused = single.iter().filter(|reply| reply.starts_with("-OOM command not allowed")).count();
    let done = single.iter().filter(|reply| *reply == "+OK\r\n").count();
    assert!(refused > 0 && done > 0 && refused + done == keys.len(), "{single:?}");
    assert_eq!(read.matches("$-1").count(), refused, "what failed is not there, what succeeded is");
    assert_eq!(client.call(&mset), b"+OK\r\n");
}
