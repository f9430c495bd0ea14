//! What the status ConfigMap says, and when it is written.

use super::*;
use crate::control::observe::Memory;
use crate::control::pods::{Pod, StatefulSet};
use crate::control::reconcile::Planned;
use crate::control::status::{Member, MemberState, ShardStatus};
use crate::topology::{Slot, SlotRange};

fn report(is_healthy: bool) -> Report {
    Report {
        phase: if is_healthy { Phase::Healthy } else { Phase::Healing },
        is_healthy,
        healthy_seconds_ago: None,
        problems: Vec::new(),
        findings: Vec::new(),
        plan: Vec::new(),
        actions: Vec::new(),
    }
}

fn told(kind: &'static str, text: &str, is_wrong: bool) -> Told {
    Told { kind, text: text.into(), command: Some("kubectl x".into()), is_wrong }
}

fn seen(keys: u64) -> Status {
    let state = MemberState {
        keys,
        memory: Memory { used: 1000 + keys, max: 0 },
        is_link_up: None,
        lag: None,
        server: "redis 7.0.15".into(),
    };
    let member = Member {
        id: "a".repeat(40).parse().unwrap(),
        addr: Some("10.244.1.5:6379".parse().unwrap()),
        is_primary: true,
        is_beside_primary: false,
        state: Some(state),
    };
    Status { shards: vec![ShardStatus { slots: SlotRange::cover(Slot::all()), members: vec![member] }] }
}

fn pods() -> Pods {
    let pod = Pod {
        name: "redis-0".into(),
        uid: "u".into(),
        ordinal: 0,
        addr: Some("10.244.1.5:6379".parse().unwrap()),
        host: Some("n1".into()),
        is_ready: true,
        is_running: true,
        ..Pod::default()
    };
    Pods { pods: vec![pod], set: Some(StatefulSet { replicas: 1, ..StatefulSet::default() }) }
}

#[test]
fn what_is_written_can_be_read_by_people_and_by_programs() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let mut odd = report(false);
    odd.problems.push(told("failed", "10.0.0.1:6379 has failed", true));
    odd.findings.push(told("stranger", "a node of others", false));
    odd.plan.push(Planned { action: "let a meet b".into(), reason: "address-changed" });
    let data = show(&odd, &seen(5), &pods(), now);
    assert_eq!(
        data[SUMMARY],
        "NOT healthy (1 problem). First: 10.0.0.1:6379 has failed. 1 step of the repair is due."
    );
    let line = data[NODES].lines().nth(1).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(
        words,
        [
            "0-16383",
            "16384",
            "10.244.1.5:6379",
            "redis-0",
            "n1",
            "aaaaaaaa",
            "primary",
            "5",
            "1005",
            "redis",
            "7.0.15"
        ]
    );
    assert!(data[PROBLEMS].starts_with("wrong: 10.0.0.1:6379 has failed (failed)\n"), "{}", data[PROBLEMS]);
    assert!(data[PROBLEMS].contains("note: a node of others (stranger)\n"), "{}", data[PROBLEMS]);
    assert_eq!(
        (data[PLAN].as_str(), data[UPDATED].as_str()),
        ("let a meet b (address-changed)\n", "2026-01-01T00:00:00Z")
    );

    let read = written(&data);
    assert_eq!((read.is_healthy, read.updated, &read.summary), (false, Some(now), &data[SUMMARY]));
    assert_eq!(read.json["shards"][0]["members"][0]["pod"], "redis-0");
    assert!(written(&show(&report(true), &seen(5), &pods(), now)).is_healthy);
    assert!(!written(&BTreeMap::new()).is_healthy, "somebody emptied it");
}

#[test]
fn numbers_alone_are_no_reason_to_write_at_once() {
    let before = steady(&report(true), &seen(1), &pods());
    assert_eq!(steady(&report(true), &seen(2), &pods()), before);
    let mut odd = report(true);
    odd.findings.push(told("stranger", "a node of others", false));
    assert_ne!(steady(&odd, &seen(1), &pods()), before);
    assert_ne!(steady(&report(true), &seen(1), &Pods::default()), before);
}

#[test]
fn a_paused_manager_says_so() {
    let paused = Report { phase: Phase::Paused, ..report(true) };
    let text = summary(&paused, &seen(5));
    assert!(text.starts_with("Healthy: 1 shards") && text.ends_with("changes nothing."), "{text}");
}

#[test]
fn the_status_of_a_thousand_nodes_in_disorder_fits_into_a_config_map() {
    let mut all = seen(1);
    let shard = all.shards[0].clone();
    all.shards = std::iter::repeat_n(shard, 4000).collect();
    let mut odd = report(false);
    odd.problems = (0..200).map(|_| told("failed", &"x".repeat(100_000), true)).collect();
    let data = show(&odd, &all, &Pods::default(), SystemTime::now());
    let size: usize = data.iter().map(|(key, text)| key.len() + text.len()).sum();
    assert!(size < 1 << 20, "{size}");
    assert!(data[SUMMARY].starts_with("NOT healthy"));
}

#[test]
fn the_tutorials_stateful_set_has_the_short_name() {
    assert_eq!(
        (status_name("redis"), status_name("cache")),
        ("slotgate-status".into(), "slotgate-status-cache".into())
    );
}
