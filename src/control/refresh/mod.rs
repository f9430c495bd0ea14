//! Keeps the shared topology true: looks at the cluster when the data plane hints that the topology
//! is stale, at times of trouble, and every now and then; publishes what several nodes agree on.
//!
//! Known nodes are asked first; seeds only while no known node is in order. Nothing that fails here
//! ever clears the topology, and the data plane never waits for any of it.

mod asker;
mod cadence;
mod status;

pub use status::{EndpointStatus, RefreshStatus};

use super::agree::{Agreement, Heard, agree, voters};
use super::discover::{Named, PodsWatch, Seed};
use super::view::NodeView;
use crate::backend::Credentials;
use crate::topology::{NodeIx, SharedTopology, Snapshot, diff};
use asker::Asker;
use bytes::Bytes;
use cadence::{Cadence, Outcome};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Of a known cluster this many primaries and others are asked in one look: enough that one stale or
/// slow node does not decide, few enough for a cluster of a thousand.
const PRIMARIES_ASKED: usize = 3;
const OTHERS_ASKED: usize = 2;
/// When these do not give two views in order, that many more.
const RESCUE_ASKED: usize = 32;
/// A headless Service may resolve to hundreds of addresses; a few, picked at random, lead to the rest.
const SEEDS_ASKED: usize = 8;
/// How many times that many are asked in one look while no answer is in order.
const SEED_ROUNDS: usize = 4;
/// A look during which a slot was patched may rest on older news than the patch; it is made again, but
/// not without end while slots move.
const LOOKS_AGAIN: usize = 3;

/// What the refresh is told by the operator.
#[derive(Clone, Debug)]
pub struct Config {
    pub seeds: Vec<Seed>,
    /// More seeds, one a line, read again whenever the file changes.
    pub seed_file: Option<PathBuf>,
    /// Pods that lead to nodes too, where Kubernetes tells of them.
    pub pods: Option<PodsWatch>,
    pub credentials: Credentials,
    /// The longest time between two looks. What clients notice is found at once, by redirects and lost
    /// connections; this finds the rest, such as new replicas. 10 s costs a node well below one
    /// command per second and gateway.
    pub refresh: Duration,
    /// The limit for each step of asking one node.
    pub limit: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            seeds: Vec::new(),
            seed_file: None,
            pods: None,
            credentials: Credentials::default(),
            refresh: Duration::from_secs(10),
            limit: Duration::from_secs(1),
        }
    }
}

/// What one node tells of itself, which is taken to hold for all.
#[derive(Debug)]
pub struct Learned {
    /// The server's name and version, as in `redis 7.0.15`; `None` when it does not tell.
    pub server: Option<String>,
    /// The bytes of its reply to `COMMAND`.
    pub commands: Bytes,
}

/// Refreshes `shared` until `cancelled` completes.
///
/// `learned` gets what one node tells of itself, once, after the first topology.
pub async fn run(
    config: Config,
    shared: Arc<SharedTopology>,
    status: Arc<RefreshStatus>,
    learned: Option<oneshot::Sender<Learned>>,
    cancelled: impl Future<Output = ()>,
) {
    let asker = Asker::new(config.credentials.clone(), config.limit);
    let refresh = Refresh {
        cadence: Cadence::new(config.refresh),
        named: Named::new(config.seeds.clone(), config.seed_file.clone(), config.pods.clone(), true),
        is_second_look: false,
        config,
        shared,
        status,
        learned,
        asker,
    };
    tokio::select! {
        () = cancelled => {}
        () = refresh.run() => {}
    }
}

struct Refresh {
    config: Config,
    shared: Arc<SharedTopology>,
    status: Arc<RefreshStatus>,
    learned: Option<oneshot::Sender<Learned>>,
    asker: Asker,
    cadence: Cadence,
    named: Named,
    /// The last look covered fewer slots than the topology and was not believed yet.
    is_second_look: bool,
}

/// The views of one look.
#[derive(Default)]
struct Look {
    views: Vec<(NodeView, bool)>,
    asked: BTreeSet<SocketAddr>,
    errors: Vec<String>,
}

