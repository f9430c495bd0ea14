//! Removes one node from a cluster: look → plan → drain → hand its replicas on → let all forget it → reset.
//!
//! Nothing is remembered: each run finds out from the nodes how far an earlier one came. The leaver is
//! reset only when no member knows it any more.

mod pin;

use super::act::{Actor, StepError};
use super::action::Action;
use super::hand_over;
use super::introduce::Introduced;
use super::migrate::room::{NoRoom, memories, no_room};
use super::migrate::unfinished::remedies;
use super::migrate::{self, Journey, JourneyError, ready_holders};
use super::named::{self, Name, NamedError};
use super::node_client::NodeError;
use super::observe::{observe_all, observe_cluster};
use super::plan::remove::{Allowed, Plan, Refusal, Stage, plan};
use super::problem::{Problem, join, problems};
use super::view::{Observation, View};
use crate::topology::NodeId;
use pin::Pins;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A node bans one that it forgot for 60 s; whoever knew it still would bring it back after that.
const BAN: Duration = Duration::from_secs(45);

/// Who is to leave, as a person named it.
#[derive(Clone, Debug)]
pub struct Wish {
    pub text: String,
    pub name: Name,
    pub allowed: Allowed,
}

/// What goes on, for people who wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Step `step` of `steps` begins.
    Step {
        step: usize,
        steps: usize,
        stage: Stage,
    },
    Waiting {
        what: &'static str,
    },
    /// Slots move.
    Moving(migrate::Event),
}

/// How a run came out that met no error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Removed,
    /// It was told to end before all was done; nothing is left half-way.
    Stopped,
}

/// Why the node was not removed, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error(
        "{0}. When an earlier run was cut short after everybody forgot the node, name it by its address, so that it is \
         reset"
    )]
    Named(#[from] NamedError),
    #[error("{0}; nothing was changed")]
    Refused(#[from] Refusal),
    #[error("{0}; nothing was changed")]
    NoRoom(#[from] NoRoom),
    #[error(transparent)]
    Journey(#[from] JourneyError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Step(#[from] StepError),
    #[error("the slots were moved, but {0}")]
    Midway(Refusal),
    #[error(
        "not all members forgot the node within {limit:?}: {why}. Whoever still knows it brings it back a minute later"
    )]
    NotForgotten { limit: Duration, why: String },
    #[error(
        "the node is removed, but not all is well after {limit:?}: {}. 'slotgate status' shows how it goes on",
        join(.problems, "; ")
    )]
    Unsettled { limit: Duration, problems: Vec<Problem> },
}

/// What was seen, and what follows from it.
#[derive(Debug)]
pub struct Outlook {
    view: View,
    pub plan: Plan,
}

/// Looks until the cluster is in order or time is up, and plans. Slots that an earlier run left open are
/// ended when the plan is carried out.
///
/// # Errors
/// Nobody is called so, or it would not be safe.
pub async fn look(journey: &Journey, wish: &Wish) -> Result<Outlook, RemoveError> {
    let deadline = Instant::now() + journey.timeout;
    loop {
        let (view, id) = find(journey, wish).await?;
        match plan(&view, id, &hindrances(&view), wish.allowed) {
            // What a move or an earlier run began may still be on its way through gossip.
            Err(Refusal::NotInOrder(_)) if Instant::now() < deadline && !journey.stop.is_requested() => {
                sleep(LOOK_EVERY).await;
            }
            Err(refusal) => return Err(refusal.into()),
            Ok(plan) => {
                let outlook = Outlook { view, plan };
                outlook.check_room(journey).await?;
                return Ok(outlook);
            }
        }
    }
}

impl Outlook {
    async fn check_room(&self, journey: &Journey) -> Result<(), RemoveError> {
        let Some(Stage::Drain(moves)) = self.plan.stages.first() else { return Ok(()) };
        let memories = memories(moves, &journey.credentials, journey.limit).await?;
        let holders = ready_holders(&self.view)?;
        no_room(moves, &holders, &memories).map_or(Ok(()), |refusal| Err(refusal.into()))
    }
}

