//! A node's bytes → replies → the client's answer, another try, or the end of the request.

use super::core::Core;
use super::error_reply::ErrorReply;
use super::flight::{Aim, Held, Lane, Purpose, Tag};
use super::redirect::{Cause, Verdict, verdict};
use crate::backend::{Backoff, Flight};
use crate::telemetry::{Outcome, Reason, RedirectKind};
use crate::topology::Slot;
use std::time::Duration;

/// The bytes of ASKING as it precedes a request.
pub const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";
/// Redirects that a request follows at once; after so many, it waits between them until the time to
/// hold is over.
const QUICK_REDIRECTS: u8 = 5;

impl Core {
    /// Bytes came from a node.
    pub fn backend_bytes(&mut self, ix: usize, bytes: &[u8]) {
        self.recorder.backend_bytes_in(bytes.len() as u64);
        let Some(backend) = self.backends.get_mut(ix) else { return };
        backend.wire.heard_at = self.now;
        let mut bytes = bytes;
        let mut joined;
        if !backend.wire.is_up() {
            if !backend.wire.tail.is_empty() {
                joined = std::mem::take(&mut backend.wire.tail);
                joined.extend_from_slice(bytes);
                bytes = &joined;
            }
            match backend.wire.advance_greeting(bytes) {
                Ok(consumed) => bytes = &bytes[consumed..],
                Err(error) => {
                    tracing::warn!(node = %backend.wire.node, addr = %backend.wire.addr, %error, "cannot use a node");
                    self.recorder.backend_refused();
                    return self.close_backend(ix, true);
                }
            }
            if !backend.wire.is_up() {
                backend.wire.tail = bytes.to_vec();
                return;
            }
            self.backend_is_up(ix);
            if bytes.is_empty() {
                return;
            }
        }
        if self.backends[ix].is_raw {
            return self.feed_bytes(ix, bytes);
        }
        let wire = &mut self.backends[ix].wire;
        if wire.tail.is_empty() {
            let consumed = self.read_replies(ix, bytes);
            if let Some(backend) = self.backends.get_mut(ix) {
                backend.wire.tail.extend_from_slice(&bytes[consumed..]);
            }
        } else {
            wire.tail.extend_from_slice(bytes);
            self.read_reply_tail(ix);
        }
        if std::mem::take(&mut self.wants_topology) {
            self.load_topology();
        }
    }

    fn read_reply_tail(&mut self, ix: usize) {
        let mut tail = std::mem::take(&mut self.backends[ix].wire.tail);
        let consumed = self.read_replies(ix, &tail);
        if consumed == tail.len() {
            self.recycle(tail);
        } else if let Some(backend) = self.backends.get_mut(ix) {
            tail.drain(..consumed);
            backend.wire.tail = tail;
        }
    }

    /// Takes the whole replies in `buf`; returns how many bytes are done with. The connection may be
    /// closed meanwhile.
    fn read_replies(&mut self, ix: usize, buf: &[u8]) -> usize {
        let mut start = 0;
        loop {
            let Some(backend) = self.backends.get_mut(ix) else { return buf.len() };
            let from = start + backend.wire.scanned;
            if from == buf.len() {
                return start;
            }
            let Ok(advance) = backend.wire.scanner.advance(&buf[from..]) else {
                tracing::warn!(node = %backend.wire.node, "a node sent bytes that are not a reply");
                self.close_backend(ix, true);
                return buf.len();
            };
            let end = from + advance.consumed;
            if backend.is_streaming_reply(&buf[start..]) {
                let is_done = advance.is_done;
                self.relay(ix, &buf[start..end], is_done);
                start = end;
            } else if advance.is_done {
                backend.wire.scanned = 0;
                let is_discarding = std::mem::take(&mut backend.is_discarding);
                if is_discarding {
                    self.drop_front(ix);
                } else {
                    self.on_reply(ix, &buf[start..end]);
                }
                start = end;
            } else if backend.is_discarding {
                start = end;
            } else {
                backend.wire.scanned = end - start;
                let size = end - start + backend.wire.scanner.body_left();
                if size > self.config.stream_threshold {
                    self.on_large_reply(ix, size);
                    let Some(backend) = self.backends.get_mut(ix) else { return buf.len() };
                    if backend.is_discarding {
                        backend.wire.scanned = 0;
                        start = end;
                    }
                }
            }
            if !advance.is_done {
                return start;
            }
        }
    }

