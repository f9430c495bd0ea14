//! reconcile: observe → plan → act, again and again, so that the cluster heals without anybody's help.
//!
//! Every few seconds, and at once when the data plane, the topology or the seed file hint at a change.
//! Everything is observed anew for each plan and looked at once more before each step, so two managers
//! by mistake, or one that is killed in the middle, do no harm. While the pause file exists, nothing is
//! done; what would be is told.

mod findings;
mod forming;
mod look;
mod relieve;
mod status;
mod wishes;

use status::Held;
pub use status::{Done, ManageStatus, Phase, Planned, Report, Told};

use super::act::{Acted, Actor};
use super::action::Action;
use super::discover::{Named, Pause, PodsWatch, Seed};
use super::journal::{File, Journal, Store};
use super::kubernetes::{self, Place, Troubles, WatchStatus};
use super::leadership::Leadership;
use super::memory::Memory;
use super::plan::departures;
use super::plan::heal::{Case, Plan, heal};
use super::pods::Pods;
use super::problem::problems;
use super::status::status as status_of;
use super::survey::Survey;
use crate::backend::{Backoff, Credentials};
use crate::topology::SharedTopology;
use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wishes::Wishes;

/// How often a cluster in order is looked at when nothing hints at a change.
const CALM: Duration = Duration::from_secs(5);
/// How often one that is not in order is: gossip passes once a second.
const ALERT: Duration = Duration::from_secs(1);
/// And while an owner of slots has not answered for a short time: its shard's writes wait for what is found.
const ALARM: Duration = Duration::from_millis(250);
/// An election is over by then, or needs a person.
const ALARM_LASTS: Duration = Duration::from_secs(60);
/// Hints of one burst count as one.
const SHORTEST: Duration = Duration::from_millis(200);
/// A look may take at most this part of the time.
const BUSY_SHARE: u32 = 4;
/// While steps fail, the time between plans doubles from the first of these to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// How long one step may wait for a node to hear of another.
const STEP_LIMIT: Duration = Duration::from_secs(3);

/// What the manager is told by the operator.
#[derive(Clone, Debug)]
pub struct Config {
    pub seeds: Vec<Seed>,
    /// The list of all nodes, one a line, when there is one; read again whenever it changes.
    pub seed_file: Option<PathBuf>,
    /// The nodes' pods, where Kubernetes tells of them.
    pub pods: Option<PodsWatch>,
    /// What else Kubernetes is to the manager; without it, nothing is wished, and this one always leads.
    pub kubernetes: Option<Kubernetes>,
    /// While this file exists, nothing is done.
    pub pause_file: Option<PathBuf>,
    /// Where what no node can tell is kept for the next manager; in Kubernetes it need not be a file.
    pub journal_file: Option<PathBuf>,
    pub credentials: Credentials,
    /// The limit for each step of asking one node.
    pub limit: Duration,
}

/// Where the manager leaves its journal and finds wishes, and whether it leads.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    pub place: Place,
    /// Whether this one may act: several gateways elect one.
    pub leads: Leadership,
    /// What the API server is of no use for: the watch, and what is written.
    pub watched: Arc<WatchStatus>,
    pub troubles: Arc<Troubles>,
}

/// Keeps the cluster whole until `cancelled` completes; a step under way is finished or given up with it.
pub async fn run(
    config: Config,
    shared: Arc<SharedTopology>,
    status: Arc<ManageStatus>,
    cancelled: impl Future<Output = ()>,
) {
    let managed = async {
        let journal = Journal::open(store(&config)).await;
        let (ours, newcomers) = journal.members();
        let place = config.kubernetes.as_ref().map(|kubernetes| kubernetes.place.clone());
        let manager = Manager {
            leads: config.kubernetes.as_ref().map(|kubernetes| kubernetes.leads.clone()),
            term: None,
            named: Named::new(config.seeds.clone(), config.seed_file.clone(), config.pods.clone(), false),
            memory: Memory::of(ours, newcomers),
            journal,
            last: None,
            members: BTreeSet::new(),
            silent: HashSet::new(),
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
            wishes: Wishes::new(place, config.credentials.clone(), config.limit),
            config,
            shared,
            status,
        };
        manager.run().await;
    };
    tokio::select! {
        () = cancelled => {}
        () = managed => {}
    }
}

