//! The one connection that carries the subscriptions of all clients of a worker, to any node, as PUBLISH
//! reaches them all.
//!
//! Each channel is subscribed once, however many clients want it. When the connection is lost,
//! everything is subscribed anew at another node; messages sent in between are lost, as they are when a
//! client's own connection breaks.

use super::core::Core;
use super::fanout::text_of;
use super::flight::{Lane, SessionKey};
use super::pipeline::{Entry, Place, Ticket};
use super::pubsub::{Kind, Name, Pending};
use super::session::Busy;
use crate::resp::{ReplyScanner, Version, write_request};
use crate::telemetry::{Family, Outcome};
use crate::topology::{ANNOUNCEMENTS, Health, NodeId};
use std::time::Duration;

/// The subscribed connection is taken for dead when it says nothing for so long, though asked.
const SUBSCRIBER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the node was asked, in the order of its answers.
#[derive(Debug)]
pub enum Asked {
    /// To subscribe to these, each of which is answered by itself unless all are refused; for a client's
    /// command, or for whoever wants them.
    Topics { kind: Kind, names: Vec<Name>, unanswered: usize, owner: Option<(SessionKey, Ticket)> },
    /// A sign of life, or the end of one subscription.
    Other,
}

impl Core {
    /// Subscribes to what is not subscribed yet; `owner`: whose command it is.
    pub fn ask_for(&mut self, kind: Kind, names: Vec<Name>, owner: Option<(SessionKey, Ticket)>) {
        let words = [kind.subscribe().as_bytes()].into_iter();
        let args: Vec<&[u8]> = words.chain(names.iter().map(|name| &**name)).collect();
        let unanswered = names.len();
        self.tell_subscriber(&args, Asked::Topics { kind, names: names.clone(), unanswered, owner });
    }

    /// Sends something on the subscribed connection, which is opened, and subscribed to everything, if
    /// need be.
    pub fn tell_subscriber(&mut self, args: &[&[u8]], asked: Asked) {
        let Some(backend) = self.subscriptions.backend else { return self.move_subscriptions() };
        self.subscriptions.asked.push_back(asked);
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
        // One for each worker, which is never too many.
        self.stats.shares.take_exclusive(usize::MAX);
        let ix = self.open_backend(node.addr, node.id, Version::Resp2, Lane::Exclusive, None);
        self.backends[ix].is_one_way = true;
        self.subscriptions.backend = Some(ix);
        for kind in [Kind::Channel, Kind::Pattern] {
            let topics = self.subscriptions.topics.iter_mut().filter(|((other, _), _)| *other == kind);
            let mut names = Vec::new();
            for ((_, name), topic) in topics {
                topic.unconfirmed = 1;
                names.push(name.clone());
            }
            if !names.is_empty() {
                self.ask_for(kind, names, None);
            }
        }
    }

    /// A connection was closed; if it was the subscribed one, another takes its place.
    pub fn subscriber_lost(&mut self, backend: usize, node: NodeId) {
        if self.subscriptions.is_subscriber(backend) {
            self.subscriptions.backend = None;
            self.subscriptions.asked.clear();
            for (kind, name) in self.subscriptions.carried.drain() {
                self.stats.subscribers.drop_carried(node, kind == Kind::Pattern, &name);
            }
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
            self.tell_subscriber(&[b"PING"], Asked::Other);
        }
    }

    /// Something came on the subscribed connection.
    pub fn on_message(&mut self, message: &[u8]) {
        if message[0] == b'-' {
            return self.on_refused(message);
        }
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
            b"pmessage" if parts[2] == ANNOUNCEMENTS => return,
            b"message" => Kind::Channel,
            b"pmessage" => Kind::Pattern,
            b"subscribe" => return self.on_confirmed(Kind::Channel, parts[1]),
            b"psubscribe" => return self.on_confirmed(Kind::Pattern, parts[1]),
            word => {
                self.subscriptions.asked.pop_front();
                match word {
                    b"unsubscribe" => self.put_down(Kind::Channel, parts[1]),
                    b"punsubscribe" => self.put_down(Kind::Pattern, parts[1]),
                    _ => {}
                }
                return;
            }
        };
        let Some(topic) = self.subscriptions.topics.get(&(kind, Name::from(parts[1]))) else { return };
        for key in topic.sessions.clone() {
            self.push_to(key, message);
        }
    }

    /// The node is not subscribed to it any more.
    fn put_down(&mut self, kind: Kind, name: &[u8]) {
        if let Some(backend) = self.subscriptions.backend
            && self.subscriptions.carried.remove(&(kind, Name::from(name)))
        {
            let node = self.backends[backend].wire.node;
            self.stats.subscribers.drop_carried(node, kind == Kind::Pattern, name);
        }
    }

    fn on_confirmed(&mut self, kind: Kind, name: &[u8]) {
        if let Some(backend) = self.subscriptions.backend
            && self.subscriptions.carried.insert((kind, Name::from(name)))
        {
            let node = self.backends[backend].wire.node;
            self.stats.subscribers.carry(node, kind == Kind::Pattern, name);
        }
        if let Some(Asked::Topics { unanswered, .. }) = self.subscriptions.asked.front_mut() {
            *unanswered -= 1;
            if *unanswered == 0 {
                self.subscriptions.asked.pop_front();
            }
        }
        if let Some(topic) = self.subscriptions.topics.get_mut(&(kind, Name::from(name))) {
            topic.unconfirmed = topic.unconfirmed.saturating_sub(1);
            self.confirm_pending();
        }
    }

    /// The node refused what was asked first: with one channel that it refuses, it refuses them all.
    fn on_refused(&mut self, error: &[u8]) {
        let Some(Asked::Topics { kind, names, owner, .. }) = self.subscriptions.asked.pop_front() else {
            return;
        };
        let alone = names.first().filter(|_| names.len() == 1);
        let (refused, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.subscriptions.pending).into_iter().partition(|pending| {
                owner == Some((pending.session, pending.ticket))
                    || alone.is_some_and(|name| pending.kind == kind && pending.names.contains(name))
            });
        self.subscriptions.pending = pending;
        for name in &names {
            let topic = (kind, name.clone());
            let Some(shared) = self.subscriptions.topics.remove(&topic) else { continue };
            if alone.is_some() {
                // They may not hear it any more: as a node does to its own clients then.
                shared.sessions.into_iter().for_each(|session| self.cut(session));
            } else if !shared.sessions.is_empty() || self.is_awaited(&topic) {
                // It may be another one that is refused.
                self.subscriptions.topics.insert(topic, shared);
                self.ask_for(kind, vec![name.clone()], None);
            }
        }
        for Pending { session, ticket, kind, names } in refused {
            names.into_iter().for_each(|name| self.forget_unwanted((kind, name)));
            self.answer(session, ticket, Outcome::Error, error);
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
