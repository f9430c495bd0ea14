//! Connections and nodes that are lost at exact moments: what may have run is not repeated, what waits is
//! bounded, what is known is kept. The nodes follow a script.

use crate::support::client::{Client, bulk};
use crate::support::fake_node::{
    Answer, FakeCluster, gateway_for, gateway_with, key_of, read_text, say, send_together,
};
use crate::support::wait_until;
use std::thread;
use std::time::Duration;

#[test]
fn invariant_2_a_request_that_may_have_been_executed_is_never_sent_again() {
    let nodes = FakeCluster::start(2, |asked| match asked.line.split(' ').next().unwrap() {
        "MULTI" => say("+OK\r\n"),
        "HINCRBY" => say("+QUEUED\r\n"),
        // Lost without a word, in the middle of the reply, and in garbage.
        _ if asked.earlier > 0 => say("+again\r\n"),
        "INCR" | "SET" | "EXEC" | "GET" | "MGET" => Answer::Cut(b"".to_vec()),
        "LPUSH" | "STRLEN" => Answer::Cut(b":1".to_vec()),
        "EVAL" | "APPEND" | "EXISTS" => Answer::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        _ => Answer::Cut(b"$5\r\nval".to_vec()),
    });
    let gateway = gateway_for(&nodes);
    let mut client = gateway.client();
    let risky =
        ["INCR k", "LPUSH k x", "EVAL x 1 k", "APPEND k x", "SET k v NX", "SET k v GET", "GETDEL k", "DEL k"];
    for line in risky {
        let reply = client.call_text(&line.split(' ').collect::<Vec<_>>());
        assert!(reply.starts_with("-IOERR outcome unknown"), "{line}: {reply}");
        assert_eq!(nodes.got(line).len(), 1, "{line}");
    }
    for line in ["GET k", "STRLEN k", "EXISTS k", "GETRANGE k 0 1", "SET k v", "MGET k {k}2"] {
        client.expect(line, "+again\r\n");
        assert_eq!(nodes.got(line).len(), 2, "{line}");
    }
    client.expect("MULTI", "+OK\r\n");
    client.expect("HINCRBY k f 1", "+QUEUED\r\n");
    let reply = client.call_text(&["EXEC"]);
    assert!(reply.starts_with("-IOERR outcome unknown"), "{reply}");
    assert_eq!(nodes.got("HINCRBY k f 1").len(), 1);
}

#[test]
fn only_those_who_waited_for_a_lost_connection_notice_it() {
    let (lost, kept) = (key_of(0), key_of(1));
    let nodes = FakeCluster::start(2, {
        let lost = lost.clone();
        move |asked| match asked.line {
            line if line == format!("INCR {lost}") && asked.earlier == 2 => Answer::Cut(b"".to_vec()),
            line if line.starts_with("INCR") => say(format!(":{}\r\n", asked.earlier + 1)),
            _ => say(bulk(asked.line)),
        }
    });
    let gateway = gateway_for(&nodes);
    let mut client = gateway.client();
    let (incr_lost, incr_kept) = (format!("INCR {lost}"), format!("INCR {kept}"));
    let get = format!("GET {lost}");
    send_together(&mut client, &[&incr_lost, &incr_kept, &incr_lost, &incr_lost, &get, &incr_kept]);
    assert_eq!(read_text(&mut client), ":1\r\n");
    assert_eq!(read_text(&mut client), ":1\r\n");
    assert_eq!(read_text(&mut client), ":2\r\n");
    assert!(read_text(&mut client).starts_with("-IOERR outcome unknown"));
    assert_eq!(read_text(&mut client).as_bytes(), bulk(&get));
    assert_eq!(read_text(&mut client), ":2\r\n");
}

#[test]
fn a_node_that_is_full_or_gone_is_tried_again_and_its_requests_wait() {
    let key = key_of(0);
    let nodes = FakeCluster::start(2, |asked| say(bulk(asked.line)));
    let gateway = gateway_with(&nodes, &["--hold", "60s"]);
    let mut client = gateway.client();
    let (get, reply) = (["GET", key.as_str()], bulk(format!("GET {key}")));
    assert_eq!(client.call(&get), reply);

    // Said to the gateway's new connections, as a server at its `maxclients` does.
    nodes.close(0, "-ERR max number of clients reached\r\n");
    nodes.cut(0);
    client.send(&get);
    let refused = nodes.refused();
    wait_until("some tries", || nodes.refused() > refused + 3);
    nodes.reopen(0);
    assert_eq!(client.read(), reply);

    // Said on a connection that was taken already, with nothing asked.
    let lost = gateway.metric("slotgate_backends_lost_total");
    nodes.shout(0, "-ERR max number of clients reached\r\n");
    wait_until("the connection is given up", || gateway.metric("slotgate_backends_lost_total") > lost);
    for _ in 0..100 {
        assert_eq!(client.call(&get), reply);
    }
}

