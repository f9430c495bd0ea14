//! While commands are looked at before they go: CLIENT PAUSE, MONITOR, and clients that others end.

use super::world::World;
use crate::proxy::config::Config;
use std::time::Duration;

#[test]
fn a_paused_client_goes_on_in_its_order_when_the_time_is_over() {
    let mut world = World::new(Config::default());
    let [master, writer, reader] = [(); 3].map(|()| world.connect());
    world.send(writer, "APPEND {a}1 0:0;");
    world.send(master, "CLIENT PAUSE 1000 WRITE");
    world.send(writer, "APPEND {a}1 0:1;");
    world.send(writer, "GETRANGE {a}1 2 0");
    world.send(reader, "GETRANGE {a}1 0 1");
    world.settle();
    assert_eq!(world.replies(writer).len(), 1, "what came before the pause");
    assert_eq!(world.last(reader), "$8\r\n1:0=0:0;\r\n");
    assert_eq!(world.core.stats.watch.paused_clients(), 1);
    for _ in 0..10 {
        world.advance(Duration::from_millis(110));
    }
    world.settle();
    assert_eq!(world.last(writer), "$12\r\n0:2=0:0;0:1;\r\n");
    assert_eq!(world.core.stats.watch.paused_clients(), 0);
    world.heal();
}

#[test]
fn a_paused_client_that_leaves_writes_nothing() {
    let mut world = World::new(Config::default());
    let [master, writer] = [(); 2].map(|()| world.connect());
    world.send(master, "CLIENT PAUSE 1000");
    world.send(writer, "APPEND {a}1 0:1;");
    world.send(writer, "PING");
    world.leave(writer);
    assert_eq!(world.core.stats.watch.paused_clients(), 0);
    world.send(master, "CLIENT UNPAUSE");
    world.send(master, "GETRANGE {a}1 0 0");
    world.settle();
    assert_eq!(world.last(master), "$4\r\n0:0=\r\n");
    world.heal();
}

#[test]
fn a_client_that_is_ended_by_another_gets_nothing_more_and_leaves_nothing_behind() {
    let mut world = World::new(Config::default());
    let [killer, blocked, busy] = [(); 3].map(|()| world.connect());
    world.send(blocked, "BLPOP {a}list 0");
    world.send(busy, "APPEND {a}1 0:0;");
    world.send(killer, "CLIENT KILL TYPE normal");
    world.settle();
    assert_eq!(world.last(killer), ":2\r\n");
    for client in [blocked, busy] {
        assert_eq!((world.clients[client].ix, world.last(client)), (None, String::new()));
    }
    world.send(killer, "CLIENT KILL TYPE normal SKIPME no");
    world.settle();
    assert_eq!((world.clients[killer].ix, world.last(killer)), (None, ":1\r\n".to_string()));
    world.heal();
}
