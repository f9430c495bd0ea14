//! Clients that need more than a place on a shared connection: transactions, WATCH, blocking commands.
//!
//! A transaction is queued here and goes to its node as one piece at EXEC, so without WATCH it needs no
//! connection of its own; nothing can come between its parts. WATCH and blocking commands take an
//! exclusive connection for as long as they last.

use super::client_state::Transaction;
use super::core::{Core, NO_BACKEND};
use super::dispatch::Handled;
use super::error_reply::ErrorReply;
use super::fanout::{Merge, Policy};
use super::flight::{Aim, Lane, Tag};
use super::pipeline::{Place, Ticket};
use super::router::{All, Handling, Local, Route, TimeoutAt};
use super::session::{Busy, Watch};
use super::splice::{self, STAND_IN};
use crate::command::{CommandIx, Flags, Spec};
use crate::resp::{ReplyWriter, Request, write_request};
use crate::telemetry::{Family, Outcome, Reason};
use crate::topology::Slot;

/// The request that begins a transaction on a node.
pub const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
pub const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
/// What one transaction may queue: kept here until EXEC.
const TRANSACTION_BYTES: usize = 32 << 20;

/// Whether a command acts on the transaction instead of being queued in it.
pub fn acts_in_transaction(local: Local) -> bool {
    use Local::*;
    matches!(local, Multi | Exec | Discard | Watch | Quit | Reset)
}

impl Core {
    /// MULTI, EXEC, DISCARD, WATCH, UNWATCH.
    pub fn handle_transaction(&mut self, ix: usize, local: Local, request: &Request) -> Handled {
        const FAMILY: Family = Family::Transactions;
        let session = &mut self.sessions[ix];
        let is_queueing = session.state.transaction.is_some();
        let error = match local {
            Local::Multi if is_queueing => ErrorReply::NestedMulti,
            Local::Multi => {
                session.state.transaction = Some(Box::default());
                self.answer_now(ix, FAMILY, Outcome::Ok, |reply| reply.simple("OK"));
                return Handled::Done;
            }
            Local::Exec if !is_queueing => ErrorReply::ExecWithoutMulti,
            Local::Exec => return self.exec(ix, request),
            Local::Discard if !is_queueing => ErrorReply::DiscardWithoutMulti,
            Local::Discard => {
                session.state.transaction = None;
                self.unwatch(ix);
                self.answer_now(ix, FAMILY, Outcome::Ok, |reply| reply.simple("OK"));
                return Handled::Done;
            }
            Local::Watch if is_queueing => ErrorReply::WatchInsideMulti,
            Local::Watch => return self.watch(ix, request),
            _ => {
                self.unwatch(ix);
                self.answer_now(ix, FAMILY, Outcome::Ok, |reply| reply.simple("OK"));
                return Handled::Done;
            }
        };
        self.refuse(ix, FAMILY, Reason::Other, &error);
        Handled::Done
    }

    /// An error while a transaction is queued: its EXEC will refuse.
    pub fn taint(&mut self, ix: usize) {
        if let Some(transaction) = &mut self.sessions[ix].state.transaction {
            transaction.is_tainted = true;
        }
    }

