//! News: what in the manager's reports is worth an Event, each thing once and steps by the dozen. Pure:
//! time is handed in.
//!
//! What lasts only a moment is not told, what lasts is told again after a while: Kubernetes forgets Events
//! after an hour.

use crate::control::reconcile::{Done, Phase, Report, Told};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// What is seen for so long is told.
const LASTS: Duration = Duration::from_secs(2);
/// Steps are told when none was tried for as long as [`LASTS`], and at the latest after this.
const GATHERED: Duration = Duration::from_secs(10);
/// What still is so is told again after this.
const AGAIN: Duration = Duration::from_secs(30 * 60);
/// A note may have 1024 bytes
/// (<https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>).
const NOTE: usize = 1000;
/// So many at once, and then one for each of these: what an API server lets a source of Events write is less
/// than what a cluster in disorder has to tell.
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(10);

/// One thing to tell.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Item {
    /// In CamelCase.
    pub(super) reason: String,
    /// What was being done, in CamelCase too.
    pub(super) action: &'static str,
    pub(super) note: String,
    pub(super) is_warning: bool,
}

/// What was told, and what is about to be.
#[derive(Debug)]
pub(super) struct News {
    /// Since when what is not yet told is so.
    seen: HashMap<Item, Instant>,
    told: HashMap<Item, Instant>,
    phase: Option<(Phase, Instant)>,
    told_phase: Option<Phase>,
    /// The last step that was taken in.
    number: u64,
    steps: Vec<(Done, Instant)>,
    bucket: Bucket,
}

impl News {
    pub(super) fn new(now: Instant) -> News {
        News {
            seen: HashMap::new(),
            told: HashMap::new(),
            phase: None,
            told_phase: None,
            number: 0,
            steps: Vec::new(),
            bucket: Bucket { left: BURST, at: now },
        }
    }

    /// What is to be told now.
    pub(super) fn learn(&mut self, report: &Report, now: Instant) -> Vec<Item> {
        let mut items = self.steps(report, now);
        items.extend(self.findings(report, now));
        items.extend(self.phase(report, now));
        items.retain(|item| {
            let is_let = self.bucket.take(now);
            if !is_let {
                tracing::debug!(
                    reason = item.reason,
                    note = item.note,
                    "too many Events; this one is not written"
                );
            }
            is_let
        });
        items
    }

    /// Somebody else tells now, or it is not known to whom: what was tried meanwhile is no news any more.
    pub(super) fn skip(&mut self, report: &Report) {
        self.number = newest(report);
        self.steps.clear();
        (self.seen, self.told, self.phase, self.told_phase) = Default::default();
    }

    /// It could not be told.
    pub(super) fn failed(&mut self, item: &Item) {
        self.told.remove(item);
        if item.action == PHASE {
            self.told_phase = None;
        }
    }

