//! Restarts by a wish, on the model of a StatefulSet.

use crate::control::plan::wish::Next;
use crate::control::plan::wish::model::World;
use crate::topology::SlotRange;
use proptest::prelude::*;

/// Carries the wish out until nothing is left to do.
fn run(world: &mut World) {
    for _ in 0..100 {
        match world.next() {
            Next::Nothing => return,
            Next::Wait { .. } => world.make_all(),
            next => world.apply(&next),
        }
    }
    panic!("no end: {:?}", world.done);
}

fn wished() -> World {
    let mut world = World::new();
    world.set.wishes.restart = Some("now".into());
    world
}

fn waits_for(world: &World) -> String {
    match world.next() {
        Next::Wait { text, .. } => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn replicas_are_restarted_first_and_primaries_after_their_hand_over() {
    let mut world = wished();
    run(&mut world);
    let expected = [
        "begin-restart",
        "redis-5",
        "redis-4",
        "redis-3",
        "failover 5",
        "redis-2",
        "failover 4",
        "redis-1",
        "failover 3",
        "redis-0",
        "end-restart",
    ];
    assert_eq!(world.done, expected);
    assert!(world.set.is_rolling);
    assert_eq!(world.next(), Next::Nothing, "the same wish is fulfilled once");
    world.set.wishes.restart = Some("again".into());
    assert!(matches!(world.next(), Next::Edit(_)));
}

#[test]
fn the_next_pod_waits_until_the_last_one_is_whole_and_the_cluster_in_order() {
    let mut world = wished();
    world.pod(4).is_ready = false;
    assert!(waits_for(&world).contains("redis-4 is not ready"), "nothing begins in disorder");
    world.pod(4).is_ready = true;
    world.apply(&world.next());
    world.apply(&world.next());
    assert!(waits_for(&world).contains("5 pods, not 6"));
    world.make_all();
    world.pod(5).is_ready = false;
    assert!(waits_for(&world).contains("redis-5 is not ready"));
    world.pod(5).is_ready = true;
    world.pod(0).is_leaving = true;
    assert!(waits_for(&world).contains("redis-0 is not ready: it is ending"), "as in a drain");
    world.pod(0).is_leaving = false;
    world.places[2].node.is_member = false;
    world.places[2].node.slots.clear();
    world.places[5].node.primary = None;
    world.places[5].node.slots = vec![SlotRange::new(10923, 16383).unwrap()];
    // Its pod has no member, but an empty node: nobody needs that one.
    world.apply(&world.next());
    assert_eq!(world.done.last().unwrap(), "redis-4");
}

#[test]
fn an_old_template_version_that_kubernetes_has_not_replaced_yet_is_waited_for() {
    let mut world = wished();
    world.apply(&world.next());
    world.set.is_stale = true;
    assert!(waits_for(&world).contains("not taken in"));
}

#[test]
fn a_restart_that_is_stopped_keeps_what_is_old_until_it_goes_on() {
    let mut world = wished();
    world.apply(&world.next());
    world.apply(&world.next());
    world.make_all();
    world.set.wishes.restart = None;
    let Next::Wait { kind, text } = world.next() else { panic!() };
    assert_eq!(kind, "restart-stopped");
    assert!(text.contains("redis-4, redis-3, redis-2, redis-1, redis-0"), "{text}");
    assert!(!world.set.is_rolling, "Kubernetes would replace the rest at once");
    world.set.wishes.restart = Some("now".into());
    run(&mut world);
    assert_eq!(world.done.iter().filter(|done| *done == "redis-5").count(), 1);
}

#[test]
fn a_primary_without_a_replica_is_not_restarted() {
    let mut world = wished();
    world.places[3].node.primary = Some(1);
    world.apply(&world.next());
    for _ in 0..30 {
        match world.next() {
            Next::Wait { text, .. } if text.contains("has no replica that could take over") => return,
            Next::Wait { .. } => world.make_all(),
            next => world.apply(&next),
        }
    }
    panic!("{:?}", world.done);
}

#[test]
fn a_pod_that_cannot_run_is_made_anew_first() {
    let mut world = wished();
    world.apply(&world.next());
    let pod = world.pod(3);
    (pod.is_ready, pod.is_running, pod.trouble) = (false, false, Some("CrashLoopBackOff".into()));
    world.apply(&world.next());
    assert_eq!(world.done.last().unwrap(), "redis-3");
    run(&mut world);
    assert_eq!(world.done.iter().filter(|done| *done == "redis-3").count(), 1);
}

#[test]
fn pods_that_kubernetes_replaces_itself_are_left_to_it() {
    let mut world = wished();
    world.apply(&world.next());
    world.set.is_rolling = true;
    assert!(waits_for(&world).contains("Kubernetes replaces the remaining 6 pods"));
    (0..6).for_each(|n| world.make(n));
    world.apply(&world.next());
    assert_eq!(world.done, ["begin-restart", "end-restart"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever pods are primaries, and wherever a leader ends and another goes on: every pod is made anew
    /// once, never two are away, and never one that owns slots.
    #[test]
    fn every_pod_is_restarted_once_whatever_the_roles(
        order in Just((0usize..6).collect::<Vec<usize>>()).prop_shuffle(), new in 0usize..6,) {
        let mut world = wished();
        let nodes: Vec<_> = world.places.iter().map(|place| place.node.clone()).collect();
        for (place, n) in order.iter().enumerate() {
            world.places[place].node = nodes[*n].clone();
        }
        world.apply(&world.next());
        // One is new already, as when it moved to another machine meanwhile.
        world.make(new);
        for _ in 0..200 {
            match world.next() {
                Next::Nothing => break,
                Next::Wait { .. } => world.make_all(),
                next => world.apply(&next),
            }
        }
        prop_assert_eq!(world.next(), Next::Nothing);
        for n in 0..6 {
            let name = format!("redis-{n}");
            let times = world.done.iter().filter(|done| **done == name).count();
            prop_assert_eq!(times, usize::from(n != new), "{:?}", world.done);
        }
    }
}