    pub fn drop_front(&mut self, ix: usize) {
        let wire = &mut self.backends[ix].wire;
        if let Some(flight) = wire.flights.pop_front() {
            wire.outbox.pop_front(flight.len as usize);
        }
        self.after_flight(ix);
    }

    /// One whole reply of a node.
    #[inline]
    pub fn on_reply(&mut self, ix: usize, reply: &[u8]) {
        let backend = &mut self.backends[ix];
        if backend.is_subscriber {
            return self.on_message(ix, reply);
        }
        let Some(front) = backend.wire.flights.front_mut() else {
            // Unasked: a push, or why the node is about to close ("max number of clients reached").
            if !self.on_ear(ix, reply) && reply[0] != b'>' {
                self.close_backend(ix, true);
            }
            return;
        };
        if reply[0] == b'>' {
            return;
        }
        if front.skip > 0 {
            front.skip -= 1;
            if backend.bounce.is_none() {
                let tag = front.tag;
                let bounce = if reply[0] == b'-' && !self.is_wait(&tag) {
                    Some(reply.to_vec())
                } else {
                    self.refusal_of_wait(&tag, reply)
                };
                self.backends[ix].bounce = bounce;
            }
            return;
        }
        if reply[0] == b'-' || backend.bounce.is_some() {
            let tag = front.tag;
            if tag.purpose == Purpose::Check {
                let refusal = self.backends[ix].bounce.take();
                let (outcome, reply) = match &refusal {
                    Some(refusal) => (Outcome::Error, &**refusal),
                    None => (Outcome::Error, reply),
                };
                self.note_refusal(reply);
                let Some(flight) = self.backends[ix].wire.flights.pop_front() else { return };
                self.backends[ix].wire.outbox.pop_front(flight.len as usize);
                return self.settle(ix, &flight.tag, outcome, reply);
            }
            if self.is_wait(&tag)
                && let Some(refusal) = self.backends[ix].bounce.take()
            {
                return self.on_error(ix, &refusal);
            }
            if reply[0] == b'-' {
                return self.on_error(ix, reply);
            }
            self.backends[ix].bounce = None;
        }
        let backend = &mut self.backends[ix];
        let Some(flight) = backend.wire.flights.pop_front() else { return };
        backend.wire.outbox.pop_front(flight.len as usize);
        if flight.tag.lane == Lane::Exclusive && flight.tag.purpose == Purpose::Answer {
            self.keep_watching(ix, &flight.tag);
            self.end_watched(ix, &flight.tag);
        }
        self.settle(ix, &flight.tag, Outcome::Ok, reply);
        if self.backends.get(ix).is_some_and(|backend| backend.lane == Lane::Exclusive) {
            self.after_flight(ix);
        }
    }

