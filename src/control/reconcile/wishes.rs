//! Carries the wishes on the StatefulSet out, beside healing: the next thing is planned at each look, and
//! done by whoever leads then. What takes long runs in a task meanwhile.

use super::status::ManageStatus;
use crate::backend::Credentials;
use crate::control::edit::Edit;
use crate::control::kubernetes::Place;
use crate::control::plan::heal::{Plan, Step};
use crate::control::plan::wish::{Case, Next, next};
use crate::control::pods::{Pods, StatefulSet};
use crate::control::resize::{Part, Task};
use crate::control::survey::Survey;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// What a move that was cut short leaves; the next one ends it.
const OPEN: &str = "open-slot";
/// After a part failed, how long until it is begun again.
const AGAIN: Duration = Duration::from_secs(15);

/// What wishes need beyond what heals.
#[derive(Debug)]
pub(super) struct Wishes {
    /// Where to write; without it, nothing is wished.
    place: Option<Place>,
    credentials: Credentials,
    limit: Duration,
    task: Option<Task>,
    /// What failed last, when, and why.
    failed: Option<(Part, Instant, String)>,
}

/// What is to be done for wishes now; steps on nodes are in the plan.
#[derive(Debug, Default)]
pub(super) struct Wished {
    pub(super) edit: Option<Edit>,
    /// It is not over: look again soon.
    pub(super) is_under_way: bool,
}

impl Wishes {
    pub(super) fn new(place: Option<Place>, credentials: Credentials, limit: Duration) -> Wishes {
        Wishes { place, credentials, limit, task: None, failed: None }
    }

    /// Plans the next thing, and adds what nodes are to do for it to the plan. While it is `held`, nothing is
    /// begun, and what is under way ends.
    pub(super) fn plan(
        &mut self,
        survey: &Survey,
        pods: Option<&Pods>,
        (plan, problems): (&mut Plan, &[(&'static str, String)]),
        is_held: bool,
    ) -> Wished {
        let (Some(pods), Some(_)) = (pods, &self.place) else { return Wished::default() };
        if self.goes_on(pods.set.as_ref(), plan, is_held) {
            return Wished { edit: None, is_under_way: true };
        }
        let wrong = wrong(plan, problems);
        let case = Case {
            pods,
            view: &survey.view,
            newcomers: &survey.newcomers,
            strangers: &survey.strangers,
            has_open_slots: problems.iter().any(|(kind, _)| *kind == OPEN),
            wrong: wrong.as_deref(),
        };
        let mut wished = Wished { edit: None, is_under_way: true };
        match next(case) {
            Next::Nothing => wished.is_under_way = false,
            Next::Wait { kind, text } => plan.note(kind, text, None),
            Next::Act { reason, actions } => {
                plan.steps.extend(actions.into_iter().map(|action| Step { action, reason }));
            }
            Next::Edit(edit) => wished.edit = Some(edit),
            Next::Move { to } => self.begin(Part::Move { to }, survey, plan, is_held),
            Next::Remove(node) => self.begin(Part::Remove(node), survey, plan, is_held),
        }
        wished
    }

    /// Whether a part is still under way. It is told to end when nothing may be changed, or when something
    /// else is wished by now.
    fn goes_on(&mut self, set: Option<&StatefulSet>, plan: &mut Plan, is_held: bool) -> bool {
        let Some(task) = &mut self.task else { return false };
        match task.ended() {
            None => {
                let is_wished = set.is_some_and(|set| {
                    let wished = set.wishes.shards.zip(set.wishes.replicas);
                    wished.is_some()
                        && wished == set.progress.scaling.map(|size| (size.shards, size.replicas))
                });
                if is_held || !is_wished {
                    task.stop();
                }
                plan.note("scaling", format!("under way: {}", task.part), None);
                true
            }
            Some(ended) => {
                match ended {
                    Ok(()) => {
                        tracing::info!(reason = "scale", result = "done", "{task}");
                        self.failed = None;
                    }
                    Err(error) => {
                        let error = error.to_string();
                        tracing::warn!(reason = "scale", result = "failed", error, "could not {}", task.part);
                        self.failed = Some((task.part.clone(), Instant::now(), error));
                    }
                }
                self.task = None;
                false
            }
        }
    }

    fn begin(&mut self, part: Part, survey: &Survey, plan: &mut Plan, is_held: bool) {
        if let Some((failed, at, why)) = &self.failed
            && *failed == part
        {
            plan.find("scaling-failed", format!("could not {part}, and it is tried again: {why}"), None);
            if at.elapsed() < AGAIN {
                return;
            }
        }
        if !is_held {
            tracing::info!(reason = "scale", "{part}");
            let addrs: Vec<SocketAddr> = survey.view.nodes.iter().map(|node| node.view.asked).collect();
            self.task = Some(Task::begin(part, addrs, self.credentials.clone(), self.limit));
        }
    }

    /// Carries an edit out; whether it was.
    pub(super) async fn edit(&mut self, edit: &Edit, status: &ManageStatus) -> bool {
        let Some(place) = &self.place else { return false };
        let edited = place.edit(edit).await;
        status.edited(edit, &edited);
        edited.is_ok()
    }
}

/// What is wrong with the cluster, first of all what is being mended.
fn wrong(plan: &Plan, problems: &[(&'static str, String)]) -> Option<String> {
    let steps = plan.steps.iter().map(|step| format!("{} is to be done", step.action));
    let findings =
        plan.findings.iter().filter(|finding| finding.is_wrong).map(|finding| finding.text.clone());
    let problems = problems.iter().filter(|(kind, _)| *kind != OPEN).map(|(_, text)| text.clone());
    let forming = plan.forming.iter().map(|_| "the cluster is to be formed first".to_string());
    problems.chain(findings).chain(steps).chain(forming).next()
}
