//! Pods that leave, and to whom their shards go, on the model of a cluster.

use super::model::{World, host, id};
use super::pods_tests::{kinds, roles, steps};
use proptest::prelude::*;

#[test]
fn a_primary_whose_pod_leaves_hands_over_to_its_replica_whatever_else_is_wrong() {
    let mut world = World::in_pods();
    world.pod_mut(0).is_leaving = true;
    assert_eq!(steps(&world.plan()), ["pod-leaves: let 10.0.0.3:6379 take over from 10.0.0.0:6379"]);
    world.node_mut(5).is_up = false;
    world.accuse_by_all(5);
    world.node_mut(1).at = host(101);
    assert_eq!(world.plan().steps[0].reason, "pod-leaves");
    // A replica that leaves is nobody's concern.
    let mut world = World::in_pods();
    world.pod_mut(3).is_leaving = true;
    assert_eq!(world.plan().steps, []);
}

#[test]
fn nobody_changes_roles_when_all_pods_of_a_shard_leave() {
    let mut world = World::in_pods();
    (0..6).for_each(|n| world.pod_mut(n).is_leaving = true);
    let plan = world.plan();
    assert_eq!((plan.steps.as_slice(), kinds(&plan)), (&[][..], vec!["leaving-shard"; 3]));
    // One that was scaled in leaves as well, if a moment later.
    let mut world = World::in_pods();
    world.pod_mut(0).is_leaving = true;
    world.replicas(3);
    assert_eq!(world.plan().steps, []);
}

#[test]
fn a_shard_goes_to_a_replica_of_the_newest_revision_that_stays() {
    let mut world = World::in_pods();
    (world.node_mut(4).primary, world.node_mut(4).dials) = (Some(0), Some(host(0)));
    world.pod_mut(0).is_leaving = true;
    world.pod_mut(3).revision = Some("r0".into());
    assert_eq!(steps(&world.plan()), ["pod-leaves: let 10.0.0.4:6379 take over from 10.0.0.0:6379"]);
    world.pod_mut(4).is_leaving = true;
    assert_eq!(steps(&world.plan()), ["pod-leaves: let 10.0.0.3:6379 take over from 10.0.0.0:6379"]);
}

#[test]
fn a_leaving_primary_with_slots_on_the_move_is_told_of() {
    let mut world = World::in_pods();
    world.node_mut(0).slots = format!("0-5460 [77->-{}]", id(1));
    world.pod_mut(0).is_leaving = true;
    let plan = world.plan();
    assert_eq!((plan.steps.as_slice(), kinds(&plan)), (&[][..], vec!["leaving-primary"]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whoever leaves, and whatever the roles were: each shard of which somebody stays ends with a primary that
    /// stays, no role changes but for that, and then nothing is left to do.
    #[test]
    fn any_pods_may_leave(
        leaving in proptest::collection::vec(any::<bool>(), 6),
        swapped in proptest::collection::vec(any::<bool>(), 3),
    ) {
        let mut world = World::in_pods();
        for (n, _) in swapped.iter().enumerate().filter(|(_, is_swapped)| **is_swapped) {
            let slots = std::mem::take(&mut world.node_mut(n).slots);
            (world.node_mut(n).primary, world.node_mut(n).dials) = (Some(n + 3), Some(host(n as u8 + 3)));
            (world.node_mut(n + 3).primary, world.node_mut(n + 3).dials) = (None, None);
            world.node_mut(n + 3).slots = slots;
        }
        let before = roles(&world);
        (0..6).for_each(|n| world.pod_mut(n).is_leaving = leaving[n]);
        world.heal();
        for (n, is_swapped) in swapped.into_iter().enumerate() {
            let (old, other) = if is_swapped { (n + 3, n) } else { (n, n + 3) };
            let moves = leaving[old] && !leaving[other];
            let primary = if moves { other } else { old };
            prop_assert_eq!(&world.node(primary).slots, &before[old].0);
            prop_assert!(!world.node(primary).slots.is_empty());
        }
    }
}
