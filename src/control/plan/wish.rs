//! wish: what the operator wrote on the StatefulSet, and what was seen → the next thing to do for it. Pure;
//! one wish a file.
//!
//! Nothing is remembered: what the nodes and Kubernetes say is how far a wish is. One thing is done at a
//! time, and only while nothing else is wrong.

use super::{restart, scale};
use crate::control::action::{Action, Party};
use crate::control::edit::Edit;
use crate::control::pods::{Pod, Pods, StatefulSet};
use crate::control::survey::Stranger;
use crate::control::view::{Observation, View};
use crate::topology::NodeId;
use std::collections::BTreeSet;

/// Everything that wishes are planned from.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub pods: &'a Pods,
    /// The members.
    pub view: &'a View,
    /// Empty nodes that are no members.
    pub newcomers: &'a [Observation],
    pub strangers: &'a [Stranger],
    /// Slots that a move left open.
    pub has_open_slots: bool,
    /// What else is wrong with the cluster, in a sentence, if anything is.
    pub wrong: Option<&'a str>,
}

/// The next thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing is wished that is not so.
    Nothing,
    /// What is waited for, and why.
    Wait {
        kind: &'static str,
        text: String,
    },
    Act {
        reason: &'static str,
        actions: Vec<Action>,
    },
    Edit(Edit),
    /// Slots move, until these share them evenly and nobody else has any; what an earlier move left open
    /// is ended first.
    Move {
        to: BTreeSet<NodeId>,
    },
    /// The node there, which owns nothing, leaves the cluster and is emptied.
    Remove(Party),
}

/// What to do next for the wishes; one that was begun is ended first.
pub fn next(case: Case<'_>) -> Next {
    let Some(set) = &case.pods.set else { return Next::Nothing };
    if set.progress.kept_strategy.is_none()
        && let next = scale::next(case, set)
        && (set.progress.scaling.is_some() || matches!(next, Next::Edit(_)))
    {
        return next;
    }
    match restart::next(case, set) {
        Next::Nothing => scale::next(case, set),
        next => next,
    }
}

impl<'a> Case<'a> {
    /// The member in a pod.
    pub(super) fn node(self, pod: &Pod) -> Option<&'a Observation> {
        at(pod, &self.view.nodes)
    }

    /// The number of a member's pod.
    pub(super) fn ordinal(self, node: &Observation) -> Option<u32> {
        self.pods.at(node.view.asked.ip()).map(|pod| pod.ordinal)
    }

    /// The members that follow this one.
    pub(super) fn replicas(self, primary: NodeId) -> impl Iterator<Item = &'a Observation> {
        self.view.nodes.iter().filter(move |node| node.view.myself().primary == Some(primary))
    }

    /// Why no pod may be taken away, nor anything else be changed, now.
    pub(super) fn obstacle(self, set: &StatefulSet) -> Option<String> {
        // A node that waits to be let in, or was let go, is in no cluster, and its pod not ready therefore.
        let is_outside = |pod: &Pod| pod.is_running && !pod.is_leaving && self.is_spare(pod);
        if let Some((_, why)) = self.away(set, is_outside) {
            return Some(why);
        }
        let wrong = self.wrong?;
        Some(format!("the cluster is not in order: {wrong}"))
    }

    /// A pod that is not in order, when it is the only one, and why; or that one is missing.
    /// Those that are `excused` do not count.
    pub(super) fn away(
        self,
        set: &StatefulSet,
        excused: impl Fn(&Pod) -> bool,
    ) -> Option<(Option<&'a Pod>, String)> {
        let pods = &self.pods.pods;
        let mut away = pods.iter().filter(|pod| !pod.is_whole() && !excused(pod));
        match (away.next(), away.next()) {
            (None, _) if pods.len() == set.replicas as usize => None,
            (None, _) => Some((None, format!("there are {} pods, not {}", pods.len(), set.replicas))),
            (Some(pod), second) => {
                let trouble = match &pod.trouble {
                    Some(trouble) => format!(": {trouble}"),
                    None if pod.is_leaving => ": it is ending".into(),
                    None => String::new(),
                };
                let is_alone = second.is_none() && pods.len() == set.replicas as usize;
                Some((is_alone.then_some(pod), format!("{} is not ready{trouble}", pod.name)))
            }
        }
    }

    /// Whether the node in a pod is no member, and empty.
    pub(super) fn is_spare(self, pod: &Pod) -> bool {
        at(pod, self.newcomers).is_some()
    }
}

fn at<'a>(pod: &Pod, nodes: &'a [Observation]) -> Option<&'a Observation> {
    let addr = pod.addr?;
    nodes.iter().find(|node| node.view.asked.ip() == addr.ip())
}

pub(super) fn party(node: &Observation) -> Party {
    Party { id: node.view.id(), addr: node.view.asked }
}

/// A primary with slots.
pub(super) fn is_owner(node: &Observation) -> bool {
    node.view.myself().primary.is_none() && !node.view.myself().slots.is_empty()
}

#[cfg(test)]
#[path = "wish_model.rs"]
pub(super) mod model;
