//! Subscriptions: every client has its own, whichever connection the gateway has for them all.

use crate::support::both::Both;
use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, shared};
use crate::support::wait_until;
use std::sync::atomic::{AtomicBool, Ordering};

/// The lines of one conversation: what is sent, and how many replies it has.
const LINES: &[(&str, usize)] = &[
    ("SUBSCRIBE pubsub:a", 1),
    ("SUBSCRIBE pubsub:b pubsub:c pubsub:a", 3),
    ("PSUBSCRIBE pubsub:p* pubsub:[x", 2),
    ("PING", 1),
    ("PING hello", 1),
    ("UNSUBSCRIBE pubsub:b pubsub:nosuch", 2),
    ("SUBSCRIBE", 1),
    ("PUNSUBSCRIBE", 2),
    ("PUNSUBSCRIBE", 1),
    ("UNSUBSCRIBE pubsub:a pubsub:c", 2),
    ("PING", 1),
    ("GET pubsub:none", 1),
    ("SUBSCRIBE pubsub:a", 1),
    ("RESET", 1),
    ("GET pubsub:none", 1),
];

#[test]
fn subscriptions_are_confirmed_and_counted_as_by_one_server() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    for protocol in ["2", "3"] {
        let mut both = Both::connect(&gateway, &server);
        both.ours.call(&["HELLO", protocol]);
        both.model.call(&["HELLO", protocol]);
        for (line, replies) in LINES {
            let [mut ours, mut model] = [&mut both.ours, &mut both.model].map(|client| {
                client.send(&line.split(' ').collect::<Vec<_>>());
                (0..*replies).map(|_| String::from_utf8(client.read()).unwrap()).collect::<Vec<_>>()
            });
            if *line == "PUNSUBSCRIBE" {
                // In whatever order the channels come.
                ours.sort();
                model.sort();
                let names = |replies: &[String]| {
                    replies.iter().map(|r| r.split("\r\n").nth(4).map(str::to_owned)).collect::<Vec<_>>()
                };
                assert_eq!(names(&ours), names(&model), "RESP{protocol} {line}");
                continue;
            }
            assert_eq!(ours, model, "RESP{protocol} {line}");
        }
    }
}

#[test]
fn to_unsubscribe_from_nothing_is_no_error() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    // Valkey 8.0 alone refuses it; Redis and the later releases of Valkey do not.
    client.expect("UNSUBSCRIBE", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n");
    client.expect("PUNSUBSCRIBE", "*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n");
    client.call(&["HELLO", "3"]);
    client.expect("UNSUBSCRIBE", ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n");
}

#[test]
fn a_resp2_client_with_subscriptions_may_say_little_else() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    let mut both = Both::connect(&gateway, &server);
    both.same("SUBSCRIBE pubsub:restricted");
    for line in [
        "GET a",
        "SET a 1",
        "MGET a b",
        "PUBLISH a b",
        "MULTI",
        "INFO",
        "CLIENT GETNAME",
        "NOSUCHCOMMAND",
        "EVAL return~1 0",
    ] {
        both.same(line);
    }
    both.same("UNSUBSCRIBE");
    both.same("GET pubsub:none");
    let mut three = gateway.client();
    three.call(&["HELLO", "3"]);
    three
        .expect("SUBSCRIBE pubsub:restricted", ">3\r\n$9\r\nsubscribe\r\n$17\r\npubsub:restricted\r\n:1\r\n");
    three.expect("GET pubsub:none", "_\r\n");
    three.expect("PING", "+PONG\r\n");
}

