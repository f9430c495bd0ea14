//! Replaced: members that are gone for good, by proof and not by patience. Pure.
//!
//! A node's id lives on its pod's volume, and the volume belongs to the pod's name. When another node answers
//! in the pod of that name, the volume was lost; when the StatefulSet has no pod of that name any more, it was
//! scaled in.
//!
//! Where the new node has the address of the old one (a container that was started again without its volume),
//! a replica of the old one, which dials addresses and not ids, soon copies its emptiness. Between the two are
//! seconds (`repl-diskless-sync-delay`, 5 s by default): the replica is elected at once for that reason too.
//! With a delay of 0 nobody can be as fast; only a volume that holds `nodes.conf` and data prevents it.

use super::heal::{Case, Plan};
use crate::topology::NodeId;

/// Whether the member cannot come back by itself.
pub fn is_replaced(case: Case<'_>, id: NodeId) -> bool {
    is_scaled_in(case, id) || successor(case, id).is_some()
}

/// The node that runs in the member's pod in its place.
fn successor(case: Case<'_>, id: NodeId) -> Option<NodeId> {
    let home = case.memory.home(id)?;
    let pod = case.pods?.pods.iter().find(|pod| pod.name == home.pod && pod.is_running)?;
    // A stranger at the address of a pod proves nothing: what we know of the pod may be old.
    let found = case.survey.at(pod.addr?)?.view.id();
    let is_at_home = case.memory.home(found).is_some_and(|home| home.pod == pod.name && home.uid == pod.uid);
    (found != id && is_at_home && case.survey.view.of(id).is_none()).then_some(found)
}

/// Whether its pod was taken away with a number of replicas that leaves it out.
fn is_scaled_in(case: Case<'_>, id: NodeId) -> bool {
    let (Some(home), Some(pods)) = (case.memory.home(id), case.pods) else { return false };
    let is_there = pods.pods.iter().any(|pod| pod.name == home.pod);
    let is_left_out =
        home.ordinal().zip(pods.set.as_ref()).is_some_and(|(ordinal, set)| ordinal >= set.replicas);
    is_left_out && !is_there && case.survey.view.of(id).is_none()
}

/// Tells loudly of volumes that were lost.
pub fn heal(case: Case<'_>, plan: &mut Plan) {
    let mut members: Vec<NodeId> = case.memory.ours().iter().copied().collect();
    members.sort_unstable();
    for id in members {
        let (Some(_), Some(home)) = (successor(case, id), case.memory.home(id)) else { continue };
        let nodes = &case.survey.view.nodes;
        let owned = nodes.iter().filter_map(|node| node.view.line(id)).any(|line| !line.slots.is_empty());
        let has_replica = nodes.iter().any(|node| node.view.myself().primary == Some(id));
        let fate = match (owned, has_replica) {
            (false, _) => "no data is missing: others have its slots; the new node becomes a replica",
            (true, true) => "a replica has its data and takes over; the new node follows that one then",
            (true, false) => "nobody else has its data: restore a backup (slotgate restore)",
        };
        let (pod, short) = (&home.pod, id.short());
        let text = format!(
            "the volume of the pod {pod} was lost: it came back as another, empty node than {short}; {fate}"
        );
        plan.find("volume-lost", text, None);
    }
}
