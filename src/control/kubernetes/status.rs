//! Status in a ConfigMap, for `kubectl get configmap slotgate-status -o yaml` and `slotgate status
//! --kubernetes`: written by the leader, read by whoever may.
//!
//! Written when something changed that is more than a number, and now and then, so that its age tells
//! whether anybody still looks.

use super::config_map::{ConfigMap, MAX_SIZE, SaveError};
use super::{KubernetesError, Place, Reporter, STATEFUL_SET};
use crate::control::host::host_name;
use crate::control::pods::Pods;
use crate::control::reconcile::{Phase, Report, Told};
use crate::control::report;
use crate::control::status::{Status, verdict};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::sleep;

/// How often it is looked whether something changed; no two writes are nearer.
const EVERY: Duration = Duration::from_secs(2);
/// How old it gets at most while somebody writes it.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// After a failure nothing is written for so long.
const REST: Duration = Duration::from_secs(10);
/// A person reads the first of them.
const MOST: usize = 50;

/// The ConfigMap's keys.
const SUMMARY: &str = "summary";
const NODES: &str = "nodes";
const PROBLEMS: &str = "problems";
const PLAN: &str = "plan";
const LEADER: &str = "leader";
const UPDATED: &str = "updated";
const JSON: &str = "status.json";

/// `slotgate-status` for the StatefulSet `redis`, `slotgate-status-NAME` for another.
pub fn status_name(stateful_set: &str) -> String {
    match stateful_set {
        STATEFUL_SET => "slotgate-status".into(),
        other => format!("slotgate-status-{other}"),
    }
}

/// Keeps the ConfigMap as long as this gateway leads.
pub(super) async fn keep(reporter: &Reporter) {
    let map = ConfigMap::new(&reporter.place, status_name(&reporter.place.stateful_set));
    let mut last: Option<(Value, Instant)> = None;
    loop {
        sleep(EVERY).await;
        let (report, seen) = (reporter.manage.report(), reporter.manage.seen());
        let Some(seen) = seen.filter(|_| reporter.is_leading() && report.phase != Phase::Starting) else {
            last = None;
            continue;
        };
        let pods = reporter.pods.borrow().clone();
        let now = steady(&report, &seen, &pods);
        if last.as_ref().is_some_and(|(last, at)| *last == now && at.elapsed() < HEARTBEAT) {
            continue;
        }
        let written = write(&map, show(&report, &seen, &pods, SystemTime::now()), last.is_some()).await;
        reporter.troubles.note("the status", written.as_ref().err());
        last = written.is_ok().then(|| (now, Instant::now()));
        if written.is_err() {
            sleep(REST).await;
        }
    }
}

/// One who did not write last reads first whose version is to be replaced.
async fn write(map: &ConfigMap, data: BTreeMap<String, String>, is_own: bool) -> Result<(), KubernetesError> {
    if is_own {
        match map.save(data.clone()).await {
            Ok(()) => return Ok(()),
            Err(SaveError::Kubernetes(error)) => return Err(error),
            Err(SaveError::Overtaken) => {}
        }
    }
    map.load().await?;
    match map.save(data).await {
        // Two write at once; the next look shows who leads.
        Ok(()) | Err(SaveError::Overtaken) => Ok(()),
        Err(SaveError::Kubernetes(error)) => Err(error),
    }
}

/// What is worth a write at once when it changes.
fn steady(report: &Report, seen: &Status, pods: &Pods) -> Value {
    let mut shards = report::shards(seen, Some(pods));
    let members = shards.as_array_mut().into_iter().flatten();
    for member in members.filter_map(|shard| shard["members"].as_array_mut()).flatten() {
        for number in ["keys", "memory_bytes", "lag_bytes"] {
            member[number] = Value::Null;
        }
    }
    let Report { phase, problems, findings, plan, .. } = report;
    json!({ "phase": phase, "shards": shards, "problems": problems, "findings": findings, "plan": plan })
}

/// The ConfigMap's text.
fn show(report: &Report, seen: &Status, pods: &Pods, now: SystemTime) -> BTreeMap<String, String> {
    let (mut summary, leader) = (summary(report, seen), host_name());
    cut(&mut summary);
    let report = &shorten(report.clone());
    let updated = humantime::format_rfc3339_seconds(now).to_string();
    let mut json = json!({
        "healthy": report.is_healthy,
        "phase": report.phase,
        "verdict": summary,
        "updated": updated,
        "leader": leader,
        "shards": report::shards(seen, Some(pods)),
        "problems": report.problems,
        "findings": report.findings,
        "plan": report.plan,
        "actions": report.actions,
    });
    let mut nodes = report::table(seen, Some(pods));
    let (problems, plan) = (problems(report), plan(report));
    let size = |json: &Value, nodes: &str| json.to_string().len() + nodes.len() + problems.len() + plan.len();
    if size(&json, &nodes) > MAX_SIZE {
        json["shards"] = Value::Null;
    }
    if size(&json, &nodes) > MAX_SIZE {
        nodes = "too many for a ConfigMap; ask a node: slotgate status HOST:PORT\n".into();
    }
    let data = [
        (SUMMARY, summary),
        (NODES, nodes),
        (PROBLEMS, problems),
        (PLAN, plan),
        (LEADER, leader),
        (UPDATED, updated),
        (JSON, json.to_string()),
    ];
    data.into_iter().map(|(key, text)| (key.to_string(), text)).collect()
}

