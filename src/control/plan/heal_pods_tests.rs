//! Healing by what Kubernetes says of the nodes' pods, on the model of a cluster.

use super::model::{World, host, id};
use super::*;
use crate::control::pods::Wishes;
use proptest::prelude::*;
use std::time::Duration;

fn is_told(plan: &Plan, words: &str) -> bool {
    plan.findings.iter().any(|finding| finding.text.contains(words))
}

fn kinds(plan: &Plan) -> Vec<&'static str> {
    plan.findings.iter().map(|finding| finding.kind).collect()
}

/// Each node's slots, and whom it follows.
fn roles(world: &World) -> Vec<(String, Option<usize>)> {
    world.nodes.iter().map(|node| (node.slots.clone(), node.primary)).collect()
}

const TUTORIAL: [(&str, Option<usize>); 6] = [
    ("0-5460", None),
    ("5461-10922", None),
    ("10923-16383", None),
    ("", Some(2)),
    ("", Some(0)),
    ("", Some(1)),
];

fn expect_roles(world: &World, expected: &[(&str, Option<usize>)]) {
    let expected: Vec<(String, Option<usize>)> =
        expected.iter().map(|(slots, primary)| (slots.to_string(), *primary)).collect();
    assert_eq!(roles(world), expected);
}

fn wish(world: &mut World, shards: Option<u32>, replicas: Option<u32>) {
    let set = world.pods.as_mut().unwrap().set.as_mut().unwrap();
    set.wishes = Wishes { shards, replicas, ..Wishes::default() };
}

#[test]
fn empty_pods_become_a_cluster_by_ordinal_and_no_replica_is_on_its_primarys_machine() {
    let mut world = World::unformed();
    assert!(world.plan().forming.is_some());
    world.heal();
    // Pods 0 and 3, 1 and 4, 2 and 5 share a machine.
    expect_roles(&world, &TUTORIAL);
    assert_eq!((world.plan().forming, world.plan().steps), (None, vec![]));
}

#[test]
fn on_a_machine_each_the_first_start_is_the_tutorials() {
    let mut world = World::unformed();
    for (n, pod) in world.pods.as_mut().unwrap().pods.iter_mut().enumerate() {
        pod.host = Some(format!("m{n}"));
    }
    world.heal();
    let followed: Vec<Option<usize>> = world.nodes.iter().map(|node| node.primary).collect();
    assert_eq!(followed, [None, None, None, Some(0), Some(1), Some(2)]);
}

#[test]
fn the_operators_wishes_decide_how_many_primaries_there_are() {
    let primaries = |shards, replicas| {
        let mut world = World::unformed();
        wish(&mut world, shards, replicas);
        world.heal();
        world.nodes.iter().filter(|node| !node.slots.is_empty()).count()
    };
    assert_eq!(primaries(None, None), 3);
    assert_eq!(primaries(None, Some(0)), 6);
    assert_eq!(primaries(Some(5), None), 5);
    assert_eq!(primaries(Some(3), Some(1)), 3);

    for (shards, replicas, told) in [
        (Some(2), None, "at least 3"),
        (Some(4), Some(1), "need 8 pods"),
        (None, Some(2), "give it 9 or more"),
    ] {
        let mut world = World::unformed();
        wish(&mut world, shards, replicas);
        let plan = world.plan();
        assert!(plan.is_done() && is_told(&plan, told), "{plan:?}");
        let last = plan.findings.last().unwrap();
        assert!(last.command.as_ref().unwrap().starts_with("kubectl "), "{plan:?}");
    }
}

#[test]
fn nothing_is_formed_before_every_pod_runs_and_answers() {
    let mut world = World::unformed();
    let pods = world.pods.as_mut().unwrap();
    (pods.pods[4].is_running, pods.pods[4].trouble) = (false, Some("ImagePullBackOff".into()));
    let plan = world.plan();
    assert!(plan.is_done() && is_told(&plan, "redis-4 does not run (ImagePullBackOff)"), "{plan:?}");
    world.pods.as_mut().unwrap().pods.remove(4);
    let plan = world.plan();
    assert!(plan.is_done() && is_told(&plan, "redis-4 does not exist"), "{plan:?}");
    world.pods = Some(world.pods_of(0..6));
    world.node_mut(3).is_up = false;
    let plan = world.plan();
    assert!(plan.is_done() && is_told(&plan, "redis-3: "), "{plan:?}");
    // Two pods are no cluster.
    world.pods = Some(world.pods_of(0..2));
    world.nodes.truncate(2);
    let plan = world.plan();
    assert_eq!((plan.is_done(), kinds(&plan)), (true, vec!["few-pods", "no-first-start"]));
}

