//! Commands with keys in several slots: whatever happens at any of their steps, the client gets one
//! answer, values are somewhere, and nothing of ours is left.

use super::cluster::slot_of;
use super::world::World;
use crate::proxy::config::{Config, CrossSlot};
use std::time::Duration;

fn world() -> (World, usize) {
    let mut world = World::new(Config { cross_slot: CrossSlot::Emulate, ..Config::default() });
    let client = world.connect();
    world.send(client, "SET {a}1 one");
    world.send(client, "SET {b}1 two");
    world.settle();
    (world, client)
}

fn value(world: &World, key: &str) -> Option<String> {
    let values: Vec<&String> = world.cluster.data.iter().filter_map(|data| data.get(key)).collect();
    assert!(values.len() <= 1, "{key} is at two nodes");
    values.first().map(|value| value.to_string())
}

fn ours(world: &World) -> Vec<&String> {
    world
        .cluster
        .data
        .iter()
        .flat_map(|data| data.keys())
        .filter(|key| key.starts_with("slotgate:"))
        .collect()
}

/// Lets everything that is under way arrive, be run and be answered, once.
fn round(world: &mut World) {
    for ix in world.wires.keys().copied().collect::<Vec<_>>() {
        world.run(ix, usize::MAX);
    }
    for ix in world.wires.keys().copied().collect::<Vec<_>>() {
        world.deliver(ix, usize::MAX);
    }
}

/// More than any of the commands here takes.
const ROUNDS: usize = 10;
const COMMANDS: [&str; 3] = ["LCS {a}1 {b}1", "BITOP OR {c}1 {a}1 {b}1", "RENAME {a}1 {b}1"];

/// Plays each command with `trouble` at each of its steps, then heals everything.
fn play(trouble: impl Fn(&mut World, usize), check: impl Fn(&World, usize, &str)) {
    for line in COMMANDS {
        for at in 0..ROUNDS {
            let (mut world, client) = world();
            world.send(client, line);
            for _ in 0..at {
                round(&mut world);
            }
            trouble(&mut world, client);
            for _ in 0..50 {
                world.settle();
                world.advance(Duration::from_millis(20));
            }
            world.heal();
            check(&world, client, &format!("{line}, at step {at}"));
        }
    }
}

fn check_done(world: &World, client: usize, what: &str) {
    let reply = world.last(client);
    match what.split(' ').next() {
        Some("LCS") => assert_eq!(reply, "$7\r\none|two\r\n", "{what}"),
        Some("BITOP") => {
            assert_eq!(reply, ":7\r\n", "{what}");
            assert_eq!(value(world, "{c}1").as_deref(), Some("one+two"), "{what}");
        }
        _ => {
            assert_eq!(reply, "+OK\r\n", "{what}");
            assert_eq!((value(world, "{a}1"), value(world, "{b}1")), (None, Some("one".into())), "{what}");
        }
    }
    assert!(ours(world).is_empty(), "{what} leaves {:?}", ours(world));
}

#[test]
fn keys_of_several_slots_are_served() {
    play(|_, _| {}, check_done);
}

#[test]
fn every_step_follows_a_slot_that_has_moved() {
    for tag in ["a", "b", "c"] {
        play(
            |world, _| {
                let owner = world.cluster.owners.get_mut(&slot_of(tag)).unwrap();
                owner.target = Some(1 - owner.shard);
                world.cluster.finish_move(slot_of(tag));
            },
            check_done,
        );
    }
}

#[test]
fn every_step_waits_for_a_slot_that_is_being_moved() {
    for tag in ["a", "b", "c"] {
        play(
            |world, _| {
                let owner = world.cluster.owners.get_mut(&slot_of(tag)).unwrap();
                owner.target = Some(1 - owner.shard);
                for _ in 0..20 {
                    world.settle();
                    world.advance(Duration::from_millis(20));
                }
                world.cluster.finish_move(slot_of(tag));
            },
            check_done,
        );
    }
}

#[test]
fn every_step_is_served_while_a_slot_is_being_moved() {
    for tag in ["a", "b", "c"] {
        for is_begun in [false, true] {
            play(
                |world, _| {
                    let owner = world.cluster.owners.get_mut(&slot_of(tag)).unwrap();
                    owner.target = Some(1 - owner.shard);
                    if is_begun {
                        world.cluster.move_key(slot_of(tag));
                    }
                    world.settle();
                    for _ in 0..20 {
                        world.advance(Duration::from_millis(20));
                        world.settle();
                    }
                    assert_eq!(world.replies(0).len(), 3, "{:?}", world.replies(0));
                },
                check_done,
            );
        }
    }
}

