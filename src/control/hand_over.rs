//! Hands shards over, one after the other: act → wait until all nodes agree and all links are up.

use super::act::{Acted, Actor, StepError};
use super::action::Action;
use super::bootstrap::Progress;
use super::migrate::Stop;
use super::observe::observe_all;
use super::plan::failover::HandOver;
use super::problem::{Problem, join, problems};
use super::view::View;
use crate::backend::Credentials;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often all nodes are asked while they hear of the new owner: gossip passes once a second.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How to reach the nodes, and how patiently.
#[derive(Clone, Debug)]
pub struct Config {
    pub credentials: Credentials,
    /// For each step of asking one node.
    pub limit: Duration,
    /// For the waiting after each step.
    pub timeout: Duration,
    /// Ends the run after the hand-over under way.
    pub stop: Stop,
}

/// Why a step was not done, or did not come to rest.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    #[error(transparent)]
    Step(#[from] StepError),
    #[error("{action}: done, but the nodes did not come to agree within {limit:?}: {}. 'slotgate check' shows how it goes on", join(.problems, "; "))]
    Unsettled { action: Box<Action>, limit: Duration, problems: Vec<Problem> },
}

/// How many of the hand-overs were done before the run was told to end, or all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Whole,
    Stopped { done: usize },
}

/// Carries the hand-overs out. What was wrong `before` is not waited for.
///
/// # Errors
/// The first step that failed; those before it are done and need not be undone.
pub async fn carry_out(
    config: &Config,
    before: &View,
    overs: &[HandOver],
    mut progress: impl FnMut(Progress),
) -> Result<Ending, HandOverError> {
    let actor = Actor::new(config.credentials.clone(), config.limit, HashSet::new());
    let known = problems(before, None);
    for (ix, over) in overs.iter().enumerate() {
        if config.stop.is_requested() {
            return Ok(Ending::Stopped { done: ix });
        }
        let action = over.action();
        progress(Progress::Step { step: ix + 1, steps: overs.len(), action: action.clone() });
        if actor.take_step(&action, Instant::now() + config.timeout).await? == Acted::AlreadyDone {
            progress(Progress::AlreadyDone);
        }
        progress(Progress::Waiting { what: "all nodes to agree and all links to be up".into() });
        let addrs: Vec<SocketAddr> = before.nodes.iter().map(|node| node.view.asked).collect();
        let settled = tokio::select! {
            biased;
            settled = settle(config, &addrs, &known) => settled,
            () = config.stop.requested() => return Ok(Ending::Stopped { done: ix + 1 }),
        };
        if let Err(problems) = settled {
            return Err(HandOverError::Unsettled {
                action: Box::new(action),
                limit: config.timeout,
                problems,
            });
        }
    }
    Ok(Ending::Whole)
}

/// Waits until nothing of what a step can upset is wrong that was not wrong before.
///
/// # Errors
/// What is still wrong after the timeout.
pub async fn settle(config: &Config, addrs: &[SocketAddr], known: &[Problem]) -> Result<(), Vec<Problem>> {
    let deadline = Instant::now() + config.timeout;
    loop {
        let view = observe_all(addrs, &config.credentials, config.limit).await;
        let new: Vec<Problem> = problems(&view, None)
            .into_iter()
            .filter(|problem| is_upset(problem) && !known.contains(problem))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(new);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What a change of owners can upset for a while. Dead members and missing replicas are another story.
fn is_upset(problem: &Problem) -> bool {
    matches!(
        problem,
        Problem::Silent { .. }
            | Problem::NotServing { .. }
            | Problem::Uncovered { .. }
            | Problem::Disagreement { .. }
            | Problem::Open { .. }
            | Problem::OtherRole { .. }
            | Problem::LinkDown { .. }
            | Problem::SameEpoch { .. }
    )
}