#[test]
fn a_pod_that_holds_keys_or_knows_others_is_not_touched() {
    let mut world = World::unformed();
    world.node_mut(2).keys = 1;
    let plan = world.plan();
    assert!(plan.is_done() && is_told(&plan, "holds 1 keys"), "{plan:?}");

    let mut world = World::unformed();
    world.nodes.push(World::lone(66, host(66)));
    world.node_mut(2).others = vec![(66, Some(host(66)))];
    let plan = world.plan();
    assert!(plan.is_done(), "{plan:?}");

    // An empty node that is no pod of ours.
    let mut world = World::unformed();
    world.nodes.push(World::lone(66, host(66)));
    world.named.insert(host(66));
    let plan = world.plan();
    assert!(plan.is_done() && is_told(&plan, "answers too"), "{plan:?}");
}

#[test]
fn empty_pods_where_a_cluster_was_are_told_of_and_left_alone() {
    let mut world = World::unformed();
    world.memory = Memory::of((0..6).map(|n| id(n + 20)).collect(), HashSet::new());
    let plan = world.plan();
    assert_eq!((plan.is_done(), kinds(&plan)), (true, vec!["all-data-lost"]));
}

#[test]
fn a_cluster_that_is_there_is_not_formed_again_when_pods_are_added() {
    let mut world = World::new();
    world.look();
    world.nodes.extend([6, 7].map(|n| World::lone(n, host(n as u8))));
    world.pods = Some(world.pods_of(0..8));
    wish(&mut world, Some(4), Some(1));
    let plan = world.plan();
    assert_eq!((plan.is_done(), kinds(&plan)), (true, vec!["spare-node", "spare-node"]));
}

