//! Redirects, refusals and broken connections at exact moments, with nodes that follow a script.

use crate::support::client::{Client, bulk, request};
use crate::support::fake_node::{Answer, Asked, FakeCluster, say};
use crate::support::gateway::Gateway;
use crate::support::wait_until;
use slotgate::topology::Slot;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

/// A key that node `node` of two serves.
fn key_of(node: usize) -> String {
    let is_its = |key: &String| Slot::of_key(key.as_bytes()).index() / 8192 == node;
    (0..).map(|number| format!("k{number}")).find(is_its).unwrap()
}

fn slot_of(key: &str) -> usize {
    Slot::of_key(key.as_bytes()).index()
}

fn moved(asked: &Asked, key: &str, to: usize) -> Answer {
    say(format!("-MOVED {} {}\r\n", slot_of(key), asked.addrs[to]))
}

fn ask(asked: &Asked, key: &str, to: usize) -> Answer {
    say(format!("-ASK {} {}\r\n", slot_of(key), asked.addrs[to]))
}

fn gateway_for(nodes: &FakeCluster) -> Gateway {
    Gateway::start_with(nodes.addrs(), &["--workers", "1", "--hold", "2s"])
}

/// Sends the lines in one write, so that all of them are under way at once.
fn send_together(client: &mut Client, lines: &[&str]) {
    let words = |line: &&str| request(&line.split(' ').collect::<Vec<_>>());
    client.send_raw(lines.iter().flat_map(words).collect::<Vec<u8>>());
}

fn read_text(client: &mut Client) -> String {
    String::from_utf8(client.read()).unwrap()
}

#[test]
fn a_redirect_loop_is_left_when_it_ends_and_otherwise_ends_in_an_error_without_an_address() {
    let (key, other) = (key_of(0), format!("{{{}}}other", key_of(0)));
    let nodes = FakeCluster::start(2, {
        let (key, other) = (key.clone(), other.clone());
        move |asked| match asked.line {
            line if line == format!("GET {key}") => moved(asked, &key, 1 - asked.node),
            line if line == format!("INCR {other}") && asked.earlier < 8 => {
                moved(asked, &key, 1 - asked.node)
            }
            _ => say(":7\r\n"),
        }
    });
    let gateway = gateway_for(&nodes);
    let mut client = gateway.client();
    client.expect(&format!("INCR {other}"), ":7\r\n");
    assert_eq!(nodes.got(&format!("INCR {other}")).len(), 9);

    client.send(&["GET", &key]);
    let line = format!("GET {key}");
    wait_until("it goes round", || nodes.got(&line).len() > 5);
    gateway.client().expect("INCR unrelated", ":7\r\n");
    let reply = read_text(&mut client);
    assert!(reply.starts_with("-CLUSTERDOWN not run: the nodes do not agree"), "{reply}");
    assert!(!reply.contains("127.0.0.1"), "{reply}");
    let tries = nodes.got(&line).len();
    assert!(tries < 100, "{tries} tries in two seconds");
}

#[test]
fn an_address_that_no_node_of_the_cluster_has_is_never_connected_to() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    let addr = stranger.local_addr().unwrap();
    let nodes = FakeCluster::start(2, move |asked| match asked.line.split_once(' ') {
        Some(("GET", key)) => say(format!("-MOVED {} {addr}\r\n", slot_of(key))),
        Some(("STRLEN", key)) => say(format!("-ASK {} {addr}\r\n", slot_of(key))),
        Some(("LLEN", key)) => say(format!("-MOVED {} localhost:{}\r\n", slot_of(key), addr.port())),
        _ => say(":1\r\n"),
    });
    let gateway = Gateway::start_with(nodes.addrs(), &["--hold", "500ms"]);
    let mut client = gateway.client();
    for command in ["GET", "STRLEN", "LLEN"] {
        let reply = client.call_text(&[command, "k"]);
        assert!(reply.starts_with("-CLUSTERDOWN not run"), "{command}: {reply}");
    }
    assert_eq!(stranger.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    client.expect("INCR k", ":1\r\n");
}

