//! Scripts that name no keys.

use super::world::World;
use crate::proxy::config::Config;

fn run(world: &mut World, client: usize, lines: &[&str]) {
    for line in lines {
        world.send(client, line);
        world.settle();
    }
}

#[test]
fn a_script_without_keys_leaves_the_way_free_for_what_ends_it() {
    let mut world = World::new(Config::default());
    let [client, other] = [(); 2].map(|()| world.connect());
    run(&mut world, client, &["EVAL for-ever 0"]);
    assert!(world.core.stats.scripts.are_running());
    run(&mut world, other, &["SET {b}1 v", "PING", "SCRIPT KILL"]);
    assert_eq!(world.replies(other), ["+v\r\n", "+PONG\r\n", "+OK\r\n"]);
    world.leave(client);
    assert!(!world.core.stats.scripts.are_running());
    world.heal();
}

#[test]
fn a_script_that_names_no_key_runs_where_its_key_is() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    for (node, key) in [(0, "{b}1"), (1, "{a}1")] {
        run(&mut world, client, &[&format!("EVAL {key} 0"), &format!("GET {key}")]);
        assert_eq!(world.replies(client).split_off(2 * node), ["+OK\r\n", "$1\r\nv\r\n"], "{key}");
        assert_eq!(world.cluster.data[node].len(), 1);
    }
    assert!(!world.core.stats.scripts.are_running());
    world.heal();
}

#[test]
fn a_script_whose_key_is_nowhere_is_told_to_name_it() {
    let mut world = World::new(Config::default());
    let client = world.connect();
    // Of no shard that there is.
    world.cluster.owners.get_mut(&super::cluster::slot_of("a")).unwrap().shard = 9;
    run(&mut world, client, &["EVAL {a}1 0", "PING"]);
    let replies = world.replies(client);
    assert!(
        replies[0].starts_with("-ERR Script attempted") && replies[0].contains("EVAL script 1 key"),
        "{replies:?}"
    );
    assert_eq!(replies[1], "+PONG\r\n");
}
