//! Requests that wait for a better moment: their shard has no reachable primary, or the node said "not
//! now".
//!
//! Order is kept: of one session and slot, a later request never leaves before an earlier one. How many
//! wait, their bytes, and how long are bounded.

use super::core::{Core, NO_BACKEND};
use super::error_reply::ErrorReply;
use super::flight::{Aim, Held, Lane, Purpose, SessionKey, Tag};
use super::redirect::Cause;
use super::router::ScriptUse;
use super::session::Gate;
use super::settle::{ASKING, is_follower};
use crate::command::Flags;
use crate::telemetry::{Outcome, Reason};
use crate::topology::Slot;
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::time::Duration;

/// A request that was sent to a particular node, which takes none for so long, asks the slot's owner again:
/// a connection is there within milliseconds, or not at all.
const NODE_PATIENCE: Duration = Duration::from_millis(500);

/// Parked requests are looked at when the topology changes or a node can be reached again; for whatever
/// else may help them, and for the end of their time, also at this pace, and the less often the more there
/// are: looking at them must not delay requests for other shards.
const PARKED_PACE: Duration = Duration::from_millis(5);
const PARKED_COST: Duration = Duration::from_micros(10);

/// One client may have so many parts of what may be held for all, so that others find room.
const CLIENT_SHARE: usize = 4;

/// Whose order a request must keep, and where.
fn place_of(tag: &Tag) -> Option<(SessionKey, Slot)> {
    tag.aim.slot().map(|slot| (tag.session, slot))
}

impl Core {
    /// Lets a request wait, or refuses it when too much waits already.
    pub fn hold(&mut self, mut held: Held) {
        let (key, size) = (held.tag.session, held.request.len());
        if !self.take_room(key, size) {
            return self.answer_error(
                &held.tag,
                Outcome::Refused,
                Reason::Overloaded,
                &ErrorReply::HeldLimit,
            );
        }
        if held.tag.held_at == 0 {
            held.tag.held_at = self.now_us;
            self.recorder.held();
        }
        let Some(session) = self.session_of(key) else { return self.stats.shares.release(size) };
        let mut has_later = false;
        if let Some(slot) = held.tag.aim.slot() {
            let (ticket, part) = (held.tag.ticket, held.tag.part);
            session.gate(slot, ticket, part, NO_BACKEND);
            let is_later = |other: &Gate| other.slot == slot && (other.ticket, other.part) > (ticket, part);
            has_later = session.gates.iter().any(is_later);
        }
        session.held_requests += 1;
        session.held_bytes += size;
        self.wants_release = true;
        if !has_later {
            return self.held.push_back(held);
        }
        // It was tried while a later one waited: it still comes first.
        let (tag, place) = (held.tag, place_of(&held.tag));
        let is_later = |other: &Held| {
            place_of(&other.tag) == place && (other.tag.ticket, other.tag.part) > (tag.ticket, tag.part)
        };
        if let Some(at) = self.parked.iter().position(is_later) {
            self.parked.insert(at, held);
        } else {
            let at = self.held.iter().position(is_later).unwrap_or(self.held.len());
            self.held.insert(at, held);
        }
    }

    /// Takes the room for one more request of a client, if there is any.
    fn take_room(&mut self, key: SessionKey, size: usize) -> bool {
        let (requests, bytes) = (self.config.held_requests, self.config.held_bytes);
        // A single one may be larger than its client's share: it has to fit somewhere.
        let is_fair = self.session_of(key).is_none_or(|session| {
            session.held_requests == 0
                || (session.held_requests < requests / CLIENT_SHARE
                    && session.held_bytes + size <= bytes / CLIENT_SHARE)
        });
        is_fair && self.stats.shares.hold(size, requests, bytes)
    }

    /// A request of a client is held no more.
    fn unhold(&mut self, key: SessionKey, size: usize) {
        self.stats.shares.release(size);
        if let Some(session) = self.session_of(key) {
            session.held_requests -= 1;
            session.held_bytes -= size;
        }
    }

