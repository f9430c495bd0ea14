//! Journal: what no node can tell a manager that follows one which was killed: which nodes are ours, whom
//! we let in, and what was under way.
//!
//! It says what was wanted; what is, the nodes say, and only that is planned with. What must be put back is
//! not here but on the nodes themselves ([`super::mark`]), where it lasts as long as the change; and every
//! plan follows from what the nodes say, so commands that somebody starts again need no journal at all.
//! Losing it is no harm but that members are known again only by each other's word.

use crate::topology::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const VERSION: u32 = 1;
/// A thousand nodes and as many steps stay below a hundredth of it.
const MAX_SIZE: u64 = 32 << 20;
/// More steps than people read; the plan is made anew anyway.
const MOST_STEPS: usize = 1000;

/// Where the journal is kept. Another place is another variant, which loads and saves the same text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Store {
    /// Replaced as a whole by each change, so that it is never half written.
    File(PathBuf),
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot read the journal {0}: {1}")]
    Read(PathBuf, io::Error),
    #[error("cannot write the journal {0}: {1}; after a kill the next manager will know less")]
    Write(PathBuf, io::Error),
    #[error("the journal {0} is damaged ({1}); it is begun anew")]
    Damaged(PathBuf, String),
}

/// What it says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Entry {
    version: u32,
    /// Host and process id of the manager.
    by: String,
    #[serde(with = "ids")]
    members: BTreeSet<NodeId>,
    /// Those of them that wait for their role.
    #[serde(with = "ids")]
    newcomers: BTreeSet<NodeId>,
    work: Option<Work>,
}

/// A plan that is being carried out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Work {
    /// Seconds since 1970.
    since: u64,
    steps: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Step {
    action: String,
    reason: String,
    /// `done`, `already-done` or `failed`, once it was tried.
    result: Option<String>,
}

impl Work {
    /// For people: since when, how far, and what came next.
    fn words(&self, by: &str) -> String {
        let tried = self.steps.iter().filter(|step| step.result.is_some()).count();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let ago = now.saturating_sub(self.since);
        let next = self.steps.get(tried).map(|step| format!(", before or in: {}", step.action));
        format!(
            "{by} was ended while it carried out a plan, begun {ago} s ago, {tried} of {} steps tried{}; going on from \
             what the nodes say",
            self.steps.len(),
            next.unwrap_or_default()
        )
    }
}

/// The journal of one manager. Without a store it keeps nothing.
#[derive(Debug, Default)]
pub struct Journal {
    store: Option<Store>,
    entry: Entry,
    cut_short: Option<String>,
    trouble: Option<String>,
}

impl Journal {
    /// Reads what an earlier manager left. One that cannot be read is told of, and is no reason not to
    /// manage.
    pub async fn open(store: Option<Store>) -> Journal {
        let mut journal = Journal { store, ..Journal::default() };
        if let Some(store) = journal.store.clone() {
            match blocking(move || store.load()).await {
                Ok(entry) => journal.entry = entry.unwrap_or_default(),
                Err(error) => journal.tell(Some(error.to_string())),
            }
        }
        if let Some(work) = journal.entry.work.take() {
            journal.cut_short = Some(work.words(&journal.entry.by));
        }
        (journal.entry.version, journal.entry.by) = (VERSION, own_name());
        journal
    }

    /// The members, and those of them that wait for their role, by the last manager's word.
    pub fn members(&self) -> (HashSet<NodeId>, HashSet<NodeId>) {
        let set = |ids: &BTreeSet<NodeId>| ids.iter().copied().collect();
        (set(&self.entry.members), set(&self.entry.newcomers))
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
        let before = (self.entry.members.clone(), self.entry.newcomers.clone());
        self.entry.members = members.iter().copied().collect();
        self.entry.newcomers = newcomers.iter().copied().collect();
        if before != (self.entry.members.clone(), self.entry.newcomers.clone()) || self.trouble.is_some() {
            self.save().await;
        }
    }

