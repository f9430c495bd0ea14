//! What is wrong with a cluster, by all its nodes' words. Pure.
//!
//! Sees what one node's word hides: members that only others hold for failed, replicas whose link is
//! down, primaries of one epoch, nodes that do not know each other.

use super::observe::{Direction, Flags, NodeLine, OpenSlot, Role};
use super::view::{NodeView, Stray, View};
use crate::topology::{NodeId, Slot, SlotRange};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// How many ranges of slots a text names.
const SHOWN: usize = 10;

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    Silent {
        addr: SocketAddr,
        error: String,
    },
    NotServing {
        addr: SocketAddr,
    },
    Uncovered {
        slots: Vec<SlotRange>,
    },
    /// Keys that clients do not find, as others own their slots.
    StrayKeys(Stray),
    /// Groups of nodes; within a group all agree on who owns which slots.
    Disagreement {
        groups: Vec<Vec<SocketAddr>>,
    },
    Open {
        addr: SocketAddr,
        open: OpenSlot,
    },
    Unknown {
        viewer: SocketAddr,
        member: SocketAddr,
        bus_port: u16,
    },
    /// `viewer` has not learned which role the member has.
    OtherRole {
        viewer: SocketAddr,
        member: SocketAddr,
        seen: Option<NodeId>,
        is: Option<NodeId>,
    },
    /// `viewer` takes a replica for another shard's than its primary's.
    SplitShard {
        viewer: SocketAddr,
    },
    Handshake {
        viewer: SocketAddr,
        with: Option<SocketAddr>,
    },
    NoAddress {
        viewer: SocketAddr,
        member: NodeId,
    },
    Failed {
        member: NodeId,
        addr: Option<SocketAddr>,
        by: Vec<SocketAddr>,
    },
    Suspected {
        member: NodeId,
        addr: Option<SocketAddr>,
        by: Vec<SocketAddr>,
    },
    /// No bus connection from `viewer` to `member`, though nobody complains yet.
    Unlinked {
        viewer: SocketAddr,
        member: SocketAddr,
        bus_port: u16,
    },
    LinkDown {
        replica: SocketAddr,
        primary: String,
    },
    SameEpoch {
        epoch: u64,
        primaries: Vec<SocketAddr>,
    },
    FewReplicas {
        primary: SocketAddr,
        has: usize,
        wanted: usize,
    },
}

impl Problem {
    /// A word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Problem::Silent { .. } => "silent",
            Problem::NotServing { .. } => "not-serving",
            Problem::Uncovered { .. } => "uncovered-slots",
            Problem::StrayKeys(_) => "stray-keys",
            Problem::Disagreement { .. } => "disagreement",
            Problem::Open { .. } => "open-slot",
            Problem::Unknown { .. } => "unknown-member",
            Problem::OtherRole { .. } => "other-role",
            Problem::SplitShard { .. } => "split-shard",
            Problem::Handshake { .. } => "handshake",
            Problem::NoAddress { .. } => "no-address",
            Problem::Failed { .. } => "failed",
            Problem::Suspected { .. } => "suspected",
            Problem::Unlinked { .. } => "no-bus-connection",
            Problem::LinkDown { .. } => "replica-link-down",
            Problem::SameEpoch { .. } => "same-epoch",
            Problem::FewReplicas { .. } => "few-replicas",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |id: &NodeId, addr: &Option<SocketAddr>| match addr {
            Some(addr) => format!("{addr} ({})", id.short()),
            None => id.to_string(),
        };
        match self {
            Problem::Silent { addr, error } => write!(f, "{addr} cannot be asked: {error}"),
            Problem::NotServing { addr } => write!(f, "{addr} says cluster_state:fail"),
            Problem::Uncovered { slots } => write!(f, "no node owns the {}", name_slots(slots)),
            Problem::StrayKeys(Stray { addr, slots, keys }) => {
                let shown = join(&slots[..slots.len().min(SHOWN)], " ");
                let more = if slots.len() > SHOWN { " ..." } else { "" };
                write!(
                    f,
                    "{addr} holds keys ({keys}) of slots that others own, where no client finds them: {shown}{more}"
                )
            }
            Problem::Disagreement { groups } => {
                let groups: Vec<String> = groups.iter().map(|group| join(group, " ")).collect();
                write!(f, "the nodes disagree on who owns which slots: {}", groups.join(" | "))
            }
            Problem::Open { addr, open: OpenSlot { slot, direction: Direction::Migrating, peer } } => {
                write!(f, "slot {slot} is open: {addr} is migrating it to {}", peer.short())
            }
            Problem::Open { addr, open: OpenSlot { slot, direction: Direction::Importing, peer } } => {
                write!(f, "slot {slot} is open: {addr} is importing it from {}", peer.short())
            }
            Problem::Unknown { viewer, member, bus_port } => write!(
                f,
                "{viewer} does not know {member}: can {} reach {} port {bus_port} (the cluster bus)?",
                viewer.ip(),
                member.ip()
            ),
            Problem::OtherRole { viewer, member, seen, is } => {
                let role = |primary: &Option<NodeId>| match primary {
                    Some(id) => format!("a replica of {}", id.short()),
                    None => "a primary".to_string(),
                };
                write!(f, "{viewer} takes {member} for {}, which says that it is {}", role(seen), role(is))
            }
            Problem::SplitShard { viewer } => {
                write!(f, "{viewer} has not learned yet that a replica is of its primary's shard")
            }
            Problem::Handshake { viewer, with: Some(with) } => {
                write!(f, "{viewer} is still in its first contact with {with}")
            }
            Problem::Handshake { viewer, with: None } => {
                write!(f, "{viewer} is still in its first contact with a node")
            }
            Problem::NoAddress { viewer, member } => {
                write!(f, "{viewer} has lost the address of {}", member.short())
            }
            Problem::Failed { member, addr, by } => {
                write!(f, "{} has failed, say {}", named(member, addr), join(by, " "))
            }
            Problem::Suspected { member, addr, by } => {
                write!(f, "{} cannot be reached, say {}", named(member, addr), join(by, " "))
            }
            Problem::Unlinked { viewer, member, bus_port } => write!(
                f,
                "{viewer} has no connection to {member}: can {} reach {} port {bus_port} (the cluster bus)?",
                viewer.ip(),
                member.ip()
            ),
            Problem::LinkDown { replica, primary } => {
                write!(f, "the replica {replica} is not connected to its primary {primary}")
            }
            Problem::SameEpoch { epoch, primaries } => {
                write!(f, "the primaries {} have the same config epoch {epoch}", join(primaries, " "))
            }
            Problem::FewReplicas { primary, has, wanted } => {
                write!(f, "the primary {primary} has {has} replicas in order, not {wanted}")
            }
        }
    }
}

