//! One situation each, played through event by event.

use super::cluster::slot_of;
use super::world::World;
use crate::proxy::config::Config;
use crate::proxy::session::Busy;
use std::time::Duration;

/// Streams what is larger than a thousand bytes.
fn streaming() -> Config {
    Config { stream_threshold: 1000, ..Config::default() }
}

fn set_of(key: &str, size: usize) -> Vec<u8> {
    let value = "v".repeat(size);
    format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${size}\r\n{value}\r\n", key.len()).into_bytes()
}

#[test]
fn a_command_goes_to_the_owner_of_its_key() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    for key in ["{a}1", "{b}1", "{c}1", "{d}1"] {
        world.send(client, &format!("SET {key} v"));
    }
    world.send(client, "MGET {a}1 {b}1 {c}1");
    world.settle();
    assert_eq!(world.last(client), "*3\r\n$6\r\n{a}1=v\r\n$6\r\n{b}1=v\r\n$6\r\n{c}1=v\r\n");
    world.heal();
}

#[test]
fn a_large_reply_reaches_its_client_whole() {
    let mut world = World::new(streaming());
    let client = world.connect();
    world.cluster.data[1].insert("{a}1".into(), "v".repeat(500_000));
    world.send(client, "GET {a}1");
    world.send(client, "PING");
    world.settle();
    assert_eq!(world.replies(client).iter().map(String::len).collect::<Vec<_>>(), [500_011, 7]);
    world.heal();
}

#[test]
fn a_blocked_client_that_leaves_takes_its_connection_along() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "BLPOP {a}1 0");
    world.settle();
    world.leave(client);
    assert_eq!(world.core.exclusive_count, 0);
    let other = world.connect();
    world.send(other, "BLPOP {a}1 0");
    world.settle();
    let third = world.connect();
    world.send(third, "SET {a}1 v");
    world.settle();
    assert_eq!(world.last(other), "*2\r\n$4\r\n{a}1\r\n$1\r\nv\r\n");
    world.heal();
}

#[test]
fn a_half_closed_client_is_closed_once_it_has_all_replies() {
    for rest in [&b""[..], b"*1\r\n$4\r\nPI", b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n"] {
        let mut world = World::new(Config { output_soft_limit: 2000, ..Config::default() });
        let client = world.connect();
        world.cluster.data[1].insert("{a}1".into(), "v".repeat(5000));
        world.take(client, 100);
        world.send(client, "GET {a}1");
        world.settle();
        world.send_bytes(client, rest);
        world.finish(client);
        world.take(client, usize::MAX);
        world.settle();
        assert_eq!(world.clients[client].ix, None, "{rest:?}");
        assert_eq!(world.clients[client].received.len(), 5009);
    }
}

#[test]
fn a_node_that_does_not_answer_in_time_is_given_up() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "APPEND {a}1 0:0;");
    for _ in 0..70 {
        world.advance(Duration::from_secs(1));
    }
    assert!(world.last(client).starts_with("-IOERR outcome unknown"), "{}", world.last(client));
    world.heal();
}

#[test]
fn a_watch_that_was_lost_fails_its_transaction() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "WATCH {a}1");
    world.settle();
    let (ix, _) = world.core.backends.iter().find(|(_, backend)| backend.is_kept).unwrap();
    world.cut(ix);
    for line in ["MULTI", "APPEND {a}1 x", "EXEC"] {
        world.send(client, line);
    }
    world.settle();
    assert_eq!(world.last(client), "*-1\r\n");
    world.heal();
}

#[test]
fn a_watch_that_breaks_does_not_end_the_large_request_of_its_client() {
    let mut world = World::new(streaming());
    let client = world.connect();
    world.send(client, "WATCH {b}1");
    world.settle();
    let (watched, _) = world.core.backends.iter().find(|(_, backend)| backend.is_kept).unwrap();
    world.clients[client].transit = set_of("{a}1", 50_000);
    world.arrive(client, 5000);
    world.serve();
    world.cut(watched);
    world.settle();
    world.heal();
}

#[test]
fn a_large_value_is_streamed_to_its_node() {
    let mut world = World::new(streaming());
    let client = world.connect();
    let frame = set_of("{a}1", 3_000_000);
    world.clients[client].transit.extend_from_slice(&frame);
    world.send(client, "PING");
    world.settle();
    assert_eq!(world.replies(client).len(), 2, "{:?}", world.replies(client));
    assert_eq!(world.cluster.data[1]["{a}1"].len(), 3_000_000);
    world.heal();
}

