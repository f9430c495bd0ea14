//! Which replica takes over from which primary, when a person asks for it. Pure.
//!
//! Only what loses nothing: the primary is there, the replica follows it closely, and a majority of
//! primaries is there to vote.

use crate::control::action::{Action, Party};
use crate::control::observe::{Flags, Role};
use crate::control::view::{Observation, View};
use crate::topology::NodeId;
use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

/// One replica in its primary's place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandOver {
    pub replica: Party,
    pub primary: Party,
    /// How many bytes of the primary's writes the replica did not have when it was asked.
    pub lag: u64,
}

impl HandOver {
    pub fn action(&self) -> Action {
        Action::Failover { node: self.replica, primary: self.primary }
    }
}

/// Why no replica takes over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the primary {0} cannot be asked, so a failover could lose its last writes. If it is dead, its replicas elect one \
         of themselves within the node timeout; if they do not, 'slotgate doctor' says why, and \
         'redis-cli -h HOST -p PORT CLUSTER FAILOVER FORCE' on the best replica elects it by hand"
    )]
    NoPrimary(String),
    #[error("{0} cannot be asked; start it, or name its primary so that another replica takes over")]
    Silent(String),
    #[error("{0} owns no slots: there is nothing to take over")]
    Empty(SocketAddr),
    #[error("the primary {0} has no replica that could take over; give it one first ('slotgate add')")]
    NoReplica(SocketAddr),
    #[error("every replica of the primary {0} is on {1} too; give it one on another host first")]
    NoReplicaElsewhere(SocketAddr, IpAddr),
    #[error(
        "the replica {0} is not connected to its primary and may lack writes; wait until 'slotgate status' shows its link \
         up, or see 'slotgate doctor'"
    )]
    LinkDown(SocketAddr),
    #[error(
        "the replica {replica} is {lag} bytes behind, more than {max}: wait until it caught up, or allow it with --max-lag"
    )]
    Lag { replica: SocketAddr, lag: u64, max: u64 },
    #[error(
        "slots of the primary {0} are on the move, and a failover meanwhile could split its shard; wait until they have \
         arrived ('slotgate check' shows them), or end what was cut short ('slotgate fix')"
    )]
    SlotsOpen(SocketAddr),
    #[error(
        "only {alive} of {primaries} primaries are there to vote, which is no majority; bring more of them up first \
         ('slotgate doctor' names those that are missing)"
    )]
    NoMajority { alive: usize, primaries: usize },
}

/// The hand-over that `node` means: a primary gives its shard to its best replica, a replica takes it.
///
/// # Errors
/// It would not be safe, or nobody can take over.
pub fn failover(view: &View, node: NodeId, max_lag: u64) -> Result<HandOver, Refusal> {
    votes(view)?;
    let Some(observed) = view.of(node) else {
        return Err(match is_replica(view, node) {
            true => Refusal::Silent(shown(view, node)),
            false => Refusal::NoPrimary(shown(view, node)),
        });
    };
    match observed.view.myself().primary {
        None => best(view, observed, max_lag, |_| true)
            .ok_or(Refusal::NoReplica(observed.view.asked))
            .and_then(|over| over),
        Some(primary) => {
            let primary = view.of(primary).ok_or_else(|| Refusal::NoPrimary(shown(view, primary)))?;
            judge(primary, observed, max_lag)
        }
    }
}

/// Hand-overs after which no primary with slots is on these addresses; empty when none is.
///
/// # Errors
/// Of one of the primaries no replica elsewhere can take over; then none should.
pub fn switch_all_from(view: &View, host: &[IpAddr], max_lag: u64) -> Result<Vec<HandOver>, Refusal> {
    let is_there = |node: &Observation| host.contains(&node.view.asked.ip());
    let mut overs = Vec::new();
    for primary in view.nodes.iter().filter(|node| is_there(node) && owns_slots(node)) {
        let addr = primary.view.asked;
        let over = best(view, primary, max_lag, |replica| !is_there(replica));
        overs.push(over.ok_or(Refusal::NoReplicaElsewhere(addr, addr.ip())).and_then(|over| over)?);
    }
    if !overs.is_empty() {
        votes(view)?;
    }
    Ok(overs)
}