    /// Queues a command of a transaction.
    pub fn queue(
        &mut self,
        ix: usize,
        spec: &Spec,
        family: Family,
        route: Route,
        request: &Request,
    ) -> Handled {
        let name = || spec.name.replace('|', " ");
        let is_own = matches!(route, Route::Local(local) if splice::is_allowed(local, spec));
        let slot = match route {
            _ if is_own => Ok(None),
            // The gateway has taken note of it, and loads it wherever it is called.
            Route::All(All::AllSucceed) if &*spec.name == "script|load" => Ok(None),
            Route::One { slot, .. } | Route::Pinned { slot, .. } => Ok(Some(slot)),
            Route::Any | Route::Local(Local::Ping | Local::Echo | Local::Publish) => Ok(None),
            Route::Refuse(ErrorReply::CrossSlot { .. }) | Route::Split(_) => Err(ErrorReply::CrossSlotMulti),
            Route::Refuse(error) => Err(error),
            Route::Local(Local::Unwatch) => Ok(None),
            Route::Local(_) | Route::All(_) => Err(ErrorReply::NotInMulti { name: name() }),
        };
        let Some(transaction) = &mut self.sessions[ix].state.transaction else { return Handled::NotYet };
        let checked = slot.and_then(|slot| {
            if spec.flags.contains(Flags::NO_MULTI) {
                return Err(ErrorReply::Invalid { what: "Command not allowed inside a transaction" });
            }
            if transaction.frames.len() + transaction.own.frames.len() + request.frame.len()
                > TRANSACTION_BYTES
            {
                return Err(ErrorReply::MultiTooLarge);
            }
            match (transaction.slot, slot) {
                (Some(first), Some(slot)) if first != slot => Err(ErrorReply::CrossSlotMulti),
                (None, Some(slot)) => {
                    transaction.slot = Some(slot);
                    Ok(())
                }
                _ => Ok(()),
            }
        });
        match checked {
            Ok(()) => {
                if is_own {
                    transaction.own.frames.extend_from_slice(request.frame);
                    transaction.own.places.push(transaction.count);
                }
                transaction.frames.extend_from_slice(if is_own { STAND_IN } else { request.frame });
                transaction.count += 1;
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("QUEUED"));
            }
            Err(error) => {
                self.taint(ix);
                self.refuse(ix, family, Reason::CrossSlot, &error);
            }
        }
        Handled::Done
    }

    fn exec(&mut self, ix: usize, request: &Request) -> Handled {
        let session = &mut self.sessions[ix];
        let Some(transaction) = &session.state.transaction else { return Handled::Done };
        let watch = session.watch;
        if watch.is_some() && !session.pipeline.is_empty() {
            return Handled::NotYet;
        }
        let aim_slot = transaction.slot.or(watch.map(|watch| watch.slot));
        if let Some(slot) = aim_slot
            && session.is_gated(slot)
        {
            return Handled::NotYet;
        }
        let transaction = session.state.transaction.take().unwrap_or_default();
        if transaction.is_tainted {
            self.unwatch(ix);
            self.refuse(ix, Family::Transactions, Reason::Other, &ErrorReply::ExecAbort);
            return Handled::Done;
        }
        if watch.is_none() && transaction.count == 0 {
            self.answer_now(ix, Family::Transactions, Outcome::Ok, |reply| reply.array(0));
            return Handled::Done;
        }
        match watch {
            Some(watch) => self.exec_watched(ix, watch, &transaction, request),
            None => self.exec_shared(ix, &transaction, request),
        }
        Handled::Done
    }

    fn take_exec_ticket(&mut self, ix: usize, command: CommandIx, transaction: &Transaction) -> Ticket {
        if transaction.own.places.is_empty() {
            return self.take_ticket(ix, command, Place::Waiting);
        }
        // What comes after EXEC is answered here at once, and not before what is in it.
        self.sessions[ix].busy = Some(Busy::Alone);
        let policy = Policy::Exec(Box::new(transaction.own.clone()));
        let merge = Merge::new(policy, self.sessions[ix].state.version, 1, false);
        self.take_ticket(ix, command, Place::Merging(Box::new(merge)))
    }

    fn exec_shared(&mut self, ix: usize, transaction: &Transaction, request: &Request) {
        let Some(command) = self.command_of(request) else { return };
        let ticket = self.take_exec_ticket(ix, command, transaction);
        let aim = transaction.slot.map_or(Aim::Any, Aim::Owner);
        let tag = self.tag(ix, ticket, command, aim);
        if let Some(slot) = transaction.slot {
            self.load_scripts_at(ix, command, slot, &transaction.frames);
            self.sessions[ix].gate(slot, ticket, 0, NO_BACKEND);
        }
        self.forward_after(tag, &[MULTI, &transaction.frames, EXEC], transaction.count + 1);
    }

    fn exec_watched(&mut self, ix: usize, watch: Watch, transaction: &Transaction, request: &Request) {
        let is_same_slot = transaction.slot.is_none_or(|slot| slot == watch.slot);
        let backend = watch.backend.filter(|ix| is_same_slot && self.backends.contains(*ix));
        let Some(backend) = backend else {
            self.unwatch(ix);
            if is_same_slot {
                // The watch is lost with its connection: as if a watched key had changed.
                self.answer_now(ix, Family::Transactions, Outcome::Ok, |reply| reply.null_array());
            } else {
                self.refuse(ix, Family::Transactions, Reason::CrossSlot, &ErrorReply::CrossSlotMulti);
            }
            return;
        };
        let Some(command) = self.command_of(request) else { return };
        let ticket = self.take_exec_ticket(ix, command, transaction);
        let mut tag = self.tag(ix, ticket, command, Aim::Owner(watch.slot));
        tag.lane = Lane::Exclusive;
        self.sessions[ix].busy = Some(Busy::Alone);
        self.sessions[ix].watch = None;
        self.load_scripts(backend, &tag, &transaction.frames);
        let parts: [&[u8]; 3] = [MULTI, &transaction.frames, EXEC];
        self.backends[backend].wire.push(&parts, transaction.count + 1, tag);
        self.mark_backend(backend);
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
        if let Some(session) = self.session_of(tag.session)
            && let Some(watch) = &mut session.watch
        {
            watch.backend = None;
        }
        let owned: Vec<usize> = self
            .backends
            .iter()
            .filter(|(_, backend)| backend.owner == Some(tag.session) && backend.is_kept)
            .map(|(ix, _)| ix)
            .collect();
        for ix in owned {
            self.backends[ix].is_kept = false;
        }
        self.answer(tag.session, tag.ticket, Outcome::Ok, &out);
    }

    fn watch(&mut self, ix: usize, request: &Request) -> Handled {
        let session = &self.sessions[ix];
        if !session.pipeline.is_empty() || !session.gates.is_empty() {
            return Handled::NotYet;
        }
        let mut slots = request.args().skip(1).map(Slot::of_key);
        let Some(first) = slots.next() else {
            let name = "watch".to_string();
            self.refuse(ix, Family::Transactions, Reason::Arity, &ErrorReply::Arity { name });
            return Handled::Done;
        };
        if slots.any(|slot| slot != first) || session.watch.is_some_and(|watch| watch.slot != first) {
            let name = "watch".to_string();
            self.refuse(ix, Family::Transactions, Reason::CrossSlot, &ErrorReply::CrossSlot { name });
            return Handled::Done;
        }
        let Some(command) = self.command_of(request) else { return Handled::Done };
        let ticket = self.take_ticket(ix, command, Place::Waiting);
        let mut tag = self.tag(ix, ticket, command, Aim::Owner(first));
        tag.lane = Lane::Exclusive;
        self.sessions[ix].busy = Some(Busy::Alone);
        match session_watch(self.sessions[ix].watch) {
            Some(None) => {
                // An earlier watch is lost already: EXEC will say so.
                let key = self.key_of(ix);
                self.answer(key, ticket, Outcome::Ok, b"+OK\r\n");
            }
            Some(Some(backend)) => {
                self.backends[backend].wire.push(&[request.frame], 0, tag);
                self.mark_backend(backend);
            }
            None => {
                self.sessions[ix].watch = Some(Watch { slot: first, backend: None });
                self.forward(tag, &[request.frame]);
            }
        }
        Handled::Done
    }

    /// A command was carried out on this connection, which is kept until EXEC if it was WATCH.
    pub fn keep_watching(&mut self, backend: usize, tag: &Tag) {
        if &*self.table.get(tag.command).name != "watch" {
            return;
        }
        let key = tag.session;
        if let Some(session) = self.session_of(key)
            && let Some(watch) = &mut session.watch
        {
            watch.backend = Some(backend);
            self.backends[backend].is_kept = true;
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

    /// Ends the session's watch, if there is one.
    pub fn unwatch(&mut self, ix: usize) {
        let Some(watch) = self.sessions[ix].watch.take() else { return };
        let Some(backend) = watch.backend.filter(|ix| self.backends.contains(*ix)) else { return };
        let mut tag = self.tag(ix, 0, CommandIx(0), Aim::Any);
        tag.lane = Lane::Exclusive;
        tag.purpose = super::flight::Purpose::Discard;
        let connection = &mut self.backends[backend];
        connection.is_kept = false;
        connection.wire.push(&[b"*1\r\n$7\r\nUNWATCH\r\n"], 0, tag);
        self.mark_backend(backend);
    }

    /// A command that waits for data: alone on a connection of its own.
    pub fn send_blocking(&mut self, ix: usize, command: CommandIx, slot: Slot, request: &Request) -> Handled {
        let session = &self.sessions[ix];
        if !session.pipeline.is_empty() || !session.gates.is_empty() {
            return Handled::NotYet;
        }
        let ticket = self.take_ticket(ix, command, Place::Waiting);
        let mut tag = self.tag(ix, ticket, command, Aim::Owner(slot));
        tag.lane = Lane::Exclusive;
        self.sessions[ix].busy = Some(Busy::Blocked);
        self.forward(tag, &[request.frame]);
        Handled::Done
    }

    /// A blocking command that is tried again waits only for what is left of its time. `None`: nothing
    /// is left.
    pub fn with_time_left(&mut self, tag: &Tag, frame: Vec<u8>) -> Option<Vec<u8>> {
        if tag.lane == Lane::Shared {
            return Some(frame);
        }
        let handling = self.traits[usize::from(tag.command.0)].handling;
        let (Handling::Blocking(_) | Handling::All(All::Wait)) = handling else { return Some(frame) };
        let came_at = self.session_of(tag.session)?.pipeline.get_mut(tag.ticket)?.came_at;
        let waited = (self.now_us - came_at) as f64 / 1e6;
        let mut scanner = crate::resp::RequestScanner::default();
        scanner.scan(&frame, crate::resp::Limits::USUAL).ok()?;
        let request = Request::new(&frame, scanner.args());
        let (at, unit) = match handling {
            Handling::Blocking(TimeoutAt::First) => (1, 1.0),
            Handling::Blocking(TimeoutAt::BlockOption) => match super::router::find_block_option(&request) {
                Some(at) => (at, 1000.0),
                None => return Some(frame.to_vec()),
            },
            Handling::All(_) => (request.len() - 1, 1000.0),
            _ => (request.len() - 1, 1.0),
        };
        let given: f64 =
            std::str::from_utf8(request.get(at)?).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0);
        if given <= 0.0 {
            return Some(frame);
        }
        let left = given - waited * unit;
        if left <= 0.0 {
            return None;
        }
        let left = if unit > 1.0 { format!("{:.0}", left.ceil()) } else { format!("{left:.3}") };
        let mut out = Vec::with_capacity(frame.len());
        let args = request.args().enumerate().map(|(n, arg)| if n == at { left.as_bytes() } else { arg });
        write_request(&mut out, args.collect::<Vec<_>>());
        Some(out)
    }

    /// What any blocking command answers when its time is over (`replyToBlockedClientOnTimeout`); of
    /// a WAIT, no replica is known to have anything.
    pub fn time_is_over(&self, tag: &Tag) -> Vec<u8> {
        let mut out = Vec::new();
        let mut reply = ReplyWriter { out: &mut out, version: tag.version };
        if self.is_wait(tag) {
            reply.integer(0)
        } else {
            reply.null_array()
        }
        out
    }

    /// The table's index of a request's command.
    pub fn command_of(&self, request: &Request) -> Option<CommandIx> {
        match self.table.lookup(request) {
            crate::command::Lookup::Found(command, _) => Some(command),
            _ => None,
        }
    }
}

fn session_watch(watch: Option<Watch>) -> Option<Option<usize>> {
    watch.map(|watch| watch.backend)
}
