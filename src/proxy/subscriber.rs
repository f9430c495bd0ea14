//! The connections that carry the subscriptions of all clients of a worker. PUBLISH reaches all nodes, so
//! one connection, to any primary, carries all channels and patterns: the home.
//!
//! Two kinds of messages stay where they arise. What happens to keys is told by the primary that it
//! happens at: what may be about that is subscribed at all primaries, and taken of each. A shard's channel
//! is subscribed at the owner of its slot, and anew when the slot moves.
//!
//! Each topic is subscribed once, however many clients want it. When a connection is lost, what it carried
//! is subscribed anew; messages sent in between are lost, as they are when a client's own connection
//! breaks.

use super::core::Core;
use super::flight::{Lane, SessionKey};
use super::pipeline::Ticket;
use super::pubsub::{Kind, Name};
use crate::resp::{Version, write_request};
use crate::topology::{Health, NodeId, Slot};
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::time::Duration;

/// A subscribed connection is taken for dead when it says nothing for so long, though asked.
const SUBSCRIBER_TIMEOUT: Duration = Duration::from_secs(10);
/// What the channels begin with on which primaries tell what happens to keys
/// (<https://redis.io/docs/latest/develop/use/keyspace-notifications/>).
const EVENTS: [&[u8]; 2] = [b"__keyspace@", b"__keyevent@"];

pub(super) type TopicName = (Kind, Name);

/// A connection that carries subscriptions.
#[derive(Debug)]
pub struct Line {
    pub backend: usize,
    pub node: NodeId,
    /// It carries all channels and patterns.
    pub is_home: bool,
    /// What was asked on it and is not answered.
    pub(super) asked: VecDeque<Asked>,
    /// What the node was asked for last.
    pub(super) wanted: FxHashSet<TopicName>,
    /// What the node has confirmed.
    pub(super) carried: FxHashSet<TopicName>,
}

/// What a node was asked, in the order of its answers.
#[derive(Debug)]
pub(super) enum Asked {
    /// To subscribe to these, each of which is answered by itself unless all are refused; for a client's
    /// command, or for whoever wants them.
    Topics { kind: Kind, names: Vec<Name>, unanswered: usize, owner: Option<(SessionKey, Ticket)> },
    /// The end of a subscription.
    End(TopicName),
    /// A sign of life.
    Ping,
}

/// Whether a message on this channel tells what happens to keys.
pub(super) fn is_event(channel: &[u8]) -> bool {
    EVENTS.iter().any(|event| channel.starts_with(event))
}

/// Whether what happens to keys may be told under this topic.
fn may_be_event((kind, name): &TopicName) -> bool {
    match kind {
        Kind::Channel => is_event(name),
        Kind::Shard => false,
        Kind::Pattern => {
            let literal = name.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(name.len());
            let literal = &name[..literal];
            EVENTS.iter().any(|event| event.starts_with(literal) || literal.starts_with(event))
        }
    }
}

impl Core {
    /// Makes sure that there are the connections that all topics need, and subscribes what is not
    /// subscribed yet; `owner`: the command that this is for.
    pub fn carry_topics(&mut self, owner: Option<(SessionKey, Ticket)>) {
        let subscriptions = &mut self.subscriptions;
        if subscriptions.topics.is_empty() || (owner.is_none() && !subscriptions.is_stale) {
            return;
        }
        let is_all = std::mem::take(&mut subscriptions.is_stale);
        let mine = owner.and_then(|(key, ticket)| {
            subscriptions.pending.iter().find(|pending| (pending.session, pending.ticket) == (key, ticket))
        });
        let topics: Vec<TopicName> = match mine {
            Some(pending) if !is_all => {
                pending.names.iter().map(|name| (pending.kind, name.clone())).collect()
            }
            _ => subscriptions.topics.keys().cloned().collect(),
        };
        let topology = self.topology.clone();
        let is_primary = |node: &NodeId| topology.primaries().any(|primary| primary.id == *node);
        let demoted: Vec<usize> = subscriptions
            .lines
            .iter()
            .filter(|line| !is_primary(&line.node))
            .map(|line| line.backend)
            .collect();
        demoted.into_iter().for_each(|backend| self.close_backend(backend, false));
        let mut asks: Vec<(usize, Kind, Vec<Name>)> = Vec::new();
        for topic in topics {
            for backend in self.lines_for(&topic) {
                let Some(line) = self.subscriptions.lines.iter_mut().find(|line| line.backend == backend)
                else {
                    continue;
                };
                if !line.wanted.insert(topic.clone()) {
                    continue;
                }
                if let Some(shared) = self.subscriptions.topics.get_mut(&topic) {
                    shared.unconfirmed += 1;
                }
                let (kind, name) = topic.clone();
                // Channels of several slots cannot be asked for together.
                match asks.iter_mut().find(|ask| (ask.0, ask.1) == (backend, kind) && kind != Kind::Shard) {
                    Some((.., names)) => names.push(name),
                    None => asks.push((backend, kind, vec![name])),
                }
            }
        }
        for (backend, kind, names) in asks {
            let words = [kind.subscribe().as_bytes()].into_iter();
            let args: Vec<&[u8]> = words.chain(names.iter().map(|name| &**name)).collect();
            let unanswered = names.len();
            self.ask_line(backend, &args, Asked::Topics { kind, names: names.clone(), unanswered, owner });
        }
    }

