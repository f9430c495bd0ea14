//! A kustomization → its objects, with the part of kustomize that deploy/ uses
//! (<https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/>). What it does not know it
//! refuses, so that nothing in a kustomization is passed over.

use k8s_openapi::DeepMerge;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// This repository's folder deploy/.
pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// The objects of deploy/`folder`.
pub fn render(folder: &str) -> Vec<Value> {
    let mut objects = Vec::new();
    apply(&deploy().join(folder), &mut objects);
    objects
}

/// The objects of deploy/`folder` with these components on top.
pub fn render_with(folder: &str, components: &[&str]) -> Vec<Value> {
    let mut objects = render(folder);
    for component in components {
        apply(&deploy().join("components").join(component), &mut objects);
    }
    objects
}

/// Every folder of deploy/ that can be applied by itself.
pub fn installs() -> Vec<String> {
    let overlays = fs::read_dir(deploy().join("overlays")).unwrap();
    let mut names: Vec<String> =
        overlays.map(|entry| format!("overlays/{}", entry.unwrap().file_name().to_str().unwrap())).collect();
    names.push(".".into());
    names.sort();
    names
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    namespace: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    components: Vec<String>,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default)]
    config_map_generator: Vec<ConfigMap>,
    generator_options: Option<GeneratorOptions>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    target: Option<Target>,
    patch: Option<String>,
    path: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigMap {
    name: String,
    namespace: Option<String>,
    behavior: Option<String>,
    files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GeneratorOptions {
    disable_name_suffix_hash: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    op: String,
    path: String,
}

/// Adds a kustomization's objects to those there are, and changes these as it says.
fn apply(folder: &Path, objects: &mut Vec<Value>) {
    let file = folder.join("kustomization.yaml");
    let kustomization: Kustomization =
        serde_saphyr::from_str(&read(&file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let began = objects.len();
    for resource in &kustomization.resources {
        let path = folder.join(resource);
        if path.is_dir() {
            apply(&path, objects);
        } else {
            objects.extend(documents(&path));
        }
    }
    let is_plain = kustomization.generator_options.is_some_and(|options| options.disable_name_suffix_hash);
    for generated in &kustomization.config_map_generator {
        generate(generated, is_plain, folder, objects);
    }
    if let Some(namespace) = &kustomization.namespace {
        objects[began..].iter_mut().for_each(|object| set_namespace(object, namespace));
    }
    for component in &kustomization.components {
        apply(&folder.join(component), objects);
    }
    for patch in &kustomization.patches {
        let text = match (&patch.patch, &patch.path) {
            (Some(text), None) => text.clone(),
            (None, Some(path)) => read(&folder.join(path)),
            _ => panic!("{}: a patch has either a text or a path", file.display()),
        };
        change(&text, patch.target.as_ref(), objects);
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All documents of a file.
pub fn documents(path: &Path) -> Vec<Value> {
    let text = read(path);
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn generate(generated: &ConfigMap, is_plain: bool, folder: &Path, objects: &mut Vec<Value>) {
    let data: Map<String, Value> =
        generated.files.iter().map(|file| (file.clone(), Value::String(read(&folder.join(file))))).collect();
    let name = &generated.name;
    match generated.behavior.as_deref() {
        None => {
            assert!(is_plain, "{name} gets a name with a hash: nobody finds it by the tutorial's");
            let metadata = json!({ "name": name });
            objects
                .push(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data }));
        }
        Some("merge") => {
            let is_it = |object: &&mut Value| {
                object["kind"] == "ConfigMap"
                    && object["metadata"]["name"] == name.as_str()
                    && object["metadata"]["namespace"].as_str() == generated.namespace.as_deref()
            };
            let found = objects.iter_mut().find(is_it).unwrap_or_else(|| panic!("no ConfigMap {name}"));
            found["data"].as_object_mut().unwrap().extend(data);
        }
        Some(other) => panic!("{name}: behavior {other} is not known here"),
    }
}

fn set_namespace(object: &mut Value, namespace: &str) {
    let is_for_all = ["Namespace", "StorageClass", "ClusterRole", "ClusterRoleBinding"]
        .iter()
        .any(|kind| object["kind"] == *kind);
    if !is_for_all {
        object["metadata"]["namespace"] = namespace.into();
    }
    // Kustomize does so for the service accounts that it knows.
    if object["kind"] == "RoleBinding" {
        for subject in object["subjects"].as_array_mut().unwrap() {
            subject["namespace"] = namespace.into();
        }
    }
}

/// A list of steps (RFC 6902), or an object of which what is there is laid over what was.
fn change(text: &str, target: Option<&Target>, objects: &mut [Value]) {
    let patch: Value = serde_saphyr::from_str(text).unwrap();
    let (kind, name) = match target {
        Some(target) => (target.kind.clone(), target.name.clone()),
        None => {
            let named = |field: &Value| field.as_str().unwrap().to_string();
            (named(&patch["kind"]), named(&patch["metadata"]["name"]))
        }
    };
    let found =
        objects.iter_mut().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let object = found.unwrap_or_else(|| panic!("nothing to patch: no {kind} {name}"));
    if patch.is_array() {
        let steps: Vec<Step> = serde_json::from_value(patch).unwrap();
        for step in steps {
            assert_eq!(step.op, "remove", "only remove is known here");
            let (parent, field) = step.path.rsplit_once('/').unwrap();
            let parent = object.pointer_mut(parent).and_then(Value::as_object_mut);
            let removed = parent.and_then(|parent| parent.remove(field));
            assert!(removed.is_some(), "{}: nothing to remove", step.path);
        }
        return;
    }
    *object = match kind.as_str() {
        "Deployment" => merge::<Deployment>(object, patch),
        "StatefulSet" => merge::<StatefulSet>(object, patch),
        other => panic!("how a {other} is merged is not known here"),
    };
}

fn merge<T: DeepMerge + serde::de::DeserializeOwned + serde::Serialize>(under: &Value, over: Value) -> Value {
    let mut merged: T = serde_json::from_value(under.clone()).unwrap();
    merged.merge_from(serde_json::from_value(over).unwrap());
    serde_json::to_value(merged).unwrap()
}
