//! Whether a node would take what a transaction queues: the queue is kept here, and a node that refuses a
//! command is not heard before EXEC.
//!
//! Mostly it would, and nobody asks. While there is reason to doubt it (a script runs, a setting was
//! changed, a node has just refused something), each command is shown to a node before it is queued, in a
//! transaction that is discarded, so that the client hears of it where one Redis would tell it.

use super::core::Core;
use super::dispatch::Handled;
use super::error_reply::ErrorReply;
use super::fanout::{Merge, Policy};
use super::flight::{Aim, Purpose, Tag};
use super::pinned::{EXEC, MULTI};
use super::pipeline::Place;
use super::redirect::{Verdict, verdict};
use super::replay::Replay;
use super::session::Busy;
use super::splice::STAND_IN;
use crate::command::CommandIx;
use crate::resp::Request;
use crate::telemetry::{Family, Outcome, Reason};
use crate::topology::Slot;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";
/// After what made it doubtful: whoever changed a setting sees to it that the node takes commands again,
/// or goes on to be refused.
const LASTS: Duration = Duration::from_secs(10);
/// What a node says that refuses commands for the state it is in.
const REFUSALS: [&[u8]; 4] = [b"-OOM ", b"-MISCONF ", b"-NOREPLICAS ", b"-BUSY "];

/// Until when it is doubtful whether nodes take commands, over all workers.
#[derive(Debug, Default)]
pub struct Doubt {
    /// In milliseconds since the process began.
    until: AtomicU64,
}

impl Doubt {
    fn begin(&self, since_start: Duration) {
        self.until.fetch_max((since_start + LASTS).as_millis() as u64, Ordering::Relaxed);
    }

    fn lasts(&self, since_start: Duration) -> bool {
        since_start.as_millis() < u128::from(self.until.load(Ordering::Relaxed))
    }
}

impl Core {
    fn since_start(&self) -> Duration {
        self.now.saturating_duration_since(self.stats.started)
    }

    /// Something may make nodes refuse commands.
    pub fn doubt(&self) {
        self.stats.doubt.begin(self.since_start());
    }

    /// An error reply of a node may be such a refusal.
    pub fn note_refusal(&self, reply: &[u8]) {
        if REFUSALS.iter().any(|code| reply.starts_with(code)) {
            self.doubt();
        }
    }

    /// Whether what is queued is to be shown to a node.
    pub fn is_doubtful(&self) -> bool {
        self.stats.scripts.are_running() || self.stats.doubt.lasts(self.since_start())
    }

    /// Shows a node a command that was just queued, and answers the client then.
    pub fn send_check(&mut self, ix: usize, command: CommandIx, slot: Slot, request: &Request) -> Handled {
        let ticket = self.take_ticket(ix, command, Place::Waiting);
        self.sessions[ix].busy = Some(Busy::Alone);
        // One Redis that runs a script takes no command at all, whichever key it has.
        let (aim, frame) = match self.stats.scripts.are_running() {
            true => (Aim::Any, STAND_IN),
            false => (Aim::Owner(slot), request.frame),
        };
        let tag = Tag { purpose: Purpose::Check, ..self.tag(ix, ticket, command, aim) };
        self.forward_after(tag, &[MULTI, frame, DISCARD], 2);
        Handled::Done
    }

    /// The node has seen it; `refusal`: what it said against it.
    pub fn checked(&mut self, tag: &Tag, refusal: Option<&[u8]>) {
        // That it belongs elsewhere is seen to at EXEC.
        let refusal = refusal.filter(|refusal| verdict(refusal) == Verdict::Final);
        if let Some(refusal) = refusal {
            self.refuse_queued(tag, refusal);
        }
        let outcome = if refusal.is_some() { Outcome::Error } else { Outcome::Ok };
        self.answer(tag.session, tag.ticket, outcome, refusal.unwrap_or(b"+QUEUED\r\n"));
    }

    /// What was queued is refused after all.
    pub fn refuse_queued(&mut self, tag: &Tag, refusal: &[u8]) {
        if let Some(session) = self.session_of(tag.session)
            && let Some(transaction) = &mut session.state.transaction
        {
            transaction.is_tainted = true;
            transaction.refusal = Some(refusal.into());
        }
    }

    /// EXEC while a script runs: refused by a node that is busy with it, whatever the transaction concerns.
    /// Says whether it is seen to.
    pub fn exec_while_busy(&mut self, ix: usize, command: CommandIx) -> bool {
        let session = &mut self.sessions[ix];
        let Some(transaction) = session.state.transaction.take_if(|transaction| {
            let is_busy = transaction.refusal.as_ref().is_some_and(|refusal| refusal.starts_with(b"-BUSY "));
            is_busy || !transaction.is_tainted
        }) else {
            return false;
        };
        if let Some(refusal) = &transaction.refusal {
            self.unwatch(ix);
            self.recorder.refused(Reason::Other);
            let line = abort_line(refusal);
            self.answer_now(ix, Family::Transactions, Outcome::Refused, |reply| {
                reply.out.extend_from_slice(&line);
            });
            return true;
        }
        let count = transaction.count;
        self.wait_for_guard(ix, Replay::new(command, &transaction));
        self.sessions[ix].busy = Some(Busy::Alone);
        let merge = Merge::new(Policy::Guard { count }, self.sessions[ix].state.version, 1, false);
        let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
        let tag = self.tag(ix, ticket, command, Aim::Any);
        self.forward_after(tag, &[MULTI, STAND_IN, EXEC], 2);
        true
    }
}

/// What EXEC answers when a node refuses one of the commands for what it has not told before.
pub fn abort_line(refusal: &[u8]) -> Vec<u8> {
    let because = String::from_utf8_lossy(refusal.strip_prefix(b"-").unwrap_or(refusal));
    super::answer::error_line(&ErrorReply::ExecAbortFor { because: because.trim_end().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_ends_by_itself_and_lasts_from_the_last_reason_for_it() {
        let (doubt, at) = (Doubt::default(), Duration::from_secs);
        assert!(!doubt.lasts(at(0)));
        doubt.begin(at(5));
        doubt.begin(at(3));
        assert!(doubt.lasts(at(14)) && !doubt.lasts(at(15)));
    }

    #[test]
    fn exec_says_what_a_node_has_refused() {
        let line = abort_line(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n");
        let told = "-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > \
                    'maxmemory'.\r\n";
        assert_eq!(String::from_utf8_lossy(&line), told);
    }
}
