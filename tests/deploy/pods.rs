//! What holds for every object and every pod, in every install.

use crate::objects::{find, names, templates, unknown_fields};
use crate::render::{deploy, documents, installs, render, render_with};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const COMPONENTS: [&str; 3] = ["bootstrap-job", "password", "pod-monitor"];

/// Every install, and the whole one with all components.
fn all() -> Vec<(String, Vec<Value>)> {
    let mut all: Vec<_> = installs().into_iter().map(|name| (name.clone(), render(&name))).collect();
    all.push(("all components".into(), render_with(".", &COMPONENTS)));
    all
}

#[test]
fn kubernetes_knows_every_field_of_every_object() {
    for (install, objects) in all() {
        let unknown: Vec<String> = objects.iter().flat_map(unknown_fields).collect();
        assert!(unknown.is_empty(), "{install}: {unknown:?}");
    }
}

#[test]
fn no_object_is_made_twice() {
    for (install, objects) in all() {
        let names = names(&objects);
        let once: BTreeSet<&String> = names.iter().collect();
        assert_eq!(once.len(), names.len(), "{install}: {names:?}");
    }
}

#[test]
fn every_file_is_used_and_every_component_is_tried() {
    let components: BTreeSet<String> = fs::read_dir(deploy().join("components"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(components, COMPONENTS.map(String::from).into());
    for folder in folders(&deploy()) {
        let Ok(kustomization) = fs::read_to_string(folder.join("kustomization.yaml")) else { continue };
        for entry in fs::read_dir(&folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_file =
                name != "kustomization.yaml" && folder.join(&name).is_file() && name != "Dockerfile";
            assert!(
                !is_file
                    || kustomization.contains(&format!("- {name}\n"))
                    || kustomization.contains(&format!("path: {name}\n")),
                "{} is named by no kustomization",
                folder.join(name).display()
            );
        }
    }
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_path_buf()];
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(folders(&path));
        }
    }
    found
}

/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>, level "restricted".
#[test]
fn every_pod_of_the_namespace_is_a_restricted_one() {
    for (install, objects) in all() {
        for (name, template) in templates(&objects).into_iter().filter(|(name, _)| name != "nfs-provisioner")
        {
            let spec = template.spec.unwrap();
            let wrong = not_restricted(&spec);
            assert!(wrong.is_empty(), "{install}: {name}: {wrong:?}");
        }
    }
}

fn not_restricted(spec: &PodSpec) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |is_right: bool, what: &str| {
        if !is_right {
            wrong.push(what.to_string());
        }
    };
    let pod = spec.security_context.as_ref();
    must(pod.is_some_and(|pod| pod.run_as_non_root == Some(true)), "runAsNonRoot");
    must(pod.is_some_and(|pod| pod.run_as_user.is_some_and(|user| user > 0)), "runAsUser");
    let seccomp = pod.and_then(|pod| pod.seccomp_profile.as_ref());
    must(seccomp.is_some_and(|profile| profile.type_ == "RuntimeDefault"), "seccompProfile");
    must(![spec.host_network, spec.host_pid, spec.host_ipc].contains(&Some(true)), "host namespaces");
    must(spec.volumes.iter().flatten().all(|volume| volume.host_path.is_none()), "hostPath");
    for container in containers(spec) {
        let context = container.security_context.as_ref();
        must(context.is_some_and(|context| context.allow_privilege_escalation == Some(false)), "escalation");
        must(
            context.is_some_and(|context| context.read_only_root_filesystem == Some(true)),
            "root file system",
        );
        let dropped = context.and_then(|context| context.capabilities.as_ref()?.drop.clone());
        must(dropped == Some(vec!["ALL".into()]), "capabilities");
    }
    wrong
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}

#[test]
fn every_container_says_what_it_needs_and_takes_images_that_are_there() {
    for (install, objects) in all() {
        for (name, template) in templates(&objects).into_iter().filter(|(name, _)| name != "nfs-provisioner")
        {
            for container in containers(&template.spec.unwrap()) {
                let place = format!("{install}: {name}: {}", container.name);
                let resources = container.resources.as_ref().expect(&place);
                let has = |list: &Option<std::collections::BTreeMap<_, _>>, what: &str| {
                    list.as_ref().is_some_and(|list| list.contains_key(what))
                };
                assert!(has(&resources.requests, "cpu") && has(&resources.requests, "memory"), "{place}");
                assert!(has(&resources.limits, "memory"), "{place}");
                let image = container.image.as_ref().expect(&place);
                let tag = image.rsplit_once(':').expect(&place).1;
                assert!(
                    tag != "latest" && container.image_pull_policy.as_deref() == Some("IfNotPresent"),
                    "{place}"
                );
            }
        }
    }
}

#[test]
fn every_mount_has_its_volume_and_every_volume_its_config_map() {
    for (install, objects) in all() {
        for (name, template) in templates(&objects) {
            let spec = template.spec.unwrap();
            let claims = find(&objects, "StatefulSet", &name)
                .map(|set| set["spec"]["volumeClaimTemplates"].as_array().unwrap().clone())
                .unwrap_or_default();
            let claims = claims.iter().map(|claim| claim["metadata"]["name"].as_str().unwrap().to_string());
            let volumes: BTreeSet<String> =
                spec.volumes.iter().flatten().map(|volume| volume.name.clone()).chain(claims).collect();
            for mount in containers(&spec).flat_map(|container| container.volume_mounts.iter().flatten()) {
                assert!(volumes.contains(&mount.name), "{install}: {name}: {}", mount.name);
            }
            for map in spec.volumes.iter().flatten().filter_map(|volume| volume.config_map.as_ref()) {
                assert!(find(&objects, "ConfigMap", &map.name).is_some(), "{install}: {name}: {}", map.name);
            }
        }
    }
}

#[test]
fn the_namespace_admits_restricted_pods_only_and_comes_with_whole_installs() {
    for (install, objects) in all() {
        let namespace = find(&objects, "Namespace", "tool-env");
        // Who has one already keeps it as it is.
        assert_eq!(namespace.is_none(), install == "overlays/gateway-only", "{install}");
        if let Some(namespace) = namespace {
            let level = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
            assert_eq!(level, "restricted", "{install}");
        }
        for object in objects.iter().filter(|object| !object["metadata"]["namespace"].is_null()) {
            let namespace = object["metadata"]["namespace"].as_str().unwrap();
            assert!(["tool-env", "nfs-provisioner"].contains(&namespace), "{install}: {object}");
        }
    }
}

#[test]
fn a_default_storage_class_is_used_by_naming_none() {
    let class = |install: &str| {
        let set = render(install).into_iter().find(|object| object["kind"] == "StatefulSet").unwrap();
        set["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"].as_str().map(String::from)
    };
    assert_eq!(class("."), Some("managed-nfs-storage".into()));
    assert_eq!(class("overlays/nfs"), Some("managed-nfs-storage".into()));
    assert_eq!(class("overlays/local"), None);
    let provisioner = documents(&deploy().join("overlays/nfs/provisioner.yaml"));
    assert!(find(&provisioner, "StorageClass", "managed-nfs-storage").is_some());
}