    /// Sends what can be sent of the held requests, in order, and gives up those whose time is over.
    pub fn release_held(&mut self) {
        self.wants_release = false;
        let is_new_topology =
            std::mem::replace(&mut self.released_version, self.topology.version) != self.topology.version;
        if std::mem::take(&mut self.wants_parked) || self.now_us >= self.parked_due {
            let parked = std::mem::take(&mut self.parked);
            self.parked_places.clear();
            for held in parked {
                if let Some((held, _)) = self.release(held, is_new_topology, false) {
                    self.park(held);
                }
            }
            let pace = PARKED_PACE + PARKED_COST * self.parked.len() as u32;
            self.parked_due = self.now_us + pace.as_micros() as u64;
        }
        let mut waiting: FxHashSet<(SessionKey, Slot)> = FxHashSet::default();
        let mut kept = VecDeque::new();
        for held in std::mem::take(&mut self.held) {
            let place = place_of(&held.tag);
            let is_behind = place.is_some_and(|place| waiting.contains(&place));
            match self.release(held, is_new_topology, is_behind) {
                None => {}
                Some((held, true)) => self.park(held),
                Some((held, false)) => {
                    waiting.extend(place);
                    kept.push_back(held);
                }
            }
        }
        // Answers given meanwhile may have held further requests.
        kept.append(&mut self.held);
        self.held = kept;
    }

    /// How many requests are held.
    pub fn held_count(&self) -> usize {
        self.held.len() + self.parked.len()
    }

    /// Sends a held request, or gives it up, or gives it back: then also whether nothing but an event can
    /// help it. `is_behind`: an earlier one for its place waits.
    fn release(&mut self, mut held: Held, is_new_topology: bool, is_behind: bool) -> Option<(Held, bool)> {
        let (now, size) = (self.now_us, held.request.len());
        let key = held.tag.session;
        let Some(session) = self.session_of(key) else {
            self.unhold(key, size);
            return None;
        };
        if held.tag.purpose == Purpose::Stream && !session.pipeline.is_first(held.tag.ticket) {
            // Nothing delays it but the client's earlier replies.
            held.tag.held_at = now;
        }
        let tag = held.tag;
        if held.behind == 0 && held.is_overtaken {
            self.unhold(key, size);
            self.answer_error(&tag, Outcome::Refused, Reason::Redirects, &ErrorReply::Overtaken);
            return None;
        }
        if now - tag.held_at > self.config.hold.as_micros() as u64 {
            self.unhold(key, size);
            let held_for = Duration::from_micros(now - tag.held_at);
            let error = ErrorReply::GaveUp { cause: held.cause, slot: tag.aim.slot(), held: held_for };
            let reason = match held.cause {
                Cause::Moved | Cause::Ask => Reason::Redirects,
                _ => Reason::Unreachable,
            };
            self.answer_error(&tag, Outcome::Refused, reason, &error);
            return None;
        }
        // Not by the changes that redirects make themselves: nodes that disagree would be asked without end.
        let is_told = is_new_topology && !matches!(held.cause, Cause::TryAgain | Cause::Moved | Cause::Ask);
        if (now < held.retry_at && !is_told) || is_behind || held.behind > 0 {
            return Some((held, false));
        }
        if place_of(&tag).is_some_and(|place| self.parked_places.contains(&place)) {
            return Some((held, true));
        }
        match self.try_forward(held) {
            None => {
                self.unhold(key, size);
                self.recorder.retried();
                None
            }
            Some(held) => {
                let is_stuck = self.is_stuck(&held.tag);
                Some((held, is_stuck))
            }
        }
    }

    /// Whether a request that could not be sent waits for its node, and not for its turn.
    fn is_stuck(&self, tag: &Tag) -> bool {
        match (tag.lane, tag.aim) {
            (Lane::Shared, Aim::Owner(slot)) => self.pipe_of(slot, tag.version).is_none(),
            (Lane::Exclusive, Aim::Owner(_)) => tag.purpose != Purpose::Stream,
            _ => false,
        }
    }

    fn park(&mut self, held: Held) {
        self.parked_places.extend(place_of(&held.tag));
        self.parked.push_back(held);
    }

