//! Commands that wait for data: on a connection of their own, and nothing is lost when the client leaves.

use crate::support::client::{Client, request};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, shared, whole_keyspace};
use crate::support::wait_until;
use std::net::SocketAddr;

/// Waits until exactly `count` clients are blocked on the nodes.
fn wait_for_blocked(nodes: &[SocketAddr], count: usize) {
    let mut seen = 0;
    wait_until(&format!("{count} clients are blocked"), || {
        let of_node = |addr: &SocketAddr| -> usize {
            let info = Client::connect(*addr).call_text(&["INFO", "clients"]);
            let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
            line.expect("INFO has it").parse().unwrap()
        };
        seen = nodes.iter().map(of_node).sum();
        seen == count
    });
}

/// A blocking command, what another client does then, and the reply in RESP2 and RESP3.
struct Case {
    waits: &'static str,
    pushes: &'static str,
    replies: [&'static str; 2],
}

const CASES: &[Case] = &[
    Case {
        waits: "BLPOP {k}1 {k}2 0",
        pushes: "RPUSH {k}2 x",
        replies: ["*2\r\n$4\r\n{k}2\r\n$1\r\nx\r\n"; 2],
    },
    Case { waits: "BRPOP {k}1 0", pushes: "RPUSH {k}1 x", replies: ["*2\r\n$4\r\n{k}1\r\n$1\r\nx\r\n"; 2] },
    Case { waits: "BLMOVE {k}1 {k}2 LEFT RIGHT 0", pushes: "RPUSH {k}1 x", replies: ["$1\r\nx\r\n"; 2] },
    Case { waits: "BRPOPLPUSH {k}1 {k}2 0", pushes: "RPUSH {k}1 x", replies: ["$1\r\nx\r\n"; 2] },
    Case {
        waits: "BLMPOP 0 2 {k}1 {k}2 LEFT",
        pushes: "RPUSH {k}2 x",
        replies: ["*2\r\n$4\r\n{k}2\r\n*1\r\n$1\r\nx\r\n"; 2],
    },
    Case {
        waits: "BZPOPMIN {k}1 0",
        pushes: "ZADD {k}1 1.5 m",
        replies: ["*3\r\n$4\r\n{k}1\r\n$1\r\nm\r\n$3\r\n1.5\r\n", "*3\r\n$4\r\n{k}1\r\n$1\r\nm\r\n,1.5\r\n"],
    },
    Case {
        waits: "XREAD BLOCK 0 STREAMS {k}1 $",
        pushes: "XADD {k}1 5-1 f v",
        replies: [
            "*1\r\n*2\r\n$4\r\n{k}1\r\n*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
            "%1\r\n$4\r\n{k}1\r\n*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
        ],
    },
];

#[test]
fn a_blocking_command_gets_what_another_client_pushes() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    for case in CASES {
        for (protocol, reply) in ["2", "3"].into_iter().zip(case.replies) {
            let (mut waiter, mut pusher) = (gateway.client(), gateway.client());
            waiter.call(&["HELLO", protocol]);
            waiter.send(&case.waits.split(' ').collect::<Vec<_>>());
            wait_for_blocked(&cluster, 1);
            // Others go on meanwhile, for the same slot too.
            pusher.expect("SET {k}other 1", "+OK\r\n");
            pusher.call(&case.pushes.split(' ').collect::<Vec<_>>());
            assert_eq!(String::from_utf8(waiter.read()).unwrap(), reply, "{}", case.waits);
            waiter.expect("PING", "+PONG\r\n");
            pusher.expect("FLUSHALL", "+OK\r\n");
        }
    }
}

#[test]
fn a_blocking_command_ends_when_its_time_is_over() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    for (line, replies) in [
        ("BLPOP {k}1 {k}2 0.05", ["*-1\r\n", "_\r\n"]),
        ("BLMOVE {k}1 {k}2 LEFT RIGHT 0.05", ["*-1\r\n", "_\r\n"]),
        ("BLMPOP 0.05 1 {k}1 LEFT", ["*-1\r\n", "_\r\n"]),
        ("BZPOPMAX {k}1 0.05", ["*-1\r\n", "_\r\n"]),
        ("XREAD BLOCK 50 STREAMS {k}1 $", ["*-1\r\n", "_\r\n"]),
        ("BLPOP {k}1 nonsense", ["-ERR timeout is not a float or out of range\r\n"; 2]),
        ("BLPOP {k}1 -1", ["-ERR timeout is negative\r\n"; 2]),
    ] {
        for (protocol, reply) in ["2", "3"].into_iter().zip(replies) {
            let mut client = gateway.client();
            client.call(&["HELLO", protocol]);
            client.expect(line, reply);
            client.expect("PING", "+PONG\r\n");
        }
    }
}

#[test]
fn a_client_that_leaves_while_it_is_blocked_takes_no_element_along() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let mut pusher = gateway.client();
    for round in 0..5 {
        let mut leaver = gateway.client();
        leaver.send(&["BLPOP", "queue", "0"]);
        wait_for_blocked(&cluster, 1);
        if round % 2 == 0 {
            drop(leaver);
            wait_for_blocked(&cluster, 0);
        } else {
            // It says first that it sends no more.
            leaver.shutdown_write();
            wait_for_blocked(&cluster, 0);
        }
        pusher.expect("RPUSH queue element", ":1\r\n");
        pusher.expect("LPOP queue", "$7\r\nelement\r\n");
    }
}

