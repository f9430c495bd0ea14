//! Forms a cluster of lone nodes: observe → plan → act → wait until all nodes agree.
//!
//! Done only when every replica follows its primary and all epochs are distinct: a cluster that is
//! merely joined loses a shard whose primary dies before its first synchronisation.

use super::act::{Acted, Actor};
use super::action::Action;
use super::discover::Seed;
use super::introduce::Introduced;
use super::migrate::Stop;
use super::observe::observe_all;
use super::plan::form::{Formation, Plan, Refusal, form};
use super::problem::{Problem, join, problems, unknown_pairs};
use super::run_error::{RunError, go_on};
use super::sync_delay;
use super::view::{NodeView, View};
use crate::backend::Credentials;
use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the nodes are asked while they get to know each other: gossip passes once a second.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Nodes that met the first one hear of each other by gossip within some seconds; those that have not by
/// then are brought together themselves, so many at a look.
const MEET_OTHERS: Duration = Duration::from_millis(250);
const MEETINGS: usize = 64;
/// A first contact that was lost is given up by the node after its node timeout, at least a second;
/// then it is tried again.
const MEET_AGAIN: Duration = Duration::from_secs(3);

/// What to form, and how patiently.
#[derive(Clone, Debug)]
pub struct Config {
    /// The nodes; the first ones become primaries.
    pub nodes: Vec<Seed>,
    /// How many replicas each primary gets at least.
    pub replicas: usize,
    pub credentials: Credentials,
    /// For each step of asking one node.
    pub limit: Duration,
    /// For all waiting until the nodes agree.
    pub timeout: Duration,
    /// Ends the run after the step under way.
    pub stop: Stop,
}

/// What goes on, for people who wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Step `step` of `steps` begins.
    Step { step: usize, steps: usize, action: Action },
    /// That step had been done before.
    AlreadyDone,
    /// What is still waited for, told when it changes.
    Waiting { what: String },
}

/// Why the cluster was not formed.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("cannot look up {0}: {1}")]
    Resolve(Seed, std::io::Error),
    #[error("{0} resolves to several addresses ({1}): name each node by an address of its own")]
    Ambiguous(Seed, String),
    #[error("{0}; nothing was changed")]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Looks every node up and asks all at once.
///
/// # Errors
/// A name without an address, or with several.
pub async fn observe(config: &Config) -> Result<View, BootstrapError> {
    let mut addrs = Vec::with_capacity(config.nodes.len());
    for seed in &config.nodes {
        let found =
            seed.resolve(config.limit).await.map_err(|error| BootstrapError::Resolve(seed.clone(), error))?;
        addrs.push(single(seed, &found)?);
    }
    Ok(observe_all(&addrs, &config.credentials, config.limit).await)
}

/// Plans with what was observed.
///
/// # Errors
/// Nodes that must not be touched, or too few.
pub fn plan(config: &Config, view: &View) -> Result<Formation, BootstrapError> {
    Ok(form(view, config.replicas)?)
}

/// Carries the plan out and waits until the cluster is whole.
///
/// # Errors
/// A step failed, or the nodes do not agree in time. What was done stays and need not be undone: the
/// next run goes on from there.
pub async fn carry_out(config: &Config, plan: &Plan, progress: impl FnMut(Progress)) -> Result<(), RunError> {
    let primaries: BTreeSet<SocketAddr> = plan.actions.iter().filter_map(primary_of).collect();
    let primaries: Vec<SocketAddr> = primaries.into_iter().collect();
    sync_delay::lift_all(&primaries, &config.credentials, config.limit).await;
    let carried_out = carry_out_steps(config, plan, progress).await;
    // All of them: a run that was killed may have lifted delays of others.
    sync_delay::restore_all(&addrs_of(plan), &config.credentials, config.limit).await;
    carried_out
}

fn addrs_of(plan: &Plan) -> Vec<SocketAddr> {
    plan.members.iter().map(|member| member.party.addr).collect()
}

fn primary_of(action: &Action) -> Option<SocketAddr> {
    match action {
        Action::Replicate { primary, .. } => Some(primary.addr),
        _ => None,
    }
}

async fn carry_out_steps(
    config: &Config,
    plan: &Plan,
    mut progress: impl FnMut(Progress),
) -> Result<(), RunError> {
    let ours = plan.members.iter().map(|member| member.party.id).collect();
    let actor = Actor::new(config.credentials.clone(), config.limit, ours);
    let steps = plan.actions.len();
    let mut is_joined = false;
    for (ix, action) in plan.actions.iter().enumerate() {
        if matches!(action, Action::Replicate { .. }) && !is_joined {
            wait_joined(config, plan, &actor, &mut progress).await?;
            is_joined = true;
        }
        go_on(&config.stop)?;
        progress(Progress::Step { step: ix + 1, steps, action: action.clone() });
        if actor.take_step(action, Instant::now() + config.timeout).await? == Acted::AlreadyDone {
            progress(Progress::AlreadyDone);
        }
    }
    if !is_joined {
        wait_joined(config, plan, &actor, &mut progress).await?;
    }
    settle(config, &addrs_of(plan), &mut progress).await
}

