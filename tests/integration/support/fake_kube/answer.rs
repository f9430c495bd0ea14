//! One HTTP request to the fake API server → its answer, in Kubernetes' own words.

use super::store::{self, Place, Selection};
use super::{Call, Shared};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// More than any object's size.
const MAX_BODY: usize = 4 << 20;

/// What a path names.
struct Target {
    group: String,
    version: String,
    namespace: String,
    resource: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Target {
    /// `/api/v1/namespaces/NS/pods/NAME/eviction`, `/apis/apps/v1/...`, with or without a namespace.
    fn read(path: &str) -> Option<Target> {
        let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
        let (group, version, rest) = match words.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        Some(Target {
            group: group.into(),
            version: version.into(),
            namespace: namespace.into(),
            resource: rest.first()?.to_string(),
            name: rest.get(1).map(ToString::to_string),
            subresource: rest.get(2).map(ToString::to_string),
        })
    }

    /// As messages name it: `leases.coordination.k8s.io`.
    fn full(&self) -> String {
        match self.group.as_str() {
            "" => self.resource.clone(),
            group => format!("{}.{group}", self.resource),
        }
    }

    /// As RBAC names it.
    fn right(&self) -> String {
        match &self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.resource),
            None => self.resource.clone(),
        }
    }

    fn place(&self, name: &str) -> Place {
        (self.resource.clone(), self.namespace.clone(), name.into())
    }
}

pub async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Some(target) = Target::read(head.uri.path()) else {
        return status(404, "NotFound", "the server could not find the requested resource");
    };
    let query: HashMap<String, String> =
        axum::extract::Query::try_from_uri(&head.uri).map(|query| query.0).unwrap_or_default();
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_watch = query.get("watch").is_some_and(|watch| watch == "true" || watch == "1");
    let verb = match (&head.method, &target.name) {
        (&Method::GET, None) if is_watch => "watch",
        (&Method::GET, None) => "list",
        (&Method::GET, Some(_)) => "get",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, None) => "deletecollection",
        (&Method::DELETE, Some(_)) => "delete",
        _ => return status(405, "MethodNotAllowed", "the server does not allow this method"),
    };
    let given = || body["metadata"]["name"].as_str().map(str::to_string);
    let (group, resource) = (target.group.clone(), target.right());
    let call = Call { verb, group, resource, name: target.name.clone().or_else(given) };
    shared.calls.lock().unwrap().push(call);
    let mut hanging = shared.is_hanging.subscribe();
    let _ = hanging.wait_for(|is_hanging| !is_hanging).await;
    let faults = shared.faults.lock().unwrap().clone();
    tokio::time::sleep(faults.delay).await;
    match faults.code {
        Some(429) => return status(429, "TooManyRequests", "too many requests, please try again later"),
        Some(code) => return status(code, "InternalError", "etcdserver: request timed out"),
        None => {}
    }
    if faults.forbidden.contains(&(verb.to_string(), target.right())) {
        let named = target.name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
        let message = format!(
            "{}{named} is forbidden: User \"system:serviceaccount:{ns}:slotgate\" cannot {verb} resource \"{}\" in \
             API group \"{}\" in the namespace \"{ns}\"",
            target.full(),
            target.right(),
            target.group,
            ns = target.namespace
        );
        return status(403, "Forbidden", &message);
    }
    let selection = || Selection {
        resource: target.resource.clone(),
        namespace: target.namespace.clone(),
        fields: query.get("fieldSelector").cloned().unwrap_or_default(),
        labels: query.get("labelSelector").cloned().unwrap_or_default(),
    };
    match verb {
        "watch" => {
            let known = query.get("resourceVersion").and_then(|version| version.parse().ok());
            watch(shared.clone(), selection(), known)
        }
        "list" => {
            let store = shared.store.lock().unwrap();
            let api = [target.group.as_str(), &target.version].into_iter().filter(|part| !part.is_empty());
            reply(
                200,
                json!({
                    "kind": "List", "apiVersion": api.collect::<Vec<_>>().join("/"),
                    "metadata": { "resourceVersion": store.version().to_string() },
                    "items": store.list(&selection()),
                }),
            )
        }
        _ => {
            let patch = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let answer = one(&shared, &target, verb, body, patch.unwrap_or_default());
            let version = shared.store.lock().unwrap().version();
            shared.version.send_replace(version);
            answer
        }
    }
}

