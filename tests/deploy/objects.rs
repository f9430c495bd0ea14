//! Objects by kind and name, read as the API server would: a field that it does not know is an error here.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PodTemplateSpec, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::storage::v1::StorageClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The object of this kind and name.
pub fn get<T: DeserializeOwned>(objects: &[Value], kind: &str, name: &str) -> T {
    let found = find(objects, kind, name).unwrap_or_else(|| panic!("no {kind} {name}"));
    serde_json::from_value(found.clone()).unwrap_or_else(|error| panic!("{kind} {name}: {error}"))
}

pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

/// What every object is called, for messages and comparisons.
pub fn names(objects: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_string();
    objects
        .iter()
        .map(|object| format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"])))
        .collect()
}

/// Every template of pods, with the name of what makes them.
pub fn templates(objects: &[Value]) -> Vec<(String, PodTemplateSpec)> {
    objects
        .iter()
        .filter(|object| object["spec"]["template"].is_object())
        .map(|object| {
            let name = object["metadata"]["name"].as_str().unwrap().to_string();
            (name, serde_json::from_value(object["spec"]["template"].clone()).unwrap())
        })
        .collect()
}

/// What the object's type does not know, as paths.
pub fn unknown_fields(object: &Value) -> Vec<String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let understood = match (object["apiVersion"].as_str().unwrap_or_default(), kind) {
        ("v1", "Namespace") => understand::<Namespace>(object),
        ("v1", "ConfigMap") => understand::<ConfigMap>(object),
        ("v1", "Service") => understand::<Service>(object),
        ("v1", "ServiceAccount") => understand::<ServiceAccount>(object),
        ("apps/v1", "Deployment") => understand::<Deployment>(object),
        ("apps/v1", "StatefulSet") => understand::<StatefulSet>(object),
        ("batch/v1", "Job") => understand::<Job>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => understand::<NetworkPolicy>(object),
        ("policy/v1", "PodDisruptionBudget") => understand::<PodDisruptionBudget>(object),
        ("rbac.authorization.k8s.io/v1", "Role") => understand::<Role>(object),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => understand::<RoleBinding>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => understand::<ClusterRole>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => understand::<ClusterRoleBinding>(object),
        ("storage.k8s.io/v1", "StorageClass") => understand::<StorageClass>(object),
        // Not of Kubernetes itself.
        ("monitoring.coreos.com/v1", "PodMonitor") => object.clone(),
        (version, kind) => panic!("{version} {kind} is not known here"),
    };
    let mut unknown = Vec::new();
    compare(kind, object, &understood, &mut unknown);
    unknown
}

/// What comes back of it.
fn understand<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let read: T = serde_json::from_value(object.clone())
        .unwrap_or_else(|error| panic!("{}: {error}", object["metadata"]["name"]));
    serde_json::to_value(read).unwrap()
}

fn compare(path: &str, written: &Value, understood: &Value, unknown: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(fields), Value::Object(known)) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match known.get(name) {
                    Some(known) => compare(&path, value, known, unknown),
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(items), Value::Array(known)) if items.len() == known.len() => {
            for (ix, (item, known)) in items.iter().zip(known).enumerate() {
                compare(&format!("{path}[{ix}]"), item, known, unknown);
            }
        }
        _ => {}
    }
}