#[test]
fn a_large_value_for_a_slow_node_does_not_pile_up() {
    let mut world = World::new(streaming());
    let client = world.connect();
    world.clients[client].transit = set_of("{a}1", 9_000_000);
    world.arrive(client, 5_000);
    world.serve();
    let (ix, _) = world.core.backends.iter().find(|(_, backend)| backend.upload.is_some()).unwrap();
    for _ in 0..100 {
        world.clog(ix, 200_000);
        world.arrive(client, 300_000);
        assert!(world.core.backends[ix].wire.outbox.memory() < 3 << 20);
    }
    world.clog(ix, usize::MAX);
    world.settle();
    assert_eq!(world.cluster.data[1]["{a}1"].len(), 9_000_000);
    world.heal();
}

#[test]
fn a_large_value_whose_slot_moves_meanwhile_is_refused_and_nothing_of_it_is_sent_again() {
    for cut in [false, true] {
        let mut world = World::new(streaming());
        let client = world.connect();
        let frame = set_of("{a}1", 900_000);
        world.clients[client].transit.extend_from_slice(&frame);
        world.arrive(client, 5_000);
        world.serve();
        let (ix, _) = world.core.backends.iter().find(|(_, backend)| backend.upload.is_some()).unwrap();
        world.clog(ix, 7);
        world.arrive(client, 300_000);
        world.arrive(client, usize::MAX);
        if cut {
            world.cut(ix);
        } else {
            world.cluster.owners.get_mut(&slot_of("a")).unwrap().target = Some(0);
            world.cluster.finish_move(slot_of("a"));
            world.clog(ix, usize::MAX);
        }
        world.settle();
        assert!(world.last(client).starts_with("-TRYAGAIN not run"), "{}", world.last(client));
        world.heal();
        assert!(!world.cluster.data[0].contains_key("{a}1") && !world.cluster.data[1].contains_key("{a}1"));
    }
}

#[test]
fn a_large_value_of_a_watching_client_does_not_go_over_the_watched_connection() {
    let mut world = World::new(streaming());
    let client = world.connect();
    world.send(client, "WATCH {b}1");
    world.settle();
    world.clients[client].transit = set_of("{a}1", 50_000);
    world.arrive(client, 5000);
    world.serve();
    world.settle();
    assert_eq!(world.cluster.data[1].get("{a}1").map(String::len), Some(50_000));
    world.send(client, "UNWATCH");
    world.heal();
}

#[test]
fn a_large_value_that_no_node_takes_is_thrown_away_and_the_client_goes_on() {
    let mut world = World::new(Config { exclusive_connections: 0, ..streaming() });
    let client = world.connect();
    world.clients[client].transit = set_of("{a}1", 50_000);
    world.arrive(client, 5000);
    world.serve();
    world.send(client, "PING");
    world.settle();
    let replies = world.replies(client);
    assert!(
        replies.len() == 2 && replies[0].starts_with("-TRYAGAIN") && replies[1] == "+PONG\r\n",
        "{replies:?}"
    );
    world.heal();
}

#[test]
fn a_large_value_that_waits_too_long_for_its_node_is_thrown_away_and_the_client_goes_on() {
    let mut world = World::new(streaming());
    let client = world.connect();
    world.fail_over(1);
    world.cluster.is_alive = [true, false, true, false];
    world.clients[client].transit = set_of("{a}1", 50_000);
    world.arrive(client, 5000);
    for _ in 0..12 {
        world.advance(Duration::from_secs(1));
    }
    world.send(client, "PING");
    world.settle();
    let replies = world.replies(client);
    assert!(
        replies.len() == 2 && replies[0].starts_with("-CLUSTERDOWN") && replies[1] == "+PONG\r\n",
        "{replies:?}"
    );
    world.heal();
}

#[test]
fn a_large_read_that_fails_when_asked_again_leaves_no_gate() {
    let mut world = World::new(streaming());
    let client = world.connect();
    world.cluster.data[1].insert("{a}1".into(), "v".repeat(5000));
    world.send(client, "GET {a}1");
    let pipe = world.pipe_to(1);
    world.run(pipe, 1);
    world.deliver(pipe, 2000);
    world.cluster.data[1].insert("{a}1".into(), "small".into());
    world.settle();
    assert_eq!(world.replies(client), ["$5\r\nsmall\r\n"]);
    world.heal();
}

