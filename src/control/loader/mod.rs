//! loader: brings keys, as `DUMP` gives them, to the owners of their slots in a cluster.
//!
//! Whatever reads keys from elsewhere hands them over one by one; each goes to a lane, one for each
//! primary, which sends what waits in one write. Redirects are followed, a primary that fails is waited
//! for. A refusal that concerns one key is reported, one that concerns all ends the load.
//!
//! Order: what is handed over for one key between two [`Loader::flush`]es may be carried out in any order.

mod lane;
mod verdict;

pub use verdict::Refusal;

use super::node_client::{NodeClient, NodeError, Reply};
use super::observe::observe_cluster;
use super::problem::join;
use super::view::View;
use crate::backend::Credentials;
use crate::topology::{SLOTS, Slot};
use bytes::Bytes;
use lane::{Lane, Outcome};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};

/// How much may be under way, in units of [`UNIT`]: 64 MiB, and one key more when it is larger.
const UNITS: usize = 64 << 10;
const UNIT: usize = 1 << 10;
/// What a key costs beside its bytes: words, bookkeeping.
const OVERHEAD: usize = 256;
/// How long to wait before asking again for the owner of a slot that nobody serves.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a node is asked for the owners while a load waits: some nodes may be dead.
const SHORT_LOOK: Duration = Duration::from_secs(1);
/// How many refused keys are kept to be shown.
const SHOWN: usize = 20;
/// `proto-max-bulk-len`, where a node does not tell.
const USUAL_MAX_BULK: u64 = 512 << 20;

/// Why nothing more can be loaded. What was loaded until then stays.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("the cluster does not serve all slots: {0}; see 'slotgate doctor'")]
    NotReady(String),
    #[error(
        "{addr} has no memory left ({text}): raise its maxmemory or add a shard, and run the same command again"
    )]
    Full { addr: SocketAddr, text: String },
    #[error("{addr} takes no writes: {text}. Repair that and run the same command again")]
    NoWrites { addr: SocketAddr, text: String },
    #[error("nobody served slot {slot} for {patience:?}; the last answer: {text}. See 'slotgate doctor'")]
    Unserved { slot: Slot, patience: Duration, text: String },
    #[error(
        "{addr} cannot read the values ({text}): the source is newer than this cluster; load into nodes of its version or a later one"
    )]
    TooNew { addr: SocketAddr, text: String },
    #[error("a part of the load ended unexpectedly: {0}")]
    Panicked(String),
}

/// One key with its value, as `DUMP` gives it.
#[derive(Clone, Debug)]
pub struct Item {
    pub key: Bytes,
    /// When it expires, in milliseconds since 1970.
    pub expiry: Option<u64>,
    pub payload: Bytes,
}

/// What to do with one key.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Restore { expiry: Option<u64>, payload: Bytes },
    Delete,
}

/// A deed under way.
#[derive(Debug)]
pub(super) struct Job {
    key: Bytes,
    deed: Deed,
    /// The node to ask once, although another owns the slot.
    ask: Option<SocketAddr>,
    /// Whether a node may have done it already: its answer was lost.
    is_maybe_done: bool,
    first_failed: Option<Instant>,
    /// Its share of what may be under way.
    _room: OwnedSemaphorePermit,
}

/// A key that a node did not take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub key: Bytes,
    pub why: Refusal,
}

/// What came of everything so far.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// Keys restored, and the bytes of their values as `DUMP` gives them.
    pub restored: u64,
    pub bytes: u64,
    pub deleted: u64,
    /// How many keys were refused because the cluster has them already, and how many for another reason.
    pub busy: u64,
    pub bad: u64,
    /// The first of them.
    pub refused: Vec<Refused>,
}

/// Where to load, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nodes of the cluster.
    pub addrs: Vec<SocketAddr>,
    pub credentials: Credentials,
    /// For connecting and asking.
    pub limit: Duration,
    /// How long a slot may be served by nobody, such as during a failover.
    pub patience: Duration,
    /// Whether a key that is there already is replaced, or refused.
    pub may_replace: bool,
}

/// A load under way.
#[derive(Debug)]
pub struct Loader {
    settings: Arc<Settings>,
    owners: Vec<SocketAddr>,
    /// All nodes that are known, any of which tells of the others.
    known: Vec<SocketAddr>,
    lanes: HashMap<SocketAddr, Lane>,
    outcomes: mpsc::Receiver<Outcome>,
    finished: mpsc::Sender<Outcome>,
    room: Arc<Semaphore>,
    under_way: usize,
    max_bulk: u64,
    report: Report,
}

