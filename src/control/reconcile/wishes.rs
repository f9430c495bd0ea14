//! Carries the wishes on the StatefulSet out, beside healing: the next thing is planned at each look, and
//! done by whoever leads then.

use super::status::ManageStatus;
use crate::control::edit::Edit;
use crate::control::kubernetes::Place;
use crate::control::plan::heal::{Plan, Step};
use crate::control::plan::wish::{Case, Next, next};
use crate::control::pods::Pods;
use crate::control::survey::Survey;

/// What wishes need beyond what heals.
#[derive(Debug)]
pub(super) struct Wishes {
    /// Where to write; without it, nothing is wished.
    place: Option<Place>,
}

/// What is to be done for wishes now; steps on nodes are in the plan.
#[derive(Debug, Default)]
pub(super) struct Wished {
    pub(super) edit: Option<Edit>,
    /// It is not over: look again soon.
    pub(super) is_under_way: bool,
}

impl Wishes {
    pub(super) fn new(place: Option<Place>) -> Wishes {
        Wishes { place }
    }

    /// Plans the next thing, and adds what nodes are to do for it to the plan.
    pub(super) fn plan(
        &mut self,
        survey: &Survey,
        pods: Option<&Pods>,
        plan: &mut Plan,
        problems: &[(&'static str, String)],
    ) -> Wished {
        let (Some(pods), Some(_)) = (pods, &self.place) else { return Wished::default() };
        let wrong = wrong(plan, problems);
        let (view, newcomers) = (&survey.view, survey.newcomers.as_slice());
        let mut wished = Wished { edit: None, is_under_way: true };
        match next(Case { pods, view, newcomers, wrong: wrong.as_deref() }) {
            Next::Nothing => wished.is_under_way = false,
            Next::Wait { kind, text } => plan.note(kind, text, None),
            Next::Act { reason, actions } => {
                plan.steps.extend(actions.into_iter().map(|action| Step { action, reason }));
            }
            Next::Edit(edit) => wished.edit = Some(edit),
        }
        wished
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
    let problems = problems.iter().map(|(_, text)| text.clone());
    problems.chain(findings).chain(steps).next()
}
