//! migrate: moves slots with their keys from primary to primary while clients go on.
//!
//! The nodes' releases decide the `way` of a [`Move`]. Where both can, they are asked to do all of it
//! (`atomic`). Otherwise it is cut into batches of slots (`batch`); a batch is opened, its keys are copied
//! (`copy`) or moved (`keys`), and it is handed over, the target first. Slots that an earlier run left open are finished or
//! closed before (`unfinished`). Nothing is remembered: what the nodes say is the state, so a run that was killed
//! is continued by the next one.

mod atomic;
mod batch;
mod copy;
mod journey;
mod keys;
pub mod room;
mod speed;
pub mod unfinished;
mod way;

pub use atomic::has_jobs;
pub use copy::discard;
pub use journey::{Journey, JourneyError, ready_holders};
pub use speed::Speed;

use self::atomic::Outcome;
use self::way::Way;
use super::action::Party;
use super::node_client::{NodeClient, NodeError, Reply};
use super::observe::NodeInfo;
use super::plan::rebalance::Move;
use super::view::View;
use crate::backend::Credentials;
use crate::control::observe::ObserveError;
use crate::topology::{NodeId, Slot, SlotRange};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long one question to a node of a move may take: a pipeline of MIGRATEs whose target stopped
/// answering fails one by one, each after its own timeout.
const PATIENCE: Duration = Duration::from_secs(120);
/// A person who asks to stop does not mind this long.
const LOOK_FOR_STOP_EVERY: Duration = Duration::from_millis(50);
/// A slow reader of events holds the moves up rather than memory.
const EVENTS: usize = 256;

/// What happens while slots move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// So many slots more have their new owner, so many keys were moved with them.
    Moved { slots: usize, keys: u64 },
    /// A key that stops both nodes while it is moved.
    BigKey { key: String, slot: Slot, bytes: u64 },
    /// Something that people should know.
    Note(String),
}

/// How long news of an epoch may take: nodes tell each other at least every half node timeout, which is 15 s
/// unless set otherwise.
const EPOCH_LIMIT: Duration = Duration::from_secs(30);
/// How long replicas may need to hear of a slot's state, and the pause until they are waited for again.
const REPLICAS_LIMIT: Duration = Duration::from_secs(30);
const REPLICAS_PAUSE: Duration = Duration::from_millis(100);

/// Why slots stopped moving. What was moved stays so.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(
        "the key {key:?} of slot {slot} has one value on {source_node} and another on {target}: keep the right one \
         by deleting the other (redis-cli: ASKING, then DEL)"
    )]
    Conflict { key: String, slot: Slot, source_node: SocketAddr, target: SocketAddr },
    #[error(
        "{target} has no memory left for the keys of slot {slot}: raise its maxmemory, or move fewer slots"
    )]
    Full { target: SocketAddr, slot: Slot },
    #[error("{source_node} could not hand keys of slot {slot} to {target}: {text}")]
    Refused { slot: Slot, source_node: SocketAddr, target: SocketAddr, text: String },
    #[error("the keys of slot {slot} do not leave {source_node}")]
    Stuck { slot: Slot, source_node: SocketAddr },
    #[error(
        "{target} has not heard of {source_node}'s epoch {epoch} within {EPOCH_LIMIT:?}: are the two connected ('slotgate check')?"
    )]
    Unheard { source_node: SocketAddr, target: SocketAddr, epoch: u64 },
    #[error("a move ended unexpectedly: {0}")]
    Panicked(String),
}

/// A request to end: batches under way are finished, none is begun.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for the request.
    pub async fn requested(&self) {
        while !self.is_requested() {
            sleep(LOOK_FOR_STOP_EVERY).await;
        }
    }
}

/// Whom a move must talk to.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub credentials: Credentials,
    /// For connecting, and for questions that no key is moved by.
    pub limit: Duration,
    pub speed: Speed,
    pub primaries: Vec<Party>,
    replicas: HashMap<NodeId, Vec<SocketAddr>>,
}

impl Cluster {
    /// The nodes that were observed.
    pub fn of(view: &View, credentials: Credentials, limit: Duration, speed: Speed) -> Cluster {
        let (primaries, replicas) = (Vec::new(), HashMap::new());
        let mut cluster = Cluster { credentials, limit, speed, primaries, replicas };
        for node in &view.nodes {
            let (id, addr) = (node.view.id(), node.view.asked);
            match node.view.myself().primary {
                None => cluster.primaries.push(Party { id, addr }),
                Some(primary) => cluster.replicas.entry(primary).or_default().push(addr),
            }
        }
        cluster
    }

    async fn connect(&self, addr: SocketAddr) -> Result<NodeClient, NodeError> {
        let mut client = NodeClient::connect(addr, &self.credentials, self.limit).await?;
        client.set_limit(PATIENCE);
        Ok(client)
    }
}

