//! Transactions: queued here, to their node as one piece at EXEC, so that they need no connection of
//! their own and nothing can come between their parts. What is not for one node alone is carried out by
//! `replay`; what is watched is in `watched_keys`.

use super::client_state::Transaction;
use super::config::CrossSlot;
use super::core::{Core, NO_BACKEND};
use super::dispatch::Handled;
use super::error_reply::ErrorReply;
use super::fanout::{Merge, Policy};
use super::flight::Aim;
use super::pipeline::{Place, Ticket};
use super::router::{All, Local, Route};
use super::session::Busy;
use super::splice::{self, STAND_IN};
use crate::command::{CommandIx, Flags, Spec};
use crate::resp::Request;
use crate::telemetry::{Family, Outcome, Reason};

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
        let is_own = splice::is_answered_here(&route, spec);
        let has_written =
            self.sessions[ix].state.transaction.as_ref().is_some_and(|queued| queued.has_written);
        let is_read = spec.flags.contains(Flags::READONLY);
        // What only reads may see several moments; what writes must not be seen half done, unless that is wished.
        let may_read = is_read && !has_written && self.config.cross_slot != CrossSlot::Refuse;
        let emulates = self.emulates() || may_read;
        let is_spread = matches!(route, Route::Split(_) | Route::Errand) && emulates;
        let is_for_all = matches!(route, Route::All(all) if !matches!(all, All::Wait | All::Kill));
        let is_alone = is_spread || (is_for_all && &*spec.name != "script|load");
        let slot = match route {
            _ if spec.flags.contains(Flags::NO_MULTI) => {
                Err(ErrorReply::Invalid { what: "Command not allowed inside a transaction" })
            }
            _ if is_own || is_alone => Ok(None),
            // The gateway has taken note of it, and loads it wherever it is called.
            Route::All(All::AllSucceed) if &*spec.name == "script|load" => Ok(None),
            Route::One { slot, .. } | Route::Pinned { slot, .. } => Ok(Some(slot)),
            Route::Any | Route::PinnedAny | Route::Local(Local::Ping | Local::Echo | Local::Publish) => {
                Ok(None)
            }
            Route::Refuse(ErrorReply::CrossSlot { .. }) | Route::Split(_) | Route::Errand => {
                Err(ErrorReply::CrossSlotMulti)
            }
            Route::Refuse(error) => Err(error),
            Route::Local(Local::Unwatch) => Ok(None),
            Route::Local(_) | Route::All(_) => Err(ErrorReply::NotInMulti { name: name() }),
        };
        let is_doubtful = self.is_doubtful();
        if is_doubtful && !self.sessions[ix].pipeline.is_empty() {
            return Handled::NotYet;
        }
        let mut wants_check = None;
        let slot_of_it = slot.as_ref().ok().copied().flatten();
        let Some(transaction) = &mut self.sessions[ix].state.transaction else { return Handled::NotYet };
        let checked = slot.and_then(|slot| {
            if transaction.frames.len() + transaction.own.frames.len() + request.frame.len()
                > TRANSACTION_BYTES
            {
                return Err(ErrorReply::MultiTooLarge);
            }
            wants_check = slot.filter(|_| is_doubtful);
            if !emulates && transaction.has_many_slots && slot.is_some() {
                return Err(ErrorReply::CrossSlotMulti);
            }
            match (transaction.slot, slot) {
                (Some(first), Some(slot)) if first != slot && !emulates => Err(ErrorReply::CrossSlotMulti),
                (Some(first), Some(slot)) if first != slot => {
                    transaction.has_many_slots = true;
                    Ok(())
                }
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
                if is_alone {
                    transaction.alone.push(transaction.count);
                }
                transaction.slots.push(slot_of_it);
                transaction.has_written |= slot_of_it.is_some() && !is_read;
                transaction.has_many_slots |= is_spread;
                transaction.frames.extend_from_slice(if is_own { STAND_IN } else { request.frame });
                transaction.count += 1;
                if let (Some(slot), Some(command)) = (wants_check, self.command_of(request)) {
                    return self.send_check(ix, command, slot, request);
                }
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
        let is_watching = !session.watches.is_empty();
        if is_watching && !session.pipeline.is_empty() {
            return Handled::NotYet;
        }
        if transaction.slot.is_some_and(|slot| session.is_gated(slot)) {
            return Handled::NotYet;
        }
        if !is_watching
            && self.stats.scripts.are_running()
            && let Some(command) = self.command_of(request)
            && self.exec_while_busy(ix, command)
        {
            return Handled::Done;
        }
        let transaction = self.sessions[ix].state.transaction.take().unwrap_or_default();
        if transaction.is_tainted {
            self.unwatch(ix);
            self.refuse(ix, Family::Transactions, Reason::Other, &ErrorReply::ExecAbort);
            return Handled::Done;
        }
        if !is_watching && transaction.count == 0 {
            self.answer_now(ix, Family::Transactions, Outcome::Ok, |reply| reply.array(0));
            return Handled::Done;
        }
        let Some(command) = self.command_of(request) else { return Handled::Done };
        match (is_watching, transaction.is_in_pieces()) {
            (true, _) => self.exec_watched(ix, command, &transaction),
            (false, true) => self.begin_replay(ix, command, &transaction),
            (false, false) => self.exec_shared(ix, command, &transaction),
        }
        Handled::Done
    }

    pub fn take_exec_ticket(&mut self, ix: usize, command: CommandIx, transaction: &Transaction) -> Ticket {
        if transaction.own.places.is_empty() {
            return self.take_ticket(ix, command, Place::Waiting);
        }
        // What comes after EXEC is answered here at once, and not before what is in it.
        self.sessions[ix].busy = Some(Busy::Alone);
        let policy = Policy::Exec(Box::new(transaction.own.clone()));
        let merge = Merge::new(policy, self.sessions[ix].state.version, 1, false);
        self.take_ticket(ix, command, Place::Merging(Box::new(merge)))
    }

    fn exec_shared(&mut self, ix: usize, command: CommandIx, transaction: &Transaction) {
        let ticket = self.take_exec_ticket(ix, command, transaction);
        let aim = transaction.slot.map_or(Aim::Any, Aim::Owner);
        let tag = self.tag(ix, ticket, command, aim);
        if let Some(slot) = transaction.slot {
            self.load_scripts_at(ix, command, slot, &transaction.frames);
            self.sessions[ix].gate(slot, ticket, 0, NO_BACKEND);
        }
        self.forward_after(tag, &[MULTI, &transaction.frames, EXEC], transaction.count + 1);
    }

    /// Whether what concerns several slots is carried out although others may see it half done.
    pub fn emulates(&self) -> bool {
        self.config.cross_slot == CrossSlot::Emulate
    }

    /// The table's index of a request's command.
    pub fn command_of(&self, request: &Request) -> Option<CommandIx> {
        match self.table.lookup(request) {
            crate::command::Lookup::Found(command, _) => Some(command),
            _ => None,
        }
    }
}