#[test]
fn a_node_that_refuses_for_a_while_delays_a_step() {
    for node in 0..2 {
        play(
            |world, _| {
                world.cluster.refusals[node] = Some("CLUSTERDOWN The cluster is down");
                round(world);
                world.advance(Duration::from_millis(20));
                round(world);
                world.cluster.refusals[node] = None;
            },
            check_done,
        );
    }
}

#[test]
fn a_client_that_leaves_at_any_step_leaves_nothing_behind() {
    play(
        |world, client| world.leave(client),
        |world, _, what| {
            let values = (value(world, "{a}1"), value(world, "{b}1"));
            let [one, two] = ["one", "two"].map(|text| Some(text.to_string()));
            let is_before = values == (one.clone(), two);
            let is_after = values == (None, one);
            assert!(is_before || (what.starts_with("RENAME") && is_after), "{what}: {values:?}");
            assert!(ours(world).is_empty(), "{what} leaves {:?}", ours(world));
        },
    );
}

#[test]
fn a_node_that_dies_at_any_step_loses_no_value() {
    for shard in 0..2 {
        play(
            |world, _| {
                world.fail_over(shard);
                world.publish();
                world.core.load_topology();
            },
            |world, client, what| {
                let reply = world.last(client);
                let is_told = reply.starts_with("-IOERR") || reply.contains("not run");
                if !reply.starts_with('-') {
                    // It came through, or was begun anew; locks and temporaries of before may expire.
                    assert!(!reply.is_empty(), "{what}");
                } else {
                    assert!(is_told, "{what}: {reply}");
                }
                let values = [value(world, "{a}1"), value(world, "{b}1")];
                assert!(values.contains(&Some("one".to_string())), "{what}: {values:?} after {reply}");
                if what.starts_with("LCS") {
                    check_done(world, client, what);
                }
            },
        );
    }
}

#[test]
fn connections_that_break_at_any_step_cost_no_value() {
    play(
        |world, _| {
            for ix in world.wires.keys().copied().collect::<Vec<_>>() {
                world.cut(ix);
            }
        },
        |world, client, what| {
            let values = [value(world, "{a}1"), value(world, "{b}1")];
            assert!(values.contains(&Some("one".to_string())), "{what}: {values:?}");
            assert!(!world.last(client).is_empty(), "{what}");
        },
    );
}

#[test]
fn what_another_client_does_meanwhile_is_not_undone() {
    for line in ["APPEND {a}1 x", "APPEND {b}1 x"] {
        play(
            |world, _| {
                let other = world.connect();
                world.send(other, line);
            },
            |world, client, what| {
                let [a, b] = ["{a}1", "{b}1"].map(|key| value(world, key).unwrap_or_default());
                if what.starts_with("RENAME") {
                    // Where the other came first it was moved, or overwritten; where it came last, it is there.
                    let reply = world.last(client);
                    let is_served = reply == "+OK\r\n" && (b.starts_with("one") || a == "x");
                    let is_half = reply.starts_with("-IOERR done in part") && b == "one" && a == "onex";
                    assert!(is_served || is_half, "{what} and {line}: {reply} {a:?} {b:?}");
                } else {
                    assert!(a.contains('x') || b.contains('x'), "{what} and {line}: {a:?} {b:?}");
                }
            },
        );
    }
}

#[test]
fn the_client_waits_for_it_and_others_do_not() {
    let (mut world, client) = world();
    let other = world.connect();
    world.send(client, "BITOP OR {c}1 {a}1 {b}1");
    world.send(client, "GET {c}1");
    world.send(other, "GET {a}1");
    round(&mut world);
    assert_eq!(world.last(other), "$3\r\none\r\n");
    world.settle();
    assert_eq!(world.replies(client)[2..], [":7\r\n", "$7\r\none+two\r\n"]);
    world.heal();
}

#[test]
fn two_that_want_the_same_keys_come_one_after_the_other() {
    for between in 0..ROUNDS {
        let (mut world, client) = world();
        let other = world.connect();
        world.send(client, "RENAME {a}1 {b}1");
        (0..between).for_each(|_| round(&mut world));
        world.send(other, "RENAME {b}1 {a}1");
        world.settle();
        world.heal();
        assert_eq!([world.last(client), world.last(other)], ["+OK\r\n", "+OK\r\n"], "{between}");
        let values = (value(&world, "{a}1"), value(&world, "{b}1"));
        let expected = [(Some("one".to_string()), None), (None, Some("two".to_string()))];
        assert!(expected.contains(&values), "{between}: {values:?}");
        assert!(ours(&world).is_empty(), "{between} leaves {:?}", ours(&world));
    }
}