/// Ends what a run that was killed left: waits until nothing is wrong any more with the cluster of these
/// nodes, and sets back what was changed for a while.
///
/// # Errors
/// What is still wrong after the timeout.
pub async fn end(
    config: &Config,
    addrs: &[SocketAddr],
    progress: impl FnMut(Progress),
) -> Result<(), RunError> {
    let settled = settle(config, addrs, progress).await;
    sync_delay::restore_all(addrs, &config.credentials, config.limit).await;
    settled
}

/// Waits until nothing is wrong any more with the cluster of these nodes.
///
/// # Errors
/// What is still wrong after the timeout.
async fn settle(
    config: &Config,
    addrs: &[SocketAddr],
    mut progress: impl FnMut(Progress),
) -> Result<(), RunError> {
    let deadline = Instant::now() + config.timeout;
    let mut told = Told::default();
    let mut introduced = Introduced::default();
    loop {
        let view = observe_all(addrs, &config.credentials, config.limit).await;
        let problems = problems(&view, Some(config.replicas));
        if problems.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(RunError::Unsettled { limit: config.timeout, problems });
        }
        go_on(&config.stop)?;
        told.tell(&mut progress, waiting_for(&problems));
        introduced.spread_roles(&view, &problems, &config.credentials, config.limit).await;
        sleep(LOOK_EVERY).await;
    }
}

fn single(seed: &Seed, found: &[SocketAddr]) -> Result<SocketAddr, BootstrapError> {
    // `localhost` is often both 127.0.0.1 and ::1; one address of the older kind is unambiguous.
    let v4: Vec<&SocketAddr> = found.iter().filter(|addr| addr.is_ipv4()).collect();
    match (found, v4.as_slice()) {
        ([addr], _) => Ok(*addr),
        (_, [addr]) => Ok(**addr),
        ([], _) => Err(BootstrapError::Resolve(seed.clone(), std::io::ErrorKind::NotFound.into())),
        _ => Err(BootstrapError::Ambiguous(seed.clone(), join(found, " "))),
    }
}

async fn look(config: &Config, plan: &Plan) -> View {
    observe_all(&addrs_of(plan), &config.credentials, config.limit).await
}

/// Waits until every node knows every other; contacts that were lost are tried again.
async fn wait_joined(
    config: &Config,
    plan: &Plan,
    actor: &Actor,
    progress: &mut impl FnMut(Progress),
) -> Result<(), RunError> {
    let deadline = Instant::now() + config.timeout;
    let mut meet_again = Instant::now() + MEET_OTHERS;
    let mut told = Told::default();
    loop {
        let view = look(config, plan).await;
        let views: Vec<&NodeView> = view.nodes.iter().map(|node| &node.view).collect();
        let unknown = unknown_pairs(&views);
        if unknown.is_empty() && view.silent.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let is_pair =
                |problem: &Problem| matches!(problem, Problem::Unknown { .. } | Problem::Silent { .. });
            let problems = problems(&view, None).into_iter().filter(is_pair).collect();
            return Err(RunError::Unsettled { limit: config.timeout, problems });
        }
        go_on(&config.stop)?;
        told.tell(progress, "all nodes to know each other".into());
        if Instant::now() >= meet_again {
            meet_again = Instant::now() + MEET_AGAIN;
            let pairs: HashSet<(SocketAddr, SocketAddr)> =
                unknown.iter().map(|(viewer, member)| (viewer.asked, member.asked)).collect();
            let party =
                |addr| plan.members.iter().map(|member| member.party).find(|party| party.addr == addr);
            for (viewer, member) in unknown.into_iter().take(MEETINGS) {
                if let (Some(node), Some(other)) = (party(viewer.asked), party(member.asked))
                    // Of two that do not know each other one contact is enough, and two may cross.
                    && (viewer.asked < member.asked || !pairs.contains(&(member.asked, viewer.asked)))
                {
                    let action = Action::Meet { node, other, bus_port: member.myself().bus_port };
                    // What fails here is tried again, and told at the end.
                    let _ = actor.act(&action, deadline).await;
                }
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What the first problems come to, in a few words.
fn waiting_for(problems: &[Problem]) -> String {
    let is_link =
        |problem: &Problem| matches!(problem, Problem::LinkDown { .. } | Problem::FewReplicas { .. });
    match problems.iter().all(is_link) {
        true => "every replica to follow its primary".into(),
        false => "all nodes to agree".into(),
    }
}

/// Tells each state once.
#[derive(Default)]
struct Told(String);

impl Told {
    fn tell(&mut self, progress: &mut impl FnMut(Progress), what: String) {
        if self.0 != what {
            self.0.clone_from(&what);
            progress(Progress::Waiting { what });
        }
    }
}
