//! Survey: what all endpoints answered, sorted into the cluster's own members, newcomers and strangers.
//! Pure.
//!
//! Whoever is not proven to be of this cluster is never planned with: two clusters whose nodes meet
//! become one, and each loses the slots in which its config epochs are lower.

use super::action::Party;
use super::observe::{Answer, Facts, Flags};
use super::pods::Pods;
use super::view::{NodeView, Observation, Silent, View};
use crate::topology::NodeId;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

/// A node that is not of this cluster, and where it answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stranger {
    pub addr: SocketAddr,
    pub id: NodeId,
    /// It believes to be a member, but no member knows it.
    pub is_forgotten: bool,
    pub seen: Observation,
}

/// One look at everything.
#[derive(Debug, Default)]
pub struct Survey {
    /// The members that answered; silent are only addresses at which members are looked for.
    pub view: View,
    /// Empty nodes that belong to no cluster and were named by the operator.
    pub newcomers: Vec<Observation>,
    pub strangers: Vec<Stranger>,
    /// Where the operator says that nodes are, and none could be asked.
    pub unanswered: Vec<Silent>,
    /// Several clusters answered, and nothing says which one is ours.
    pub is_ambiguous: bool,
    facts: HashMap<NodeId, Facts>,
    reached: HashMap<NodeId, Vec<SocketAddr>>,
}

impl Survey {
    /// Sorts the answers. `known`: the ids of our members by earlier looks; empty at first. `named`: the
    /// addresses that the operator named, by themselves or by a name.
    pub fn new(
        answers: Vec<Answer>,
        silent: Vec<Silent>,
        known: &HashSet<NodeId>,
        named: &HashSet<SocketAddr>,
    ) -> Survey {
        let mut survey = Survey::default();
        let mut nodes: Vec<Answer> = Vec::new();
        for answer in answers {
            let (id, asked) = (answer.seen.view.id(), answer.seen.view.asked);
            let reached = survey.reached.entry(id).or_default();
            reached.push(asked);
            let is_direct =
                |answer: &Answer| answer.facts.local.is_none_or(|local| local == answer.seen.view.asked);
            match nodes.iter_mut().find(|node| node.seen.view.id() == id) {
                None => nodes.push(answer),
                Some(node) if !is_direct(node) && is_direct(&answer) => *node = answer,
                Some(_) => {}
            }
        }
        let ours = match known.is_empty() {
            false => known.clone(),
            true => match find_ours(&nodes) {
                Ok(ours) => ours,
                Err(_) => {
                    survey.is_ambiguous = true;
                    HashSet::new()
                }
            },
        };
        for Answer { seen, facts } in nodes {
            let (id, addr) = (seen.view.id(), seen.view.asked);
            let knows_ours = seen.view.members().any(|line| line.id != id && ours.contains(&line.id));
            let is_lone = seen.view.lines().len() == 1;
            let is_empty = is_lone
                && seen.view.myself().slots.is_empty()
                && seen.view.myself().primary.is_none()
                && seen.info.keys == 0;
            if ours.contains(&id) && (knows_ours || ours.len() == 1) {
                survey.facts.insert(id, facts);
                survey.view.nodes.push(seen);
            } else if is_empty && named.contains(&addr) {
                survey.facts.insert(id, facts);
                survey.newcomers.push(seen);
            } else {
                survey.strangers.push(Stranger { addr, id, is_forgotten: knows_ours, seen });
            }
        }
        let told: HashSet<SocketAddr> = survey.told().collect();
        let (told, others): (Vec<_>, Vec<_>) =
            silent.into_iter().partition(|silent| told.contains(&silent.addr));
        survey.view.silent = told;
        survey.unanswered = others.into_iter().filter(|silent| named.contains(&silent.addr)).collect();
        survey
    }

    /// The addresses at which members that did not answer are looked for.
    fn told(&self) -> impl Iterator<Item = SocketAddr> {
        self.view.nodes.iter().flat_map(|node| {
            let asked = node.view.asked;
            let silent = node.view.members().filter(|line| self.view.of(line.id).is_none());
            silent.filter_map(move |line| line.addr(asked))
        })
    }

    /// The ids of our members after this look: those that most of the members which answered know.
    /// `None` when no member answered.
    pub fn ours(&self) -> Option<HashSet<NodeId>> {
        let views: Vec<&NodeView> = self.view.nodes.iter().map(|node| &node.view).collect();
        (!views.is_empty()).then(|| known_to_most(&views))
    }

    /// Where a node is to be told things.
    pub fn party(&self, node: &Observation) -> Party {
        Party { id: node.view.id(), addr: node.view.asked }
    }

    pub fn facts(&self, id: NodeId) -> Option<&Facts> {
        self.facts.get(&id)
    }

