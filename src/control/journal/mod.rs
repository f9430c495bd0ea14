//! Journal: what no node can tell a manager that follows one which was killed: which nodes are ours, whom
//! we let in, which pod each was last seen in, and what was under way.
//!
//! It says what was wanted; what is, the nodes say, and only that is planned with. What must be put back is
//! not here but on the nodes themselves ([`super::mark`]), where it lasts as long as the change; and every
//! plan follows from what the nodes say, so commands that somebody starts again need no journal at all.
//! Losing it is no harm but that members are known again only by each other's word. So a place that cannot
//! be read or written is told of, never waited for at length, and stops nobody.

mod entry;
mod file;

pub use entry::Home;
pub use file::File;

use crate::topology::NodeId;
use entry::{Entry, Work};
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// More steps than people read; the plan is made anew anyway.
const MOST_STEPS: usize = 1000;
/// After a failure that took longer than the first, the place rests for so many times as long: one that is slow
/// to fail takes a twentieth of our time, and one that fails at once may be tried again at once.
const QUICK: Duration = Duration::from_millis(200);
const REST: u32 = 20;

/// A place where the journal's text is kept.
pub trait Store: fmt::Debug + Send + Sync {
    /// Where that is, such as `/var/lib/slotgate/journal.json`.
    fn place(&self) -> String;

    /// The text; `None` when nobody has written any yet.
    fn load(&self) -> BoxFuture<'_, Result<Option<String>, StoreError>>;

    /// Replaces the text as a whole, or leaves it as it was.
    fn save(&self, text: String) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How many bytes the text may have.
    fn limit(&self) -> usize;

    /// Steps of a plan are written no more often than this.
    fn spacing(&self) -> Duration {
        Duration::ZERO
    }
}

/// Why a place gave or took no text.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written.
    #[error("somebody else has written it since it was read here")]
    Overtaken,
    #[error("{0}")]
    Failed(String),
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
enum JournalError {
    #[error("cannot read the journal {0}: {1}")]
    Read(String, String),
    #[error("cannot write the journal {0}: {1}; after a kill the next manager will know less")]
    Write(String, String),
    #[error("the journal {0} is damaged ({1}); it is begun anew")]
    Damaged(String, String),
}

/// The journal of one manager. Without a store it keeps nothing.
#[derive(Debug)]
pub struct Journal {
    store: Option<Arc<dyn Store>>,
    entry: Entry,
    cut_short: Option<String>,
    trouble: Option<String>,
    /// Whether this one may write.
    is_leading: bool,
    /// Somebody else wrote; nothing is written before that was read.
    is_overtaken: bool,
    /// No attempt before then.
    rests_until: Option<Instant>,
    saved_at: Option<Instant>,
}

impl Journal {
    /// Reads what an earlier manager left. One that cannot be read is told of, and is no reason not to
    /// manage.
    pub async fn open(store: Option<Arc<dyn Store>>) -> Journal {
        let mut journal = Journal {
            store,
            entry: Entry::default(),
            cut_short: None,
            trouble: None,
            is_leading: true,
            is_overtaken: false,
            rests_until: None,
            saved_at: None,
        };
        journal.read().await;
        journal
    }

    /// Only who leads writes. One who begins to lead, or was overtaken, reads what the others left: whether
    /// that was done, so that [`Journal::members`] and [`Journal::homes`] may say more than before.
    pub async fn lead(&mut self, is_leader: bool) -> bool {
        self.is_overtaken |= is_leader && !self.is_leading;
        self.is_leading = is_leader;
        let is_due = is_leader && self.is_overtaken && !self.is_resting() && self.store.is_some();
        is_due && self.read().await
    }

    /// Where it is kept.
    pub fn place(&self) -> Option<String> {
        self.store.as_ref().map(|store| store.place())
    }

    /// The members, and those of them that wait for their role, by the last manager's word.
    pub fn members(&self) -> (HashSet<NodeId>, HashSet<NodeId>) {
        let set = |ids: &BTreeSet<NodeId>| ids.iter().copied().collect();
        (set(&self.entry.members), set(&self.entry.newcomers))
    }

    /// Which pod each node was last seen in, by the last manager's word.
    pub fn homes(&self) -> &BTreeMap<NodeId, Home> {
        &self.entry.homes
    }

