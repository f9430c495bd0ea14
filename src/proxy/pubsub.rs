//! Subscriptions as clients see them: who wants what, and what they are told of it. The connection that
//! carries them all is in `subscriber`.

use super::core::Core;
use super::dispatch::Handled;
use super::fanout::{Merge, Policy};
use super::flight::{Aim, SessionKey};
use super::pipeline::{Place, Ticket};
use super::router::Local;
use super::session::Busy;
use super::stats::Subscribers;
use super::subscriber::Asked;
use crate::resp::{ReplyWriter, Request};
use crate::telemetry::{Family, Outcome};
use crate::topology::Slot;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;

pub type Name = Box<[u8]>;

/// Whether a RESP2 client with subscriptions may say this.
pub fn is_allowed_subscribed(local: Local) -> bool {
    use Local::*;
    matches!(local, Subscribe | PSubscribe | Unsubscribe | PUnsubscribe | Ping | Quit | Reset)
}

/// One worker's subscriptions.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// The connection that is subscribed.
    pub(super) backend: Option<usize>,
    /// What was asked on it and is not answered.
    pub(super) asked: VecDeque<Asked>,
    pub(super) topics: FxHashMap<(Kind, Name), Topic>,
    by_session: FxHashMap<SessionKey, Vec<(Kind, Name)>>,
    /// What the node has confirmed on that connection.
    pub(super) carried: FxHashSet<(Kind, Name)>,
    /// SUBSCRIBE commands that wait for the node to confirm.
    pub(super) pending: Vec<Pending>,
}

/// A channel, or a pattern of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Channel,
    Pattern,
}

#[derive(Debug, Default)]
pub struct Topic {
    pub sessions: Vec<SessionKey>,
    /// Confirmations that the node owes us.
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
    pub fn subscribe(self) -> &'static str {
        if self == Kind::Channel { "subscribe" } else { "psubscribe" }
    }

    pub fn unsubscribe(self) -> &'static str {
        if self == Kind::Channel { "unsubscribe" } else { "punsubscribe" }
    }
}

impl Subscriptions {
    /// Whether nobody is subscribed or waits to be.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.by_session.is_empty() && self.pending.is_empty()
    }

    /// The subscribed connection.
    #[cfg(test)]
    pub fn backend(&self) -> Option<usize> {
        self.backend
    }

    /// Whether this connection is the subscribed one.
    #[inline]
    pub fn is_subscriber(&self, backend: usize) -> bool {
        self.backend == Some(backend)
    }
}

impl Core {
    /// SUBSCRIBE, PSUBSCRIBE, their opposites, and PUBLISH.
    pub fn handle_pubsub(&mut self, ix: usize, local: Local, request: &Request) -> Handled {
        match local {
            Local::Publish => self.publish(ix, request),
            Local::Subscribe => self.subscribe(ix, Kind::Channel, request),
            Local::PSubscribe => self.subscribe(ix, Kind::Pattern, request),
            Local::Unsubscribe => self.unsubscribe(ix, Kind::Channel, request),
            _ => self.unsubscribe(ix, Kind::Pattern, request),
        }
    }

    /// The messages of one channel all go through one node, so that they keep their order.
    fn publish(&mut self, ix: usize, request: &Request) -> Handled {
        let Some(command) = self.command_of(request) else { return Handled::Done };
        let channel = request.arg(1);
        let slot = Slot::of_key(channel);
        if self.sessions[ix].is_gated(slot) {
            return Handled::NotYet;
        }
        let policy = Policy::AtLeast(self.stats.subscribers.reached_by(channel) as i64);
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
        let ticket = self.take_ticket(ix, command, Place::Waiting);
        self.sessions[ix].busy = Some(Busy::Alone);
        let names: Vec<Name> = request.args().skip(1).map(Name::from).collect();
        let mut missing: Vec<Name> = Vec::new();
        for name in &names {
            self.subscriptions.topics.entry((kind, name.clone())).or_insert_with(|| {
                missing.push(name.clone());
                Topic { unconfirmed: 1, ..Topic::default() }
            });
        }
        if !missing.is_empty() {
            self.ask_for(kind, missing, Some((session, ticket)));
        }
        self.subscriptions.pending.push(Pending { session, ticket, kind, names });
        self.confirm_pending();
        Handled::Done
    }

    /// Answers the SUBSCRIBE commands all of whose channels are confirmed.
    pub fn confirm_pending(&mut self) {
        let pending = std::mem::take(&mut self.subscriptions.pending);
        for waiting in pending {
            let topics = &self.subscriptions.topics;
            let is_confirmed = self.subscriptions.backend.is_some()
                && waiting.names.iter().all(|name| {
                    topics.get(&(waiting.kind, name.clone())).is_some_and(|topic| topic.unconfirmed == 0)
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
                self.stats.subscribers.add(kind == Kind::Pattern, &topic.1);
            }
            let count = self.subscriptions.by_session.get(&key).map_or(0, Vec::len);
            let mut reply = ReplyWriter { out: &mut out, version };
            reply.push(3);
            reply.bulk(kind.subscribe());
            reply.bulk(&topic.1);
            reply.integer(count as i64);
        }
        let count = self.subscriptions.by_session.get(&key).map_or(0, Vec::len);
        if let Some(session) = self.session_of(key) {
            session.state.subscriptions = count as u32;
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
        let mut counts = Vec::new();
        for name in &names {
            self.leave(key, kind, name);
            counts.push(self.subscriptions.by_session.get(&key).map_or(0, Vec::len));
        }
        let count = self.subscriptions.by_session.get(&key).map_or(0, Vec::len);
        self.sessions[ix].state.subscriptions = count as u32;
        self.answer_now(ix, Family::Pubsub, Outcome::Ok, |reply| {
            for (name, count) in names.iter().zip(counts) {
                reply.push(3);
                reply.bulk(kind.unsubscribe());
                reply.bulk(name);
                reply.integer(count as i64);
            }
            if names.is_empty() {
                reply.push(3);
                reply.bulk(kind.unsubscribe());
                reply.null();
                reply.integer(count as i64);
            }
        });
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
        self.stats.subscribers.remove(kind == Kind::Pattern, name);
        if let Some(shared) = self.subscriptions.topics.get_mut(&topic) {
            shared.sessions.retain(|other| *other != key);
        }
        self.forget_unwanted(topic);
    }

    /// Unsubscribes from what no client wants any more.
    pub fn forget_unwanted(&mut self, topic: (Kind, Name)) {
        let Some(shared) = self.subscriptions.topics.get(&topic) else { return };
        let (kind, name) = (topic.0, &topic.1);
        if shared.sessions.is_empty() && !self.is_awaited(&topic) {
            self.subscriptions.topics.remove(&topic);
            if self.subscriptions.backend.is_some() {
                self.tell_subscriber(&[kind.unsubscribe().as_bytes(), name], Asked::Other);
            }
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