#[test]
fn a_command_for_one_shard_does_not_wait_for_an_earlier_one_to_another() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "GETRANGE {b}1 0 0");
    world.send(client, "SMOVE {a}1 {a}2 0:1;");
    world.send(client, "APPEND {a}1 0:2;");
    let fast = world.pipe_to(1);
    for _ in 0..3 {
        world.run(fast, 10);
        world.deliver(fast, usize::MAX);
    }
    assert_eq!(world.cluster.data[1]["{a}1"], "0:1;0:2;");
    world.settle();
    world.heal();
}

#[test]
fn a_client_that_does_not_read_its_large_reply_holds_up_the_node_and_no_memory() {
    let mut world = World::new(streaming());
    let client = world.connect();
    world.cluster.data[1].insert("{a}1".into(), "v".repeat(5_000_000));
    world.take(client, 1000);
    world.send(client, "GET {a}1");
    world.settle();
    let waiting = world.core.sessions[world.clients[client].ix.unwrap()].unwritten();
    assert!(waiting < 1 << 20, "{waiting} bytes wait");
    world.take(client, usize::MAX);
    world.settle();
    assert_eq!(world.last(client).len(), 5_000_012);
    world.heal();
}

#[test]
fn nothing_follows_a_reply_that_was_cut() {
    let mut world = World::new(streaming());
    let client = world.connect();
    world.cluster.data[1].insert("{a}1".into(), "v".repeat(5_000_000));
    world.take(client, 1000);
    world.send(client, "GET {a}1");
    world.settle();
    world.advance(Duration::from_secs(100));
    world.take(client, usize::MAX);
    world.settle();
    assert_eq!(world.clients[client].received.len(), 1000);
    assert_eq!(world.clients[client].ix, None);
    world.heal();
}

#[test]
fn a_client_that_takes_nothing_is_cut_even_while_it_is_owed_replies() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.cluster.data[1].insert("{a}1".into(), "v".repeat(5000));
    world.take(client, 100);
    world.send(client, "GET {a}1");
    world.settle();
    world.send(client, "BLPOP {a}2 0");
    world.settle();
    for _ in 0..100 {
        world.advance(Duration::from_secs(1));
    }
    assert_eq!(world.clients[client].ix, None);
    world.heal();
}

#[test]
fn a_client_that_takes_nothing_is_cut_when_its_time_to_write_is_over_and_not_sooner() {
    for timeout in [Some(Duration::from_secs(5)), None] {
        let mut world = World::new(Config { write_timeout: timeout, ..Config::default() });
        let client = world.connect();
        world.cluster.data[1].insert("{a}1".into(), "v".repeat(5000));
        world.take(client, 100);
        world.send(client, "GET {a}1");
        world.settle();
        for _ in 0..4 {
            world.advance(Duration::from_secs(1));
        }
        assert!(world.clients[client].ix.is_some(), "{timeout:?}");
        for _ in 0..100 {
            world.advance(Duration::from_secs(1));
        }
        assert_eq!(world.clients[client].ix.is_none(), timeout.is_some(), "{timeout:?}");
        world.heal();
    }
}

#[test]
fn replies_that_wait_for_an_earlier_one_are_bounded() {
    let mut world = World::new(Config { output_hard_limit: 10_000, ..Config::default() });
    let client = world.connect();
    world.cluster.data[1].insert("{a}1".into(), "v".repeat(900));
    world.send(client, "GET {b}1");
    for _ in 0..100 {
        world.send(client, "GET {a}1");
    }
    let pipe = world.pipe_to(1);
    world.run(pipe, 200);
    world.deliver(pipe, usize::MAX);
    assert_eq!(world.clients[client].ix, None);
    world.heal();
}

#[test]
fn the_parts_of_a_reply_are_bounded_before_the_last_is_in() {
    let mut world = World::new(Config { output_hard_limit: 10_000, ..Config::default() });
    let client = world.connect();
    for n in 0..4 {
        world.cluster.data[1].insert(format!("{{a}}{n}"), "v".repeat(1500));
        world.cluster.data[1].insert(format!("{{d}}{n}"), "v".repeat(1500));
    }
    world.send(client, "MGET {a}0 {a}1 {a}2 {a}3 {d}0 {d}1 {d}2 {d}3 {b}1");
    let pipe = world.pipe_to(1);
    world.run(pipe, 10);
    world.deliver(pipe, usize::MAX);
    world.settle();
    assert!(world.last(client).starts_with("-ERR the reply is larger than"), "{}", world.last(client));
    world.heal();
}

