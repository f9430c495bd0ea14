//! Journal in a ConfigMap, for the gateways to take over from each other in whichever pod they run.

use super::Place;
use super::config_map::{ConfigMap, MAX_SIZE, SaveError};
use crate::control::journal::{Store, StoreError};
use futures_util::future::{BoxFuture, FutureExt as _};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The ConfigMap's only key.
const KEY: &str = "journal.json";
/// How far a plan got is read by people after a kill; half a second is exact enough.
const SPACING: Duration = Duration::from_millis(500);

/// The ConfigMap `slotgate-journal-NAME` beside the StatefulSet NAME.
pub struct Journal(ConfigMap);

impl Journal {
    pub fn new(place: &Place) -> Journal {
        Journal(ConfigMap::new(place, format!("slotgate-journal-{}", place.stateful_set)))
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())
    }
}

impl Store for Journal {
    fn place(&self) -> String {
        format!("in the ConfigMap {} of namespace {}", self.0.name, self.0.namespace)
    }

    fn load(&self) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        async {
            let data = self.0.load().await.map_err(|error| StoreError::Failed(error.to_string()))?;
            // One that somebody emptied is no journal yet.
            Ok(data.and_then(|mut data| data.remove(KEY)))
        }
        .boxed()
    }

    fn save(&self, text: String) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            match self.0.save(BTreeMap::from([(KEY.to_string(), text)])).await {
                Ok(()) => Ok(()),
                Err(SaveError::Overtaken) => Err(StoreError::Overtaken),
                Err(SaveError::Kubernetes(error)) => Err(StoreError::Failed(error.to_string())),
            }
        }
        .boxed()
    }

    fn limit(&self) -> usize {
        MAX_SIZE
    }

    fn spacing(&self) -> Duration {
        SPACING
    }
}
