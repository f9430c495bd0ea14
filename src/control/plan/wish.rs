//! wish: what the operator wrote on the StatefulSet, and what was seen → the next thing to do for it. Pure;
//! one wish a file.
//!
//! Nothing is remembered: what the nodes and Kubernetes say is how far a wish is. One thing is done at a
//! time, and only while nothing else is wrong.

use super::restart;
use crate::control::action::{Action, Party};
use crate::control::edit::Edit;
use crate::control::pods::{Pod, Pods};
use crate::control::view::{Observation, View};

/// Everything that wishes are planned from.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub pods: &'a Pods,
    /// The members.
    pub view: &'a View,
    /// Empty nodes that are no members.
    pub newcomers: &'a [Observation],
    /// What is wrong with the cluster, in a sentence, if anything is.
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
}

/// What to do next for the wishes; one that was begun is ended first.
pub fn next(case: Case<'_>) -> Next {
    restart::next(case)
}

impl<'a> Case<'a> {
    /// The member in a pod.
    pub(super) fn node(self, pod: &Pod) -> Option<&'a Observation> {
        at(pod, &self.view.nodes)
    }

    /// The pod of a member.
    pub(super) fn pod(self, node: &Observation) -> Option<&'a Pod> {
        self.pods.at(node.view.asked.ip())
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
