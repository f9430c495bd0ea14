//! The nodes: the tutorial's names, settings that a server accepts, and probes that tell the truth.

use crate::objects::{find, get};
use crate::render::{render, render_with};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

fn set(install: &str) -> StatefulSet {
    get(&render(install), "StatefulSet", "redis")
}

fn container(set: &StatefulSet) -> Container {
    set.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].clone()
}

/// The tutorial's labels.
fn nodes() -> LabelSelector {
    let labels = [("app", "redis"), ("appCluster", "redis-cluster")];
    LabelSelector {
        match_labels: Some(labels.map(|(name, value)| (name.to_string(), value.to_string())).into()),
        ..LabelSelector::default()
    }
}

#[test]
fn the_statefulset_is_the_tutorials() {
    let set = set(".");
    let spec = set.spec.clone().unwrap();
    assert_eq!((spec.replicas, spec.service_name.as_deref()), (Some(6), Some("redis-svc")));
    assert_eq!(spec.pod_management_policy.as_deref(), Some("Parallel"));
    assert_eq!(spec.selector, nodes());
    assert_eq!(spec.template.metadata.unwrap().labels, nodes().match_labels);
    let claim = &spec.volume_claim_templates.unwrap()[0];
    assert_eq!(claim.metadata.name.as_deref(), Some("redis-data"));
    let wanted = claim.spec.clone().unwrap().resources.unwrap().requests.unwrap();
    assert_eq!(wanted["storage"].0, "200M");
    let ports: Vec<i32> = container(&set).ports.unwrap().iter().map(|port| port.container_port).collect();
    assert_eq!(ports, [6379, 16379]);
}

#[test]
fn pods_that_have_not_joined_yet_are_found_by_name() {
    let service: Service = get(&render("."), "Service", "redis-svc");
    let spec = service.spec.unwrap();
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    assert_eq!(spec.publish_not_ready_addresses, Some(true));
    assert_eq!(spec.selector, nodes().match_labels);
}

#[test]
fn one_node_at_a_time_may_be_evicted_and_a_broken_one_always() {
    let budget: PodDisruptionBudget = get(&render("."), "PodDisruptionBudget", "redis");
    let spec = budget.spec.unwrap();
    assert_eq!(spec.selector, Some(nodes()));
    assert_eq!(spec.unhealthy_pod_eviction_policy.as_deref(), Some("AlwaysAllow"));
}

#[test]
fn nodes_speak_on_the_bus_with_nodes_only() {
    let policy: NetworkPolicy = get(&render("."), "NetworkPolicy", "redis");
    let spec = policy.spec.unwrap();
    assert_eq!(spec.pod_selector, Some(nodes()));
    let rules = spec.ingress.unwrap();
    let from = |port: i32| {
        let rule = rules.iter().find(|rule| {
            let ports = rule.ports.as_ref().unwrap();
            ports[0].port == Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(port))
        });
        rule.unwrap().from.as_ref().unwrap()[0].pod_selector.clone().unwrap()
    };
    assert_eq!(from(16379), nodes());
    let clients = from(6379).match_expressions.unwrap()[0].values.clone().unwrap();
    assert_eq!(clients, ["redis", "slotgate", "slotgate-tool"]);
    let job = render_with(".", &["bootstrap-job"]);
    let labels = &find(&job, "Job", "slotgate-bootstrap").unwrap()["spec"]["template"]["metadata"]["labels"];
    assert!(clients.iter().any(|name| labels["app"] == name.as_str()));
}

#[test]
fn a_leaving_node_has_time_to_hand_over_and_to_end() {
    let set = set(".");
    let sleep = container(&set).lifecycle.unwrap().pre_stop.unwrap().sleep.unwrap().seconds;
    let grace = set.spec.unwrap().template.spec.unwrap().termination_grace_period_seconds.unwrap();
    // A planned failover tries twice, 5 s each at most, and nearly always needs a fraction of the first.
    assert!(sleep > 5);
    // Redis' own shutdown-timeout is 10 s.
    assert!(grace >= sleep + 10 + 15, "{grace} s");
}

#[test]
fn the_password_is_in_no_argument_and_the_arguments_are_otherwise_the_same() {
    let plain = container(&set(".")).args.unwrap();
    let with = container(&get(&render_with(".", &["password"]), "StatefulSet", "redis")).args.unwrap();
    let without: Vec<String> = with
        .iter()
        .filter(|arg| !["--include", "/run/redis/password.conf"].contains(&arg.as_str()))
        .cloned()
        .collect();
    assert_eq!(without, plain);
}

