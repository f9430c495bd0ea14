//! Subscriptions and the connection that carries them.

use super::world::World;
use crate::proxy::config::Config;

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

fn message(world: &mut World, node: usize, text: &str) {
    let lines = &world.core.subscriptions.lines;
    let backend = lines.iter().map(|line| line.backend).find(|ix| world.wires[ix].link.node == node).unwrap();
    world.wires.get_mut(&backend).unwrap().link.output.extend_from_slice(text.as_bytes());
    world.settle();
}

#[test]
fn what_happens_to_keys_is_heard_from_all_nodes_and_what_is_published_once() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "PSUBSCRIBE *");
    world.settle();
    let of = |channel: &str, text: &str| {
        let (channels, texts) = (channel.len(), text.len());
        format!("*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n${channels}\r\n{channel}\r\n${texts}\r\n{text}\r\n")
    };
    let before = world.replies(client).len();
    let events = [("__keyevent@0__:set", "a"), ("__keyevent@0__:set", "b")].map(|(name, key)| of(name, key));
    for (node, event) in events.iter().enumerate() {
        message(&mut world, node, event);
        message(&mut world, node, &of("news", "hi"));
    }
    let mut told = world.replies(client).split_off(before);
    told.retain(|told| *told != of("news", "hi"));
    assert_eq!(told, events);
    assert_eq!(world.replies(client).len() - before, 3);
    // A pattern that no event matches needs one connection only.
    world.send(client, "PUNSUBSCRIBE");
    world.send(client, "PSUBSCRIBE news*");
    world.settle();
    world.advance(std::time::Duration::from_secs(1));
    assert_eq!(world.core.subscriptions.lines.len(), 1);
    world.leave(client);
    assert!(world.core.subscriptions.is_empty());
    world.heal();
}

#[test]
fn a_shards_channel_is_heard_at_its_slots_owner_wherever_that_is() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    world.send(client, "SUBSCRIBE news");
    world.send(client, "SSUBSCRIBE {a}1");
    world.settle();
    // They are counted by themselves.
    assert_eq!(world.last(client), "*3\r\n$10\r\nssubscribe\r\n$4\r\n{a}1\r\n:1\r\n");
    let slot = super::cluster::slot_of("a");
    world.cluster.owners.get_mut(&slot).unwrap().target = Some(0);
    world.cluster.finish_move(slot);
    let before = world.replies(client).len();
    message(&mut world, 1, "*3\r\n$12\r\nsunsubscribe\r\n$4\r\n{a}1\r\n:0\r\n");
    world.publish();
    world.core.load_topology();
    world.settle();
    let text = "*3\r\n$8\r\nsmessage\r\n$4\r\n{a}1\r\n$2\r\nhi\r\n";
    message(&mut world, 0, text);
    assert_eq!(world.replies(client).split_off(before), [text]);
    world.send(client, "SUNSUBSCRIBE");
    world.settle();
    assert_eq!(world.last(client), "*3\r\n$12\r\nsunsubscribe\r\n$4\r\n{a}1\r\n:0\r\n");
    world.leave(client);
    assert!(world.core.subscriptions.is_empty());
}

#[test]
fn a_client_that_hears_no_replies_still_hears_of_its_subscriptions() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    for line in ["CLIENT REPLY OFF", "SUBSCRIBE news", "UNSUBSCRIBE news", "PING"] {
        world.send(client, line);
        world.settle();
    }
    let ended = "*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n";
    assert_eq!(world.replies(client), [subscribed("news", 1), ended.to_string()]);
}
