//! The gateways: who reaches them, what they may do, and how long they have to end.

use crate::objects::{find, get, names, templates};
use crate::render::{installs, render, render_with};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec, Service};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use slotgate::config::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

type Labels = BTreeMap<String, String>;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn labels_of(template: &PodTemplateSpec) -> Labels {
    template.metadata.as_ref().unwrap().labels.clone().unwrap()
}

fn is_selected(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

fn gateway(install: &str) -> (Deployment, Container) {
    let deployment: Deployment = get(&render(install), "Deployment", "slotgate");
    let template = deployment.spec.clone().unwrap().template;
    (deployment, template.spec.unwrap().containers.remove(0))
}

#[test]
fn apps_reach_the_gateways_and_never_a_node() {
    for install in installs() {
        let objects = render(&install);
        let service: Service = get(&objects, "Service", "redis-client");
        let selector = service.spec.unwrap().selector.unwrap();
        for (name, template) in templates(&objects) {
            assert_eq!(
                is_selected(&selector, &labels_of(&template)),
                name == "slotgate",
                "{install}: {name}"
            );
        }
    }
    let job = render_with(".", &["bootstrap-job"]);
    let service: Service = get(&job, "Service", "redis-client");
    let (_, template) = templates(&job).into_iter().find(|(name, _)| name == "slotgate-bootstrap").unwrap();
    assert!(!is_selected(&service.spec.unwrap().selector.unwrap(), &labels_of(&template)));
}

#[test]
fn the_tutorials_service_leads_to_the_gateways_even_if_its_selector_is_only_added_to() {
    let service: Service = get(&render("overlays/gateway-only"), "Service", "redis-client");
    let mut selector = labels(&[("app", "redis"), ("appCluster", "redis-cluster")]);
    selector.extend(service.spec.unwrap().selector.unwrap());
    let (deployment, _) = gateway("overlays/gateway-only");
    assert!(is_selected(&selector, &labels_of(&deployment.spec.unwrap().template)));
}

#[test]
fn the_node_port_is_the_tutorials_and_leads_to_where_slotgate_listens() {
    let service: Service = get(&render("."), "Service", "redis-client");
    let spec = service.spec.unwrap();
    assert_eq!(spec.type_.as_deref(), Some("NodePort"));
    let port = &spec.ports.unwrap()[0];
    let defaults = Settings::defaults();
    let (_, container) = gateway(".");
    let ports: Labels = container
        .ports
        .unwrap()
        .into_iter()
        .map(|port| (port.name.unwrap(), port.container_port.to_string()))
        .collect();
    let (listen, admin) = (defaults.listen.unwrap().0.port(), defaults.admin.unwrap().0.port());
    assert_eq!(ports, labels(&[("redis", &listen.to_string()), ("admin", &admin.to_string())]));
    assert_eq!((port.port, port.node_port), (6379, Some(30639)));
    assert_eq!(port.target_port, Some(IntOrString::Int(listen.into())));
}

#[test]
fn slotgate_knows_every_flag_and_variable_that_it_is_given() {
    let keys = Settings::keys();
    for objects in installs().iter().map(|name| render(name)).chain([render_with(".", &["password"])]) {
        let deployment: Deployment = get(&objects, "Deployment", "slotgate");
        let container = deployment.spec.unwrap().template.spec.unwrap().containers.remove(0);
        let args = container.args.unwrap();
        assert_eq!(args[0], "serve");
        for flag in args.iter().filter_map(|arg| arg.strip_prefix("--")) {
            assert!(keys.iter().any(|key| key == flag), "--{flag}");
        }
        for name in container.env.iter().flatten().filter_map(|env| env.name.strip_prefix("SLOTGATE_")) {
            assert!(keys.contains(&name.to_lowercase().replace('_', "-")), "SLOTGATE_{name}");
        }
    }
}

#[test]
fn probes_ask_the_admin_server_and_nobody_else() {
    for install in installs() {
        let (_, container) = gateway(&install);
        for (probe, path) in
            [(container.readiness_probe, "/readyz/any"), (container.liveness_probe, "/livez")]
        {
            let get = probe.unwrap().http_get.unwrap();
            assert_eq!((get.path.as_deref(), get.port), (Some(path), IntOrString::String("admin".into())));
        }
    }
}

#[test]
fn requests_under_way_have_their_time_before_the_pod_is_killed() {
    for install in installs() {
        let (deployment, container) = gateway(&install);
        let grace = deployment.spec.unwrap().template.spec.unwrap().termination_grace_period_seconds.unwrap();
        let sleep = container.lifecycle.unwrap().pre_stop.unwrap().sleep.unwrap().seconds;
        let drain = Settings::defaults().drain_timeout.unwrap().0;
        // Two seconds for its own end.
        let needed = Duration::from_secs(sleep.unsigned_abs()) + drain + Duration::from_secs(2);
        assert!(Duration::from_secs(grace.unsigned_abs()) > needed, "{install}: {grace} s for {needed:?}");
    }
}

/// Everything that it may do: `API group/resource[name]: verb`.
fn rights(objects: &[serde_json::Value]) -> BTreeSet<String> {
    let role: Role = get(objects, "Role", "slotgate");
    let mut rights = BTreeSet::new();
    for rule in role.rules.unwrap() {
        let names = rule.resource_names.unwrap_or_else(|| vec!["*".into()]);
        for resource in rule.resources.unwrap() {
            for name in &names {
                let group = &rule.api_groups.as_ref().unwrap()[0];
                rights.extend(rule.verbs.iter().map(|verb| format!("{group}/{resource}[{name}]: {verb}")));
            }
        }
    }
    rights
}

#[test]
fn slotgate_may_do_what_it_does_and_nothing_else() {
    let expected = [
        "/pods[*]: list watch delete",
        "apps/statefulsets[*]: get list watch patch",
        "coordination.k8s.io/leases[*]: create",
        "coordination.k8s.io/leases[slotgate-redis]: get update",
        "/events[*]: create",
        "/configmaps[*]: create",
        "/configmaps[slotgate-status]: get update",
        "/configmaps[slotgate-journal-redis]: get update",
    ];
    let expected: BTreeSet<String> = expected
        .iter()
        .flat_map(|line| {
            let (what, verbs) = line.split_once(": ").unwrap();
            verbs.split(' ').map(move |verb| format!("{what}: {verb}"))
        })
        .collect();
    for install in installs() {
        let objects = render(&install);
        assert_eq!(rights(&objects), expected, "{install}");
        let kinds: Vec<String> =
            names(&objects).into_iter().filter(|name| name.starts_with("ClusterRole")).collect();
        assert!(kinds.iter().all(|name| name.ends_with("nfs-provisioner")), "{install}: {kinds:?}");
    }
}

#[test]
fn the_rights_are_those_of_the_account_that_the_gateways_run_as() {
    for install in installs() {
        let objects = render(&install);
        let binding: RoleBinding = get(&objects, "RoleBinding", "slotgate");
        assert_eq!((binding.role_ref.kind.as_str(), binding.role_ref.name.as_str()), ("Role", "slotgate"));
        let subjects = binding.subjects.unwrap();
        let account = (subjects[0].kind.as_str(), subjects[0].name.as_str());
        assert_eq!(account, ("ServiceAccount", "slotgate"));
        assert_eq!(subjects[0].namespace.as_deref(), Some("tool-env"));
        let pod = gateway(&install).0.spec.unwrap().template.spec.unwrap();
        assert_eq!(pod.service_account_name.as_deref(), Some("slotgate"));
        assert_eq!(pod.automount_service_account_token, Some(true));
        assert!(find(&objects, "ServiceAccount", "slotgate").is_some());
    }
}

#[test]
fn a_cluster_that_runs_already_is_not_touched() {
    let expected = [
        "ServiceAccount slotgate",
        "Role slotgate",
        "RoleBinding slotgate",
        "Deployment slotgate",
        "Service redis-client",
        "PodDisruptionBudget slotgate",
    ];
    assert_eq!(names(&render("overlays/gateway-only")), expected);
}

#[test]
fn one_gateway_is_what_single_means_and_two_stay_apart_elsewhere() {
    for install in installs() {
        let spec = gateway(&install).0.spec.unwrap();
        assert_eq!(spec.replicas, Some(if install == "overlays/single" { 1 } else { 2 }), "{install}");
        let apart = spec.template.spec.unwrap().affinity.unwrap().pod_anti_affinity.unwrap();
        let terms = apart.preferred_during_scheduling_ignored_during_execution.unwrap();
        let keys: Vec<&str> = terms.iter().map(|term| term.pod_affinity_term.topology_key.as_str()).collect();
        assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
        let rolling = spec.strategy.unwrap().rolling_update.unwrap();
        assert_eq!(rolling.max_unavailable, Some(IntOrString::Int(0)), "{install}");
    }
}
