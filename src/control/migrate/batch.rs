//! One move in batches of slots: open, empty, hand over. As in `redis-cli --cluster reshard`, but for many
//! slots with each round trip.
//!
//! The order is what keeps slots and keys: IMPORTING on the target before MIGRATING on the source, or a
//! redirected client would be sent back; the new owner told to the target first, or a crash between the
//! two would leave a slot that nobody owns.

use super::keys::{Mover, list};
use super::{Cluster, Event, MigrateError, Stop, Words, ask, ask_all, set_slot, words};
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::control::observe::observe_view;
use crate::control::plan::rebalance::Move;
use crate::topology::{NodeId, Slot};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How many keys are open at once: clients are redirected once more for them.
const KEYS_OPEN: u64 = 1024;
/// How many slots are open at once, when they hold few keys or none.
const SLOTS_OPEN: usize = 256;
/// How long a replica of the target may take to have what its primary got; then the move goes on.
const REPLICA_LIMIT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Batches that the other primaries have not been told of yet.
const UNTOLD: usize = 64;

/// Carries one move out; ends early, with all slots closed, when it is told to stop.
pub(super) async fn carry_out(
    cluster: &Cluster,
    step: &Move,
    events: &mpsc::Sender<Event>,
    stop: &Stop,
) -> Result<(), MigrateError> {
    let mut source = cluster.connect(step.source.addr).await?;
    let mut target = cluster.connect(step.target.addr).await?;
    let mut replica = Replica::of(cluster, step.target.id).await;
    let (tell_others, others) = tell_others(cluster, step);
    let slots: Vec<Slot> = step.ranges.iter().flat_map(|range| range.slots()).collect();
    for batch in batches(&mut source, &slots).await? {
        if stop.is_requested() {
            break;
        }
        let keys = move_batch(cluster, step, &batch, &mut source, &mut target, events).await?;
        hand_over(step, &batch, &mut source, &mut target, &mut replica, events).await?;
        // Whoever listens may have gone; slots move all the same.
        let _ = events.send(Event::Moved { slots: batch.len(), keys }).await;
        let _ = tell_others.send(batch).await;
    }
    drop(tell_others);
    // They learn it from the target anyway, only later.
    let _ = others.await;
    Ok(())
}

