//! Scaling by a wish, on the model of a StatefulSet.

use crate::control::plan::wish::Next;
use crate::control::plan::wish::model::World;
use crate::control::pods::Size;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Carries the wish out until nothing is left to do.
fn run(world: &mut World) {
    for _ in 0..200 {
        match world.next() {
            Next::Nothing => return,
            Next::Wait { text, .. } => {
                let before = world.made;
                world.make_all();
                assert!(world.made > before || text.contains("pods, not"), "{text}: {:?}", world.done);
            }
            next => world.apply(&next),
        }
    }
    panic!("no end: {:?}", world.done);
}

fn scaled(from: &mut World, shards: u32, replicas: u32) {
    from.wish_size(Size { shards, replicas });
    run(from);
    from.make_all();
}

/// As many shards as wished, evenly, each with its replicas, all in the pods that stay.
#[track_caller]
fn expect(world: &World, shards: usize, replicas: usize) {
    assert_eq!(world.set.replicas as usize, shards * (1 + replicas), "{:?}", world.done);
    let owners = world.owners();
    assert_eq!(owners.len(), shards, "{:?}", world.done);
    let mut followers: BTreeMap<usize, usize> = owners.iter().map(|owner| (*owner, 0)).collect();
    for (n, place) in world.places.iter().enumerate() {
        let (node, stays) = (&place.node, n < shards * (1 + replicas));
        assert_eq!(node.is_member, stays, "redis-{n}: {:?}", world.done);
        let slots: usize = node.slots.iter().map(|range| range.count()).sum();
        assert!(slots == 0 || slots.abs_diff(16384 / shards) <= 16384 / shards / 40, "{slots}");
        if let Some(primary) = node.primary {
            *followers.get_mut(&primary).unwrap() += 1;
        }
    }
    assert!(followers.values().all(|count| *count == replicas), "{followers:?}: {:?}", world.done);
}

#[test]
fn new_primaries_have_their_replicas_before_they_get_slots() {
    let mut world = World::new();
    scaled(&mut world, 4, 1);
    expect(&world, 4, 1);
    let done: Vec<&str> = world.done.iter().map(|done| done.split(' ').next().unwrap()).collect();
    assert_eq!(done, ["begin-scaling", "meet", "meet", "replicate", "move", "end-scaling"]);
    assert_eq!(world.next(), Next::Nothing);
}

#[test]
fn only_empty_and_forgotten_nodes_are_in_pods_that_kubernetes_removes() {
    let mut world = World::new();
    scaled(&mut world, 4, 1);
    world.done.clear();
    scaled(&mut world, 3, 1);
    expect(&world, 3, 1);
    let last: Vec<&str> = world.done.iter().rev().map(|done| done.split(' ').next().unwrap()).collect();
    assert_eq!(last[..3], ["end-scaling", "remove", "remove"]);
}

#[test]
fn other_replicas_alone_move_no_slot() {
    let mut world = World::new();
    scaled(&mut world, 3, 2);
    expect(&world, 3, 2);
    scaled(&mut world, 3, 1);
    expect(&world, 3, 1);
    assert!(!world.done.contains(&"move".to_string()), "{:?}", world.done);
}

#[test]
fn for_more_shards_in_fewer_pods_a_replica_that_is_not_the_only_one_becomes_a_primary() {
    let mut world = World::new();
    scaled(&mut world, 4, 2);
    scaled(&mut world, 5, 1);
    expect(&world, 5, 1);
}

#[test]
fn pods_that_somebody_took_away_are_brought_back_at_once() {
    let mut world = World::new();
    scaled(&mut world, 3, 1);
    world.set.replicas = 4;
    world.make_all();
    world.apply(&world.next());
    assert_eq!(world.set.replicas, 6);
}

#[test]
fn a_wish_that_is_not_safe_is_refused_and_one_that_is_taken_back_is_told_of() {
    for (shards, replicas) in [(2, 1), (3, 0)] {
        let mut world = World::new();
        world.wish_size(Size { shards, replicas });
        assert!(matches!(world.next(), Next::Wait { kind: "scaling-refused", .. }));
    }
    let mut world = World::new();
    world.wish_size(Size { shards: 4, replicas: 1 });
    world.apply(&world.next());
    world.set.wishes.shards = None;
    assert!(matches!(world.next(), Next::Wait { kind: "scaling-stopped", .. }));
}

#[test]
fn nothing_begins_while_the_cluster_is_not_in_order() {
    let mut world = World::new();
    world.wish_size(Size { shards: 4, replicas: 1 });
    world.pod(1).is_ready = false;
    assert!(matches!(world.next(), Next::Wait { kind: "scaling-waits", .. }));
    world.pod(1).is_ready = true;
    assert!(matches!(world.next(), Next::Edit(_)));
}

#[test]
fn a_leaver_does_not_keep_the_empty_primary_it_follows_from_becoming_a_replica() {
    let mut world = World::new();
    world.wish_size(Size { shards: 5, replicas: 1 });
    for _ in 0..4 {
        match world.next() {
            Next::Wait { .. } => world.make_all(),
            next => world.apply(&next),
        }
    }
    scaled(&mut world, 3, 2);
    expect(&world, 3, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever pods are primaries, and whatever sizes follow each other, also before one is reached: in the
    /// end all is as the last wish has it, and never did a node with slots leave.
    #[test]
    fn every_size_is_reached_from_every_other(
        order in Just((0usize..6).collect::<Vec<usize>>()).prop_shuffle(),
        wishes in proptest::collection::vec((3u32..7, 1u32..3, proptest::option::of(0usize..12)), 1..4),
    ) {
        let mut world = World::new();
        let nodes: Vec<_> = world.places.iter().map(|place| place.node.clone()).collect();
        for (place, n) in order.iter().enumerate() {
            world.places[place].node = nodes[*n].clone();
        }
        let (shards, replicas, _) = *wishes.last().unwrap();
        for (shards, replicas, steps) in wishes {
            world.wish_size(Size { shards, replicas });
            let Some(steps) = steps else {
                run(&mut world);
                continue;
            };
            for _ in 0..steps {
                match world.next() {
                    Next::Nothing => {}
                    Next::Wait { .. } => world.make_all(),
                    next => world.apply(&next),
                }
            }
        }
        run(&mut world);
        world.make_all();
        expect(&world, shards as usize, replicas as usize);
    }
}
