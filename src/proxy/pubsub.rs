//! Subscriptions as clients see them: who wants what, and what they are told of it. The connections that
//! carry them are in `subscriber`.

use super::core::Core;
use super::dispatch::Handled;
use super::fanout::{Merge, Policy};
use super::flight::{Aim, SessionKey};
use super::pipeline::{Place, Ticket};
use super::router::Local;
use super::session::Busy;
use super::stats::Subscribers;
use super::subscriber::Line;
use crate::command::CommandIx;
use crate::resp::{ReplyWriter, Request};
use crate::telemetry::Outcome;
use crate::topology::Slot;
use rustc_hash::FxHashMap;

pub type Name = Box<[u8]>;

/// Whether a RESP2 client with subscriptions may say this.
pub fn is_allowed_subscribed(local: Local) -> bool {
    use Local::*;
    matches!(
        local,
        Subscribe | PSubscribe | SSubscribe | Unsubscribe | PUnsubscribe | SUnsubscribe | Ping | Quit | Reset
    )
}

/// One worker's subscriptions.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// The connections that are subscribed.
    pub(super) lines: Vec<Line>,
    pub(super) topics: FxHashMap<(Kind, Name), Topic>,
    by_session: FxHashMap<SessionKey, Vec<(Kind, Name)>>,
    /// SUBSCRIBE commands that wait for the nodes to confirm.
    pub(super) pending: Vec<Pending>,
    /// A connection is missing, or the topology has changed: what is subscribed where is to be looked at.
    pub(super) is_stale: bool,
}

/// A channel, a pattern of channels, or a channel that only its slot's shard carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Channel,
    Pattern,
    Shard,
}

#[derive(Debug, Default)]
pub struct Topic {
    pub sessions: Vec<SessionKey>,
    /// Confirmations that nodes owe us.
    pub unconfirmed: u32,
}

#[derive(Debug)]
pub struct Pending {
    pub session: SessionKey,
    pub ticket: Ticket,
    pub kind: Kind,
    pub names: Vec<Name>,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];

    pub fn subscribe(self) -> &'static str {
        match self {
            Kind::Channel => "subscribe",
            Kind::Pattern => "psubscribe",
            Kind::Shard => "ssubscribe",
        }
    }

    pub fn unsubscribe(self) -> &'static str {
        match self {
            Kind::Channel => "unsubscribe",
            Kind::Pattern => "punsubscribe",
            Kind::Shard => "sunsubscribe",
        }
    }

    /// Subscriptions are numbered for each client: those of shards by themselves, the others together.
    fn is_counted_with(self, other: Kind) -> bool {
        (self == Kind::Shard) == (other == Kind::Shard)
    }
}

impl Subscriptions {
    /// Whether nobody is subscribed or waits to be.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.by_session.is_empty() && self.pending.is_empty()
    }

    /// The connection that carries all channels.
    #[cfg(test)]
    pub fn backend(&self) -> Option<usize> {
        self.lines.iter().find(|line| line.is_home).map(|line| line.backend)
    }

    /// How many subscriptions a client has, as they are numbered with those of this kind.
    pub fn numbered(&self, key: SessionKey, kind: Kind) -> usize {
        let mine = self.by_session.get(&key);
        mine.map_or(0, |mine| mine.iter().filter(|(other, _)| other.is_counted_with(kind)).count())
    }

    fn total(&self, key: SessionKey) -> u32 {
        self.by_session.get(&key).map_or(0, |mine| mine.len() as u32)
    }

    /// How many channels, or patterns, a client is subscribed to.
    pub fn count(&self, session: SessionKey, kind: Kind) -> usize {
        let mine = self.by_session.get(&session).into_iter().flatten();
        mine.filter(|(other, _)| *other == kind).count()
    }
}

