//! MULTI to EXEC in one slot: never half.

use crate::support::both::Both;
use crate::support::client::{Client, request};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, shared};

/// Plays lines to the gateway and to a plain server; each must say the same to each.
#[track_caller]
pub fn play(lines: &[&str]) {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    for protocol in ["2", "3"] {
        let mut both = Both::connect(&gateway, &server);
        both.ours.call(&["HELLO", protocol]);
        both.model.call(&["HELLO", protocol]);
        for line in lines {
            both.same(line);
        }
    }
}

#[test]
fn a_transaction_runs_whole_and_answers_as_one() {
    play(&[
        "DEL {transactions}a {transactions}h",
        "MULTI",
        "SET {transactions}a 1",
        "INCR {transactions}a",
        "HSET {transactions}h f v",
        "HGETALL {transactions}h",
        "LPUSH {transactions}a wrong-type",
        "GET {transactions}none",
        "BLPOP {transactions}none 0",
        "PING",
        "EXEC",
        "GET {transactions}a",
        "EXEC",
        "DISCARD",
        "MULTI",
        "EXEC",
        "MULTI",
        "PING",
        "EXEC",
    ]);
}

#[test]
fn discard_forgets_what_was_queued() {
    play(&[
        "SET {transactions}d 1",
        "MULTI",
        "SET {transactions}d 2",
        "DISCARD",
        "GET {transactions}d",
        "EXEC",
        "MULTI",
        "EXEC",
    ]);
}

#[test]
fn an_error_while_queueing_makes_exec_refuse() {
    for wrong in ["NOSUCHCOMMAND", "GET", "GET a b", "CLIENT NOSUCH", "DEBUG", "MULTI now", "WATCH"] {
        play(&[
            "SET {transactions}e 1",
            "MULTI",
            "SET {transactions}e 2",
            wrong,
            "GET {transactions}e",
            "EXEC",
            "GET {transactions}e",
        ]);
    }
}