#[test]
fn what_waits_is_bounded_in_number_bytes_and_time() {
    let (dead, live) = (key_of(0), key_of(1));
    let nodes = FakeCluster::start(2, |asked| say(bulk(asked.line)));
    let gateway = gateway_with(&nodes, &["--hold", "3s", "--held-requests", "4", "--held-bytes", "300KB"]);
    gateway.client().call(&["GET", &dead]);
    nodes.kill(0);
    let mut clients: Vec<Client> = (0..6).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(&["GET", &dead]);
    }
    let mut replies: Vec<String> = clients.iter_mut().map(read_text).collect();
    replies.sort();
    let is_full = |reply: &&String| reply.contains("too many requests already wait");
    let is_over = |reply: &&String| {
        reply.contains("its shard has no reachable primary") && reply.contains("held for 3.")
    };
    assert_eq!(
        (replies.iter().filter(is_full).count(), replies.iter().filter(is_over).count()),
        (2, 4),
        "{replies:?}"
    );
    assert!(replies.iter().all(|reply| reply.starts_with("-CLUSTERDOWN not run")), "{replies:?}");

    let large = "x".repeat(200 << 10);
    let (first, others) = clients.split_first_mut().unwrap();
    first.send(&["SET", &dead, &large]);
    wait_until("one waits", || gateway.metric("slotgate_held") == 1.0);
    assert!(others[0].call_text(&["SET", &dead, &large]).contains("too many requests already wait"));
    assert_eq!(others[0].call(&["GET", &live]), bulk(format!("GET {live}")));
    // Who leaves makes room.
    let mut clients = clients.into_iter();
    drop(clients.next());
    wait_until("none waits", || gateway.metric("slotgate_held") == 0.0);
    let reply = clients.next().unwrap().call_text(&["SET", &dead, &large]);
    assert!(reply.contains("its shard has no reachable primary"), "{reply}");
}

#[test]
fn a_large_reply_that_cannot_be_asked_for_again_ends_in_an_error_in_its_turn() {
    let (key, live) = (key_of(0), key_of(1));
    let nodes = FakeCluster::start(2, {
        let key = key.clone();
        move |asked| {
            let is_large = asked.line == format!("GET {key}");
            say(if is_large { bulk(vec![b'x'; 1 << 20]) } else { bulk(asked.line) })
        }
    });
    let gateway = gateway_for(&nodes);
    let mut client = gateway.client();
    assert_eq!(client.call(&["STRLEN", &key]), bulk(format!("STRLEN {key}")));
    nodes.close(0, "");
    send_together(&mut client, &[&format!("GET {key}"), &format!("GET {live}")]);
    let reply = read_text(&mut client);
    assert!(reply.starts_with("-CLUSTERDOWN not run: its shard has no reachable primary"), "{reply}");
    assert_eq!(client.read(), bulk(format!("GET {live}")));
    nodes.reopen(0);
    assert_eq!(client.call(&["GET", &key]), bulk(vec![b'x'; 1 << 20]));
}

#[test]
fn a_node_that_says_nothing_is_given_up_after_the_request_timeout_and_not_sooner() {
    let key = key_of(0);
    let nodes = FakeCluster::start(2, |asked| match (asked.line.split(' ').next().unwrap(), asked.earlier) {
        ("GET" | "INCR", 0) => Answer::Silence,
        ("APPEND", _) => {
            thread::sleep(Duration::from_millis(1500));
            say(":1\r\n")
        }
        _ => say("+OK\r\n"),
    });
    let gateway = gateway_with(&nodes, &["--request-timeout", "3s"]);
    let mut client = gateway.client();
    client.expect(&format!("SET {key} 1"), "+OK\r\n");
    // A connection that was idle for longer than that is as good as any.
    thread::sleep(Duration::from_secs(4));
    client.expect(&format!("APPEND {key} x"), ":1\r\n");
    client.expect(&format!("GET {key}"), "+OK\r\n");
    let reply = client.call_text(&["INCR", &key]);
    assert!(reply.starts_with("-IOERR outcome unknown"), "{reply}");
}

#[test]
fn a_node_that_says_nothing_to_a_client_of_its_own_connection_is_given_up_unless_it_is_to_wait() {
    let key = key_of(0);
    let nodes = FakeCluster::start(2, |asked| match asked.line.split(' ').next().unwrap() {
        "WATCH" | "MULTI" => say("+OK\r\n"),
        "INCR" => say("+QUEUED\r\n"),
        "EXEC" | "BLPOP" => Answer::Silence,
        _ => say(bulk(asked.line)),
    });
    let gateway = gateway_with(&nodes, &["--request-timeout", "1s"]);
    let (mut client, mut waiting) = (gateway.client(), gateway.client());
    waiting.send(&["BLPOP", &key, "0"]);
    for (line, reply) in [("WATCH", "+OK\r\n"), ("MULTI", "+OK\r\n"), ("INCR", "+QUEUED\r\n")] {
        let line = if line == "MULTI" { line.to_owned() } else { format!("{line} {key}") };
        client.expect(&line, reply);
    }
    let reply = client.call_text(&["EXEC"]);
    assert!(reply.starts_with("-IOERR outcome unknown"), "{reply}");
    client.expect("PING", "+PONG\r\n");
    assert_eq!(nodes.got(&format!("BLPOP {key} 0")).len(), 1);
    waiting.set_patience(Duration::from_secs(1));
    assert!(waiting.try_read().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}

#[test]
fn invariant_4_what_nodes_cannot_tell_any_more_is_not_forgotten() {
    let key = key_of(0);
    let nodes = FakeCluster::start(2, |asked| say(bulk(asked.line)));
    let gateway = gateway_with(&nodes, &["--refresh", "100ms", "--hold", "0s"]);
    let mut client = gateway.client();
    let reply = bulk(format!("GET {key}"));
    assert_eq!(client.call(&["GET", &key]), reply);
    let slots = || gateway.metric("slotgate_slots_covered");
    let trouble = || gateway.log().matches("cannot learn the topology").count();
    let nobody = format!("{:040x} 127.0.0.1:1@10001 myself,master - 0 0 9 connected\n", 0xfa4e);
    for text in ["", "what?\n", "a b c d e f g h\n", nobody.as_str()] {
        nodes.talk_nonsense(text);
        wait_until("the gateway notices", || trouble() > 0);
        for _ in 0..50 {
            assert_eq!(client.call(&["GET", &key]), reply, "{text:?}");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(slots(), 16384.0, "{text:?}");
    }
}
