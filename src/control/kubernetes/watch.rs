//! Watches the StatefulSet and its pods, and tells of each change at once.
//!
//! A watch that breaks is begun anew, and what was learned last stays in use meanwhile.

use super::read::{read_pod, read_set, selector};
use super::{KubernetesError, Place};
use crate::control::pods::{Pod, Pods};
use futures_util::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch::Sender;

/// Whether the API server tells of changes, for operators.
#[derive(Debug, Default)]
pub struct WatchStatus(Mutex<Option<String>>);

impl WatchStatus {
    /// Why nothing is learned of changes; `None` when all is well.
    pub fn trouble(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, trouble: Option<String>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*last, &trouble) {
            (Some(_), None) => tracing::info!(reason = "kubernetes", "the API server tells of pods again"),
            (before, Some(now)) if before.as_ref() != Some(now) => {
                tracing::warn!(reason = "kubernetes", "{now}; what was learned last stays in use");
            }
            _ => {}
        }
        *last = trouble;
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
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.place.stateful_set));
        let mut sets: Events<StatefulSet> = watcher(sets, only).default_backoff().boxed();
        // By the selector; it never changes but with another StatefulSet of the same name.
        let mut pods: Option<(String, Events<core::Pod>)> = None;
        loop {
            tokio::select! {
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
                let only = watcher::Config::default().labels(&wanted);
                pods = Some((wanted, watcher(api, only).default_backoff().boxed()));
            }
        }
    }

    fn see_set(&mut self, event: Event<StatefulSet>) {
        match event {
            Event::Apply(set) => self.set = Some(set),
            Event::Delete(_) => self.set = None,
            Event::Init => self.listed_set = None,
            Event::InitApply(set) => self.listed_set = Some(set),
            Event::InitDone => self.set = self.listed_set.take(),
        }
        if self.set.is_none() && self.listed_set.is_none() {
            let Place { namespace, stateful_set, .. } = &self.place;
            self.status.set(Some(format!(
                "there is no StatefulSet {stateful_set} in namespace {namespace}: name the one that the nodes run in \
                 with --statefulset and --namespace"
            )));
        }
        self.tell();
    }

    fn see_pod(&mut self, event: Event<core::Pod>) {
        match event {
            Event::Apply(pod) => put(&mut self.found, &pod, &self.place),
            Event::Delete(pod) => {
                self.found.remove(pod.metadata.name.as_deref().unwrap_or_default());
            }
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(pod) => put(self.listing.get_or_insert_default(), &pod, &self.place),
            Event::InitDone => self.found = self.listing.take().unwrap_or_default(),
        }
        if self.listing.is_none() && self.set.is_some() {
            self.status.set(None);
        }
        self.tell();
    }

    /// Tells of what is known, if anything that is planned with changed.
    fn tell(&self) {
        if self.listing.is_some() {
            return;
        }
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
        self.status.set(Some(said.to_string()));
    }
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
