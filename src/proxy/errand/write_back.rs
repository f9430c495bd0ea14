//! What a command changed of copies, written to the keys themselves. Pure.
//!
//! A key is only written if nobody has changed it since its value was fetched, as a script at its node
//! sees; else all that was written is undone, and the command can be run anew. First comes what is added,
//! then what is taken away: whatever breaks in the middle, a value is at both places, never at none. The
//! keys are locked meanwhile: another command of this kind never sees a half of it.

use super::exchange::{Value, answered, bulk, half_way, is_error, is_unknown};
use super::swap::{digest, swap};
use super::{Ask, Step};
use crate::topology::Slot;

/// One key that the command changed.
#[derive(Debug)]
pub struct Change {
    pub key: Vec<u8>,
    pub slot: Slot,
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// The command takes something out of it.
    pub is_taken_from: bool,
}

impl Change {
    fn is_last(&self) -> bool {
        let size = |value: &Option<Value>| value.as_ref().map_or(0, |value| value.payload.len());
        self.after.is_none() || self.is_taken_from || size(&self.after) < size(&self.before)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Adding,
    TakingAway,
    /// What was taken away comes back first.
    GivingBack,
    Removing,
}

#[derive(Debug)]
pub struct WriteBack {
    command: Box<str>,
    changes: Vec<Change>,
    /// The digest of what stands there now, of each change that was written.
    written: Vec<Option<Vec<u8>>>,
    stage: Stage,
    answer: Vec<u8>,
    /// Why it is undone; empty: somebody else has changed a key.
    why: Vec<u8>,
}

/// What comes after a step.
#[derive(Debug)]
pub enum Progress {
    Ask(Vec<Ask>),
    End(Step),
    /// All is as it was, for this reason: an error line, as far as it is not another client.
    Undone(Vec<u8>),
}

impl WriteBack {
    /// Begins to write `changes`, at least one; `answer` is the client's reply when that is done.
    pub fn begin(command: &str, changes: Vec<Change>, answer: Vec<u8>) -> (WriteBack, Vec<Ask>) {
        let has_more = changes.iter().any(|change| !change.is_last());
        let writing = WriteBack {
            command: command.into(),
            written: vec![None; changes.len()],
            changes,
            stage: if has_more { Stage::Adding } else { Stage::TakingAway },
            answer,
            why: Vec::new(),
        };
        let asks = writing.asks();
        (writing, asks)
    }

    /// About how many bytes it keeps.
    pub fn keeps(&self) -> usize {
        let values = self.changes.iter().flat_map(|change| [&change.before, &change.after]);
        self.answer.len() + values.flatten().map(|value| value.payload.len()).sum::<usize>()
    }

    fn is_undoing(&self) -> bool {
        matches!(self.stage, Stage::GivingBack | Stage::Removing)
    }

    /// The changes that this stage is about.
    fn current(&self) -> Vec<usize> {
        let is_about_last = matches!(self.stage, Stage::TakingAway | Stage::GivingBack);
        let is_current = |at: &usize| {
            self.changes[*at].is_last() == is_about_last
                && (!self.is_undoing() || self.written[*at].is_some())
        };
        (0..self.changes.len()).filter(is_current).collect()
    }

    fn asks(&self) -> Vec<Ask> {
        let ask = |at: usize| {
            let change = &self.changes[at];
            let (from, to) = match self.is_undoing() {
                true => (self.written[at].clone().unwrap_or_default(), &change.before),
                false => (change.before.as_ref().map(digest).unwrap_or_default(), &change.after),
            };
            swap(&change.key, change.slot, &from, to.as_ref())
        };
        self.current().into_iter().map(ask).collect()
    }

    /// Asks what this stage asks, or goes on at once when that is nothing.
    fn go_to(&mut self, stage: Stage) -> Progress {
        self.stage = stage;
        let asks = self.asks();
        if asks.is_empty() { self.go_on() } else { Progress::Ask(asks) }
    }

    /// The stage is done.
    fn go_on(&mut self) -> Progress {
        match self.stage {
            Stage::Adding => self.go_to(Stage::TakingAway),
            Stage::TakingAway => Progress::End(answered(std::mem::take(&mut self.answer))),
            Stage::GivingBack => self.go_to(Stage::Removing),
            Stage::Removing => Progress::Undone(std::mem::take(&mut self.why)),
        }
    }

    pub fn step(&mut self, replies: &[Vec<u8>]) -> Progress {
        let mut failure: Option<&[u8]> = None;
        let is_undoing = self.is_undoing();
        for (at, reply) in self.current().into_iter().zip(replies) {
            match bulk(reply) {
                Some(digest) => self.written[at] = (!is_undoing).then(|| digest.to_vec()),
                None if is_unknown(reply) => return Progress::End(half_way(&self.command, reply)),
                None if is_error(reply) => failure = Some(reply),
                None => failure = failure.or(Some(b"")),
            }
        }
        match failure {
            None => self.go_on(),
            Some(why) if is_undoing => {
                let why = if why.is_empty() { b"another client changed its keys meanwhile" } else { why };
                Progress::End(half_way(&self.command, why))
            }
            Some(why) => {
                self.why = why.to_vec();
                self.go_to(Stage::GivingBack)
            }
        }
    }
}
