//! The watch of the pods: told at once, and on bad days what was told last stays.

use super::place;
use crate::support::PATIENCE;
use crate::support::fake_kube::FakeKube;
use crate::support::fake_kube::objects::{pod, stateful_set};
use serde_json::json;
use slotgate::control::kubernetes::{WatchStatus, watch};
use slotgate::control::pods::Pods;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::watch::{Receiver, Sender};
use tokio::time::{Duration, sleep, timeout};

const PODS: usize = 3;

fn ip(last: usize) -> IpAddr {
    IpAddr::from([10, 244, 0, last as u8])
}

/// An API server with a StatefulSet and its pods.
fn start() -> FakeKube {
    let kube = FakeKube::start();
    kube.put("statefulsets", stateful_set("redis", PODS));
    (0..PODS).for_each(|ordinal| kube.put("pods", pod("redis", ordinal, 0, ip(ordinal))));
    kube
}

struct Watched {
    pods: Receiver<Arc<Pods>>,
    status: Arc<WatchStatus>,
}

impl Watched {
    fn new(kube: &FakeKube) -> Watched {
        let (teller, pods) = (Sender::new(Arc::new(Pods::default())), Arc::new(WatchStatus::default()));
        let watched = Watched { pods: teller.subscribe(), status: pods.clone() };
        tokio::spawn(watch(place(kube), teller, pods, pending()));
        watched
    }

    /// Waits until the pods are told like this.
    #[track_caller]
    fn expect(&mut self, what: &'static str, wanted: impl Fn(&Pods) -> bool) -> impl Future<Output = ()> {
        async move {
            let told = timeout(PATIENCE, self.pods.wait_for(|pods| wanted(pods))).await;
            told.unwrap_or_else(|_| panic!("never told: {what}")).unwrap();
        }
    }

