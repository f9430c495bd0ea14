//! The connections on which nodes tell of what happens there, whoever does it: one to each primary, for each
//! worker that has clients who want to hear.
//!
//! Of keys that change they tell clients that track (redis.io: CLIENT TRACKING, "Broadcasting mode"); of the
//! commands that scripts run they tell monitors. While one of the first kind is not there, changes at its
//! node are not heard of: so all who track are told to forget all when one is lost, and again when it is back.

use super::core::Core;
use super::error_reply::ErrorReply;
use super::fanout::{elements, integer, pairs_of, text_of};
use super::flight::{Lane, SessionKey};
use super::pipeline::{Entry, Place, Ticket};
use super::redirect::Cause;
use super::session::Busy;
use crate::resp::Version;
use crate::telemetry::{Family, Outcome, Reason};
use crate::topology::Health;
use std::time::Duration;

/// A node that says nothing for so long, though asked, is taken for dead.
const EAR_TIMEOUT: Duration = Duration::from_secs(10);
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// The servers' own limit for what clients that track have read; the same counts here.
const ASK_LIMIT: &[u8] = b"*3\r\n$6\r\ncONFIG\r\n$3\r\nGET\r\n$23\r\ntracking-table-max-keys\r\n";

/// What is heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hears {
    /// Keys that change.
    Changes,
    /// Commands, of which those of scripts are of use.
    Commands,
}

impl Hears {
    const ALL: [Hears; 2] = [Hears::Changes, Hears::Commands];

    fn request(self) -> &'static [u8] {
        match self {
            Hears::Changes => b"*4\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n$5\r\nBCAST\r\n",
            Hears::Commands => b"*1\r\n$7\r\nMONITOR\r\n",
        }
    }
}

/// One such connection.
#[derive(Debug, Clone, Copy)]
struct Ear {
    backend: usize,
    hears: Hears,
    /// The node has said that it will tell.
    is_open: bool,
}

/// A client that waits until all nodes will tell.
#[derive(Debug, Clone, Copy)]
struct Pending {
    session: SessionKey,
    ticket: Ticket,
    hears: Hears,
    /// When it is given up, in microseconds of the worker's clock.
    until: u64,
}

/// One worker's ears.
#[derive(Debug, Default)]
pub struct Ears {
    ears: Vec<Ear>,
    pending: Vec<Pending>,
    /// Nodes do not let us monitor them; what our clients do is seen without.
    has_no_monitor: bool,
}

impl Ears {
    /// Whether a client waits for nodes to begin.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    pub fn is_pending(&self, session: SessionKey) -> bool {
        self.pending.iter().any(|pending| pending.session == session)
    }

    /// A client waits for it no more.
    pub fn forget(&mut self, session: SessionKey) {
        self.pending.retain(|pending| pending.session != session);
    }
}

impl Core {
    /// Answers OK as soon as all nodes tell; until then, no further command of the client is looked at.
    pub fn wait_for_ears(&mut self, ix: usize, family: Family, hears: Hears) {
        let until = self.now_us + self.config.hold.as_micros() as u64;
        let came_at = self.now_us;
        let session = &mut self.sessions[ix];
        let is_mute = session.state.mutes_next();
        let entry = Entry { place: Place::Waiting, came_at, family, outcome: Outcome::Ok, is_mute };
        let ticket = session.pipeline.push(entry);
        session.busy = Some(Busy::Alone);
        let session = self.key_of(ix);
        self.ears.pending.push(Pending { session, ticket, hears, until });
        self.fit_ears();
    }

    fn wants(&self, hears: Hears) -> bool {
        match hears {
            Hears::Changes => self.tracking.is_on(),
            Hears::Commands => self.watching.has_own_monitors && !self.ears.has_no_monitor,
        }
    }

    /// Makes sure that every primary tells what any client wants to hear.
    pub fn fit_ears(&mut self) {
        for hears in Hears::ALL {
            if self.wants(hears) {
                self.open_ears(hears);
            }
        }
        self.answer_pending();
    }

    fn open_ears(&mut self, hears: Hears) {
        let topology = self.topology.clone();
        for node in topology.primaries() {
            let has_ear = self.ears.ears.iter().any(|ear| {
                let wire = &self.backends[ear.backend].wire;
                ear.hears == hears && wire.node == node.id && wire.addr == node.addr
            });
            if has_ear || node.health == Health::Failed || !self.may_connect(node.addr, node.id) {
                continue;
            }
            // As many as there are shards for each worker, which is never too many.
            self.stats.shares.take_exclusive(usize::MAX);
            let ix = self.open_backend(node.addr, node.id, Version::Resp3, Lane::Exclusive, None);
            self.backends[ix].is_one_way = true;
            let outbox = &mut self.backends[ix].wire.outbox;
            outbox.push_owned(hears.request().to_vec());
            if hears == Hears::Changes {
                outbox.push_owned(ASK_LIMIT.to_vec());
            }
            self.mark_backend(ix);
            self.ears.ears.push(Ear { backend: ix, hears, is_open: false });
        }
    }

