//! form: lone nodes → one cluster. Pure.
//!
//! The plan follows from the nodes' order and places alone: the first ones become primaries with even
//! slot ranges, spread over zones and hosts, the rest their replicas. What a node already has of its part is left out, so a run that was
//! cut short at any point is finished by the same run once more. A node that has anything else is
//! refused, as in `redis-cli --cluster create`.

use super::placement::{Nearness, Place, assign_replicas, choose_primaries, even_ranges};
use crate::control::action::{Action, Party};
use crate::control::observe::{Flags, NodeLine};
use crate::control::problem::join;
use crate::control::view::{Observation, View};
use crate::topology::{NodeId, SLOTS, SlotRange};
use std::collections::HashSet;
use std::net::SocketAddr;

/// Fewer cannot outvote a lost one, so no failover would ever happen.
pub const LEAST_PRIMARIES: usize = 3;

/// What a node is to become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    Primary {
        range: SlotRange,
    },
    /// A replica of the member at this place in [`Plan::members`].
    Replica {
        of: usize,
    },
}

/// A node and its part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub party: Party,
    pub part: Part,
}

/// How the cluster is to look, and the steps that are missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub members: Vec<Member>,
    /// In the order in which they must be done; those of [`Action::Replicate`] come last and need all
    /// nodes to know each other.
    pub actions: Vec<Action>,
    /// What people should know about the placement.
    pub warnings: Vec<String>,
}

/// What is to be done about the nodes that were named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Formation {
    Needed(Plan),
    /// They are one cluster that owns all slots, if not the one that would be planned.
    Formed,
}

/// Why nothing may be done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error(
        "a cluster needs at least 3 primaries: {nodes} nodes with {replicas} replicas each make {primaries}; name \
         {needed} nodes or more, or ask for fewer replicas with --replicas"
    )]
    TooFew { nodes: usize, replicas: usize, primaries: usize, needed: usize },
    #[error("more primaries than slots: name fewer nodes")]
    TooMany,
    #[error("{} cannot be asked: {}", .0, .1)]
    Silent(SocketAddr, String),
    #[error("{0} and {1} are the same node; name each node once")]
    Twice(SocketAddr, SocketAddr),
    #[error(
        "{addr} is not empty: it holds {keys} keys. A new cluster is formed from empty nodes only; empty it yourself \
         (FLUSHALL) if nobody needs them"
    )]
    Keys { addr: SocketAddr, keys: u64 },
    #[error(
        "{addr} is not empty: it already belongs to a cluster with {others}, which {is} not named here. Name a node \
         that belongs to none, or take this one out of its cluster first (CLUSTER RESET on it, CLUSTER FORGET on the \
         others)", is = if *.count == 1 { "is" } else { "are" }
    )]
    Foreign { addr: SocketAddr, others: String, count: usize },
    #[error(
        "{addr} is not empty: it already {has}. If a run was cut short, run it again with the same nodes in the same \
         order and the same --replicas; otherwise reset the node first (CLUSTER RESET)"
    )]
    OtherPart { addr: SocketAddr, has: String },
}

/// Plans a cluster of the observed nodes, in the order in which they were named.
///
/// # Errors
/// Too few nodes, one that does not answer, or one that is neither empty nor on the way to its part.
pub fn form(view: &View, replicas: usize) -> Result<Formation, Refusal> {
    form_shards(view, |nodes| count_primaries(nodes, replicas))
}

/// The same with so many primaries as `count` makes of the number of nodes.
///
/// # Errors
/// As [`form`], and those of `count`.
pub fn form_shards(
    view: &View,
    count: impl Fn(usize) -> Result<usize, Refusal>,
) -> Result<Formation, Refusal> {
    if let Some(silent) = view.silent.first() {
        return Err(Refusal::Silent(silent.addr, silent.error.to_string()));
    }
    let nodes = &view.nodes;
    for (ix, node) in nodes.iter().enumerate() {
        if let Some(twin) = nodes[..ix].iter().find(|other| other.view.id() == node.view.id()) {
            return Err(Refusal::Twice(twin.view.asked, node.view.asked));
        }
    }
    let primaries = count(nodes.len())?;
    let nodes = &primaries_first(nodes, primaries);
    let members = members(nodes, primaries);
    match nodes.iter().zip(&members).try_for_each(|(node, member)| accept(node, member, &members, nodes)) {
        Ok(()) => {
            let warnings = warnings(nodes, &members, primaries);
            Ok(Formation::Needed(Plan { actions: actions(nodes, &members), members, warnings }))
        }
        Err(_) if is_formed(nodes) => Ok(Formation::Formed),
        Err(refusal) => Err(refusal),
    }
}

