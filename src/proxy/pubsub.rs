//! Subscriptions: all clients of a worker share one connection to any node, as PUBLISH reaches them all.
//!
//! Each channel is subscribed once, however many clients want it. When the connection is lost,
//! everything is subscribed anew at another node; messages sent in between are lost, as they are when a
//! client's own connection breaks.

use super::core::Core;
use super::dispatch::Handled;
use super::fanout::{Merge, Policy, text_of};
use super::flight::{Aim, Lane, SessionKey};
use super::pipeline::{Entry, Place, Ticket};
use super::router::Local;
use super::session::Busy;
use super::stats::Subscribers;
use crate::resp::{ReplyScanner, ReplyWriter, Request, Version, write_request};
use crate::telemetry::{Family, Outcome};
use crate::topology::{Health, Slot};
use rustc_hash::FxHashMap;
use std::time::Duration;

type Name = Box<[u8]>;

/// Whether a RESP2 client with subscriptions may say this.
pub fn is_allowed_subscribed(local: Local) -> bool {
    use Local::*;
    matches!(local, Subscribe | PSubscribe | Unsubscribe | PUnsubscribe | Ping | Quit | Reset)
}

/// One worker's subscriptions.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// The connection that is subscribed.
    backend: Option<usize>,
    topics: FxHashMap<(Kind, Name), Topic>,
    by_session: FxHashMap<SessionKey, Vec<(Kind, Name)>>,
    /// SUBSCRIBE commands that wait for the node to confirm.
    pending: Vec<Pending>,
}

/// A channel, or a pattern of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Channel,
    Pattern,
}

#[derive(Debug, Default)]
struct Topic {
    sessions: Vec<SessionKey>,
    /// Confirmations that the node owes us.
    unconfirmed: u32,
}

#[derive(Debug)]
struct Pending {
    session: SessionKey,
    ticket: Ticket,
    kind: Kind,
    names: Vec<Name>,
}

impl Kind {
    fn subscribe(self) -> &'static str {
        if self == Kind::Channel { "subscribe" } else { "psubscribe" }
    }

    fn unsubscribe(self) -> &'static str {
        if self == Kind::Channel { "unsubscribe" } else { "punsubscribe" }
    }
}

