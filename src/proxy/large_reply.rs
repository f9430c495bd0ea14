//! A large reply, passed on to its client as it comes: it is never stored whole, and it delays nobody
//! else.
//!
//! How large a reply is shows when it arrives, on the connection that all clients share. A read is then
//! asked again over a connection of the client's own, which is read no faster than the client reads;
//! what comes on the shared one is thrown away. What changed something cannot be asked again and is
//! stored, up to a limit: beyond it, the client gets an error, or the connection ends when nobody asked.

use super::core::{Backend, Core};
use super::error_reply::ErrorReply;
use super::flight::{Held, Lane, Purpose, Tag};
use super::pipeline::Place;
use super::redirect::Cause;
use super::session::Busy;
use super::settle::ASKING;
use crate::telemetry::{Outcome, Reason};

/// While a large reply is passed on, its node is not read while so much waits for the client.
const RELAY_WINDOW: usize = 256 << 10;

impl Core {
    /// A reply is larger than what is kept of one: passed on as it comes where that is possible.
    pub fn on_large_reply(&mut self, ix: usize, size: usize) {
        let backend = &self.backends[ix];
        let mut is_too_large = size > self.config.output_hard_limit;
        let answer = backend.wire.flights.front().filter(|front| {
            front.tag.purpose == Purpose::Answer && front.skip == 0 && !self.backends[ix].is_subscriber
        });
        let Some(front) = answer else {
            if is_too_large {
                tracing::warn!(node = %backend.wire.node, size, "a node sent more than was asked for");
                self.close_backend(ix, true);
            }
            return;
        };
        let (tag, len) = (front.tag, front.len as usize);
        is_too_large |= self.room_of_errand(&tag).is_some_and(|room| size > room);
        if backend.lane != Lane::Shared {
            if is_too_large {
                self.refuse_large(ix, &tag);
            }
            return;
        }
        let is_read = self.table.get(tag.command).flags.contains(crate::command::Flags::READONLY);
        let is_followed = backend
            .wire
            .flights
            .iter()
            .skip(1)
            .any(|other| other.tag.session == tag.session && other.tag.aim.slot() == tag.aim.slot());
        let is_part = self.session_of(tag.session).is_none_or(|session| {
            session.pipeline.get_mut(tag.ticket).is_none_or(|entry| !matches!(entry.place, Place::Waiting))
        });
        if is_read && !is_followed && !is_part && tag.aim.slot().is_some() {
            let sent = self.backends[ix].wire.outbox.front(len);
            let request = sent.strip_prefix(ASKING).unwrap_or(sent).to_vec();
            let again = Tag { purpose: Purpose::Stream, lane: Lane::Exclusive, ..tag };
            let retry_at = self.now_us;
            self.note_follower(&tag, false);
            self.hold(Held {
                tag: again,
                skip: 0,
                request,
                cause: Cause::Unreachable,
                retry_at,
                behind: 0,
                is_overtaken: false,
            });
            self.note_follower(&tag, false);
            self.discard_front(ix);
        } else if is_too_large {
            self.refuse_large(ix, &tag);
        }
    }

    fn refuse_large(&mut self, ix: usize, tag: &Tag) {
        let error = match self.is_of_errand(tag) {
            true => ErrorReply::CrossSlotTooLarge { limit: self.config.cross_slot_bytes },
            false => ErrorReply::ReplyTooLarge { limit: self.config.output_hard_limit },
        };
        self.end_watched(ix, tag);
        self.discard_front(ix);
        self.answer_error(tag, Outcome::Failed, Reason::TooLarge, &error);
    }

    fn discard_front(&mut self, ix: usize) {
        let backend = &mut self.backends[ix];
        backend.is_discarding = true;
        if let Some(front) = backend.wire.flights.front_mut() {
            front.tag.purpose = Purpose::Discard;
        }
    }

    /// A piece of a large reply, on its way to the client.
    pub fn relay(&mut self, ix: usize, bytes: &[u8], is_done: bool) {
        let Some(tag) = self.backends[ix].wire.flights.front().map(|front| front.tag) else { return };
        if is_done && !self.backends[ix].is_relaying {
            return self.on_reply(ix, bytes);
        }
        let Some(session) = self.session_of(tag.session) else { return self.close_backend(ix, false) };
        // A client that was cut is owed nothing more; what it got in part must not be continued.
        let Some(entry) = session.pipeline.get_mut(tag.ticket) else { return self.close_backend(ix, false) };
        let is_mute = entry.is_mute;
        session.busy = Some(Busy::Relaying { backend: ix });
        if is_done {
            session.busy = None;
            self.backends[ix].is_relaying = false;
            self.answer_part(&tag, Outcome::Ok, bytes);
            return self.drop_front(ix);
        }
        if bytes.is_empty() {
            return;
        }
        if !is_mute {
            session.out.extend_from_slice(bytes);
        }
        let is_behind = session.unwritten() > RELAY_WINDOW;
        self.mark_session(tag.session.ix as usize);
        let backend = &mut self.backends[ix];
        backend.is_relaying = true;
        backend.is_paused = is_behind;
    }

    /// The client has taken what waited for it: a node that was not read for it may be read again.
    pub fn relay_drained(&mut self, ix: usize) {
        if let Some(Busy::Relaying { backend }) = self.sessions[ix].busy
            && self.sessions[ix].unwritten() <= RELAY_WINDOW
            && let Some(backend_state) = self.backends.get_mut(backend)
            && std::mem::take(&mut backend_state.is_paused)
        {
            self.effects.readable_backends.push(backend);
        }
    }
}

impl Backend {
    /// Whether the bytes of the reply that arrives go on to the client at once.
    #[inline]
    pub fn is_streaming_reply(&self, reply: &[u8]) -> bool {
        self.lane == Lane::Exclusive
            && self.wire.flights.front().is_some_and(|front| front.tag.purpose == Purpose::Stream)
            && (self.is_relaying || reply.first() != Some(&b'-'))
    }
}