impl Core {
    /// SUBSCRIBE, PSUBSCRIBE, their opposites, and PUBLISH.
    pub fn handle_pubsub(&mut self, ix: usize, local: Local, request: &Request) -> Handled {
        match local {
            Local::Publish => self.publish(ix, request),
            Local::Subscribe => self.subscribe(ix, Kind::Channel, request),
            Local::PSubscribe => self.subscribe(ix, Kind::Pattern, request),
            Local::SSubscribe => self.subscribe(ix, Kind::Shard, request),
            Local::Unsubscribe => self.unsubscribe(ix, Kind::Channel, request),
            Local::SUnsubscribe => self.unsubscribe(ix, Kind::Shard, request),
            _ => self.unsubscribe(ix, Kind::Pattern, request),
        }
    }

    /// All messages go through one node, so that they keep their order, those of several channels too.
    fn publish(&mut self, ix: usize, request: &Request) -> Handled {
        let Some(command) = self.command_of(request) else { return Handled::Done };
        let channel = request.arg(1);
        let slot = Slot::of_key(b"");
        if self.sessions[ix].is_gated(slot) {
            return Handled::NotYet;
        }
        // The node counts our own connections to it too, and not our clients.
        let subscribers = &self.stats.subscribers;
        let node = self.topology.primary_of(slot).map(|node| node.id);
        let carried = node.map_or(0, |node| subscribers.carried_for(node, channel));
        let ours = subscribers.reached_by(channel);
        let policy = Policy::Reached { ours: ours as i64, carried: carried as i64 };
        let merge = Merge::new(policy, self.sessions[ix].state.version, 1, true);
        let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
        let tag = self.tag(ix, ticket, command, Aim::Owner(slot));
        self.forward(tag, &[request.frame]);
        Handled::Done
    }

    fn subscribe(&mut self, ix: usize, kind: Kind, request: &Request) -> Handled {
        if !self.sessions[ix].pipeline.is_empty() {
            return Handled::NotYet;
        }
        let session = self.key_of(ix);
        let Some(command) = self.command_of(request) else { return Handled::Done };
        let ticket = self.take_push_ticket(ix, command);
        self.sessions[ix].busy = Some(Busy::Alone);
        let names: Vec<Name> = request.args().skip(1).map(Name::from).collect();
        for name in &names {
            self.subscriptions.topics.entry((kind, name.clone())).or_default();
        }
        self.subscriptions.pending.push(Pending { session, ticket, kind, names: names.clone() });
        self.carry_topics(Some((session, ticket)));
        self.confirm_pending();
        Handled::Done
    }

    /// What a client is told of its subscriptions it hears even when it wants no replies.
    fn take_push_ticket(&mut self, ix: usize, command: CommandIx) -> Ticket {
        let ticket = self.take_ticket(ix, command, Place::Waiting);
        if let Some(entry) = self.sessions[ix].pipeline.get_mut(ticket) {
            entry.is_mute = false;
        }
        ticket
    }

    /// Answers the SUBSCRIBE commands all of whose channels are confirmed.
    pub fn confirm_pending(&mut self) {
        let pending = std::mem::take(&mut self.subscriptions.pending);
        for waiting in pending {
            let is_confirmed = waiting.names.iter().all(|name| {
                let topic = (waiting.kind, name.clone());
                let has_all =
                    self.subscriptions.topics.get(&topic).is_some_and(|topic| topic.unconfirmed == 0);
                has_all && self.is_carried(&topic)
            });
            if !is_confirmed {
                self.subscriptions.pending.push(waiting);
                continue;
            }
            self.confirm(waiting);
        }
    }

    fn confirm(&mut self, Pending { session: key, ticket, kind, names }: Pending) {
        let Some(session) = self.session_of(key) else { return };
        let version = session.state.version;
        let mut out = Vec::new();
        for name in names {
            let mine = self.subscriptions.by_session.entry(key).or_default();
            let topic = (kind, name);
            if !mine.contains(&topic) {
                mine.push(topic.clone());
                if let Some(shared) = self.subscriptions.topics.get_mut(&topic) {
                    shared.sessions.push(key);
                }
                self.stats.subscribers.add(kind, &topic.1);
            }
            let count = self.subscriptions.numbered(key, kind);
            let mut reply = ReplyWriter { out: &mut out, version };
            reply.push(3);
            reply.bulk(kind.subscribe());
            reply.bulk(&topic.1);
            reply.integer(count as i64);
        }
        let total = self.subscriptions.total(key);
        if let Some(session) = self.session_of(key) {
            session.state.subscriptions = total;
        }
        self.answer(key, ticket, Outcome::Ok, &out);
    }

