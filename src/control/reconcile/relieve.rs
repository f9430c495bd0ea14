//! Relieves primaries whose pods leave at once, by what the last look showed: a look at all nodes waits for those
//! that do not answer, and the pods have but seconds.

use super::Manager;
use crate::control::plan::departures;
use crate::control::plan::heal::{Case, Plan};
use tokio::time::Instant;

impl Manager {
    /// Each step looks at its nodes once more; what fails is planned anew by the look that follows.
    pub(super) async fn relieve(&mut self) {
        let (Some(survey), Some(pods)) = (self.last.take(), self.named.pods()) else { return };
        if self.held().is_some() || !pods.pods.iter().any(|pod| pod.is_leaving) {
            return;
        }
        let now = Instant::now().into_std();
        let mut plan = Plan::default();
        let memory = &self.memory;
        departures::heal(Case { survey: &survey, memory, now, listed: None, pods: Some(&pods) }, &mut plan);
        if !plan.steps.is_empty() && self.act(&survey, &plan).await == 0 {
            self.shared.hint_stale();
        }
    }
}