#[test]
fn a_nested_multi_and_a_watch_inside_are_errors_that_the_transaction_survives() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    // As Redis has it, in front of any server: Valkey refuses both in other words and ends the transaction.
    for (line, reply) in [
        ("SET {transactions}n 1", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("MULTI", "-ERR MULTI calls can not be nested\r\n"),
        ("WATCH {transactions}n", "-ERR WATCH inside MULTI is not allowed\r\n"),
        ("INCR {transactions}n", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n:2\r\n"),
        ("GET {transactions}n", "$1\r\n2\r\n"),
    ] {
        client.expect(line, reply);
    }
}

#[test]
fn keys_of_two_slots_taint_a_transaction() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    for second in [
        "SET transactions:2 2",
        "MGET transactions:1 transactions:2",
        "MSET transactions:1 x transactions:2 x",
        "SUNION a b",
    ] {
        client.expect("SET transactions:1 1", "+OK\r\n");
        client.expect("MULTI", "+OK\r\n");
        client.expect("INCR transactions:1", "+QUEUED\r\n");
        let reply = client.call_text(&second.split(' ').collect::<Vec<_>>());
        assert!(reply.starts_with("-CROSSSLOT ") && reply.contains("hash tag"), "{second}: {reply}");
        client.expect("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
        client.expect("GET transactions:1", "$1\r\n1\r\n");
    }
}

#[test]
fn a_command_that_cannot_be_in_a_transaction_taints_it() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    for wrong in
        ["SUBSCRIBE x", "SCRIPT KILL", "CLIENT LIST", "HELLO 3", "AUTH x", "CLIENT REPLY OFF", "WAIT 0 0"]
    {
        client.expect("MULTI", "+OK\r\n");
        let reply = client.call_text(&wrong.split(' ').collect::<Vec<_>>());
        assert!(reply.starts_with("-ERR '"), "{wrong}: {reply}");
        client.expect("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    }
}

#[test]
fn a_whole_transaction_may_come_in_one_write_among_other_commands() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let lines = [
        "SET {transactions}p 1",
        "MULTI",
        "INCR {transactions}p",
        "INCR {transactions}p",
        "EXEC",
        "GET {transactions}p",
        "MGET a b c",
        "PING",
    ];
    let bytes: Vec<u8> =
        lines.iter().flat_map(|line| request(&line.split(' ').collect::<Vec<_>>())).collect();
    for _ in 0..20 {
        client.send_raw(&bytes);
    }
    for _ in 0..20 {
        for reply in [
            "+OK\r\n",
            "+OK\r\n",
            "+QUEUED\r\n",
            "+QUEUED\r\n",
            "*2\r\n:2\r\n:3\r\n",
            "$1\r\n3\r\n",
            "*3\r\n$-1\r\n$-1\r\n$-1\r\n",
            "+PONG\r\n",
        ] {
            assert_eq!(String::from_utf8(client.read()).unwrap(), reply);
        }
    }
}

#[test]
fn nothing_of_other_clients_comes_between_the_commands_of_a_transaction() {
    let gateway = Gateway::start(shared());
    let addr = gateway.addr();
    let others: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(addr);
                for _ in 0..300 {
                    client.call(&["INCR", "transactions:alone"]);
                }
            })
        })
        .collect();
    let mut client = gateway.client();
    for _ in 0..200 {
        client.expect("MULTI", "+OK\r\n");
        for _ in 0..3 {
            client.expect("INCR transactions:alone", "+QUEUED\r\n");
        }
        let reply = client.call_text(&["EXEC"]);
        let numbers: Vec<i64> = reply.lines().skip(1).map(|line| line[1..].parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
    others.into_iter().for_each(|thread| thread.join().unwrap());
    client.expect("GET transactions:alone", "$4\r\n1800\r\n");
    client.expect("DEL transactions:alone", ":1\r\n");
}

#[test]
fn what_is_not_served_is_refused_within_a_transaction_that_runs() {
    let gateway = Gateway::start(shared());
    for watched in [false, true] {
        let mut client = gateway.client();
        client.call(&["DEL", "transactions:refused"]);
        if watched {
            client.expect("WATCH transactions:refused", "+OK\r\n");
        }
        client.expect("MULTI", "+OK\r\n");
        client.expect("INCR transactions:refused", "+QUEUED\r\n");
        client.expect("REPLICAOF localhost 9999", "+QUEUED\r\n");
        client.expect("INCR transactions:refused", "+QUEUED\r\n");
        let reply = client.call_text(&["EXEC"]);
        assert!(reply.starts_with("*3\r\n:1\r\n-ERR 'replicaof' is not served"), "{reply}");
        assert!(reply.ends_with("\r\n:2\r\n"), "{reply}");
        client.expect("MULTI", "+OK\r\n");
        let reply = client.call_text(&["REPLICAOF", "alone"]);
        assert!(reply.starts_with("-ERR wrong number of arguments"), "{reply}");
        let reply = client.call_text(&["EXEC"]);
        assert!(reply.starts_with("-EXECABORT"), "{reply}");
    }
}

#[test]
fn commands_about_the_connection_run_within_a_transaction() {
    play(&[
        "DEL {transactions}about",
        "MULTI",
        "SELECT 0",
        "CLIENT SETNAME inside",
        "INCR {transactions}about",
        "CLIENT GETNAME",
        "SCRIPT LOAD return~ARGV[1]",
        "EVALSHA 098e0f0d1448c0a81dafe820f66d460eb09263da 0 x",
        "SELECT 99",
        "INCR {transactions}about",
        "EXEC",
        "CLIENT GETNAME",
        "MULTI",
        "CLIENT SETNAME discarded",
        "DISCARD",
        "CLIENT GETNAME",
        "MULTI",
        "CLIENT SETNAME alone",
        "CLIENT GETNAME",
        "EXEC",
        "WATCH {transactions}about",
        "MULTI",
        "CLIENT GETNAME",
        "GET {transactions}about",
        "EXEC",
        "WATCH {transactions}about",
        "INCR {transactions}about",
        "MULTI",
        "CLIENT SETNAME never",
        "EXEC",
        "CLIENT GETNAME",
        "MULTI",
        "CLIENT SETNAME never",
        "GET",
        "EXEC",
        "CLIENT GETNAME",
    ]);
}

#[test]
fn what_follows_a_transaction_sees_what_it_did_to_the_connection() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    for name in ["one", "two"] {
        let lines =
            ["MULTI", "GET {transactions}x", &format!("CLIENT SETNAME {name}"), "EXEC", "CLIENT GETNAME"];
        let words = |line: &&str| request(&line.split(' ').collect::<Vec<_>>());
        client.send_raw(lines.iter().flat_map(words).collect::<Vec<u8>>());
        for reply in ["+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n", "*2\r\n$-1\r\n+OK\r\n"] {
            assert_eq!(String::from_utf8(client.read()).unwrap(), reply);
        }
        assert_eq!(String::from_utf8(client.read()).unwrap(), format!("$3\r\n{name}\r\n"));
    }
}

#[test]
fn commands_for_all_nodes_run_within_a_transaction() {
    play(&[
        "DEL {transactions}all",
        "MULTI",
        "INCR {transactions}all",
        "SCRIPT EXISTS 0123456789012345678901234567890123456789",
        "CONFIG SET maxmemory-samples 7",
        "INCR {transactions}all",
        "CONFIG GET maxmemory-samples",
        "CONFIG SET maxmemory-samples none",
        "PUBSUB NUMSUB transactions:nobody",
        "CLIENT GETNAME",
        "EXEC",
        "GET {transactions}all",
        "CONFIG SET maxmemory-samples 5",
        "WATCH {transactions}all",
        "SET {transactions}all 9",
        "MULTI",
        "INCR {transactions}all",
        "CONFIG GET maxmemory-samples",
        "EXEC",
        "GET {transactions}all",
    ]);
}
