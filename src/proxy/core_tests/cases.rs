//! One situation each, played through event by event.

use super::cluster::slot_of;
use super::large::read_by_a_slow_client;
use super::world::World;
use crate::proxy::config::Config;
use std::time::Duration;

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
fn nothing_follows_a_reply_that_was_cut() {
    let (mut world, client) = read_by_a_slow_client();
    world.advance(Duration::from_secs(100));
    world.take(client, usize::MAX);
    world.settle();
    assert_eq!(world.clients[client].received.len(), 1000);
    assert_eq!(world.clients[client].ix, None);
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
