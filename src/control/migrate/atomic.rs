//! Atomic slot migration: one of the nodes is asked, they do the rest, and we look how far they are.
//!
//! Valkey is asked on the source, with `CLUSTER MIGRATESLOTS` (<https://valkey.io/commands/cluster-migrateslots/>),
//! Redis on the target, with `CLUSTER MIGRATION IMPORT` (<https://redis.io/docs/latest/commands/cluster-migration/>).
//! No slot is open meanwhile: its source serves it until the target has all of it. A job outlives whoever
//! asked for it, so one that an earlier run began is waited for.

use super::way::Dialect;
use super::{Cluster, Event, MigrateError, Stop, Words, ask_all, words};
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::control::observe::observe_view;
use crate::control::plan::rebalance::Move;
use crate::topology::{Slot, SlotRange};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// Slots of one job. The source forks for each, so not too few; Ctrl-C waits for one, so not too many.
const JOB_SLOTS: usize = 1024;
/// How often the nodes are asked how far they are.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A job that takes longer does not end: under many writes, some releases never catch up
/// (<https://github.com/valkey-io/valkey/issues/4545>).
const JOB_LIMIT: Duration = Duration::from_secs(600);
/// How often a job is begun anew.
const ATTEMPTS: u32 = 3;

/// How far the nodes came.
pub(super) enum Outcome {
    /// All slots are moved, or all until the stop.
    Over,
    /// The nodes do not manage it, for this reason; what they moved stays moved.
    Unable(String),
}

/// Carries one move out.
///
/// # Errors
/// A node does not answer, or answers what nobody expects.
pub(super) async fn carry_out(
    cluster: &Cluster,
    step: &Move,
    dialect: Dialect,
    events: &mpsc::Sender<Event>,
    stop: &Stop,
) -> Result<Outcome, MigrateError> {
    let mut source = cluster.connect(step.source.addr).await?;
    let mut asked = match dialect {
        Dialect::Valkey => cluster.connect(step.source.addr).await?,
        Dialect::Redis => cluster.connect(step.target.addr).await?,
    };
    let deadline = Instant::now() + JOB_LIMIT;
    while jobs(&mut asked, dialect).await?.iter().any(|job| job.state == State::Active) {
        if Instant::now() >= deadline {
            return Ok(Outcome::Unable(format!("another move is under way for more than {JOB_LIMIT:?}")));
        }
        sleep(LOOK_EVERY).await;
    }
    let left = left(&mut source, step).await?;
    let moved = step.count() - left.len();
    if moved > 0 {
        // By the job that was waited for.
        let _ = events.send(Event::Moved { slots: moved, keys: 0 }).await;
    }
    for slots in left.chunks(JOB_SLOTS) {
        if stop.is_requested() {
            break;
        }
        let keys = count(&mut source, slots).await?;
        let mut tries = 0;
        loop {
            let failure = match run_job(&mut asked, step, dialect, slots).await? {
                None => break,
                Some(failure) => failure,
            };
            tries += 1;
            if tries == ATTEMPTS {
                return Ok(Outcome::Unable(failure));
            }
        }
        let _ = events.send(Event::Moved { slots: slots.len(), keys }).await;
    }
    Ok(Outcome::Over)
}

/// Begins a job and waits for its end; says why it failed when it did.
async fn run_job(
    asked: &mut NodeClient,
    step: &Move,
    dialect: Dialect,
    slots: &[Slot],
) -> Result<Option<String>, MigrateError> {
    let before: BTreeSet<String> = jobs(asked, dialect).await?.into_iter().map(|job| job.id).collect();
    match ask_all(asked, &[begin(step, dialect, slots)]).await {
        Ok(_) => {}
        Err(NodeError::Refused { text, .. }) => return Ok(Some(text)),
        Err(error) => return Err(error.into()),
    }
    let deadline = Instant::now() + JOB_LIMIT;
    loop {
        let jobs = jobs(asked, dialect).await?;
        let Some(job) = jobs.into_iter().find(|job| !before.contains(&job.id)) else {
            return Ok(Some("the node does not know the move any more: it was restarted".into()));
        };
        match job.state {
            State::Done => return Ok(None),
            State::Failed => return Ok(Some(job.why)),
            State::Active if job.retries >= ATTEMPTS => {
                ask_all(asked, &[cancel(dialect, &job.id)]).await?;
                return Ok(Some(job.why));
            }
            State::Active if Instant::now() >= deadline => {
                ask_all(asked, &[cancel(dialect, &job.id)]).await?;
                return Ok(Some(format!("not done within {JOB_LIMIT:?}")));
            }
            State::Active => sleep(LOOK_EVERY).await,
        }
    }
}

