//! What clients noticed, and the rows that judge it. Pure.

use crate::report::Row;
use crate::words::time;
use std::time::{Duration, Instant};

/// What a client may notice besides a reply that takes longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// An error reply, or one that makes no sense.
    Error(String),
    /// The node was lost while it had a command that must not run twice: nobody can know whether it ran.
    Unknown(String),
    /// The connection was closed between two replies, in order.
    Closed,
    /// It was cut off: in a reply, or with a reset.
    Cut(String),
    /// No reply within the client's patience.
    Silent,
    /// No connection could be made at that address.
    Unreachable(String),
}

#[derive(Clone, Debug)]
pub struct Event {
    pub at: Instant,
    pub client: usize,
    pub trouble: Trouble,
}

/// A write that was acknowledged and is not there.
#[derive(Clone, Debug)]
pub struct Lost {
    pub key: String,
    pub acknowledged: Instant,
}

/// One client's account, or that of all.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub requests: usize,
    pub longest: Duration,
    pub events: Vec<Event>,
    pub lost: Vec<Lost>,
    /// Counted more often than asked for.
    pub twice: u64,
    /// Keys that were read at the end.
    pub verified: usize,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.requests += other.requests;
        self.longest = self.longest.max(other.longest);
        self.events.extend(other.events);
        self.lost.extend(other.lost);
        self.twice += other.twice;
        self.verified += other.verified;
    }

    pub fn count(&self, is_it: impl Fn(&Trouble) -> bool) -> usize {
        self.events.iter().filter(|event| is_it(&event.trouble)).count()
    }

    /// Error replies: what a program would show to its user.
    pub fn errors(&self) -> usize {
        self.count(|trouble| matches!(trouble, Trouble::Error(_)))
    }

    /// Times one client's connection ended in whatever way, at most.
    pub fn most_ends(&self) -> usize {
        let ends = |client: usize| {
            let is_end = |event: &&Event| {
                event.client == client
                    && !matches!(event.trouble, Trouble::Error(_) | Trouble::Unreachable(_))
            };
            self.events.iter().filter(is_end).count()
        };
        self.events.iter().map(|event| ends(event.client)).max().unwrap_or(0)
    }

    /// Lost writes but those that a primary had acknowledged shortly before it was lost, which Redis does not
    /// promise to keep.
    pub fn lost_but_around(&self, fault: Instant, window: Duration) -> usize {
        let is_excused = |lost: &&Lost| {
            lost.acknowledged + Duration::from_secs(1) >= fault && lost.acknowledged <= fault + window
        };
        self.lost.len() - self.lost.iter().filter(is_excused).count()
    }

    /// In a few words, with the beginning of the first trouble of each kind.
    pub fn words(&self) -> String {
        const MOST: usize = 40;
        let kinds: [(&str, fn(&Trouble) -> bool); 6] = [
            ("errors", |trouble| matches!(trouble, Trouble::Error(_))),
            ("of unknown outcome", |trouble| matches!(trouble, Trouble::Unknown(_))),
            ("closed", |trouble| *trouble == Trouble::Closed),
            ("cut off", |trouble| matches!(trouble, Trouble::Cut(_))),
            ("without a reply", |trouble| *trouble == Trouble::Silent),
            ("connects failed", |trouble| matches!(trouble, Trouble::Unreachable(_))),
        ];
        let mut words = format!("{} requests", self.requests);
        for (name, is_it) in kinds {
            let count = self.count(is_it);
            let first = self.events.iter().find_map(|event| match &event.trouble {
                trouble if !is_it(trouble) => None,
                Trouble::Error(text) | Trouble::Cut(text) | Trouble::Unreachable(text) => Some(text.as_str()),
                _ => None,
            });
            if count > 0 || name == "errors" {
                words += &format!(", {count} {name}");
            }
            if let Some(first) = first {
                let end = first.char_indices().nth(MOST).map_or(first.len(), |(end, _)| end);
                words += &format!(" ({})", &first[..end]);
            }
        }
        for (count, name) in [(self.lost.len() as u64, "lost"), (self.twice, "counted twice")] {
            if count > 0 {
                words += &format!(", {count} {name}");
            }
        }
        words + &format!(", longest {}", time(self.longest))
    }

    /// What was noticed and when, for the log; the first of it.
    pub fn story(&self, began: Instant) -> Vec<String> {
        const MOST: usize = 20;
        let mut events: Vec<&Event> = self.events.iter().collect();
        events.sort_by_key(|event| event.at);
        let event = |event: &&Event| {
            format!("{} into the load, client {}: {:?}", time(event.at - began), event.client, event.trouble)
        };
        let lost = |lost: &Lost| {
            format!("lost: {}, acknowledged {} into the load", lost.key, time(lost.acknowledged - began))
        };
        let lines = events.iter().take(MOST).map(event);
        lines.chain(self.lost.iter().take(MOST).map(lost)).collect()
    }

    /// Nothing at all may be noticed but a longer reply.
    pub fn unnoticed(&self, what: &str) -> Row {
        let is_kept = self.events.is_empty() && self.is_whole();
        Row::new(what, "0 errors, nothing lost", self.words(), is_kept)
    }

    /// Connections may end between two replies, each at most so often; who reconnects sees nothing else.
    pub fn closed_at_most(&self, what: &str, times: usize) -> Row {
        let is_clean = self.events.iter().all(|event| event.trouble == Trouble::Closed);
        let promised = format!("0 errors, each client closed <= {times} x");
        Row::new(what, &promised, self.words(), is_clean && self.most_ends() <= times && self.is_whole())
    }

    /// Nothing acknowledged was lost, and nothing ran twice.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.twice == 0 && self.verified > 0
    }
}

/// A time that was promised.
pub fn within(what: &str, limit: Duration, took: Duration) -> Row {
    Row::new(what, &format!("<= {} s", limit.as_secs()), time(took), took <= limit)
}