#[test]
fn a_redirect_without_a_host_leads_to_the_host_that_answered() {
    let key = key_of(0);
    let nodes = FakeCluster::start(2, {
        let key = key.clone();
        move |asked| match (asked.node, asked.line.split(' ').next().unwrap()) {
            (0, "GET") => say(format!("-MOVED {} :{}\r\n", slot_of(&key), asked.addrs[1].port())),
            (0, "STRLEN") => say(format!("-ASK {} ?:{}\r\n", slot_of(&key), asked.addrs[1].port())),
            (_, "ASKING") => say("+OK\r\n"),
            (1, _) => say(":1\r\n"),
            _ => say("-ERR wrong node\r\n"),
        }
    });
    let gateway = gateway_for(&nodes);
    let mut client = gateway.client();
    client.expect(&format!("STRLEN {key}"), ":1\r\n");
    client.expect(&format!("GET {key}"), ":1\r\n");
}

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
fn invariant_1_requests_for_one_slot_keep_their_order_when_the_first_ones_are_sent_again() {
    let key = key_of(0);
    let (one, two) = (format!("SET {key} 1"), format!("SET {key} 2"));
    let nodes = FakeCluster::start(2, |asked| match asked.earlier {
        0 => say("-CLUSTERDOWN The cluster is down\r\n"),
        1 => say("-LOADING Redis is loading the dataset in memory\r\n"),
        2 => Answer::Cut(b"".to_vec()),
        _ => say("+OK\r\n"),
    });
    let gateway = gateway_for(&nodes);
    let mut client = gateway.client();
    send_together(&mut client, &[&one, &two]);
    assert_eq!((read_text(&mut client), read_text(&mut client)), ("+OK\r\n".into(), "+OK\r\n".into()));
    let mut log: Vec<String> = nodes.log().into_iter().map(|(_, line)| line).collect();
    // Behind the connection's end, the node may have looked at the second one or not.
    log.dedup();
    assert_eq!(log[log.len() - 2..], [one, two], "{log:?}");
}

#[test]
fn invariant_1_a_request_held_while_a_later_one_is_lost_goes_first_when_both_are_sent_again() {
    let key = key_of(0);
    let (one, two) = (format!("SET {key} 1"), format!("SET {key} 2"));
    let nodes = FakeCluster::start(2, {
        let two = two.clone();
        move |asked| match asked.earlier {
            0 if asked.line == two => Answer::Cut(b"".to_vec()),
            0 => say("-CLUSTERDOWN The cluster is down\r\n"),
            _ => say("+OK\r\n"),
        }
    });
    let gateway = gateway_for(&nodes);
    let mut client = gateway.client();
    send_together(&mut client, &[&one, &two]);
    assert_eq!((read_text(&mut client), read_text(&mut client)), ("+OK\r\n".into(), "+OK\r\n".into()));
    let log: Vec<String> = nodes.log().into_iter().map(|(_, line)| line).collect();
    assert_eq!(log, [one.clone(), two.clone(), one, two]);
}

#[test]
fn invariant_1_a_request_that_a_later_one_has_overtaken_at_its_node_is_not_run_any_more() {
    let key = key_of(0);
    let (one, two) = (format!("SET {key} 1"), format!("SET {key} 2"));
    let nodes = FakeCluster::start(2, {
        let one = one.clone();
        move |asked| match asked.earlier {
            0 if asked.line == one => say("-CLUSTERDOWN The cluster is down\r\n"),
            _ => say("+OK\r\n"),
        }
    });
    let gateway = gateway_for(&nodes);
    let mut client = gateway.client();
    send_together(&mut client, &[&one, &two]);
    let reply = read_text(&mut client);
    assert!(reply.starts_with("-TRYAGAIN not run"), "{reply}");
    assert_eq!(read_text(&mut client), "+OK\r\n");
    assert_eq!(nodes.log(), [(0, one), (0, two)]);
}

#[test]
fn asking_and_its_command_are_one_and_a_refused_asking_does_not_loop() {
    let (key, kept) = (key_of(0), key_of(1));
    let nodes = FakeCluster::start(2, {
        let key = key.clone();
        move |asked| match (asked.node, asked.line.split(' ').next().unwrap()) {
            (0, _) => ask(asked, &key, 1),
            (1, "ASKING") if asked.earlier < 2 => say("-NOAUTH Authentication required.\r\n"),
            (1, "ASKING") => say("+OK\r\n"),
            (1, "GET") if asked.line.ends_with(&key) && asked.earlier < 5 => moved(asked, &key, 0),
            _ => say(bulk(asked.line)),
        }
    });
    let gateway = gateway_for(&nodes);
    thread::scope(|scope| {
        let (gateway, kept) = (&gateway, &kept);
        // Others on the same connection.
        for _ in 0..4 {
            scope.spawn(move || {
                let mut client = gateway.client();
                let get = format!("GET {kept}");
                (0..200).for_each(|_| assert_eq!(client.call(&["GET", kept]), bulk(&get)));
            });
        }
        let mut client = gateway.client();
        assert_eq!(client.call(&["GET", &key]), bulk(format!("GET {key}")));
    });
    let at_target: Vec<String> =
        nodes.log().into_iter().filter(|(node, _)| *node == 1).map(|(_, line)| line).collect();
    let asking = at_target.iter().enumerate().filter(|(_, line)| *line == "ASKING").map(|(at, _)| at);
    let next: Vec<&str> = asking.map(|at| at_target[at + 1].as_str()).collect();
    assert_eq!(next, vec![format!("GET {key}"); 3]);
}