    /// Whether the node answered at this address.
    pub fn is_reached(&self, id: NodeId, addr: SocketAddr) -> bool {
        self.reached.get(&id).is_some_and(|reached| reached.contains(&addr))
    }

    /// All nodes that answered, of this cluster or not.
    pub fn answered(&self) -> impl Iterator<Item = &Observation> {
        let strangers = self.strangers.iter().map(|stranger| &stranger.seen);
        self.view.nodes.iter().chain(&self.newcomers).chain(strangers)
    }

    /// The node that answered at this address.
    pub fn at(&self, addr: SocketAddr) -> Option<&Observation> {
        self.answered().find(|node| self.is_reached(node.view.id(), addr))
    }

    /// Takes in which machine and zone each node is on, by its pod.
    pub fn locate(&mut self, pods: &Pods) {
        let Survey { view, newcomers, strangers, reached, .. } = self;
        let strangers = strangers.iter_mut().map(|stranger| &mut stranger.seen);
        for node in view.nodes.iter_mut().chain(newcomers).chain(strangers) {
            let at = reached.get(&node.view.id()).map(Vec::as_slice).unwrap_or_default();
            let pod = pods.pods.iter().find(|pod| pod.addr.is_some_and(|addr| at.contains(&addr)));
            let Some(pod) = pod else { continue };
            node.info.host = pod.host.clone().or(node.info.host.take());
            node.info.zone = pod.zone.clone().or(node.info.zone.take());
        }
    }

    /// Whether any node answered there.
    pub fn is_taken(&self, addr: SocketAddr) -> bool {
        self.reached.values().any(|reached| reached.contains(&addr))
    }

    /// Where other nodes can reach a node, as far as that is proven: the address that it announces, or
    /// else one at which it took our connection itself, with no translation in between.
    pub fn home(&self, id: NodeId) -> Option<SocketAddr> {
        let node = self.view.of(id).or_else(|| self.newcomers.iter().find(|node| node.view.id() == id))?;
        let facts = self.facts(id)?;
        if facts.settings.as_ref().is_some_and(|settings| settings.is_announced) {
            return node.view.myself().addr(node.view.asked);
        }
        let asked = node.view.asked;
        facts.local.is_none_or(|local| local == asked).then_some(asked)
    }

    /// Whether somebody who is connected to it looks for the member at this address.
    pub fn is_linked_at(&self, id: NodeId, addr: SocketAddr) -> bool {
        let others = self.view.nodes.iter().filter(|node| node.view.id() != id);
        others
            .filter_map(|node| Some((node.view.asked, node.view.line(id)?)))
            .any(|(asked, line)| line.is_linked && !is_accused(line.flags) && line.addr(asked) == Some(addr))
    }
}

/// Whether a node's flags say that it cannot be reached.
pub fn is_accused(flags: Flags) -> bool {
    flags.has(Flags::FAILED) || flags.has(Flags::SUSPECT)
}

/// Several clusters answered at the places that we know.
struct Ambiguous;

/// Without memory: ours is the only group of nodes that know each other. A lone empty node is no cluster,
/// and who knows others but is known by none of them was forgotten.
fn find_ours(nodes: &[Answer]) -> Result<HashSet<NodeId>, Ambiguous> {
    let views: Vec<&NodeView> = nodes.iter().map(|node| &node.seen.view).collect();
    let mut groups: Vec<Vec<&NodeView>> = Vec::new();
    for view in views {
        let is_mutual =
            |other: &&NodeView| view.line(other.id()).is_some() && other.line(view.id()).is_some();
        let (mut joined, apart): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group: &Vec<&NodeView>| group.iter().any(is_mutual));
        groups = apart;
        let mut group: Vec<&NodeView> = joined.drain(..).flatten().collect();
        group.push(view);
        groups.push(group);
    }
    let is_known_elsewhere = |view: &NodeView| {
        nodes.iter().any(|node| node.seen.view.id() != view.id() && view.line(node.seen.view.id()).is_some())
    };
    groups.retain(|group| match group.as_slice() {
        // Alone: a cluster whose other nodes are all silent, or one that owns slots all by itself.
        [view] => {
            !is_known_elsewhere(view) && (view.members().count() > 1 || !view.myself().slots.is_empty())
        }
        _ => true,
    });
    match groups.as_slice() {
        [] => Ok(HashSet::new()),
        [group] => Ok(known_to_most(group)),
        _ => Err(Ambiguous),
    }
}

/// The members that more than half of the views list: one of them may have been reset and be with others.
fn known_to_most(views: &[&NodeView]) -> HashSet<NodeId> {
    let mut votes: HashMap<NodeId, usize> = HashMap::new();
    for line in views.iter().flat_map(|view| view.members()) {
        *votes.entry(line.id).or_default() += 1;
    }
    votes.into_iter().filter(|(_, votes)| votes * 2 > views.len()).map(|(id, _)| id).collect()
}