impl Loader {
    /// Finds the owners of all slots.
    ///
    /// # Errors
    /// The nodes do not answer or do not agree, or a slot has no owner.
    pub async fn open(settings: Settings) -> Result<Loader, LoadError> {
        let view = observe_cluster(&settings.addrs, &settings.credentials, settings.limit).await;
        let owners = owners(&view)?;
        let (finished, outcomes) = mpsc::channel(UNITS);
        let mut loader = Loader {
            owners,
            known: known(&view),
            settings: Arc::new(settings),
            lanes: HashMap::new(),
            outcomes,
            finished,
            room: Arc::new(Semaphore::new(UNITS)),
            under_way: 0,
            max_bulk: USUAL_MAX_BULK,
            report: Report::default(),
        };
        loader.max_bulk = loader.ask_max_bulk().await?;
        Ok(loader)
    }

    /// The owner of a slot, as far as known.
    pub fn owner(&self, slot: Slot) -> SocketAddr {
        self.owners[slot.index()]
    }

    /// The owners of all slots, as far as known, each once.
    pub fn primaries(&self) -> Vec<SocketAddr> {
        let mut primaries = self.owners.clone();
        primaries.sort_unstable();
        primaries.dedup();
        primaries
    }

    /// Asks the nodes who owns which slots by now.
    pub async fn look_again(&mut self) {
        let settings = &self.settings;
        let limit = settings.limit.min(SHORT_LOOK);
        let view = observe_cluster(&self.known, &settings.credentials, limit).await;
        // A view without all slots tells less than what is known.
        if let Ok(owners) = owners(&view) {
            self.owners = owners;
        }
    }

    /// What came of everything so far; complete after [`Loader::flush`].
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Brings a key to its owner. Waits while too much is under way.
    ///
    /// # Errors
    /// What ends the whole load; a refusal of this one key is in the report.
    pub async fn restore(&mut self, item: Item) -> Result<(), LoadError> {
        let bytes = item.payload.len() as u64;
        if bytes > self.max_bulk {
            let why = Refusal::TooLarge { bytes, limit: self.max_bulk };
            self.refuse(Refused { key: item.key, why });
            return Ok(());
        }
        self.add(item.key, Deed::Restore { expiry: item.expiry, payload: item.payload }).await
    }

    /// Deletes a key from its owner, if it is there.
    ///
    /// # Errors
    /// As [`Loader::restore`].
    pub async fn delete(&mut self, key: Bytes) -> Result<(), LoadError> {
        self.add(key, Deed::Delete).await
    }

    /// Waits until everything handed over is done or refused.
    ///
    /// # Errors
    /// As [`Loader::restore`].
    pub async fn flush(&mut self) -> Result<(), LoadError> {
        while self.under_way > 0 {
            self.settle_next().await?;
        }
        Ok(())
    }

    async fn add(&mut self, key: Bytes, deed: Deed) -> Result<(), LoadError> {
        let payload = if let Deed::Restore { payload, .. } = &deed { payload.len() } else { 0 };
        let units = ((key.len() + payload + OVERHEAD) / UNIT + 1).min(UNITS) as u32;
        let room = loop {
            match self.room.clone().try_acquire_many_owned(units) {
                Ok(room) => break room,
                Err(_) => self.settle_next().await?,
            }
        };
        // What has ended meanwhile need not wait for the next lack of room.
        while let Ok(outcome) = self.outcomes.try_recv() {
            self.settle(outcome).await?;
        }
        self.under_way += 1;
        self.send(Job { key, deed, ask: None, is_maybe_done: false, first_failed: None, _room: room })
    }

    fn send(&mut self, job: Job) -> Result<(), LoadError> {
        let addr = job.ask.unwrap_or(self.owners[Slot::of_key(&job.key).index()]);
        let (settings, finished) = (&self.settings, &self.finished);
        let lane =
            self.lanes.entry(addr).or_insert_with(|| Lane::start(addr, settings.clone(), finished.clone()));
        lane.send(job)
    }