    /// An error reply: the client's answer, or a reason to try elsewhere or later.
    fn on_error(&mut self, ix: usize, reply: &[u8]) {
        self.note_script_error(ix, reply);
        self.note_refusal(reply);
        let backend = &mut self.backends[ix];
        let bounce = backend.bounce.take().filter(|_| reply.starts_with(b"-EXECABORT"));
        let Some(front) = backend.wire.flights.front() else { return };
        let tag = front.tag;
        if let Some(next) = self.next_for_script(&tag, reply) {
            return self.bounce(ix, Cause::Moved, next, true);
        }
        let is_of_errand = self.is_of_errand(&tag);
        let backend = &mut self.backends[ix];
        let is_watched = backend.is_kept;
        let judged = bounce.as_deref().unwrap_or(reply);
        let verdict = match verdict(judged) {
            // Its plan looks for a slot that is not being moved.
            Verdict::Wait(Cause::TryAgain) if is_of_errand => Verdict::Final,
            verdict => verdict,
        };
        let backend = &mut self.backends[ix];
        match verdict {
            Verdict::Final => {
                let Some(flight) = backend.wire.flights.pop_front() else { return };
                backend.wire.outbox.pop_front(flight.len as usize);
                if is_watched {
                    self.end_watched(ix, &flight.tag);
                }
                let is_told = bounce.is_some() && !is_of_errand;
                let told = if is_told {
                    Some(super::doubt::abort_line(judged))
                } else {
                    super::scripts::undeclared_key(judged)
                };
                self.settle(ix, &flight.tag, Outcome::Error, told.as_deref().unwrap_or(judged));
                self.after_flight(ix);
            }
            // The watch was for this node and is lost: the transaction must not run elsewhere.
            _ if is_watched && tag.purpose == Purpose::Answer => {
                let Some(flight) = backend.wire.flights.pop_front() else { return };
                backend.wire.outbox.pop_front(flight.len as usize);
                self.watch_bounced(&flight.tag);
                self.after_flight(ix);
            }
            Verdict::Moved(target) => {
                self.recorder.redirect(RedirectKind::Moved);
                let addr = self.backends[ix].wire.addr;
                let seen = self.shared.load();
                let known = target.resolve(addr, &seen);
                if let Some(node) = known.and_then(|addr| seen.node_by_addr(addr)) {
                    self.shared.patch(&seen, target.slot, node);
                } else {
                    self.shared.hint_stale();
                }
                self.bounce(ix, Cause::Moved, Aim::Owner(target.slot), known.is_some());
                // Not now: this connection may be given up by it and its place be taken, while more of
                // its replies are to be read.
                self.wants_topology = true;
            }
            Verdict::Ask(target) => {
                self.recorder.redirect(RedirectKind::Ask);
                let addr = self.backends[ix].wire.addr;
                match target.resolve(addr, &self.topology) {
                    Some(addr) => {
                        let node = self.intern(addr);
                        self.bounce(ix, Cause::Ask, Aim::Asked { node, slot: target.slot }, true);
                    }
                    None => {
                        self.shared.hint_stale();
                        self.bounce(ix, Cause::Ask, Aim::Owner(target.slot), false);
                    }
                }
            }
            Verdict::Wait(cause) => {
                self.recorder.redirect(kind_of(cause));
                if cause != Cause::TryAgain {
                    self.shared.hint_stale();
                }
                let aim = match tag.aim {
                    // The importing node has only some of the keys: the next try begins at the owner.
                    Aim::Asked { slot, .. } => Aim::Owner(slot),
                    aim => aim,
                };
                self.bounce(ix, cause, aim, false);
            }
        }
    }

