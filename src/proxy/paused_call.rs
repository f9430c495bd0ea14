//! FCALL while writes are paused: whether a function writes, its node knows. So it is called as one that only reads,
//! and waits for the end of the pause when the node says that it may write.

use super::core::Core;
use super::dispatch::Handled;
use super::fanout::{Merge, Policy};
use super::flight::{Aim, SessionKey};
use super::pipeline::{Place, Ticket};
use super::router::Route;
use super::session::Busy;
use crate::command::{CommandIx, Spec};
use crate::resp::{Request, write_request};
use crate::topology::Slot;

/// How a node refuses (`src/script.c`, `scriptPrepareForRun`); nothing was run.
const MAY_WRITE: &[u8] = b"-ERR Can not execute a script with write flag using *_ro command";

/// A call that may have to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    frame: Vec<u8>,
    slot: Option<Slot>,
    command: CommandIx,
}

/// One that does.
#[derive(Debug)]
pub struct Waiting {
    session: SessionKey,
    ticket: Ticket,
    call: Call,
}

impl Core {
    /// What becomes of a command that does not go as it would without a pause; `None`: it goes.
    pub fn wait_while_paused(
        &mut self,
        ix: usize,
        command: CommandIx,
        spec: &Spec,
        route: &Route,
        request: &Request,
    ) -> Option<Handled> {
        let pause = self.watching.pause?;
        if &*spec.name == "fcall" && !pause.is_for_all && self.sessions[ix].state.transaction.is_none() {
            return Some(self.call_read_only(ix, command, route, request));
        }
        self.must_pause(ix, spec, request).then_some(Handled::NotYet)
    }

    /// Calls a function as one that only reads; nothing else of the client is under way.
    fn call_read_only(&mut self, ix: usize, command: CommandIx, route: &Route, request: &Request) -> Handled {
        if !self.sessions[ix].pipeline.is_empty() {
            return Handled::NotYet;
        }
        let slot = if let Route::One { slot, .. } = route { Some(*slot) } else { None };
        let words: Vec<&[u8]> = [&b"FCALL_RO"[..]].into_iter().chain(request.args().skip(1)).collect();
        let mut frame = Vec::new();
        write_request(&mut frame, words);
        let call = Call { frame: request.frame.to_vec(), slot, command };
        let version = self.sessions[ix].state.version;
        let merge = Merge::new(Policy::Call(Box::new(call)), version, 1, false);
        let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
        self.sessions[ix].busy = Some(Busy::Alone);
        let tag = self.tag(ix, ticket, command, slot.map_or(Aim::Any, Aim::Owner));
        self.forward(tag, &[&frame]);
        Handled::Done
    }

    /// Whether a node answered that the function may write.
    pub fn must_wait_to_call(&self, merge: &Merge) -> bool {
        merge.failure().is_some_and(|error| error.starts_with(MAY_WRITE))
    }

    /// Has a call wait for the end of the pause.
    pub fn wait_to_call(&mut self, session: SessionKey, ticket: Ticket, call: Call) {
        self.stats.watch.enter_pause();
        self.watching.calls.push(Waiting { session, ticket, call });
        if self.watching.pause.is_none() {
            self.call_waiting();
        }
    }

    /// The pause is over.
    pub fn call_waiting(&mut self) {
        for Waiting { session, ticket, call } in std::mem::take(&mut self.watching.calls) {
            self.stats.watch.leave_pause();
            if self.session_of(session).is_some() {
                let aim = call.slot.map_or(Aim::Any, Aim::Owner);
                let tag = self.tag(session.ix as usize, ticket, call.command, aim);
                self.forward(tag, &[&call.frame]);
            }
        }
    }
}
