//! A history → what is wrong with it.
//!
//! Pure. Knows what Redis itself may lose: when a primary is lost, what it acknowledged last. That is the
//! end of what was written until then, never a piece out of the middle, and nothing is ever there twice.

use super::history::{Deed, Disruption, Held, History, Kind, Op, Outcome, Value};
use super::register;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

/// What must never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Acknowledged, gone, and no primary was lost.
    Lost,
    /// Acknowledged and gone, and what was written after it on the same primary is there.
    Hole,
    Twice,
    /// Not in the order in which it was asked for.
    Disordered,
    /// Nobody wrote it.
    Invented,
    /// The client was told that it was not run.
    RanThoughRefused,
    /// A read gave something older than what was known to be there.
    Stale,
    /// The number in the reply is not that of its place.
    Misnumbered,
    /// A reply, or a key, that is none of the above.
    Strange,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug)]
pub struct Finding {
    pub key: usize,
    pub wrong: Wrong,
    pub text: String,
}

/// A history's sums, and what is wrong.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub requests: usize,
    pub refused: usize,
    pub unknown: usize,
    pub cut: usize,
    /// Acknowledged by a primary that was lost before it replicated them; of counters at least so many.
    pub lost: u64,
    pub longest: Duration,
    /// The errors that clients saw, without their details, and how often.
    pub errors: BTreeMap<String, usize>,
    pub findings: Vec<Finding>,
}

impl Verdict {
    pub(super) fn find(&mut self, key: usize, wrong: Wrong, text: String) {
        self.findings.push(Finding { key, wrong, text });
    }

    pub fn has(&self, wrong: Wrong) -> bool {
        self.findings.iter().any(|finding| finding.wrong == wrong)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, longest {:.0?}", self.requests, self.longest)?;
        let counted = [
            (self.refused as u64, "refused"),
            (self.unknown as u64, "of unknown outcome"),
            (self.cut as u64, "cut off with their connection"),
            (self.lost, "acknowledged but not replicated, lost"),
            (self.findings.len() as u64, "WRONG"),
        ];
        for (error, count) in &self.errors {
            write!(f, " [{count} x {error}]")?;
        }
        for (count, what) in counted.iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}

/// Judges a whole history.
pub fn judge(history: &History) -> Verdict {
    let mut verdict = Verdict { requests: history.ops.len(), ..Verdict::default() };
    let mut by_key: Vec<Vec<&Op>> = history.keys.iter().map(|_| Vec::new()).collect();
    for op in &history.ops {
        by_key[op.key].push(op);
        let told = match &op.outcome {
            Outcome::Refused(text) => (&mut verdict.refused, Some(text)),
            Outcome::Unknown(text) => (&mut verdict.unknown, Some(text)),
            Outcome::Cut => (&mut verdict.cut, None),
            Outcome::Strange(text) => {
                verdict.find(op.key, Wrong::Strange, format!("{}: {text}", op.value));
                continue;
            }
            Outcome::Stored | Outcome::Grown(_) | Outcome::Read(_) => {
                verdict.longest = verdict.longest.max(op.ended.saturating_sub(op.sent));
                continue;
            }
        };
        *told.0 += 1;
        if let Some(text) = told.1 {
            let text = text.split([';', '(', ',']).next().unwrap_or_default();
            *verdict.errors.entry(text.trim().to_string()).or_default() += 1;
        }
    }
    for (ix, (key, held)) in history.keys.iter().zip(&history.held).enumerate() {
        let disruptions: Vec<&Disruption> =
            history.disruptions.iter().filter(|disruption| disruption.places.contains(&key.place)).collect();
        let ops = &by_key[ix];
        match (key.kind, held) {
            (Kind::Counter, Held::Number(count)) => {
                judge_counter(ix, ops, *count, !disruptions.is_empty(), &mut verdict);
            }
            (Kind::List | Kind::Text, Held::Values(values)) => {
                judge_values(ix, key.kind, ops, values, &disruptions, &mut verdict);
            }
            (Kind::Register, Held::One(value)) => {
                register::judge(ix, ops, *value, &disruptions, &mut verdict);
            }
            (_, held) => verdict.find(ix, Wrong::Strange, format!("{} holds {held:?}", key.name)),
        }
    }
    verdict
}

fn judge_counter(key: usize, ops: &[&Op], count: u64, is_disrupted: bool, verdict: &mut Verdict) {
    let acknowledged = ops.iter().filter(|op| op.outcome.is_done()).count() as u64;
    let most = ops.iter().filter(|op| op.outcome.may_have_run()).count() as u64;
    if count > most {
        verdict.find(key, Wrong::Twice, format!("{count} counted, and only {most} may have run"));
    }
    if count < acknowledged && is_disrupted {
        verdict.lost += acknowledged - count;
    } else if count < acknowledged {
        verdict.find(key, Wrong::Lost, format!("{count} counted, and {acknowledged} acknowledged"));
    }
    if is_disrupted {
        return;
    }
    let mut turns: Vec<(u64, &Op)> = ops.iter().filter_map(|op| Some((grown(op)?, *op))).collect();
    turns.sort_by_key(|(turn, _)| *turn);
    for pair in turns.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let text = format!("{} and {} were both told {}", pair[0].1.value, pair[1].1.value, pair[0].0);
        verdict.find(key, Wrong::Misnumbered, text);
    }
    if let Some((turn, op)) = turns.last().filter(|(turn, _)| *turn > count) {
        verdict.find(key, Wrong::Misnumbered, format!("{} was told {turn}, and it is {count}", op.value));
    }
    judge_order(key, turns.iter().map(|(_, op)| *op), verdict);
}

