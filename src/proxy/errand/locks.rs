//! The locks that a command over several slots takes before it fetches what it may change, one after the
//! other in the order of the keys' names, so that of several which want the same keys one always comes
//! through. Pure.

use super::exchange::{is_error, is_unknown};
use super::swap::{lock, unlock};
use super::{Answer, Ask, Step};
use crate::topology::Slot;
use std::time::Duration;

/// How often a lock that another command holds is tried again, and after how long at first and at most:
/// for about two seconds in all, many times what such a command takes.
const MOST_TRIES: u32 = 120;
const FIRST_DELAY: Duration = Duration::from_millis(1);
const LONGEST_DELAY: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Locks {
    /// In the order of their names.
    keys: Vec<(Vec<u8>, Slot)>,
    holder: String,
    /// How many of them are asked for, and how many are held, the first ones.
    asked: usize,
    held: usize,
    tries: u32,
    /// What is answered when they are given back.
    end: Option<Answer>,
}

/// What is to be done about locks.
#[derive(Debug)]
pub enum Locking {
    Ask(Vec<Ask>),
    /// For this reason: an error line, or empty, as others hold one of them all the time.
    Refused(Vec<u8>),
    Ended(Step),
}

impl Locks {
    /// Of these keys, which are in several slots; none for fewer than two.
    pub fn of(mut keys: Vec<(Vec<u8>, Slot)>) -> Locks {
        keys.sort();
        if keys.len() < 2 {
            keys.clear();
        }
        let holder = format!("{:016x}", fastrand::u64(..));
        Locks { keys, holder, asked: 0, held: 0, tries: 0, end: None }
    }

    /// Whether some may be held.
    pub fn are_held(&self) -> bool {
        self.asked > 0 && (self.held > 0 || self.asked > self.held)
    }

    /// Takes a step's replies; `None` when all that is to be locked is, and they are for somebody else.
    pub fn step(&mut self, replies: &[Vec<u8>]) -> Option<Locking> {
        if let Some(answer) = self.end.take() {
            return Some(Locking::Ended(Step::Answer(answer)));
        }
        if self.held == self.keys.len() {
            return None;
        }
        if let Some(reply) = replies.first().filter(|_| self.asked > self.held) {
            if is_error(reply) {
                // One of which nobody knows is given back, too.
                self.held += usize::from(is_unknown(reply));
                self.asked = self.held;
                return Some(Locking::Refused(reply.clone()));
            }
            if reply.starts_with(b"+") {
                self.held += 1;
                self.tries = 0;
            } else {
                self.tries += 1;
            }
        }
        if self.tries > MOST_TRIES {
            self.asked = self.held;
            return Some(Locking::Refused(Vec::new()));
        }
        let Some((key, slot)) = self.keys.get(self.held) else {
            // The last one: what is to be done begins.
            return None;
        };
        self.asked = self.held + 1;
        let mut ask = lock(key, *slot, &self.holder);
        if self.tries > 0 {
            let delay = FIRST_DELAY.saturating_mul(1 << (self.tries - 1).min(8)).min(LONGEST_DELAY);
            // Not all at the same time.
            ask.delay = delay.mul_f64(0.5 + fastrand::f64());
        }
        Some(Locking::Ask(vec![ask]))
    }

    /// Gives back what is held before the client gets its answer.
    pub fn end(&mut self, answer: Answer) -> Step {
        let held = &self.keys[..self.held];
        let asks: Vec<Ask> = held.iter().map(|(key, slot)| unlock(key, *slot, &self.holder)).collect();
        if asks.is_empty() {
            return Step::Answer(answer);
        }
        self.end = Some(answer);
        Step::Ask(asks)
    }
}
