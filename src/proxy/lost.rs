//! A connection broke with requests on it: which of them may be repeated, in their order, and which clients
//! must be told that nobody knows.

use super::core::{Backend, Core};
use super::error_reply::ErrorReply;
use super::flight::{Aim, Held, Lane, Purpose, SessionKey, Tag};
use super::pipeline::Ticket;
use super::redirect::Cause;
use super::settle::{ASKING, replies_before_last};
use crate::backend::Flight;
use crate::command::{Flags, Spec};
use crate::telemetry::{Outcome, Reason};
use crate::topology::Slot;
use std::collections::{HashMap, HashSet};

/// A request whose connection broke.
struct LostRequest {
    tag: Tag,
    request: Vec<u8>,
    /// Whether the node may have run it.
    was_sent: bool,
    is_repeatable: bool,
}

impl Core {
    /// The requests of these sessions for these slots that are under way.
    fn list_flights(
        &self,
        places: &HashSet<(SessionKey, Slot)>,
    ) -> HashMap<(SessionKey, Slot), Vec<(Ticket, u32)>> {
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        if places.is_empty() {
            return found;
        }
        let shared = self.backends.iter().filter(|(_, backend)| backend.lane == Lane::Shared);
        for flight in shared.flat_map(|(_, backend)| backend.wire.flights.iter()) {
            let tag = &flight.tag;
            if let (Purpose::Answer, Some(slot)) = (tag.purpose, tag.aim.slot())
                && places.contains(&(tag.session, slot))
            {
                found.entry((tag.session, slot)).or_default().push((tag.ticket, tag.part));
            }
        }
        found
    }

    /// A connection broke: each request on it is held again, or its client is told.
    pub fn lose_flights(&mut self, backend: &mut Backend) {
        let wire = &mut backend.wire;
        let table = self.table.clone();
        if let Some(owner) = backend.owner.filter(|_| backend.upload.is_some()) {
            self.upload_lost(owner);
        }
        let mut lost = Vec::with_capacity(wire.flights.len());
        while let Some(Flight { len, skip: _, tag }) = wire.flights.pop_front() {
            let was_sent = wire.outbox.was_front_sent(len as usize);
            // Of a streamed request nothing is kept.
            let request = if len == 0 { &[] } else { wire.outbox.front(len as usize) };
            let request = self.own_request(&tag, request.strip_prefix(ASKING).unwrap_or(request)).to_vec();
            wire.outbox.pop_front(len as usize);
            let is_repeatable = !request.is_empty()
                && (!was_sent
                    || tag.purpose != Purpose::Answer
                    || self.is_repeatable(table.get(tag.command), &request, tag.lane));
            lost.push(LostRequest { tag, request, was_sent, is_repeatable });
        }
        self.keep_order(&mut lost);
        let places = lost.iter().filter_map(|lost| Some((lost.tag.session, lost.tag.aim.slot()?))).collect();
        let elsewhere = self.list_flights(&places);
        for LostRequest { mut tag, request, was_sent, is_repeatable } in lost {
            if tag.purpose == Purpose::Discard {
                continue;
            }
            if tag.purpose == Purpose::Stream && backend.is_relaying {
                self.cut(tag.session);
                continue;
            }
            if backend.is_one_way && backend.wire.outbox.unsent() > 0 {
                self.answer_error(&tag, Outcome::Refused, Reason::Unreachable, &ErrorReply::UploadMoved);
                continue;
            }
            // A transaction that may have run must not be reported as one that a watch prevented.
            if backend.is_kept && tag.purpose == Purpose::Answer && !(was_sent && self.is_exec(&tag)) {
                self.watch_bounced(&tag);
                continue;
            }
            if is_repeatable {
                // It is run again in its turn, behind those that were held before it.
                self.note_follower(&tag, false);
                let is_read = table.get(tag.command).flags.contains(Flags::READONLY);
                tag.may_have_run |= was_sent && !is_read && tag.purpose == Purpose::Answer;
                let others = tag.aim.slot().and_then(|slot| elsewhere.get(&(tag.session, slot)));
                let is_later = |other: &&(Ticket, u32)| **other > (tag.ticket, tag.part);
                let behind = others.map_or(0, |others| others.iter().filter(is_later).count() as u32);
                if let Aim::Asked { slot, .. } = tag.aim {
                    tag.aim = Aim::Owner(slot);
                }
                let skip = replies_before_last(&request);
                let is_overtaken = self.is_overtaken(&tag);
                let retry_at = self.now_us;
                self.hold(Held {
                    tag,
                    skip,
                    request,
                    cause: Cause::Unreachable,
                    retry_at,
                    behind,
                    is_overtaken,
                });
            } else {
                self.answer_error(&tag, Outcome::Failed, Reason::UnknownOutcome, &ErrorReply::OutcomeUnknown);
            }
        }
        if backend.is_kept
            && let Some(owner) = backend.owner
            && let Some(session) = self.sessions.get_mut(owner.ix as usize)
            && session.generation == owner.generation
        {
            let is_gone = |backend: &usize| !self.backends.contains(*backend);
            for watch in &mut session.watches {
                watch.backend.take_if(|at| is_gone(at));
            }
        }
    }

    /// Repeating a request is harmless only if no later one of its session and slot has run that is not
    /// repeated after it: a read would see the future, a write undo it.
    fn keep_order(&self, lost: &mut [LostRequest]) {
        let (mut written, mut unrepeated) = (HashSet::new(), HashSet::new());
        for request in
            lost.iter_mut().rev().filter(|lost| lost.was_sent && lost.tag.purpose == Purpose::Answer)
        {
            let Some(slot) = request.tag.aim.slot() else { continue };
            let place = (request.tag.session, slot);
            if self.table.get(request.tag.command).flags.contains(Flags::READONLY) {
                request.is_repeatable &= !written.contains(&place);
                continue;
            }
            request.is_repeatable &= !unrepeated.contains(&place);
            written.insert(place);
            if !request.is_repeatable {
                unrepeated.insert(place);
            }
        }
    }

    fn is_repeatable(&mut self, spec: &Spec, request: &[u8], lane: Lane) -> bool {
        if lane == Lane::Exclusive {
            return false;
        }
        let mut scanner = std::mem::take(&mut self.scanner);
        scanner.reset();
        let is_repeatable = scanner.scan(request, crate::resp::Limits::USUAL).is_ok() && {
            let request = crate::resp::Request::new(request, scanner.args());
            super::harmless::is_harmless_to_repeat(spec, &request)
        };
        // The scanner may be in use by the caller's caller, who resets it for each request.
        self.scanner = scanner;
        is_repeatable
    }
}
