//! Which node gives the data of which shard. Pure.

use crate::control::action::Party;
use crate::control::migrate::{JourneyError, ready_holders};
use crate::control::observe::Role;
use crate::control::problem::{Problem, join, problems};
use crate::control::view::{Observation, View};
use crate::topology::{NodeId, SlotRange};

/// Why no whole backup could be taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the cluster is not whole: {0}")]
    NotWhole(String),
    #[error("slots are being moved: {0}")]
    Moving(String),
}

/// A shard, and where its data is taken from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    pub primary: Party,
    pub slots: Vec<SlotRange>,
    pub replicas: Vec<Party>,
    /// The linked replicas, which are asked for the data in this order.
    pub linked: Vec<Giver>,
    /// The primary, which is asked when none of them gives it.
    pub last: Giver,
}

/// A node that may give its data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Giver {
    pub node: Party,
    pub is_replica: bool,
    /// `redis` or `valkey`, with its version.
    pub server: String,
    /// How many it holds, as it last said.
    pub keys: u64,
    /// What it uses, in bytes.
    pub memory: u64,
}

/// Forgets silent addresses that were named to us, but where no node says that a member is.
pub fn keep_members(view: &mut View) {
    let View { nodes, silent, .. } = view;
    let told = |addr| {
        let views = nodes.iter().map(|node| &node.view);
        views.flat_map(|view| view.members().map(|line| line.addr(view.asked))).any(|told| told == Some(addr))
    };
    silent.retain(|silent| told(silent.addr));
}

/// The shards with slots, each with who may give its data: of its replicas the one with most of the writes
/// first.
///
/// # Errors
/// The cluster is not whole: slots without an owner, primaries that do not answer, nodes that disagree,
/// slots under way.
pub fn sources(view: &View) -> Result<Vec<Source>, Refusal> {
    let owned = owned(view)?;
    let sources = owned.into_iter().filter_map(|(id, slots)| {
        let primary = view.of(id)?;
        let mut replicas: Vec<&Observation> =
            view.nodes.iter().filter(|node| node.view.myself().primary == Some(id)).collect();
        replicas.sort_by_key(|node| (std::cmp::Reverse(node.info.offset), node.view.id()));
        let is_linked =
            |node: &&&Observation| matches!(node.info.role, Role::Replica { is_link_up: true, .. });
        Some(Source {
            primary: party(primary),
            slots,
            linked: replicas.iter().filter(is_linked).map(|node| giver(node, true)).collect(),
            last: giver(primary, false),
            replicas: replicas.into_iter().map(party).collect(),
        })
    });
    Ok(sources.collect())
}

/// Who owns which slots, in the order of the slots, in a cluster that is whole and at rest.
///
/// # Errors
/// It is not.
pub fn owned(view: &View) -> Result<Vec<(NodeId, Vec<SlotRange>)>, Refusal> {
    let holders = ready_holders(view).map_err(|error| match error {
        JourneyError::NotInOrder(problems) => Refusal::NotWhole(join(&problems, "; ")),
        other => Refusal::NotWhole(other.to_string()),
    })?;
    let open: Vec<Problem> =
        problems(view, None).into_iter().filter(|problem| matches!(problem, Problem::Open { .. })).collect();
    if !open.is_empty() {
        return Err(Refusal::Moving(join(&open, "; ")));
    }
    let mut owned: Vec<(NodeId, Vec<SlotRange>)> = holders
        .into_iter()
        .filter(|holder| !holder.slots.is_empty())
        .map(|holder| (holder.node.id, holder.slots))
        .collect();
    owned.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(owned)
}

fn party(node: &Observation) -> Party {
    Party { id: node.view.id(), addr: node.view.asked }
}

fn giver(node: &Observation, is_replica: bool) -> Giver {
    Giver {
        node: party(node),
        is_replica,
        server: node.info.server.clone(),
        keys: node.info.keys,
        memory: node.info.memory.used,
    }
}
