//! Troubles: what cannot be told to Kubernetes' users right now, for operators.

use super::KubernetesError;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By what was to be told: why it was not.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<BTreeMap<&'static str, String>>);

impl Troubles {
    /// Each with what to do next.
    pub fn texts(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    /// How an attempt to tell something went.
    pub(super) fn note(&self, what: &'static str, error: Option<&KubernetesError>) {
        let mut all = self.lock();
        let text = error.map(|error| format!("{what} cannot be written: {error}"));
        let before = match text.clone() {
            Some(now) => all.insert(what, now),
            None => all.remove(what),
        };
        match (before, text) {
            (Some(_), None) => tracing::info!(reason = "kubernetes", "{what} can be written again"),
            (before, Some(now)) if before.as_ref() != Some(&now) => {
                tracing::warn!(reason = "kubernetes", "{now}");
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_right_is_told_of_until_it_is_there() {
        let troubles = Troubles::default();
        let missing = |verb, resource| KubernetesError::Forbidden { verb, resource, message: "no".into() };
        troubles.note("Events", Some(&missing("create", "events")));
        troubles.note("the status", Some(&missing("update", "configmaps")));
        let texts = troubles.texts();
        assert!(texts.len() == 2 && texts[0].contains("create events"), "{texts:?}");
        troubles.note("Events", None);
        assert!(troubles.texts()[0].contains("update configmaps"));
        troubles.note("the status", None);
        assert_eq!(troubles.texts(), [""; 0]);
    }
}
