//! Events on the StatefulSet, where `kubectl describe statefulset` shows them: what the manager does and
//! finds.
//!
//! Looks at the manager's reports and never makes it wait. What the API server does not take is dropped, and
//! told once it takes it if it is still so.

use super::news::{Item, News};
use super::{KubernetesError, Reporter};
use crate::control::host::host_name;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

const EVERY: Duration = Duration::from_secs(1);
/// A request that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(2);
/// After a failure nothing is written for so long.
const REST: Duration = Duration::from_secs(10);
const RESOURCE: &str = "events";

/// Tells what happens, as long as this gateway leads.
pub(super) async fn tell(reporter: &Reporter) {
    let mut news = News::new(Instant::now());
    loop {
        sleep(EVERY).await;
        let report = reporter.manage.report();
        let uid = reporter.pods.borrow().set.as_ref().map(|set| set.uid.clone());
        let Some(uid) = uid.filter(|_| reporter.is_leading()) else {
            news.skip(&report);
            continue;
        };
        let mut items = news.learn(&report, Instant::now()).into_iter();
        while let Some(item) = items.next() {
            let written = write(reporter, &uid, &item).await;
            reporter.troubles.note("Events", written.as_ref().err());
            if written.is_err() {
                [item].iter().chain(items.as_slice()).for_each(|item| news.failed(item));
                sleep(REST).await;
                break;
            }
        }
    }
}

async fn write(reporter: &Reporter, uid: &str, item: &Item) -> Result<(), KubernetesError> {
    let place = &reporter.place;
    let now = Timestamp::now();
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", place.stateful_set, now.as_nanosecond())),
            namespace: Some(place.namespace.clone()),
            ..ObjectMeta::default()
        },
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        type_: Some(if item.is_warning { "Warning" } else { "Normal" }.into()),
        reason: Some(item.reason.clone()),
        action: Some(item.action.into()),
        message: Some(item.note.clone()),
        involved_object: ObjectReference {
            api_version: Some("apps/v1".into()),
            kind: Some("StatefulSet".into()),
            name: Some(place.stateful_set.clone()),
            namespace: Some(place.namespace.clone()),
            uid: Some(uid.to_string()),
            ..ObjectReference::default()
        },
        source: Some(EventSource { component: Some("slotgate".into()), host: None }),
        reporting_component: Some("slotgate".into()),
        reporting_instance: Some(host_name()),
        ..Event::default()
    };
    let events: Api<Event> = Api::namespaced(place.client.clone(), &place.namespace);
    let params = PostParams::default();
    match timeout(LIMIT, events.create(&params, &event)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(KubernetesError::of(&error, "create", RESOURCE)),
        Err(_) => {
            let message = format!("it did not answer within {} s", LIMIT.as_secs());
            Err(KubernetesError::Unreachable { verb: "create", resource: RESOURCE, message })
        }
    }
}