/// The hand-over of a primary that is about to end: to the best replica of the first of these kinds that has
/// one which can take over. However far it is behind: it waits for the rest, and the alternative is worse.
///
/// # Errors
/// Nobody can take over: why the best of the first kind that there is cannot.
pub fn relieve(
    view: &View,
    primary: &Observation,
    kinds: &[&dyn Fn(&Observation) -> bool],
) -> Result<HandOver, Refusal> {
    let mut refusal = None;
    for kind in kinds {
        match best(view, primary, u64::MAX, kind) {
            Some(Ok(over)) => return votes(view).map(|()| over),
            Some(Err(why)) => refusal = refusal.or(Some(why)),
            None => {}
        }
    }
    Err(refusal.unwrap_or(Refusal::NoReplica(primary.view.asked)))
}

/// A manual failover is an election too: most primaries with slots must be there.
fn votes(view: &View) -> Result<(), Refusal> {
    let Some(widest) =
        view.nodes.iter().max_by_key(|node| node.view.coverage().iter().filter(|is| **is).count())
    else {
        return Ok(());
    };
    let owners = || widest.view.ownership().into_iter().map(|(id, _)| id);
    let primaries = owners().count();
    let alive = owners().filter(|id| view.of(*id).is_some()).count();
    if alive * 2 > primaries { Ok(()) } else { Err(Refusal::NoMajority { alive, primaries }) }
}

fn owns_slots(node: &Observation) -> bool {
    node.view.myself().primary.is_none() && !node.view.myself().slots.is_empty()
}

/// The replica with the link up that lacks least; when no link is up, why not.
fn best(
    view: &View,
    primary: &Observation,
    max_lag: u64,
    may: impl Fn(&Observation) -> bool,
) -> Option<Result<HandOver, Refusal>> {
    let id = primary.view.id();
    let replicas = view.nodes.iter().filter(|node| node.view.myself().primary == Some(id) && may(node));
    // Of equals the first by address, so that a second look chooses the same.
    let best = replicas.max_by_key(|node| (is_linked(node), node.info.offset, Reverse(node.view.asked)))?;
    Some(judge(primary, best, max_lag))
}

fn is_linked(node: &Observation) -> bool {
    matches!(node.info.role, Role::Replica { is_link_up: true, .. })
}

fn judge(primary: &Observation, replica: &Observation, max_lag: u64) -> Result<HandOver, Refusal> {
    let party = |node: &Observation| Party { id: node.view.id(), addr: node.view.asked };
    let lag = primary.info.offset.saturating_sub(replica.info.offset);
    if !owns_slots(primary) {
        Err(Refusal::Empty(primary.view.asked))
    } else if !primary.view.myself().open_slots.is_empty() {
        Err(Refusal::SlotsOpen(primary.view.asked))
    } else if !is_linked(replica) {
        Err(Refusal::LinkDown(replica.view.asked))
    } else if lag > max_lag {
        Err(Refusal::Lag { replica: replica.view.asked, lag, max: max_lag })
    } else {
        Ok(HandOver { replica: party(replica), primary: party(primary), lag })
    }
}

fn is_replica(view: &View, id: NodeId) -> bool {
    let lines = view.nodes.iter().filter_map(|node| node.view.line(id));
    lines.into_iter().any(|line| line.flags.has(Flags::REPLICA))
}

/// A node that did not answer, for people.
fn shown(view: &View, id: NodeId) -> String {
    let addr = view.nodes.iter().find_map(|node| node.view.line(id)?.addr(node.view.asked));
    addr.map_or_else(|| id.short().to_string(), |addr| format!("{addr} ({})", id.short()))
}

#[cfg(test)]
#[path = "failover_tests.rs"]
mod tests;
