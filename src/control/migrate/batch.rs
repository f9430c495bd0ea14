//! One move in batches of slots: open, empty, hand over. As in `redis-cli --cluster reshard`, but for many
//! slots with each round trip, and with one batch handed over while the next one is emptied.
//!
//! The order is what keeps slots and keys: IMPORTING on the target before MIGRATING on the source, or a
//! redirected client would be sent back; the new owner told to the target first, or a crash between the
//! two would leave a slot that nobody owns.

use super::copy::{self, Copying, MOST_KEYS};
use super::keys::{Mover, list};
use super::{
    Cluster, EPOCH_LIMIT, Event, MigrateError, Stop, Words, ask, ask_all, ask_patiently, set_slot, words,
};
use crate::control::announce::{Announcement, announce};
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::control::observe::observe_view;
use crate::control::plan::rebalance::Move;
use crate::topology::{NodeId, Slot, SlotRange};
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

/// How many keys are open at once: clients are redirected once more for them.
const KEYS_OPEN: u64 = 1024;
/// How many slots are open at once, when they hold few keys or none.
const SLOTS_OPEN: usize = 256;
/// Batches under way at once: while one waits for an answer, the nodes work for the other. MIGRATE keeps both
/// nodes busy; a copy waits for one of them at a time.
const WORKERS: usize = 2;
const COPYING_WORKERS: usize = 12;
/// How long a replica of the target may take to have what its primary got; then the move goes on.
const REPLICA_LIMIT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Batches that the other primaries have not been told of yet.
const UNTOLD: usize = 64;

/// Slots that move together, each with how many keys it has.
type Batch = Vec<(Slot, u64)>;

