//! The API server's objects → pods. Pure.

use super::Place;
use crate::control::pods::{Pod, Progress, StatefulSet, Wishes};
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The annotations with which an operator says what is wanted.
pub const PAUSED: &str = "slotgate.dev/paused";
pub const SHARDS: &str = "slotgate.dev/shards";
pub const REPLICAS: &str = "slotgate.dev/replicas";
pub const RESTART: &str = "slotgate.dev/restart";

/// On the template: the restart that its pods were made for. A new one makes all pods old.
pub const STAMP: &str = "slotgate.dev/restarted";
/// While a restart is under way: the update strategy to put back.
pub const KEPT_STRATEGY: &str = "slotgate.dev/kept-update-strategy";
/// While a change of size is under way.
pub const SCALING: &str = "slotgate.dev/scaling";
/// The last change of size that was ended.
pub const SCALED: &str = "slotgate.dev/scaled";

/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#topologykubernetesiozone>; copied to pods
/// from Kubernetes 1.35 on.
const ZONE: &str = "topology.kubernetes.io/zone";
/// Which version of the template a pod was made of
/// (<https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/>).
const REVISION: &str = "controller-revision-hash";

/// The pod as it is planned with; `None` when it is not of our StatefulSet or has ended for good.
pub(super) fn read_pod(pod: &core::Pod, place: &Place) -> Option<Pod> {
    let meta = &pod.metadata;
    let name = meta.name.clone()?;
    let owners = meta.owner_references.iter().flatten();
    if !owners.into_iter().any(|owner| owner.kind == "StatefulSet" && owner.name == place.stateful_set) {
        return None;
    }
    let ordinal = name.strip_prefix(&place.stateful_set)?.strip_prefix('-')?.parse().ok()?;
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    // An ended pod keeps its object, and its address may be another's by now.
    let has_ended = phase == "Succeeded" || phase == "Failed";
    let ip = status.and_then(|status| status.pod_ip.as_deref()).and_then(|ip| ip.parse().ok());
    let conditions = || status.iter().flat_map(|status| status.conditions.iter().flatten());
    let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    Some(Pod {
        ordinal,
        uid: meta.uid.clone().unwrap_or_default(),
        addr: ip.filter(|_| !has_ended).map(|ip| SocketAddr::new(ip, place.port)),
        host: spec.and_then(|spec| spec.node_name.clone()),
        zone: label(ZONE),
        is_ready: conditions().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        is_running: phase == "Running" && containers(status).all(is_running),
        is_leaving: meta.deletion_timestamp.is_some(),
        revision: label(REVISION),
        trouble: trouble(status),
        name,
    })
}

fn containers(status: Option<&core::PodStatus>) -> impl Iterator<Item = &core::ContainerStatus> {
    status.into_iter().flat_map(|status| status.container_statuses.iter().flatten())
}

fn is_running(container: &core::ContainerStatus) -> bool {
    container.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// Why it does not run: it has no place, or a container waits or has ended.
fn trouble(status: Option<&core::PodStatus>) -> Option<String> {
    let conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unplaced = conditions
        .into_iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .map(|condition| words(condition.reason.as_deref(), condition.message.as_deref()));
    unplaced.or_else(|| {
        let waiting = containers(status).find_map(|container| container.state.as_ref()?.waiting.as_ref());
        let waiting = waiting.filter(|waiting| waiting.reason.as_deref() != Some("ContainerCreating"));
        waiting.map(|waiting| words(waiting.reason.as_deref(), waiting.message.as_deref()))
    })
}

fn words(reason: Option<&str>, message: Option<&str>) -> String {
    let words: Vec<&str> = [reason, message].into_iter().flatten().filter(|text| !text.is_empty()).collect();
    words.join(": ")
}

pub(super) fn read_set(set: &apps::StatefulSet) -> StatefulSet {
    let spec = set.spec.as_ref();
    let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let count = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok());
    let taken_in = set.status.as_ref().and_then(|status| status.observed_generation);
    StatefulSet {
        name: set.metadata.name.clone().unwrap_or_default(),
        uid: set.metadata.uid.clone().unwrap_or_default(),
        // One is the API's default.
        replicas: count(spec.and_then(|spec| spec.replicas)).unwrap_or(1),
        update_revision: set.status.as_ref().and_then(|status| status.update_revision.clone()),
        is_rolling: strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete"),
        partition: count(rolling.and_then(|rolling| rolling.partition)).unwrap_or(0),
        is_stale: set.metadata.generation.is_some_and(|now| taken_in.is_none_or(|taken_in| taken_in < now)),
        wishes: read_wishes(set.metadata.annotations.as_ref().unwrap_or(&BTreeMap::new())),
        progress: read_progress(set),
    }
}

fn read_progress(set: &apps::StatefulSet) -> Progress {
    let own = |name: &str| set.metadata.annotations.as_ref()?.get(name).cloned();
    let template = set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    let stamped = template.and_then(|meta| meta.annotations.as_ref()).and_then(|all| all.get(STAMP));
    Progress {
        stamp: stamped.cloned(),
        kept_strategy: own(KEPT_STRATEGY),
        scaling: own(SCALING).and_then(|text| text.parse().ok()),
        scaled: own(SCALED).and_then(|text| text.parse().ok()),
    }
}

fn read_wishes(annotations: &BTreeMap<String, String>) -> Wishes {
    let mut wrong = Vec::new();
    let mut count = |name: &str| {
        let text = annotations.get(name)?.trim();
        let count = text.parse::<u32>().ok();
        if count.is_none() {
            wrong.push(format!("the annotation {name} is {text:?}, which is not a number; it is ignored"));
        }
        count
    };
    let (shards, replicas) = (count(SHARDS), count(REPLICAS));
    let paused = annotations.get(PAUSED).map(|text| text.trim());
    // What was meant by anything else is not known; not to act is safe.
    let is_paused = paused.is_some_and(|text| !text.eq_ignore_ascii_case("false"));
    if let Some(text) = paused.filter(|text| !["true", "false"].contains(text)) {
        wrong.push(format!(
            "the annotation {PAUSED} is {text:?}, neither true nor false; it counts as {is_paused}"
        ));
    }
    Wishes { is_paused, shards, replicas, restart: annotations.get(RESTART).cloned(), wrong }
}

/// A StatefulSet's selector as a list request wants it.
pub(super) fn selector(set: &apps::StatefulSet) -> String {
    let empty = LabelSelector::default();
    let selector = set.spec.as_ref().map_or(&empty, |spec| &spec.selector);
    let labels = selector.match_labels.iter().flatten();
    let mut terms: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
    for term in selector.match_expressions.iter().flatten() {
        let (key, values) = (&term.key, term.values.iter().flatten().cloned().collect::<Vec<_>>().join(","));
        terms.push(match term.operator.as_str() {
            "Exists" => key.clone(),
            "DoesNotExist" => format!("!{key}"),
            "NotIn" => format!("{key} notin ({values})"),
            _ => format!("{key} in ({values})"),
        });
    }
    terms.join(",")
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