/// All nodes that can be found, and the id of the one that is meant; asked at its own address too, as
/// nobody may know it any more.
async fn find(journey: &Journey, wish: &Wish) -> Result<(View, NodeId), RemoveError> {
    let mut view = observe_cluster(&journey.addrs, &journey.credentials, journey.limit).await;
    let mut there: Option<Observation> = None;
    if let Name::At(addrs) = &wish.name {
        let unasked: Vec<SocketAddr> =
            addrs.iter().copied().filter(|addr| view.at(*addr).is_none()).collect();
        there = observe_all(&unasked, &journey.credentials, journey.limit).await.nodes.into_iter().next();
    }
    let id = match (named::find(&view, &wish.text, &wish.name), &there) {
        (Err(NamedError::Nobody(_)), Some(node)) if is_leftover(&view, node) => node.view.id(),
        (found, _) => found?,
    };
    view.nodes.extend(there.filter(|node| node.view.id() == id && view.of(id).is_none()));
    Ok((view, id))
}

/// Whether an earlier run may have brought the node as far: it knows our members, which do not know it,
/// or it is alone and empty.
fn is_leftover(view: &View, node: &Observation) -> bool {
    let me = node.view.myself();
    let is_empty = me.slots.is_empty() && me.primary.is_none() && node.info.keys == 0;
    let is_alone = node.view.lines().len() == 1;
    let mut others = node.view.members().filter(|line| line.id != node.view.id());
    if is_alone { is_empty } else { others.any(|line| view.of(line.id).is_some()) }
}

/// What keeps slots from being moved.
fn hindrances(view: &View) -> Vec<Problem> {
    match ready_holders(view) {
        Err(JourneyError::NotInOrder(problems)) => problems,
        _ => Vec::new(),
    }
}

/// Carries the plan out. A request to stop is followed after the step, or the batch of slots, under way.
///
/// # Errors
/// The first step that failed. What was done stays; the next run goes on from there.
pub async fn carry_out(
    journey: &Journey,
    wish: &Wish,
    outlook: Outlook,
    mut tell: impl FnMut(Event),
) -> Result<Ending, RemoveError> {
    let Outlook { mut view, mut plan } = outlook;
    let before = problems(&view, None);
    let id = plan.leaver;
    if !remedies(&view).is_empty() {
        view = journey.end_open(view, &mut |event| tell(Event::Moving(event))).await?;
        plan = self::plan(&view, id, &hindrances(&view), wish.allowed)?;
    }
    let addrs: Vec<SocketAddr> =
        view.nodes.iter().filter(|node| node.view.id() != id).map(|node| node.view.asked).collect();
    let pins = Pins::read(journey, &view, id).await;
    let run = Run { journey, wish, addrs: &addrs, pins: &pins };
    let ended = run.carry_out(view, plan, &mut tell).await;
    if !matches!(ended, Ok(Ending::Removed)) {
        // Whoever changes his mind now has the cluster as it was.
        pins.unpin_all().await;
        return ended;
    }
    tell(Event::Waiting { what: "all nodes to agree and all links to be up" });
    settle(journey, &addrs, &before, id).await?;
    Ok(Ending::Removed)
}

/// What all stages share.
struct Run<'a> {
    journey: &'a Journey,
    wish: &'a Wish,
    /// All but the leaver.
    addrs: &'a [SocketAddr],
    pins: &'a Pins,
}

impl Run<'_> {
    async fn carry_out(
        &self,
        view: View,
        mut plan: Plan,
        tell: &mut impl FnMut(Event),
    ) -> Result<Ending, RemoveError> {
        let Run { journey, wish, addrs, pins } = *self;
        let ours: HashSet<NodeId> = view.nodes.iter().map(|node| node.view.id()).collect();
        let actor = Arc::new(Actor::new(journey.credentials.clone(), journey.limit, ours));
        let mut done = 0;
        while !plan.stages.is_empty() {
            if journey.stop.is_requested() {
                return Ok(Ending::Stopped);
            }
            let steps = done + plan.stages.len();
            let stage = plan.stages.remove(0);
            done += 1;
            tell(Event::Step { step: done, steps, stage: stage.clone() });
            match stage {
                Stage::Drain(moves) => {
                    pins.pin().await;
                    journey.carry_out(&view, moves, &mut |event| tell(Event::Moving(event))).await?;
                    if journey.stop.is_requested() {
                        return Ok(Ending::Stopped);
                    }
                    plan = after_drain(journey, wish).await?;
                }
                Stage::HandOn { replica, primary } => {
                    pins.unpin(replica.addr).await;
                    act(&actor, journey, Action::Replicate { node: replica, primary }).await?;
                }
                Stage::Forget(_) => {
                    tell(Event::Waiting { what: "all members to forget it" });
                    forget(journey, &actor, addrs, plan.leaver).await?;
                }
                Stage::Reset(node) => {
                    pins.unpin(node.addr).await;
                    act(&actor, journey, Action::Reset { node }).await?;
                }
            }
        }
        Ok(Ending::Removed)
    }
}