/// `slot 93`, or `slots 93 100-120`.
pub fn name_slots(ranges: &[SlotRange]) -> String {
    let is_one = matches!(ranges, [range] if range.count() == 1);
    format!("{} {}", if is_one { "slot" } else { "slots" }, join(ranges, " "))
}

/// Texts of a list, with something between them.
pub fn join<T: fmt::Display>(items: &[T], between: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// Everything that is wrong; empty for a healthy cluster. `replicas` says how many each primary should
/// have; `None`: one, as soon as any primary has one.
pub fn problems(view: &View, replicas: Option<usize>) -> Vec<Problem> {
    let mut found = Vec::new();
    for silent in &view.silent {
        found.push(Problem::Silent { addr: silent.addr, error: silent.error.to_string() });
    }
    let views: Vec<&NodeView> = view.nodes.iter().map(|node| &node.view).collect();
    if views.is_empty() {
        return found;
    }
    found.extend(
        views.iter().filter(|view| !view.cluster.is_ok).map(|view| Problem::NotServing { addr: view.asked }),
    );
    slot_problems(&views, &mut found);
    for view in &views {
        for open in &view.myself().open_slots {
            found.push(Problem::Open { addr: view.asked, open: *open });
        }
    }
    found.extend(view.strays.iter().cloned().map(Problem::StrayKeys));
    acquaintance_problems(view, &views, &mut found);
    role_problems(&views, &mut found);
    shard_problems(view, &mut found);
    verdict_problems(&views, &mut found);
    replication_problems(view, &views, replicas, &mut found);
    found
}

/// Pairs of asked nodes of which the first does not know the second as a member.
pub fn unknown_pairs<'a>(views: &[&'a NodeView]) -> Vec<(&'a NodeView, &'a NodeView)> {
    let pairs = views.iter().flat_map(|viewer| views.iter().map(move |member| (*viewer, *member)));
    pairs.filter(|(viewer, member)| viewer.line(member.id()).is_none()).collect()
}

fn slot_problems(views: &[&NodeView], found: &mut Vec<Problem>) {
    let coverages: Vec<Vec<bool>> = views.iter().map(|view| view.coverage()).collect();
    let bare = Slot::all().filter(|slot| !coverages.iter().any(|covered| covered[slot.index()]));
    let slots = SlotRange::cover(bare);
    if !slots.is_empty() {
        found.push(Problem::Uncovered { slots });
    }
    let mut groups: BTreeMap<Vec<(NodeId, &[SlotRange])>, Vec<SocketAddr>> = BTreeMap::new();
    for view in views {
        groups.entry(view.ownership()).or_default().push(view.asked);
    }
    if groups.len() > 1 {
        found.push(Problem::Disagreement { groups: groups.into_values().collect() });
    }
}

