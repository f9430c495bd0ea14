//! What comes on the subscribed connections → what clients are told.

use super::core::Core;
use super::fanout::text_of;
use super::flight::SessionKey;
use super::pipeline::{Entry, Place};
use super::pubsub::{Kind, Name, Pending};
use super::session::Busy;
use super::subscriber::{Asked, TopicName, is_event};
use crate::resp::{ReplyScanner, Version};
use crate::telemetry::{Family, Outcome};
use crate::topology::ANNOUNCEMENTS;

impl Core {
    /// Something came on a subscribed connection.
    pub fn on_message(&mut self, backend: usize, message: &[u8]) {
        if message[0] == b'-' {
            return self.on_refused(backend, message);
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
        let (kind, channel) = match parts[0] {
            b"message" => (Kind::Channel, parts[1]),
            b"pmessage" => (Kind::Pattern, parts[2]),
            b"smessage" => (Kind::Shard, parts[1]),
            word => {
                let of = |text: fn(Kind) -> &'static str| {
                    Kind::ALL.into_iter().find(|kind| text(*kind).as_bytes() == word)
                };
                if let Some(kind) = of(Kind::subscribe) {
                    self.on_confirmed(backend, (kind, parts[1].into()));
                } else if let Some(kind) = of(Kind::unsubscribe) {
                    self.on_ended(backend, (kind, parts[1].into()));
                } else if let Some(line) = self.line(backend) {
                    line.asked.pop_front();
                }
                return;
            }
        };
        let Some(line) = self.line(backend) else { return };
        // What is published comes by all of them.
        let is_first = line.is_home || kind == Kind::Shard || is_event(channel);
        if !is_first || (kind == Kind::Pattern && channel == ANNOUNCEMENTS) {
            return;
        }
        let Some(topic) = self.subscriptions.topics.get(&(kind, Name::from(parts[1]))) else { return };
        for key in topic.sessions.clone() {
            self.push_to(key, message);
        }
    }

    /// The node is not subscribed to it any more: as it was asked to, or because the slot has moved.
    fn on_ended(&mut self, backend: usize, topic: TopicName) {
        let Some(line) = self.line(backend) else { return };
        let node = line.node;
        if matches!(line.asked.front(), Some(Asked::End(asked)) if *asked == topic) {
            line.asked.pop_front();
        } else {
            line.wanted.remove(&topic);
            self.subscriptions.is_stale = true;
            self.shared.hint_stale();
        }
        if self.line(backend).is_some_and(|line| line.carried.remove(&topic)) {
            self.stats.subscribers.drop_carried(node, topic.0, &topic.1);
        }
    }

    fn on_confirmed(&mut self, backend: usize, topic: TopicName) {
        let Some(line) = self.line(backend) else { return };
        let node = line.node;
        if let Some(Asked::Topics { unanswered, .. }) = line.asked.front_mut() {
            *unanswered -= 1;
            if *unanswered == 0 {
                line.asked.pop_front();
            }
        }
        if line.carried.insert(topic.clone()) {
            self.stats.subscribers.carry(node, topic.0, &topic.1);
        }
        self.confirmed(topic);
        self.confirm_pending();
    }

    /// The node refused what was asked first: with one channel that it refuses, it refuses them all.
    fn on_refused(&mut self, backend: usize, error: &[u8]) {
        let Some(line) = self.line(backend) else { return };
        let Some(Asked::Topics { kind, names, owner, .. }) = line.asked.pop_front() else { return };
        line.wanted.retain(|(other, name)| *other != kind || !names.contains(name));
        names.iter().for_each(|name| self.confirmed((kind, name.clone())));
        if [&b"-MOVED"[..], b"-CLUSTERDOWN"].iter().any(|code| error.starts_with(code)) {
            // The slot's owner is another one by now.
            self.subscriptions.is_stale = true;
            return self.shared.hint_stale();
        }
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
                self.put_down_everywhere(&topic);
                shared.sessions.into_iter().for_each(|session| self.cut(session));
            } else if !shared.sessions.is_empty() || self.is_awaited(&topic) {
                // It may be another one that is refused: each is asked for by itself.
                self.subscriptions.topics.insert(topic.clone(), shared);
                if let Some(line) = self.line(backend) {
                    line.wanted.insert(topic.clone());
                }
                if let Some(shared) = self.subscriptions.topics.get_mut(&topic) {
                    shared.unconfirmed += 1;
                }
                let names = vec![name.clone()];
                let args = [kind.subscribe().as_bytes(), &**name];
                self.ask_line(backend, &args, Asked::Topics { kind, names, unanswered: 1, owner: None });
            }
        }
        for Pending { session, ticket, kind, names } in refused {
            names.into_iter().for_each(|name| self.forget_unwanted((kind, name)));
            self.answer(session, ticket, Outcome::Error, error);
        }
    }

    /// Sends a client a message: a push in RESP3.
    fn push_to(&mut self, key: SessionKey, message: &[u8]) {
        let mut bytes = message.to_vec();
        if self.session_of(key).is_some_and(|session| session.state.version == Version::Resp3) {
            bytes[0] = b'>';
        }
        self.tell(key, bytes);
    }

    /// Sends a client something that it did not ask for just now; never inside another reply.
    pub fn tell(&mut self, key: SessionKey, bytes: Vec<u8>) {
        let limit = self.config.output_hard_limit;
        let Some(session) = self.session_of(key).filter(|session| session.closing.is_none()) else { return };
        if session.replay.is_some() {
            return self.keep_until_replayed(key, &bytes);
        }
        if matches!(session.busy, Some(Busy::Relaying { .. })) {
            return self.tell_in_turn(key, bytes);
        }
        session.out.extend_from_slice(&bytes);
        if session.unwritten() > limit {
            return self.cut(key);
        }
        self.mark_session(key.ix as usize);
    }

    /// Sends a client something that it did not ask for, after the replies that it is owed now.
    pub fn tell_in_turn(&mut self, key: SessionKey, bytes: Vec<u8>) {
        let (now, limit) = (self.now_us, self.config.output_hard_limit);
        let Some(session) = self.session_of(key).filter(|session| session.closing.is_none()) else { return };
        if session.replay.is_some() {
            return self.keep_until_replayed(key, &bytes);
        }
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
    }
}
