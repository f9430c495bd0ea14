//! What the manager last saw, planned and did, for operators. Cheap to read; never waits for a node.

use super::forming::steps_of;
use crate::control::act::{ActError, Acted};
use crate::control::edit::Edit;
use crate::control::kubernetes::EditError;
use crate::control::plan::heal::{Plan, Step};
use crate::control::status::Status;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How many steps are remembered; a repair of six nodes takes about twenty.
const REMEMBERED: usize = 100;
/// A cluster of a thousand nodes in disorder has a million things wrong; a person reads the first.
const MOST_TOLD: usize = 200;

/// What the manager is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing was looked at yet.
    #[default]
    Starting,
    /// Nothing is wrong.
    Healthy,
    /// The cluster is formed of its pods for the first time.
    Forming,
    /// Steps are under way.
    Healing,
    /// Something is wrong that no step mends, or that mends itself.
    Waiting,
    /// Whatever is wrong, nothing is done.
    Paused,
    /// Another gateway acts; this one looks and tells.
    Following,
}

/// Why nothing may be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
    Paused,
    Following,
}

/// One thing that is wrong or worth knowing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Told {
    pub kind: &'static str,
    pub text: String,
    /// What a person may run.
    pub command: Option<String>,
    /// Whether the cluster is not in order because of it.
    pub is_wrong: bool,
}

/// One step of a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Planned {
    pub action: String,
    pub reason: &'static str,
}

/// A step that was tried.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Done {
    /// Which one it is since the start, from 1.
    pub number: u64,
    /// Seconds since 1970.
    pub at: f64,
    pub action: String,
    pub reason: &'static str,
    /// `done`, `already-done` or `failed`.
    pub result: &'static str,
    pub error: Option<String>,
}

/// Everything, as `/api/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub phase: Phase,
    /// Whether nothing was wrong at the last look.
    pub is_healthy: bool,
    /// Since all nodes last agreed that nothing is wrong; `null` before they have once.
    pub healthy_seconds_ago: Option<f64>,
    pub problems: Vec<Told>,
    pub findings: Vec<Told>,
    pub plan: Vec<Planned>,
    /// The last steps, the newest last.
    pub actions: Vec<Done>,
}

/// The manager's state, shared with the admin side.
#[derive(Debug, Default)]
pub struct ManageStatus(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    phase: Phase,
    is_healthy: bool,
    seen: Option<Arc<Status>>,
    healthy_at: Option<Instant>,
    problem_count: usize,
    problems: Vec<Told>,
    findings: Vec<Told>,
    plan: Vec<Planned>,
    actions: VecDeque<Done>,
    steps: BTreeMap<(&'static str, &'static str), u64>,
}

impl ManageStatus {
    pub fn report(&self) -> Report {
        let inner = self.lock();
        Report {
            phase: inner.phase,
            is_healthy: inner.is_healthy,
            healthy_seconds_ago: inner.healthy_at.map(|at| at.elapsed().as_secs_f64()),
            problems: inner.problems.clone(),
            findings: inner.findings.clone(),
            plan: inner.plan.clone(),
            actions: inner.actions.iter().cloned().collect(),
        }
    }

    /// The cluster as it was seen last.
    pub fn seen(&self) -> Option<Arc<Status>> {
        self.lock().seen.clone()
    }

    pub(super) fn saw(&self, status: Status) {
        self.lock().seen = Some(Arc::new(status));
    }

    pub fn is_paused(&self) -> bool {
        self.lock().phase == Phase::Paused
    }

    /// How long ago nothing was wrong.
    pub fn healthy_ago(&self) -> Option<Duration> {
        self.lock().healthy_at.map(|at| at.elapsed())
    }

    /// How many things are wrong.
    pub fn problem_count(&self) -> usize {
        self.lock().problem_count
    }

    /// Steps tried since the start, by action and result.
    pub fn steps(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.lock().steps.iter().map(|((action, result), count)| (*action, *result, *count)).collect()
    }

