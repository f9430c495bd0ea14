//! A reply, or a part of one → the client's answer, in its turn.

use super::core::{Core, recycle};
use super::error_reply::ErrorReply;
use super::fanout::{Merge, Policy};
use super::flight::{Purpose, SessionKey, Tag};
use super::pipeline::{Place, Ticket};
use super::session::Busy;
use crate::resp::{ReplyWriter, Version};
use crate::telemetry::{Close, Outcome, Reason};
use std::time::Duration;

impl Core {
    /// The reply that counts has come.
    #[inline]
    pub fn settle(&mut self, backend: usize, tag: &Tag, outcome: Outcome, reply: &[u8]) {
        self.recorder.backend_latency(Duration::from_micros(self.now_us.saturating_sub(tag.sent_at)));
        match tag.purpose {
            Purpose::Answer => self.answer_part(tag, outcome, reply),
            Purpose::Discard => {}
            Purpose::Check => self.checked(tag, (outcome == Outcome::Error).then_some(reply)),
            Purpose::Probe => self.probe_answered(backend, tag, reply),
            Purpose::Stream => self.answer(tag.session, tag.ticket, outcome, reply),
        }
    }

    /// Answers a request whole, or a part of one.
    #[inline]
    pub fn answer_part(&mut self, tag: &Tag, outcome: Outcome, reply: &[u8]) {
        let Some(session) = self.sessions.get_mut(tag.session.ix as usize) else { return };
        if session.generation != tag.session.generation {
            return;
        }
        if !session.gates.is_empty() {
            session.gates.retain(|gate| gate.ticket != tag.ticket || gate.part != tag.part);
            self.wants_release = true;
            // What was refused has not come back from a node just now: it was held, and is counted.
            if outcome != Outcome::Refused {
                self.note_follower(tag, true);
            }
        }
        let session = &mut self.sessions[tag.session.ix as usize];
        let Some(entry) = session.pipeline.get_mut(tag.ticket) else { return self.errand_part(tag, reply) };
        if let Place::Merging(merge) = &mut entry.place {
            let limit = self.config.output_hard_limit;
            let is_last = merge.add(tag.part as usize, reply, limit);
            if is_last && let Place::Merging(merge) = std::mem::replace(&mut entry.place, Place::Waiting) {
                self.finish_merge(tag.session, tag.ticket, *merge, limit);
            } else if session.is_stalled {
                self.resume(tag.session.ix as usize);
            }
            return;
        }
        self.answer(tag.session, tag.ticket, outcome, reply);
    }

    fn finish_merge(&mut self, key: SessionKey, ticket: Ticket, merge: Merge, limit: usize) {
        let outcome = if merge.has_failed() { Outcome::Error } else { Outcome::Ok };
        if merge.is_too_large() {
            let error = ErrorReply::ReplyTooLarge { limit };
            // Of a transaction's piece, each of its commands has an answer.
            let count = if let Policy::Elements { count } = merge.policy { count } else { 1 };
            return self.answer(key, ticket, Outcome::Refused, &error_line(&error).repeat(count));
        }
        if let Policy::Call(call) = &merge.policy
            && self.must_wait_to_call(&merge)
        {
            return self.wait_to_call(key, ticket, (**call).clone());
        }
        if let Policy::Configure(change) = &merge.policy {
            self.end_configure(key, change, &merge);
        }
        let own = if let Policy::Exec(own) = &merge.policy { Some(own.clone()) } else { None };
        let is_guard = matches!(merge.policy, Policy::Guard { .. });
        let mut reply = merge.finish();
        if is_guard && (reply.starts_with(b"-") || reply.starts_with(b"_") || reply.starts_with(b"*-1")) {
            // A watched key has changed, or nobody knows: nothing of it is carried out.
            self.session_of(key).into_iter().for_each(|session| session.replay = None);
        }
        if let Some(own) = own {
            reply = self.splice(key, &own, reply);
        }
        let outcome = if reply.starts_with(b"-") { Outcome::Error } else { outcome };
        self.answer(key, ticket, outcome, &reply);
    }

