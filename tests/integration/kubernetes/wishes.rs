//! What an operator wishes of a StatefulSet is carried out by whoever leads, while clients go on.

use super::rights::{expect_granted, expect_no_right_too_many};
use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::support::fake_kube::{FakeKube, NAMESPACE};
use crate::support::gateway::Gateway;
use crate::support::kubelet::{Kubelet, addrs};
use crate::support::program::{bootstrap, expect, slotgate};
use crate::support::shard_load::{Load, Tally, run_ordered_client};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// So long a whole wish may take on a busy machine.
const LONG: Duration = Duration::from_secs(400);

struct Stage {
    kube: Arc<FakeKube>,
    kubelet: Kubelet,
    config: PathBuf,
}

impl Stage {
    /// Three shards with a replica each, in pods.
    fn start(most: usize) -> Stage {
        let kube = Arc::new(FakeKube::start());
        let kubelet = Kubelet::start(&kube, 6, most);
        let formed = bootstrap(&addrs(&kube, kubelet.port), &["--replicas", "1", "--yes"]).output().unwrap();
        expect(&formed, 0, "");
        let config = kube.kubeconfig();
        Stage { kube, kubelet, config }
    }

    fn gateway(&self, more: &[&str]) -> Gateway {
        let port = self.kubelet.port.to_string();
        let place =
            ["--kubernetes", "--namespace", NAMESPACE, "--statefulset", "redis", "--port-in-pods", &port];
        let args = [&place[..], more].concat();
        let seeds = addrs(&self.kube, self.kubelet.port);
        Gateway::start_in(&seeds, &args, &[("KUBECONFIG", &self.config)]).when_ready()
    }

    fn run(&self, args: &[&str]) -> Output {
        slotgate(args).args(["--namespace", NAMESPACE]).env("KUBECONFIG", &self.config).output().unwrap()
    }

    fn set(&self) -> serde_json::Value {
        self.kube.get("statefulsets", "redis").unwrap()
    }

    /// Whether the node in this pod, if there is one, owns slots by its own word.
    fn has_slots(&self, ordinal: usize) -> bool {
        let pod = self.kube.get("pods", &format!("redis-{ordinal}"));
        let ip = pod.and_then(|pod| pod["status"]["podIP"].as_str()?.parse::<IpAddr>().ok());
        let node = ip.and_then(|ip| Client::try_connect((ip, self.kubelet.port).into()));
        node.is_some_and(|mut node| {
            let nodes = node.call_text(&["CLUSTER", "NODES"]);
            let own = nodes.lines().find(|line| line.contains("myself"));
            own.is_some_and(|own| own.split(' ').nth(8).is_some())
        })
    }

    fn expect_in_order(&self) {
        let seed = addrs(&self.kube, self.kubelet.port)[0].to_string();
        let mut last = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let output = slotgate(&["check", &seed]).output().unwrap();
            if output.status.success() {
                return;
            }
            last = Some(output);
            thread::sleep(Duration::from_millis(200));
        }
        expect(&last.unwrap(), 0, "");
    }
}

/// Lets clients of this gateway work while `deed` is done; none is refused anything.
fn under_load(gateway: &Gateway, deed: impl FnOnce(&Load)) {
    let load = Load::default();
    thread::scope(|scope| {
        let _guard = load.guard();
        let clients: Vec<_> = (0..3)
            .map(|ix| {
                let (load, name) = (&load, format!("client-{ix}"));
                scope.spawn(move || run_ordered_client(gateway, &name, 1 + ix, load))
            })
            .collect();
        load.wait_for_progress(500);
        deed(&load);
        load.wait_for_progress(500);
        load.is_over.store(true, Ordering::Relaxed);
        for client in clients {
            let tally: Tally = client.join().unwrap();
            assert_eq!((tally.unknown, tally.not_run, tally.fallen_back), (0, 0, 0), "{tally:?}");
        }
    });
}