    /// Keeps what is about to be done: each step's action and reason.
    pub async fn begin(&mut self, steps: impl Iterator<Item = (String, &'static str)>) {
        let step = |(action, reason): (String, &str)| Step { action, reason: reason.into(), result: None };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.entry.work = Some(Work { since, steps: steps.take(MOST_STEPS).map(step).collect() });
        self.save().await;
    }

    /// The step of this place was tried.
    pub async fn tried(&mut self, place: usize, result: &str) {
        if let Some(step) = self.entry.work.as_mut().and_then(|work| work.steps.get_mut(place)) {
            step.result = Some(result.into());
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

    async fn save(&mut self) {
        let Some(store) = self.store.clone() else { return };
        let entry = self.entry.clone();
        let saved = blocking(move || store.save(&entry)).await;
        self.tell(saved.err().map(|error| error.to_string()));
    }

    fn tell(&mut self, trouble: Option<String>) {
        if let Some(error) = trouble.as_ref().filter(|trouble| self.trouble.as_ref() != Some(trouble)) {
            tracing::warn!(reason = "journal", "{error}");
        }
        self.trouble = trouble;
    }
}

impl Store {
    fn load(&self) -> Result<Option<Entry>, JournalError> {
        let Store::File(path) = self;
        let read = || {
            let mut text = String::new();
            File::open(path)?.take(MAX_SIZE).read_to_string(&mut text)?;
            io::Result::Ok(text)
        };
        let text = match read() {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(JournalError::Read(path.clone(), error)),
        };
        let damaged = |why: String| JournalError::Damaged(path.clone(), why);
        let entry: Entry = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        match entry.version {
            VERSION => Ok(Some(entry)),
            other => Err(damaged(format!("its version is {other}, not {VERSION}"))),
        }
    }

    fn save(&self, entry: &Entry) -> Result<(), JournalError> {
        let Store::File(path) = self;
        let mut text = serde_json::to_vec_pretty(entry).unwrap_or_default();
        text.push(b'\n');
        replace(path, &text).map_err(|error| JournalError::Write(path.clone(), error))
    }
}

/// Writes beside the file and renames, each on disk before the next.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    // Two managers by mistake do not write into the same one.
    beside.push(format!(".{}", std::process::id()));
    let mut file = File::create(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Disks may be slow, and others wait for this thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn own_name() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

/// Node ids as texts.
mod ids {
    use crate::topology::NodeId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use std::collections::BTreeSet;

    pub(super) fn serialize<S: Serializer>(ids: &BTreeSet<NodeId>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ids.iter().map(NodeId::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<NodeId>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> NodeId {
        format!("{n:040x}").parse().unwrap()
    }

    fn store() -> (tempfile::TempDir, PathBuf, Option<Store>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.json");
        (dir, path.clone(), Some(Store::File(path)))
    }

    fn steps() -> impl Iterator<Item = (String, &'static str)> {
        ["let a meet b", "let a meet c"].into_iter().map(|action| (action.to_string(), "address-changed"))
    }

    #[tokio::test]
    async fn a_manager_that_is_ended_in_the_middle_tells_the_next_one_what_it_did() {
        let (dir, _, store) = store();
        let mut journal = Journal::open(store.clone()).await;
        assert_eq!((journal.cut_short(), journal.trouble()), (None, None));
        journal.know(&[id(1), id(2)].into(), &[id(2)].into()).await;
        journal.begin(steps()).await;
        journal.tried(0, "done").await;
        drop(journal);

        let mut next = Journal::open(store.clone()).await;
        assert_eq!(next.members(), ([id(1), id(2)].into(), [id(2)].into()));
        let words = next.cut_short().unwrap();
        assert!(words.contains("1 of 2 steps tried, before or in: let a meet c"), "{words}");
        next.begin(steps()).await;
        next.end().await;
        assert_eq!(Journal::open(store).await.cut_short(), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[tokio::test]
    async fn a_damaged_journal_is_told_of_and_begun_anew() {
        let (_dir, path, store) = store();
        for text in ["", "{", "{\"version\":2,\"by\":\"\",\"members\":[],\"newcomers\":[],\"work\":null}"] {
            fs::write(&path, text).unwrap();
            let mut journal = Journal::open(store.clone()).await;
            assert!(journal.trouble().unwrap().contains("is damaged"), "{text}");
            journal.know(&[id(1)].into(), &HashSet::new()).await;
            assert_eq!(journal.trouble(), None);
            assert_eq!(Journal::open(store.clone()).await.members().0, [id(1)].into());
        }
    }

    #[tokio::test]
    async fn one_that_cannot_be_written_is_told_of_until_it_can() {
        let (dir, path, _) = store();
        let folder = dir.path().join("later");
        let mut journal = Journal::open(Some(Store::File(folder.join("journal.json")))).await;
        journal.know(&[id(1)].into(), &HashSet::new()).await;
        assert!(journal.trouble().unwrap().contains("cannot write"), "{:?}", journal.trouble());
        fs::create_dir(&folder).unwrap();
        journal.know(&[id(1)].into(), &HashSet::new()).await;
        assert_eq!(journal.trouble(), None);
        assert!(!path.exists() && folder.join("journal.json").exists());
    }

    #[tokio::test]
    async fn without_a_store_nothing_is_kept() {
        let mut journal = Journal::open(None).await;
        journal.know(&[id(1)].into(), &HashSet::new()).await;
        journal.begin(steps()).await;
        assert_eq!(journal.trouble(), None);
    }
}
