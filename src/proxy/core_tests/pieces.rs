//! Transactions that are not for one node alone, and what nodes would refuse of any.

use super::world::World;
use crate::proxy::config::{Config, CrossSlot};

const QUEUED: &str = "+QUEUED\r\n";

fn emulating() -> World {
    World::new(Config { cross_slot: CrossSlot::Emulate, ..Config::default() })
}

fn run(world: &mut World, client: usize, lines: &[&str]) {
    for line in lines {
        world.send(client, line);
        world.settle();
    }
}

#[test]
fn commands_for_all_nodes_keep_their_places_in_a_transaction() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    run(&mut world, client, &["SET {b}1 old"]);
    // Sent at once, too.
    for is_settled in [true, false] {
        let lines = ["MULTI", "SET {a}1 v", "DBSIZE", "CLIENT GETNAME", "FLUSHALL", "EXISTS {a}1", "EXEC"];
        for line in lines {
            world.send(client, line);
            if is_settled {
                world.settle();
            }
        }
        world.send(client, "EXISTS {b}1");
        world.settle();
        let replies = world.replies(client);
        let [.., exec, after] = &replies[..] else { panic!("{replies:?}") };
        let size = if is_settled { 2 } else { 1 };
        assert_eq!(*exec, format!("*5\r\n+v\r\n:{size}\r\n$-1\r\n+OK\r\n:0\r\n"));
        assert_eq!(after, ":0\r\n");
    }
    world.heal();
}

#[test]
fn a_message_never_comes_between_the_replies_of_a_transaction() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    run(&mut world, client, &["HELLO 3", "SUBSCRIBE news", "MULTI", "SET {a}1 v", "DBSIZE"]);
    let before = world.replies(client).len();
    world.send(client, "EXEC");
    let subscriber = world.core.subscriptions.backend().unwrap();
    let message = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n";
    world.wires.get_mut(&subscriber).unwrap().link.output.extend_from_slice(message.as_bytes());
    world.deliver(subscriber, usize::MAX);
    world.settle();
    let told = world.replies(client).split_off(before);
    assert_eq!(told, ["*2\r\n+v\r\n:1\r\n".to_string(), message.replacen('*', ">", 1)]);
    world.heal();
}

#[test]
fn keys_in_several_slots_are_refused_unless_they_are_asked_for() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    run(&mut world, client, &["MULTI", "SET {a}1 v", "SET {b}1 w"]);
    assert!(world.last(client).starts_with("-CROSSSLOT"));
    run(&mut world, client, &["EXEC"]);
    assert!(world.last(client).starts_with("-EXECABORT"));
    // What only reads is served, until something is to be written.
    run(&mut world, client, &["MULTI", "GET {a}1", "GET {b}1", "EXEC"]);
    assert_eq!(world.last(client), "*2\r\n$-1\r\n$-1\r\n");
    run(&mut world, client, &["MULTI", "GET {a}1", "GET {b}1", "SET {a}1 v"]);
    assert!(world.last(client).starts_with("-CROSSSLOT"));
    run(&mut world, client, &["DISCARD"]);
    let mut world = emulating();
    let client = world.connect();
    run(&mut world, client, &["MULTI", "SET {a}1 v", "SET {b}1 w", "GET {a}1", "MGET {a}1 {b}1", "EXEC"]);
    let values = "*2\r\n$6\r\n{a}1=v\r\n$6\r\n{b}1=w\r\n";
    assert_eq!(world.last(client), format!("*4\r\n+v\r\n+w\r\n$1\r\nv\r\n{values}"));
    world.heal();
}

#[test]
fn a_change_of_any_watched_key_fails_a_transaction_over_several_slots() {
    for (changed, is_run) in [("{c}1", true), ("{a}1", false), ("{b}1", false)] {
        let mut world = emulating();
        let [client, other] = [(); 2].map(|()| world.connect());
        run(&mut world, client, &["WATCH {a}1 {b}1"]);
        run(&mut world, other, &[&format!("SET {changed} new")]);
        run(&mut world, client, &["MULTI", "SET {a}2 v", "SET {b}2 w", "EXEC"]);
        let told = if is_run { "*2\r\n+v\r\n+w\r\n" } else { "*-1\r\n" };
        assert_eq!(world.last(client), told, "{changed}");
        assert_eq!(world.cluster.data[1].contains_key("{a}2"), is_run, "{changed}");
        assert_eq!(world.cluster.data[0].contains_key("{b}2"), is_run, "{changed}");
        // The connections are good for others.
        run(&mut world, other, &["WATCH {a}3", "MULTI", "SET {a}3 v", "EXEC"]);
        assert_eq!(world.last(other), "*1\r\n+v\r\n");
        world.heal();
    }
}

#[test]
fn a_watch_lost_in_one_slot_fails_the_transaction_and_frees_the_other_connection() {
    let mut world = emulating();
    let client = world.connect();
    run(&mut world, client, &["WATCH {a}1 {b}1"]);
    let (ix, _) = world.core.backends.iter().find(|(_, backend)| backend.is_kept).unwrap();
    world.cut(ix);
    run(&mut world, client, &["MULTI", "SET {a}2 v", "EXEC"]);
    assert_eq!(world.last(client), "*-1\r\n");
    assert!(world.cluster.data[1].is_empty());
    world.heal();
}

#[test]
fn exec_says_what_a_node_refuses() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    run(&mut world, client, &["MULTI"]);
    world.cluster.refusals[1] = Some("OOM too much");
    run(&mut world, client, &["SET {a}1 v"]);
    assert_eq!(world.last(client), QUEUED);
    run(&mut world, client, &["EXEC"]);
    assert_eq!(world.last(client), "-EXECABORT Transaction discarded because of: OOM too much\r\n");
}

#[test]
fn a_refusal_is_heard_before_exec_while_it_is_to_be_expected() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.cluster.refusals[1] = Some("OOM too much");
    run(&mut world, client, &["SET {a}1 v", "MULTI", "SET {a}1 v"]);
    assert_eq!(world.last(client), "-OOM too much\r\n");
    world.cluster.refusals[1] = None;
    run(&mut world, client, &["SET {a}1 v"]);
    assert_eq!(world.last(client), QUEUED);
    run(&mut world, client, &["EXEC"]);
    assert!(world.last(client).starts_with("-EXECABORT"), "{}", world.last(client));
    // A node that is asked before has run nothing by that.
    run(&mut world, client, &["MULTI", "SET {a}1 w"]);
    assert!(world.cluster.data[1].is_empty());
    run(&mut world, client, &["EXEC"]);
    assert_eq!(world.last(client), "*1\r\n+w\r\n");
    world.heal();
}

#[test]
fn a_slot_that_moves_while_nodes_are_asked_is_no_refusal() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.core.doubt();
    run(&mut world, client, &["MULTI"]);
    let slot = super::cluster::slot_of("a");
    world.cluster.owners.get_mut(&slot).unwrap().target = Some(0);
    world.cluster.finish_move(slot);
    run(&mut world, client, &["SET {a}1 v", "EXEC"]);
    assert_eq!(world.replies(client).split_off(1), [QUEUED, "*1\r\n+v\r\n"]);
    world.heal();
}
