//! What one client, or one node, can make us keep.

use super::cluster::slot_of;
use super::large::{set_of, streaming};
use super::world::World;
use crate::proxy::config::Config;
use std::time::Duration;

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
