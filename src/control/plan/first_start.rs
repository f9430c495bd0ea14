//! First start: the pods of a StatefulSet, all empty, become a cluster; and what a manager that was ended
//! meanwhile left of that is finished. Pure.
//!
//! Only the pods' own nodes, all of them, and nobody else's: whoever holds keys or knows others is never
//! touched. A cluster that once was is not replaced by an empty one without a person's word.

use super::form::{self, Formation, LEAST_PRIMARIES, Refusal, count_primaries, form_shards};
use super::heal::{Case, Plan};
use crate::control::action::Action;
use crate::control::pods::{Pods, StatefulSet};
use crate::control::view::{Observation, View};
use crate::topology::NodeId;

/// A cluster that is to be formed, or the rest of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forming {
    pub plan: form::Plan,
    /// What each primary gets at least.
    pub replicas: usize,
}

/// Plans the first start; whether nothing else is to be planned before it.
pub fn heal(case: Case<'_>, plan: &mut Plan) -> bool {
    let Some((pods, set)) = case.pods.and_then(|pods| Some((pods, pods.set.as_ref()?))) else {
        return false;
    };
    if !is_formless(case) {
        return false;
    }
    // Nobody is a member of anything, by anybody's word.
    let is_new = case.survey.view.nodes.is_empty();
    let was_known = !case.memory.ours().is_empty();
    let missing = missing(case, pods);
    if !missing.is_empty() {
        if is_new && !was_known {
            let text = format!(
                "the first start waits for all {} pods of the StatefulSet {}: {}",
                set.replicas,
                set.name,
                missing.join("; ")
            );
            plan.find("first-start-waits", text, None);
        }
        return is_new && !was_known;
    }
    let View { nodes, .. } = &nodes_of(case, pods);
    if is_new && was_known {
        if nodes.iter().all(is_empty) {
            lost(case, set, plan);
        }
        return false;
    }
    match forming(case, nodes, set) {
        Ok(Some(forming)) => plan.forming = Some(forming),
        Ok(None) => return false,
        // What is wrong with a cluster that is there is for the others to say.
        Err(_) if !is_uncovered(nodes) => return false,
        Err(Why(text, command)) => {
            plan.find("no-first-start", format!("no cluster is formed of the pods: {text}"), command);
            return false;
        }
    }
    true
}

/// Why not, and what a person may run.
struct Why(String, Option<String>);

impl From<Refusal> for Why {
    fn from(refusal: Refusal) -> Why {
        let command = match &refusal {
            Refusal::OtherPart { addr, .. } => Some(super::heal::redis_cli(*addr, "CLUSTER RESET")),
            _ => None,
        };
        Why(refusal.to_string(), command)
    }
}

/// The steps that are missing; `None` when there are none, or none that belong to a first start.
fn forming(case: Case<'_>, nodes: &[Observation], set: &StatefulSet) -> Result<Option<Forming>, Why> {
    let primaries = primaries(nodes.len(), set)?;
    let is_among = |id: NodeId| nodes.iter().any(|node| node.view.id() == id);
    if let Some(other) = case.survey.answered().find(|other| !is_among(other.view.id())) {
        let text = format!(
            "{} answers too, and is none of them. Name no other nodes (--seeds), or form the cluster yourself \
             (slotgate bootstrap)",
            other.view.asked
        );
        return Err(Why(text, None));
    }
    let view = View { nodes: nodes.to_vec(), ..View::default() };
    let plan = match form_shards(&view, |_| Ok(primaries))? {
        Formation::Needed(plan) if !plan.actions.is_empty() => plan,
        _ => return Ok(None),
    };
    let gives_slots = plan.actions.iter().any(|action| matches!(action, Action::AddSlots { .. }));
    let holder = nodes.iter().find(|node| node.info.keys > 0);
    if let Some(holder) = holder.filter(|_| gives_slots) {
        return Err(Refusal::Keys { addr: holder.view.asked, keys: holder.info.keys }.into());
    }
    // A primary that has a replica was whole once: what is missing now, it has lost.
    let is_followed = |id: NodeId| nodes.iter().any(|node| node.view.myself().primary == Some(id));
    let is_first = |action: &Action| match action {
        Action::Replicate { primary, .. } => !is_followed(primary.id),
        _ => true,
    };
    let is_first = gives_slots || plan.actions.iter().all(is_first);
    let replicas = (nodes.len() - primaries) / primaries;
    Ok(is_first.then_some(Forming { plan, replicas }))
}