    async fn expect_trouble(&self, words: &[&str]) {
        let mut last = None;
        let seen = async {
            while !last.as_ref().is_some_and(|last: &String| words.iter().all(|word| last.contains(word))) {
                last = self.status.trouble();
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(PATIENCE, seen).await.is_err() {
            panic!("no trouble with {words:?}, but {last:?}");
        }
    }

    async fn expect_no_trouble(&self) {
        let seen = async {
            while self.status.trouble().is_some() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(PATIENCE, seen).await.is_err() {
            panic!("the trouble stays: {:?}", self.status.trouble());
        }
    }
}

fn is_at(pods: &Pods, ordinal: usize, at: IpAddr) -> bool {
    pods.pods.get(ordinal).is_some_and(|pod| pod.addr == Some(SocketAddr::new(at, 6379)))
}

fn has_all(pods: &Pods) -> bool {
    pods.is_complete() && (0..PODS).all(|ordinal| is_at(pods, ordinal, ip(ordinal)))
}

#[tokio::test]
async fn a_pod_that_comes_back_elsewhere_is_told_of_without_another_list() {
    let kube = start();
    let mut watched = Watched::new(&kube);
    watched.expect("all pods", has_all).await;
    kube.forget_calls();
    kube.remove("pods", "redis-1");
    watched.expect("it is gone", |pods| pods.pods.len() == PODS - 1).await;
    kube.put("pods", pod("redis", 1, 1, ip(77)));
    watched.expect("its new address", |pods| is_at(pods, 1, ip(77))).await;
    kube.patch(
        "statefulsets",
        "redis",
        &json!({"metadata": {"annotations": {"slotgate.dev/paused": "true"}}}),
    );
    watched.expect("the pause", Pods::is_paused).await;
    let lists = kube.calls().into_iter().filter(|call| call.verb == "list").count();
    assert_eq!((lists, watched.status.trouble()), (0, None));
}

#[tokio::test]
async fn pods_of_another_stateful_set_are_not_told_of() {
    let kube = start();
    kube.put("pods", pod("redis-b", 0, 0, ip(99)));
    let mut stray = pod("redis", 7, 0, ip(98));
    stray["metadata"]["ownerReferences"] = json!([]);
    kube.put("pods", stray);
    let mut watched = Watched::new(&kube);
    watched.expect("all pods", has_all).await;
}

#[tokio::test]
async fn a_watch_that_missed_too_much_lists_anew() {
    let kube = start();
    let mut watched = Watched::new(&kube);
    watched.expect("all pods", has_all).await;
    kube.hang(true);
    kube.remove("pods", "redis-2");
    kube.put("pods", pod("redis", 0, 1, ip(50)));
    kube.forget_changes();
    kube.forget_calls();
    kube.hang(false);
    watched.expect("both changes", |pods| pods.pods.len() == 2 && is_at(pods, 0, ip(50))).await;
    assert!(kube.calls().iter().any(|call| call.verb == "list" && call.resource == "pods"));
}

#[tokio::test]
async fn while_the_api_server_is_down_what_was_told_last_stays_and_then_it_goes_on() {
    let kube = start();
    let mut watched = Watched::new(&kube);
    watched.expect("all pods", has_all).await;
    kube.go_down();
    watched.expect_trouble(&["watch", "cannot be reached"]).await;
    assert!(has_all(&watched.pods.borrow()));
    kube.put("pods", pod("redis", 2, 1, ip(60)));
    kube.come_back();
    watched.expect("what changed meanwhile", |pods| is_at(pods, 2, ip(60))).await;
    watched.expect_no_trouble().await;
}

#[tokio::test]
async fn a_missing_right_is_named_by_verb_and_resource_until_it_is_given() {
    for (verb, resource) in
        [("list", "statefulsets"), ("watch", "statefulsets"), ("list", "pods"), ("watch", "pods")]
    {
        let kube = start();
        kube.forbid(verb, resource);
        let mut watched = Watched::new(&kube);
        let right = format!("Role {verb} {resource}");
        watched.expect_trouble(&["the API server allows it not", &right, "system:serviceaccount"]).await;
        kube.allow(verb, resource);
        watched.expect("all pods", has_all).await;
        watched.expect_no_trouble().await;
    }
}

#[tokio::test]
async fn a_busy_or_ill_api_server_is_asked_again() {
    for (code, words) in [(429, "too many requests"), (500, "etcdserver")] {
        let kube = start();
        kube.fail_with(Some(code));
        let mut watched = Watched::new(&kube);
        watched.expect_trouble(&["cannot list statefulsets", words]).await;
        kube.fail_with(None);
        watched.expect("all pods", has_all).await;
        watched.expect_no_trouble().await;
    }
}

#[tokio::test]
async fn a_silent_api_server_is_told_of_and_the_watch_goes_on_when_it_speaks() {
    let kube = start();
    kube.hang(true);
    let mut watched = Watched::new(&kube);
    watched.expect_trouble(&["cannot list statefulsets", "no answer within"]).await;
    kube.hang(false);
    watched.expect("all pods", has_all).await;
    watched.expect_no_trouble().await;
}

#[tokio::test]
async fn without_the_stateful_set_it_is_said_what_to_name() {
    let kube = FakeKube::start();
    let mut watched = Watched::new(&kube);
    let sentence = "there is no StatefulSet redis in namespace tool-env";
    watched.expect_trouble(&[sentence, "--statefulset and --namespace"]).await;
    kube.put("statefulsets", stateful_set("redis", 1));
    kube.put("pods", pod("redis", 0, 0, ip(0)));
    watched.expect("the pod", |pods| pods.is_complete() && is_at(pods, 0, ip(0))).await;
    watched.expect_no_trouble().await;
    // With `--cascade=orphan` the pods stay.
    kube.remove("statefulsets", "redis");
    watched
        .expect("it is gone, and nobody counts as missing", |pods| pods.set.is_none() && !pods.is_complete())
        .await;
    assert!(is_at(&watched.pods.borrow(), 0, ip(0)));
    watched.expect_trouble(&[sentence]).await;
    kube.put("statefulsets", stateful_set("redis", 1));
    watched.expect("it is back", |pods| pods.set.is_some() && is_at(pods, 0, ip(0))).await;
    watched.expect_no_trouble().await;
}
