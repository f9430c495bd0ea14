//! remove: a node leaves for good → its slots go to the others, its replicas to other primaries, everybody
//! forgets it, and last it is reset. Pure.
//!
//! The node keeps its id until nobody knows it any more. Were it reset first, the others would still look
//! for it at its address, and older servers would let it join again from there under its new id. A node
//! that everybody has forgotten cannot come back by itself: the bus hears unknown senders only when they
//! ask to be let in, which no node does that takes itself for a member.

use super::placement::Place;
use super::rebalance::{Holder, Move, rebalance};
use crate::control::action::{Action, Party};
use crate::control::observe::{Flags, NodeLine, Role};
use crate::control::problem::{Problem, join};
use crate::control::view::{Observation, View};
use crate::topology::{NodeId, SlotRange};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

/// With fewer primaries, the loss of one leaves no majority to elect its replica.
const FEWEST_PRIMARIES: usize = 3;

/// What a person takes upon himself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Allowed {
    /// A primary may be left without a replica.
    pub no_replica: bool,
    /// Fewer than three primaries may be left.
    pub few_primaries: bool,
}

/// One part of a removal; each may be begun again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stage {
    /// All slots of the leaver go to other primaries.
    Drain(Vec<Move>),
    /// A replica of the leaver follows another primary.
    HandOn { replica: Party, primary: Party },
    /// All who know the leaver forget it, at once: each bans it for a minute only.
    Forget(Vec<Action>),
    /// The leaver forgets the cluster and all keys.
    Reset(Party),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Drain(moves) => {
                let (slots, to) = (moves.iter().map(Move::count).sum::<usize>(), moves.len());
                let from = moves.first().map(|step| step.source.to_string()).unwrap_or_default();
                write!(f, "move all {slots} slots of {from} to {to} other primaries")
            }
            Stage::HandOn { replica, primary } => write!(f, "make {replica} a replica of {primary}"),
            Stage::Forget(actions) => match actions.first() {
                Some(Action::Dismiss { leaver, .. }) => {
                    write!(f, "let {} nodes forget {}", actions.len(), leaver.short())
                }
                _ => Ok(()),
            },
            Stage::Reset(node) => write!(f, "reset and empty {node}"),
        }
    }
}

/// What is left to do, in order; nothing when the node is no member and empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub leaver: NodeId,
    /// Where it is, if anybody knows.
    pub addr: Option<SocketAddr>,
    pub stages: Vec<Stage>,
    /// What a person should know before.
    pub warnings: Vec<String>,
}

/// Why the node stays.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error(
        "a node is removed only from a cluster that is otherwise in order; this one is not: {}. 'slotgate doctor' \
         says what to do",
        join(.0, "; ")
    )]
    NotInOrder(Vec<Problem>),
    #[error(
        "{node} does not answer and owns the slots {}: start it again, or let its replica take over ('slotgate failover' \
         while it runs, 'slotgate doctor' when it is dead), or 'slotgate fix' if its keys are given up",
        join(.slots, " ")
    )]
    DeadOwner { node: String, slots: Vec<SlotRange> },
    #[error(
        "only {left} primaries with slots would be left; when one of two fails, the other is no majority and cannot \
         elect the replica, so its slots stay down. Add a primary first, or allow it with --allow-few-primaries"
    )]
    FewPrimaries { left: usize },
    #[error("there is no other primary to take over what {0} has; add one first ('slotgate add')")]
    NobodyElse(SocketAddr),
    #[error(
        "{replica} is the only linked replica of {primary}, whose keys would be lost with it: add another one first ('slotgate \
         add NEW {primary} --replica-of {primary}'), or allow it with --allow-no-replica"
    )]
    LastReplica { replica: SocketAddr, primary: SocketAddr },
    #[error(
        "the primary that {0} follows does not answer, and {0} may hold the last copy of its keys; see 'slotgate doctor'. \
         A node that no member knows any more may go all the same with --allow-no-replica"
    )]
    LostPrimary(SocketAddr),
    #[error(
        "the member {0} does not answer. It would not hear of the removal and bring the node back by gossip a minute \
         later: start it, or wait until the others hold it for failed, or remove it first"
    )]
    SilentMember(String),
    #[error("{addr} holds {keys} keys of slots that it does not own; see 'slotgate fix'")]
    Keys { addr: SocketAddr, keys: u64 },
}