    /// Sends a request if its node takes requests now; gives it back otherwise.
    pub fn try_forward(&mut self, mut held: Held) -> Option<Held> {
        let mut tag = held.tag;
        if let Aim::Asked { node, slot } = tag.aim
            && (self.now_us > held.retry_at + NODE_PATIENCE.as_micros() as u64 || !self.is_node(node))
        {
            tag.aim = Aim::Owner(slot);
        }
        if tag.purpose == Purpose::Stream {
            let session = self.session_of(tag.session)?;
            if !session.pipeline.is_first(tag.ticket) || session.busy.is_some() {
                return Some(held);
            }
        }
        let backend = match (tag.lane, tag.aim) {
            (Lane::Shared, Aim::Owner(slot)) => {
                let pipe = self.pipe_of(slot, tag.version);
                pipe.or_else(|| self.pipe_while_handing_over(slot, &tag)).map(|(ix, shard)| {
                    self.recorder.shard(shard, 1);
                    ix
                })
            }
            (Lane::Shared, Aim::Any) => self.any_pipe(tag.version),
            (Lane::Shared, Aim::Asked { node, .. }) => {
                self.asked(node).and_then(|addr| self.pipe_to(addr, tag.version))
            }
            (Lane::Exclusive, aim) => self.acquire(aim, tag.version, tag.session),
        };
        let Some(backend) = backend else {
            if tag.lane == Lane::Exclusive && !self.may_open_exclusive() {
                self.answer_error(&tag, Outcome::Refused, Reason::Overloaded, &ErrorReply::Overloaded);
                return None;
            }
            held.tag.aim = tag.aim;
            return Some(held);
        };
        if tag.lane == Lane::Shared
            && let Some(slot) = tag.aim.slot()
            && let Some(session) = self.session_of(tag.session)
            && !session.gates.is_empty()
        {
            if session.would_overtake(slot, tag.ticket, tag.part, backend as u32) {
                held.tag.aim = tag.aim;
                return Some(held);
            }
            if session.pipeline.len() > 1 && held.cause == Cause::Ask {
                // It did not wait for those behind it, and they may be bound for the node it is sent to.
                let flights = &self.backends[backend].wire.flights;
                held.behind = flights.iter().filter(is_follower(&tag, slot)).count() as u32;
                if held.behind > 0 {
                    return Some(held);
                }
            }
            if let Some(session) = self.session_of(tag.session) {
                session.gate(slot, tag.ticket, tag.part, backend as u32);
            }
        }
        tag.sent_at = self.now_us;
        if self.traits[usize::from(tag.command.0)].script == Some(ScriptUse::Calls) {
            self.load_scripts(backend, &tag, &held.request);
        }
        if self.is_wait(&tag) {
            self.push_wait(backend, tag, &held.request);
            self.mark_backend(backend);
            return None;
        }
        let wire = &mut self.backends[backend].wire;
        if let Aim::Asked { .. } = tag.aim {
            wire.push(&[ASKING, &held.request], held.skip + 1, tag);
        } else if held.skip == 0 {
            wire.push_owned(held.request, tag);
        } else {
            wire.push(&[&held.request], held.skip, tag);
        }
        self.mark_backend(backend);
        None
    }

    fn is_node(&self, asked: u16) -> bool {
        self.asked(asked).is_some_and(|addr| self.topology.node_by_addr(addr).is_some())
    }

    /// A later request of the same session and slot has come back while an earlier one is held: the
    /// held one may go when all of them are back, unless one of them was served. Two reads may change
    /// places.
    pub fn note_follower(&mut self, tag: &Tag, was_served: bool) {
        let Some(slot) = tag.aim.slot() else { return };
        let table = self.table.clone();
        let is_read = |tag: &Tag| table.get(tag.command).flags.contains(Flags::READONLY);
        let follower_is_read = is_read(tag);
        let place = (tag.ticket, tag.part);
        if let Some(session) = self.session_of(tag.session).filter(|_| was_served) {
            let earlier = |gate: &&mut Gate| gate.slot == slot && (gate.ticket, gate.part) < place;
            session.gates.iter_mut().filter(earlier).for_each(|gate| gate.is_overtaken = true);
        }
        let is_earlier = |held: &&mut Held| {
            held.behind > 0
                && held.tag.session == tag.session
                && held.tag.aim.slot() == Some(slot)
                && (held.tag.ticket, held.tag.part) < (tag.ticket, tag.part)
        };
        for held in self.held.iter_mut().chain(&mut self.parked).filter(is_earlier) {
            held.behind -= 1;
            held.is_overtaken |= was_served && !(follower_is_read && is_read(&held.tag));
            self.wants_release = true;
            self.wants_parked = true;
        }
    }
}