#[test]
fn elements_go_to_blocked_clients_in_the_order_in_which_they_came() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let mut waiters: Vec<Client> = (1..=5)
        .map(|count| {
            let mut client = gateway.client();
            client.send(&["BLPOP", "queue", "0"]);
            wait_for_blocked(&cluster, count);
            client
        })
        .collect();
    let mut pusher = gateway.client();
    pusher.expect("RPUSH queue 0 1 2 3 4", ":5\r\n");
    for (ix, waiter) in waiters.iter_mut().enumerate() {
        assert_eq!(waiter.read(), format!("*2\r\n$5\r\nqueue\r\n$1\r\n{ix}\r\n").into_bytes());
    }
}

#[test]
fn what_a_client_sends_behind_a_blocking_command_waits_for_it() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let (mut client, mut pusher) = (gateway.client(), gateway.client());
    client.send_raw(
        [
            request(&["SET", "a", "1"]),
            request(&["BLPOP", "queue", "0"]),
            request(&["GET", "a"]),
            request(&["PING"]),
        ]
        .concat(),
    );
    assert_eq!(client.read(), b"+OK\r\n");
    wait_for_blocked(&cluster, 1);
    pusher.expect("SET a 2", "+OK\r\n");
    pusher.expect("RPUSH queue x", ":1\r\n");
    assert_eq!(client.read(), b"*2\r\n$5\r\nqueue\r\n$1\r\nx\r\n");
    assert_eq!(client.read(), b"$1\r\n2\r\n");
    assert_eq!(client.read(), b"+PONG\r\n");
}

#[test]
fn keys_of_several_slots_cannot_be_waited_for() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let mut client = gateway.client();
    for line in
        ["BLPOP a b 0", "BLMOVE a b LEFT LEFT 0", "XREAD BLOCK 0 STREAMS a b $ $", "BZMPOP 0 2 a b MIN"]
    {
        let reply = client.call_text(&line.split(' ').collect::<Vec<_>>());
        assert!(reply.starts_with("-CROSSSLOT ") && reply.contains("hash tag"), "{line}: {reply}");
    }
}

#[test]
fn wait_counts_the_replicas_that_have_what_the_client_wrote() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let mut client = gateway.client();
    for key in ["a", "b", "c"] {
        client.expect(&format!("SET {key} 1"), "+OK\r\n");
    }
    client.expect("WAIT 1 0", ":1\r\n");
    // A replica each is all there is.
    client.expect("WAIT 2 50", ":1\r\n");
    client.expect("WAIT x 0", "-ERR value is not an integer or out of range\r\n");
    client.expect("WAIT 1 -1", "-ERR timeout is negative\r\n");
}

#[test]
fn connections_for_one_client_alone_are_bounded_over_all_workers() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let gateway = Gateway::start_with(cluster.addrs(), &["--workers", "2", "--exclusive-connections", "2"]);
    let mut clients: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for client in &mut clients[..2] {
        client.send(&["BLPOP", "blocking:bounded", "0"]);
    }
    wait_for_blocked(cluster.addrs(), 2);
    for client in &mut clients[2..] {
        let reply = client.call_text(&["BLPOP", "blocking:bounded", "0"]);
        assert!(reply.starts_with("-TRYAGAIN not run"), "{reply}");
    }
    drop(clients.remove(0));
    // Whoever had it last keeps it for a while, and gives it back when others want it.
    for client in &mut clients[1..] {
        wait_until("there is room again", || {
            client.call(&["BLPOP", "blocking:bounded", "0.01"]).starts_with(b"*-1")
        });
    }
}

#[test]
fn a_client_is_unblocked_by_another_one_and_goes_on() {
    let gateway = Gateway::start(shared());
    let (mut client, mut other) = (gateway.client(), gateway.client());
    let id = client.call_text(&["CLIENT", "ID"])[1..].trim_end().to_owned();
    other.call(&["DEL", "blocking:u"]);
    for (reason, reply) in [
        (None, "*-1\r\n"),
        (Some("TIMEOUT"), "*-1\r\n"),
        (Some("ERROR"), "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
    ] {
        client.send(&["BLPOP", "blocking:u", "0"]);
        let words: Vec<&str> = ["CLIENT", "UNBLOCK", &id].into_iter().chain(reason).collect();
        wait_until("it is blocked and ends to be", || other.call(&words) == b":1\r\n");
        assert_eq!(String::from_utf8(client.read()).unwrap(), reply);
    }
    other.expect(&format!("CLIENT UNBLOCK {id}"), ":0\r\n");
    other.expect("CLIENT UNBLOCK x", "-ERR value is not an integer or out of range\r\n");
    client.send(&["BLPOP", "blocking:u", "0"]);
    other.call(&["RPUSH", "blocking:u", "x"]);
    assert!(client.read().ends_with(b"$1\r\nx\r\n"));
}