    async fn settle_next(&mut self) -> Result<(), LoadError> {
        match self.outcomes.recv().await {
            Some(outcome) => self.settle(outcome).await,
            None => Err(LoadError::Panicked("all lanes are gone".into())),
        }
    }

    async fn settle(&mut self, outcome: Outcome) -> Result<(), LoadError> {
        match outcome {
            Outcome::Restored { bytes } => {
                self.report.restored += 1;
                self.report.bytes += bytes as u64;
            }
            Outcome::Deleted => self.report.deleted += 1,
            Outcome::Refused(refused) => self.refuse(refused),
            Outcome::Moved { job, to } => {
                self.owners[Slot::of_key(&job.key).index()] = to;
                return self.again(job, "MOVED").await;
            }
            Outcome::Ask { mut job, to } => {
                job.ask = Some(to);
                return self.send(job);
            }
            Outcome::Unserved { job, text } => return self.wait(job, &text).await,
            Outcome::Ended(error) => return Err(error),
        }
        self.under_way -= 1;
        Ok(())
    }

    fn refuse(&mut self, refused: Refused) {
        match refused.why {
            Refusal::Busy => self.report.busy += 1,
            _ => self.report.bad += 1,
        }
        if self.report.refused.len() < SHOWN {
            self.report.refused.push(refused);
        }
    }

    /// Sends a job once more, unless it has been tried for too long.
    async fn again(&mut self, mut job: Job, text: &str) -> Result<(), LoadError> {
        let since = *job.first_failed.get_or_insert_with(Instant::now);
        let patience = self.settings.patience;
        if since.elapsed() > patience {
            let slot = Slot::of_key(&job.key);
            return Err(LoadError::Unserved { slot, patience, text: text.to_string() });
        }
        job.ask = None;
        self.send(job)
    }

    /// Asks the nodes who serves what by now. A lane gives back all that it had when its node failed,
    /// which is dealt with in one go.
    async fn wait(&mut self, job: Job, text: &str) -> Result<(), LoadError> {
        sleep(PAUSE).await;
        self.look_again().await;
        self.again(job, text).await?;
        let mut others = Vec::new();
        while let Ok(outcome) = self.outcomes.try_recv() {
            others.push(outcome);
        }
        for outcome in others {
            match outcome {
                Outcome::Unserved { job, text } => self.again(job, &text).await?,
                outcome => Box::pin(self.settle(outcome)).await?,
            }
        }
        Ok(())
    }

    /// The longest argument that all primaries take.
    async fn ask_max_bulk(&self) -> Result<u64, LoadError> {
        let mut least = u64::MAX;
        for addr in self.primaries() {
            let mut client =
                NodeClient::connect(addr, &self.settings.credentials, self.settings.limit).await?;
            let limit = match client.call(&["CONFIG", "GET", "proto-max-bulk-len"]).await {
                Ok(Reply::Array(pair)) => match pair.get(1) {
                    Some(Reply::BulkString(text)) => {
                        std::str::from_utf8(text).ok().and_then(|text| text.parse().ok())
                    }
                    _ => None,
                },
                // An ACL or a managed service may forbid the question.
                Ok(_) | Err(NodeError::Refused { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            least = least.min(limit.unwrap_or(USUAL_MAX_BULK));
        }
        Ok(least)
    }
}

/// The owner of each slot, by what the primaries that answer say of themselves; where two claim a slot, the
/// later epoch wins, as among the nodes. Members that are dead need not be missed.
fn owners(view: &View) -> Result<Vec<SocketAddr>, LoadError> {
    let mut primaries: Vec<_> =
        view.nodes.iter().map(|node| &node.view).filter(|view| view.myself().primary.is_none()).collect();
    primaries.sort_by_key(|view| view.myself().epoch);
    let mut owners: Vec<Option<SocketAddr>> = vec![None; SLOTS];
    for view in primaries {
        for slot in view.myself().slots.iter().flat_map(|range| range.slots()) {
            owners[slot.index()] = Some(view.asked);
        }
    }
    owners.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| {
        let silent: Vec<String> = view.silent.iter().map(|silent| silent.error.to_string()).collect();
        LoadError::NotReady(if silent.is_empty() {
            "a slot has no owner".into()
        } else {
            join(&silent, "; ")
        })
    })
}

fn known(view: &View) -> Vec<SocketAddr> {
    view.nodes.iter().map(|node| node.view.asked).collect()
}
