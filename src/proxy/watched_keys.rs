//! WATCH: an exclusive connection for each slot with watched keys, until EXEC. A watch that is lost, with
//! its connection or because its slot moved, fails EXEC as if a key had changed.

use super::client_state::Transaction;
use super::core::Core;
use super::dispatch::Handled;
use super::error_reply::ErrorReply;
use super::fanout::{Merge, Policy, group_by_slot};
use super::flight::{Aim, Lane, Purpose, SessionKey, Tag};
use super::pinned::{EXEC, MULTI};
use super::pipeline::Place;
use super::replay::Replay;
use super::session::{Busy, Watch};
use super::splice::STAND_IN;
use crate::command::CommandIx;
use crate::resp::{ReplyWriter, Request, write_head};
use crate::telemetry::{Family, Outcome, Reason};

const UNWATCH: &[u8] = b"*1\r\n$7\r\nUNWATCH\r\n";

impl Core {
    /// WATCH: the keys of each slot over a connection of their own.
    pub fn watch(&mut self, ix: usize, request: &Request) -> Handled {
        let session = &self.sessions[ix];
        if !session.pipeline.is_empty() || !session.gates.is_empty() {
            return Handled::NotYet;
        }
        let Some(command) = self.command_of(request) else { return Handled::Done };
        let mut grouped = Vec::new();
        group_by_slot(request.args().skip(1), &mut grouped);
        let Some((first, _)) = grouped.first().copied() else {
            let name = "watch".to_string();
            self.refuse(ix, Family::Transactions, Reason::Arity, &ErrorReply::Arity { name });
            return Handled::Done;
        };
        // Of what an earlier user of the connection left watched, EXEC will say that it does not fit, and let it go.
        if grouped.iter().any(|(slot, _)| *slot != first) && !self.emulates() {
            let error = ErrorReply::CrossSlot { name: "watch".into(), option: Some("--cross-slot emulate") };
            self.report_cross_slot(command);
            self.refuse(ix, Family::Transactions, Reason::CrossSlot, &error);
            return Handled::Done;
        }
        if session.watches.iter().any(|watch| watch.backend.is_none()) {
            // An earlier watch is lost already: EXEC will say so.
            self.answer_now(ix, Family::Transactions, Outcome::Ok, |reply| reply.simple("OK"));
            return Handled::Done;
        }
        let parts = grouped.chunk_by(|a, b| a.0 == b.0).count();
        let merge = Merge::new(Policy::AllSucceed, self.sessions[ix].state.version, parts, false);
        let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
        self.sessions[ix].busy = Some(Busy::Alone);
        for (part, group) in grouped.chunk_by(|a, b| a.0 == b.0).enumerate() {
            let slot = group[0].0;
            let mut frame = Vec::new();
            write_head(&mut frame, b'*', 1 + group.len());
            frame.extend_from_slice(request.raw(0, 0));
            for (_, number) in group {
                let at = 1 + *number as usize;
                frame.extend_from_slice(request.raw(at, at));
            }
            let tag = self.tag(ix, ticket, command, Aim::Owner(slot));
            let tag = Tag { lane: Lane::Exclusive, part: part as u32, ..tag };
            let watches = &mut self.sessions[ix].watches;
            match watches.iter().find(|watch| watch.slot == slot).and_then(|watch| watch.backend) {
                Some(backend) => {
                    self.backends[backend].wire.push_owned(frame, tag);
                    self.mark_backend(backend);
                }
                None => {
                    watches.push(Watch { slot, backend: None });
                    self.forward(tag, &[&frame]);
                }
            }
        }
        Handled::Done
    }

