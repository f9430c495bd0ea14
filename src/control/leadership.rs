//! Leadership: whether this gateway may act, where several elect one. No word of how they elect.
//!
//! Not a yes or no but a time: who was elected and then stopped, or was cut off, finds by its own clock that
//! its time is over, before another may be elected. It is asked before each change, not once.

use serde::Serialize;
use std::future::pending;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What the election tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Term {
    /// Grows with each election that is won, so that one who lost it in between can tell.
    pub number: u64,
    /// Until when this one leads; `None` when it does not.
    pub until: Option<Instant>,
}

impl Term {
    fn is_running(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}

/// Where the election tells how it goes: this one's terms, and who leads, for operators.
#[derive(Debug)]
pub struct Terms {
    terms: watch::Sender<Term>,
    seen: Mutex<Seen>,
    identity: String,
}

/// What was last seen of the election.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Seen {
    holder: String,
    transitions: u32,
}

/// Who leads, for operators.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Leader {
    /// Whether it is this one.
    pub is_own: bool,
    /// By the last word of the election; `null` when nobody does, or nobody knows.
    pub name: Option<String>,
    /// The name under which this one is elected.
    pub own_name: String,
    /// How often another one came to lead.
    pub transitions: u32,
}

impl Terms {
    /// Of an election in which this one is called `identity`.
    pub fn new(identity: String) -> Terms {
        Terms { terms: watch::Sender::default(), seen: Mutex::default(), identity }
    }

    /// How this one learns whether it may act.
    pub fn leadership(&self) -> Leadership {
        Leadership::new(self.terms.subscribe())
    }

    /// Tells of this one's term, and of who holds the office.
    pub fn tell(&self, term: Term, holder: &str, transitions: u32) {
        let before = self.terms.send_replace(term);
        if term.until.is_some() && term.number != before.number {
            tracing::info!(reason = "lease", name = self.identity, transitions, "this gateway leads");
        } else if before.until.is_some() && term.until.is_none() {
            tracing::warn!(reason = "lease", holder, "this gateway leads no more");
        }
        let seen = Seen { holder: holder.to_string(), transitions };
        let mut last = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if last.holder != seen.holder && seen.holder != self.identity {
            tracing::info!(reason = "lease", holder, "another gateway leads, or nobody does");
        }
        *last = seen;
    }

    pub fn leader(&self) -> Leader {
        let Seen { holder, transitions } = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_own = self.terms.borrow().is_running();
        // What it held once and may hold no more is nobody's by its own word.
        let name = Some(holder).filter(|holder| !holder.is_empty() && (is_own || *holder != self.identity));
        Leader { is_own, name, own_name: self.identity.clone(), transitions }
    }
}

/// Whether this one may act. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Leadership {
    terms: watch::Receiver<Term>,
    /// What `changed` told of last.
    known: Option<u64>,
}

impl Leadership {
    pub fn new(terms: watch::Receiver<Term>) -> Leadership {
        Leadership { terms, known: None }
    }

    /// Whether this one leads at this moment.
    pub fn is_leader(&self) -> bool {
        self.terms.borrow().is_running()
    }

    /// The number of the term that runs; `None` when this one does not lead. Another number than before means
    /// that somebody else may have led in between.
    pub fn term(&self) -> Option<u64> {
        let term = self.terms.borrow();
        term.is_running().then_some(term.number)
    }

    /// Completes when this one was elected, or leads no more, since it last completed. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            let now = self.term();
            if now != self.known {
                self.known = now;
                return;
            }
            let until = self.terms.borrow_and_update().until.filter(|_| now.is_some());
            let is_over = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                told = self.terms.changed() => if told.is_err() {
                    // Nobody tells any more, as when the process ends; the time still passes.
                    match until {
                        Some(until) => sleep_until(until).await,
                        None => pending().await,
                    }
                },
                () = is_over => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::{advance, timeout};

    const LONG: Duration = Duration::from_secs(3600);

    fn until(number: u64, seconds: u64) -> Term {
        Term { number, until: Some(Instant::now() + Duration::from_secs(seconds)) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_is_over_is_over_without_anybody_telling() {
        let sender = watch::Sender::new(until(1, 10));
        let leadership = Leadership::new(sender.subscribe());
        assert_eq!((leadership.is_leader(), leadership.term()), (true, Some(1)));
        advance(Duration::from_secs(10)).await;
        assert_eq!((leadership.is_leader(), leadership.term()), (false, None));
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_told_and_renewals_are_not() {
        let sender = watch::Sender::new(Term::default());
        let mut leadership = Leadership::new(sender.subscribe());
        assert!(timeout(LONG, leadership.changed()).await.is_err(), "nothing changed");
        sender.send_replace(until(1, 10));
        leadership.changed().await;
        assert!(leadership.is_leader());
        sender.send_replace(until(1, 15));
        assert!(timeout(Duration::from_secs(14), leadership.changed()).await.is_err(), "only renewed");
        leadership.changed().await;
        assert!(!leadership.is_leader());
        // Lost and won again between two looks.
        sender.send_replace(until(2, 10));
        leadership.changed().await;
        sender.send_replace(until(3, 10));
        leadership.changed().await;
        assert_eq!(leadership.term(), Some(3));
        drop(sender);
        leadership.changed().await;
        assert!(!leadership.is_leader());
        assert!(timeout(LONG, leadership.changed()).await.is_err(), "nobody can be elected any more");
    }
}