/// Cuts slots into batches that hold about [`KEYS_OPEN`] keys each.
async fn batches(source: &mut NodeClient, slots: &[Slot]) -> Result<Vec<Vec<Slot>>, NodeError> {
    let count = |slot: &Slot| words(["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
    let counts = ask_all(source, &slots.iter().map(count).collect::<Vec<_>>()).await?;
    let counts = counts.iter().map(|reply| match reply {
        Reply::Integer(count) => u64::try_from(*count).unwrap_or(0),
        _ => 0,
    });
    Ok(cut(slots.iter().copied().zip(counts)))
}

fn cut(slots: impl Iterator<Item = (Slot, u64)>) -> Vec<Vec<Slot>> {
    let mut batches: Vec<Vec<Slot>> = Vec::new();
    let mut open = 0;
    for (slot, keys) in slots {
        match batches.last_mut() {
            Some(last) if open + keys <= KEYS_OPEN && last.len() < SLOTS_OPEN => last.push(slot),
            _ => {
                batches.push(vec![slot]);
                open = 0;
            }
        }
        open += keys;
    }
    batches
}

/// Opens the slots and moves their keys; says how many.
async fn move_batch(
    cluster: &Cluster,
    step: &Move,
    batch: &[Slot],
    source: &mut NodeClient,
    target: &mut NodeClient,
    events: &mpsc::Sender<Event>,
) -> Result<u64, MigrateError> {
    let all = |state, node| -> Vec<Words> { batch.iter().map(|slot| set_slot(*slot, state, node)).collect() };
    ask_all(target, &all("IMPORTING", step.source.id)).await?;
    let mut questions = all("MIGRATING", step.target.id);
    questions.extend(list(batch));
    let mut replies = ask_all(source, &questions).await?;
    let listed = replies.split_off(batch.len());
    Mover::new(cluster, source, step.target, events).empty(batch, listed).await
}

/// Makes the target the owner of slots whose keys it has.
async fn hand_over(
    step: &Move,
    batch: &[Slot],
    source: &mut NodeClient,
    target: &mut NodeClient,
    replica: &mut Option<Replica>,
    events: &mpsc::Sender<Event>,
) -> Result<(), MigrateError> {
    let mut questions: Vec<Words> =
        batch.iter().map(|slot| set_slot(*slot, "NODE", step.target.id)).collect();
    if replica.is_some() {
        // WAIT counts from the last command of this connection on, and the keys came before that.
        questions.push(words(["WAIT", "1", &REPLICA_LIMIT.as_millis().to_string()]));
    }
    let has_copy = ask_all(target, &questions).await?.last() != Some(&Reply::Integer(0));
    // A target that crashed now would otherwise be followed by a replica that knows nothing of it.
    if let Some(one) = replica
        && !(has_copy && one.knows(step.target.id, batch).await)
    {
        let text = format!("no replica of {} follows it closely; going on without", step.target);
        let _ = events.send(Event::Note(text)).await;
        *replica = None;
    }
    questions.truncate(batch.len());
    for reply in ask(source, &questions).await? {
        match reply {
            // It gave its last slot away and follows the new owner already.
            Err(NodeError::Refused { text, .. }) if text.contains("only with masters") => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// A replica of the target, asked whether it has heard.
struct Replica(NodeClient);

impl Replica {
    async fn of(cluster: &Cluster, primary: NodeId) -> Option<Replica> {
        for addr in cluster.replicas.get(&primary).into_iter().flatten() {
            if let Ok(client) = NodeClient::connect(*addr, &cluster.credentials, cluster.limit).await {
                return Some(Replica(client));
            }
        }
        None
    }

    /// Waits until it knows that its primary owns the slots; false when it does not in time.
    async fn knows(&mut self, primary: NodeId, slots: &[Slot]) -> bool {
        let deadline = Instant::now() + REPLICA_LIMIT;
        while Instant::now() < deadline {
            let Ok(view) = observe_view(&mut self.0).await else { return false };
            let owned = view.line(primary).map(|line| line.slots.as_slice()).unwrap_or_default();
            let owns = |slot: &Slot| owned.iter().any(|range| range.start <= *slot && *slot <= range.end);
            if slots.iter().all(owns) {
                return true;
            }
            sleep(LOOK_EVERY).await;
        }
        false
    }
}

/// Tells the primaries that take no part, apart from the move itself: one of them that hangs must not hold
/// it up.
fn tell_others(cluster: &Cluster, step: &Move) -> (mpsc::Sender<Vec<Slot>>, JoinHandle<()>) {
    let (sender, mut batches) = mpsc::channel::<Vec<Slot>>(UNTOLD);
    let is_other = |id| id != step.source.id && id != step.target.id;
    let others: Vec<SocketAddr> =
        cluster.primaries.iter().filter(|party| is_other(party.id)).map(|party| party.addr).collect();
    let (credentials, limit, owner) = (cluster.credentials.clone(), cluster.limit, step.target.id);
    let task = tokio::spawn(async move {
        let mut clients = Vec::new();
        for addr in others {
            clients.extend(NodeClient::connect(addr, &credentials, limit).await);
        }
        while let Some(batch) = batches.recv().await {
            let told: Vec<Words> = batch.iter().map(|slot| set_slot(*slot, "NODE", owner)).collect();
            for client in clients.iter_mut().filter(|client| client.is_usable()) {
                // Only haste: the target's own messages say the same.
                let _ = ask(client, &told).await;
            }
        }
    });
    (sender, task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_many_empty_slots_or_few_full_ones() {
        let slots = |keys: fn(usize) -> u64| Slot::all().map(move |slot| (slot, keys(slot.index())));
        let lens = |batches: Vec<Vec<Slot>>| batches.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens(cut(slots(|_| 0)).into_iter().take(2).collect()), [256, 256]);
        assert_eq!(lens(cut(slots(|_| 100)).into_iter().take(2).collect()), [10, 10]);
        assert_eq!(
            lens(cut(slots(|ix| if ix == 1 { 5000 } else { 0 })).into_iter().take(3).collect()),
            [1, 1, 256]
        );
        assert_eq!(cut(slots(|ix| ix as u64)).concat().len(), Slot::all().len());
    }
}
