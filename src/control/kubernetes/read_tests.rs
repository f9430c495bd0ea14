//! Pods and StatefulSets as the API server's JSON has them.

use super::*;
use kube::Client;
use serde_json::{Value, json};

async fn place() -> Place {
    let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let config = super::super::Config { namespace: None, stateful_set: "redis".into(), port: 6379 };
    Place::new(client, "tool-env", &config)
}

fn pod(name: &str, status: Value) -> core::Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "uid": "u-1",
            "labels": { "controller-revision-hash": "redis-7d4", "topology.kubernetes.io/zone": "a" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "redis", "uid": "s" }],
        },
        "spec": { "containers": [], "nodeName": "n2" },
        "status": status,
    }))
    .unwrap()
}

fn running() -> Value {
    json!({
        "phase": "Running", "podIP": "10.244.2.31",
        "conditions": [{ "type": "Ready", "status": "True" }, { "type": "PodScheduled", "status": "True" }],
        "containerStatuses": [{
            "name": "redis", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": {} },
        }],
    })
}

#[tokio::test]
async fn a_running_pod_tells_where_its_node_is() {
    let place = place().await;
    let read = read_pod(&pod("redis-11", running()), &place).unwrap();
    assert_eq!((read.ordinal, read.addr), (11, Some("10.244.2.31:6379".parse().unwrap())));
    assert_eq!((read.host.as_deref(), read.zone.as_deref()), (Some("n2"), Some("a")));
    assert_eq!(read.revision.as_deref(), Some("redis-7d4"));
    assert!(read.is_ready && read.is_running && !read.is_leaving);
    assert_eq!(read.trouble, None);
}

#[tokio::test]
async fn a_pod_that_was_told_to_end_is_leaving_and_one_that_ended_has_no_address() {
    let place = place().await;
    let mut leaving = pod("redis-0", running());
    leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let read = read_pod(&leaving, &place).unwrap();
    assert!(read.is_leaving && read.addr.is_some());
    let ended = pod("redis-0", json!({ "phase": "Failed", "podIP": "10.244.2.31" }));
    let read = read_pod(&ended, &place).unwrap();
    assert_eq!((read.addr, read.is_running), (None, false));
}

#[tokio::test]
async fn pods_of_others_are_not_ours() {
    let place = place().await;
    let mut other = pod("redis-0", running());
    other.metadata.owner_references.as_mut().unwrap()[0].name = "redis-b".into();
    assert_eq!(read_pod(&other, &place), None);
    other.metadata.owner_references = None;
    assert_eq!(read_pod(&other, &place), None);
    assert_eq!(read_pod(&pod("redis-b-0", running()), &place), None);
}

#[tokio::test]
async fn why_a_pod_does_not_run_is_told_in_kubernetes_words() {
    let place = place().await;
    let unplaced = json!({
        "phase": "Pending",
        "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available",
        }],
    });
    let read = read_pod(&pod("redis-0", unplaced), &place).unwrap();
    assert_eq!(read.trouble.as_deref(), Some("Unschedulable: 0/3 nodes are available"));
    let mut waiting = running();
    waiting["containerStatuses"][0]["state"] = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
    let read = read_pod(&pod("redis-0", waiting), &place).unwrap();
    assert_eq!((read.trouble.as_deref(), read.is_running), (Some("CrashLoopBackOff"), false));
}

fn set(annotations: Value) -> StatefulSet {
    let set = json!({
        "metadata": { "name": "redis", "uid": "s-1", "annotations": annotations },
        "spec": {
            "replicas": 6, "serviceName": "redis-svc", "template": {},
            "selector": {
                "matchLabels": { "app": "redis" },
                "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["a", "b"] }],
            },
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 6 } },
        },
        "status": { "replicas": 6, "updateRevision": "redis-7d5" },
    });
    let set = serde_json::from_value(set).unwrap();
    assert_eq!(selector(&set), "app=redis,tier in (a,b)");
    read_set(&set)
}

#[test]
fn the_stateful_set_says_what_is_wanted() {
    let read = set(json!({ "slotgate.dev/shards": "4", "slotgate.dev/replicas": " 1 " }));
    assert_eq!((read.replicas, read.partition, read.is_rolling), (6, 6, true));
    assert_eq!(read.update_revision.as_deref(), Some("redis-7d5"));
    assert_eq!((read.wishes.shards, read.wishes.replicas), (Some(4), Some(1)));
    assert!(!read.wishes.is_paused && read.wishes.wrong.is_empty());
}

#[test]
fn a_wish_that_cannot_be_read_is_told_of_and_a_doubtful_pause_is_one() {
    let read = set(json!({ "slotgate.dev/shards": "four", "slotgate.dev/paused": "yes" }));
    assert_eq!(read.wishes.shards, None);
    assert!(read.wishes.is_paused);
    assert_eq!(read.wishes.wrong.len(), 2, "{:?}", read.wishes.wrong);
    assert!(!set(json!({ "slotgate.dev/paused": "false" })).wishes.is_paused);
}