/// How many primaries so many nodes make when each gets so many replicas.
///
/// # Errors
/// Too few to be a cluster, or more than there are slots.
pub fn count_primaries(nodes: usize, replicas: usize) -> Result<usize, Refusal> {
    let primaries = nodes / replicas.saturating_add(1);
    if primaries < LEAST_PRIMARIES {
        let needed = replicas.saturating_add(1).saturating_mul(LEAST_PRIMARIES);
        return Err(Refusal::TooFew { nodes, replicas, primaries, needed });
    }
    if primaries > SLOTS { Err(Refusal::TooMany) } else { Ok(primaries) }
}

/// Those that become primaries, then the others, each in the order in which they were named.
fn primaries_first(nodes: &[Observation], primaries: usize) -> Vec<Observation> {
    let places: Vec<Place> = nodes.iter().map(Place::of).collect();
    let chosen = choose_primaries(&places, primaries);
    let others = (0..nodes.len()).filter(|ix| !chosen.contains(ix));
    chosen.iter().copied().chain(others).map(|ix| nodes[ix].clone()).collect()
}

fn members(nodes: &[Observation], primaries: usize) -> Vec<Member> {
    let places: Vec<Place> = nodes.iter().map(Place::of).collect();
    let ranges = even_ranges(primaries).into_iter().map(|range| Part::Primary { range });
    let of = assign_replicas(&places[..primaries], &places[primaries..]);
    let parts = ranges.chain(of.into_iter().map(|of| Part::Replica { of }));
    let party = |node: &Observation| Party { id: node.view.id(), addr: node.view.asked };
    nodes.iter().zip(parts).map(|(node, part)| Member { party: party(node), part }).collect()
}

/// Whether the node is empty, or has nothing but a piece of its own part.
fn accept(
    node: &Observation,
    member: &Member,
    members: &[Member],
    nodes: &[Observation],
) -> Result<(), Refusal> {
    let (addr, me) = (node.view.asked, node.view.myself());
    let strangers: Vec<&NodeLine> =
        node.view.lines().iter().filter(|line| !is_ours(line, addr, nodes)).collect();
    if !strangers.is_empty() {
        let name = |line: &&NodeLine| match line.addr(addr) {
            Some(addr) => addr.to_string(),
            None => line.id.short().to_string(),
        };
        let others = join(&strangers.iter().map(name).collect::<Vec<_>>(), ", ");
        return Err(Refusal::Foreign { addr, others, count: strangers.len() });
    }
    let other = |has: String| Err(Refusal::OtherPart { addr, has });
    match &member.part {
        Part::Primary { range } => {
            if me.primary.is_some() {
                return other("replicates another node".into());
            }
            if me.slots.iter().any(|owned| owned.start < range.start || owned.end > range.end) {
                return other(format!("owns the slots {}", join(&me.slots, " ")));
            }
        }
        Part::Replica { of } => {
            if !me.slots.is_empty() {
                return other(format!("owns the slots {}", join(&me.slots, " ")));
            }
            if me.primary.is_some_and(|primary| primary != members[*of].party.id) {
                return other("replicates another node than this plan says".into());
            }
        }
    }
    // Keys of clients that came as soon as the cluster served: only where the node's part is done.
    let is_done = match &member.part {
        Part::Primary { range } => me.slots == [*range],
        Part::Replica { .. } => me.primary.is_some(),
    };
    if node.info.keys > 0 && !is_done {
        return Err(Refusal::Keys { addr, keys: node.info.keys });
    }
    Ok(())
}

/// Whether a line tells of a node that was named. A first contact under way has a made-up id.
fn is_ours(line: &NodeLine, asked: SocketAddr, nodes: &[Observation]) -> bool {
    nodes.iter().any(|node| node.view.id() == line.id)
        || (line.flags.has(Flags::HANDSHAKE)
            && line.addr(asked).is_some_and(|addr| nodes.iter().any(|node| node.view.asked == addr)))
}

