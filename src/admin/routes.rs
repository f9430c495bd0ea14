//! Which path answers what. Reads shared state, changes nothing.

use super::readiness::readiness;
use super::scrape::{process_samples, topology_samples};
use super::topology::{TopologyReport, report};
use crate::control::refresh::RefreshStatus;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;
use crate::topology::SharedTopology;
use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::{Router, routing::get};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the answers are made of.
#[derive(Clone)]
pub struct State {
    pub topology: Arc<SharedTopology>,
    /// What the last look at the cluster told.
    pub refresh: Arc<RefreshStatus>,
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

pub(super) fn routes(state: State) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/api/topology", get(topology))
        .with_state(state)
}

async fn metrics(extract::State(state): extract::State<State>) -> impl IntoResponse {
    let snapshot = state.topology.load();
    let mut samples = topology_samples(state.shutdown.phase(), &snapshot, state.topology_age());
    samples.extend(process_samples(state.started.elapsed()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render(&samples))
}

/// Alive is who answers: restarting helps against nothing else that could be seen from here.
async fn livez() -> &'static str {
    "alive\n"
}

async fn readyz(extract::State(state): extract::State<State>) -> (StatusCode, String) {
    match readiness(state.shutdown.phase(), &state.topology.load()) {
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