    /// Gives a client its answer, in its turn.
    #[inline]
    pub fn answer(&mut self, key: SessionKey, ticket: Ticket, outcome: Outcome, reply: &[u8]) {
        let ix = key.ix as usize;
        let now = self.now_us;
        let Some(session) = self.sessions.get_mut(ix).filter(|session| session.generation == key.generation)
        else {
            return;
        };
        if !session.gates.is_empty() {
            // All its parts are settled, whichever way they were.
            session.gates.retain(|gate| gate.ticket != ticket);
            self.wants_release = true;
        }
        if !session.pipeline.is_first(ticket) {
            let mut stored = self.buffers.pop().unwrap_or_default();
            stored.extend_from_slice(reply);
            session.pipeline.store(ticket, outcome, stored);
            if session.pipeline.stored() > self.config.output_hard_limit {
                return self.cut(key);
            }
            return self.resume(ix);
        }
        let Some(entry) = session.pipeline.pop() else { return };
        if session.out.capacity() == 0 {
            session.out = self.buffers.pop().unwrap_or_default();
        }
        if !entry.is_mute {
            session.out.extend_from_slice(reply);
        }
        self.recorder.request(entry.family, outcome, Duration::from_micros(now - entry.came_at));
        while let Some((entry, reply)) = session.pipeline.pop_ready() {
            if !entry.is_mute {
                session.out.extend_from_slice(&reply);
            }
            recycle(&mut self.buffers, reply);
            self.recorder.request(entry.family, entry.outcome, Duration::from_micros(now - entry.came_at));
        }
        if session.busy.is_some() && session.pipeline.is_empty() {
            let after = session.replay.as_ref().map(|_| Busy::Replaying);
            match session.busy {
                Some(Busy::Alone | Busy::Blocked | Busy::Relaying { .. }) => session.busy = after,
                Some(Busy::Script) => {
                    session.busy = after;
                    self.stats.scripts.end();
                }
                // Refused before its body was read.
                Some(Busy::Probing { scanned: skip, progress }) => {
                    session.busy = Some(Busy::Discarding { skip, progress });
                }
                Some(Busy::Uploading { progress, .. }) => {
                    session.busy = Some(Busy::Discarding { skip: 0, progress });
                }
                _ => {}
            }
        }
        if session.unwritten() > self.config.output_hard_limit && session.closing.is_none() {
            self.cut(key);
        }
        self.mark_session(ix);
        self.resume(ix);
    }

    /// Ends a client's connection at once: it takes too little, or what it is owed is lost.
    pub fn cut(&mut self, key: SessionKey) {
        if let Some(session) = self.session_of(key) {
            session.closing = Some(Close::Output);
            session.out.clear();
            session.written = 0;
            session.pipeline = Default::default();
            session.tail = Vec::new();
            session.is_stalled = false;
            self.mark_session(key.ix as usize);
        }
    }

    /// Answers a request, or a part of one, with an error of ours.
    pub fn answer_error(&mut self, tag: &Tag, outcome: Outcome, reason: Reason, error: &ErrorReply) {
        self.recorder.refused(reason);
        // None of our errors but this says that the request may have run.
        let error = if tag.may_have_run { &ErrorReply::OutcomeUnknown } else { error };
        let line = error_line(error);
        if tag.purpose == Purpose::Check {
            self.refuse_queued(tag, &line);
        }
        let tag = Tag { purpose: Purpose::Answer, ..*tag };
        self.answer_part(&tag, outcome, &line);
    }
}

pub fn error_line(error: &ErrorReply) -> Vec<u8> {
    let mut line = Vec::new();
    ReplyWriter { out: &mut line, version: Version::Resp2 }.error(&error.to_string());
    line
}
