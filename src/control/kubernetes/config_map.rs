//! ConfigMap: an object of our own, written as a whole, and never over what somebody else wrote meanwhile:
//! each write names the version that it replaces.

use super::{KubernetesError, Place};
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

const RESOURCE: &str = "configmaps";
/// Nobody may wait longer for a request; one that is given up may still be carried out, which the next one
/// finds out by the version.
const LIMIT: Duration = Duration::from_secs(2);
/// All keys and values together, as the API server counts
/// (<https://kubernetes.io/docs/concepts/configuration/configmap/>), less some for what it adds.
pub(super) const MAX_SIZE: usize = (1 << 20) - (16 << 10);

/// One ConfigMap, by its name.
pub(super) struct ConfigMap {
    api: Api<core::ConfigMap>,
    pub(super) namespace: String,
    pub(super) name: String,
    stateful_set: String,
    /// As it was last read or written here.
    known: Mutex<Option<core::ConfigMap>>,
}

/// Why it was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaveError {
    #[error("somebody else has written it since it was read here")]
    Overtaken,
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
}

impl ConfigMap {
    pub(super) fn new(place: &Place, name: String) -> ConfigMap {
        ConfigMap {
            api: Api::namespaced(place.client.clone(), &place.namespace),
            namespace: place.namespace.clone(),
            name,
            stateful_set: place.stateful_set.clone(),
            known: Mutex::default(),
        }
    }

    /// What it holds; `None` when there is none.
    pub(super) async fn load(&self) -> Result<Option<BTreeMap<String, String>>, KubernetesError> {
        let found = within("get", self.api.get_opt(&self.name)).await?;
        let found = found.map_err(|error| KubernetesError::of(&error, "get", RESOURCE))?;
        let data = found.as_ref().map(|found| found.data.clone().unwrap_or_default());
        self.know(found);
        Ok(data)
    }

    /// Replaces what it holds; without a [`ConfigMap::load`] before, there must be none.
    pub(super) async fn save(&self, data: BTreeMap<String, String>) -> Result<(), SaveError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let params = PostParams { field_manager: Some("slotgate".into()), ..PostParams::default() };
        let (verb, written) = match known {
            Some(mut known) => {
                known.data = Some(data);
                known.metadata.managed_fields = None;
                ("update", within("update", self.api.replace(&self.name, &params, &known)).await?)
            }
            None => {
                let new = self.first(data);
                ("create", within("create", self.api.create(&params, &new)).await?)
            }
        };
        match written {
            Ok(written) => {
                self.know(Some(written));
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Err(SaveError::Overtaken),
            // Somebody removed it: to be read, and made, anew.
            Err(kube::Error::Api(status)) if status.code == 404 && verb == "update" => {
                Err(SaveError::Overtaken)
            }
            Err(error) => Err(KubernetesError::of(&error, verb, RESOURCE).into()),
        }
    }

    fn first(&self, data: BTreeMap<String, String>) -> core::ConfigMap {
        let labels = [
            ("app.kubernetes.io/managed-by", "slotgate"),
            ("app.kubernetes.io/instance", &self.stateful_set),
        ];
        let labels = labels.map(|(name, value)| (name.to_string(), value.to_string()));
        core::ConfigMap {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..core::ConfigMap::default()
        }
    }

    fn know(&self, now: Option<core::ConfigMap>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

async fn within<T>(verb: &'static str, request: impl Future<Output = T>) -> Result<T, KubernetesError> {
    let late = |_| KubernetesError::Unreachable {
        verb,
        resource: RESOURCE,
        message: format!("it did not answer within {} s", LIMIT.as_secs()),
    };
    timeout(LIMIT, request).await.map_err(late)
}