    fn unsubscribe(&mut self, ix: usize, kind: Kind, request: &Request) -> Handled {
        if !self.sessions[ix].pipeline.is_empty() {
            return Handled::NotYet;
        }
        let key = self.key_of(ix);
        let mine = self.subscriptions.by_session.get(&key).cloned().unwrap_or_default();
        let names: Vec<Name> = if request.len() > 1 {
            request.args().skip(1).map(Name::from).collect()
        } else {
            mine.iter().filter(|(other, _)| *other == kind).map(|(_, name)| name.clone()).collect()
        };
        let Some(command) = self.command_of(request) else { return Handled::Done };
        let ticket = self.take_push_ticket(ix, command);
        let mut out = Vec::new();
        let version = self.sessions[ix].state.version;
        let tell = |out: &mut Vec<u8>, name: Option<&Name>, count: usize| {
            let mut reply = ReplyWriter { out, version };
            reply.push(3);
            reply.bulk(kind.unsubscribe());
            match name {
                Some(name) => reply.bulk(name),
                None => reply.null(),
            }
            reply.integer(count as i64);
        };
        for name in &names {
            self.leave(key, kind, name);
            tell(&mut out, Some(name), self.subscriptions.numbered(key, kind));
        }
        if names.is_empty() {
            tell(&mut out, None, self.subscriptions.numbered(key, kind));
        }
        self.sessions[ix].state.subscriptions = self.subscriptions.total(key);
        self.answer(key, ticket, Outcome::Ok, &out);
        Handled::Done
    }

    fn leave(&mut self, key: SessionKey, kind: Kind, name: &Name) {
        let topic = (kind, name.clone());
        let Some(mine) = self.subscriptions.by_session.get_mut(&key) else { return };
        let Some(at) = mine.iter().position(|other| *other == topic) else { return };
        mine.swap_remove(at);
        if mine.is_empty() {
            self.subscriptions.by_session.remove(&key);
        }
        self.stats.subscribers.remove(kind, name);
        if let Some(shared) = self.subscriptions.topics.get_mut(&topic) {
            shared.sessions.retain(|other| *other != key);
        }
        self.forget_unwanted(topic);
    }

    /// Unsubscribes from what no client wants any more.
    pub fn forget_unwanted(&mut self, topic: (Kind, Name)) {
        let Some(shared) = self.subscriptions.topics.get(&topic) else { return };
        if shared.sessions.is_empty() && !self.is_awaited(&topic) {
            self.subscriptions.topics.remove(&topic);
            self.put_down_everywhere(&topic);
        }
    }

    /// Whether a client waits for the node to confirm it.
    pub fn is_awaited(&self, (kind, name): &(Kind, Name)) -> bool {
        let mut pending = self.subscriptions.pending.iter();
        pending.any(|pending| pending.kind == *kind && pending.names.contains(name))
    }

    /// A client has left, or reset itself.
    pub fn unsubscribe_all(&mut self, key: SessionKey) {
        let mut left = Vec::new();
        self.subscriptions.pending.retain(|pending| {
            let stays = pending.session != key;
            if !stays {
                left.extend(pending.names.iter().map(|name| (pending.kind, name.clone())));
            }
            stays
        });
        left.into_iter().for_each(|topic| self.forget_unwanted(topic));
        for (kind, name) in self.subscriptions.by_session.get(&key).cloned().unwrap_or_default() {
            self.leave(key, kind, &name);
        }
    }
}

impl Subscribers {
    /// How many subscriptions of this process a message on `channel` reaches.
    pub fn reached_by(&self, channel: &[u8]) -> usize {
        let direct = self.channels.get(channel).map_or(0, |count| *count);
        let by_pattern: usize = self
            .patterns
            .iter()
            .filter(|entry| crate::command::glob_matches(entry.key(), channel))
            .map(|entry| *entry.value())
            .sum();
        direct + by_pattern
    }
}
