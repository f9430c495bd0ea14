//! What is told of reports that come every second.

use super::*;

fn report(phase: Phase) -> Report {
    Report {
        phase,
        is_healthy: phase == Phase::Healthy,
        healthy_seconds_ago: None,
        problems: Vec::new(),
        findings: Vec::new(),
        plan: Vec::new(),
        actions: Vec::new(),
    }
}

fn done(number: u64, reason: &'static str, error: Option<&str>) -> Done {
    let result = if error.is_some() { "failed" } else { "done" };
    Done { number, at: 0.0, action: format!("step {number}"), reason, result, error: error.map(Into::into) }
}

fn told(kind: &'static str, text: &str, is_wrong: bool) -> Told {
    Told { kind, text: text.into(), command: None, is_wrong }
}

/// Looks every second; what was told, second by second.
struct Watcher {
    news: News,
    now: Instant,
}

impl Watcher {
    fn new() -> Watcher {
        let now = Instant::now();
        Watcher { news: News::new(now), now }
    }

    fn look(&mut self, report: &Report, seconds: u64) -> Vec<Item> {
        let mut items = Vec::new();
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            items.extend(self.news.learn(report, self.now));
        }
        items
    }
}

#[test]
fn a_repair_of_six_nodes_is_one_event_for_each_reason_and_result() {
    let mut watcher = Watcher::new();
    let mut repair = report(Phase::Healing);
    let mut items = Vec::new();
    for number in 1..=30 {
        let error = (number % 10 == 0).then_some("no answer");
        repair.actions.push(done(number, "address-changed", error));
        if number % 6 == 0 {
            items.extend(watcher.look(&repair, 1));
        }
    }
    repair.phase = Phase::Healthy;
    items.extend(watcher.look(&repair, 20));
    let shown: Vec<(&str, bool)> = items.iter().map(|item| (item.reason.as_str(), item.is_warning)).collect();
    assert_eq!(
        shown,
        [
            ("ClusterHealing", false),
            ("AddressChanged", false),
            ("AddressChangedFailed", true),
            ("ClusterHealthy", false)
        ]
    );
    assert!(items[1].note.starts_with("27 steps done: step 1; step 2;"), "{}", items[1].note);
    assert!(items[2].note.contains("could not step 10: no answer"), "{}", items[2].note);
}

#[test]
fn steps_that_never_end_are_told_all_the_same() {
    let mut watcher = Watcher::new();
    let mut repair = report(Phase::Healing);
    let mut count = 0;
    for number in 1..=40 {
        repair.actions.push(done(number, "lost-link", None));
        count += watcher.look(&repair, 1).iter().filter(|item| item.reason == "LostLink").count();
    }
    assert_eq!(count, 3);
}

#[test]
fn a_finding_is_told_once_it_lasts_and_again_after_long() {
    let mut watcher = Watcher::new();
    let calm = report(Phase::Healthy);
    watcher.look(&calm, 5);
    let mut odd = calm.clone();
    odd.findings.push(told("pod-trouble", "redis-3 does not run", true));
    assert_eq!(watcher.look(&odd, 1), []);
    assert_eq!(watcher.look(&calm, 5), [], "it lasted a moment only");
    let items = watcher.look(&odd, 60);
    assert_eq!(items.len(), 1);
    assert_eq!((items[0].reason.as_str(), items[0].is_warning), ("PodTrouble", true));
    watcher.look(&calm, 5);
    assert_eq!(watcher.look(&odd, 60), [], "it comes and goes");
    assert_eq!(watcher.look(&odd, 1800).len(), 1);
}

#[test]
fn what_could_not_be_told_is_told_at_the_next_look() {
    let mut watcher = Watcher::new();
    let mut odd = report(Phase::Waiting);
    odd.findings.push(told("stranger", "a node", false));
    let items = watcher.look(&odd, 3);
    assert_eq!(items.len(), 2);
    items.iter().for_each(|item| watcher.news.failed(item));
    assert_eq!(watcher.look(&odd, 1), items);
    assert_eq!(watcher.look(&odd, 10), []);
}

#[test]
fn a_phase_that_does_not_last_is_not_told_and_waiting_says_what_is_wrong() {
    let mut watcher = Watcher::new();
    for _ in 0..20 {
        assert_eq!(watcher.look(&report(Phase::Healing), 1), []);
        assert_eq!(watcher.look(&report(Phase::Waiting), 1), []);
    }
    let mut waiting = report(Phase::Waiting);
    waiting.problems.extend((0..5).map(|n| told("failed", &format!("node {n} has failed"), true)));
    let items = watcher.look(&waiting, 5);
    assert_eq!(items[0].reason, "ClusterWaiting");
    assert!(items[0].note.contains("Wrong (5): node 0 has failed; node 1 has failed;"), "{}", items[0].note);
}

#[test]
fn events_are_few_however_much_there_is_to_tell() {
    let mut watcher = Watcher::new();
    let mut count = 0;
    for minute in 0..10 {
        let mut odd = report(Phase::Waiting);
        odd.findings.extend((0..100).map(|n| told("stranger", &format!("{minute} {n}"), false)));
        count += watcher.look(&odd, 60).len();
    }
    assert!(count <= 25 + 60, "{count}");
    assert!(count > 25, "it goes on: {count}");
}

#[test]
fn who_begins_to_tell_does_not_tell_what_was_tried_before() {
    let mut watcher = Watcher::new();
    let mut calm = report(Phase::Healthy);
    calm.actions = (1..=100).map(|n| done(n, "newcomer", None)).collect();
    watcher.news.skip(&calm);
    let reasons: Vec<String> = watcher.look(&calm, 20).into_iter().map(|item| item.reason).collect();
    assert_eq!(reasons, ["ClusterHealthy"]);
}

#[test]
fn notes_fit_and_are_cut_between_characters() {
    let finding = told("stranger", &"ü".repeat(2000), true);
    let note = finding_item(&finding).note;
    assert!(note.len() <= 1000 && note.ends_with("ü…"), "{note}");
}
