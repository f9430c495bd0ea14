//! An errand: one command of a client that takes several requests to several nodes, one step after the
//! other.
//!
//! What to ask next is decided by a [`Plan`], pure; this carries it out. An errand has a session of its own
//! without a client, so that each of its requests is held, redirected and sent again as any other, and so
//! that it comes to its end when the client leaves. The client's session waits meanwhile: what it sent
//! before is answered, what it sends after is looked at when the errand is over.

mod bring;
#[cfg(test)]
mod bring_tests;
mod exchange;
mod locks;
mod plans;
mod report;
mod sort;
mod sort_words;
mod streams;
mod swap;
mod temporaries;
mod write_back;

pub use plans::{only_reads, plan};
pub use report::CrossSlotUses;
pub use sort_words::has_patterns;

use super::config::CrossSlot;
use super::core::Core;
use super::dispatch::Handled;
use super::error_reply::ErrorReply;
use super::flight::{Aim, Held, SessionKey, Tag};
use super::pipeline::{Place, Ticket};
use super::redirect::Cause;
use super::session::{Busy, Session};
use crate::command::CommandIx;
use crate::resp::Request;
use crate::telemetry::{ErrandResult, Family, Outcome, Reason};
use crate::topology::Slot;
use std::fmt::Debug;
use std::time::Duration;

/// All errands together may keep so many times what one may: the largest ones are rare, and each waits
/// only for nodes.
const SHARES: usize = 8;

/// A reply that is always kept: an error, a digest, a count.
const SMALL: usize = 512;

/// The client's own command may answer so many times what values may be brought for it: they may come
/// back as they were and as they are then, and as its reply.
const OWN: usize = 3;

/// Decides what an errand does next, from nothing but the replies.
pub trait Plan: Debug + Send {
    /// The next step, given the replies to the last one's requests, each whole and in their order; none
    /// at first. A reply may be an error, of a node or of ours.
    fn step(&mut self, replies: &[Vec<u8>]) -> Step;

    /// Whether it is to be brought to its end although the client is gone.
    fn must_end(&self) -> bool;

    /// About how many bytes it keeps from one step to the next.
    fn keeps(&self) -> usize;
}

/// What an errand does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends these requests at once, at least one, and waits for all replies.
    Ask(Vec<Ask>),
    Answer(Answer),
}

/// How an errand ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The client's reply, in its protocol version.
    pub reply: Vec<u8>,
    pub result: ErrandResult,
    /// What is sent besides, and nobody waits for.
    pub tidying: Option<Ask>,
}

/// One request of an errand.
#[derive(Debug, PartialEq, Eq)]
pub struct Ask {
    pub manner: Manner,
    pub slot: Slot,
    /// One request, or a transaction from MULTI to EXEC.
    pub frames: Vec<u8>,
    /// How many replies come before the one that counts.
    pub skip: u32,
    /// Not sent before this time is over.
    pub delay: Duration,
}

/// What may be done with a request whose connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Sent again: it only reads.
    Read,
    /// It may have run, and the plan is told so.
    Write,
    /// As the client's own command.
    Own,
}

/// An errand under way, kept by its own session.
#[derive(Debug)]
pub struct Errand {
    client: SessionKey,
    ticket: Ticket,
    command: CommandIx,
    family: Family,
    plan: Box<dyn Plan>,
    /// Counts the steps; replies to requests of another one are nobody's.
    step: Ticket,
    replies: Vec<Vec<u8>>,
    left: usize,
    /// Bytes of the replies, and how many they may be.
    bytes: usize,
    most: usize,
    /// Bytes that the plan keeps. All of them count against what all errands may keep.
    kept: usize,
}