#[test]
fn a_channel_is_forgotten_when_its_subscriber_leaves_before_the_node_confirms() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "SUBSCRIBE news");
    world.leave(client);
    world.settle();
    assert!(world.core.subscriptions.is_empty());
    let other = world.connect();
    world.send(other, "SUBSCRIBE news");
    world.settle();
    assert_eq!(world.last(other), "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    world.leave(other);
    assert!(world.core.subscriptions.is_empty());
}

#[test]
fn messages_that_come_within_a_large_reply_wait_for_its_end() {
    let mut world = World::new(streaming());
    let client = world.connect();
    world.send(client, "HELLO 3");
    world.send(client, "SUBSCRIBE news");
    world.settle();
    world.cluster.data[1].insert("{a}1".into(), "v".repeat(50_000));
    world.send(client, "GET {a}1");
    for _ in 0..5 {
        for ix in world.wires_to(1) {
            world.run(ix, 10);
            world.deliver(ix, 2000);
        }
    }
    let session = &world.core.sessions[world.clients[client].ix.unwrap()];
    assert!(matches!(session.busy, Some(Busy::Relaying { .. })));
    let subscriber = world.core.subscriptions.backend().unwrap();
    world.core.backend_bytes(subscriber, b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    world.settle();
    assert_eq!(world.last(client), ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    world.leave(client);
    world.heal();
}

#[test]
fn a_transaction_gives_its_watched_connection_back() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    for n in 0..5 {
        for line in ["WATCH {a}1", "MULTI", "APPEND {a}1 x", "EXEC"] {
            world.send(client, line);
            world.settle();
        }
        assert!(world.last(client).starts_with("*1\r\n"), "{n}: {}", world.last(client));
    }
    assert_eq!(world.core.exclusive_count, 1);
    world.heal();
}

#[test]
fn a_watched_transaction_that_may_have_run_is_not_reported_as_not_run() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "WATCH {a}1");
    world.settle();
    for line in ["MULTI", "APPEND {a}1 x", "EXEC"] {
        world.send(client, line);
    }
    let (ix, _) = world.core.backends.iter().find(|(_, backend)| backend.is_kept).unwrap();
    world.run(ix, 10);
    world.cut(ix);
    world.settle();
    assert_eq!(world.cluster.data[1]["{a}1"], "x");
    assert!(world.last(client).starts_with("-IOERR outcome unknown"), "{}", world.last(client));
    world.heal();
}

#[test]
fn a_client_that_asks_for_resp3_before_the_topology_is_known_is_served_once_it_is() {
    let mut world = World::unborn(Config::default());
    let client = world.connect();
    world.send(client, "HELLO 3");
    world.send(client, "SET {a}1 v");
    world.publish();
    world.core.load_topology();
    world.settle();
    world.advance(Duration::from_millis(10));
    world.settle();
    assert_eq!(world.last(client), "+v\r\n");
    world.heal();
}

#[test]
fn a_node_that_was_idle_for_long_is_not_taken_for_hung() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.advance(Duration::from_secs(100));
    world.send(client, "APPEND {a}1 0:0;");
    world.advance(Duration::from_secs(1));
    world.settle();
    assert_eq!(world.last(client), "+0:0;\r\n");
    world.heal();
}

#[test]
fn the_first_words_of_a_node_may_come_byte_by_byte() {
    let mut world = World::unborn(Config::default());
    world.publish();
    world.core.load_topology();
    world.work();
    for _ in 0..100 {
        for ix in world.wires.keys().copied().collect::<Vec<_>>() {
            world.run(ix, 1);
            world.deliver(ix, 1);
        }
    }
    assert!(
        world.core.backends.iter().count() == 2
            && world.core.backends.iter().all(|(_, backend)| backend.wire.is_up())
    );
}

