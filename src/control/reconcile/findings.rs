//! What a look finds besides the cluster itself: of the API server and of the journal.

use super::Manager;
use crate::control::plan::heal::Finding;
use crate::control::plan::heal_pods;
use crate::control::pods::Pods;
use crate::control::survey::Survey;

impl Manager {
    /// What there is to say of the API server.
    pub(super) fn of_kubernetes(&self, pods: Option<&Pods>) -> Vec<Finding> {
        let Some(kubernetes) = &self.config.kubernetes else { return Vec::new() };
        let has_set = pods.is_some_and(|pods| pods.set.is_some());
        let watched = kubernetes.watched.trouble().map(|text| heal_pods::of_api(text, has_set));
        watched
            .into_iter()
            .chain(kubernetes.troubles.texts().into_iter().map(|text| heal_pods::of_api(text, true)))
            .collect()
    }

    /// What there is to say of the journal.
    pub(super) fn of_journal(&self, survey: &Survey) -> Vec<Finding> {
        let say = |kind, text: String, is_wrong| Finding { kind, text, command: None, is_wrong };
        let mut findings = Vec::new();
        let is_of_others = survey.view.nodes.is_empty() && !survey.strangers.is_empty();
        if let Some(place) = self.journal.place().filter(|_| is_of_others) {
            let text = format!(
                "the nodes that answer are not of the cluster that was managed until now: if they are the ones to \
                 manage, remove the journal {place} and start again"
            );
            findings.push(say("another-cluster", text, true));
        }
        findings.extend(self.journal.cut_short().map(|text| say("cut-short", text.into(), false)));
        findings.extend(self.journal.trouble().map(|text| say("journal", text.into(), false)));
        findings
    }
}