#[test]
fn messages_reach_every_client_in_its_own_protocol() {
    let gateway = Gateway::start(shared());
    let (mut two, mut three, mut pattern, mut publisher) =
        (gateway.client(), gateway.client(), gateway.client(), gateway.client());
    two.expect("SUBSCRIBE pubsub:news", "*3\r\n$9\r\nsubscribe\r\n$11\r\npubsub:news\r\n:1\r\n");
    three.call(&["HELLO", "3"]);
    three.expect("SUBSCRIBE pubsub:news", ">3\r\n$9\r\nsubscribe\r\n$11\r\npubsub:news\r\n:1\r\n");
    pattern.expect("PSUBSCRIBE pubsub:n?ws", "*3\r\n$10\r\npsubscribe\r\n$11\r\npubsub:n?ws\r\n:1\r\n");
    for ix in 0..50 {
        publisher.expect(&format!("PUBLISH pubsub:news m{:02}", ix), ":3\r\n");
    }
    publisher.expect("PUBLISH pubsub:nobody x", ":0\r\n");
    for ix in 0..50 {
        let body = format!("$11\r\npubsub:news\r\n$3\r\nm{ix:02}\r\n");
        assert_eq!(String::from_utf8(two.read()).unwrap(), format!("*3\r\n$7\r\nmessage\r\n{body}"));
        assert_eq!(String::from_utf8(three.read()).unwrap(), format!(">3\r\n$7\r\nmessage\r\n{body}"));
        assert_eq!(
            String::from_utf8(pattern.read()).unwrap(),
            format!("*4\r\n$8\r\npmessage\r\n$11\r\npubsub:n?ws\r\n{body}")
        );
    }
    two.expect("UNSUBSCRIBE", "*3\r\n$11\r\nunsubscribe\r\n$11\r\npubsub:news\r\n:0\r\n");
    publisher.expect("PUBLISH pubsub:news last", ":2\r\n");
    two.expect("PING", "+PONG\r\n");
    drop(pattern);
    wait_until("a client that left counts no more", || {
        publisher.call(&["PUBLISH", "pubsub:news", "x"]) == b":1\r\n"
    });
}

#[test]
fn messages_of_plain_clients_of_any_node_arrive() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    client.call(&["SUBSCRIBE", "pubsub:any"]);
    for (ix, addr) in shared().iter().enumerate() {
        Client::connect(*addr).call(&["PUBLISH", "pubsub:any", &ix.to_string()]);
        assert_eq!(
            String::from_utf8(client.read()).unwrap(),
            format!("*3\r\n$7\r\nmessage\r\n$10\r\npubsub:any\r\n$1\r\n{ix}\r\n")
        );
    }
}

#[test]
fn a_message_is_never_between_the_parts_of_a_reply() {
    let gateway = Gateway::start(shared());
    let (mut client, mut publisher) = (gateway.client(), gateway.client());
    client.call(&["HELLO", "3"]);
    client.call(&["SUBSCRIBE", "pubsub:between"]);
    let value = "v".repeat(300_000);
    client.call(&["SET", "pubsub:value", &value]);
    for round in 0..10 {
        client.send(&["GET", "pubsub:value"]);
        publisher.call(&["PUBLISH", "pubsub:between", "m"]);
        client.send(&["ECHO", &round.to_string()]);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let reply = client.read();
            let is_value = reply.len() > 300_000 && reply.ends_with(format!("{value}\r\n").as_bytes());
            kinds.push(if is_value { 'v' } else { char::from(reply[0]) });
        }
        // The message may come anywhere, the replies come in order.
        assert_eq!(kinds.iter().filter(|kind| **kind == '>').count(), 1, "{kinds:?}");
        assert!(kinds.iter().filter(|kind| **kind != '>').eq(['v', '$'].iter()), "{kinds:?}");
    }
}

#[test]
fn two_clients_of_one_channel_come_and_go_apart() {
    let gateway = Gateway::start(shared());
    let (mut one, mut other, mut publisher) = (gateway.client(), gateway.client(), gateway.client());
    for client in [&mut one, &mut other] {
        client.call(&["SUBSCRIBE", "pubsub:shared"]);
    }
    drop(one);
    wait_until("one is left", || publisher.call(&["PUBLISH", "pubsub:shared", "x"]) == b":1\r\n");
    let mut again = gateway.client();
    again.call(&["SUBSCRIBE", "pubsub:shared"]);
    publisher.expect("PUBLISH pubsub:shared end", ":2\r\n");
    // A message takes its time from node to node: an earlier one may still reach who has just come.
    for client in [&mut again, &mut other] {
        while !client.read().ends_with(b"$3\r\nend\r\n") {}
    }
}