    /// Whether nothing of it is missed.
    fn hears_all(&self, hears: Hears) -> bool {
        let mut primaries = self.topology.primaries().peekable();
        let is_heard = |id| {
            self.ears.ears.iter().any(|ear| {
                let backend = self.backends.get(ear.backend);
                ear.is_open && ear.hears == hears && backend.is_some_and(|backend| backend.wire.node == id)
            })
        };
        (hears == Hears::Commands && self.ears.has_no_monitor)
            || (primaries.peek().is_some() && primaries.all(|node| is_heard(node.id)))
    }

    /// Tells those who wait for it that nodes have begun to tell, or do not.
    fn answer_pending(&mut self) {
        if self.ears.pending.is_empty() {
            return;
        }
        let now = self.now_us;
        for pending in std::mem::take(&mut self.ears.pending) {
            if self.hears_all(pending.hears) {
                self.answer(pending.session, pending.ticket, Outcome::Ok, b"+OK\r\n");
            } else if pending.until <= now {
                let held = self.config.hold;
                let error = ErrorReply::GaveUp { cause: Cause::Unreachable, slot: None, held };
                self.refuse_pending(pending, &super::answer::error_line(&error));
            } else {
                self.ears.pending.push(pending);
            }
        }
    }

    fn refuse_pending(&mut self, pending: Pending, line: &[u8]) {
        self.recorder.refused(Reason::Other);
        if self.session_of(pending.session).is_some() {
            match pending.hears {
                Hears::Changes => self.stop_tracking(pending.session.ix as usize),
                Hears::Commands => self.set_monitor(pending.session.ix as usize, false),
            }
        }
        self.answer(pending.session, pending.ticket, Outcome::Refused, line);
    }

    /// A node says something that no request of ours waits for; true when it is one that tells of changes.
    pub fn on_ear(&mut self, backend: usize, message: &[u8]) -> bool {
        let Some(at) = self.ears.ears.iter().position(|ear| ear.backend == backend) else { return false };
        let Ear { hears, is_open, .. } = self.ears.ears[at];
        match (hears, message[0]) {
            (Hears::Changes, b'>') => self.on_invalidated(message),
            (Hears::Changes, b'%') => {
                let limit = pairs_of(message).next().map(|(_, value)| integer(value));
                self.limit_tracking(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0));
            }
            (Hears::Commands, b'+') if memchr::memmem::find(message, b" lua] ").is_some() => {
                self.tell_monitors(message);
            }
            // It may not or cannot tell.
            (_, b'-') => self.on_deaf(backend, hears, message),
            (_, b'+') if !is_open && matches!(message, b"+OK\r\n") => {
                self.ears.ears[at].is_open = true;
                if hears == Hears::Changes {
                    self.on_all_changed();
                }
                self.answer_pending();
            }
            _ => {}
        }
        true
    }

    fn on_invalidated(&mut self, message: &[u8]) {
        let mut parts = elements(message);
        if parts.next().map(text_of) != Some(b"invalidate") {
            return;
        }
        match parts.next() {
            Some(keys) if keys.starts_with(b"*") && !keys.starts_with(b"*-") => {
                let keys: Vec<&[u8]> = elements(keys).map(text_of).collect();
                self.on_changed(&keys);
            }
            _ => self.on_all_changed(),
        }
    }

    fn on_deaf(&mut self, backend: usize, hears: Hears, error: &[u8]) {
        if hears == Hears::Commands {
            self.ears.has_no_monitor = true;
        } else if error.starts_with(b"-NOPERM")
            && self.ears.ears.iter().any(|ear| ear.backend == backend && ear.is_open)
        {
            // Only the limit or the sign of life is not for us.
            return;
        } else {
            let (meant, others): (Vec<Pending>, Vec<Pending>) =
                std::mem::take(&mut self.ears.pending).into_iter().partition(|one| one.hears == hears);
            self.ears.pending = others;
            meant.into_iter().for_each(|pending| self.refuse_pending(pending, error));
        }
        self.close_backend(backend, true);
        self.answer_pending();
    }

    /// A connection was closed; if it was one of these, changes may have been missed.
    pub fn ear_lost(&mut self, backend: usize) {
        let Some(at) = self.ears.ears.iter().position(|ear| ear.backend == backend) else { return };
        if self.ears.ears.swap_remove(at).hears == Hears::Changes {
            self.on_all_changed();
        }
    }

    /// Asks nodes for a sign of life, and lets go of those that give none or that nobody needs. Called once a
    /// second.
    pub fn check_ears(&mut self) {
        for Ear { backend, hears, .. } in self.ears.ears.clone() {
            let is_wanted = self.wants(hears);
            let Some(ear) = self.backends.get_mut(backend) else { continue };
            let silent = self.now.saturating_duration_since(ear.wire.heard_at);
            if !is_wanted {
                self.close_backend(backend, false);
            } else if silent > EAR_TIMEOUT {
                self.close_backend(backend, true);
            } else {
                ear.wire.outbox.push_owned(PING.to_vec());
                self.mark_backend(backend);
            }
        }
        self.fit_ears();
    }

    /// The nodes' settings have changed: asks again for what counts here.
    pub fn ask_limits(&mut self) {
        for ear in self.ears.ears.clone() {
            if ear.hears == Hears::Changes
                && let Some(backend) = self.backends.get_mut(ear.backend)
            {
                backend.wire.outbox.push_owned(ASK_LIMIT.to_vec());
                self.mark_backend(ear.backend);
            }
        }
    }
}
