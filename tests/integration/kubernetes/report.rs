//! What a gateway that manages real nodes tells of them through the API server: Events, the status, and
//! `slotgate status --kubernetes`.

use crate::support::fake_kube::objects::{pod, stateful_set};
use crate::support::fake_kube::{FakeKube, NAMESPACE};
use crate::support::gateway::Gateway;
use crate::support::program::{expect, slotgate};
use crate::support::real_cluster::RealCluster;
use crate::support::wait_until;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Output;

const NODES: usize = 6;

struct World {
    cluster: RealCluster,
    kube: FakeKube,
    gateway: Gateway,
}

/// A formed cluster in pods: an address of its own for each node, and one port for all.
fn start_nodes(net: u8) -> RealCluster {
    let mut cluster = RealCluster::start_like_pods(NODES, net);
    move_all(&mut cluster, net);
    cluster.form(1);
    cluster
}

/// Ends all nodes and starts them in another net.
fn move_all(cluster: &mut RealCluster, net: u8) {
    let port = cluster.addrs()[0].port();
    let addr = |ix: usize| SocketAddr::from(([127, 0, net, 1 + ix as u8], port));
    cluster.move_to(&(0..NODES).map(|ix| (ix, addr(ix))).collect::<Vec<_>>());
}

/// Six nodes that a gateway knows by their pods, and keeps whole.
fn start(net: u8) -> World {
    let cluster = start_nodes(net);
    let kube = FakeKube::start();
    kube.put("statefulsets", stateful_set("redis", NODES));
    for (ordinal, addr) in cluster.addrs().iter().enumerate() {
        kube.put("pods", pod("redis", ordinal, 0, addr.ip()));
    }
    let gateway = manage(&cluster, &kube);
    World { cluster, kube, gateway }
}

fn manage(cluster: &RealCluster, kube: &FakeKube) -> Gateway {
    let addrs = cluster.addrs();
    let port = addrs[0].port().to_string();
    let args = ["--manage", "--kubernetes", "--port-in-pods", &port];
    Gateway::start_in(&addrs[..1], &args, &[("KUBECONFIG", &kube.kubeconfig())])
}

impl World {
    /// One key of the status; empty before it is there.
    fn told(&self, key: &str) -> String {
        let map = self.kube.get("configmaps", "slotgate-status").unwrap_or_default();
        map["data"][key].as_str().unwrap_or_default().to_string()
    }

    #[track_caller]
    fn expect_told(&self, key: &str, words: &str) {
        let mut last = String::new();
        wait_until(&format!("the status' {key} says {words:?}"), || {
            let now = self.told(key);
            if now != last {
                eprintln!("{key}: {now}");
                last = now;
            }
            last.contains(words)
        });
    }

    fn events(&self, reason: &str) -> Vec<Value> {
        self.kube.list("events").into_iter().filter(|event| event["reason"] == reason).collect()
    }

    #[track_caller]
    fn expect_event(&self, reason: &str) -> Value {
        wait_until(&format!("an Event {reason}"), || !self.events(reason).is_empty());
        self.events(reason).remove(0)
    }
}

fn status(kube: &FakeKube, args: &[&str]) -> Output {
    let mut command = slotgate(&["status", "--kubernetes"]);
    command.args(args).env("KUBECONFIG", kube.kubeconfig()).output().unwrap()
}

#[test]
fn the_status_and_events_say_how_the_cluster_is_and_what_is_wrong_with_its_pods() {
    let world = start(91);
    world.expect_told("summary", "Healthy: 3 shards, 6 nodes");
    let (nodes, first) = (world.told("nodes"), world.cluster.addrs()[0].to_string());
    let pods: BTreeSet<&str> = nodes.split_whitespace().filter(|word| word.starts_with("redis-")).collect();
    assert!(pods.len() == NODES && nodes.contains(&first), "{nodes}");
    let output = status(&world.kube, &[]);
    expect(&output, 0, "Healthy: 3 shards, 6 nodes");
    expect(&output, 0, "Written ");
    let json = status(&world.kube, &["--output", "json", "--namespace", NAMESPACE]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["healthy"], &json["phase"]), (&json!(true), &json!("healthy")));
    assert!(json["age_seconds"].is_u64(), "{json}");

    let event = world.expect_event("ClusterHealthy");
    let about = &event["involvedObject"];
    assert_eq!((&about["kind"], &about["uid"]), (&json!("StatefulSet"), &json!("uid-of-redis")));
    assert_eq!(event["type"], "Normal");
    wait_until("the journal names all nodes", || {
        let map = world.kube.get("configmaps", "slotgate-journal-redis").unwrap_or_default();
        let journal = map["data"]["journal.json"].as_str().unwrap_or("{}");
        let journal: Value = serde_json::from_str(journal).unwrap();
        journal["members"].as_array().is_some_and(|members| members.len() == NODES)
    });

    let waiting =
        json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" }, "running": null });
    let container = json!([{
        "name": "redis", "image": "", "imageID": "", "ready": false, "restartCount": 3, "state": waiting,
    }]);
    world.kube.patch("pods", "redis-4", &json!({ "status": { "containerStatuses": container } }));
    world.kube.patch(
        "statefulsets",
        "redis",
        &json!({ "metadata": { "annotations": { "slotgate.dev/shards": "four" } } }),
    );
    let event = world.expect_event("PodCrashes");
    let note = event["message"].as_str().unwrap();
    assert!(note.contains("kubectl logs redis-4 --all-containers --previous"), "{note}");
    assert_eq!(event["type"], "Warning");
    assert!(world.expect_event("Annotation")["message"].as_str().unwrap().contains("slotgate.dev/shards"));
    world.expect_told("problems", "the pod redis-4 does not run: CrashLoopBackOff");
    expect(&status(&world.kube, &[]), 1, "the pod redis-4 does not run");
}