/// Plans what is left to do. `hindrances` are the problems because of which no slot should be moved; those
/// that concern only a leaver without slots are passed over.
///
/// # Errors
/// It would not be safe.
pub fn plan(view: &View, id: NodeId, hindrances: &[Problem], allowed: Allowed) -> Result<Plan, Refusal> {
    let seen = view.of(id);
    let others = || view.nodes.iter().filter(move |node| node.view.id() != id);
    let addr = seen.map(|node| node.view.asked).or_else(|| address(view, id));
    let mut plan = Plan { leaver: id, addr, stages: Vec::new(), warnings: Vec::new() };
    let is_known = others().any(|node| node.view.line(id).is_some());
    let slots: BTreeSet<SlotRange> = match seen {
        // What it says of itself after it was forgotten is old.
        Some(node) if is_known || others().next().is_none() => {
            node.view.myself().slots.iter().copied().collect()
        }
        Some(_) => BTreeSet::new(),
        None => others().filter_map(|node| node.view.line(id)).flat_map(|line| line.slots.clone()).collect(),
    };
    if seen.is_none() && !slots.is_empty() {
        let slots = slots.into_iter().collect();
        return Err(Refusal::DeadOwner { node: shown(addr, id), slots });
    }
    let gone = gone_members(view, id)?;
    let hinders = |problem: &&Problem| !slots.is_empty() || !is_passed_over(problem, view, id, addr, &gone);
    let left: Vec<Problem> = hindrances.iter().filter(hinders).cloned().collect();
    if !left.is_empty() {
        return Err(Refusal::NotInOrder(left));
    }
    for member in &gone {
        let member = shown(address(view, *member), *member);
        plan.warnings.push(format!(
            "{member} is down. If it comes back it tells the others of the removed node again; then remove that once more"
        ));
    }
    if let Some(node) = seen {
        if !is_known {
            let addr = node.view.asked;
            plan.warnings.push(format!("no member knows {addr} (any more): it is only reset and emptied"));
        }
        leave_primary(view, node, is_known, allowed, &mut plan)?;
        if !slots.is_empty() {
            plan.stages.push(Stage::Drain(drain(view, node, allowed)?));
        } else if node.view.myself().primary.is_none() && node.info.keys > 0 {
            return Err(Refusal::Keys { addr: node.view.asked, keys: node.info.keys });
        }
    } else {
        plan.warnings.push(format!(
            "{} does not answer and cannot be reset. Should it come back, it takes itself for a member and holds its old \
             keys: give it CLUSTER RESET HARD and FLUSHALL before it is used again",
            shown(addr, id)
        ));
    }
    hand_on(view, id, addr, &mut plan)?;
    let forget = others().filter(|node| node.view.line(id).is_some());
    let forget: Vec<Action> = forget.map(|node| Action::Dismiss { node: party(node), leaver: id }).collect();
    if !forget.is_empty() {
        plan.stages.push(Stage::Forget(forget));
    }
    plan.stages.extend(seen.map(|node| Stage::Reset(party(node))));
    Ok(plan)
}

/// A replica leaves its primary with another one, or with permission.
fn leave_primary(
    view: &View,
    node: &Observation,
    is_known: bool,
    allowed: Allowed,
    plan: &mut Plan,
) -> Result<(), Refusal> {
    let (id, addr) = (node.view.id(), node.view.asked);
    let Some(followed) = node.view.myself().primary else { return Ok(()) };
    let Some(primary) = view.of(followed) else {
        if is_known || !allowed.no_replica {
            return Err(Refusal::LostPrimary(addr));
        }
        plan.warnings
            .push(format!("the primary that {addr} followed is gone: the last copy of its keys may go too"));
        return Ok(());
    };
    let is_copy = |other: &Observation| {
        let is_linked = matches!(other.info.role, Role::Replica { is_link_up: true, .. });
        other.view.id() != id && other.view.myself().primary == Some(followed) && is_linked
    };
    // On one that nobody knows nobody counts any more.
    if !is_known || primary.view.myself().slots.is_empty() || view.nodes.iter().any(is_copy) {
        return Ok(());
    }
    let primary = primary.view.asked;
    if !allowed.no_replica {
        return Err(Refusal::LastReplica { replica: addr, primary });
    }
    plan.warnings.push(format!("{primary} is left without a replica: its keys are lost when it is"));
    Ok(())
}

/// The fewest moves after which the leaver owns nothing. Only its own slots move: those who have fewest
/// get them, so that a removal that was cut short ends as one that was not.
fn drain(view: &View, leaver: &Observation, allowed: Allowed) -> Result<Vec<Move>, Refusal> {
    let holder = |node: &Observation, weight| Holder {
        node: party(node),
        slots: node.view.myself().slots.clone(),
        weight,
    };
    let is_other =
        |node: &&Observation| node.view.id() != leaver.view.id() && node.view.myself().primary.is_none();
    let others = view.nodes.iter().filter(is_other).map(|node| holder(node, 1));
    let (owners, empty): (Vec<Holder>, Vec<Holder>) = others.partition(|other| !other.slots.is_empty());
    let mut takers = if owners.is_empty() { empty } else { owners };
    if takers.len() < FEWEST_PRIMARIES && !allowed.few_primaries && !takers.is_empty() {
        return Err(Refusal::FewPrimaries { left: takers.len() });
    }
    let count = |holder: &Holder| holder.slots.iter().map(|range| range.count()).sum::<usize>();
    let leaving = holder(leaver, 0);
    // Who has more than its share by now gets nothing, and gives nothing.
    loop {
        let total = count(&leaving) + takers.iter().map(count).sum::<usize>();
        let share = total.div_ceil(takers.len().max(1));
        let before = takers.len();
        takers.retain(|taker| count(taker) <= share);
        if takers.len() == before {
            break;
        }
    }
    let taking_part: Vec<Holder> = takers.into_iter().chain([leaving]).collect();
    // The only reason for no plan: nobody may own slots.
    rebalance(&taking_part, 0).map_err(|_| Refusal::NobodyElse(leaver.view.asked))
}