fn summary(report: &Report, seen: &Status) -> String {
    let is_paused = report.phase == Phase::Paused;
    let paused = if is_paused { " slotgate is paused and changes nothing." } else { "" };
    if report.is_healthy {
        return verdict(seen, &[]).1 + paused;
    }
    let wrong: Vec<&Told> =
        report.problems.iter().chain(report.findings.iter().filter(|told| told.is_wrong)).collect();
    let first = wrong.first().map(|told| format!(" First: {}.", told.text)).unwrap_or_default();
    let next = match report.plan.len() {
        0 if is_paused => String::new(),
        0 => " No step mends it now.".into(),
        steps => format!(
            " {} of the repair {}.",
            counted(steps, "step"),
            if steps == 1 { "is due" } else { "are due" }
        ),
    };
    format!("NOT healthy ({}).{first}{next}{paused}", counted(wrong.len(), "problem"))
}

fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn problems(report: &Report) -> String {
    let mut text = String::new();
    for told in report.problems.iter().chain(&report.findings) {
        let mark = if told.is_wrong { "wrong" } else { "note" };
        text += &format!("{mark}: {} ({})\n", told.text, told.kind);
        if let Some(command) = &told.command {
            text += &format!("  what may help: {command}\n");
        }
    }
    or_none(text)
}

fn plan(report: &Report) -> String {
    or_none(report.plan.iter().map(|step| format!("{} ({})\n", step.action, step.reason)).collect())
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none\n".into() } else { text }
}

/// As much as a person reads.
fn shorten(mut report: Report) -> Report {
    for told in [&mut report.problems, &mut report.findings] {
        told.truncate(MOST);
        told.iter_mut().for_each(|told| cut(&mut told.text));
    }
    report.plan.truncate(MOST);
    report.plan.iter_mut().for_each(|step| cut(&mut step.action));
    // Of those the newest.
    report.actions.drain(..report.actions.len().saturating_sub(MOST));
    for done in &mut report.actions {
        cut(&mut done.action);
        done.error.iter_mut().for_each(cut);
    }
    report
}

fn cut(text: &mut String) {
    const LINE: usize = 1000;
    if let Some((end, _)) = text.char_indices().nth(LINE) {
        text.truncate(end);
        text.push('…');
    }
}

/// The status as the leader wrote it.
#[derive(Clone, PartialEq, Debug)]
pub struct Written {
    pub is_healthy: bool,
    pub summary: String,
    pub nodes: String,
    pub problems: String,
    pub plan: String,
    /// The leader's pod.
    pub leader: String,
    /// When it was written, by the leader's clock.
    pub updated: Option<SystemTime>,
    /// Everything, for programs.
    pub json: Value,
}

/// Reads what the leader wrote; `None` when nobody did.
///
/// # Errors
/// The API server is of no use.
pub async fn read_status(place: &Place) -> Result<Option<Written>, KubernetesError> {
    let data = ConfigMap::new(place, status_name(&place.stateful_set)).load().await?;
    Ok(data.map(|data| written(&data)))
}

/// What is not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lack {
    Namespace,
    /// With the names of those that are.
    StatefulSet(Vec<String>),
}

/// What of the place is not there, if anything is missing.
///
/// # Errors
/// The API server is of no use.
pub async fn lack(place: &Place) -> Result<Option<Lack>, KubernetesError> {
    let sets: Api<StatefulSet> = Api::namespaced(place.client.clone(), &place.namespace);
    let found = sets.get_opt(&place.stateful_set).await;
    let found = found.map_err(|error| KubernetesError::of(&error, "get", "statefulsets"))?;
    if found.is_some() {
        return Ok(None);
    }
    // Most may not ask for namespaces; then nothing is known of them.
    let namespaces: Api<Namespace> = Api::all(place.client.clone());
    if matches!(namespaces.get_opt(&place.namespace).await, Ok(None)) {
        return Ok(Some(Lack::Namespace));
    }
    let others = sets.list(&ListParams::default().limit(MOST as u32)).await;
    let others = others.map_err(|error| KubernetesError::of(&error, "list", "statefulsets"))?;
    Ok(Some(Lack::StatefulSet(others.into_iter().filter_map(|set| set.metadata.name).collect())))
}

fn written(data: &BTreeMap<String, String>) -> Written {
    let text = |key: &str| data.get(key).cloned().unwrap_or_default();
    let json: Value = serde_json::from_str(&text(JSON)).unwrap_or_default();
    Written {
        is_healthy: json["healthy"].as_bool() == Some(true),
        summary: text(SUMMARY),
        nodes: text(NODES),
        problems: text(PROBLEMS),
        plan: text(PLAN),
        leader: text(LEADER),
        updated: humantime::parse_rfc3339(&text(UPDATED)).ok(),
        json,
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