#[test]
fn the_bytes_of_a_connection_that_was_given_up_are_not_taken_for_those_of_its_successor() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "APPEND {a}1 0:0;");
    world.send(client, "APPEND {a}1 0:1;");
    world.cluster.owners.get_mut(&slot_of("a")).unwrap().target = Some(0);
    world.cluster.finish_move(slot_of("a"));
    let old = world.pipe_to(1);
    world.run(old, 10);
    // Node 1 has gone, and its place on the worker is taken by a connection to its successor.
    world.cluster.primaries[1] = 3;
    world.cluster.is_alive[1] = false;
    world.publish();
    let first = world.wires[&old].link.output.len() / 2;
    world.deliver(old, first + 10);
    assert_eq!(world.wires_to(3).len(), 1);
    world.settle();
    let [new] = world.wires_to(3)[..] else { panic!("the successor was given up") };
    assert!(world.core.backends[new].wire.is_up());
    for _ in 0..10 {
        world.advance(Duration::from_millis(50));
        world.settle();
    }
    assert_eq!(world.replies(client).len(), 2);
    assert!(
        world.core.backends.iter().all(|(_, backend)| backend.wire.is_up() && backend.wire.tail.is_empty())
    );
    world.heal();
}

#[test]
fn a_command_waits_for_an_earlier_one_that_is_still_at_the_slots_former_owner() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "APPEND {a}1 0:0;");
    world.cluster.owners.get_mut(&slot_of("a")).unwrap().target = Some(0);
    world.cluster.finish_move(slot_of("a"));
    world.publish();
    world.core.load_topology();
    world.work();
    world.send(client, "APPEND {a}1 0:1;");
    let new = world.pipe_to(0);
    world.run(new, 10);
    world.settle();
    assert_eq!(world.cluster.data[0]["{a}1"], "0:0;0:1;");
    world.heal();
}

#[test]
fn a_held_command_goes_on_when_the_connection_of_those_behind_it_breaks() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.cluster.refusals[1] = Some("CLUSTERDOWN The cluster is down");
    world.send(client, "APPEND {a}1 0:0;");
    world.send(client, "GETRANGE {a}1 1 0");
    let pipe = world.pipe_to(1);
    world.run(pipe, 1);
    world.deliver(pipe, usize::MAX);
    world.cluster.refusals[1] = None;
    world.cut(pipe);
    for _ in 0..100 {
        world.advance(Duration::from_millis(10));
        world.settle();
    }
    assert_eq!(world.replies(client), ["+0:0;\r\n", "$8\r\n0:1=0:0;\r\n"]);
    world.heal();
}

#[test]
fn a_read_is_not_repeated_after_a_later_write_that_may_have_run() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "GETRANGE {a}1 0 0");
    world.send(client, "APPEND {a}1 0:1;");
    let pipe = world.pipe_to(1);
    world.run(pipe, 10);
    world.cut(pipe);
    for _ in 0..10 {
        world.advance(Duration::from_millis(100));
        world.settle();
    }
    assert!(
        world.replies(client).iter().all(|reply| reply.starts_with("-IOERR")),
        "{:?}",
        world.replies(client)
    );
    world.heal();
}

#[test]
fn a_large_read_behind_a_held_command_does_not_hold_it_up() {
    let mut world = World::new(streaming());
    let client = world.connect();
    world.cluster.data[1].insert("{a}2".into(), "v".repeat(5000));
    world.cluster.refusals[1] = Some("CLUSTERDOWN The cluster is down");
    world.send(client, "GETRANGE {a}1 0 0");
    world.send(client, "GET {a}2");
    let pipe = world.pipe_to(1);
    world.run(pipe, 1);
    world.cluster.refusals[1] = None;
    world.deliver(pipe, usize::MAX);
    world.settle();
    for _ in 0..10 {
        world.advance(Duration::from_millis(100));
        world.settle();
    }
    assert_eq!(world.replies(client).len(), 2);
    assert!(world.replies(client)[0].starts_with("$4\r\n0:0="), "{:?}", world.replies(client));
    world.heal();
}

#[test]
fn a_large_read_whose_node_is_gone_is_given_up_in_time() {
    let mut world = World::new(streaming());
    let client = world.connect();
    world.cluster.data[1].insert("{a}1".into(), "v".repeat(5000));
    world.send(client, "GET {a}1");
    let pipe = world.pipe_to(1);
    world.run(pipe, 1);
    world.cluster.is_alive[1] = false;
    world.deliver(pipe, 2000);
    world.cut(pipe);
    for _ in 0..15 {
        world.advance(Duration::from_secs(1));
        world.settle();
    }
    assert!(world.last(client).starts_with("-CLUSTERDOWN not run"), "{}", world.last(client));
    world.heal();
}

