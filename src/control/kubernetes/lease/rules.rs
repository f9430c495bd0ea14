//! The rules by which candidates elect one leader with a Lease, as client-go has them
//! (<https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>). Pure: time is handed in, requests are made
//! elsewhere.
//!
//! No clock is ever compared with another's. A candidate measures with its own how long it has seen a record
//! unchanged; a leader counts its time from before it sent the write that the API server took. So the leader's
//! time ends before anybody else's patience does, as long as no clock runs half as fast again as another.

use std::time::{Duration, Instant};

/// How long things take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// How long a record must stay unchanged before another may take it.
    pub duration: Duration,
    /// How long a leader leads on from its last renewal. Shorter by what clocks may differ, and by what a step
    /// under way may take.
    pub renew_deadline: Duration,
    /// The pause between tries.
    pub retry: Duration,
}

impl Default for Timing {
    /// client-go's.
    fn default() -> Timing {
        let seconds = Duration::from_secs;
        Timing { duration: seconds(15), renew_deadline: seconds(10), retry: seconds(2) }
    }
}

/// What the Lease says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// Empty when it was given back.
    pub holder: String,
    /// What its holder asks others to wait.
    pub duration: Duration,
    /// How often it went to another holder.
    pub transitions: u32,
}

/// A record as the API server has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub record: Record,
    /// Changes with each write, and a write is only taken that names the last one.
    pub version: String,
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ask what the Lease says.
    Look,
    /// Write this over the version; over `None`, create it.
    Write(Record, Option<String>),
    /// Try again after a pause.
    Rest,
}

/// One who may lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: String,
    timing: Timing,
    /// What the Lease said last, and since when it was seen to say so.
    seen: Option<(Found, Instant)>,
    /// Whether it was looked at, or written, since the last pause.
    is_fresh: bool,
    /// It was there once and is no more: its holder may not know yet.
    is_gone: bool,
    until: Option<Instant>,
    term: u64,
}

impl Candidate {
    /// `identity` must be no other's, not even that of an earlier life.
    pub fn new(identity: String, timing: Timing) -> Candidate {
        Candidate { identity, timing, seen: None, is_fresh: false, is_gone: false, until: None, term: 0 }
    }

    /// What to do now.
    pub fn step(&self, now: Instant) -> Step {
        if !self.is_fresh {
            return Step::Look;
        }
        let record = |transitions| Record {
            holder: self.identity.clone(),
            duration: self.timing.duration,
            transitions,
        };
        let Some((found, since)) = &self.seen else { return Step::Write(record(0), None) };
        let Record { holder, duration, transitions } = &found.record;
        let is_ours = *holder == self.identity;
        // Who waits longer than its holder asks for harms nobody.
        let is_over = now.saturating_duration_since(*since) >= self.timing.duration.max(*duration);
        if !is_ours && !holder.is_empty() && !is_over {
            return Step::Rest;
        }
        let transitions = transitions.saturating_add(u32::from(!is_ours));
        Step::Write(record(transitions), (!self.is_gone).then(|| found.version.clone()))
    }

    /// The Lease was looked at, and the answer was here at `now`.
    pub fn saw(&mut self, found: Option<Found>, now: Instant) {
        self.is_fresh = true;
        self.is_gone = found.is_none();
        let Some(found) = found else {
            // Somebody deleted it. Who held it leads on until it notices, and so do we not.
            self.until = None;
            return;
        };
        if found.record.holder != self.identity {
            self.until = None;
        }
        if self.seen.as_ref().is_none_or(|(seen, _)| seen.version != found.version) {
            self.seen = Some((found, now));
        }
    }

    /// The API server took our write, which was begun at `sent`.
    pub fn wrote(&mut self, found: Found, sent: Instant, now: Instant) {
        let until = sent + self.timing.renew_deadline;
        let was_leading = self.until.is_some_and(|until| now < until);
        if !was_leading && now < until {
            self.term += 1;
        }
        self.until = Some(until);
        (self.is_fresh, self.is_gone) = (true, false);
        self.seen = Some((found, now));
    }

    /// A pause was made, or nobody knows what came of a write: the Lease must be looked at first, but by who
    /// leads, who wrote it last.
    pub fn rested(&mut self, now: Instant) {
        self.until = self.until.filter(|until| now < *until);
        self.is_fresh &= self.until.is_some();
    }

    /// The Lease is not as it was thought to be, or may not be.
    pub fn failed(&mut self) {
        self.is_fresh = false;
    }

    /// This one leads no more, by its own will. What to write so that others need not wait; `None` when it is
    /// not ours.
    pub fn give_up(&mut self) -> Option<(Record, String)> {
        self.until = None;
        let (found, _) = self.seen.as_ref().filter(|(found, _)| found.record.holder == self.identity)?;
        // As client-go does: nobody holds it, and for the shortest time that can be said.
        let duration = Duration::from_secs(1);
        let record = Record { holder: String::new(), duration, ..found.record.clone() };
        Some((record, found.version.clone()))
    }

    /// When its time is over; `None` when it does not lead.
    pub fn leads_until(&self) -> Option<Instant> {
        self.until
    }

    /// How many elections it won.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// What the Lease said last.
    pub fn record(&self) -> Option<&Record> {
        self.seen.as_ref().map(|(found, _)| &found.record)
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
