//! Values too large to be kept: they pass in pieces, both ways.

use super::cluster::slot_of;
use super::world::World;
use crate::proxy::config::Config;
use crate::proxy::session::Busy;
use std::time::Duration;

/// Streams what is larger than a thousand bytes.
pub fn streaming() -> Config {
    Config { stream_threshold: 1000, ..Config::default() }
}

pub fn set_of(key: &str, size: usize) -> Vec<u8> {
    let value = "v".repeat(size);
    format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${size}\r\n{value}\r\n", key.len()).into_bytes()
}

/// A client that asks for 5000 bytes, and the connection on which a node has them ready.
fn begin_large_read(world: &mut World) -> (usize, usize) {
    let client = world.connect();
    world.cluster.data[1].insert("{a}1".into(), "v".repeat(5000));
    world.send(client, "GET {a}1");
    let pipe = world.pipe_to(1);
    world.run(pipe, 1);
    (client, pipe)
}

/// A client that takes a thousand bytes of a large reply.
pub fn read_by_a_slow_client() -> (World, usize) {
    let mut world = World::new(streaming());
    let client = world.connect();
    world.cluster.data[1].insert("{a}1".into(), "v".repeat(5_000_000));
    world.take(client, 1000);
    world.send(client, "GET {a}1");
    world.settle();
    (world, client)
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
    let (client, pipe) = begin_large_read(&mut world);
    world.deliver(pipe, 2000);
    world.cluster.data[1].insert("{a}1".into(), "small".into());
    world.settle();
    assert_eq!(world.replies(client), ["$5\r\nsmall\r\n"]);
    world.heal();
}

#[test]
fn a_client_that_does_not_read_its_large_reply_holds_up_the_node_and_no_memory() {
    let (mut world, client) = read_by_a_slow_client();
    let waiting = world.core.sessions[world.clients[client].ix.unwrap()].unwritten();
    assert!(waiting < 1 << 20, "{waiting} bytes wait");
    world.take(client, usize::MAX);
    world.settle();
    assert_eq!(world.last(client).len(), 5_000_012);
    world.heal();
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
    let (client, pipe) = begin_large_read(&mut world);
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