/// Where the journal is kept: in the file that was named, or by Kubernetes.
fn store(config: &Config) -> Option<Arc<dyn Store>> {
    let file = config.journal_file.clone().map(|path| Arc::new(File(path)) as Arc<dyn Store>);
    let kept =
        |kubernetes: &Kubernetes| Arc::new(kubernetes::Journal::new(&kubernetes.place)) as Arc<dyn Store>;
    file.or_else(|| config.kubernetes.as_ref().map(kept))
}

/// When to look again.
struct Next {
    pause: Pause,
    /// Looks may take more of the time than usual.
    is_urgent: bool,
}

impl Next {
    fn within(shortest: Duration, longest: Duration) -> Next {
        Next { pause: Pause { shortest, longest }, is_urgent: false }
    }
}

struct Manager {
    config: Config,
    shared: Arc<SharedTopology>,
    status: Arc<ManageStatus>,
    named: Named,
    leads: Option<Leadership>,
    /// The number of the term in which the journal was read last.
    term: Option<u64>,
    memory: Memory,
    journal: Journal,
    /// What the last look showed.
    last: Option<Survey>,
    /// Where members answered or were said to be at the last look.
    members: BTreeSet<SocketAddr>,
    /// Where nobody answered at the last look, if there are pods to tell where else they are.
    silent: HashSet<SocketAddr>,
    backoff: Backoff,
    wishes: Wishes,
}

impl Manager {
    async fn run(mut self) {
        self.named.read_file().await;
        loop {
            let began = Instant::now();
            let Next { mut pause, is_urgent } = self.round().await;
            let ended = Instant::now();
            let share = if is_urgent { 1 } else { BUSY_SHARE };
            pause.shortest = pause.shortest.max((ended - began).min(ALARM) * share);
            pause.longest = pause.longest.max(pause.shortest);
            let shared = self.shared.clone();
            let leads = &mut self.leads;
            let hint = async {
                tokio::select! {
                    () = shared.unrest() => {}
                    () = changed(leads) => {}
                }
            };
            self.named.wait(ended, pause, hint).await;
        }
    }

    /// One look, its plan and its steps.
    async fn round(&mut self) -> Next {
        self.follow_the_leader().await;
        self.relieve().await;
        let named = self.resolve().await;
        let (answers, silent) = self.ask(&named).await;
        let now = Instant::now().into_std();
        let mut survey = Survey::new(answers, silent, self.memory.ours(), &named);
        let pods = self.named.pods();
        if let Some(pods) = &pods {
            survey.locate(pods);
        }
        self.members = survey.view.nodes.iter().flat_map(|node| told(&node.view)).collect();
        self.memory.learn(&survey, now);
        if let Some(pods) = &pods {
            self.memory.settle(&survey, pods);
        }
        self.journal.know(self.memory.ours(), self.memory.newcomers()).await;
        self.journal.know_homes(self.memory.homes()).await;
        let listed = self.is_listed(pods.as_deref()).then_some(&named);
        let mut plan =
            heal(Case { survey: &survey, memory: &self.memory, now, listed, pods: pods.as_deref() });
        plan.findings.extend(self.of_journal(&survey));
        plan.findings.extend(self.of_kubernetes(pods.as_deref()));
        let problems = match survey.view.nodes.is_empty() {
            true => vec![("nobody-answers", "no member of the cluster answers".to_string())],
            false => problems(&survey.view, None).iter().map(|p| (p.kind(), p.to_string())).collect(),
        };
        let held = self.held();
        let is_healthy = problems.is_empty() && plan.is_done() && !plan.findings.iter().any(|f| f.is_wrong);
        self.status.saw(status_of(&survey.view));
        let wished = self.wishes.plan(&survey, pods.as_deref(), (&mut plan, &problems), held.is_some());
        self.status.planned(&plan, problems, is_healthy, held);
        if is_healthy {
            self.journal.mended();
        }
        if (plan.is_done() && wished.edit.is_none()) || held.is_some() {
            let is_urgent = held.is_none() && self.has_lost_owner(&survey, now);
            let longest = match is_healthy && !wished.is_under_way {
                true => CALM,
                false if is_urgent => ALARM,
                false => ALERT,
            };
            self.last = Some(survey);
            return Next { is_urgent, ..Next::within(SHORTEST, longest) };
        }
        let mut failed = match &plan.forming {
            Some(forming) => self.form(forming).await,
            None => self.act(&survey, &plan).await,
        };
        if let Some(edit) = wished.edit.filter(|_| failed == 0 && self.held().is_none()) {
            failed += usize::from(!self.wishes.edit(&edit, &self.status).await);
        }
        self.last = Some(survey);
        match failed {
            0 => {
                self.backoff.reset();
                // What was mended shows to the data plane at once.
                self.shared.hint_stale();
                // What the steps began spreads by gossip, and need not be begun again.
                Next::within(ALERT, ALERT)
            }
            // A pod that leaves will not wait.
            _ if plan.steps.iter().any(|step| step.reason == departures::REASON) => {
                Next::within(SHORTEST, ALERT)
            }
            _ => {
                let wait = self.backoff.next_wait();
                Next::within(wait.min(ALERT), wait)
            }
        }
    }