    /// Takes the oldest request back from a connection, to try it again: at once, or a little later.
    fn bounce(&mut self, ix: usize, cause: Cause, aim: Aim, is_at_once: bool) {
        let backend = &mut self.backends[ix];
        let Some(Flight { len, skip: _, mut tag }) = backend.wire.flights.pop_front() else { return };
        let sent = if len == 0 { &[] } else { backend.wire.outbox.front(len as usize) };
        let mut request = sent.strip_prefix(ASKING).unwrap_or(sent).to_vec();
        backend.wire.outbox.pop_front(len as usize);
        let (mut aim, mut cause, mut is_at_once) = (aim, cause, is_at_once);
        if self.is_wait(&tag) {
            (request, aim) = self.unpush_wait(ix, &tag, aim, &request);
            if cause == Cause::Ask {
                // Not there, but here and with another key.
                (cause, is_at_once) = (Cause::TryAgain, false);
            }
        }
        if tag.purpose == Purpose::Discard || request.is_empty() {
            if tag.purpose == Purpose::Answer {
                // A streamed request: its bytes are gone.
                self.answer_error(&tag, Outcome::Refused, Reason::Redirects, &ErrorReply::UploadMoved);
            }
            return self.after_flight(ix);
        }
        let behind =
            if cause == Cause::Ask || tag.lane == Lane::Exclusive { 0 } else { self.count_followers(&tag) };
        self.note_follower(&tag, false);
        let is_at_once = is_at_once && tag.redirects < QUICK_REDIRECTS;
        if matches!(cause, Cause::Moved | Cause::Ask) {
            tag.redirects = tag.redirects.saturating_add(1);
        }
        tag.aim = aim;
        if self.now_us.saturating_sub(tag.sent_at) > self.config.hold.as_micros() as u64 {
            // A command that blocked meanwhile did not wait for a node to serve it.
            tag.held_at = 0;
        }
        let wait = if is_at_once { Duration::ZERO } else { wait_of(cause, tag.waits) };
        tag.waits = tag.waits.saturating_add(u8::from(!is_at_once));
        let skip = replies_before_last(&request);
        self.after_flight(ix);
        let Some(request) = self.with_time_left(&tag, request) else {
            let reply = self.time_is_over(&tag);
            return self.answer_part(&tag, Outcome::Ok, &reply);
        };
        let retry_at = self.now_us + wait.as_micros() as u64;
        let is_overtaken = self.is_overtaken(&tag);
        self.hold(Held { tag, skip, request, cause, retry_at, behind, is_overtaken });
    }

    pub fn is_overtaken(&mut self, tag: &Tag) -> bool {
        self.session_of(tag.session).is_some_and(|session| {
            session
                .gates
                .iter()
                .any(|gate| gate.ticket == tag.ticket && gate.part == tag.part && gate.is_overtaken)
        })
    }

    /// Later requests of the same session and slot that are under way, wherever.
    fn count_followers(&mut self, tag: &Tag) -> u32 {
        let (Some(slot), Some(session)) = (tag.aim.slot(), self.session_of(tag.session)) else { return 0 };
        if session.pipeline.len() <= 1 {
            return 0;
        }
        let is_follower = is_follower(tag, slot);
        let shared = self.backends.iter().filter(|(_, backend)| backend.lane == Lane::Shared);
        shared.map(|(_, backend)| backend.wire.flights.iter().filter(&is_follower).count() as u32).sum()
    }
}

/// Whether a request under way is a later one of the session of `tag`, for its slot.
pub fn is_follower(tag: &Tag, slot: Slot) -> impl Fn(&&Flight<Tag>) -> bool {
    move |other| {
        other.tag.session == tag.session
            && other.tag.purpose == Purpose::Answer
            && other.tag.aim.slot() == Some(slot)
            && (other.tag.ticket, other.tag.part) > (tag.ticket, tag.part)
    }
}

fn wait_of(cause: Cause, waits: u8) -> Duration {
    let (first, most) = cause.waits();
    Backoff::at(first, most, u32::from(waits))
}

/// How many replies come before the one that counts, when several requests travel as one: a
/// transaction with MULTI and what it queued.
pub fn replies_before_last(request: &[u8]) -> u32 {
    let mut count = 0;
    super::scripts::each_request(request, |_| count += 1);
    u32::saturating_sub(count, 1)
}

fn kind_of(cause: Cause) -> RedirectKind {
    match cause {
        Cause::Moved => RedirectKind::Moved,
        Cause::Ask => RedirectKind::Ask,
        Cause::TryAgain => RedirectKind::TryAgain,
        Cause::ClusterDown | Cause::Unreachable => RedirectKind::ClusterDown,
        Cause::Loading => RedirectKind::Loading,
        Cause::MasterDown => RedirectKind::MasterDown,
        Cause::ReadOnly => RedirectKind::ReadOnly,
    }
}