    fn steps(&mut self, report: &Report, now: Instant) -> Vec<Item> {
        let new = report.actions.iter().filter(|done| done.number > self.number);
        self.steps.extend(new.map(|done| (done.clone(), now)));
        self.number = newest(report).max(self.number);
        let ago = |step: Option<&(Done, Instant)>| step.map(|(_, at)| now.saturating_duration_since(*at));
        let is_quiet = ago(self.steps.last()).is_some_and(|ago| ago >= LASTS);
        let is_late = ago(self.steps.first()).is_some_and(|ago| ago >= GATHERED);
        if !is_quiet && !is_late {
            return Vec::new();
        }
        let mut groups: BTreeMap<(bool, &'static str), Vec<Done>> = BTreeMap::new();
        for (done, _) in self.steps.drain(..) {
            groups.entry((done.error.is_some(), done.reason)).or_default().push(done);
        }
        groups
            .into_iter()
            .map(|((has_failed, reason), steps)| step_item(has_failed, reason, &steps))
            .collect()
    }

    fn findings(&mut self, report: &Report, now: Instant) -> Vec<Item> {
        self.told.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        let items: Vec<Item> = report.findings.iter().map(finding_item).collect();
        self.seen.retain(|item, _| items.contains(item));
        let mut due = Vec::new();
        for item in items {
            let since = *self.seen.entry(item.clone()).or_insert(now);
            if now.saturating_duration_since(since) >= LASTS && !self.told.contains_key(&item) {
                self.told.insert(item.clone(), now);
                due.push(item);
            }
        }
        due
    }

    fn phase(&mut self, report: &Report, now: Instant) -> Option<Item> {
        let since = match self.phase {
            Some((phase, since)) if phase == report.phase => since,
            _ => now,
        };
        self.phase = Some((report.phase, since));
        let lasts = now.saturating_duration_since(since) >= LASTS;
        if !lasts || report.phase == Phase::Starting || self.told_phase == Some(report.phase) {
            return None;
        }
        self.told_phase = Some(report.phase);
        Some(phase_item(report))
    }
}

/// So many, and then one at a time.
#[derive(Debug)]
struct Bucket {
    left: u32,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.saturating_duration_since(self.at) >= REFILL {
            self.left += 1;
            self.at += REFILL;
        }
        if self.left == BURST {
            self.at = now;
        }
        let is_let = self.left > 0;
        self.left -= u32::from(is_let);
        is_let
    }
}

fn newest(report: &Report) -> u64 {
    report.actions.last().map_or(0, |done| done.number)
}

/// The `action` of phase changes.
const PHASE: &str = "Look";

fn step_item(has_failed: bool, reason: &str, steps: &[Done]) -> Item {
    let each = |step: &Done| match &step.error {
        Some(error) => format!("could not {}: {error}", step.action),
        None => step.action.clone(),
    };
    let texts: Vec<String> = steps.iter().map(each).collect();
    let note = match (texts.as_slice(), has_failed) {
        ([one], _) => one.clone(),
        (several, true) => format!("{} steps failed: {}", several.len(), several.join("; ")),
        (several, false) => format!("{} steps done: {}", several.len(), several.join("; ")),
    };
    let end = if has_failed { "Failed" } else { "" };
    Item { reason: camel(reason) + end, action: "Act", note: cut(note), is_warning: has_failed }
}

fn finding_item(told: &Told) -> Item {
    let note = match &told.command {
        Some(command) => format!("{} What may help: {command}", sentence(&told.text)),
        None => told.text.clone(),
    };
    Item { reason: camel(told.kind), action: "Find", note: cut(note), is_warning: told.is_wrong }
}

fn phase_item(report: &Report) -> Item {
    let wrong: Vec<&str> = report.problems.iter().map(|told| told.text.as_str()).collect();
    let wrong = match wrong.len() {
        0 => String::new(),
        count @ 1..=3 => format!(" Wrong ({count}): {}.", wrong.join("; ")),
        count => format!(" Wrong ({count}): {}; and more.", wrong[..3].join("; ")),
    };
    let text = match report.phase {
        Phase::Starting => "The cluster was not looked at yet.",
        Phase::Healthy => "The cluster is in order.",
        Phase::Forming => "The cluster is being formed.",
        Phase::Healing => "The cluster is being repaired.",
        Phase::Waiting => "The cluster is not in order, and no step mends it now.",
        Phase::Paused => "Nothing is changed while slotgate is paused.",
        Phase::Following => "Another gateway acts.",
    };
    let reason = format!("Cluster{:?}", report.phase);
    let is_warning = report.phase == Phase::Waiting;
    Item { reason, action: PHASE, note: cut(format!("{text}{wrong}")), is_warning }
}

/// `address-changed` → `AddressChanged`
fn camel(word: &str) -> String {
    let parts = word.split('-').map(|part| {
        let mut chars = part.chars();
        chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
    });
    parts.collect()
}

fn sentence(text: &str) -> String {
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{text}{end}")
}

/// What does not fit is left out at the end.
fn cut(mut text: String) -> String {
    if text.len() > NOTE {
        let end = (0..=NOTE - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
#[path = "news_tests.rs"]
mod tests;