    /// The connections that are to carry a topic, opened if need be. Without one of them, the rest is
    /// tried again soon.
    fn lines_for(&mut self, topic: &TopicName) -> Vec<usize> {
        let topology = self.topology.clone();
        let mut nodes: Vec<NodeId> = match topic.0 {
            Kind::Shard => {
                topology.primary_of(Slot::of_key(&topic.1)).map(|node| node.id).into_iter().collect()
            }
            _ if may_be_event(topic) => topology.primaries().map(|node| node.id).collect(),
            _ => Vec::new(),
        };
        if topic.0 != Kind::Shard {
            let home = self.subscriptions.lines.iter().find(|line| line.is_home).map(|line| line.node);
            let home = home.or_else(|| {
                let nodes = topology.primaries();
                let is_there = |node: &&_| self.may_have_line(node);
                let node = fastrand::choice(nodes.filter(is_there).collect::<Vec<_>>())?;
                self.line_at(node.id)?;
                let lines = &mut self.subscriptions.lines;
                lines.iter_mut().filter(|line| line.node == node.id).for_each(|line| line.is_home = true);
                Some(node.id)
            });
            nodes.retain(|node| Some(*node) != home);
            self.subscriptions.is_stale |= home.is_none();
            nodes.extend(home);
        }
        self.subscriptions.is_stale |= nodes.is_empty();
        nodes.into_iter().filter_map(|node| self.line_at(node)).collect()
    }

    fn may_have_line(&self, node: &crate::topology::Node) -> bool {
        node.health != Health::Failed && self.may_connect(node.addr, node.id)
    }

    /// The subscribed connection to a node.
    fn line_at(&mut self, id: NodeId) -> Option<usize> {
        if let Some(line) = self.subscriptions.lines.iter().find(|line| line.node == id) {
            return Some(line.backend);
        }
        let topology = self.topology.clone();
        let node = topology.node(topology.node_by_id(&id)?);
        if !self.may_have_line(node) {
            self.subscriptions.is_stale = true;
            return None;
        }
        // One for each worker and node, which is never too many.
        self.stats.shares.take_exclusive(usize::MAX);
        let backend = self.open_backend(node.addr, id, Version::Resp2, Lane::Exclusive, None);
        self.backends[backend].is_one_way = true;
        self.backends[backend].is_subscriber = true;
        self.subscriptions.lines.push(Line {
            backend,
            node: id,
            is_home: false,
            asked: VecDeque::new(),
            wanted: FxHashSet::default(),
            carried: FxHashSet::default(),
        });
        Some(backend)
    }

    pub(super) fn line(&mut self, backend: usize) -> Option<&mut Line> {
        self.subscriptions.lines.iter_mut().find(|line| line.backend == backend)
    }

    pub(super) fn ask_line(&mut self, backend: usize, args: &[&[u8]], asked: Asked) {
        let Some(line) = self.line(backend) else { return };
        line.asked.push_back(asked);
        let mut frame = Vec::new();
        write_request(&mut frame, args.to_vec());
        self.backends[backend].wire.outbox.push_owned(frame);
        self.mark_backend(backend);
    }

    /// Whether a topic was asked for wherever it comes from.
    pub fn is_carried(&self, topic: &TopicName) -> bool {
        let is_source = |line: &&Line| topic.0 == Kind::Shard || line.is_home;
        self.subscriptions.lines.iter().filter(is_source).any(|line| line.wanted.contains(topic))
    }

    /// Ends a topic's subscriptions.
    pub fn put_down_everywhere(&mut self, topic: &TopicName) {
        let lines = self.subscriptions.lines.iter_mut();
        let wanted: Vec<usize> =
            lines.filter_map(|line| line.wanted.remove(topic).then_some(line.backend)).collect();
        for backend in wanted {
            let args = [topic.0.unsubscribe().as_bytes(), &*topic.1];
            self.ask_line(backend, &args, Asked::End(topic.clone()));
        }
    }

    /// A connection was closed; if it was a subscribed one, another takes its place.
    pub fn subscriber_lost(&mut self, backend: usize) {
        let lines = &mut self.subscriptions.lines;
        let Some(at) = lines.iter().position(|line| line.backend == backend) else { return };
        let line = lines.swap_remove(at);
        self.subscriptions.is_stale = true;
        for asked in line.asked {
            if let Asked::Topics { kind, names, unanswered, .. } = asked {
                names
                    .iter()
                    .skip(names.len() - unanswered)
                    .for_each(|name| self.confirmed((kind, name.clone())));
            }
        }
        for (kind, name) in line.carried {
            self.stats.subscribers.drop_carried(line.node, kind, &name);
        }
    }

    /// A node owes one confirmation less.
    pub(super) fn confirmed(&mut self, topic: TopicName) {
        if let Some(topic) = self.subscriptions.topics.get_mut(&topic) {
            topic.unconfirmed = topic.unconfirmed.saturating_sub(1);
        }
    }

    /// Asks the subscribed connections for a sign of life, and lets go of those that give none or that
    /// nobody needs. Called once a second.
    pub fn check_subscribers(&mut self) {
        let is_needed = !self.subscriptions.topics.is_empty();
        let lines = self.subscriptions.lines.iter();
        let lines: Vec<(usize, bool)> = lines
            .map(|line| (line.backend, is_needed && (line.is_home || !line.wanted.is_empty())))
            .collect();
        for (backend, is_needed) in lines {
            let silent = self.now.saturating_duration_since(self.backends[backend].wire.heard_at);
            if !is_needed {
                self.close_backend(backend, false);
            } else if silent > SUBSCRIBER_TIMEOUT {
                self.close_backend(backend, true);
            } else {
                self.ask_line(backend, &[b"PING"], Asked::Ping);
            }
        }
    }
}
