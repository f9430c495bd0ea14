//! Requests that wait for a better moment: their shard has no reachable primary, or the node said "not
//! now". Also the connections that a session has for itself for a while.
//!
//! Order is kept: of one session and slot, a later request never leaves before an earlier one. How many
//! wait, their bytes, and how long are bounded.

use super::core::Core;
use super::error_reply::ErrorReply;
use super::flight::{Aim, Held, Lane, Purpose, SessionKey, Tag};
use super::redirect::Cause;
use super::session::Gate;
use super::settle::ASKING;
use crate::resp::Version;
use crate::telemetry::{Outcome, Reason};
use crate::topology::{NodeId, Slot};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

/// Exclusive connections to one node that are kept for the next who needs one.
const IDLE_EXCLUSIVE: usize = 64;
/// A request that was sent to a particular node, which takes none for so long, asks the slot's owner again:
/// a connection is there within milliseconds, or not at all.
const NODE_PATIENCE: Duration = Duration::from_millis(500);

impl Core {
    /// Lets a request wait, or refuses it when too much waits already.
    pub fn hold(&mut self, mut held: Held) {
        let key = held.tag.session;
        if self.held.len() >= self.config.held_requests
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
        if let Some(slot) = held.tag.aim.slot() {
            let gate = Gate { slot, ticket: held.tag.ticket, part: held.tag.part };
            if !session.gates.contains(&gate) {
                session.gates.push(gate);
            }
        }
        let has_others = held
            .tag
            .aim
            .slot()
            .is_some_and(|slot| session.gates.iter().filter(|g| g.slot == slot).count() > 1);
        self.held_bytes += held.request.len();
        let place = |tag: &Tag| (tag.ticket, tag.part);
        let is_later = |other: &Held| {
            other.tag.session == key
                && other.tag.aim.slot() == held.tag.aim.slot()
                && place(&other.tag) > place(&held.tag)
        };
        // One that came later may have been held first: it must not leave first.
        let before = if has_others { self.held.iter().position(is_later) } else { None };
        match before {
            Some(before) => self.held.insert(before, held),
            None => self.held.push_back(held),
        }
        self.wants_release = true;
    }

    /// Sends what can be sent of the held requests, in order, and gives up those whose time is over.
    pub fn release_held(&mut self) {
        self.wants_release = false;
        if self.held.is_empty() {
            return;
        }
        let is_new_topology =
            std::mem::replace(&mut self.released_version, self.topology.version) != self.topology.version;
        let hold = self.config.hold.as_micros() as u64;
        let mut waiting: HashSet<(SessionKey, Slot)> = HashSet::new();
        let mut queue = std::mem::take(&mut self.held);
        let mut kept = std::collections::VecDeque::new();
        while let Some(mut held) = queue.pop_front() {
            let mut tag = held.tag;
            let place = tag.aim.slot().map(|slot| (tag.session, slot));
            let size = held.request.len();
            let now = self.now_us;
            let Some(session) = self.session_of(tag.session) else {
                self.held_bytes -= size;
                continue;
            };
            if tag.purpose == Purpose::Stream && !session.pipeline.is_first(tag.ticket) {
                // Nothing delays it but the client's earlier replies.
                tag.held_at = now;
                held.tag.held_at = now;
            }
            if held.behind == 0 && held.is_overtaken {
                self.held_bytes -= size;
                self.answer_error(&tag, Outcome::Refused, Reason::Redirects, &ErrorReply::Overtaken);
                continue;
            }
            if self.now_us - tag.held_at > hold {
                self.held_bytes -= size;
                let held_for = Duration::from_micros(self.now_us - tag.held_at);
                let error = ErrorReply::GaveUp { cause: held.cause, slot: tag.aim.slot(), held: held_for };
                let reason = match held.cause {
                    Cause::Moved | Cause::Ask => Reason::Redirects,
                    _ => Reason::Unreachable,
                };
                self.answer_error(&tag, Outcome::Refused, reason, &error);
                continue;
            }
            // Not by the changes that redirects make themselves: nodes that disagree would be asked without end.
            let is_told =
                is_new_topology && !matches!(held.cause, Cause::TryAgain | Cause::Moved | Cause::Ask);
            let is_due = self.now_us >= held.retry_at || is_told;
            let is_first = place.is_none_or(|place| !waiting.contains(&place));
            let unsent =
                if is_due && is_first && held.behind == 0 { self.try_forward(held) } else { Some(held) };
            match unsent {
                None => {
                    self.held_bytes -= size;
                    self.recorder.retried();
                }
                Some(held) => {
                    waiting.extend(place);
                    kept.push_back(held);
                }
            }
        }
        // Answers given meanwhile may have held further requests.
        kept.append(&mut self.held);
        self.held = kept;
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
        tag.sent_at = self.now_us;
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
    /// held one may go when all of them are back, unless one of them was served.
    pub fn note_follower(&mut self, tag: &Tag, was_served: bool) {
        let Some(slot) = tag.aim.slot() else { return };
        let is_earlier = |held: &&mut Held| {
            held.behind > 0
                && held.tag.session == tag.session
                && held.tag.aim.slot() == Some(slot)
                && (held.tag.ticket, held.tag.part) < (tag.ticket, tag.part)
        };
        for held in self.held.iter_mut().filter(is_earlier) {
            held.behind -= 1;
            held.is_overtaken |= was_served;
            self.wants_release = true;
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
