//! Scaled in by hand: shards all of whose pods are to go are told of, loudly, before their data is gone. Pure.

use super::heal::{Case, Plan};
use crate::topology::NodeId;
use std::collections::{BTreeMap, BTreeSet};

pub fn heal(case: Case<'_>, plan: &mut Plan) {
    let Some(set) = case.pods.and_then(|pods| pods.set.as_ref()) else { return };
    // By each owner of slots: where it and its replicas are, which may be gone already.
    let mut shards: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
    let lines = || case.survey.view.nodes.iter().flat_map(|node| node.view.members());
    for owner in lines().filter(|line| !line.slots.is_empty()) {
        shards.entry(owner.id).or_default().insert(owner.id);
    }
    for line in lines() {
        if let Some(shard) = line.primary.and_then(|primary| shards.get_mut(&primary)) {
            shard.insert(line.id);
        }
    }
    let homes = |shard: &BTreeSet<NodeId>| -> Option<Vec<u32>> {
        shard.iter().map(|id| case.memory.home(*id)?.ordinal()).collect()
    };
    // A node outside the StatefulSet stays.
    let lost =
        shards.values().filter_map(homes).filter(|ordinals| ordinals.iter().all(|n| *n >= set.replicas));
    let lost: Vec<Vec<u32>> = lost.collect();
    let Some(last) = lost.iter().flatten().max() else { return };
    let pod = |ordinal: &u32| set.pod(*ordinal);
    let named: Vec<String> =
        lost.iter().map(|shard| shard.iter().map(pod).collect::<Vec<_>>().join(" and ")).collect();
    let text = format!(
        "the StatefulSet {} was set to {} replicas, and all pods of {} shards that still own slots go: {}. Their keys \
         are not served then; they stay on the pods' volume claims. Raise the replicas again, and scale in with \
         slotgate, which moves the slots away first",
        set.name,
        set.replicas,
        lost.len(),
        named.join("; ")
    );
    plan.find(
        "shard-leaves",
        text,
        Some(format!("kubectl scale statefulset {} --replicas={}", set.name, last + 1)),
    );
}