/// The leaver's replicas go to primaries on other hosts, of these to those with the fewest.
fn hand_on(view: &View, id: NodeId, addr: Option<SocketAddr>, plan: &mut Plan) -> Result<(), Refusal> {
    let follows = |node: &Observation, primary| node.view.myself().primary == Some(primary);
    let mut orphans: Vec<&Observation> = view.nodes.iter().filter(|node| follows(node, id)).collect();
    orphans.sort_by_key(|node| node.view.id());
    let is_primary = |node: &&Observation| node.view.id() != id && node.view.myself().primary.is_none();
    let owns = |node: &&Observation| !node.view.myself().slots.is_empty();
    let mut primaries: Vec<&Observation> = view.nodes.iter().filter(is_primary).filter(owns).collect();
    if primaries.is_empty() {
        primaries = view.nodes.iter().filter(is_primary).collect();
    }
    let mut replicas: BTreeMap<NodeId, Vec<&Observation>> = BTreeMap::new();
    for primary in &primaries {
        let of_it = view.nodes.iter().filter(|node| follows(node, primary.view.id()));
        replicas.insert(primary.view.id(), of_it.collect());
    }
    for replica in orphans {
        let own = Place::of(replica);
        let is_beside = |other: &Observation| Place::of(other).host == own.host;
        let standing = |primary: &&&Observation| {
            let rivals = replicas.get(&primary.view.id()).map(Vec::as_slice).unwrap_or_default();
            let neighbours = rivals.iter().filter(|rival| is_beside(rival)).count();
            (own.nearness(&Place::of(primary)), rivals.len(), neighbours, primary.view.id())
        };
        let Some(primary) = primaries.iter().min_by_key(standing) else {
            return Err(Refusal::NobodyElse(addr.unwrap_or(replica.view.asked)));
        };
        if is_beside(primary) && primaries.iter().any(|other| !is_beside(other)) {
            plan.warnings
                .push(format!("{replica} and its new primary are on one host", replica = party(replica)));
        }
        replicas.entry(primary.view.id()).or_default().push(replica);
        plan.stages.push(Stage::HandOn { replica: party(replica), primary: party(primary) });
    }
    Ok(())
}

/// Members that do not answer and that all others hold for failed, without slots.
///
/// # Errors
/// One that does not answer and may be alive.
fn gone_members(view: &View, id: NodeId) -> Result<Vec<NodeId>, Refusal> {
    if let [alone] = view.nodes.as_slice()
        && let Some(other) = alone.view.members().find(|line| line.id != id && alone.view.id() == id)
    {
        return Err(Refusal::SilentMember(shown(address(view, other.id), other.id)));
    }
    let mut silent: BTreeMap<NodeId, Vec<&NodeLine>> = BTreeMap::new();
    for line in view.nodes.iter().filter(|node| node.view.id() != id).flat_map(|node| node.view.members()) {
        if line.id != id && view.of(line.id).is_none() {
            silent.entry(line.id).or_default().push(line);
        }
    }
    for (member, lines) in &silent {
        if !lines.iter().all(|line| line.flags.has(Flags::FAILED) && line.slots.is_empty()) {
            return Err(Refusal::SilentMember(shown(address(view, *member), *member)));
        }
    }
    Ok(silent.into_keys().collect())
}

/// Whether a problem is only that the leaver leaves, or that a member is down for good.
fn is_passed_over(
    problem: &Problem,
    view: &View,
    id: NodeId,
    addr: Option<SocketAddr>,
    gone: &[NodeId],
) -> bool {
    let is_leaver = |other: &SocketAddr| Some(*other) == addr;
    let is_out =
        |other: &SocketAddr| is_leaver(other) || gone.iter().any(|id| address(view, *id) == Some(*other));
    match problem {
        Problem::Silent { addr, .. } => is_out(addr),
        Problem::NotServing { addr } => is_leaver(addr),
        Problem::Unknown { viewer, member, .. } => is_leaver(viewer) || is_leaver(member),
        Problem::NoAddress { viewer, member } => is_leaver(viewer) || *member == id || gone.contains(member),
        Problem::Handshake { viewer, with } => is_leaver(viewer) || with.as_ref().is_some_and(is_out),
        Problem::Disagreement { groups } => {
            groups.iter().filter(|group| !group.iter().all(is_leaver)).count() < 2
        }
        _ => false,
    }
}

fn party(node: &Observation) -> Party {
    Party { id: node.view.id(), addr: node.view.asked }
}

/// Where others look for a node.
fn address(view: &View, id: NodeId) -> Option<SocketAddr> {
    view.nodes.iter().find_map(|node| node.view.line(id)?.addr(node.view.asked))
}

fn shown(addr: Option<SocketAddr>, id: NodeId) -> String {
    addr.map_or_else(|| id.short().to_string(), |addr| format!("{addr} ({})", id.short()))
}

#[cfg(test)]
#[path = "remove_tests.rs"]
mod tests;
