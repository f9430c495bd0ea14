//! Trouble: what the API server is of no use for right now, for operators: of the watch, and of whatever is
//! written.

use super::KubernetesError;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why something of the API server cannot be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// A word for programs.
    pub kind: &'static str,
    /// With what to do next.
    pub text: String,
}

impl Trouble {
    pub(super) fn of(error: &KubernetesError) -> Trouble {
        let kind = match error {
            KubernetesError::Forbidden { .. } => "kubernetes-forbids",
            KubernetesError::Unreachable { .. } => "kubernetes-unreachable",
            _ => "kubernetes",
        };
        Trouble { kind, text: error.to_string() }
    }
}

/// What works with the API server and what does not, by what it is about.
#[derive(Debug, Default)]
pub struct WatchStatus(Mutex<BTreeMap<&'static str, Trouble>>);

impl WatchStatus {
    /// Why something cannot be had; `None` when all is well.
    pub fn trouble(&self) -> Option<String> {
        self.lock().values().next().map(|trouble| trouble.text.clone())
    }

    /// Everything that cannot be had, each text once: an API server that is away is away for all.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles: Vec<Trouble> = Vec::new();
        for trouble in self.lock().values() {
            let is_told = |told: &Trouble| told.kind == trouble.kind && told.kind == "kubernetes-unreachable";
            if !troubles.iter().any(|told| is_told(told) || told == trouble) {
                troubles.push(trouble.clone());
            }
        }
        troubles
    }

    /// How it stands with one thing.
    pub(super) fn set(&self, what: &'static str, trouble: Option<Trouble>) {
        let mut all = self.lock();
        let before = match trouble.clone() {
            Some(now) => all.insert(what, now),
            None => all.remove(what),
        };
        match (before, trouble) {
            (Some(_), None) => {
                tracing::info!(reason = "kubernetes", "the API server is of use again for {what}");
            }
            (before, Some(now)) if before.as_ref() != Some(&now) => {
                tracing::warn!(reason = now.kind, "{}; what was learned last stays in use", now.text);
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_server_that_is_away_is_told_of_once_and_each_missing_right_by_itself() {
        let status = WatchStatus::default();
        let away = |verb| {
            let error = KubernetesError::Unreachable { verb, resource: "pods", message: "refused".into() };
            Some(Trouble::of(&error))
        };
        status.set("pods", away("watch"));
        status.set("events", away("create"));
        assert_eq!(status.troubles().len(), 1);
        let missing = |resource| {
            let error = KubernetesError::Forbidden { verb: "create", resource, message: "no".into() };
            Some(Trouble::of(&error))
        };
        status.set("pods", None);
        status.set("events", missing("events"));
        status.set("configmaps", missing("configmaps"));
        let texts: Vec<String> = status.troubles().into_iter().map(|trouble| trouble.text).collect();
        assert!(texts.len() == 2 && texts[1].contains("create events"), "{texts:?}");
        status.set("events", None);
        status.set("configmaps", None);
        assert_eq!(status.trouble(), None);
    }
}
