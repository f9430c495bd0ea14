//! Requests that wait for a better moment: their shard has no reachable primary, or the node said "not
//! now". Also the connections that a session has for itself for a while.
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
use crate::resp::Version;
use crate::telemetry::{Outcome, Reason};
use crate::topology::{NodeId, Slot};
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Exclusive connections to one node that are kept for the next who needs one.
const IDLE_EXCLUSIVE: usize = 64;
/// A request that was sent to a particular node, which takes none for so long, asks the slot's owner again:
/// a connection is there within milliseconds, or not at all.
const NODE_PATIENCE: Duration = Duration::from_millis(500);

/// Parked requests are looked at when the topology changes or a node can be reached again; for whatever
/// else may help them, and for the end of their time, also at this pace, and the less often the more there
/// are: looking at them must not delay requests for other shards.
const PARKED_PACE: Duration = Duration::from_millis(5);
const PARKED_COST: Duration = Duration::from_micros(10);

/// Whose order a request must keep, and where.
fn place_of(tag: &Tag) -> Option<(SessionKey, Slot)> {
    tag.aim.slot().map(|slot| (tag.session, slot))
}

impl Core {
    /// Lets a request wait, or refuses it when too much waits already.
    pub fn hold(&mut self, mut held: Held) {
        let key = held.tag.session;
        if self.held_count() >= self.config.held_requests
            || self.held_bytes + held.request.len() > self.config.held_bytes
        {
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
        let Some(session) = self.session_of(key) else { return };
        let mut has_later = false;
        if let Some(slot) = held.tag.aim.slot() {
            let (ticket, part) = (held.tag.ticket, held.tag.part);
            session.gate(slot, ticket, part, NO_BACKEND);
            let is_later = |other: &Gate| other.slot == slot && (other.ticket, other.part) > (ticket, part);
            has_later = session.gates.iter().any(is_later);
        }
        self.held_bytes += held.request.len();
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
        let Some(session) = self.session_of(held.tag.session) else {
            self.held_bytes -= size;
            return None;
        };
        if held.tag.purpose == Purpose::Stream && !session.pipeline.is_first(held.tag.ticket) {
            // Nothing delays it but the client's earlier replies.
            held.tag.held_at = now;
        }
        let tag = held.tag;
        if held.behind == 0 && held.is_overtaken {
            self.held_bytes -= size;
            self.answer_error(&tag, Outcome::Refused, Reason::Redirects, &ErrorReply::Overtaken);
            return None;
        }
        if now - tag.held_at > self.config.hold.as_micros() as u64 {
            self.held_bytes -= size;
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
                self.held_bytes -= size;
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
            (Lane::Shared, Aim::Owner(slot)) => self.pipe_of(slot, tag.version).map(|(ix, shard)| {
                self.recorder.shard(shard, 1);
                ix
            }),
            (Lane::Shared, Aim::Any) => self.any_pipe(tag.version),
            (Lane::Shared, Aim::Asked { node, .. }) => {
                self.asked(node).and_then(|addr| self.pipe_to(addr, tag.version))
            }
            (Lane::Exclusive, aim) => self.acquire(aim, tag.version, tag.session),
        };
        let Some(backend) = backend else {
            if tag.lane == Lane::Exclusive && self.exclusive_count >= self.config.exclusive_connections {
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

    /// A connection to a node for one session alone, new or one that was kept; requests may be queued on
    /// it at once. `None` when there is no such node now, or there are too many.
    fn acquire(&mut self, aim: Aim, version: Version, owner: SessionKey) -> Option<usize> {
        let topology = self.topology.clone();
        let node = match aim {
            Aim::Owner(slot) => topology.primary_of(slot)?,
            Aim::Asked { node, .. } => topology.node(topology.node_by_addr(self.asked(node)?)?),
            Aim::Any => topology.primaries().next()?,
        };
        if node.health == crate::topology::Health::Failed || !self.may_connect(node.addr, node.id) {
            return None;
        }
        self.acquire_at(node.addr, node.id, version, owner)
    }

    fn acquire_at(
        &mut self,
        addr: SocketAddr,
        id: NodeId,
        version: Version,
        owner: SessionKey,
    ) -> Option<usize> {
        let kept = self.idle_exclusive.get_mut(&(addr, id, version)).and_then(Vec::pop);
        if let Some(ix) = kept {
            self.backends[ix].owner = Some(owner);
            return Some(ix);
        }
        if self.exclusive_count >= self.config.exclusive_connections {
            return None;
        }
        Some(self.open_backend(addr, id, version, Lane::Exclusive, Some(owner)))
    }

    /// A reply, or the lack of one, is settled: an exclusive connection on which nothing is under way
    /// any more goes back to be used by others.
    pub fn after_flight(&mut self, ix: usize) {
        let Some(backend) = self.backends.get_mut(ix) else { return };
        let is_free = backend.lane == Lane::Exclusive
            && backend.owner.is_some()
            && backend.wire.flights.is_empty()
            && !backend.is_kept
            && backend.upload.is_none();
        // An upload continues after its probe was answered.
        if !is_free || self.is_uploading_to(ix) {
            return;
        }
        let backend = &mut self.backends[ix];
        backend.owner = None;
        backend.is_relaying = false;
        backend.is_paused = false;
        backend.is_one_way = false;
        let key = (backend.wire.addr, backend.wire.node, backend.wire.version);
        let idle = self.idle_exclusive.entry(key).or_default();
        if backend.wire.is_up() && backend.wire.outbox.is_empty() && idle.len() < IDLE_EXCLUSIVE {
            idle.push(ix);
        } else {
            self.close_backend(ix, false);
        }
    }

    fn is_uploading_to(&mut self, ix: usize) -> bool {
        let Some(owner) = self.backends[ix].owner else { return false };
        self.session_of(owner).is_some_and(
            |session| matches!(session.busy, Some(super::session::Busy::Uploading { backend, .. }) if backend == ix),
        )
    }
}