impl Core {
    /// Serves a command whose keys lie in several slots, if it may be.
    pub fn send_errand(&mut self, ix: usize, command: CommandIx, request: &Request) -> Handled {
        let table = self.table.clone();
        let spec = table.get(command);
        let mut keys = std::mem::take(&mut self.keys);
        let version = self.sessions[ix].state.version;
        let plan = plan(spec, request, version, self.config.cross_slot_bytes, &mut keys);
        self.keys = keys;
        let option = plan.as_ref().map(|(_, is_read)| match is_read {
            true => "--cross-slot emulate-reads",
            false => "--cross-slot emulate",
        });
        let mode = self.config.cross_slot;
        let is_allowed = |is_read: bool| match mode {
            CrossSlot::Refuse => false,
            CrossSlot::EmulateReads => is_read,
            CrossSlot::Emulate => true,
        };
        if let Some((plan, _)) = plan.filter(|(_, is_read)| is_allowed(*is_read)) {
            let handled = self.begin_errand(ix, command, plan);
            if handled == Handled::Done {
                self.report_cross_slot(command);
            }
            return handled;
        }
        self.report_cross_slot(command);
        let family = self.traits[usize::from(command.0)].family;
        self.recorder.errand(family, ErrandResult::Refused);
        self.refuse(
            ix,
            family,
            Reason::CrossSlot,
            &ErrorReply::CrossSlot { name: spec.name.to_string(), option },
        );
        Handled::Done
    }

    /// Tells in the log of a command with keys in several slots, if that is wished.
    pub fn report_cross_slot(&mut self, command: CommandIx) {
        if !self.config.report_cross_slot {
            return;
        }
        if let Some(calls) = self.cross_slot_uses.count(command, self.now_us) {
            let command = self.table.get(command).name.to_ascii_uppercase();
            tracing::warn!(command, calls, "a client calls a command with keys in several slots");
        }
    }

    /// Begins an errand for a client's command, in its turn.
    pub fn begin_errand(&mut self, ix: usize, command: CommandIx, plan: Box<dyn Plan>) -> Handled {
        let session = &self.sessions[ix];
        if !session.pipeline.is_empty() || !session.gates.is_empty() {
            return Handled::NotYet;
        }
        let client = self.key_of(ix);
        let version = self.sessions[ix].state.version;
        let ticket = self.take_ticket(ix, command, Place::Waiting);
        self.sessions[ix].busy = Some(Busy::Alone);
        let family = self.traits[usize::from(command.0)].family;
        let errand = Errand {
            client,
            ticket,
            command,
            family,
            plan,
            step: 0,
            replies: Vec::new(),
            left: 0,
            bytes: 0,
            most: 0,
            kept: 0,
        };
        self.next_generation = self.next_generation.wrapping_add(1);
        let mut own = Session::new(self.next_generation, 0, true, self.now_us);
        own.state.version = version;
        // Never idle, so that neither a drain nor the idle timeout takes it for a client to let go.
        own.busy = Some(Busy::Alone);
        own.errand = Some(Box::new(errand));
        let own = self.sessions.insert(own);
        self.take_step(own);
        Handled::Done
    }

    /// Whether a request is one of an errand's.
    pub fn is_of_errand(&self, tag: &Tag) -> bool {
        self.sessions
            .get(tag.session.ix as usize)
            .is_some_and(|session| session.generation == tag.session.generation && session.errand.is_some())
    }

    /// How many bytes the reply to a request of an errand may have; `None`: it is a client's.
    pub fn room_of_errand(&self, tag: &Tag) -> Option<usize> {
        let session = self.sessions.get(tag.session.ix as usize);
        let session = session.filter(|session| session.generation == tag.session.generation)?;
        session.errand.as_ref().map(|errand| errand.most)
    }

    /// The reply to one of an errand's requests.
    pub fn errand_part(&mut self, tag: &Tag, reply: &[u8]) {
        let limit = self.config.cross_slot_bytes;
        let stats = self.stats.clone();
        let Some(session) = self.session_of(tag.session) else { return };
        let Some(errand) = session.errand.as_mut().filter(|errand| errand.step == tag.ticket) else { return };
        // What says that something was written is never lost.
        let is_small = reply.len() <= SMALL;
        let most = if is_small { usize::MAX } else { limit.saturating_mul(SHARES) };
        let has_room = (is_small || errand.bytes + reply.len() <= errand.most)
            && stats.shares.keep_for_errand(reply.len(), most);
        let kept = if has_room {
            errand.bytes += reply.len();
            reply.to_vec()
        } else {
            super::answer::error_line(&ErrorReply::CrossSlotTooLarge { limit })
        };
        errand.replies[tag.part as usize] = kept;
        errand.left = errand.left.saturating_sub(1);
        if errand.left == 0 {
            self.take_step(tag.session.ix as usize);
        }
    }