    /// EXEC of a client that watches keys.
    pub fn exec_watched(&mut self, ix: usize, command: CommandIx, transaction: &Transaction) {
        let watches = self.sessions[ix].watches.clone();
        let is_there = |watch: &Watch| watch.backend.filter(|backend| self.backends.contains(*backend));
        let backends: Option<Vec<usize>> = watches.iter().map(is_there).collect();
        let is_elsewhere =
            transaction.slot.is_some_and(|slot| watches.iter().any(|watch| watch.slot != slot));
        let Some(backends) = backends.filter(|_| !is_elsewhere || self.emulates()) else {
            self.unwatch(ix);
            if is_elsewhere && !self.emulates() {
                self.refuse(ix, Family::Transactions, Reason::CrossSlot, &ErrorReply::CrossSlotMulti);
            } else {
                // The watch is lost with its connection: as if a watched key had changed.
                self.answer_now(ix, Family::Transactions, Outcome::Ok, |reply| reply.null_array());
            }
            return;
        };
        self.sessions[ix].watches.clear();
        let (ticket, frames, count) = match backends.len() {
            1 if !is_elsewhere && !transaction.is_in_pieces() => {
                let ticket = self.take_exec_ticket(ix, command, transaction);
                (ticket, &*transaction.frames, transaction.count)
            }
            // Nothing of it is run before all say that no watched key has changed.
            parts => {
                let policy = Policy::Guard { count: transaction.count };
                let merge = Merge::new(policy, self.sessions[ix].state.version, parts, false);
                self.wait_for_guard(ix, Replay::new(command, transaction));
                (self.take_ticket(ix, command, Place::Merging(Box::new(merge))), STAND_IN, 1)
            }
        };
        self.sessions[ix].busy = Some(Busy::Alone);
        for (part, (watch, backend)) in watches.iter().zip(backends).enumerate() {
            let tag = self.tag(ix, ticket, command, Aim::Owner(watch.slot));
            let tag = Tag { lane: Lane::Exclusive, part: part as u32, ..tag };
            self.load_scripts(backend, &tag, frames);
            self.backends[backend].wire.push(&[MULTI, frames, EXEC], count + 1, tag);
            self.mark_backend(backend);
        }
    }

    /// The node did not run a watched transaction, or the WATCH itself, because the slot left it or the
    /// connection broke: the watch is lost.
    pub fn watch_bounced(&mut self, tag: &Tag) {
        let mut out = Vec::new();
        let mut reply = ReplyWriter { out: &mut out, version: tag.version };
        if self.is_exec(tag) {
            reply.null_array();
        } else {
            // WATCH is answered as done: that the watch is lost shows at EXEC.
            reply.simple("OK");
        }
        let Some(session) = self.session_of(tag.session) else { return };
        session.replay = None;
        session.watches.iter_mut().for_each(|watch| watch.backend = None);
        self.end_watches(tag.session);
        self.answer(tag.session, tag.ticket, Outcome::Ok, &out);
    }

    /// A command was carried out on this connection, which is kept until EXEC if it was WATCH.
    pub fn keep_watching(&mut self, backend: usize, tag: &Tag) {
        if &*self.table.get(tag.command).name != "watch" {
            return;
        }
        let slot = tag.aim.slot();
        let Some(session) = self.session_of(tag.session) else { return };
        match session.watches.iter_mut().find(|watch| Some(watch.slot) == slot) {
            Some(watch) => {
                watch.backend = Some(backend);
                self.backends[backend].is_kept = true;
            }
            // It was lost in another slot meanwhile.
            None => self.end_watch(backend, tag.session),
        }
    }

    /// A watched transaction has ended, run or not, and the watch with it: its connection can go back.
    pub fn end_watched(&mut self, backend: usize, tag: &Tag) {
        if self.is_exec(tag)
            && let Some(connection) = self.backends.get_mut(backend)
        {
            connection.is_kept = false;
        }
    }

    pub fn is_exec(&self, tag: &Tag) -> bool {
        &*self.table.get(tag.command).name == "exec"
    }

    /// Ends what the session watches.
    pub fn unwatch(&mut self, ix: usize) {
        if !self.sessions[ix].watches.is_empty() {
            self.sessions[ix].watches.clear();
            self.end_watches(self.key_of(ix));
        }
    }

    fn end_watches(&mut self, key: SessionKey) {
        let kept = self.backends.iter().filter(|(_, backend)| backend.owner == Some(key) && backend.is_kept);
        let kept: Vec<usize> = kept.map(|(backend, _)| backend).collect();
        kept.into_iter().for_each(|backend| self.end_watch(backend, key));
    }

    /// The connection may go back to the others when its node watches nothing for it any more.
    fn end_watch(&mut self, backend: usize, key: SessionKey) {
        let tag = self.tag(key.ix as usize, 0, CommandIx(0), Aim::Any);
        let connection = &mut self.backends[backend];
        connection.is_kept = false;
        let tag = Tag { lane: Lane::Exclusive, purpose: Purpose::Discard, ..tag };
        connection.wire.push(&[UNWATCH], 0, tag);
        self.mark_backend(backend);
    }
}