#[test]
fn flushall_comes_after_all_that_the_client_sent_before_and_before_all_that_it_sends_after() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.cluster.owners.get_mut(&slot_of("a")).unwrap().target = Some(0);
    world.cluster.finish_move(slot_of("a"));
    world.send(client, "SET {a}1 0:0;");
    world.send(client, "FLUSHALL");
    world.send(client, "SET {b}2 0:2;");
    world.settle();
    assert_eq!(world.replies(client), ["+0:0;\r\n", "+OK\r\n", "+0:2;\r\n"]);
    assert!(!world.cluster.data[0].contains_key("{a}1") && world.cluster.data[0].contains_key("{b}2"));
    world.heal();
}

#[test]
fn one_client_may_have_a_quarter_of_what_is_held_and_leaves_the_rest_to_others() {
    let mut world = World::new(Config { held_requests: 8, held_bytes: 8000, ..Config::default() });
    let (greedy, large, other) = (world.connect(), world.connect(), world.connect());
    // Of many slots of one shard: a later command for a slot is not looked at before an earlier one is done.
    let mut keys = (0..).map(|n| format!("key{n}")).filter(|key| slot_of(key).number() >= 8192);
    let mut key = || keys.next().unwrap();
    world.fail_over(1);
    world.cluster.is_alive = [true, false, true, false];
    for _ in 0..5 {
        world.send(greedy, &format!("GET {}", key()));
    }
    for size in [3000, 10] {
        world.send_bytes(large, &set_of(&key(), size));
    }
    for _ in 0..3 {
        world.send_bytes(other, &set_of(&key(), 900));
    }
    let held = |world: &World, client: usize| {
        let session = &world.core.sessions[world.clients[client].ix.unwrap()];
        (session.held_requests, session.held_bytes / 100)
    };
    assert_eq!([greedy, large, other].map(|client| held(&world, client)), [(2, 0), (1, 30), (2, 18)]);
    world.heal();
    let counts = [greedy, large, other].map(|client| {
        let replies = world.replies(client);
        let is_refused = |reply: &&String| reply.contains("too many requests already wait");
        (replies.len(), replies.iter().filter(is_refused).count())
    });
    assert_eq!(counts, [(5, 3), (2, 1), (3, 1)]);
}

/// A node says this on a connection, and then `chunk` again and again, which costs us little memory.
fn babble(world: &mut World, ix: usize, begin: &str, chunk: &str) {
    let link = &mut world.wires.get_mut(&ix).unwrap().link;
    link.output.extend_from_slice(begin.as_bytes());
    for _ in 0..1000 {
        let Some(wire) = world.wires.get_mut(&ix) else { return };
        wire.link.output.extend_from_slice(chunk.as_bytes());
        world.deliver(ix, usize::MAX);
        if let Some(backend) = world.core.backends.get(ix) {
            let kept = backend.wire.tail.capacity();
            assert!(kept < 400_000, "{begin:?}: {kept} bytes are kept");
        }
    }
}

#[test]
fn a_reply_without_end_is_refused_when_its_request_cannot_be_repeated() {
    for (begin, chunk) in [
        ("+", "x".repeat(10_000)),
        ("-", "x".repeat(10_000)),
        ("*1000000000000\r\n", ":1\r\n".repeat(1000)),
        ("$1000000000000\r\n", "x".repeat(10_000)),
    ] {
        let mut world = World::new(Config { output_hard_limit: 100_000, ..streaming() });
        let client = world.connect();
        world.send(client, "APPEND {a}1 0:0;");
        let pipe = world.pipe_to(1);
        babble(&mut world, pipe, begin, &chunk);
        assert!(world.last(client).contains("larger than"), "{begin:?}: {}", world.last(client));
        world.cut(pipe);
        world.heal();
    }
}

#[test]
fn a_node_that_says_what_nobody_asked_for_without_end_is_given_up() {
    for (begin, chunk) in [
        (">1000000000000\r\n", ":1\r\n".repeat(1000)),
        ("$1000000000000\r\n", "x".repeat(1000)),
        ("+", "x".repeat(1000)),
        (":", "1".repeat(1000)),
    ] {
        let mut world = World::new(Config { output_hard_limit: 100_000, ..streaming() });
        let pipe = world.pipe_to(1);
        babble(&mut world, pipe, begin, &chunk);
        assert!(!world.core.backends.contains(pipe), "{begin:?}");
        world.heal();
        let client = world.connect();
        world.send(client, "SUBSCRIBE news");
        world.settle();
        let subscriber = world.core.subscriptions.backend().unwrap();
        babble(&mut world, subscriber, begin, &chunk);
        assert!(!world.core.backends.contains(subscriber), "{begin:?}");
        world.heal();
        assert!(world.core.subscriptions.backend().is_some(), "another takes its place");
    }
}