fn acquaintance_problems(all: &View, views: &[&NodeView], found: &mut Vec<Problem>) {
    // Of a node that does not even answer us it goes without saying.
    let is_silent = |addr: &SocketAddr| all.silent.iter().any(|silent| silent.addr == *addr);
    for (viewer, member) in unknown_pairs(views) {
        let bus_port = member.myself().bus_port;
        found.push(Problem::Unknown { viewer: viewer.asked, member: member.asked, bus_port });
    }
    for view in views {
        let viewer = view.asked;
        for line in view.lines() {
            let addr = line.addr(viewer);
            if line.flags.has(Flags::HANDSHAKE) {
                found.push(Problem::Handshake { viewer, with: addr });
            } else if line.flags.has(Flags::NO_ADDRESS) {
                found.push(Problem::NoAddress { viewer, member: line.id });
            } else if let Some(member) =
                addr.filter(|addr| !line.is_linked && !is_accused(line) && !is_silent(addr))
            {
                found.push(Problem::Unlinked { viewer, member, bus_port: line.bus_port });
            }
        }
    }
}

/// A failover needs the votes of primaries that know whose replica the candidate is.
fn role_problems(views: &[&NodeView], found: &mut Vec<Problem>) {
    let own: BTreeMap<NodeId, &NodeView> = views.iter().map(|view| (view.id(), *view)).collect();
    for view in views {
        for line in view.members() {
            let Some(member) = own.get(&line.id) else { continue };
            let (viewer, member, seen, is) =
                (view.asked, member.asked, line.primary, member.myself().primary);
            if seen != is {
                found.push(Problem::OtherRole { viewer, member, seen, is });
            }
        }
    }
}

/// A primary and its replicas are one shard; one that failed may be of its successor's.
fn shard_problems(view: &View, found: &mut Vec<Problem>) {
    for node in &view.nodes {
        let primaries = node.view.members().filter(|line| line.primary.is_none()).count();
        if node.info.shards.is_some_and(|shards| shards > primaries) {
            found.push(Problem::SplitShard { viewer: node.view.asked });
        }
    }
}

fn is_accused(line: &NodeLine) -> bool {
    line.flags.has(Flags::FAILED) || line.flags.has(Flags::SUSPECT)
}

/// Who says what against one member.
#[derive(Default)]
struct Accusation {
    addr: Option<SocketAddr>,
    failed: Vec<SocketAddr>,
    suspected: Vec<SocketAddr>,
}

fn verdict_problems(views: &[&NodeView], found: &mut Vec<Problem>) {
    let mut accused: BTreeMap<NodeId, Accusation> = BTreeMap::new();
    for view in views {
        for line in view.members().filter(|line| is_accused(line)) {
            let accusation = accused.entry(line.id).or_default();
            accusation.addr = accusation.addr.or(line.addr(view.asked));
            let is_failed = line.flags.has(Flags::FAILED);
            if is_failed { &mut accusation.failed } else { &mut accusation.suspected }.push(view.asked);
        }
    }
    for (member, Accusation { addr, failed, suspected }) in accused {
        found.push(match failed.is_empty() {
            true => Problem::Suspected { member, addr, by: suspected },
            false => Problem::Failed { member, addr, by: failed },
        });
    }
}

fn replication_problems(view: &View, views: &[&NodeView], wanted: Option<usize>, found: &mut Vec<Problem>) {
    for node in &view.nodes {
        if let Role::Replica { primary_host, primary_port, is_link_up: false } = &node.info.role {
            let primary = format!("{primary_host}:{primary_port}");
            found.push(Problem::LinkDown { replica: node.view.asked, primary });
        }
    }
    let primaries = || views.iter().filter(|view| !view.myself().slots.is_empty());
    let mut epochs: BTreeMap<u64, Vec<SocketAddr>> = BTreeMap::new();
    for primary in primaries() {
        epochs.entry(primary.myself().epoch).or_default().push(primary.asked);
    }
    epochs.retain(|_, primaries| primaries.len() > 1);
    found.extend(epochs.into_iter().map(|(epoch, primaries)| Problem::SameEpoch { epoch, primaries }));
    // A primary's own view counts its replicas, those aside that it holds for failed.
    let replicas = |primary: &NodeView| {
        primary
            .members()
            .filter(|line| line.primary == Some(primary.id()) && !line.flags.has(Flags::FAILED))
            .count()
    };
    let wanted = wanted.unwrap_or_else(|| usize::from(primaries().any(|primary| replicas(primary) > 0)));
    for primary in primaries() {
        let has = replicas(primary);
        if has < wanted {
            found.push(Problem::FewReplicas { primary: primary.asked, has, wanted });
        }
    }
}

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;