fn steps(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| format!("{}: {}", step.reason, step.action)).collect()
}

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
fn a_newcomer_whose_pod_leaves_gets_no_role() {
    let mut world = World::in_pods();
    world.lose_volume(3, 7, host(107));
    world.accuse_by_all(3);
    let is_met = |world: &mut World| steps(&world.plan()).iter().any(|step| step.starts_with("newcomer"));
    assert!(is_met(&mut world));
    world.pod_mut(3).is_leaving = true;
    assert!(!is_met(&mut world));
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

#[test]
fn a_primary_whose_volume_was_lost_is_replaced_without_patience() {
    let mut world = World::in_pods();
    world.lose_volume(0, 7, host(107));
    let plan = world.plan();
    assert_eq!(kinds(&plan), ["volume-lost", "spare-node"]);
    assert_eq!(
        steps(&plan),
        [format!("orphaned-slots: let 10.0.0.3:6379 stand for election in place of {}", id(0).short())]
    );
    // Its old self is held for failed some seconds later.
    world.carry_out(&plan, 1);
    world.accuse_by_all(0);
    world.heal();
    assert_eq!((world.node(3).slots.as_str(), world.node(7).primary), ("0-5460", Some(3)));
    assert!(
        world.nodes.iter().filter(|node| node.is_up).all(|node| node.others.len() == 5),
        "it is forgotten"
    );
    assert_eq!(world.plan().findings, []);
}

#[test]
fn a_member_whose_address_its_successor_has_is_forgotten_though_nobody_holds_it_for_failed() {
    let mut world = World::in_pods();
    world.lose_volume(4, 7, host(4));
    for node in world.nodes.iter_mut() {
        node.others.iter_mut().filter(|(n, _)| *n == 4).for_each(|(_, addr)| *addr = None);
    }
    world.heal();
    assert_eq!(world.node(7).primary, Some(1));
    assert!(
        world.nodes.iter().filter(|node| node.is_up).all(|node| node.others.len() == 5),
        "it is forgotten"
    );
}

#[test]
fn a_member_that_was_scaled_in_is_forgotten_and_one_whose_pod_is_only_away_is_not() {
    for (replicas, is_forgotten) in [(5, true), (6, false)] {
        let mut world = World::in_pods();
        world.node_mut(5).is_up = false;
        world.accuse_by_all(5);
        world.pods.as_mut().unwrap().pods.pop();
        world.replicas(replicas);
        let plan = world.plan();
        assert_eq!(plan.steps.len(), if is_forgotten { 5 } else { 0 }, "{plan:?}");
    }
}

#[test]
fn a_stranger_at_a_pods_old_address_proves_nothing() {
    let mut world = World::in_pods();
    world.lose_volume(0, 66, host(100));
    world.node_mut(66).slots = "0-16383".into();
    let plan = world.plan();
    assert_eq!((plan.steps.as_slice(), kinds(&plan)), (&[][..], vec!["stranger"]));
    // Nor does another pod of ours, when what is known of the first is old.
    let mut world = World::in_pods();
    world.node_mut(0).is_up = false;
    let addr = world.pod_mut(4).addr;
    world.pod_mut(0).addr = addr;
    assert_eq!(world.plan().steps, []);
}

#[test]
fn shards_that_were_scaled_in_by_hand_are_told_of() {
    let mut world = World::in_pods();
    world.replicas(3);
    assert_eq!(kinds(&world.plan()), [""; 0]);
    world.replicas(2);
    let plan = world.plan();
    assert_eq!(kinds(&plan), ["few-pods", "shard-leaves"]);
    assert_eq!(plan.findings[1].command.as_deref(), Some("kubectl scale statefulset redis --replicas=6"));
    assert!(is_told(&plan, "redis-2 and redis-5"), "{plan:?}");
}

#[test]
fn an_empty_primary_is_not_given_to_a_replica_that_still_has_the_keys() {
    let mut world = World::in_pods();
    (world.node_mut(0).uptime, world.node_mut(3).keys) = (Duration::from_secs(1), 9);
    assert_eq!(world.plan().steps, [], "the link is up: what the primary has, the replica has");
    world.node_mut(3).dials = Some(host(99));
    let plan = world.plan();
    assert_eq!((plan.steps[0].action.kind(), kinds(&plan)), ("rescue", vec!["data-lost"]));
    world.node_mut(0).uptime = Duration::from_secs(1000);
    assert!(world.plan().findings.is_empty(), "it ran all the time, and was emptied by a command");
    // Too late: the replica followed it.
    let mut world = World::in_pods();
    world.node_mut(0).keys = 9;
    world.look();
    (world.node_mut(0).keys, world.node_mut(0).uptime) = (0, Duration::from_secs(1));
    assert_eq!(kinds(&world.plan()), ["keys-lost"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Wherever managers are ended, and whether they remember: the next one finishes the same cluster.
    #[test]
    fn a_first_start_that_is_cut_short_anywhere_is_finished(
        cuts in proptest::collection::vec(0usize..18, 0..6), forgets: bool, has_keys: bool,
    ) {
        let mut world = World::unformed();
        for most in cuts {
            let plan = world.plan();
            prop_assert!(plan.steps.is_empty(), "{plan:?}");
            world.carry_out(&plan, most);
            if forgets {
                world.memory = Memory::default();
            }
        }
        // Clients come as soon as all slots are served.
        if has_keys && world.nodes.iter().filter(|node| !node.slots.is_empty()).count() == 3 {
            let all_met = world.nodes.iter().all(|node| node.others.len() == 5);
            world.node_mut(1).keys = u64::from(all_met);
        }
        // A manager that knew one node alone learns from it who the others are, and plans with them a look later.
        world.look();
        world.heal();
        expect_roles(&world, &TUTORIAL);
    }

    /// Whoever leaves, and whatever the roles were: each shard of which somebody stays ends with a primary that
    /// stays, no role changes but for that, and then nothing is left to do.
    #[test]
    fn any_pods_may_leave(leaving in proptest::collection::vec(any::<bool>(), 6), swapped in proptest::collection::vec(any::<bool>(), 3)) {
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
