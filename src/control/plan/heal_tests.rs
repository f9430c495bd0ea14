//! Healing, case by case and for any disorder of addresses, on a model of a cluster.

use super::model::{Model, NODE_TIMEOUT, World, host};
use super::*;
use crate::control::plan::heal_guard::HASTY;
use proptest::prelude::*;
use std::time::Duration;

/// What a guard leaves on a node of this world.
const MARKED: u64 = NODE_TIMEOUT.as_millis() as u64 * 1000 + 1;

fn kinds(plan: &Plan) -> Vec<&'static str> {
    let mut kinds: Vec<&str> = plan.steps.iter().map(|step| step.action.kind()).collect();
    kinds.dedup();
    kinds
}

#[test]
fn a_whole_cluster_is_left_alone() {
    let plan = World::new().plan();
    assert_eq!((plan.steps.as_slice(), plan.findings.as_slice()), (&[][..], &[][..]));
}

#[test]
fn when_all_addresses_are_new_elections_are_held_back_before_anybody_is_met() {
    let mut world = World::new();
    for n in 0..6 {
        world.node_mut(n).at = host(100 + n as u8);
        world.node_mut(n).accused = (0..6).filter(|other| *other != n).collect();
    }
    let plan = world.plan();
    assert_eq!(kinds(&plan), ["guard", "hasten", "meet"]);
    world.heal();
    world.expect_whole();
}

#[test]
fn nobody_is_hastened_before_somebody_is_held_for_failed() {
    let mut world = World::new();
    for n in 0..6 {
        world.node_mut(n).at = host(100 + n as u8);
    }
    assert_eq!(kinds(&world.plan()), ["guard", "meet"]);
    world.node_mut(3).accused.insert(0);
    // One that the operator keeps out of elections carries no mark, and keeps its node timeout.
    world.node_mut(4).is_guarded = true;
    let plan = world.plan();
    assert_eq!(kinds(&plan), ["guard", "hasten", "meet"]);
    assert_eq!(plan.steps.iter().filter(|step| step.action.kind() == "hasten").count(), 5);
    // A mark that could not be told from other values is not left.
    (world.node_mut(4).is_guarded, world.node_mut(5).barrier) = (false, 1000);
    let plan = world.plan();
    assert_eq!(plan.steps.iter().filter(|step| step.action.kind() == "guard").count(), 5);
    assert_eq!(plan.findings[0].kind, "no-guard");
}

#[test]
fn nobody_is_guarded_for_a_replica_that_moved() {
    let mut world = World::new();
    world.look();
    world.node_mut(5).at = host(105);
    assert_eq!(kinds(&world.plan()), ["meet"]);
}

#[test]
fn a_guard_that_a_killed_manager_left_is_lifted_and_the_operators_own_stays() {
    let mut world = World::new();
    for n in 0..6 {
        world.node_mut(n).is_guarded = true;
        world.node_mut(n).barrier = if n == 4 { 1 } else { MARKED };
        world.node_mut(n).node_timeout = if n == 4 { NODE_TIMEOUT } else { HASTY };
    }
    assert_eq!(kinds(&world.plan()), ["unguard"]);
    world.heal();
    assert!(world.nodes.iter().all(|node| node.is_guarded == (node.id == 4) && node.barrier == 1));
    assert!(world.nodes.iter().all(|node| node.node_timeout == NODE_TIMEOUT));
}

#[test]
fn a_guard_does_not_outlive_a_repair_that_never_ends() {
    let mut world = World::new();
    // Somebody whom the others cannot reach, though we can.
    for n in 0..6 {
        (world.node_mut(n).is_guarded, world.node_mut(n).barrier) = (true, MARKED);
        world.node_mut(n).node_timeout = HASTY;
        if n != 2 {
            world.node_mut(n).accused.insert(2);
        }
    }
    assert_eq!(kinds(&world.plan()), [""; 0]);
    world.now += NODE_TIMEOUT * 4 + Duration::from_secs(20);
    assert_eq!(kinds(&world.plan()), ["unguard"]);
}

#[test]
fn a_stranger_at_an_old_address_is_told_of_and_left_alone() {
    let mut world = World::new();
    world.look();
    world.node_mut(2).at = host(102);
    let mut stranger = World::lone(66, host(2));
    stranger.slots = "0-16383".into();
    world.nodes.push(stranger);
    world.named.insert(host(2));
    let plan = world.plan();
    assert!(plan.findings.iter().any(|finding| finding.kind == "stranger"), "{plan:?}");
    world.heal();
    world.expect_whole();
}

#[test]
fn without_memory_two_clusters_at_the_seeds_are_both_left_alone() {
    let mut world = World::new();
    world.node_mut(2).at = host(102);
    let mut stranger = World::lone(66, host(2));
    stranger.slots = "0-16383".into();
    world.nodes.push(stranger);
    let plan = world.plan();
    assert_eq!((plan.steps.len(), plan.findings[0].kind), (0, "several-clusters"));
}

#[test]
fn an_address_behind_a_translation_is_not_spread() {
    let mut world = World::new();
    world.look();
    let answers = world.nodes.iter().map(|node| {
        let mut answer = world.answer(node);
        // All were dialled at other addresses than those at which they took the connections.
        answer.facts.local = Some(host(200 + node.id as u8));
        answer
    });
    let survey = Survey::new(answers.collect(), Vec::new(), world.memory.ours(), &world.named);
    let case = Case { survey: &survey, memory: &world.memory, now: world.now, listed: None, pods: None };
    assert_eq!(heal(case).steps, []);
}

