//! Pods and StatefulSets as the tutorial's reader has them.

use serde_json::{Value, json};
use std::net::IpAddr;

/// The StatefulSet `name` of so many pods.
pub fn stateful_set(name: &str, replicas: usize) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "name": name, "uid": format!("uid-of-{name}"), "annotations": {} },
        "spec": {
            "replicas": replicas, "serviceName": "redis-svc",
            "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } } },
            "updateStrategy": { "type": "RollingUpdate" },
        },
        "status": { "replicas": replicas, "updateRevision": format!("{name}-1") },
    })
}

/// The running pod `set`-`ordinal` at this address; `life` tells one pod of the name from the next.
pub fn pod(set: &str, ordinal: usize, life: usize, ip: IpAddr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{set}-{ordinal}"), "uid": format!("uid-of-{set}-{ordinal}-{life}"),
            "labels": { "app": set, "controller-revision-hash": format!("{set}-1") },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": set, "uid": format!("uid-of-{set}"),
                "controller": true,
            }],
        },
        "spec": { "containers": [], "nodeName": format!("n{}", ordinal % 3 + 1) },
        "status": {
            "phase": "Running", "podIP": ip.to_string(),
            "conditions": [{ "type": "Ready", "status": "True" }, { "type": "PodScheduled", "status": "True" }],
            "containerStatuses": [{
                "name": "redis", "image": "redis:7.0", "imageID": "", "ready": true, "restartCount": 0,
                "state": { "running": {} },
            }],
        },
    })
}