#[test]
fn a_repair_is_a_few_events_and_a_pause_is_told() {
    let mut world = start(92);
    world.expect_told("summary", "Healthy");
    // The pods come back elsewhere, all of them.
    move_all(&mut world.cluster, 93);
    for (ordinal, addr) in world.cluster.addrs().iter().enumerate() {
        world.kube.put("pods", pod("redis", ordinal, 1, addr.ip()));
    }
    let acted = |world: &World| {
        let events = world.kube.list("events");
        events.into_iter().filter(|event| event["action"] == "Act").collect::<Vec<Value>>()
    };
    wait_until("the repair is told", || !acted(&world).is_empty());
    world.expect_told("nodes", "127.0.93.6");
    world.expect_told("summary", "Healthy");
    let (_, report) = world.gateway.admin_get("/api/status");
    let report: Value = serde_json::from_str(&report).unwrap();
    let (steps, events) = (report["actions"].as_array().unwrap().len(), acted(&world).len());
    assert!(events < steps, "{events} Events for {steps} steps");

    let paused = json!({ "metadata": { "annotations": { "slotgate.dev/paused": "true" } } });
    world.kube.patch("statefulsets", "redis", &paused);
    world.expect_event("ClusterPaused");
    world.expect_told("summary", "slotgate is paused and changes nothing");
}

#[test]
fn without_rights_or_an_api_server_the_gateway_serves_and_says_what_is_missing() {
    let cluster = start_nodes(94);
    let kube = FakeKube::start();
    kube.put("statefulsets", stateful_set("redis", NODES));
    for (ordinal, addr) in cluster.addrs().iter().enumerate() {
        kube.put("pods", pod("redis", ordinal, 0, addr.ip()));
    }
    kube.forbid("create", "events");
    kube.forbid("get", "configmaps");
    let world = World { gateway: manage(&cluster, &kube), cluster, kube };
    let findings = || {
        let (_, report) = world.gateway.admin_get("/api/status");
        let report: Value = serde_json::from_str(&report).unwrap();
        report["findings"].to_string()
    };
    wait_until("the missing rights are named", || {
        let findings = findings();
        findings.contains("create events") && findings.contains("get configmaps")
    });
    expect(&status(&world.kube, &[]), 1, "get configmaps");
    let mut client = world.gateway.client();
    assert_eq!(client.call_text(&["SET", "key", "value"]), "+OK\r\n");
    assert!(world.gateway.log().contains("create events"));

    world.kube.allow("create", "events");
    world.kube.allow("get", "configmaps");
    world.expect_told("summary", "Healthy");
    world.expect_event("ClusterHealthy");
    world.kube.go_down();
    expect(&status(&world.kube, &[]), 1, "the API server cannot be reached");
    wait_until("it is told that the API server is away", || findings().contains("cannot be reached"));
    assert_eq!(client.call_text(&["GET", "key"]), "$5\r\nvalue\r\n");
    world.kube.come_back();
    wait_until("all is well again", || findings() == "[]");
    assert_eq!(world.cluster.addrs().len(), NODES);
}

#[test]
fn status_says_what_is_not_there_and_what_to_do() {
    let kube = FakeKube::start();
    expect(&status(&kube, &["--namespace", "nowhere"]), 1, "there is no namespace nowhere");
    // A Role of one namespace gives no right to look for namespaces.
    kube.forbid("get", "namespaces");
    expect(&status(&kube, &[]), 1, "there is no StatefulSet redis in namespace tool-env; it has none");
    kube.put("statefulsets", stateful_set("cache", 3));
    expect(&status(&kube, &[]), 1, "it has cache: name it with --statefulset");
    expect(
        &status(&kube, &["--statefulset", "cache"]),
        1,
        "slotgate serve --kubernetes --manage --statefulset cache",
    );

    let data = json!({ "summary": "Healthy: x", "updated": "2020-01-01T00:00:00Z", "status.json": "{\"healthy\":true}" });
    let map = json!({ "metadata": { "name": "slotgate-status-cache" }, "data": data });
    kube.put("configmaps", map);
    expect(&status(&kube, &["--statefulset", "cache"]), 1, "Nobody has written since");
    kube.forbid("get", "statefulsets");
    expect(&status(&kube, &[]), 1, "get statefulsets");
    expect(&slotgate(&["status"]).output().unwrap(), 2, "HOST:PORT");
    expect(&slotgate(&["status", "--namespace", "x", "a:1"]).output().unwrap(), 2, "--kubernetes");
}
