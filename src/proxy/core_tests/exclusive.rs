//! Connections that clients have for themselves for a while.

use super::cluster::slot_of;
use super::large::{set_of, streaming};
use super::world::World;
use crate::proxy::config::Config;
use std::time::Duration;

#[test]
fn a_blocked_client_that_leaves_takes_its_connection_along() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "BLPOP {a}1 0");
    world.settle();
    world.leave(client);
    assert_eq!(world.core.stats.shares.exclusive(), 0);
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
    assert_eq!(world.core.stats.shares.exclusive(), 1);
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
    assert_eq!((last.len(), idle(&world).len(), world.core.stats.shares.exclusive()), (1, 1, 2));
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