#[test]
fn a_subscription_outlives_the_node_that_carried_it() {
    let mut cluster = RealCluster::start();
    // Each worker has a connection for its subscriptions.
    let gateway = Gateway::start_with(cluster.addrs(), &["--workers", "1"]);
    let (mut client, mut two) = (gateway.client(), gateway.client());
    client.call(&["SUBSCRIBE", "news"]);
    two.call(&["PSUBSCRIBE", "ne*"]);
    let carrier = |cluster: &RealCluster| {
        (0..6)
            .find(|ix| cluster.client(*ix).call_text(&["PUBSUB", "CHANNELS"]).contains("news"))
            .expect("a node has it")
    };
    let killed = carrier(&cluster);
    cluster.kill(killed);
    let survivor = (killed + 1) % 6;
    let mut publisher = cluster.client(survivor);
    wait_until("another node carries the subscription", || {
        (0..6).filter(|ix| *ix != killed).any(|ix| {
            let mut node = cluster.client(ix);
            node.call_text(&["PUBSUB", "CHANNELS"]).contains("news")
                && node.call(&["PUBSUB", "NUMPAT"]) == b":1\r\n"
        })
    });
    let message = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nafter\r\n";
    let is_heard = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Nodes that have just lost one of them may lose a message: one that is repeated arrives.
        scope.spawn(|| {
            wait_until("a message is heard", || {
                publisher.call(&["PUBLISH", "news", "after"]);
                is_heard.load(Ordering::Relaxed)
            });
        });
        assert_eq!(String::from_utf8(client.read()).unwrap(), message);
        assert!(two.read().ends_with(b"$5\r\nafter\r\n"));
        is_heard.store(true, Ordering::Relaxed);
    });
    // And is still the client's own: nothing was confirmed a second time.
    client.send(&["PING"]);
    let replies = std::iter::repeat_with(|| String::from_utf8(client.read()).unwrap());
    let other = replies.into_iter().find(|reply| reply != message);
    assert_eq!(other.as_deref(), Some("*2\r\n$4\r\npong\r\n$0\r\n\r\n"));
}

#[test]
fn a_channel_that_the_nodes_refuse_is_refused_to_the_client_in_its_turn() {
    const USER: (&str, &str) = ("user", "default on nopass ~* +@all resetchannels &ok*");
    let cluster = RealCluster::start_without_replicas(&[USER]);
    let (gateway, server) = (Gateway::start(cluster.addrs()), RealCluster::start_standalone_with(&[USER]));
    for protocol in ["2", "3"] {
        let mut both = Both::connect(&gateway, &server);
        both.ours.call(&["HELLO", protocol]);
        both.model.call(&["HELLO", protocol]);
        for line in ["SUBSCRIBE secret", "PSUBSCRIBE *", "SUBSCRIBE ok1 secret", "SUBSCRIBE ok1"] {
            let reply = both.same(line);
            assert_eq!(reply.starts_with("-NOPERM"), line != "SUBSCRIBE ok1", "{reply}");
        }
        for line in ["SUBSCRIBE secret", "PSUBSCRIBE ok*", "PING", "UNSUBSCRIBE", "PUNSUBSCRIBE"] {
            both.same(line);
        }
        both.same("GET a");
    }
}

#[test]
fn who_listens_is_said_of_all_nodes_and_clients() {
    let gateway = Gateway::start_with(shared(), &["--workers", "2"]);
    // On both workers.
    let mut listeners: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for client in &mut listeners {
        client.call(&["SUBSCRIBE", "pubsub:who"]);
        client.call(&["PSUBSCRIBE", "pubsub:w*"]);
    }
    let mut direct = Vec::new();
    for addr in shared() {
        let mut node = Client::connect(*addr);
        if node.call_text(&["ROLE"]).contains("master") {
            node.call(&["SUBSCRIBE", "pubsub:who"]);
            node.call(&["SUBSCRIBE", "pubsub:who:direct"]);
            direct.push(node);
        }
    }
    assert_eq!(direct.len(), 3);
    let mut client = gateway.client();
    client.expect("PUBSUB NUMSUB", "*0\r\n");
    client.expect(
        "PUBSUB NUMSUB pubsub:who pubsub:who:direct pubsub:nobody",
        "*6\r\n$10\r\npubsub:who\r\n:7\r\n$17\r\npubsub:who:direct\r\n:3\r\n$13\r\npubsub:nobody\r\n:0\r\n",
    );
    client.expect("PUBSUB CHANNELS pubsub:who*", "*2\r\n$10\r\npubsub:who\r\n$17\r\npubsub:who:direct\r\n");
    assert_eq!(client.call(&["PUBSUB", "SHARDCHANNELS", "pubsub:who*"]), b"*0\r\n");
    drop(direct);
    let mut last = listeners.pop().unwrap();
    drop(listeners);
    wait_until("one is left", || {
        client.call(&["PUBSUB", "NUMSUB", "pubsub:who"]) == b"*2\r\n$10\r\npubsub:who\r\n:1\r\n"
    });
    last.call(&["UNSUBSCRIBE", "pubsub:who"]);
    // At once, although the gateway tells its node only now.
    client.expect("PUBSUB CHANNELS pubsub:who", "*0\r\n");
    client.expect("PUBSUB NUMSUB pubsub:who", "*2\r\n$10\r\npubsub:who\r\n:0\r\n");
}

