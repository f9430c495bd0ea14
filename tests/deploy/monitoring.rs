//! Dashboard and alert rules ask for metrics that there are, by labels and values that these have.

use crate::render::{deploy, documents};
use serde_json::Value;
use slotgate::telemetry::table::{Kind, Metric, TABLE};
use slotgate::telemetry::{Close, Family, Outcome, Reason, RedirectKind};
use std::collections::BTreeSet;
use std::fs;

/// Labels that Prometheus adds, and `le` of histograms.
const ADDED: [&str; 5] = ["namespace", "pod", "instance", "job", "le"];

/// Every expression, with where it stands.
fn expressions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for document in documents(&deploy().join("monitoring/alerts.yaml")) {
        collect("alerts", &document, &mut found);
    }
    let text = fs::read_to_string(deploy().join("monitoring/dashboard.json")).unwrap();
    collect("dashboard", &serde_json::from_str(&text).unwrap(), &mut found);
    found
}

fn collect(place: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" => found.push((place.into(), text.clone())),
                    // A template variable's query, in a function of Grafana's.
                    Value::String(text) if text.starts_with("label_values(") => {
                        found.push((place.into(), text.clone()));
                    }
                    _ => collect(&format!("{place}.{name}"), value, found),
                }
            }
        }
        Value::Array(items) => {
            for (ix, item) in items.iter().enumerate() {
                collect(&format!("{place}[{ix}]"), item, found);
            }
        }
        _ => {}
    }
}

/// The names in an expression that look like metrics of ours, each with its selector.
fn selections(expression: &str) -> Vec<(String, String)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_name) {
        let end = rest[start..].find(|c| !is_name(c)).map_or(rest.len(), |length| start + length);
        let name = &rest[start..end];
        rest = &rest[end..];
        if !["slotgate_", "process_"].iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let mut selector = "";
        if let Some(inner) = rest.strip_prefix('{') {
            let end = inner.find('}').unwrap();
            (selector, rest) = (&inner[..end], &inner[end + 1..]);
        }
        found.push((name.into(), selector.into()));
    }
    found
}

/// A histogram's series have names of their own.
fn metric(series: &str) -> Option<&'static Metric> {
    let by_name = |name: &str| TABLE.iter().copied().find(|metric| metric.name == name);
    by_name(series).filter(|metric| metric.kind != Kind::Histogram).or_else(|| {
        let parts = ["_bucket", "_sum", "_count"];
        let base = parts.iter().find_map(|part| series.strip_suffix(part))?;
        by_name(base).filter(|metric| metric.kind == Kind::Histogram)
    })
}

/// What a label's value can be, where that is known.
fn values(metric: &Metric, label: &str) -> Option<Vec<&'static str>> {
    Some(match (metric.name, label) {
        (_, "family") => Family::ALL.map(Family::as_str).to_vec(),
        (_, "outcome") => Outcome::ALL.map(Outcome::as_str).to_vec(),
        (_, "kind") => RedirectKind::ALL.map(RedirectKind::as_str).to_vec(),
        ("slotgate_refused_total", "reason") => Reason::ALL.map(Reason::as_str).to_vec(),
        ("slotgate_clients_closed_total", "reason") => Close::ALL.map(Close::as_str).to_vec(),
        ("slotgate_node_health", "health") => vec!["ok", "suspect", "failed"],
        ("slotgate_manage_steps_total", "result") => vec!["done", "already-done", "failed"],
        _ => return None,
    })
}

/// What is wrong with an expression.
fn wrong(expression: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let selections = selections(expression);
    if selections.is_empty() {
        wrong.push("asks for nothing of slotgate's".into());
    }
    let mut labels: BTreeSet<&str> = ADDED.into();
    for (series, selector) in &selections {
        let Some(metric) = metric(series) else {
            wrong.push(format!("there is no {series}"));
            continue;
        };
        labels.extend(metric.labels);
        for matcher in selector.split(',').filter(|matcher| !matcher.is_empty()) {
            let (label, value) = matcher.split_once(['=', '!']).unwrap();
            if !ADDED.contains(&label) && !metric.labels.contains(&label) {
                wrong.push(format!("{series} has no label {label}"));
            }
            let value = value.trim_matches(['=', '~', '"']);
            let known = values(metric, label);
            for value in
                value.split('|').filter(|value| known.as_ref().is_some_and(|known| !known.contains(value)))
            {
                wrong.push(format!("{series}: {label} is never {value}"));
            }
        }
    }
    for list in expression.split("by (").skip(1).chain(expression.split("on (").skip(1)) {
        for label in list.split(')').next().unwrap().split(',').map(str::trim) {
            if !labels.contains(label) {
                wrong.push(format!("nothing has a label {label}"));
            }
        }
    }
    wrong
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
    let expressions = expressions();
    let of = |place: &str| expressions.iter().filter(|(at, _)| at.starts_with(place)).count();
    assert!(of("alerts") > 10 && of("dashboard") > 20, "{} and {}", of("alerts"), of("dashboard"));
    for (place, expression) in expressions {
        assert_eq!(wrong(&expression), [""; 0], "{place}: {expression}");
    }
}

#[test]
fn a_wrong_name_label_or_value_is_found() {
    for (expression, what) in [
        ("rate(slotgate_requests[5m])", "there is no slotgate_requests"),
        ("slotgate_request_duration_seconds", "there is no slotgate_request_duration_seconds"),
        ("slotgate_held{shard=\"a\"}", "slotgate_held has no label shard"),
        ("slotgate_requests_total{outcome=~\"ok|bad\"}", "slotgate_requests_total: outcome is never bad"),
        ("sum by (primary) (slotgate_held)", "nothing has a label primary"),
        ("up == 0", "asks for nothing of slotgate's"),
    ] {
        assert_eq!(wrong(expression), [what], "{expression}");
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    let rules = documents(&deploy().join("monitoring/alerts.yaml")).remove(0);
    let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
    let mut names = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().unwrap().to_string();
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}");
        for text in ["summary", "description"] {
            assert!(
                rule["annotations"][text].as_str().is_some_and(|text| !text.is_empty()),
                "{name}: {text}"
            );
        }
        assert!(names.insert(name.clone()), "{name} is there twice");
    }
}

#[test]
fn panels_do_not_overlap_and_have_ids_of_their_own() {
    let text = fs::read_to_string(deploy().join("monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()));
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24 && taken.insert((x, y)), "{} overlaps another", panel["title"]);
            }
        }
    }
}
