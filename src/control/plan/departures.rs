//! Departures: a primary whose pod was told to end hands over to a replica that stays, before it ends. Pure.
//!
//! A deleted, drained or replaced pod sleeps for some seconds before its node is told to end (`preStop`); a
//! hand-over takes less than a tenth of one, and loses nothing. When all of a shard's pods leave, nobody
//! changes roles: each comes back on its data as what it was.

use super::failover::{Refusal, relieve};
use super::heal::{Case, Plan};
use crate::control::pods::{Pod, Pods};
use crate::control::view::Observation;

pub const REASON: &str = "pod-leaves";

pub fn heal(case: Case<'_>, plan: &mut Plan) {
    let Some(pods) = case.pods else { return };
    let view = &case.survey.view;
    for pod in pods.pods.iter().filter(|pod| pod.is_leaving) {
        let Some(primary) = case.survey.member_in(pod).filter(|node| owns_slots(node)) else { continue };
        let pod_of = |node: &Observation| pods.pods.iter().find(|pod| is_in(case, node, pod));
        let stays = |node: &Observation| pod_of(node).is_none_or(|pod| is_staying(pods, pod));
        // An older one will be replaced itself soon.
        let is_new = |node: &Observation| stays(node) && pod_of(node).is_none_or(|pod| is_current(pods, pod));
        let (addr, name) = (primary.view.asked, &pod.name);
        match relieve(view, primary, &[&is_new, &stays]) {
            Ok(over) => plan.step(REASON, over.action()),
            Err(Refusal::NoReplica(_)) => {
                let text = format!(
                    "the pod {name} leaves with the primary {addr}, and no replica of it stays: its slots are not \
                     served until one of them is back"
                );
                plan.note("leaving-shard", text, None);
            }
            Err(why) => {
                let text = format!(
                    "the pod {name} leaves with the primary {addr}, which cannot hand over before it ends: {why}"
                );
                plan.find("leaving-primary", text, None);
            }
        }
    }
}

fn is_in(case: Case<'_>, node: &Observation, pod: &Pod) -> bool {
    pod.addr.is_some_and(|addr| case.survey.is_reached(node.view.id(), addr))
}

fn is_staying(pods: &Pods, pod: &Pod) -> bool {
    let is_wanted = pods.set.as_ref().is_none_or(|set| pod.ordinal < set.replicas);
    is_wanted && !pod.is_leaving
}

fn is_current(pods: &Pods, pod: &Pod) -> bool {
    let wanted = pods.set.as_ref().and_then(|set| set.update_revision.as_ref());
    wanted.is_none_or(|wanted| pod.revision.as_ref() == Some(wanted))
}

fn owns_slots(node: &Observation) -> bool {
    node.view.myself().primary.is_none() && !node.view.myself().slots.is_empty()
}
