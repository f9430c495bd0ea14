//! Healing by what Kubernetes says of the nodes' pods, on the model of a cluster.

use super::model::{World, host, id};
use super::*;
use crate::control::pods::Wishes;
use proptest::prelude::*;

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
        assert!(plan.is_done() && plan.findings[0].text.contains(told), "{plan:?}");
        assert!(plan.findings[0].command.as_ref().unwrap().starts_with("kubectl "), "{plan:?}");
    }
}

#[test]
fn nothing_is_formed_before_every_pod_runs_and_answers() {
    let mut world = World::unformed();
    let pods = world.pods.as_mut().unwrap();
    (pods.pods[4].is_running, pods.pods[4].trouble) = (false, Some("ImagePullBackOff".into()));
    let plan = world.plan();
    assert!(
        plan.is_done() && plan.findings[0].text.contains("redis-4 does not run (ImagePullBackOff)"),
        "{plan:?}"
    );
    world.pods.as_mut().unwrap().pods.remove(4);
    let plan = world.plan();
    assert!(plan.is_done() && plan.findings[0].text.contains("redis-4 does not exist"), "{plan:?}");
    world.pods = Some(world.pods_of(0..6));
    world.node_mut(3).is_up = false;
    let plan = world.plan();
    assert!(plan.is_done() && plan.findings[0].text.contains("redis-3: "), "{plan:?}");
    // Two pods are no cluster.
    world.pods = Some(world.pods_of(0..2));
    world.nodes.truncate(2);
    let plan = world.plan();
    assert_eq!((plan.is_done(), kinds(&plan)), (true, vec!["no-first-start"]));
}

#[test]
fn a_pod_that_holds_keys_or_knows_others_is_not_touched() {
    let mut world = World::unformed();
    world.node_mut(2).keys = 1;
    let plan = world.plan();
    assert!(plan.is_done() && plan.findings[0].text.contains("holds 1 keys"), "{plan:?}");

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
    assert!(plan.is_done() && plan.findings[0].text.contains("answers too"), "{plan:?}");
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
        world.heal();
        expect_roles(&world, &TUTORIAL);
    }
}
