//! Repairs slots: observe → count keys → plan → act → wait until all nodes agree.

use super::act::{Acted, Actor};
use super::action::Action;
use super::bootstrap::Progress;
use super::migrate::Stop;
use super::node_client::NodeError;
use super::observe::{observe_all, observe_slot_keys};
use super::plan::fix::{Fix, doubtful, fix};
use super::problem::{Problem, problems};
use super::run_error::{RunError, go_on};
use super::view::View;
use crate::backend::Credentials;
use crate::topology::{NodeId, SlotRange};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often all nodes are asked while they hear of new owners: gossip passes once a second.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How to repair.
#[derive(Clone, Debug)]
pub struct Config {
    pub credentials: Credentials,
    /// For each step of asking one node.
    pub limit: Duration,
    /// For the waiting until the nodes agree.
    pub timeout: Duration,
    /// Slots of which keys may be given up.
    pub allowed: Vec<SlotRange>,
    /// Where keys are saved before they are given up.
    pub save_to: PathBuf,
    /// Ends the run after the slot under way.
    pub stop: Stop,
}

/// Plans with what was observed, after counting the keys of the slots in doubt.
///
/// # Errors
/// A node did not say how many keys it holds.
pub async fn plan(config: &Config, view: &View) -> Result<Fix, NodeError> {
    let nodes: Vec<(NodeId, SocketAddr)> =
        view.nodes.iter().map(|node| (node.view.id(), node.view.asked)).collect();
    let keys = observe_slot_keys(&nodes, &doubtful(view), &config.credentials, config.limit).await?;
    Ok(fix(view, &keys, &config.allowed))
}

/// Carries the plan out. Slots that nobody owned are given first and waited for, as nodes that miss slots
/// refuse to move keys.
///
/// # Errors
/// The first step that failed, or nodes that do not agree in time.
pub async fn carry_out(
    config: &Config,
    view: &View,
    fix: &Fix,
    mut progress: impl FnMut(Progress),
) -> Result<(), RunError> {
    let actor = Actor::new(config.credentials.clone(), config.limit, HashSet::new())
        .saving_to(config.save_to.clone());
    let (mut has_given, steps) = (false, fix.actions.len());
    for (ix, action) in fix.actions.iter().enumerate() {
        let is_gift = matches!(action, Action::AddSlots { .. });
        if has_given && !is_gift {
            wait(config, view, fix, false, &mut progress).await?;
        }
        go_on(&config.stop)?;
        has_given = is_gift;
        progress(Progress::Step { step: ix + 1, steps, action: action.clone() });
        if actor.take_step(action, Instant::now() + config.timeout).await? == Acted::AlreadyDone {
            progress(Progress::AlreadyDone);
        }
    }
    wait(config, view, fix, true, &mut progress).await
}

/// Waits until all agree on the slots that were in doubt; with `is_end`, that none of them is open.
async fn wait(
    config: &Config,
    before: &View,
    fix: &Fix,
    is_end: bool,
    progress: &mut impl FnMut(Progress),
) -> Result<(), RunError> {
    progress(Progress::Waiting { what: "all nodes to agree".into() });
    let addrs: Vec<SocketAddr> = before.nodes.iter().map(|node| node.view.asked).collect();
    // With slots that are left alone, or a dead primary, nodes may go on refusing to serve.
    let will_serve = fix.refused.is_empty() && before.silent.is_empty();
    let refused = |open: u16| {
        let ranges = fix.refused.iter().flat_map(|refused| &refused.slots);
        ranges.into_iter().any(|range| (range.start.number()..=range.end.number()).contains(&open))
    };
    let deadline = Instant::now() + config.timeout;
    loop {
        let view = observe_all(&addrs, &config.credentials, config.limit).await;
        let left: Vec<Problem> = problems(&view, None)
            .into_iter()
            .filter(|problem| match problem {
                Problem::Disagreement { .. } => true,
                Problem::NotServing { .. } | Problem::Uncovered { .. } => will_serve,
                Problem::Open { open, .. } => is_end && !refused(open.slot.number()),
                _ => false,
            })
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        go_on(&config.stop)?;
        if Instant::now() >= deadline {
            return Err(RunError::Unsettled { limit: config.timeout, problems: left });
        }
        sleep(LOOK_EVERY).await;
    }
}
