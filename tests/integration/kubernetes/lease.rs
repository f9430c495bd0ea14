//! Candidates for one Lease at a fake API server: one leads, whatever the server's day is like.

use super::place;
use crate::support::PATIENCE;
use crate::support::fake_kube::FakeKube;
use serde_json::{Value, json};
use slotgate::control::kubernetes::lease::{Config, Timing, run};
use slotgate::control::leadership::{Leadership, Terms};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep, timeout};

const NAME: &str = "slotgate-redis";

/// A fifth of the real times, so that tests end soon.
const SHORT: Timing = Timing {
    duration: Duration::from_secs(3),
    renew_deadline: Duration::from_secs(2),
    retry: Duration::from_millis(400),
};

/// Nobody is waited out within a test: who takes the Lease was given it.
const LONG: Timing = Timing {
    duration: Duration::from_secs(3600),
    renew_deadline: Duration::from_secs(1800),
    retry: Duration::from_millis(100),
};

struct Running {
    identity: String,
    terms: Arc<Terms>,
    leadership: Leadership,
    task: JoinHandle<()>,
    end: Option<oneshot::Sender<()>>,
}

impl Running {
    fn start(kube: &FakeKube, identity: &str, timing: Timing) -> Running {
        let config = Config { name: NAME.into(), identity: identity.into(), timing };
        let terms = Arc::new(Terms::new(identity.into()));
        let (end, ended) = oneshot::channel();
        let ended = async { drop(ended.await) };
        let task = tokio::spawn(run(place(kube), config, terms.clone(), ended));
        Running { identity: identity.into(), leadership: terms.leadership(), terms, task, end: Some(end) }
    }

    fn leads(&self) -> bool {
        self.leadership.is_leader()
    }

    /// As SIGTERM does.
    async fn end(&mut self) {
        self.end.take().unwrap().send(()).unwrap();
        (&mut self.task).await.unwrap();
    }

    fn trouble(&self) -> String {
        self.terms.leader().trouble.unwrap_or_default()
    }
}

fn start(kube: &FakeKube, timing: Timing) -> Vec<Running> {
    ["a", "b", "c"].map(|identity| Running::start(kube, identity, timing)).into()
}

