//! A manager that Kubernetes tells of pods, on real nodes: the first start, pods that leave, volumes that are
//! lost. What Kubernetes says is made up here.

use super::support::client::Client;
use super::support::program::{expect, run, state, states};
use super::support::real_cluster::RealCluster;
use super::support::wait_until;
use slotgate::backend::Credentials;
use slotgate::control::pods::{Pod, Pods, StatefulSet};
use slotgate::control::reconcile::{self, ManageStatus, Phase};
use slotgate::topology::SharedTopology;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// A pod of its own machine for each node.
fn pods_at(addrs: &[SocketAddr]) -> Pods {
    let pod = |(n, addr): (usize, &SocketAddr)| Pod {
        name: format!("redis-{n}"),
        uid: format!("uid-{n}"),
        ordinal: n as u32,
        addr: Some(*addr),
        host: Some(format!("m{n}")),
        is_ready: true,
        is_running: true,
        revision: Some("r1".into()),
        ..Pod::default()
    };
    let set = StatefulSet {
        name: "redis".into(),
        replicas: addrs.len() as u32,
        update_revision: Some("r1".into()),
        ..StatefulSet::default()
    };
    Pods { pods: addrs.iter().enumerate().map(pod).collect(), set: Some(set) }
}

/// A manager, and what it is told of pods. It ends, wherever it is, when it is dropped.
struct Manager {
    pods: watch::Sender<Arc<Pods>>,
    status: Arc<ManageStatus>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    fn start(pods: Pods, journal: Option<&Path>) -> Manager {
        let (pods, told) = watch::channel(Arc::new(pods));
        let (end, ended) = oneshot::channel::<()>();
        let status = Arc::new(ManageStatus::default());
        let config = reconcile::Config {
            seeds: Vec::new(),
            seed_file: None,
            pods: Some(told),
            kubernetes: None,
            pause_file: None,
            journal_file: journal.map(Path::to_path_buf),
            credentials: Credentials::default(),
            limit: Duration::from_secs(2),
        };
        let shown = status.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let cancelled = async { drop(ended.await) };
            runtime.block_on(reconcile::run(config, Arc::new(SharedTopology::default()), shown, cancelled));
        });
        Manager { pods, status, end: Some(end), thread: Some(thread) }
    }

    fn tell(&self, change: impl Fn(&mut Pods)) {
        self.pods.send_modify(|pods| change(Arc::make_mut(pods)));
    }

    fn wait_healthy(&self) {
        let is_healthy = || self.status.report().phase == Phase::Healthy;
        let mut report = self.status.report();
        let healthy = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("the manager finds nothing wrong", || {
                report = self.status.report();
                is_healthy()
            });
        }));
        assert!(healthy.is_ok(), "{report:#?}");
    }

    fn has_found(&self, kind: &str) -> bool {
        self.status.report().findings.iter().any(|finding| finding.kind == kind)
    }

    fn has_done(&self, reason: &str) -> bool {
        self.status.report().actions.iter().any(|done| done.reason == reason && done.result == "done")
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        drop(self.end.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

fn replication(addr: SocketAddr) -> String {
    Client::connect(addr).call_text(&["INFO", "replication"])
}

fn is_primary(addr: SocketAddr) -> bool {
    replication(addr).contains("role:master")
}

fn follows(addr: SocketAddr, primary: SocketAddr) -> bool {
    let text = replication(addr);
    let host = format!("master_host:{}\r\nmaster_port:{}\r\n", primary.ip(), primary.port());
    text.contains(&host) && text.contains("master_link_status:up")
}

fn expect_tutorial(addrs: &[SocketAddr]) {
    for n in 0..3 {
        assert!(is_primary(addrs[n]) && follows(addrs[n + 3], addrs[n]), "{:#?}", state(addrs[0]));
    }
    expect(&run(&["check", &addrs[0].to_string(), "--replicas", "1"]), 0, "Nothing is wrong");
}

/// Writes a key that this primary serves; gives it.
fn write_to(addr: SocketAddr) -> String {
    let mut node = Client::connect(addr);
    let key = (0..).map(|n| format!("key:{n}")).find(|key| node.call_text(&["SET", key, "1"]) == "+OK\r\n");
    assert_eq!(node.call_text(&["WAIT", "1", "10000"]), ":1\r\n");
    key.unwrap()
}

fn id_of(addr: SocketAddr) -> String {
    Client::connect(addr).call_text(&["CLUSTER", "MYID"]).lines().nth(1).unwrap().to_string()
}

#[test]
fn empty_pods_are_formed_as_in_the_tutorial_once_nobody_forbids_it() {
    let cluster = RealCluster::start_like_pods(6, 80);
    let addrs = cluster.addrs();
    let before = states(addrs);
    let mut pods = pods_at(addrs);
    pods.set.as_mut().unwrap().wishes.is_paused = true;
    let manager = Manager::start(pods, None);
    wait_until("it says what it would do", || {
        let report = manager.status.report();
        report.phase == Phase::Paused && report.plan.len() == 17
    });
    assert_eq!(states(addrs), before);
    manager.tell(|pods| pods.set.as_mut().unwrap().wishes.is_paused = false);
    wait_until("it says that it forms the cluster", || manager.status.report().phase == Phase::Forming);
    manager.wait_healthy();
    expect_tutorial(addrs);
}

#[test]
fn a_first_start_that_is_cut_short_is_finished_by_the_next_manager_and_never_done_twice() {
    let mut cluster = RealCluster::start_like_pods(6, 81);
    let addrs = cluster.addrs().to_vec();
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal.json");
    for steps in [1, 3, 2, 4, 2, 1] {
        let manager = Manager::start(pods_at(&addrs), Some(&journal));
        wait_until("it has done some steps", || {
            let report = manager.status.report();
            report.actions.len() >= steps || report.phase == Phase::Healthy
        });
    }
    let manager = Manager::start(pods_at(&addrs), Some(&journal));
    manager.wait_healthy();
    expect_tutorial(&addrs);
    drop(manager);

    for (ix, addr) in addrs.iter().enumerate() {
        cluster.lose_volume(ix, *addr, false);
    }
    let manager = Manager::start(pods_at(&addrs), Some(&journal));
    wait_until("it says that all data is lost", || manager.has_found("all-data-lost"));
    let report = manager.status.report();
    assert_eq!((report.plan.len(), report.actions.len()), (0, 0));
    assert!(states(&addrs).iter().all(|lines| lines.len() == 1));
}

#[test]
fn a_primary_hands_over_when_its_pod_leaves_and_keeps_its_role_when_all_leave() {
    let cluster = RealCluster::start_like_pods(6, 82);
    cluster.form(1);
    let addrs = cluster.addrs();
    let manager = Manager::start(pods_at(addrs), None);
    manager.wait_healthy();
    manager.tell(|pods| pods.pods[0].is_leaving = true);
    wait_until("the replica has taken over", || is_primary(addrs[3]) && follows(addrs[0], addrs[3]));
    assert!(manager.has_done("pod-leaves"));
    manager.tell(|pods| pods.pods[0].is_leaving = false);
    manager.wait_healthy();
    let primaries = || addrs.iter().map(|addr| is_primary(*addr)).collect::<Vec<bool>>();
    let before = primaries();
    let done = manager.status.report().actions.len();
    manager.tell(|pods| pods.pods.iter_mut().for_each(|pod| pod.is_leaving = true));
    wait_until("it says that whole shards leave", || manager.has_found("leaving-shard"));
    manager.tell(|pods| pods.pods.iter_mut().for_each(|pod| pod.is_leaving = false));
    manager.wait_healthy();
    assert_eq!((primaries(), manager.status.report().actions.len()), (before, done));
}

#[test]
fn a_pod_whose_volume_was_lost_comes_back_as_a_replica_and_its_old_self_is_forgotten() {
    let mut cluster = RealCluster::start_like_pods(6, 83);
    cluster.form(1);
    let mut addrs = cluster.addrs().to_vec();
    let manager = Manager::start(pods_at(&addrs), None);
    manager.wait_healthy();
    let key = write_to(addrs[0]);
    let old = [id_of(addrs[0]), id_of(addrs[4])];
    // A pod that is made anew has another address, and a container that is started again the same one.
    let new = SocketAddr::from(([127, 0, 84, 1], addrs[0].port()));
    cluster.lose_volume(0, new, false);
    addrs[0] = new;
    manager.tell(|pods| (pods.pods[0].addr, pods.pods[0].uid) = (Some(new), "uid-new".into()));
    wait_until("it says so", || manager.has_found("volume-lost"));
    cluster.lose_volume(4, addrs[4], false);
    wait_until("both follow a primary", || {
        let [one, other] = [addrs[0], addrs[4]];
        let are_apart = |a, b| follows(one, a) && follows(other, b);
        are_apart(addrs[3], addrs[1]) || are_apart(addrs[1], addrs[3])
    });
    manager.wait_healthy();
    for addr in &addrs {
        let nodes = state(*addr);
        assert_eq!(nodes.len(), 6, "{nodes:#?}");
        assert!(!nodes.iter().any(|line| old.iter().any(|old| line.contains(old.as_str()))), "{nodes:#?}");
    }
    expect(&run(&["check", &addrs[0].to_string(), "--replicas", "1"]), 0, "Nothing is wrong");
    assert_eq!(Client::connect(addrs[3]).call_text(&["GET", &key]), "$1\r\n1\r\n");
}

#[test]
fn a_primary_that_comes_back_without_its_keys_follows_the_replica_that_has_them() {
    // No data on disk, and the pause before a first copy that Redis has by default.
    let settings = [("appendonly", "no"), ("repl-diskless-sync-delay", "5")];
    let mut cluster = RealCluster::start_like_pods_with(6, 85, &settings);
    cluster.form(1);
    let addrs = cluster.addrs().to_vec();
    let manager = Manager::start(pods_at(&addrs), None);
    manager.wait_healthy();
    let key = write_to(addrs[0]);
    let id = id_of(addrs[0]);
    cluster.lose_volume(0, addrs[0], true);
    assert_eq!(id_of(addrs[0]), id);
    manager.tell(|pods| pods.pods[0].uid = "uid-started-again".into());
    wait_until("the replica has taken over", || is_primary(addrs[3]) && follows(addrs[0], addrs[3]));
    assert!(manager.has_done("data-lost"));
    assert_eq!(Client::connect(addrs[3]).call_text(&["GET", &key]), "$1\r\n1\r\n");
    manager.wait_healthy();

    // Nor does another empty node at its primary's address take a replica's keys away.
    let key = write_to(addrs[1]);
    cluster.lose_volume(1, addrs[1], false);
    manager.tell(|pods| pods.pods[1].uid = "uid-started-again".into());
    wait_until("its replica has taken over", || is_primary(addrs[4]) && follows(addrs[1], addrs[4]));
    assert_eq!(Client::connect(addrs[4]).call_text(&["GET", &key]), "$1\r\n1\r\n");
    manager.wait_healthy();
}