/// Whether the nodes are members of one cluster that owns all slots, by all their words.
fn is_formed(nodes: &[Observation]) -> bool {
    let known = |node: &Observation| node.view.members().map(|line| line.id).collect::<HashSet<NodeId>>();
    let all = known(&nodes[0]);
    nodes.iter().all(|node| all.contains(&node.view.id()) && known(node) == all)
        && nodes.iter().all(|node| node.view.coverage().iter().all(|is_covered| *is_covered))
}

fn actions(nodes: &[Observation], members: &[Member]) -> Vec<Action> {
    let pairs = || nodes.iter().zip(members);
    let mut actions = Vec::new();
    let mut taken: HashSet<u64> = nodes.iter().map(|node| node.view.myself().epoch).collect();
    for (ix, (node, member)) in pairs().enumerate() {
        // Redis takes an epoch from outside only while a node is alone and has none.
        if node.view.lines().len() == 1 && node.view.myself().epoch == 0 {
            let own = ix as u64 + 1;
            let epoch = if taken.contains(&own) { taken.iter().max().unwrap_or(&own) + 1 } else { own };
            taken.insert(epoch);
            actions.push(Action::SetConfigEpoch { node: member.party, epoch });
        }
    }
    for (node, member) in pairs() {
        let Part::Primary { range } = &member.part else { continue };
        let ranges = missing(*range, &node.view.myself().slots);
        if !ranges.is_empty() {
            actions.push(Action::AddSlots { node: member.party, ranges });
        }
    }
    let (hub, hub_member) = (&nodes[0], members[0].party);
    for (node, member) in pairs().skip(1) {
        let is_known = |viewer: &Observation, id| viewer.view.line(id).is_some();
        if !is_known(hub, node.view.id()) || !is_known(node, hub.view.id()) {
            let bus_port = node.view.myself().bus_port;
            actions.push(Action::Meet { node: hub_member, other: member.party, bus_port });
        }
    }
    for (node, member) in pairs() {
        let Part::Replica { of } = &member.part else { continue };
        if node.view.myself().primary.is_none() {
            actions.push(Action::Replicate { node: member.party, primary: members[*of].party });
        }
    }
    actions
}

/// The parts of `range` that are not in `owned`.
pub fn missing(range: SlotRange, owned: &[SlotRange]) -> Vec<SlotRange> {
    SlotRange::cover(
        range.slots().filter(|slot| !owned.iter().any(|owned| owned.start <= *slot && *slot <= owned.end)),
    )
}

fn warnings(nodes: &[Observation], members: &[Member], primaries: usize) -> Vec<String> {
    let places: Vec<Place> = nodes.iter().map(Place::of).collect();
    let hosts: HashSet<String> = places.iter().map(|place| place.host.clone()).collect();
    if hosts.len() == 1 {
        return vec!["all nodes are on one host: when it is lost, so is the cluster".into()];
    }
    let mut warnings = Vec::new();
    for (member, place) in members.iter().zip(&places) {
        let Part::Replica { of } = member.part else { continue };
        let shared = match place.nearness(&places[of]) {
            Nearness::Apart => continue,
            Nearness::Zone => "in the same zone",
            Nearness::Host => "on the same host",
        };
        warnings.push(format!("{} is {shared} as its primary {}", member.party, members[of].party));
    }
    let zones: HashSet<String> = places.iter().filter_map(|place| place.zone.clone()).collect();
    for (what, lost, is_in) in hosts
        .iter()
        .map(|host| ("on", host, is_on as fn(&Place, &str) -> bool))
        .chain(zones.iter().map(|zone| ("in the zone", zone, is_in_zone as fn(&Place, &str) -> bool)))
    {
        let count = places[..primaries].iter().filter(|place| is_in(place, lost)).count();
        if count * 2 >= primaries {
            warnings.push(format!(
                "{count} of {primaries} primaries are {what} {lost}: when it is lost, no majority is left to elect \
                 new ones; name nodes elsewhere too"
            ));
        }
    }
    warnings.sort_unstable();
    warnings
}

fn is_on(place: &Place, host: &str) -> bool {
    place.host == host
}

fn is_in_zone(place: &Place, zone: &str) -> bool {
    place.zone.as_deref() == Some(zone)
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
