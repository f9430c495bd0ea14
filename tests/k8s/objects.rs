//! deploy/ as it is for one scenario: in a namespace of its own, at a NodePort that Kubernetes chooses.

use crate::kubectl::Kubectl;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// The label of what is ours: a drain moves these pods and leaves all others alone, and namespaces that an
/// interrupted run left behind are found by it.
pub const OWNER: &str = "slotgate-test";

/// What `kubectl apply -k deploy/FOLDER` would send, made to fit into `namespace`.
pub fn render(folder: &str, namespace: &str, image: &str) -> Result<Vec<Value>> {
    let path = format!("{}/deploy/{folder}", env!("CARGO_MANIFEST_DIR"));
    let text = Kubectl::of(namespace).run(&["kustomize", &path])?;
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).context("kubectl kustomize")?;
    objects.iter_mut().for_each(|object| fit(object, namespace, image));
    Ok(objects)
}

/// Moves an object into `namespace`.
pub fn fit(object: &mut Value, namespace: &str, image: &str) {
    if object["kind"] == "Namespace" {
        object["metadata"]["name"] = namespace.into();
        object["metadata"]["labels"][OWNER] = namespace.into();
    } else {
        object["metadata"]["namespace"] = namespace.into();
    }
    for subject in items(object, "/subjects") {
        subject["namespace"] = namespace.into();
    }
    for port in items(object, "/spec/ports") {
        port.as_object_mut().map(|port| port.remove("nodePort"));
    }
    let Some(template) = object.pointer_mut("/spec/template").filter(|template| template.is_object()) else {
        return;
    };
    template["metadata"]["labels"][OWNER] = namespace.into();
    for container in items(template, "/spec/containers") {
        if container["image"] == "slotgate:dev" {
            container["image"] = image.into();
        }
    }
}

/// The items of a list, if there is one at this path. (`object["path"]` would make an empty field of it.)
fn items<'a>(object: &'a mut Value, path: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(path).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The tutorial's own objects, see the file.
pub fn tutorial(namespace: &str) -> Result<Vec<Value>> {
    let mut objects: Vec<Value> =
        serde_saphyr::from_multiple(include_str!("tutorial.yaml")).context("tutorial.yaml")?;
    objects.iter_mut().for_each(|object| fit(object, namespace, ""));
    Ok(objects)
}

/// A pod that runs a script once, beside what is tested.
pub fn pod(name: &str, machine: &str, image: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": "slotgate-tool" } },
        "spec": {
            "nodeName": machine,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 999, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "main",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script],
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    })
}