/// Waits until it is so; never may two lead meanwhile.
async fn until(candidates: &[Running], what: &str, so: impl Fn() -> bool) {
    let seen = async {
        while !so() {
            let leaders: Vec<&str> =
                candidates.iter().filter(|one| one.leads()).map(|one| one.identity.as_str()).collect();
            assert!(leaders.len() <= 1, "{leaders:?} lead");
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(PATIENCE, seen).await.is_err() {
        panic!("never happened: {what}");
    }
}

fn leader(candidates: &[Running]) -> Option<usize> {
    candidates.iter().position(Running::leads)
}

async fn one_leads(candidates: &[Running]) -> usize {
    until(candidates, "one leads", || leader(candidates).is_some()).await;
    leader(candidates).unwrap()
}

fn lease(kube: &FakeKube) -> Value {
    kube.get("leases", NAME).unwrap()["spec"].clone()
}

#[tokio::test]
async fn one_leads_and_all_know_who_and_another_one_does_after_it_was_killed() {
    let kube = FakeKube::start();
    let mut candidates = start(&kube, SHORT);
    let first = one_leads(&candidates).await;
    let identity = candidates[first].identity.clone();
    let known = |candidates: &[Running], who: &str| {
        candidates.iter().all(|one| one.terms.leader().name.as_deref() == Some(who))
    };
    until(&candidates, "all know who leads", || known(&candidates, &identity)).await;
    let spec = lease(&kube);
    assert_eq!((&spec["holderIdentity"], &spec["leaseDurationSeconds"]), (&json!(identity), &json!(3)));
    assert_eq!(spec["leaseTransitions"], 0);
    let killed = candidates.remove(first);
    killed.task.abort();
    until(&candidates, "another leads", || leader(&candidates).is_some()).await;
    let second = candidates[leader(&candidates).unwrap()].identity.clone();
    assert!(second != identity && lease(&kube)["leaseTransitions"] == 1, "{}", lease(&kube));
    assert!(lease(&kube)["acquireTime"] != spec["acquireTime"]);
    until(&candidates, "the others know", || known(&candidates, &second)).await;
}

#[tokio::test]
async fn who_ends_gives_the_lease_back_so_that_nobody_waits() {
    let kube = FakeKube::start();
    let mut candidates = vec![Running::start(&kube, "a", LONG)];
    one_leads(&candidates).await;
    candidates.push(Running::start(&kube, "b", LONG));
    until(&candidates, "b knows who leads", || candidates[1].terms.leader().name.as_deref() == Some("a"))
        .await;
    candidates[0].end().await;
    assert!(!candidates[0].leads());
    until(&candidates, "b leads", || candidates[1].leads()).await;
    assert_eq!(lease(&kube)["leaseTransitions"], 1);
    // One that does not lead gives nothing away.
    candidates.push(Running::start(&kube, "c", LONG));
    until(&candidates, "c knows who leads", || candidates[2].terms.leader().name.is_some()).await;
    candidates[2].end().await;
    assert!(candidates[1].leads() && lease(&kube)["holderIdentity"] == "b");
}

#[tokio::test]
async fn without_the_api_server_nobody_leads_before_long_and_one_does_when_it_is_back() {
    for is_silent in [false, true] {
        let kube = FakeKube::start();
        let candidates = start(&kube, SHORT);
        let first = one_leads(&candidates).await;
        if is_silent {
            kube.hang(true)
        } else {
            kube.go_down()
        }
        until(&candidates, "nobody leads", || leader(&candidates).is_none()).await;
        until(&candidates, "it is said why", || candidates[first].trouble().contains("cannot be reached"))
            .await;
        assert_eq!(candidates[first].terms.leader().name, None, "who led knows nothing of who leads");
        if is_silent {
            kube.hang(false)
        } else {
            kube.come_back()
        }
        one_leads(&candidates).await;
        until(&candidates, "all is well", || candidates.iter().all(|one| one.trouble().is_empty())).await;
    }
}

#[tokio::test]
async fn a_missing_right_is_named_and_nobody_leads_until_it_is_given() {
    for verb in ["get", "create", "update"] {
        let kube = FakeKube::start();
        // Given back by somebody, so that it is to be updated; but for the one who must create it.
        if verb == "update" {
            kube.put("leases", json!({ "metadata": { "name": NAME }, "spec": { "holderIdentity": "" } }));
        }
        kube.forbid(verb, "leases");
        let candidates = start(&kube, SHORT);
        let right = format!("Role {verb} leases");
        until(&candidates, &right, || candidates.iter().all(|one| one.trouble().contains(&right))).await;
        assert_eq!(leader(&candidates), None);
        kube.allow(verb, "leases");
        one_leads(&candidates).await;
    }
}

#[tokio::test]
async fn a_leader_leads_on_when_others_touch_its_lease_or_the_api_server_is_slow() {
    let kube = FakeKube::start();
    let mut candidates = vec![Running::start(&kube, "a", LONG)];
    one_leads(&candidates).await;
    candidates.push(Running::start(&kube, "b", LONG));
    let renewed = || lease(&kube)["renewTime"].clone();
    for touch in 0..3 {
        kube.patch(
            "leases",
            NAME,
            &json!({ "metadata": { "annotations": { "touched": touch.to_string() } } }),
        );
        let before = renewed();
        until(&candidates, "it is renewed", || renewed() != before).await;
    }
    kube.slow_down(Duration::from_millis(300));
    for _ in 0..3 {
        let before = renewed();
        until(&candidates, "it is renewed", || renewed() != before).await;
    }
    assert!(candidates[0].leads() && lease(&kube)["leaseTransitions"] == 0);
    let annotations = kube.get("leases", NAME).unwrap()["metadata"]["annotations"].clone();
    assert_eq!(annotations["touched"], "2", "what others write there stays");
}

#[tokio::test]
async fn a_lease_that_is_deleted_is_made_anew_and_one_leads() {
    let kube = FakeKube::start();
    let candidates = start(&kube, SHORT);
    one_leads(&candidates).await;
    let known = || candidates.iter().all(|one| one.terms.leader().name.is_some());
    until(&candidates, "all know who leads", known).await;
    kube.remove("leases", NAME);
    until(&candidates, "it is there again", || kube.get("leases", NAME).is_some()).await;
    one_leads(&candidates).await;
}