impl Look {
    fn heard(&self) -> Vec<Heard<'_>> {
        self.views.iter().map(|(view, is_seed)| Heard { view, is_seed: *is_seed }).collect()
    }

    /// How many views count and say that all is in order.
    fn good(&self, current: &Snapshot) -> usize {
        voters(&self.heard(), current).iter().filter(|view| view.cluster.is_ok).count()
    }
}

impl Refresh {
    async fn run(mut self) {
        self.named.read_file().await;
        loop {
            let began = Instant::now();
            let outcome = self.look().await;
            let ended = Instant::now();
            let pause = self.cadence.after(outcome, ended - began, ended.into_std(), fastrand::f64());
            let shared = self.shared.clone();
            if let Some(at) = self.named.wait(ended, pause, shared.stale_hinted()).await {
                self.cadence.hinted(at.into_std());
            }
        }
    }

    /// One look at the cluster, and its publication.
    async fn look(&mut self) -> Outcome {
        let mut attempt = 0;
        let (current, look) = loop {
            let current = self.shared.load();
            let look = self.gather(&current).await;
            attempt += 1;
            if self.shared.load().version == current.version || attempt > LOOKS_AGAIN {
                break (current, look);
            }
        };
        let known: BTreeSet<SocketAddr> = current.nodes().iter().map(|node| node.addr).collect();
        self.asker.keep(&look.asked);
        self.status.keep(&known.union(&look.asked).copied().collect());
        match agree(&look.heard(), &current) {
            Ok(Some(agreement)) => self.accept(agreement, &current, &look).await,
            Ok(None) if !look.views.is_empty() => self.fail(
                "the nodes that answer are of another cluster than the one that is served; start slotgate anew to \
                 serve theirs"
                    .into(),
            ),
            Ok(None) => self.fail(if look.errors.is_empty() {
                "there is nobody to ask: no node is known and no seed could be resolved".into()
            } else {
                look.errors.join("; ")
            }),
            Err(error) => self.fail(error.to_string()),
        }
    }

    async fn accept(&mut self, agreement: Agreement, current: &Snapshot, look: &Look) -> Outcome {
        let (covered, known) = (agreement.snapshot.covered(), current.covered());
        if !agreement.may_replace(current, self.is_second_look) {
            let why = format!("the nodes that answer cover {covered} slots, fewer than the {known} known");
            let is_first = !std::mem::replace(&mut self.is_second_look, true);
            return if is_first && covered > 0 { Outcome::Unconfirmed } else { self.fail(why) };
        }
        self.is_second_look = false;
        let is_settled = agreement.snapshot.served() == crate::topology::SLOTS
            && agreement.snapshot.nodes().iter().all(|node| node.health == crate::topology::Health::Ok);
        let changes = diff(current, &agreement.snapshot);
        if self.shared.publish(agreement.snapshot) {
            let id = |ids: &[crate::topology::NodeId]| {
                ids.iter().map(|id| id.short().to_string()).collect::<Vec<_>>().join(" ")
            };
            tracing::info!(
                version = self.shared.load().version,
                views = agreement.voters,
                covered,
                joined = id(&changes.joined),
                left = id(&changes.left),
                changed = id(&changes.changed),
                moved_slots = changes.moved_slots,
                "topology changed"
            );
        }
        if self.status.set_trouble(None) {
            tracing::info!("the cluster's nodes can be asked again");
        }
        self.learn_commands(look).await;
        if is_settled { Outcome::Settled } else { Outcome::Unsettled }
    }

    fn fail(&mut self, why: String) -> Outcome {
        if !self.status.set_trouble(Some(why.clone())) {
            tracing::warn!(why, "cannot learn the topology; the last one stays in use");
        }
        Outcome::Failed
    }