#[test]
fn valkey_differs_in_its_programs_only() {
    let (redis, valkey) = (container(&set(".")), container(&set("overlays/valkey")));
    assert_eq!(valkey.command, Some(vec!["valkey-server".into()]));
    let cli = |container: &Container| {
        container.env.iter().flatten().find(|env| env.name == "CLI").unwrap().value.clone().unwrap()
    };
    assert_eq!((cli(&redis).as_str(), cli(&valkey).as_str()), ("redis-cli", "valkey-cli"));
    let same = Container {
        command: redis.command.clone(),
        image: redis.image.clone(),
        env: redis.env.clone(),
        ..valkey
    };
    assert_eq!(same, redis);
}

/// A real server reads the ConfigMap as the pod would.
#[test]
fn a_server_accepts_the_settings() {
    for (install, timeout) in [(".", "5000"), ("overlays/nfs", "15000")] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let map: ConfigMap = get(&render(install), "ConfigMap", "redis-conf");
        for (name, text) in map.data.unwrap() {
            let text = text.replace("/etc/redis", root).replace("/var/lib/redis", root);
            fs::write(folder.path().join(name), text).unwrap();
        }
        let said = settings_of_a_server(folder.path());
        for expected in [
            format!("cluster-node-timeout {timeout}"),
            "cluster-enabled yes".into(),
            "cluster-allow-replica-migration no".into(),
            "cluster-require-full-coverage no".into(),
            "appendonly yes".into(),
            "save ".into(),
            "maxmemory-policy noeviction".into(),
        ] {
            assert!(said.contains(&expected), "{install}: {expected}: {said:?}");
        }
    }
}

/// `name value` for each setting.
fn settings_of_a_server(folder: &Path) -> Vec<String> {
    // The bus takes the port 10000 above.
    let port = (20_000..50_000).find(|port| {
        [*port, port + 10_000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
    });
    let port = port.unwrap().to_string();
    let mut server = Command::new("redis-server")
        .arg(folder.join("redis.conf"))
        .args(["--port", &port, "--bind", "127.0.0.1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server is missing: .ci/setup redis");
    let mut log = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut seen = Vec::new();
    let is_up = log
        .by_ref()
        .inspect(|line| seen.push(line.clone()))
        .any(|line| line.contains("Ready to accept connections"));
    let said = Command::new("redis-cli").args(["-p", &port, "config", "get", "*"]).output();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(is_up, "{seen:#?}");
    let text = String::from_utf8(said.unwrap().stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    lines.chunks(2).map(|pair| pair.join(" ")).collect()
}

/// What the readiness probe says when a node says this.
fn readiness(said: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let (cli, answers) = (folder.path().join("cli"), folder.path().join("answers"));
    fs::write(&answers, said.replace('\n', "\r\n")).unwrap();
    fs::write(&cli, format!("cat >/dev/null; cat {}\n", answers.display())).unwrap();
    let probe = container(&set(".")).readiness_probe.unwrap().exec.unwrap().command.unwrap();
    let run = Command::new(&probe[0])
        .args(&probe[1..])
        .env("CLI", format!("sh {}", cli.display()))
        .output()
        .unwrap();
    (run.status.success(), String::from_utf8(run.stdout).unwrap().trim().to_string())
}

#[test]
fn a_node_is_ready_when_it_has_joined_and_follows_its_primary() {
    let joined = "cluster_state:ok\ncluster_slots_assigned:16384\n";
    let primary = format!("{joined}# Replication\nrole:master\naof_last_write_status:ok\n");
    let replica = |link| {
        format!("{joined}# Replication\nrole:slave\nmaster_link_status:{link}\naof_last_write_status:ok\n")
    };
    assert_eq!(readiness(&primary), (true, String::new()));
    assert_eq!(readiness(&replica("up")), (true, String::new()));
    for (said, why) in [
        (replica("down"), "not linked to its primary"),
        (primary.replace("assigned:16384", "assigned:0"), "not in a cluster yet"),
        (
            primary.replace("status:ok", "status:err"),
            "cannot write its append-only file: is the volume full?",
        ),
        (
            "LOADING Redis is loading the dataset in memory\n".into(),
            "LOADING Redis is loading the dataset in memory",
        ),
        (String::new(), ""),
    ] {
        assert_eq!(readiness(&said), (false, why.into()), "{said}");
    }
}