#[test]
fn a_transaction_whose_reply_is_too_large_gives_its_watched_connection_back() {
    let mut world = World::new(Config { output_hard_limit: 100_000, ..streaming() });
    let client = world.connect();
    world.cluster.data[1].insert("{a}1".into(), "v".repeat(200_000));
    for line in ["WATCH {a}1", "MULTI", "GET {a}1", "EXEC"] {
        world.send(client, line);
        world.settle();
    }
    assert!(world.last(client).contains("larger than"), "{}", world.last(client));
    assert_eq!(world.core.idle_exclusive.values().map(Vec::len).sum::<usize>(), 1);
    world.heal();
}

fn subscribed(channel: &str, count: usize) -> String {
    format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:{count}\r\n", channel.len())
}

const REFUSED: &str = "-NOPERM no such channel for you\r\n";

#[test]
fn a_channel_that_the_node_refuses_is_refused_to_those_who_want_it_and_to_nobody_else() {
    let mut world = World::new(Config::default());
    world.cluster.forbidden = Some("secret");
    let [one, two, three] = [(); 3].map(|()| world.connect());
    for has_connection in [false, true] {
        assert_eq!(world.core.subscriptions.backend().is_some(), has_connection);
        // All are under way at once, and the second waits for what the first has asked for.
        world.send(one, "SUBSCRIBE news secret");
        world.send(two, "SUBSCRIBE news");
        world.send(three, "SUBSCRIBE secret");
        world.send(three, "PING");
        world.settle();
        assert_eq!(world.replies(one).last().unwrap(), REFUSED);
        assert_eq!(world.last(two), subscribed("news", 1));
        assert_eq!(world.replies(three).split_off(world.replies(three).len() - 2), [REFUSED, "+PONG\r\n"]);
        world.send(two, "UNSUBSCRIBE news");
        world.settle();
    }
    world.send(one, "SUBSCRIBE other");
    world.settle();
    assert_eq!(world.last(one), subscribed("other", 1));
    [one, two, three].into_iter().for_each(|client| world.leave(client));
    assert!(world.core.subscriptions.is_empty());
    world.heal();
}

#[test]
fn a_channel_that_is_refused_when_subscribed_anew_ends_its_clients_and_no_others() {
    let mut world = World::new(Config::default());
    let [one, two] = [(); 2].map(|()| world.connect());
    world.send(one, "SUBSCRIBE news secret");
    world.send(two, "SUBSCRIBE news");
    world.settle();
    world.cluster.forbidden = Some("secret");
    world.cut(world.core.subscriptions.backend().unwrap());
    world.heal();
    assert_eq!((world.clients[one].ix, world.clients[two].ix.is_some()), (None, true));
    let subscriber = world.core.subscriptions.backend().unwrap();
    let message = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n";
    world.wires.get_mut(&subscriber).unwrap().link.output.extend_from_slice(message.as_bytes());
    world.settle();
    assert_eq!(world.last(two), message);
    world.leave(two);
    assert!(world.core.subscriptions.is_empty());
}

fn wait(world: &mut World, seconds: u64) {
    (0..seconds).for_each(|_| world.advance(Duration::from_secs(1)));
}

#[test]
fn a_node_that_freezes_under_a_command_of_its_own_connection_is_given_up_in_time() {
    for lines in [&["WATCH {a}1"][..], &["WATCH {a}1", "MULTI", "APPEND {a}1 0:0;", "EXEC"]] {
        let mut world = World::new(Config::default());
        let client = world.connect();
        let (last, first) = lines.split_last().unwrap();
        for line in first {
            world.send(client, line);
            world.settle();
        }
        // Its time counts from the command on.
        wait(&mut world, 100);
        world.send(client, last);
        // The connection is made, or there already, and nothing is run on it.
        world.serve_greetings();
        wait(&mut world, 50);
        assert_eq!(world.replies(client).len(), first.len(), "{last}");
        wait(&mut world, 20);
        assert!(world.last(client).starts_with("-IOERR outcome unknown"), "{last}: {}", world.last(client));
        world.send(client, "UNWATCH");
        world.heal();
    }
}

