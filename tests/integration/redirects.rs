//! Redirects and refusals at exact moments, with nodes that follow a script.

use crate::support::client::bulk;
use crate::support::fake_node::{
    Answer, Asked, FakeCluster, gateway_for, gateway_with, key_of, read_text, say, send_together, slot_of,
};
use crate::support::wait_until;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::thread;

fn moved(asked: &Asked, key: &str, to: usize) -> Answer {
    say(format!("-MOVED {} {}\r\n", slot_of(key), asked.addrs[to]))
}

fn ask(asked: &Asked, key: &str, to: usize) -> Answer {
    say(format!("-ASK {} {}\r\n", slot_of(key), asked.addrs[to]))
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
    let gateway = gateway_with(&nodes, &["--hold", "500ms"]);
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
fn invariant_1_a_request_held_while_a_later_one_may_have_been_run_is_not_run_any_more() {
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
    let reply = read_text(&mut client);
    assert!(reply.starts_with("-TRYAGAIN not run"), "{reply}");
    // Long before the time to hold is over: nobody waits for what cannot come.
    assert_eq!(read_text(&mut client), "+OK\r\n");
    let log: Vec<String> = nodes.log().into_iter().map(|(_, line)| line).collect();
    assert_eq!(log, [one, two.clone(), two]);
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