    /// What an earlier manager was doing when it was ended, in words.
    pub fn cut_short(&self) -> Option<&str> {
        self.cut_short.as_deref()
    }

    /// Why the journal is not kept.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Keeps who is ours.
    pub async fn know(&mut self, members: &HashSet<NodeId>, newcomers: &HashSet<NodeId>) {
        let set = |ids: &HashSet<NodeId>| ids.iter().copied().collect::<BTreeSet<NodeId>>();
        let (members, newcomers) = (set(members), set(newcomers));
        if self.entry.members != members || self.entry.newcomers != newcomers || self.trouble.is_some() {
            (self.entry.members, self.entry.newcomers) = (members, newcomers);
            self.save().await;
        }
    }

    /// Keeps which pod each node was last seen in.
    pub async fn know_homes(&mut self, homes: &BTreeMap<NodeId, Home>) {
        if self.entry.homes != *homes {
            self.entry.homes = homes.clone();
            self.save().await;
        }
    }

    /// Keeps what is about to be done: each step's action and reason.
    pub async fn begin(&mut self, steps: impl Iterator<Item = (String, &'static str)>) {
        self.entry.work = Some(Work::new(steps.take(MOST_STEPS)));
        self.save().await;
    }

    /// The step of this place was tried.
    pub async fn tried(&mut self, place: usize, result: &str) {
        let is_noted = self.entry.work.as_mut().is_some_and(|work| work.tried(place, result));
        let spacing = self.store.as_ref().map(|store| store.spacing()).unwrap_or_default();
        if is_noted && self.saved_at.is_none_or(|at| at.elapsed() >= spacing) {
            self.save().await;
        }
    }

    /// All steps were tried.
    pub async fn end(&mut self) {
        self.entry.work = None;
        self.save().await;
    }

    /// Nothing is wrong any more, so what was cut short is of no interest.
    pub fn mended(&mut self) {
        self.cut_short = None;
    }

    /// Whether it could be read.
    async fn read(&mut self) -> bool {
        let Some(store) = self.store.clone() else { return false };
        let began = Instant::now();
        let loaded = store.load().await;
        let failed = match loaded {
            Ok(text) => {
                self.is_overtaken = false;
                let entry = text.map(|text| Entry::parse(&text)).transpose();
                match entry {
                    Ok(entry) => self.take_over(entry.unwrap_or_default()),
                    // One that cannot be understood is overwritten.
                    Err(why) => {
                        self.entry = Entry::default();
                        self.tell(Some(JournalError::Damaged(store.place(), why)));
                        return true;
                    }
                }
                None
            }
            Err(error) => Some(JournalError::Read(store.place(), error.to_string())),
        };
        self.ended(began, failed)
    }

    fn take_over(&mut self, mut entry: Entry) {
        if let Some(work) = entry.work.take() {
            self.cut_short = Some(work.words(&entry.by));
        }
        self.entry = entry;
    }

    async fn save(&mut self) {
        let Some(store) = self.store.clone() else { return };
        if !self.is_leading || self.is_overtaken || self.is_resting() {
            return;
        }
        let began = Instant::now();
        let limit = store.limit();
        let text = self.entry.text(limit);
        let saved = match text.len() {
            size if size > limit => {
                Err(StoreError::Failed(format!("it has {size} bytes, more than {limit}")))
            }
            _ => store.save(text).await,
        };
        self.is_overtaken = matches!(saved, Err(StoreError::Overtaken));
        self.saved_at = Some(Instant::now());
        self.ended(began, saved.err().map(|error| JournalError::Write(store.place(), error.to_string())));
    }

    /// An attempt ended, well or not.
    fn ended(&mut self, began: Instant, failed: Option<JournalError>) -> bool {
        let is_well = failed.is_none();
        self.rests_until = (!is_well).then(|| Instant::now() + began.elapsed().saturating_sub(QUICK) * REST);
        self.tell(failed);
        is_well
    }

    fn is_resting(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }

    fn tell(&mut self, trouble: Option<JournalError>) {
        let trouble = trouble.map(|error| error.to_string());
        if let Some(error) = trouble.as_ref().filter(|trouble| self.trouble.as_ref() != Some(trouble)) {
            tracing::warn!(reason = "journal", "{error}");
        }
        self.trouble = trouble;
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