/// The subscribed connection is taken for dead when it says nothing for so long, though asked.
const SUBSCRIBER_TIMEOUT: Duration = Duration::from_secs(10);

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
        let mut missing: Vec<&Name> = Vec::new();
        for name in &names {
            let topics = &mut self.subscriptions.topics;
            let topic = topics.entry((kind, name.clone())).or_insert_with(|| {
                missing.push(name);
                Topic::default()
            });
            topic.unconfirmed += u32::from(missing.last().is_some_and(|last| std::ptr::eq(*last, name)));
        }
        if !missing.is_empty() {
            let args: Vec<&[u8]> = [kind.subscribe().as_bytes()]
                .into_iter()
                .chain(missing.iter().map(|name| &***name))
                .collect();
            self.tell_subscriber(&args);
        }
        self.subscriptions.pending.push(Pending { session, ticket, kind, names });
        self.confirm_pending();
        Handled::Done
    }

    /// Answers the SUBSCRIBE commands all of whose channels are confirmed.
    fn confirm_pending(&mut self) {
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
    fn forget_unwanted(&mut self, topic: (Kind, Name)) {
        let Some(shared) = self.subscriptions.topics.get(&topic) else { return };
        let (kind, name) = (topic.0, &topic.1);
        let is_wanted = self
            .subscriptions
            .pending
            .iter()
            .any(|pending| pending.kind == kind && pending.names.contains(name));
        if shared.sessions.is_empty() && !is_wanted {
            self.subscriptions.topics.remove(&topic);
            if self.subscriptions.backend.is_some() {
                self.tell_subscriber(&[kind.unsubscribe().as_bytes(), name]);
            }
        }
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

    /// Sends something on the subscribed connection, which is opened if need be.
    fn tell_subscriber(&mut self, args: &[&[u8]]) {
        let Some(backend) = self.subscriptions.backend else { return self.move_subscriptions() };
        let mut frame = Vec::new();
        write_request(&mut frame, args.to_vec());
        self.backends[backend].wire.outbox.push_owned(frame);
        self.mark_backend(backend);
    }

    /// Makes sure that there is a subscribed connection while anybody wants one.
    pub fn move_subscriptions(&mut self) {
        if self.subscriptions.backend.is_some() || self.subscriptions.topics.is_empty() {
            return;
        }
        let topology = self.topology.clone();
        let nodes: Vec<_> = topology
            .primaries()
            .filter(|node| node.health != Health::Failed && self.may_connect(node.addr, node.id))
            .collect();
        let Some(node) = fastrand::choice(nodes) else { return };
        let ix = self.open_backend(node.addr, node.id, Version::Resp2, Lane::Exclusive, None);
        self.backends[ix].is_one_way = true;
        self.subscriptions.backend = Some(ix);
        for kind in [Kind::Channel, Kind::Pattern] {
            let topics = self.subscriptions.topics.iter_mut().filter(|((other, _), _)| *other == kind);
            let mut args: Vec<&[u8]> = vec![kind.subscribe().as_bytes()];
            for ((_, name), topic) in topics {
                topic.unconfirmed = 1;
                args.push(name);
            }
            if args.len() > 1 {
                let mut frame = Vec::new();
                write_request(&mut frame, args);
                self.backends[ix].wire.outbox.push_owned(frame);
            }
        }
    }

    /// A connection was closed; if it was the subscribed one, another takes its place.
    pub fn subscriber_lost(&mut self, backend: usize) {
        if self.subscriptions.is_subscriber(backend) {
            self.subscriptions.backend = None;
        }
    }

    /// Asks the subscribed connection for a sign of life, and lets go of it when there is none or nobody
    /// needs it. Called once a second.
    pub fn check_subscriber(&mut self) {
        let Some(ix) = self.subscriptions.backend else { return };
        let silent = self.now.saturating_duration_since(self.backends[ix].wire.heard_at);
        if self.subscriptions.topics.is_empty() {
            self.close_backend(ix, false);
        } else if silent > SUBSCRIBER_TIMEOUT {
            self.close_backend(ix, true);
        } else {
            self.tell_subscriber(&[b"PING"]);
        }
    }

    /// Something came on the subscribed connection.
    pub fn on_message(&mut self, message: &[u8]) {
        let mut parts: [&[u8]; 4] = [b""; 4];
        let Some(end) = memchr::memchr(b'\n', message) else { return };
        let mut rest = &message[end + 1..];
        for part in &mut parts {
            let Ok(advance) = ReplyScanner::default().advance(rest) else { return };
            if !advance.is_done || advance.consumed == 0 {
                break;
            }
            *part = text_of(&rest[..advance.consumed]);
            rest = &rest[advance.consumed..];
        }
        let kind = match parts[0] {
            b"message" => Kind::Channel,
            b"pmessage" => Kind::Pattern,
            b"subscribe" => return self.on_confirmed(Kind::Channel, parts[1]),
            b"psubscribe" => return self.on_confirmed(Kind::Pattern, parts[1]),
            _ => return,
        };
        let Some(topic) = self.subscriptions.topics.get(&(kind, Name::from(parts[1]))) else { return };
        for key in topic.sessions.clone() {
            self.push_to(key, message);
        }
    }

    fn on_confirmed(&mut self, kind: Kind, name: &[u8]) {
        if let Some(topic) = self.subscriptions.topics.get_mut(&(kind, Name::from(name))) {
            topic.unconfirmed = topic.unconfirmed.saturating_sub(1);
            self.confirm_pending();
        }
    }

    /// Sends a client something that it did not ask for just now; never inside another reply.
    fn push_to(&mut self, key: SessionKey, message: &[u8]) {
        let now = self.now_us;
        let limit = self.config.output_hard_limit;
        let Some(session) = self.session_of(key).filter(|session| session.closing.is_none()) else { return };
        let mut bytes = message.to_vec();
        if session.state.version == Version::Resp3 {
            bytes[0] = b'>';
        }
        if matches!(session.busy, Some(Busy::Relaying { .. })) {
            let entry = Entry {
                place: Place::Waiting,
                came_at: now,
                family: Family::Pubsub,
                outcome: Outcome::Ok,
                is_mute: false,
            };
            let ticket = session.pipeline.push(entry);
            session.pipeline.store(ticket, Outcome::Ok, bytes);
            if session.pipeline.stored() > limit {
                self.cut(key);
            }
            return;
        }
        session.out.extend_from_slice(&bytes);
        if session.unwritten() > limit {
            return self.cut(key);
        }
        self.mark_session(key.ix as usize);
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