/// Carries one move out; ends early, with all slots closed, when it is told to stop.
pub(super) async fn carry_out(
    cluster: &Arc<Cluster>,
    step: &Arc<Move>,
    may_copy: bool,
    events: &mpsc::Sender<Event>,
    stop: &Stop,
) -> Result<(), MigrateError> {
    let mut source = cluster.connect(step.source.addr).await?;
    hear_of_epoch(cluster, step, &mut source).await?;
    let slots: Vec<Slot> = step.ranges.iter().flat_map(|range| range.slots()).collect();
    let batches = VecDeque::from(batches(&mut source, &slots).await?);
    let batches = Arc::new(Mutex::new(batches));
    let switch = if may_copy { copy::load(&mut source).await? } else { None };
    let (tell_others, others) = tell_others(cluster, step);
    let mut workers = JoinSet::new();
    for _ in 0..if switch.is_some() { COPYING_WORKERS } else { WORKERS } {
        let worker = Worker::open(cluster, step, switch.clone(), events).await?;
        workers.spawn(worker.run(batches.clone(), stop.clone(), tell_others.clone()));
    }
    drop(tell_others);
    let mut failed = None;
    while let Some(ended) = workers.join_next().await {
        let ended = ended.unwrap_or_else(|error| Err(MigrateError::Panicked(error.to_string())));
        if let Err(error) = ended {
            failed.get_or_insert(error);
            // The others finish the batches they are at.
            batches.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
    // They learn it from the target anyway, only later.
    let _ = others.await;
    failed.map_or(Ok(()), Err)
}

/// Waits until the target has heard of the source's epoch. It takes the slots with the next epoch after all
/// it knows; were the source's as high, the source's last words about its slots would win over it
/// afterwards, and the target would throw the keys away.
async fn hear_of_epoch(cluster: &Cluster, step: &Move, source: &mut NodeClient) -> Result<(), MigrateError> {
    let mut target = cluster.connect(step.target.addr).await?;
    let epoch = observe_view(source).await?.myself().epoch;
    let deadline = Instant::now() + EPOCH_LIMIT;
    loop {
        let heard = observe_view(&mut target).await?.line(step.source.id).map(|line| line.epoch);
        if heard >= Some(epoch) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let (source_node, target) = (step.source.addr, step.target.addr);
            return Err(MigrateError::Unheard { source_node, target, epoch });
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Cuts slots into batches that hold about [`KEYS_OPEN`] keys each.
async fn batches(source: &mut NodeClient, slots: &[Slot]) -> Result<Vec<Batch>, NodeError> {
    let count = |slot: &Slot| words(["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
    let counts = ask_all(source, &slots.iter().map(count).collect::<Vec<_>>()).await?;
    let counts = counts.iter().map(|reply| match reply {
        Reply::Integer(count) => u64::try_from(*count).unwrap_or(0),
        _ => 0,
    });
    Ok(cut(slots.iter().copied().zip(counts)))
}

fn cut(slots: impl Iterator<Item = (Slot, u64)>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut open = 0;
    for (slot, keys) in slots {
        match batches.last_mut() {
            Some(last) if open + keys <= KEYS_OPEN && last.len() < SLOTS_OPEN => last.push((slot, keys)),
            _ => {
                batches.push(vec![(slot, keys)]);
                open = 0;
            }
        }
        open += keys;
    }
    batches
}

/// Moves one batch after the other.
struct Worker {
    cluster: Arc<Cluster>,
    step: Arc<Move>,
    /// What switches slots, where they may be copied.
    switch: Option<Bytes>,
    source: NodeClient,
    target: NodeClient,
    replica: Option<Replica>,
    events: mpsc::Sender<Event>,
}

impl Worker {
    async fn open(
        cluster: &Arc<Cluster>,
        step: &Arc<Move>,
        switch: Option<Bytes>,
        events: &mpsc::Sender<Event>,
    ) -> Result<Worker, NodeError> {
        Ok(Worker {
            cluster: cluster.clone(),
            step: step.clone(),
            switch,
            source: cluster.connect(step.source.addr).await?,
            target: cluster.connect(step.target.addr).await?,
            replica: Replica::of(cluster, step.target.id).await,
            events: events.clone(),
        })
    }

    async fn run(
        mut self,
        batches: Arc<Mutex<VecDeque<Batch>>>,
        stop: Stop,
        tell_others: mpsc::Sender<Vec<Slot>>,
    ) -> Result<(), MigrateError> {
        let next = || batches.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while !stop.is_requested()
            && let Some(batch) = next()
        {
            let slots: Vec<Slot> = batch.iter().map(|(slot, _)| *slot).collect();
            let keys = self.empty(&batch).await?;
            self.hand_over(&slots).await?;
            // Whoever listens may have gone; slots move all the same.
            let _ = self.events.send(Event::Moved { slots: slots.len(), keys }).await;
            let _ = tell_others.send(slots).await;
        }
        Ok(())
    }

    /// Opens the slots and moves their keys; says how many.
    async fn empty(&mut self, batch: &[(Slot, u64)]) -> Result<u64, MigrateError> {
        let Worker { cluster, step, switch, source, target, events, .. } = self;
        let importing: Vec<Words> =
            batch.iter().map(|(slot, _)| set_slot(*slot, "IMPORTING", step.source.id)).collect();
        all(ask_patiently(target, &importing).await?)?;
        let has_few = |keys: u64| keys > 0 && keys <= MOST_KEYS as u64;
        let few: Vec<Slot> = batch.iter().filter(|(_, keys)| has_few(*keys)).map(|(slot, _)| *slot).collect();
        let switched = match switch {
            Some(switch) => Copying { cluster, step, switch, source, target }.run(&few).await?,
            None => Vec::new(),
        };
        let is_open = |slot: &Slot| switched.iter().all(|(switched, _)| switched != slot);
        let slots: Vec<Slot> = batch.iter().map(|(slot, _)| *slot).filter(is_open).collect();
        let mut questions: Vec<Words> =
            slots.iter().map(|slot| set_slot(*slot, "MIGRATING", step.target.id)).collect();
        questions.extend(list(&slots));
        let listed = all(ask_patiently(source, &questions).await?)?.split_off(slots.len());
        let copied: u64 = switched.iter().map(|(_, keys)| keys).sum();
        let mut mover = Mover::new(cluster, source, target, step.target, events);
        Ok(copied + mover.empty(&slots, listed).await?)
    }

    /// Makes the target the owner of slots whose keys it has.
    async fn hand_over(&mut self, batch: &[Slot]) -> Result<(), MigrateError> {
        let target = self.step.target;
        let mut questions: Vec<Words> = batch.iter().map(|slot| set_slot(*slot, "NODE", target.id)).collect();
        if self.replica.is_some() {
            // WAIT counts from the last command of this connection on, and the keys came before that.
            questions.push(words(["WAIT", "1", &REPLICA_LIMIT.as_millis().to_string()]));
        }
        let taken = all(ask_patiently(&mut self.target, &questions).await?)?;
        let has_copy = taken.last() != Some(&Reply::Integer(0));
        // Gateways need not be redirected for each slot.
        let slots = SlotRange::cover(batch.iter().copied());
        announce(&mut self.target, &Announcement::Owner { node: target.id, slots }).await;
        // A target that crashed now would otherwise be followed by a replica that knows nothing of it.
        if let Some(one) = &mut self.replica
            && !(has_copy && one.knows(target.id, batch).await)
        {
            let text = format!("no replica of {target} follows it closely; going on without");
            let _ = self.events.send(Event::Note(text)).await;
            self.replica = None;
        }
        questions.truncate(batch.len());
        for reply in ask_patiently(&mut self.source, &questions).await? {
            match reply {
                // It gave its last slot away and follows the new owner already.
                Err(NodeError::Refused { text, .. }) if text.contains("only with masters") => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}

/// The replies, unless one is a refusal.
fn all(replies: Vec<Result<Reply, NodeError>>) -> Result<Vec<Reply>, NodeError> {
    replies.into_iter().collect()
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
        let lens = |batches: Vec<Batch>| batches.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens(cut(slots(|_| 0)).into_iter().take(2).collect()), [256, 256]);
        assert_eq!(lens(cut(slots(|_| 100)).into_iter().take(2).collect()), [10, 10]);
        assert_eq!(
            lens(cut(slots(|ix| if ix == 1 { 5000 } else { 0 })).into_iter().take(3).collect()),
            [1, 1, 256]
        );
        assert_eq!(cut(slots(|ix| ix as u64)).concat().len(), Slot::all().len());
    }
}