    fn take_step(&mut self, own: usize) {
        let Some(mut errand) = self.sessions[own].errand.take() else { return };
        let is_alone = self.session_of(errand.client).is_none();
        let step = if is_alone && !errand.plan.must_end() {
            None
        } else {
            let replies = std::mem::take(&mut errand.replies);
            Some(errand.plan.step(&replies))
        };
        let released = std::mem::take(&mut errand.bytes) + std::mem::take(&mut errand.kept);
        self.stats.shares.release_of_errand(released);
        match step {
            Some(Step::Ask(asks)) => {
                debug_assert!(!asks.is_empty(), "{errand:?} would wait for ever");
                errand.step += 1;
                errand.left = asks.len();
                errand.replies = vec![Vec::new(); asks.len()];
                errand.kept = errand.plan.keeps();
                // Beyond the limit for all, it ends with its next reply.
                self.stats.shares.keep_for_errand(errand.kept, usize::MAX);
                let has_own = asks.iter().any(|ask| ask.manner == Manner::Own);
                errand.most = self.config.cross_slot_bytes.saturating_mul(if has_own { OWN } else { 1 });
                let (step, command) = (errand.step, errand.command);
                self.sessions[own].errand = Some(errand);
                for (part, ask) in asks.iter().enumerate() {
                    self.send_ask(own, step, command, part as u32, ask);
                }
            }
            Some(Step::Answer(answer)) => {
                if let Some(ask) = &answer.tidying {
                    self.send_tidying(own, errand.command, ask);
                }
                self.forget_session(own);
                let limit = self.config.cross_slot_bytes;
                let is_too_large =
                    || answer.reply == super::answer::error_line(&ErrorReply::CrossSlotTooLarge { limit });
                let result = match answer.result {
                    ErrandResult::Error if is_too_large() => ErrandResult::TooLarge,
                    result => result,
                };
                self.recorder.errand(errand.family, result);
                let outcome = if answer.reply.starts_with(b"-") { Outcome::Error } else { Outcome::Ok };
                self.answer(errand.client, errand.ticket, outcome, &answer.reply);
            }
            None => drop(self.forget_session(own)),
        }
    }

    fn ask_tag(&self, own: usize, step: Ticket, command: CommandIx, ask: &Ask) -> Tag {
        let named = |name: &[u8]| self.table.by_name(name).map_or(command, |(command, _)| command);
        let command = match ask.manner {
            Manner::Own => command,
            Manner::Read => named(b"dump"),
            Manner::Write => named(b"restore"),
        };
        self.tag(own, step, command, Aim::Owner(ask.slot))
    }

    fn send_ask(&mut self, own: usize, step: Ticket, command: CommandIx, part: u32, ask: &Ask) {
        let mut tag = self.ask_tag(own, step, command, ask);
        tag.part = part;
        if ask.manner == Manner::Own {
            self.load_scripts_at(own, tag.command, ask.slot, &ask.frames);
        }
        if ask.delay.is_zero() {
            return self.forward_after(tag, &[&ask.frames], ask.skip);
        }
        let retry_at = self.now_us + ask.delay.as_micros() as u64;
        let (skip, request) = (ask.skip, ask.frames.clone());
        let (cause, behind, is_overtaken) = (Cause::TryAgain, 0, false);
        self.hold(Held { tag, skip, request, cause, retry_at, behind, is_overtaken });
    }

    /// Sends what nobody waits for, if that can be done at once.
    fn send_tidying(&mut self, own: usize, command: CommandIx, ask: &Ask) {
        let mut tag = self.ask_tag(own, 0, command, ask);
        tag.purpose = super::flight::Purpose::Discard;
        if let Some((backend, _)) = self.pipe_of(ask.slot, tag.version) {
            self.backends[backend].wire.push(&[&ask.frames], ask.skip, tag);
            self.mark_backend(backend);
        }
    }
}