/// What concerns one object.
fn one(shared: &Shared, target: &Target, verb: &str, mut body: Value, content: &str) -> Response {
    let mut store = shared.store.lock().unwrap();
    if let Some(subresource) = &target.subresource {
        return status(404, "NotFound", &format!("the fake API server has no subresource {subresource}"));
    }
    let full = target.full();
    if verb == "create" {
        let meta = &mut body["metadata"];
        if let (None, Some(beginning)) = (meta["name"].as_str(), meta["generateName"].as_str()) {
            meta["name"] = format!("{beginning}{:05}", store.version()).into();
        }
        let Some(name) = body["metadata"]["name"].as_str().map(str::to_string) else {
            return status(422, "Invalid", "metadata.name: Required value: name or generateName is required");
        };
        if store.get(&target.place(&name)).is_some() {
            return status(409, "AlreadyExists", &format!("{full} \"{name}\" already exists"));
        }
        return reply(201, store.put(target.place(&name), body));
    }
    let name = target.name.clone().unwrap_or_default();
    let place = target.place(&name);
    let Some(object) = store.get(&place).cloned() else {
        return status(404, "NotFound", &format!("{full} \"{name}\" not found"));
    };
    let is_other = |wanted: &Value, field: &str| !wanted.is_null() && *wanted != object["metadata"][field];
    let is_outdated = match verb {
        "delete" => {
            let wanted = &body["preconditions"];
            is_other(&wanted["uid"], "uid") || is_other(&wanted["resourceVersion"], "resourceVersion")
        }
        _ => is_other(&body["metadata"]["resourceVersion"], "resourceVersion"),
    };
    if is_outdated {
        let message = format!(
            "Operation cannot be fulfilled on {full} \"{name}\": the object has been modified; please apply your \
             changes to the latest version and try again"
        );
        return status(409, "Conflict", &message);
    }
    match verb {
        "get" => reply(200, object),
        "update" => {
            body["metadata"]["uid"] = object["metadata"]["uid"].clone();
            reply(200, store.put(place, body))
        }
        "patch" if content.starts_with("application/merge-patch+json") => {
            let mut object = object;
            store::merge(&mut object, &body);
            reply(200, store.put(place, object))
        }
        "patch" => status(415, "UnsupportedMediaType", &format!("the fake API server knows no {content}")),
        // A pod ends within its grace period: who plays the kubelet removes it.
        "delete" if target.resource == "pods" && body["gracePeriodSeconds"] != 0 => {
            let mut object = object;
            object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            reply(200, store.put(place, object))
        }
        "delete" => reply(200, store.remove(&place).unwrap_or_default()),
        other => status(405, "MethodNotAllowed", &format!("the fake API server cannot {other}")),
    }
}

/// Tells of every change after `known`, until the connection ends or the changes are forgotten.
fn watch(shared: Arc<Shared>, selection: Selection, known: Option<u64>) -> Response {
    let known = known.unwrap_or_else(|| shared.store.lock().unwrap().version());
    let versions = shared.version.subscribe();
    let state = (shared, selection, known, versions, false);
    let lines = stream::unfold(state, |(shared, selection, known, mut versions, has_ended)| async move {
        if has_ended {
            return None;
        }
        loop {
            let mut hanging = shared.is_hanging.subscribe();
            hanging.wait_for(|is_hanging| !is_hanging).await.ok()?;
            versions.borrow_and_update();
            let (events, version, is_too_old) = {
                let store = shared.store.lock().unwrap();
                (store.events(&selection, known), store.version(), !store.remembers(known))
            };
            let text: String = match is_too_old {
                true => {
                    let message = format!("too old resource version: {known} ({version})");
                    format!("{}\n", json!({ "type": "ERROR", "object": failure(410, "Expired", &message) }))
                }
                false => events.iter().map(|event| format!("{event}\n")).collect(),
            };
            if !text.is_empty() {
                let next = (shared, selection, version, versions, is_too_old);
                return Some((Ok::<Bytes, std::io::Error>(text.into()), next));
            }
            versions.changed().await.ok()?;
        }
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

fn status(code: u16, reason: &str, message: &str) -> Response {
    reply(code, failure(code, reason, message))
}

fn reply(code: u16, body: Value) -> Response {
    let code = StatusCode::from_u16(code).unwrap();
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
