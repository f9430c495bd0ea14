//! Watches the StatefulSet and its pods, and tells of each change at once.
//!
//! A watch that breaks is begun anew, and what was learned last stays in use meanwhile.

use super::read::{read_pod, read_set, selector};
use super::{KubernetesError, Place};
use crate::backend::Backoff;
use crate::control::pods::{Pod, Pods};
use futures_util::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils as watcher_utils;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch::Sender;
use tokio::time::{Instant, sleep};

/// How long after a failure of a watch nothing more must fail for it to count as mended: more than a try and
/// the pause before it. Nothing else tells that a watch without news is well.
const QUIET: Duration = Duration::from_secs(20);
/// How often it is looked whether that time is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before the next try, from the first to the most. A pod that moved while the API server was
/// away is to be known soon after.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How many seconds the API server is asked to keep a watch open: a connection that was cut without a word is
/// noticed a little later.
const WATCH_SECONDS: u32 = 30;

/// Whether the API server tells of changes, for operators.
#[derive(Debug, Default)]
pub struct WatchStatus(Mutex<Troubles>);

#[derive(Debug, Default)]
struct Troubles {
    /// By resource: what failed, unless it went well since.
    failed: BTreeMap<&'static str, Failure>,
    /// What is not there.
    absent: Option<String>,
}

#[derive(Debug)]
struct Failure {
    text: String,
    is_list: bool,
    at: Instant,
}

impl WatchStatus {
    /// Why nothing, or not all, is learned of changes; `None` when all is well.
    pub fn trouble(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).text()
    }

    /// Changes what is known, and tells what that means.
    fn learn(&self, change: impl FnOnce(&mut Troubles)) {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = troubles.text();
        change(&mut troubles);
        match (before, troubles.text()) {
            (Some(_), None) => tracing::info!(reason = "kubernetes", "the API server tells of pods again"),
            (before, Some(now)) if before.as_ref() != Some(&now) => {
                tracing::warn!(reason = "kubernetes", "{now}; what was learned last stays in use");
            }
            _ => {}
        }
    }
}

impl Troubles {
    fn text(&self) -> Option<String> {
        let texts: Vec<&str> =
            self.failed.values().map(|failure| failure.text.as_str()).chain(self.absent.as_deref()).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// News of this resource came.
    fn went_well(&mut self, resource: &'static str, is_list: bool) {
        // A list says nothing of the watch that is to follow.
        if self.failed.get(resource).is_some_and(|failure| failure.is_list || !is_list) {
            self.failed.remove(resource);
        }
    }
}

/// Our pauses between tries, as kube's streams want them.
struct Pauses(Backoff);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next_wait())
    }
}

impl watcher_utils::Backoff for Pauses {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Tells `pods` of everything until `cancelled` completes.
pub async fn watch(
    place: Place,
    pods: Sender<Arc<Pods>>,
    status: Arc<WatchStatus>,
    cancelled: impl Future<Output = ()>,
) {
    let watched =
        Watch { place, pods, status, set: None, listed_set: None, found: BTreeMap::new(), listing: None };
    tokio::select! {
        () = cancelled => {}
        () = watched.run() => {}
    }
}

type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

struct Watch {
    place: Place,
    pods: Sender<Arc<Pods>>,
    status: Arc<WatchStatus>,
    set: Option<StatefulSet>,
    /// Whom a list that is not yet complete has named.
    listed_set: Option<StatefulSet>,
    /// By name.
    found: BTreeMap<String, Pod>,
    /// What a list that is not yet complete has named.
    listing: Option<BTreeMap<String, Pod>>,
}

impl Watch {
    async fn run(mut self) {
        let sets: Api<StatefulSet> = Api::namespaced(self.place.client.clone(), &self.place.namespace);
        let only = watcher::Config::default().timeout(WATCH_SECONDS);
        let only = only.fields(&format!("metadata.name={}", self.place.stateful_set));
        let mut sets: Events<StatefulSet> = begin(sets, only);
        // By the selector; it never changes but with another StatefulSet of the same name.
        let mut pods: Option<(String, Events<core::Pod>)> = None;
        loop {
            tokio::select! {
                () = sleep(LOOK_EVERY), if self.status.trouble().is_some() => self.status.learn(|troubles| {
                    troubles.failed.retain(|_, failure| failure.is_list || failure.at.elapsed() < QUIET);
                }),
                event = sets.next() => match event {
                    Some(Ok(event)) => self.see_set(event),
                    Some(Err(error)) => self.fail(&error, "statefulsets"),
                    None => return,
                },
                event = next(&mut pods) => match event {
                    Some(Ok(event)) => self.see_pod(event),
                    Some(Err(error)) => self.fail(&error, "pods"),
                    None => pods = None,
                },
            }
            let wanted = self.set.as_ref().map(selector);
            if let Some(wanted) = wanted.filter(|wanted| pods.as_ref().is_none_or(|(now, _)| now != wanted)) {
                let api: Api<core::Pod> = Api::namespaced(self.place.client.clone(), &self.place.namespace);
                let only = watcher::Config::default().timeout(WATCH_SECONDS).labels(&wanted);
                pods = Some((wanted, begin(api, only)));
            }
        }
    }

