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