    /// Asks a sample of the known nodes; the other known ones when that is not enough; the seeds when
    /// none is in order; and those that are new to us by the seeds' word.
    async fn gather(&mut self, current: &Snapshot) -> Look {
        let mut look = Look::default();
        self.ask(&mut look, sample(current), false).await;
        if look.good(current) < 2 {
            let mut rest: Vec<SocketAddr> = current.nodes().iter().map(|node| node.addr).collect();
            rest.retain(|addr| !look.asked.contains(addr));
            fastrand::shuffle(&mut rest);
            rest.truncate(RESCUE_ASKED);
            self.ask(&mut look, rest, false).await;
        }
        if look.good(current) == 0 {
            let mut seeds = self.resolve_seeds(&mut look).await;
            // Once a cluster is known, seeds never lead to another one: an address may belong to a stranger
            // by now, and what clients write there would be lost to them.
            let may_lead = current.nodes().is_empty();
            for (view, is_seed) in &mut look.views {
                *is_seed |= may_lead && seeds.contains(&view.asked);
            }
            fastrand::shuffle(&mut seeds);
            seeds.retain(|addr| !look.asked.contains(addr));
            // All of a few at once; of many only as long as nobody answers.
            for some in seeds.chunks(SEEDS_ASKED).take(SEED_ROUNDS) {
                self.ask(&mut look, some.to_vec(), may_lead).await;
                if look.good(current) > 0 {
                    break;
                }
            }
            if let Ok(Some(found)) = agree(&look.heard(), current) {
                self.ask(&mut look, sample(&found.snapshot), may_lead).await;
            }
        }
        look
    }

    async fn ask(&mut self, look: &mut Look, mut addrs: Vec<SocketAddr>, is_seed: bool) {
        addrs.retain(|addr| look.asked.insert(*addr));
        for (addr, answer) in self.asker.ask(&addrs).await {
            let error = match answer {
                Ok(view) => {
                    look.views.push((view, is_seed));
                    None
                }
                Err(error) => Some(error.to_string()),
            };
            look.errors.extend(error.clone());
            self.status.answered(addr, error);
        }
    }

    async fn resolve_seeds(&mut self, look: &mut Look) -> Vec<SocketAddr> {
        let mut resolving = JoinSet::new();
        for seed in self.named.seeds() {
            let limit = self.config.limit * 2;
            resolving.spawn(async move { (seed.resolve(limit).await, seed) });
        }
        let mut addrs = BTreeSet::new();
        while let Some(resolved) = resolving.join_next().await {
            let Ok((resolved, seed)) = resolved else { continue };
            let error = match resolved {
                Ok(found) if found.is_empty() => Some(format!("the seed {seed} resolves to no address")),
                Ok(found) => {
                    addrs.extend(found);
                    None
                }
                Err(error) => Some(format!("cannot look up the seed {seed}: {error}")),
            };
            look.errors.extend(error.clone());
            self.status.resolved(&seed, error);
        }
        addrs.into_iter().collect()
    }

    async fn learn_commands(&mut self, look: &Look) {
        let Some((view, _)) = look.views.first() else { return };
        let Some(learned) = self.learned.take() else { return };
        match self.asker.learn(view.asked).await {
            // Nobody may be interested any more.
            Ok(node) if node.commands.starts_with(b"*") => drop(learned.send(node)),
            Ok(_) => {
                tracing::warn!(node = %view.asked, "the node does not tell its commands; the built-in table is used")
            }
            Err(error) => {
                tracing::warn!(%error, "cannot learn the node's commands yet");
                self.learned = Some(learned);
            }
        }
    }
}

/// Whom to ask: some primaries and some others, picked at random.
fn sample(snapshot: &Snapshot) -> Vec<SocketAddr> {
    let mut primaries: Vec<SocketAddr> = snapshot.primaries().map(|node| node.addr).collect();
    let mut others: Vec<SocketAddr> = (0..snapshot.nodes().len())
        .map(|ix| snapshot.node(ix as NodeIx).addr)
        .filter(|addr| !primaries.contains(addr))
        .collect();
    fastrand::shuffle(&mut primaries);
    fastrand::shuffle(&mut others);
    primaries.truncate(PRIMARIES_ASKED);
    others.truncate(OTHERS_ASKED);
    primaries.append(&mut others);
    primaries
}

#[cfg(test)]
mod tests;