fn judge_values(
    key: usize,
    kind: Kind,
    ops: &[&Op],
    values: &[Value],
    disruptions: &[&Disruption],
    verdict: &mut Verdict,
) {
    let adds: HashMap<Value, &Op> =
        ops.iter().filter(|op| op.deed == Deed::Add).map(|op| (op.value, *op)).collect();
    let mut there: HashMap<Value, usize> = HashMap::new();
    let mut size = 0;
    for (place, value) in values.iter().enumerate() {
        if let Some(first) = there.insert(*value, place) {
            verdict.find(key, Wrong::Twice, format!("{value} is at {first} and at {place}"));
        }
        size += if kind == Kind::List { 1 } else { value.to_string().len() as u64 + 1 };
        match adds.get(value) {
            None => verdict.find(key, Wrong::Invented, format!("{value} was never written")),
            Some(op) if !op.outcome.may_have_run() => {
                verdict.find(key, Wrong::RanThoughRefused, format!("{value}: {:?}", op.outcome));
            }
            Some(op) if disruptions.is_empty() && grown(op).is_some_and(|told| told != size) => {
                let text = format!("{value} was told {:?}, and its place is {size}", op.outcome);
                verdict.find(key, Wrong::Misnumbered, text);
            }
            Some(_) => {}
        }
    }
    judge_order(key, values.iter().filter_map(|value| adds.get(value).copied()), verdict);
    let done: Vec<&Op> = adds.values().copied().filter(|op| op.outcome.is_done()).collect();
    // For each loss of a primary: when the last of what outlived it was sent, of what was acknowledged before.
    let last_kept: Vec<Duration> = disruptions
        .iter()
        .map(|disruption| {
            let kept = done.iter().filter(|op| there.contains_key(&op.value));
            kept.filter(|op| op.ended < disruption.from).map(|op| op.sent).max().unwrap_or_default()
        })
        .collect();
    for op in done.iter().filter(|op| !there.contains_key(&op.value)) {
        let mut before = disruptions.iter().zip(&last_kept).filter(|(loss, _)| op.sent <= loss.to).peekable();
        if before.peek().is_none() {
            verdict.find(key, Wrong::Lost, format!("{} was acknowledged at {:.3?}", op.value, op.ended));
        } else if before.all(|(_, last_kept)| op.ended < *last_kept) {
            let text = format!("{} was acknowledged at {:.3?}; later ones are there", op.value, op.ended);
            verdict.find(key, Wrong::Hole, text);
        } else {
            verdict.lost += 1;
        }
    }
}

/// Requests as they were run, one after the other: none may have been sent after the end of one behind it.
///
/// What ended with its connection, nobody waited for: it may have been run late.
fn judge_order<'a>(key: usize, run: impl Iterator<Item = &'a Op>, verdict: &mut Verdict) {
    let mut latest: Option<&Op> = None;
    let mut of_client: HashMap<u32, &Op> = HashMap::new();
    for op in run.filter(|op| op.outcome != Outcome::Cut) {
        let own = of_client.insert(op.value.client, op).filter(|own| own.value.order > op.value.order);
        let other = latest.filter(|latest| op.outcome.is_done() && op.is_before(latest));
        if let Some(before) = own.or(other) {
            let text = format!("{} stands behind {}, which was sent later", op.value, before.value);
            verdict.find(key, Wrong::Disordered, text);
        }
        if latest.is_none_or(|latest| latest.sent < op.sent) {
            latest = Some(op);
        }
    }
}

fn grown(op: &Op) -> Option<u64> {
    match op.outcome {
        Outcome::Grown(number) => Some(number),
        _ => None,
    }
}