fn begin(step: &Move, dialect: Dialect, slots: &[Slot]) -> Words {
    let mut request = match dialect {
        Dialect::Valkey => words(["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE"]),
        Dialect::Redis => words(["CLUSTER", "MIGRATION", "IMPORT"]),
    };
    for range in SlotRange::cover(slots.iter().copied()) {
        request.extend([range.start, range.end].map(|slot| slot.to_string().into_bytes()));
    }
    if dialect == Dialect::Valkey {
        request.extend(words(["NODE", step.target.id.as_str()]));
    }
    request
}

/// Valkey cancels whatever leaves the node: it was made sure that only this job does.
fn cancel(dialect: Dialect, id: &str) -> Words {
    match dialect {
        Dialect::Valkey => words(["CLUSTER", "CANCELSLOTMIGRATIONS"]),
        Dialect::Redis => words(["CLUSTER", "MIGRATION", "CANCEL", "ID", id]),
    }
}

/// A job as a node tells of it.
#[derive(PartialEq, Eq, Debug)]
struct Job {
    id: String,
    state: State,
    why: String,
    retries: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Active,
    Done,
    Failed,
}

/// Whether the node is moving slots by itself, in either dialect; one that has no such jobs has none.
///
/// # Errors
/// It does not answer.
pub async fn has_jobs(asked: &mut NodeClient) -> Result<bool, NodeError> {
    for dialect in [Dialect::Valkey, Dialect::Redis] {
        match jobs(asked, dialect).await {
            Ok(jobs) if jobs.iter().any(|job| job.state == State::Active) => return Ok(true),
            Ok(_) | Err(NodeError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

async fn jobs(asked: &mut NodeClient, dialect: Dialect) -> Result<Vec<Job>, NodeError> {
    let question = match dialect {
        Dialect::Valkey => words(["CLUSTER", "GETSLOTMIGRATIONS"]),
        Dialect::Redis => words(["CLUSTER", "MIGRATION", "STATUS", "ALL"]),
    };
    let replies = ask_all(asked, &[question]).await?;
    Ok(replies.first().map(|reply| parse_jobs(reply, dialect)).unwrap_or_default())
}

/// Each job is a list of names and values.
fn parse_jobs(reply: &Reply, dialect: Dialect) -> Vec<Job> {
    let Reply::Array(jobs) = reply else { return Vec::new() };
    let text = |reply: &Reply| match reply {
        Reply::BulkString(text) | Reply::SimpleString(text) => String::from_utf8_lossy(text).into_owned(),
        Reply::Integer(number) => number.to_string(),
        _ => String::new(),
    };
    let parse = |job: &Reply| {
        let Reply::Array(pairs) = job else { return None };
        let fields: BTreeMap<String, String> =
            pairs.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
        let of = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let (id, why) = match dialect {
            Dialect::Valkey => (of("name"), of("message")),
            Dialect::Redis => (of("id"), of("last_error")),
        };
        let state = match (dialect, of("state").as_str()) {
            (Dialect::Valkey, "success") | (Dialect::Redis, "completed") => State::Done,
            // Of Redis, `failed` is not the end: the target tries again by itself.
            (Dialect::Valkey, "failed" | "cancelled") | (Dialect::Redis, "canceled" | "cancelled") => {
                State::Failed
            }
            _ => State::Active,
        };
        let why = if why.is_empty() { of("state") } else { why };
        Some(Job { id, state, why, retries: of("retries").parse().unwrap_or(0) })
    };
    jobs.iter().filter_map(parse).collect()
}

/// The slots of a move that its source still owns.
pub(super) async fn left(source: &mut NodeClient, step: &Move) -> Result<Vec<Slot>, MigrateError> {
    let addr = source.addr();
    let unexpected = |_| NodeError::Unexpected { addr, what: "CLUSTER NODES".into() };
    let view = observe_view(source).await.map_err(unexpected)?;
    let owned = view.line(step.source.id).map(|line| line.slots.as_slice()).unwrap_or_default();
    let is_owned = |slot: &Slot| owned.iter().any(|range| range.start <= *slot && *slot <= range.end);
    Ok(step.ranges.iter().flat_map(|range| range.slots()).filter(is_owned).collect())
}

/// How many keys the slots hold on their source.
async fn count(source: &mut NodeClient, slots: &[Slot]) -> Result<u64, NodeError> {
    let question = |slot: &Slot| words(["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
    let counts = ask_all(source, &slots.iter().map(question).collect::<Vec<_>>()).await?;
    let number = |reply: Reply| if let Reply::Integer(number) = reply { number.max(0) as u64 } else { 0 };
    Ok(counts.into_iter().map(number).sum())
}

#[cfg(test)]
#[path = "atomic_tests.rs"]
mod tests;
