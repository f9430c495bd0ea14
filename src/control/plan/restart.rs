//! restart: every pod is made anew, one after the other, and no client is refused → replicas first, then
//! each primary after a new replica took over from it. Pure.
//!
//! A restart is begun by a stamp on the pods' template: pods of another version than the template's are
//! old, and the restart is over when none is. Kubernetes is kept from replacing pods by itself meanwhile,
//! since it goes by their numbers. Whoever leads goes on from what is there.

use super::failover::{HandOver, Refusal, failover};
use super::wish::{Case, Next, is_owner};
use crate::control::edit::Edit;
use crate::control::pods::{Pod, StatefulSet};
use crate::control::view::Observation;

/// How many bytes of writes a replica may lack when it is told to take over: it gets them first, while new
/// writes wait.
const MAX_LAG: u64 = 16 << 20;

const WAITS: &str = "restart-waits";

pub(super) fn next(case: Case<'_>, set: &StatefulSet) -> Next {
    let wish = set.wishes.restart.as_ref();
    let is_new = wish.is_some() && set.progress.stamp.as_ref() != wish;
    if !is_new && set.progress.kept_strategy.is_none() {
        return Next::Nothing;
    }
    if set.is_stale {
        return wait("Kubernetes has not taken in the last change of the StatefulSet".into());
    }
    let old: Vec<&Pod> =
        case.pods.pods.iter().filter(|pod| pod.revision != set.update_revision).rev().collect();
    match wish {
        Some(wish) if is_new => match obstacle(case, set) {
            Some(why) => wait(why),
            None => Next::Edit(Edit::BeginRestart { wish: wish.clone() }),
        },
        _ if old.is_empty() => match case.away(set, |_| false) {
            Some((_, why)) => wait(why),
            None => Next::Edit(Edit::EndRestart),
        },
        None => stopped(&old),
        Some(_) if set.is_rolling => wait(format!(
            "somebody set the update strategy of the StatefulSet back to RollingUpdate while the restart goes on; \
             Kubernetes replaces the remaining {} pods in its own order",
            old.len()
        )),
        Some(_) => replace(case, set, &old),
    }
}

/// The next one of the old pods, the highest number first.
fn replace(case: Case<'_>, set: &StatefulSet, old: &[&Pod]) -> Next {
    let delete = |pod: &Pod| Next::Edit(Edit::DeletePod { name: pod.name.clone(), uid: pod.uid.clone() });
    if let Some((pod, _)) = case.away(set, |_| false)
        && let Some(pod) = pod.filter(|pod| old.iter().any(|old| old.uid == pod.uid))
        && pod.trouble.is_some()
        && !pod.is_running
        && !pod.is_leaving
    {
        // It is away anyway, and may be what the restart is to mend.
        return delete(pod);
    }
    if let Some(why) = obstacle(case, set) {
        return wait(why);
    }
    let owner = |pod: &Pod| case.node(pod).filter(|node| is_owner(node));
    if let Some(pod) = old.iter().find(|pod| owner(pod).is_none()) {
        return delete(pod);
    }
    let Some(primary) = old.first().and_then(|pod| owner(pod)) else { return Next::Nothing };
    match hand_over(case, primary) {
        Ok(over) => Next::Act { reason: "restart", actions: vec![over.action()] },
        Err(refusal) => wait(refusal.to_string()),
    }
}

fn hand_over(case: Case<'_>, primary: &Observation) -> Result<HandOver, Refusal> {
    failover(case.view, primary.view.id(), MAX_LAG)
}

/// Why no pod may be taken away now.
fn obstacle(case: Case<'_>, set: &StatefulSet) -> Option<String> {
    let is_unknown = |pod: &&Pod| case.node(pod).is_none() && !case.is_spare(pod);
    case.obstacle(set)
        .or_else(|| {
            let unknown = case.pods.pods.iter().find(is_unknown)?;
            Some(format!("the node in {} is not a member of the cluster yet", unknown.name))
        })
        .or_else(|| case.has_open_slots.then(|| "slots are on the move".to_string()))
}

fn stopped(old: &[&Pod]) -> Next {
    let names: Vec<&str> = old.iter().map(|pod| pod.name.as_str()).collect();
    let text = format!(
        "the restart was stopped before its end: {} were not restarted, and Kubernetes replaces no pod by itself until \
         it goes on ('slotgate restart')",
        names.join(", ")
    );
    Next::Wait { kind: "restart-stopped", text }
}

fn wait(text: String) -> Next {
    Next::Wait { kind: WAITS, text: format!("the restart waits: {text}") }
}

#[cfg(test)]
#[path = "restart_tests.rs"]
mod tests;
