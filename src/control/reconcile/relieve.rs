//! Relieves primaries whose pods leave at once, by what the last look showed: a look at all nodes waits for those
//! that do not answer, and the pods have but seconds.

use super::Manager;
use crate::control::plan::departures;
use crate::control::plan::heal::{Case, Plan};
use crate::control::survey::Survey;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Of many pods that are deleted at once the API server tells one after the other: a hand-over to a replica
/// that is about to leave as well would change roles for nothing. Pods that leave have seconds.
const BURST: Duration = Duration::from_millis(500);

impl Manager {
    /// Each step looks at its nodes once more; what fails is planned anew by the look that follows.
    pub(super) async fn relieve(&mut self) {
        let Some(survey) = self.last.take() else { return };
        if self.departures(&survey).is_none_or(|plan| plan.steps.is_empty()) {
            return;
        }
        sleep(BURST).await;
        if let Some(plan) = self.departures(&survey).filter(|plan| !plan.steps.is_empty())
            && self.act(&survey, &plan).await == 0
        {
            self.shared.hint_stale();
        }
    }

    /// What is due because of pods that leave; `None` if none does, or nothing may be done.
    fn departures(&self, survey: &Survey) -> Option<Plan> {
        let pods = self.named.pods()?;
        if self.held().is_some() || !pods.pods.iter().any(|pod| pod.is_leaving) {
            return None;
        }
        let now = Instant::now().into_std();
        let mut plan = Plan::default();
        let memory = &self.memory;
        departures::heal(Case { survey, memory, now, listed: None, pods: Some(&pods) }, &mut plan);
        Some(plan)
    }
}