#[test]
fn a_node_that_freezes_under_a_large_request_is_given_up_in_time() {
    for room in [7, 1_000_000] {
        let mut world = World::new(streaming());
        let client = world.connect();
        world.clients[client].transit = set_of("{a}1", 900_000);
        world.arrive(client, 5_000);
        world.serve();
        let (ix, _) = world.core.backends.iter().find(|(_, backend)| backend.upload.is_some()).unwrap();
        // The client is slow, and the node has nothing to do with it.
        wait(&mut world, 200);
        assert!(world.replies(client).is_empty() && world.core.backends.contains(ix));
        world.clog(ix, 7);
        world.arrive(client, usize::MAX);
        for _ in 0..5 {
            // It takes little, but something.
            wait(&mut world, 40);
            world.clog(ix, 7);
        }
        world.clog(ix, room);
        wait(&mut world, 50);
        assert!(world.replies(client).is_empty());
        wait(&mut world, 20);
        let expected = if room == 7 { "-TRYAGAIN not run" } else { "-IOERR outcome unknown" };
        assert!(world.last(client).starts_with(expected), "{room}: {}", world.last(client));
        world.heal();
    }
}

#[test]
fn a_node_that_freezes_within_a_large_reply_is_given_up_in_time() {
    let mut world = World::new(Config { write_timeout: None, ..streaming() });
    let client = world.connect();
    world.cluster.data[1].insert("{a}1".into(), "v".repeat(5_000_000));
    world.take(client, 1000);
    world.send(client, "GET {a}1");
    world.settle();
    let (ix, _) = world.core.backends.iter().find(|(_, backend)| backend.is_relaying).unwrap();
    // The client is slow, and the node is not read for it.
    wait(&mut world, 200);
    world.clients[client].room = usize::MAX;
    let held_back = std::mem::take(&mut world.wires.get_mut(&ix).unwrap().link.output);
    world.take(client, usize::MAX);
    wait(&mut world, 50);
    assert!(world.core.backends.contains(ix) && !held_back.is_empty());
    wait(&mut world, 20);
    assert_eq!(world.clients[client].ix, None, "what it has got cannot be continued");
    world.heal();
}

#[test]
fn a_command_that_waits_for_data_has_no_timeout() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "BLPOP {a}1 0");
    world.settle();
    wait(&mut world, 500);
    let other = world.connect();
    world.send(other, "SET {a}1 v");
    world.settle();
    assert_eq!(world.last(client), "*2\r\n$4\r\n{a}1\r\n$1\r\nv\r\n");
    world.heal();
}

/// A client's command that leaves an idle connection behind.
fn pop(world: &mut World, client: usize, key: &str) {
    world.cluster.data[usize::from(slot_of(key).number() >= 8192)].insert(key.into(), "v".into());
    world.send(client, &format!("BLPOP {key} 0"));
    world.settle();
    assert_eq!(world.last(client), format!("*2\r\n$4\r\n{key}\r\n$1\r\nv\r\n"));
}

fn idle(world: &World) -> Vec<usize> {
    world.core.idle_exclusive.values().flatten().copied().collect()
}

#[test]
fn idle_connections_make_room_for_those_to_other_nodes() {
    let mut world = World::new(Config { exclusive_connections: 2, ..Config::default() });
    let (one, other, third) = (world.connect(), world.connect(), world.connect());
    pop(&mut world, one, "{a}1");
    world.send(other, "BLPOP {a}2 0");
    world.settle();
    pop(&mut world, one, "{a}1");
    let last = idle(&world);
    pop(&mut world, one, "{b}1");
    assert_eq!((last.len(), idle(&world).len(), world.core.exclusive_count), (1, 1, 2));
    // Those in use are nobody else's.
    world.send(one, "BLPOP {b}1 0");
    world.settle();
    world.send(third, "BLPOP {a}1 0");
    world.settle();
    assert!(world.last(third).starts_with("-TRYAGAIN not run"), "{}", world.last(third));
    world.leave(one);
    world.leave(other);
    pop(&mut world, third, "{a}1");
    world.heal();
}

#[test]
fn a_node_that_closes_an_idle_connection_is_not_taken_for_lost() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    pop(&mut world, client, "{a}1");
    let ix = idle(&world)[0];
    let (addr, node) = (world.core.backends[ix].wire.addr, world.core.backends[ix].wire.node);
    world.cut(ix);
    assert!(world.core.may_connect(addr, node));
    pop(&mut world, client, "{a}1");
    world.cut(world.pipe_to(1));
    assert!(!world.core.may_connect(addr, node), "one that is needed is");
    world.heal();
}
