//! Carries a first start out: the plan's steps as `slotgate bootstrap` does them, told as all other steps are.

use super::Manager;
use crate::control::act::{Acted, StepError};
use crate::control::action::Action;
use crate::control::bootstrap::{self, Progress};
use crate::control::migrate::Stop;
use crate::control::plan::first_start::Forming;
use crate::control::plan::heal::{Plan, Step};
use crate::control::run_error::RunError;
use std::time::Duration;
use tokio::time::interval;

const REASON: &str = "first-start";
/// For all waiting until the nodes agree; what is missing then is planned anew.
const LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether somebody forbids to go on.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// All steps of a plan, those of a first start too.
pub(super) fn steps_of(plan: &Plan) -> impl Iterator<Item = Step> {
    let forming = plan.forming.iter().flat_map(|forming| &forming.plan.actions).cloned();
    forming.map(first).chain(plan.steps.iter().cloned())
}

fn first(action: Action) -> Step {
    Step { action, reason: REASON }
}

impl Manager {
    /// Forms the cluster; gives how many steps failed.
    pub(super) async fn form(&mut self, forming: &Forming) -> usize {
        let stop = Stop::default();
        let config = bootstrap::Config {
            nodes: Vec::new(),
            replicas: forming.replicas,
            credentials: self.config.credentials.clone(),
            limit: self.config.limit,
            timeout: LIMIT,
            stop: stop.clone(),
        };
        tracing::info!(reason = REASON, nodes = forming.plan.members.len(), "forming a cluster of the pods");
        for warning in &forming.plan.warnings {
            tracing::warn!(reason = REASON, "{warning}");
        }
        let steps = forming.plan.actions.iter().map(|action| (action.to_string(), REASON));
        self.journal.begin(steps).await;
        let mut under_way: Option<(Action, Acted)> = None;
        let tell = |progress| match progress {
            Progress::Step { action, .. } => {
                let done = under_way.replace((action, Acted::Done));
                self.tell(done);
            }
            Progress::AlreadyDone => under_way.iter_mut().for_each(|(_, acted)| *acted = Acted::AlreadyDone),
            Progress::Waiting { what } => {
                let done = under_way.take();
                self.tell(done);
                tracing::info!(reason = REASON, "waiting for {what}");
            }
        };
        let held = async {
            let mut look = interval(LOOK_EVERY);
            while self.held().is_none() {
                look.tick().await;
            }
            stop.request();
        };
        let formed = {
            let forming = bootstrap::carry_out(&config, &forming.plan, tell);
            tokio::pin!(forming);
            tokio::select! {
                formed = &mut forming => formed,
                // It ends after the step under way.
                () = held => forming.await,
            }
        };
        let failed = match formed {
            Ok(()) => {
                self.tell(under_way);
                tracing::info!(reason = REASON, "the cluster is formed");
                0
            }
            Err(RunError::Step(StepError { action, source })) => {
                self.status.acted(&first(*action), &Err(source));
                1
            }
            Err(RunError::Stopped) => {
                self.tell(under_way);
                0
            }
            Err(error) => {
                self.tell(under_way);
                tracing::warn!(reason = REASON, "the cluster is not formed yet: {error}");
                1
            }
        };
        self.journal.end().await;
        failed
    }

    fn tell(&self, done: Option<(Action, Acted)>) {
        if let Some((action, acted)) = done {
            self.status.acted(&first(action), &Ok(acted));
        }
    }
}
