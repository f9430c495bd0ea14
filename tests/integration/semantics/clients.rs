//! CLIENT and MONITOR: the gateway's clients, over all its threads, as one server shows and treats them.

use crate::support::both::{Both, words};
use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, shared};
use crate::support::wait_until;

/// Four clients at least are on two threads.
fn with_threads() -> Gateway {
    Gateway::start_with(shared(), &["--workers", "2"])
}

fn id_of(client: &mut Client) -> String {
    client.call_text(&["CLIENT", "ID"]).trim_start_matches(':').trim().to_owned()
}

/// Fields of a line of CLIENT LIST, but for the numbers that are each server's own.
fn names_of(line: &str) -> Vec<&str> {
    line.split_whitespace().filter_map(|field| field.split_once('=')).map(|(name, _)| name).collect()
}

#[test]
fn clients_of_all_threads_are_listed_as_by_one_server() {
    let (gateway, server) = (with_threads(), RealCluster::start_standalone());
    let mut both = Both::connect(&gateway, &server);
    let mut others: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for (ix, other) in others.iter_mut().enumerate() {
        other.expect(&format!("CLIENT SETNAME other{ix}"), "+OK\r\n");
    }
    others[0].expect("MULTI", "+OK\r\n");
    others[1].call(&["SUBSCRIBE", "clients:news"]);
    let list = both.ours.call_text(&["CLIENT", "LIST"]);
    let lines: Vec<&str> = list.lines().filter(|line| line.starts_with("id=")).collect();
    assert_eq!(lines.len(), 5, "{list}");
    let model = both.model.call_text(&["CLIENT", "INFO"]);
    let (ours, model) = (names_of(lines[0]), names_of(model.lines().nth(1).unwrap()));
    assert_eq!(ours[..model.len()], model, "the fields of a line, in their order");
    for part in ["name=other0 ", " flags=x ", " multi=0 ", "name=other1 ", " flags=P ", " sub=1 "] {
        assert!(list.contains(part), "{part} in {list}");
    }
    assert!(lines[0].contains(" flags=N ") && lines[0].contains(" qbuf=26 "), "{}", lines[0]);
    assert!(lines[0].contains(" cmd=client|list "), "{}", lines[0]);

    let id = id_of(&mut others[2]);
    let one = both.ours.call_text(&["CLIENT", "LIST", "ID", &id]);
    assert!(one.contains("name=other2 ") && one.matches("id=").count() == 1, "{one}");
    let pubsub = both.ours.call_text(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    assert!(pubsub.contains("name=other1 ") && !pubsub.contains("other0"), "{pubsub}");
    let info = both.ours.call_text(&["CLIENT", "INFO"]);
    assert!(info.contains(" cmd=client|info ") && info.matches("addr=").count() == 2, "{info}");
    for line in ["CLIENT LIST TYPE nosuch", "CLIENT LIST ID x", "CLIENT LIST nonsense", "CLIENT INFO x"] {
        both.same(line);
    }
}

#[test]
fn clients_of_any_thread_are_ended_by_number_address_or_type() {
    let (gateway, server) = (with_threads(), RealCluster::start_standalone());
    let mut both = Both::connect(&gateway, &server);
    for line in [
        "CLIENT KILL",
        "CLIENT KILL id 10 wrong_arg",
        "CLIENT KILL id str",
        "CLIENT KILL id -1",
        "CLIENT KILL id 0",
        "CLIENT KILL type wrong_type",
        "CLIENT KILL user wrong_user",
        "CLIENT KILL skipme yes_or_no",
        "CLIENT KILL 127.0.0.1:1",
        "CLIENT KILL id 999999",
    ] {
        both.same(line);
    }
    let mut others: Vec<Client> = (0..6).map(|_| gateway.client()).collect();
    let id = id_of(&mut others[0]);
    both.ours.expect(&format!("CLIENT KILL ID {id}"), ":1\r\n");
    assert_eq!(others[0].read_to_end(), b"");
    let addr = others[1].stream().local_addr().unwrap();
    others[1].expect("PING", "+PONG\r\n");
    both.ours.expect(&format!("CLIENT KILL {addr}"), "+OK\r\n");
    assert_eq!(others[1].read_to_end(), b"");
    others[2].call(&["SUBSCRIBE", "clients:news"]);
    both.ours.expect("CLIENT KILL TYPE pubsub", ":1\r\n");
    assert_eq!(others[2].read_to_end(), b"");
    // One that waits for data as well.
    others[3].send(&["BLPOP", "clients:none", "0"]);
    let id = id_of(&mut others[4]);
    wait_until("it is blocked", || both.ours.call_text(&["CLIENT", "LIST"]).contains(" flags=b "));
    // Our own ends after the reply; the others that are left at once.
    both.ours.expect("CLIENT KILL SKIPME no", ":4\r\n");
    assert_eq!(both.ours.read_to_end(), b"");
    for other in &mut others[3..] {
        assert_eq!(other.read_to_end(), b"");
    }
    let mut client = gateway.client();
    let list = client.call_text(&["CLIENT", "LIST"]);
    assert!(!list.contains(&format!("id={id} ")) && list.matches("fd=").count() == 1, "{list}");
    assert!(client.call_text(&["INFO", "clients"]).contains("\nconnected_clients:1\r\n"));
}

#[test]
fn a_client_of_any_thread_that_waits_for_data_can_be_unblocked() {
    let (gateway, server) = (with_threads(), RealCluster::start_standalone());
    let mut both = Both::connect(&gateway, &server);
    for line in
        ["CLIENT UNBLOCK asd", "CLIENT UNBLOCK -5", "CLIENT UNBLOCK 99999", "CLIENT UNBLOCK 1 nonsense"]
    {
        both.same(line);
    }
    let mut others: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for (ix, other) in others.iter_mut().enumerate() {
        let id = id_of(other);
        both.ours.expect(&format!("CLIENT UNBLOCK {id}"), ":0\r\n");
        let key = format!("clients:unblock:{ix}");
        for (reason, reply) in [
            ("", "*-1\r\n"),
            (" TIMEOUT", "*-1\r\n"),
            (" ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
        ] {
            other.send(&["BLPOP", &key, "0"]);
            wait_until("it is unblocked", || {
                both.ours.call_text(&words(&format!("CLIENT UNBLOCK {id}{reason}"))) == ":1\r\n"
            });
            assert_eq!(String::from_utf8_lossy(&other.read()), reply);
        }
        other.send(&["BLPOP", &key, "0"]);
        wait_until("it waits", || both.ours.call_text(&["CLIENT", "LIST"]).contains(" cmd=blpop "));
        both.ours.expect(&format!("RPUSH {key} x"), ":1\r\n");
        assert!(other.read().ends_with(b"$1\r\nx\r\n"));
    }
}

#[test]
fn writes_of_all_threads_wait_for_the_end_of_a_pause_and_reads_do_not() {
    let (gateway, server) = (with_threads(), RealCluster::start_standalone());
    let mut both = Both::connect(&gateway, &server);
    for line in [
        "CLIENT PAUSE abc",
        "CLIENT PAUSE -1",
        "CLIENT PAUSE 1 some",
        "CLIENT PAUSE",
        "CLIENT UNPAUSE x",
        "CLIENT UNPAUSE",
    ] {
        both.same(line);
    }
    let mut writers: Vec<Client> = (0..3).map(|_| gateway.client()).collect();
    writers[2].expect("MULTI", "+OK\r\n");
    writers[2].expect("SET clients:pause 3", "+QUEUED\r\n");
    both.ours.expect("SET clients:pause 0", "+OK\r\n");
    both.ours.expect("CLIENT PAUSE 100000 WRITE", "+OK\r\n");
    writers[0].send(&["SET", "clients:pause", "1"]);
    writers[1].send(&["PUBLISH", "clients:news", "x"]);
    writers[2].send(&["EXEC"]);
    let mut reader = gateway.client();
    wait_until("three wait", || reader.call_text(&["INFO", "clients"]).contains("\nblocked_clients:3\r\n"));
    for (line, reply) in [
        ("GET clients:pause", "$1\r\n0\r\n"),
        ("SET", "-ERR wrong number of arguments for 'set' command\r\n"),
        ("MULTI", "+OK\r\n"),
        ("GET clients:pause", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n$1\r\n0\r\n"),
    ] {
        reader.expect(line, reply);
    }
    let script = "#!lua flags=no-writes\nreturn 5";
    assert_eq!(reader.call_text(&["EVAL", script, "0"]), ":5\r\n");
    // One that leaves waits no more, and writes nothing.
    writers.remove(0).shutdown_write();
    wait_until("two wait", || reader.call_text(&["INFO", "clients"]).contains("\nblocked_clients:2\r\n"));
    both.ours.expect("CLIENT UNPAUSE", "+OK\r\n");
    assert_eq!(writers[0].read(), b":0\r\n");
    assert_eq!(writers[1].read(), b"*1\r\n+OK\r\n");
    reader.expect("GET clients:pause", "$1\r\n3\r\n");
    assert!(reader.call_text(&["INFO", "clients"]).contains("\nblocked_clients:0\r\n"));
    // A script that may write waits, and a function that its node says writes.
    let library = "#!lua name=clients\nredis.register_function{function_name='clients_read', callback=function() return 1 end, \
                   flags={'no-writes'}}\nredis.register_function('clients_write', function() return 2 end)";
    assert_eq!(both.ours.call_text(&["FUNCTION", "LOAD", "REPLACE", library]), "$7\r\nclients\r\n");
    both.ours.expect("CLIENT PAUSE 100000 WRITE", "+OK\r\n");
    reader.expect("FCALL clients_read 0", ":1\r\n");
    writers[0].send(&["FCALL", "clients_write", "0"]);
    writers[1].send(&["EVAL", "return 1", "0"]);
    wait_until("two wait", || reader.call_text(&["INFO", "clients"]).contains("\nblocked_clients:2\r\n"));
    both.ours.expect("CLIENT UNPAUSE", "+OK\r\n");
    assert_eq!(writers[0].read(), b":2\r\n");
    assert_eq!(writers[1].read(), b":1\r\n");
    both.ours.expect("FUNCTION DELETE clients", "+OK\r\n");
    // It ends by itself as well.
    reader.expect("CLIENT PAUSE 30 WRITE", "+OK\r\n");
    reader.expect("SET clients:pause 4", "+OK\r\n");
    reader.expect("DEL clients:pause", ":1\r\n");
}

#[test]
fn a_monitor_sees_the_commands_of_all_threads_as_their_clients_gave_them() {
    let gateway = with_threads();
    let mut monitors: Vec<Client> = (0..2).map(|_| gateway.client()).collect();
    for monitor in &mut monitors {
        monitor.expect("MONITOR", "+OK\r\n");
    }
    let mut clients: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for (ix, client) in clients.iter_mut().enumerate() {
        let addr = client.stream().local_addr().unwrap();
        let key = format!("clients:monitor:{ix}");
        client.call(&words(&format!("MSET {key} x clients:other a~b")));
        client.call(&["AUTH", "default", "secret"]);
        client.call(&["NOSUCH"]);
        client.expect("MULTI", "+OK\r\n");
        client.expect(&format!("GET {key}"), "+QUEUED\r\n");
        client.expect("EXEC", "*1\r\n$1\r\nx\r\n");
        for monitor in &mut monitors {
            for command in [
                format!("\"MSET\" \"{key}\" \"x\" \"clients:other\" \"a b\""),
                "\"AUTH\" \"(redacted)\" \"(redacted)\"".to_owned(),
                "\"MULTI\"".to_owned(),
                format!("\"GET\" \"{key}\""),
                "\"EXEC\"".to_owned(),
            ] {
                let line = String::from_utf8(monitor.read()).unwrap();
                assert!(
                    line.starts_with('+') && line.ends_with(&format!(" [0 {addr}] {command}\r\n")),
                    "{line}"
                );
            }
        }
    }
    // What a script runs is seen at its node.
    let script = "return redis.call('SET', KEYS[1], ARGV[1])";
    assert_eq!(clients[0].call_text(&["EVAL", script, "1", "clients:lua", "v"]), "+OK\r\n");
    for monitor in &mut monitors {
        // The one comes from the client's thread, the other from the node.
        let mut lines: Vec<String> = (0..2).map(|_| String::from_utf8(monitor.read()).unwrap()).collect();
        lines.sort_by_key(|line| line.contains(" lua] "));
        assert!(
            lines[0].contains("\"EVAL\" \"return redis.call('SET', KEYS[1], ARGV[1])\" \"1\""),
            "{lines:?}"
        );
        assert!(lines[1].ends_with(" [0 lua] \"SET\" \"clients:lua\" \"v\"\r\n"), "{lines:?}");
    }
    monitors[0].expect("RESET", "+RESET\r\n");
    clients[0].expect("DEL clients:other clients:lua", ":2\r\n");
    monitors[0].expect("PING", "+PONG\r\n");
    let list = clients[0].call_text(&["CLIENT", "LIST"]);
    assert_eq!(list.matches(" flags=O ").count(), 1, "{list}");
}
