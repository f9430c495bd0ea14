//! Carries an [`Edit`] out. Each reads what it changes anew and writes only if nobody wrote meanwhile
//! (`resourceVersion`), so what is known from a watch that lags does no harm.

use super::read::{KEPT_STRATEGY, REPLICAS, RESTART, SCALED, SCALING, SHARDS, STAMP, read_pod, selector};
use super::{KubernetesError, Place};
use crate::control::edit::Edit;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// An edit is two or three requests; the next look tries again.
const EDIT_LIMIT: Duration = Duration::from_secs(10);

const SETS: &str = "statefulsets";
const PODS: &str = "pods";

/// Why an edit was not made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    #[error("the API server did not answer within {EDIT_LIMIT:?}")]
    TooSlow,
    #[error("the pod {0} was replaced meanwhile")]
    OtherPod(String),
    #[error("{0} is not in order by now, and one pod at a time is away")]
    OtherAway(String),
    #[error(
        "the annotation {KEPT_STRATEGY} holds no update strategy: {0:?}; put the wanted one into it as JSON"
    )]
    NoStrategy(String),
}

impl Place {
    /// Carries one edit out.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses, somebody else wrote meanwhile, or what was planned with
    /// is not so any more.
    pub async fn edit(&self, edit: &Edit) -> Result<(), EditError> {
        timeout(EDIT_LIMIT, self.try_edit(edit)).await.map_err(|_| EditError::TooSlow)?
    }

    /// The StatefulSet and its pods, as they are now.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn look(&self) -> Result<crate::control::pods::Pods, EditError> {
        let look = async {
            let set = self.set().await?;
            let mut pods: Vec<_> =
                self.listed(&set).await?.iter().filter_map(|pod| read_pod(pod, self)).collect();
            pods.sort_by_key(|pod| pod.ordinal);
            let set = Some(super::read::read_set(&set));
            Ok(crate::control::pods::Pods { pods, set })
        };
        timeout(EDIT_LIMIT, look).await.map_err(|_| EditError::TooSlow)?
    }

    async fn try_edit(&self, edit: &Edit) -> Result<(), EditError> {
        if let Edit::DeletePod { name, uid } = edit {
            return self.delete_pod(name, uid).await;
        }
        let set = self.set().await?;
        let Some(mut patch) = patch(edit, &set)? else { return Ok(()) };
        patch["metadata"]["resourceVersion"] = json!(set.metadata.resource_version);
        let params = PatchParams { field_manager: Some("slotgate".into()), ..PatchParams::default() };
        let patched = self.sets().patch(&self.stateful_set, &params, &Patch::Merge(patch)).await;
        patched.map(drop).map_err(|error| KubernetesError::of(&error, "patch", SETS).into())
    }

    async fn delete_pod(&self, name: &str, uid: &str) -> Result<(), EditError> {
        let listed = self.listed(&self.set().await?).await?;
        let named = |pod: &&core::Pod| pod.metadata.name.as_deref() == Some(name);
        let Some(pod) = listed.iter().find(named) else { return Ok(()) };
        if pod.metadata.uid.as_deref() != Some(uid) {
            return Err(EditError::OtherPod(name.to_string()));
        }
        let mut others = listed.iter().filter_map(|pod| read_pod(pod, self));
        if let Some(away) = others.find(|other| other.name != name && !other.is_whole()) {
            return Err(EditError::OtherAway(away.name));
        }
        let (uid, resource_version) = (Some(uid.to_string()), pod.metadata.resource_version.clone());
        let preconditions = Some(Preconditions { uid, resource_version });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        let deleted = self.pods().delete(name, &params).await;
        deleted.map(drop).map_err(|error| KubernetesError::of(&error, "delete", PODS).into())
    }

    fn sets(&self) -> Api<StatefulSet> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn pods(&self) -> Api<core::Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn set(&self) -> Result<StatefulSet, KubernetesError> {
        let set = self.sets().get(&self.stateful_set).await;
        set.map_err(|error| KubernetesError::of(&error, "get", SETS))
    }

    async fn listed(&self, set: &StatefulSet) -> Result<Vec<core::Pod>, KubernetesError> {
        let listed = self.pods().list(&ListParams::default().labels(&selector(set))).await;
        listed.map(|list| list.items).map_err(|error| KubernetesError::of(&error, "list", PODS))
    }
}

/// The merge patch; nothing when all is as it would make it.
fn patch(edit: &Edit, set: &StatefulSet) -> Result<Option<Value>, EditError> {
    let annotation = |name: &str| set.metadata.annotations.as_ref()?.get(name);
    Ok(match edit {
        Edit::WishRestart(wish) => Some(json!({ "metadata": { "annotations": { RESTART: wish } } })),
        Edit::WishSize(size) => Some(json!({ "metadata": { "annotations": {
            SHARDS: size.shards.to_string(), REPLICAS: size.replicas.to_string(),
        } } })),
        Edit::BeginRestart { wish } => {
            let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
            // A restart that another one takes the place of kept what is to be put back.
            let now = || strategy.map_or_else(|| json!({ "type": "RollingUpdate" }), |now| json!(now));
            let kept = annotation(KEPT_STRATEGY).cloned().unwrap_or_else(|| now().to_string());
            Some(json!({
                "metadata": { "annotations": { KEPT_STRATEGY: kept } },
                "spec": {
                    // Below a partition, deleted pods would come back as they were.
                    "updateStrategy": { "type": "OnDelete", "rollingUpdate": null },
                    "template": { "metadata": { "annotations": { STAMP: wish } } },
                },
            }))
        }
        Edit::EndRestart => match annotation(KEPT_STRATEGY) {
            None => None,
            Some(kept) => {
                let strategy = serde_json::from_str(kept).ok().filter(Value::is_object);
                let mut strategy: Value = strategy.ok_or_else(|| EditError::NoStrategy(kept.clone()))?;
                if strategy.get("rollingUpdate").is_none() {
                    strategy["rollingUpdate"] = Value::Null;
                }
                Some(json!({
                    "metadata": { "annotations": { KEPT_STRATEGY: null } },
                    "spec": { "updateStrategy": strategy },
                }))
            }
        },
        Edit::BeginScaling { size, raise_to } => {
            let mut patch = json!({ "metadata": { "annotations": { SCALING: size.to_string() } } });
            let has = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            if let Some(pods) = raise_to.filter(|pods| i64::from(*pods) > i64::from(has)) {
                patch["spec"]["replicas"] = json!(pods);
            }
            Some(patch)
        }
        Edit::EndScaling { size } => Some(json!({
            "metadata": { "annotations": { SCALING: null, SCALED: size.to_string() } },
            "spec": { "replicas": size.pods() },
        })),
        Edit::DeletePod { .. } => None,
    })
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