#[test]
fn patterns_are_counted_once_however_many_listen() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let gateway = Gateway::start_with(cluster.addrs(), &["--workers", "2"]);
    let mut client = gateway.client();
    client.expect("PUBSUB NUMPAT", ":0\r\n");
    let mut listeners: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for listener in &mut listeners {
        listener.call(&["PSUBSCRIBE", "a*"]);
        listener.call(&["PSUBSCRIBE", "b*"]);
    }
    client.expect("PUBSUB NUMPAT", ":2\r\n");
    let mut direct = cluster.client(1);
    direct.call(&["PSUBSCRIBE", "c*"]);
    client.expect("PUBSUB NUMPAT", ":3\r\n");
}

#[test]
fn one_subscription_hears_what_happens_to_the_keys_of_all_nodes() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let gateway = Gateway::start(cluster.addrs());
    let (mut client, mut writer) = (gateway.client(), gateway.client());
    writer.expect("CONFIG SET notify-keyspace-events KEA", "+OK\r\n");
    client.call(&["PSUBSCRIBE", "__key*@0__:*"]);
    for ix in 0..20 {
        let key = format!("pubsub:event:{ix}");
        writer.call(&["SET", &key, "x"]);
        for (channel, text) in
            [(format!("__keyspace@0__:{key}"), "set"), ("__keyevent@0__:set".into(), &*key)]
        {
            let (channels, texts) = (channel.len(), text.len());
            let tail = format!("${channels}\r\n{channel}\r\n${texts}\r\n{text}\r\n");
            let told = String::from_utf8(client.read()).unwrap();
            assert!(told.ends_with(&tail), "{told}");
        }
    }
    // What is published comes once.
    writer.expect("PUBLISH __keynews@0__:x hi", ":1\r\n");
    assert!(client.read().ends_with(b"$2\r\nhi\r\n"));
    client.expect("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
}

#[test]
fn a_shards_channel_is_heard_where_its_slot_is() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    let mut both = Both::connect(&gateway, &server);
    let mut publishers = [gateway.client(), server.client(0)];
    for line in
        ["SSUBSCRIBE pubsub:s1", "SSUBSCRIBE pubsub:s1", "SUBSCRIBE pubsub:s1", "SSUBSCRIBE pubsub:s2"]
    {
        both.same(line);
    }
    for channel in ["pubsub:s1", "pubsub:s2"] {
        publishers.iter_mut().for_each(|client| client.expect(&format!("SPUBLISH {channel} hi"), ":1\r\n"));
        let [ours, model] = [&mut both.ours, &mut both.model].map(|client| client.read());
        assert_eq!(String::from_utf8(ours), String::from_utf8(model));
    }
    publishers.iter_mut().for_each(|client| {
        client.expect("PUBSUB SHARDNUMSUB pubsub:s2", "*2\r\n$9\r\npubsub:s2\r\n:1\r\n");
    });
    for line in ["SUNSUBSCRIBE pubsub:s1", "SUNSUBSCRIBE", "SUNSUBSCRIBE", "UNSUBSCRIBE", "GET pubsub:none"] {
        both.same(line);
    }
}