async fn act(actor: &Actor, journey: &Journey, action: Action) -> Result<(), RemoveError> {
    actor.take_step(&action, Instant::now() + journey.timeout).await?;
    Ok(())
}

/// What is left once the slots are gone: servers may have changed whom nodes follow by themselves.
async fn after_drain(journey: &Journey, wish: &Wish) -> Result<Plan, RemoveError> {
    // The replicas that the leaver followed meanwhile are not the ones that a person meant to keep.
    let wish = Wish { allowed: Allowed { no_replica: true, ..wish.allowed }, ..wish.clone() };
    match look(journey, &wish).await {
        Ok(Outlook { plan, .. }) => Ok(plan),
        Err(RemoveError::Refused(refusal)) => Err(RemoveError::Midway(refusal)),
        Err(error) => Err(error),
    }
}

/// Lets all who know the leaver forget it, all at once and again, until none knows it.
async fn forget(
    journey: &Journey,
    actor: &Arc<Actor>,
    addrs: &[SocketAddr],
    leaver: NodeId,
) -> Result<(), RemoveError> {
    let limit = journey.timeout.min(BAN);
    let deadline = Instant::now() + limit;
    let mut introduced = Introduced::default();
    loop {
        let view = observe_all(addrs, &journey.credentials, journey.limit).await;
        let knowing: Vec<&Observation> =
            view.nodes.iter().filter(|node| node.view.line(leaver).is_some()).collect();
        if knowing.is_empty() && view.silent.is_empty() {
            return Ok(());
        }
        // Nobody forgets the leaver while it sees a replica follow it, which news may be on its way.
        let found = problems(&view, None);
        introduced.spread_roles(&view, &found, &journey.credentials, journey.limit).await;
        let mut telling = JoinSet::new();
        for node in &knowing {
            let node = super::action::Party { id: node.view.id(), addr: node.view.asked };
            let (actor, action) = (actor.clone(), Action::Dismiss { node, leaver });
            telling.spawn(async move { actor.act(&action, deadline).await });
        }
        let refused = telling.join_all().await.into_iter().filter_map(Result::err);
        let refused: Vec<String> = refused.map(|error| error.to_string()).collect();
        if Instant::now() >= deadline {
            let silent = view.silent.iter().map(|silent| silent.error.to_string());
            let why = join(&refused.into_iter().chain(silent).collect::<Vec<_>>(), "; ");
            return Err(RemoveError::NotForgotten { limit, why });
        }
        if !refused.is_empty() || !view.silent.is_empty() {
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Waits until nothing is wrong that was not wrong before, and looks once more that nobody knows the leaver.
async fn settle(
    journey: &Journey,
    addrs: &[SocketAddr],
    before: &[Problem],
    leaver: NodeId,
) -> Result<(), RemoveError> {
    let limit = journey.timeout;
    let (credentials, timeout) = (journey.credentials.clone(), limit);
    let config = hand_over::Config { credentials, limit: journey.limit, timeout, stop: journey.stop.clone() };
    let settled = hand_over::settle(&config, addrs, before).await;
    settled.map_err(|problems| RemoveError::Unsettled { limit, problems })?;
    let view = observe_all(addrs, &journey.credentials, journey.limit).await;
    match view.nodes.iter().find(|node| node.view.line(leaver).is_some()) {
        None => Ok(()),
        Some(node) => {
            let why = format!("{} knows it again", node.view.asked);
            Err(RemoveError::NotForgotten { limit, why })
        }
    }
}