#[test]
fn orphaned_slots_go_to_the_replica_as_soon_as_most_primaries_miss_theirs() {
    let mut world = World::new();
    world.look();
    world.node_mut(0).is_up = false;
    [1, 3, 4, 5].into_iter().for_each(|n| world.accuse(n, 0));
    assert_eq!(kinds(&world.plan()), [""; 0], "one primary of three, and replicas have no vote");
    world.accuse(2, 0);
    assert_eq!(kinds(&world.plan()), ["elect"]);

    world.node_mut(1).is_up = false;
    world.plan();
    world.now += Duration::from_secs(30);
    let plan = world.plan();
    assert_eq!(kinds(&plan), [""; 0]);
    let commands: Vec<&str> = plan.findings.iter().filter_map(|finding| finding.command.as_deref()).collect();
    assert_eq!(
        commands,
        [
            "redis-cli -h 10.0.0.3 -p 6379 CLUSTER FAILOVER TAKEOVER",
            "redis-cli -h 10.0.0.4 -p 6379 CLUSTER FAILOVER TAKEOVER"
        ]
    );
}

#[test]
fn orphaned_slots_go_to_the_replica_when_their_primary_is_silent_and_most_links_to_it_are_gone() {
    let mut world = World::new();
    world.look();
    world.node_mut(0).is_up = false;
    assert_eq!(kinds(&world.plan()), [""; 0]);
    world.now += NODE_TIMEOUT / 2;
    assert_eq!(kinds(&world.plan()), [""; 0], "it may be back within the node timeout");
    world.now += NODE_TIMEOUT / 2;
    assert_eq!(kinds(&world.plan()), ["elect"]);

    let mut world = World::new();
    world.look();
    world.node_mut(0).is_cut_off = true;
    world.plan();
    world.now += 2 * NODE_TIMEOUT;
    assert_eq!(kinds(&world.plan()), [""; 0], "the others are linked to it");
}

#[test]
fn a_spare_takes_the_place_of_a_lost_replica_and_no_other() {
    let mut world = World::new();
    world.named = (0..12).map(host).collect();
    world.look();
    world.node_mut(4).is_up = false;
    (0..6).filter(|n| *n != 4).for_each(|n| world.accuse(n, 4));
    world.nodes.push(World::lone(7, host(7)));
    world.nodes.push(World::lone(8, host(8)));
    world.heal();
    assert_eq!((world.node(7).primary, world.node(8).primary), (Some(1), None));
    assert!(world.node(8).others.is_empty());
}

#[test]
fn a_member_is_forgotten_only_off_the_list_after_long_and_when_all_agree() {
    let gone = |world: &mut World| {
        world.look();
        world.node_mut(5).is_up = false;
        (0..5).for_each(|n| world.accuse(n, 5));
        world.nodes.push(World::lone(7, host(7)));
        world.heal();
    };
    let late = Duration::from_secs(700);
    let mut world = World::new();
    world.named = (0..12).map(host).collect();
    gone(&mut world);
    world.now += late;
    let plan = world.plan();
    assert_eq!((plan.steps.len(), plan.findings[0].kind), (0, "gone-member"));

    world.named.remove(&host(5));
    world.node_mut(3).accused.clear();
    assert_eq!(kinds(&world.plan()), [""; 0], "one does not agree");
    world.node_mut(3).accused.insert(5);
    let plan = world.plan();
    assert_eq!((kinds(&plan), plan.steps.len()), (vec!["forget"], 6));
    world.heal();
    world.expect_whole();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever nodes took for each other's addresses: all find each other again, nobody else is met, the
    /// roles stay, and then nothing is left to do.
    #[test]
    fn any_disorder_of_addresses_is_mended(
        places in Just((0u8..6).collect::<Vec<u8>>()).prop_shuffle(),
        moved in proptest::collection::vec(any::<bool>(), 6),
        noise in proptest::collection::vec((0usize..6, 0usize..6, proptest::option::of(0u8..12), any::<bool>()), 0..30),
        stale in proptest::collection::vec(proptest::option::of(0u8..12), 6),
        has_stranger: bool,
    ) {
        let mut world = World::new();
        world.look();
        for n in 0..6 {
            let at = host(if moved[n] { 100 + n as u8 } else { places[n] });
            world.node_mut(n).at = at;
            if let Some(addr) = stale[n] {
                world.node_mut(n).own = Some(host(addr));
            }
        }
        for (viewer, target, addr, is_accused) in noise.iter().filter(|(viewer, target, ..)| viewer != target) {
            let node = world.node_mut(*viewer);
            node.others.retain(|(n, _)| n != target);
            node.others.push((*target, addr.map(host)));
            if *is_accused {
                node.accused.insert(*target);
            }
        }
        if has_stranger && let Some(free) = (0..12).map(host).find(|addr| world.at(*addr).is_none()) {
            let stranger = World::lone(66, free);
            world.nodes.push(Model { slots: "0-16383".into(), ..stranger });
        }
        let roles: Vec<Option<usize>> = world.nodes.iter().map(|node| node.primary).collect();
        // Time heals accusations of nodes that are connected again.
        for _ in 0..10 {
            world.heal_once();
        }
        world.heal();
        world.expect_whole();
        prop_assert_eq!(roles, world.nodes.iter().map(|node| node.primary).collect::<Vec<_>>());
    }
}
