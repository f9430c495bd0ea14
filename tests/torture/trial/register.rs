//! The verdict on a register: every read, and what it holds in the end.
//!
//! Pure. One client writes, in its order; so a value's rank is its place in that order.

use super::history::{Deed, Disruption, Op, Outcome, Value};
use super::verdict::{Verdict, Wrong};
use std::collections::HashMap;
use std::time::Duration;

/// What is known of a register from some moment on: that this was written to it.
#[derive(Clone, Copy)]
struct Known<'a> {
    rank: u64,
    op: &'a Op,
}

/// A register without a value is older than all values.
fn rank(value: Option<Value>) -> u64 {
    value.map_or(0, |value| u64::from(value.order) + 1)
}

fn known<'a>(op: &'a Op) -> Option<Known<'a>> {
    match op.outcome {
        Outcome::Stored => Some(Known { rank: rank(Some(op.value)), op }),
        Outcome::Read(value) => Some(Known { rank: rank(value), op }),
        _ => None,
    }
}

fn newer<'a>(one: Option<Known<'a>>, other: Option<Known<'a>>) -> Option<Known<'a>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.rank > one.rank { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// Judges all reads, the last one being what was `held` when nobody wrote any more.
pub fn judge(
    key: usize,
    ops: &[&Op],
    held: Option<Value>,
    disruptions: &[&Disruption],
    verdict: &mut Verdict,
) {
    let sets = ops.iter().filter(|op| op.deed == Deed::Set).map(|op| (op.value, *op)).collect();
    let register = Register { key, sets, disruptions };
    // What each read's own connection knew.
    let mut by_session: HashMap<(u32, u32), Option<Known>> = HashMap::new();
    let mut in_order = ops.to_vec();
    in_order.sort_by_key(|op| op.value);
    let mut reads: Vec<(&Op, Option<Value>, Option<Known>)> = Vec::new();
    for op in in_order {
        let own = by_session.entry((op.value.client, op.session)).or_default();
        if let Outcome::Read(value) = op.outcome {
            reads.push((op, value, *own));
        }
        *own = newer(*own, known(op));
    }
    reads.sort_by_key(|(op, ..)| op.sent);
    // What anybody knew before a read was sent.
    let mut events: Vec<Known> = ops.iter().filter_map(|op| known(op)).collect();
    events.sort_by_key(|event| event.op.ended);
    let mut events = events.into_iter().peekable();
    let mut everybody: Option<Known> = None;
    for (op, value, own) in reads {
        while let Some(event) = events.next_if(|event| event.op.ended < op.sent) {
            everybody = newer(everybody, Some(event));
        }
        register.judge_read(&op.value.to_string(), value, op.ended, newer(everybody, own), verdict);
    }
    let newest = events.fold(everybody, |newest, event| newer(newest, Some(event)));
    let is_lost = register.judge_read("the end", held, Duration::MAX, newest, verdict);
    verdict.lost += u64::from(is_lost);
}

struct Register<'a> {
    key: usize,
    sets: HashMap<Value, &'a Op>,
    disruptions: &'a [&'a Disruption],
}

impl Register<'_> {
    /// Whether something newer was known and is lost with a primary.
    fn judge_read(
        &self,
        at: &str,
        value: Option<Value>,
        ended: Duration,
        newest: Option<Known>,
        verdict: &mut Verdict,
    ) -> bool {
        let mut is_late = false;
        if let Some(value) = value {
            match self.sets.get(&value) {
                None => {
                    verdict.find(self.key, Wrong::Invented, format!("at {at}: {value} was never written"))
                }
                Some(set) if !set.outcome.may_have_run() || set.sent > ended => {
                    let text = format!("at {at}: {value}, {:?}", set.outcome);
                    verdict.find(self.key, Wrong::RanThoughRefused, text);
                }
                // Nobody waited for it, so it may have been run at any time.
                Some(set) => is_late = set.outcome == Outcome::Cut,
            }
        }
        let Some(newest) = newest.filter(|newest| newest.rank > rank(value) && !is_late) else {
            return false;
        };
        let may_be_lost = |loss: &&Disruption| newest.op.sent <= loss.to && loss.from <= ended;
        if self.disruptions.iter().any(may_be_lost) {
            return true;
        }
        let shown = value.map_or("nothing".to_string(), |value| value.to_string());
        let text = format!("at {at}: {shown}, though {} knew of {}", newest.op.value, newest.rank - 1);
        verdict.find(self.key, Wrong::Stale, text);
        false
    }
}