#[test]
fn a_restart_refuses_nobody_and_goes_on_under_another_leader() {
    let stage = Stage::start(6);
    let serving = stage.gateway(&[]);
    let mut leading = Some(stage.gateway(&["--manage"]));
    let before = stage.set();
    under_load(&serving, |load| {
        expect(&stage.run(&["restart", "--yes"]), 0, "Asked for");
        let deadline = Instant::now() + LONG;
        while stage.kubelet.lives().len() < 8 {
            assert!(Instant::now() < deadline, "{:?}", stage.kubelet.lives());
            assert!(!load.is_over.load(Ordering::Relaxed), "a client has failed");
            thread::sleep(Duration::from_millis(50));
        }
        // The one that began it ends in the middle; the next one knows only what is there.
        drop(leading.take());
        leading = Some(stage.gateway(&["--manage"]));
        expect(&stage.run(&["restart", "--yes", "--wait", "--timeout", "400s"]), 0, "Go on with");
    });
    let mut lives = stage.kubelet.lives().split_off(6);
    assert_eq!(lives[..3], ["redis-5", "redis-4", "redis-3"], "replicas first");
    lives.sort();
    assert_eq!(lives, (0..6).map(|n| format!("redis-{n}")).collect::<Vec<_>>(), "each once");
    assert_eq!(stage.set()["spec"]["updateStrategy"], before["spec"]["updateStrategy"]);
    stage.expect_in_order();
    drop(leading);
    expect_granted(&stage.kube);
    expect_no_right_too_many(&stage.kube);
}

#[test]
fn a_shard_more_and_a_shard_less_refuse_nobody_and_lose_no_key() {
    let stage = Stage::start(8);
    let serving = stage.gateway(&[]);
    let mut leading = Some(stage.gateway(&["--manage"]));
    let mut client = serving.client();
    for ix in 0..2000 {
        client.expect(&format!("SET key:{ix} {ix}"), "+OK\r\n");
    }
    let scale = |shards: &str, more: &[&str]| {
        let wish = ["scale", "--shards", shards, "--replicas", "1", "--yes"];
        stage.run(&[&wish, more].concat())
    };
    let follow = ["--wait", "--timeout", "400s"];
    under_load(&serving, |load| {
        expect(&scale("4", &[]), 0, "Asked for");
        let deadline = Instant::now() + LONG;
        while !stage.has_slots(6) && !stage.has_slots(7) {
            assert!(Instant::now() < deadline, "no slot moved to a new primary");
            assert!(!load.is_over.load(Ordering::Relaxed), "a client has failed");
            thread::sleep(Duration::from_millis(20));
        }
        // The one that moves slots ends in the middle; the next one knows only what is there.
        drop(leading.take());
        leading = Some(stage.gateway(&["--manage"]));
        expect(&scale("4", &follow), 0, "Done");
        assert_eq!(stage.set()["spec"]["replicas"], 8);
        stage.expect_in_order();
        expect(&scale("3", &follow), 0, "Done");
        assert_eq!(stage.set()["spec"]["replicas"], 6);
        stage.expect_in_order();
    });
    drop(leading);
    expect_granted(&stage.kube);
    for ix in 0..2000 {
        let value = ix.to_string();
        client.expect(&format!("GET key:{ix}"), &format!("${}\r\n{value}\r\n", value.len()));
    }
}

#[test]
fn what_is_not_safe_is_refused() {
    let kube = Arc::new(FakeKube::start());
    kube.put("statefulsets", crate::support::fake_kube::objects::stateful_set("redis", 6));
    let config = kube.kubeconfig();
    let run = |args: &[&str]| slotgate(args).env("KUBECONFIG", &config).output().unwrap();
    expect(&run(&["scale", "--shards", "2", "--replicas", "1", "--yes"]), 3, "no majority");
    expect(&run(&["scale", "--shards", "3", "--replicas", "0", "--yes"]), 3, "without replicas");
    expect(&run(&["scale", "--shards", "4", "--yes"]), 2, "say both");
    expect(&run(&["restart", "--yes"]), 3, "there are 0 pods");
    expect(&run(&["scale", "--shards", "4", "--replicas", "1", "--dry-run"]), 0, "From 6 pods to 8");
    expect(&run(&["scale", "--shards", "4", "--replicas", "1"]), 1, "the answer was not 'yes'");
    assert!(kube.calls().iter().all(|call| call.verb != "patch"), "nothing was changed");
    kube.forbid("patch", "statefulsets");
    let output = run(&["scale", "--shards", "4", "--replicas", "1", "--yes"]);
    expect(&output, 1, "patch statefulsets");
    kube.remove("statefulsets", "redis");
    expect(&run(&["scale", "--shards", "4", "--replicas", "1", "--yes"]), 1, "statefulsets");
}