#[test]
fn a_command_of_several_keys_waits_out_tryagain_and_later_ones_for_its_slot_wait_behind() {
    let key = key_of(0);
    let (mget, set) = (format!("MGET {{{key}}}a {{{key}}}b"), format!("SET {{{key}}}a 2"));
    let nodes = FakeCluster::start(2, {
        let mget = mget.clone();
        move |asked| match asked.line {
            line if line == mget && asked.earlier < 4 => {
                say("-TRYAGAIN Multiple keys request during rehashing of slot\r\n")
            }
            _ => say("+OK\r\n"),
        }
    });
    let gateway = gateway_for(&nodes);
    let mut client = gateway.client();
    send_together(&mut client, &[&mget, &set]);
    assert_eq!((read_text(&mut client), read_text(&mut client)), ("+OK\r\n".into(), "+OK\r\n".into()));
    let log: Vec<String> = nodes.log().into_iter().map(|(_, line)| line).collect();
    assert_eq!(log, [vec![mget; 5], vec![set]].concat());
}

#[test]
fn a_transaction_that_a_redirect_discarded_is_run_whole_at_the_other_node() {
    let key = key_of(0);
    let nodes = FakeCluster::start(2, {
        let key = key.clone();
        move |asked| match (asked.node, asked.line.split(' ').next().unwrap()) {
            (_, "MULTI" | "ASKING") => say("+OK\r\n"),
            // Told when the command is queued, and only at the end.
            (0, "SET") => moved(asked, &key, 1),
            (0, "EXEC") if asked.earlier == 0 => {
                say("-EXECABORT Transaction discarded because of previous errors.\r\n")
            }
            (1, "INCR") if asked.earlier == 0 => say("+QUEUED\r\n"),
            (1, "EXEC") if asked.earlier == 2 => ask(asked, &key, 0),
            (1, "EXEC") => say("*1\r\n+OK\r\n"),
            (0, "EXEC") => say("*1\r\n:1\r\n"),
            _ => say("+QUEUED\r\n"),
        }
    });
    let gateway = gateway_for(&nodes);
    let mut client = gateway.client();
    for (line, reply) in [(format!("SET {key} 1"), "*1\r\n+OK\r\n"), (format!("INCR {key}"), "*1\r\n:1\r\n")]
    {
        client.expect("MULTI", "+OK\r\n");
        client.expect(&line, "+QUEUED\r\n");
        client.expect("EXEC", reply);
    }
    let lines: Vec<(usize, String)> = nodes.log();
    let block = |node: usize, line: &str| -> Vec<(usize, String)> {
        ["MULTI", line, "EXEC"].into_iter().map(|line| (node, line.to_owned())).collect()
    };
    let (set, incr) = (format!("SET {key} 1"), format!("INCR {key}"));
    let expected =
        [block(0, &set), block(1, &set), block(1, &incr), vec![(0, "ASKING".into())], block(0, &incr)]
            .concat();
    assert_eq!(lines, expected);
}

#[test]
fn a_node_that_is_full_or_gone_is_tried_again_and_its_requests_wait() {
    let key = key_of(0);
    let nodes = FakeCluster::start(2, |asked| say(bulk(asked.line)));
    let gateway = Gateway::start_with(nodes.addrs(), &["--workers", "1", "--hold", "60s"]);
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
    let args = ["--workers", "1", "--hold", "3s", "--held-requests", "4", "--held-bytes", "300KB"];
    let gateway = Gateway::start_with(nodes.addrs(), &args);
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
    let gateway = Gateway::start_with(nodes.addrs(), &["--workers", "1", "--request-timeout", "3s"]);
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
fn invariant_4_what_nodes_cannot_tell_any_more_is_not_forgotten() {
    let key = key_of(0);
    let nodes = FakeCluster::start(2, |asked| say(bulk(asked.line)));
    let gateway = Gateway::start_with(nodes.addrs(), &["--refresh", "100ms", "--hold", "0s"]);
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
