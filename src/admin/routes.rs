//! Which path answers what. Reads shared state, changes nothing.

use super::readiness::{NotReady, readiness, serves_any};
use super::scrape::{kubernetes_sample, leader_samples, manage_samples, process_samples, topology_samples};
use super::topology::{TopologyReport, report};
use crate::control::kubernetes::WatchStatus;
use crate::control::leadership::{Leader, Terms};
use crate::control::reconcile::{ManageStatus, Report};
use crate::control::refresh::RefreshStatus;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;
use crate::topology::SharedTopology;
use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Json};
use axum::{Router, routing::get};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the answers are made of.
#[derive(Clone)]
pub struct State {
    pub topology: Arc<SharedTopology>,
    /// What the last look at the cluster told.
    pub refresh: Arc<RefreshStatus>,
    /// What the manager saw, planned and did; `None` when the cluster is not managed from here.
    pub manage: Option<Arc<ManageStatus>>,
    /// Who leads; `None` where nobody is elected.
    pub terms: Option<Arc<Terms>>,
    /// How it stands with the API server; `None` where none is asked.
    pub kubernetes: Option<Arc<WatchStatus>>,
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
    /// When the process started.
    pub started: Instant,
}

impl State {
    fn topology_age(&self) -> Option<Duration> {
        self.topology.confirmed_at().map(|at| at.elapsed())
    }
}

/// What `/api/status` says.
#[derive(Serialize)]
struct StatusReport {
    #[serde(flatten)]
    report: Report,
    /// `null` where nobody is elected.
    leader: Option<Leader>,
    /// `null` without `--kubernetes`.
    kubernetes: Option<Watching>,
}

#[derive(Serialize)]
struct Watching {
    /// Why the API server does not tell of all changes.
    trouble: Option<String>,
}

pub(super) fn routes(state: State) -> Router {
    Router::new()
        .route("/", get(dashboard))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/readyz/any", get(readyz_any))
        .route("/api/topology", get(topology))
        .route("/api/status", get(status))
        .with_state(state)
}

/// One page that asks the other paths; nothing on it comes from elsewhere.
async fn dashboard() -> impl IntoResponse {
    const ONLY_OURS: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
        connect-src 'self'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, ONLY_OURS)], Html(include_str!("dashboard.html")))
}

async fn metrics(extract::State(state): extract::State<State>) -> impl IntoResponse {
    let snapshot = state.topology.load();
    let mut samples = topology_samples(state.shutdown.phase(), &snapshot, state.topology_age());
    samples.extend(process_samples(state.started.elapsed()));
    samples.extend(state.manage.iter().flat_map(|manage| manage_samples(manage)));
    samples.extend(state.terms.iter().flat_map(|terms| leader_samples(&terms.leader())));
    samples.extend(state.kubernetes.iter().map(|status| kubernetes_sample(status)));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render(&samples))
}

/// Alive is who answers: restarting helps against nothing else that could be seen from here.
async fn livez() -> &'static str {
    "alive\n"
}

/// All that clients may ask for can be served.
async fn readyz(extract::State(state): extract::State<State>) -> (StatusCode, String) {
    answer(readiness(state.shutdown.phase(), &state.topology.load()), &state)
}

/// Some of it can.
async fn readyz_any(extract::State(state): extract::State<State>) -> (StatusCode, String) {
    answer(serves_any(state.shutdown.phase(), &state.topology.load()), &state)
}

fn answer(ready: Result<(), NotReady>, state: &State) -> (StatusCode, String) {
    match ready {
        Ok(()) => (StatusCode::OK, "ready\n".to_string()),
        Err(reason) => {
            let trouble = state.refresh.trouble().map(|trouble| format!("last look: {trouble}\n"));
            let text = format!("not ready: {reason}\n{}", trouble.unwrap_or_default());
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

async fn topology(extract::State(state): extract::State<State>) -> Json<TopologyReport> {
    let report = report(state.shutdown.phase(), &state.topology.load(), state.topology_age());
    Json(TopologyReport { trouble: state.refresh.trouble(), ..report })
}

async fn status(extract::State(state): extract::State<State>) -> impl IntoResponse {
    match &state.manage {
        Some(manage) => {
            let kubernetes = state.kubernetes.as_ref().map(|status| Watching { trouble: status.trouble() });
            let leader = state.terms.as_ref().map(|terms| terms.leader());
            Json(StatusReport { report: manage.report(), leader, kubernetes }).into_response()
        }
        None => (StatusCode::NOT_FOUND, "the cluster is not managed from here; start with --manage\n")
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::table::{Kind, TABLE};

    #[test]
    fn the_dashboard_names_only_metrics_that_exist() {
        let page = include_str!("dashboard.html");
        let names =
            page.split('"').filter(|text| text.starts_with("slotgate_") || text.starts_with("process_"));
        let known = |name: &str| {
            TABLE.iter().any(|metric| {
                let is_part = metric.kind == Kind::Histogram && name == format!("{}_sum", metric.name);
                is_part || metric.name == name
            })
        };
        let names: Vec<&str> = names.collect();
        assert!(names.len() > 10, "{names:?}");
        assert!(names.iter().all(|name| known(name)), "{names:?}");
    }
}