/// Carries moves out, at once where neither source nor target is the same; `tell` hears what happens.
///
/// # Errors
/// The first move that failed; the others finish the batch they are at. A slot that could not be
/// finished stays open, which the next run repairs.
pub async fn migrate(
    cluster: &Arc<Cluster>,
    moves: Vec<Move>,
    stop: &Stop,
    mut tell: impl FnMut(Event),
) -> Result<(), MigrateError> {
    let (events, mut heard) = mpsc::channel(EVENTS);
    let (mut waiting, mut busy) = (moves, Vec::<(NodeId, NodeId)>::new());
    let mut running = JoinSet::new();
    let mut failed = None;
    loop {
        while let Some(at) = waiting.iter().position(|step| is_apart(step, &busy)) {
            let step = waiting.swap_remove(at);
            busy.push((step.source.id, step.target.id));
            let (cluster, events, stop) = (cluster.clone(), events.clone(), stop.clone());
            let step = Arc::new(step);
            running.spawn(async move {
                let ended = carry_out(&cluster, &step, &events, &stop).await;
                (step, ended)
            });
        }
        tokio::select! {
            biased;
            Some(event) = heard.recv() => tell(event),
            ended = running.join_next() => match ended {
                None => break,
                Some(Ok((step, ended))) => {
                    busy.retain(|pair| *pair != (step.source.id, step.target.id));
                    if let Err(error) = ended {
                        failed.get_or_insert(error);
                        stop.request();
                    }
                    if stop.is_requested() {
                        waiting.clear();
                    }
                }
                Some(Err(error)) => {
                    failed.get_or_insert(MigrateError::Panicked(error.to_string()));
                    stop.request();
                    waiting.clear();
                }
            },
        }
    }
    while let Ok(event) = heard.try_recv() {
        tell(event);
    }
    failed.map_or(Ok(()), Err)
}

/// One move, the best way that its nodes know.
async fn carry_out(
    cluster: &Arc<Cluster>,
    step: &Arc<Move>,
    events: &mpsc::Sender<Event>,
    stop: &Stop,
) -> Result<(), MigrateError> {
    // Nodes that move slots by themselves know no limits.
    if cluster.speed.is_limited() {
        return batch::carry_out(cluster, step, false, events, stop).await;
    }
    let mut infos = Vec::new();
    for party in [step.source, step.target] {
        let mut client = cluster.connect(party.addr).await?;
        infos.push(NodeInfo::parse(&client.call_text(&["INFO", "server"]).await?));
    }
    let mut step = step.clone();
    let way = way::choose(&infos[0], &infos[1]);
    let note = match way {
        Way::Atomic(dialect) => match atomic::carry_out(cluster, &step, dialect, events, stop).await? {
            Outcome::Over => return Ok(()),
            Outcome::Unable(why) => {
                let left = atomic::left(&mut cluster.connect(step.source.addr).await?, &step).await?;
                step = Arc::new(Move { ranges: SlotRange::cover(left), ..Move::clone(&step) });
                Some(format!(
                    "the nodes could not move the slots by themselves ({why}): moving them key by key"
                ))
            }
        },
        Way::Copies | Way::Keys => way::why_not_atomic((step.source, &infos[0]), (step.target, &infos[1])),
    };
    if let Some(note) = note {
        let _ = events.send(Event::Note(note)).await;
    }
    batch::carry_out(cluster, &step, way == Way::Copies, events, stop).await
}

/// Whether a move shares no node with those under way: MIGRATE stops both its nodes while it runs.
fn is_apart(step: &Move, busy: &[(NodeId, NodeId)]) -> bool {
    let ids = [step.source.id, step.target.id];
    busy.iter().all(|(source, target)| !ids.contains(source) && !ids.contains(target))
}

/// A request in words.
type Words = Vec<Vec<u8>>;

fn words<const N: usize>(words: [&str; N]) -> Words {
    words.map(|word| word.as_bytes().to_vec()).to_vec()
}

fn set_slot(slot: Slot, state: &str, node: NodeId) -> Words {
    words(["CLUSTER", "SETSLOT", &slot.to_string(), state, node.as_str()])
}

/// Asks all of it in one write.
async fn ask(
    client: &mut NodeClient,
    questions: &[Words],
) -> Result<Vec<Result<Reply, NodeError>>, NodeError> {
    let questions: Vec<&[Vec<u8>]> = questions.iter().map(Vec::as_slice).collect();
    client.call_all(&questions).await
}

/// The same for questions that set slots' states. Valkey 8 has a primary's replicas take each of them first,
/// and refuses with NOREPLICAS when they need longer than two seconds, as on a busy machine: from that one
/// on all are asked again, so that what follows a state is answered in that state. Each may be asked twice.
async fn ask_patiently(
    client: &mut NodeClient,
    questions: &[Words],
) -> Result<Vec<Result<Reply, NodeError>>, NodeError> {
    let deadline = Instant::now() + REPLICAS_LIMIT;
    let mut replies = ask(client, questions).await?;
    while let Some(late) = replies.iter().position(is_late).filter(|_| Instant::now() < deadline) {
        sleep(REPLICAS_PAUSE).await;
        replies.truncate(late);
        replies.extend(ask(client, &questions[late..]).await?);
    }
    Ok(replies)
}

fn is_late(reply: &Result<Reply, NodeError>) -> bool {
    matches!(reply, Err(NodeError::Refused { text, .. }) if text.starts_with("NOREPLICAS"))
}

/// Asks all of it in one write; the first refusal is an error.
async fn ask_all(client: &mut NodeClient, questions: &[Words]) -> Result<Vec<Reply>, NodeError> {
    ask(client, questions).await?.into_iter().collect()
}