    /// Reads what another leader left in the journal, once this one was elected.
    async fn follow_the_leader(&mut self) {
        let term = self.leads.as_ref().and_then(Leadership::term);
        if self.leads.is_some() && term != self.term {
            self.term = term;
            // Somebody else may have led and written since.
            self.journal.lead(false).await;
        }
        if self.journal.lead(self.is_leader()).await {
            let (ours, newcomers) = self.journal.members();
            self.memory.take_over(ours, newcomers);
            self.memory.remember_homes(self.journal.homes());
        }
    }

    /// Whether a member that owns slots has not answered for a short time.
    fn has_lost_owner(&self, survey: &Survey, now: std::time::Instant) -> bool {
        let mut lines = survey.view.nodes.iter().flat_map(|node| node.view.members());
        lines.any(|line| {
            let silent = self.memory.silent_for(line.id, now);
            !line.slots.is_empty() && silent.is_some_and(|silent| silent < ALARM_LASTS)
        })
    }

    /// Carries the steps out; gives how many failed.
    async fn act(&mut self, survey: &Survey, plan: &Plan) -> usize {
        let mut ours = self.memory.ours().clone();
        ours.extend(survey.newcomers.iter().map(|node| node.view.id()));
        let actor = Actor::new(self.config.credentials.clone(), self.config.limit, ours);
        self.journal.begin(plan.steps.iter().map(|step| (step.action.to_string(), step.reason))).await;
        let mut failed = 0;
        for (place, step) in plan.steps.iter().enumerate() {
            // A pause counts from the next step on, and so does another leader.
            if self.held().is_some() {
                break;
            }
            let acted = actor.act(&step.action, Instant::now() + STEP_LIMIT).await;
            let now = Instant::now().into_std();
            match (&step.action, &acted) {
                (Action::Meet { other, .. }, Ok(_)) if step.reason == "newcomer" => {
                    self.memory.invite(other.id);
                    self.journal.know(self.memory.ours(), self.memory.newcomers()).await;
                }
                (Action::Relink { node, .. }, Ok(Acted::Done)) => self.memory.relinked(node.id, now),
                _ => {}
            }
            failed += usize::from(acted.is_err());
            let result = self.status.acted(step, &acted);
            self.journal.tried(place, result).await;
        }
        self.journal.end().await;
        failed
    }

    /// Whether the operator names all nodes that should be, so that who is not named is gone.
    fn is_listed(&self, pods: Option<&Pods>) -> bool {
        pods.map_or(self.named.has_file(), Pods::is_complete)
    }

    /// Why nothing may be changed now.
    fn held(&self) -> Option<Held> {
        // Whether it exists cannot be told: then someone tampers with it, and waiting is safe.
        let has_file =
            || self.config.pause_file.as_ref().is_some_and(|file| file.try_exists().unwrap_or(true));
        let is_annotated = || self.named.pods().is_some_and(|pods| pods.is_paused());
        if !self.is_leader() {
            Some(Held::Following)
        } else if has_file() || is_annotated() {
            Some(Held::Paused)
        } else {
            None
        }
    }

    fn is_leader(&self) -> bool {
        self.leads.as_ref().is_none_or(Leadership::is_leader)
    }
}

/// Completes when it changes who leads.
async fn changed(leads: &mut Option<Leadership>) {
    match leads {
        Some(leads) => leads.changed().await,
        None => std::future::pending().await,
    }
}

/// Where members are by a node's word.
fn told(view: &super::view::NodeView) -> impl Iterator<Item = SocketAddr> {
    view.members().filter_map(|line| line.addr(view.asked))
}