    fn see_set(&mut self, event: Event<StatefulSet>) {
        let is_list = matches!(event, Event::Init | Event::InitApply(_) | Event::InitDone);
        match event {
            Event::Apply(set) => self.set = Some(set),
            Event::Delete(_) => self.set = None,
            Event::Init => return self.listed_set = None,
            Event::InitApply(set) => return self.listed_set = Some(set),
            Event::InitDone => self.set = self.listed_set.take(),
        }
        let Place { namespace, stateful_set, .. } = &self.place;
        let absent = self.set.is_none().then(|| {
            format!(
                "there is no StatefulSet {stateful_set} in namespace {namespace}: name the one that the nodes run in \
                 with --statefulset and --namespace"
            )
        });
        self.status.learn(|troubles| {
            troubles.went_well("statefulsets", is_list);
            troubles.absent = absent;
        });
        self.tell();
    }

    fn see_pod(&mut self, event: Event<core::Pod>) {
        let is_list = matches!(event, Event::Init | Event::InitApply(_) | Event::InitDone);
        match event {
            Event::Apply(pod) => put(&mut self.found, &pod, &self.place),
            Event::Delete(pod) => {
                self.found.remove(pod.metadata.name.as_deref().unwrap_or_default());
            }
            Event::Init => return self.listing = Some(BTreeMap::new()),
            Event::InitApply(pod) => {
                return put(self.listing.get_or_insert_default(), &pod, &self.place);
            }
            Event::InitDone => self.found = self.listing.take().unwrap_or_default(),
        }
        self.status.learn(|troubles| troubles.went_well("pods", is_list));
        self.tell();
    }

    /// Tells of what is known, if anything that is planned with changed.
    fn tell(&self) {
        let mut pods: Vec<Pod> = self.found.values().cloned().collect();
        pods.sort_by_key(|pod| pod.ordinal);
        let now = Pods { pods, set: self.set.as_ref().map(read_set) };
        self.pods.send_if_modified(|last| {
            let is_new = **last != now;
            if is_new {
                *last = Arc::new(now);
            }
            is_new
        });
    }

    fn fail(&mut self, error: &watcher::Error, resource: &'static str) {
        let said = match error {
            watcher::Error::InitialListFailed(error) => KubernetesError::of(error, "list", resource),
            watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                KubernetesError::of(error, "watch", resource)
            }
            // Such as 410 Gone: what it can tell of begins later than what we know. It is listed anew.
            watcher::Error::WatchError(status) => {
                tracing::debug!(code = status.code, message = status.message, "the watch begins anew");
                return;
            }
            watcher::Error::NoResourceVersion => KubernetesError::Refused {
                verb: "watch",
                resource,
                code: 0,
                message: "the API server gave no resourceVersion".into(),
            },
        };
        let is_list = matches!(error, watcher::Error::InitialListFailed(_));
        let failure = Failure { text: said.to_string(), is_list, at: Instant::now() };
        self.status.learn(|troubles| drop(troubles.failed.insert(resource, failure)));
    }
}

fn begin<K>(api: Api<K>, only: watcher::Config) -> Events<K>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, only).backoff(Pauses(Backoff::new(BACKOFF.0, BACKOFF.1))).boxed()
}

fn put(found: &mut BTreeMap<String, Pod>, pod: &core::Pod, place: &Place) {
    if let Some(pod) = read_pod(pod, place) {
        found.insert(pod.name.clone(), pod);
    }
}

async fn next(events: &mut Option<(String, Events<core::Pod>)>) -> Option<watcher::Result<Event<core::Pod>>> {
    match events {
        Some((_, events)) => events.next().await,
        None => std::future::pending().await,
    }
}