/// Whether there is no cluster, or one that may never have been finished: slots that nobody owns, or a
/// primary that nobody follows.
fn is_formless(case: Case<'_>) -> bool {
    let nodes = &case.survey.view.nodes;
    let is_alone = |node: &Observation| {
        let me = node.view.myself();
        let is_followed = |line: &crate::control::observe::NodeLine| line.primary == Some(me.id);
        !me.slots.is_empty() && !nodes.iter().any(|other| other.view.members().any(is_followed))
    };
    nodes.is_empty() || is_uncovered(nodes) || nodes.iter().any(is_alone)
}

/// Whether there are slots that nobody owns, by any node's word.
pub fn is_uncovered(nodes: &[Observation]) -> bool {
    !nodes.iter().any(|node| node.view.coverage().iter().all(|is_covered| *is_covered))
}

/// Which pods do not run, or run and do not answer, and why.
fn missing(case: Case<'_>, pods: &Pods) -> Vec<String> {
    if !pods.is_complete() {
        return pods.missing();
    }
    let silent = |addr| {
        let silent = case.survey.unanswered.iter().chain(&case.survey.view.silent);
        let error =
            silent.into_iter().find(|silent| silent.addr == addr).map(|silent| silent.error.to_string());
        error.unwrap_or_else(|| format!("{addr} was not asked yet"))
    };
    let pods = pods.pods.iter().filter_map(|pod| Some((pod, pod.addr?)));
    pods.filter(|(_, addr)| case.survey.at(*addr).is_none())
        .map(|(pod, addr)| format!("{}: {}", pod.name, silent(addr)))
        .collect()
}

/// The pods' nodes by ordinal, each said to be where its pod is.
fn nodes_of(case: Case<'_>, pods: &Pods) -> View {
    let nodes = pods.pods.iter().filter_map(|pod| {
        let mut node = case.survey.at(pod.addr?)?.clone();
        node.view.asked = pod.addr?;
        Some(node)
    });
    View { nodes: nodes.collect(), ..View::default() }
}

fn is_empty(node: &Observation) -> bool {
    let me = node.view.myself();
    node.view.lines().len() == 1 && me.slots.is_empty() && node.info.keys == 0
}

/// How many primaries: as the operator wishes, or as many as can have a replica each while that leaves enough.
fn primaries(pods: usize, set: &StatefulSet) -> Result<usize, Why> {
    let StatefulSet { wishes, name, .. } = set;
    let count = |number: u32| number as usize;
    let Some(shards) = wishes.shards.map(count) else {
        let replicas = wishes.replicas.map(count);
        let replicas = replicas.unwrap_or(usize::from(pods / 2 >= LEAST_PRIMARIES));
        let raise = |needed: usize| format!("kubectl scale statefulset {name} --replicas={needed}");
        return count_primaries(pods, replicas).map_err(|refusal| match refusal {
            Refusal::TooFew { nodes, replicas, needed, .. } => Why(
                format!(
                    "a cluster needs at least {LEAST_PRIMARIES} primaries with {replicas} replicas each, and the \
                     StatefulSet has {nodes} pods: give it {needed} or more"
                ),
                Some(raise(needed)),
            ),
            other => other.into(),
        });
    };
    let replicas = wishes.replicas.map_or(0, count);
    let needed = shards.saturating_mul(replicas.saturating_add(1));
    if shards < LEAST_PRIMARIES {
        let text = format!("{shards} shards are wished for, and a cluster needs at least {LEAST_PRIMARIES}");
        return Err(Why(
            text,
            Some(format!("kubectl annotate statefulset {name} --overwrite slotgate.dev/shards=3")),
        ));
    }
    if needed > pods {
        let text = format!(
            "{shards} shards with {replicas} replicas each need {needed} pods, and the StatefulSet has {pods}"
        );
        return Err(Why(text, Some(format!("kubectl scale statefulset {name} --replicas={needed}"))));
    }
    Ok(shards)
}

/// Every pod is empty, and there was a cluster.
fn lost(case: Case<'_>, set: &StatefulSet, plan: &mut Plan) {
    let Some(pods) = case.pods else { return };
    let text = format!(
        "all {} pods of the StatefulSet {} are empty, and there was a cluster of {} nodes in them: all volumes were \
         lost or replaced. No new cluster is formed by itself: bring the volumes back, or, to begin anew and empty, \
         form one yourself and make this manager forget the old one by removing its journal; then restore a backup \
         (slotgate restore) if there is one",
        pods.pods.len(),
        set.name,
        case.memory.ours().len()
    );
    let addrs: Vec<String> = pods.pods.iter().filter_map(|pod| Some(pod.addr?.to_string())).collect();
    plan.find("all-data-lost", text, Some(format!("slotgate bootstrap {}", addrs.join(" "))));
}