    pub(super) fn planned(
        &self,
        plan: &Plan,
        problems: Vec<(&'static str, String)>,
        is_healthy: bool,
        held: Option<Held>,
    ) {
        let mut inner = self.lock();
        let phase = match () {
            () if held == Some(Held::Paused) => Phase::Paused,
            () if held == Some(Held::Following) => Phase::Following,
            () if plan.forming.is_some() => Phase::Forming,
            () if is_healthy => Phase::Healthy,
            () if plan.steps.is_empty() => Phase::Waiting,
            () => Phase::Healing,
        };
        if is_healthy {
            inner.healthy_at = Some(Instant::now());
        }
        let findings: Vec<Told> = plan
            .findings
            .iter()
            .take(MOST_TOLD)
            .map(|finding| Told {
                kind: finding.kind,
                text: finding.text.clone(),
                command: finding.command.clone(),
                is_wrong: finding.is_wrong,
            })
            .collect();
        for finding in findings.iter().filter(|finding| !inner.findings.contains(finding)) {
            let command = finding.command.as_deref();
            tracing::warn!(reason = finding.kind, command, "{}", finding.text);
        }
        let planned = |step: Step| Planned { action: step.action.to_string(), reason: step.reason };
        let steps: Vec<Planned> = steps_of(plan).take(MOST_TOLD).map(planned).collect();
        inner.problem_count =
            problems.len() + plan.findings.iter().filter(|finding| finding.is_wrong).count();
        if phase != inner.phase {
            let first = problems.first().map(|(_, text)| text.as_str());
            tracing::info!(
                reason = "phase",
                from = ?inner.phase,
                to = ?phase,
                problems = inner.problem_count,
                first,
                steps = steps.len(),
                "the cluster's state changed"
            );
        }
        let told = |(kind, text)| Told { kind, text, command: None, is_wrong: true };
        (inner.phase, inner.is_healthy) = (phase, is_healthy);
        inner.problems = problems.into_iter().take(MOST_TOLD).map(told).collect();
        inner.findings = findings;
        inner.plan = steps;
    }

    /// Takes in what a step came to; gives it in a word.
    pub(super) fn acted(&self, step: &Step, acted: &Result<Acted, ActError>) -> &'static str {
        let (action, reason) = (step.action.to_string(), step.reason);
        let (result, error) = match acted {
            Ok(Acted::Done) => ("done", None),
            Ok(Acted::AlreadyDone) => ("already-done", None),
            Err(error) => ("failed", Some(error.to_string())),
        };
        match &error {
            None => tracing::info!(reason, result, "{action}"),
            Some(error) => tracing::warn!(reason, result, error, "could not {action}"),
        }
        let mut inner = self.lock();
        *inner.steps.entry((step.action.kind(), result)).or_default() += 1;
        inner.remember(action, reason, result, error);
        result
    }

    /// Takes in what a change of the StatefulSet or a pod came to.
    pub(super) fn edited(&self, edit: &Edit, edited: &Result<(), EditError>) {
        let action = edit.to_string();
        let (result, error) = match edited {
            Ok(()) => ("done", None),
            Err(error) => ("failed", Some(error.to_string())),
        };
        match &error {
            None => tracing::info!(reason = "wish", result, "{action}"),
            Some(error) => tracing::warn!(reason = "wish", result, error, "could not {action}"),
        }
        let mut inner = self.lock();
        *inner.steps.entry((edit.kind(), result)).or_default() += 1;
        inner.remember(action, "wish", result, error);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// After the step was counted.
    fn remember(
        &mut self,
        action: String,
        reason: &'static str,
        result: &'static str,
        error: Option<String>,
    ) {
        if self.actions.len() == REMEMBERED {
            self.actions.pop_front();
        }
        let number = self.steps.values().sum();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.actions.push_back(Done { number, at, action, reason, result, error });
    }
}
