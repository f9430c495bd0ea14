//! The one place where both planes meet: the current [`Snapshot`], a signal that it changed, and a
//! hint that it is stale.

use super::{HandingOver, NodeId, NodeIx, Slot, SlotRange, Snapshot};
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::Notify;

/// Announcements come from outside; a cluster has no more shards that change hands at once.
const MOST_HAND_OVERS: usize = 1000;

type Listener = Box<dyn Fn() + Send + Sync>;

/// Shared by all workers and the control plane; all methods are cheap and never block for long.
pub struct SharedTopology {
    current: ArcSwap<Snapshot>,
    /// Serialises writers; holds when the last full view was published and who wants to know.
    writers: Mutex<Writers>,
    stale: Notify,
    /// The same news for whoever keeps the cluster whole.
    unrest: Notify,
}

struct Writers {
    confirmed_at: Option<Instant>,
    listeners: Vec<Listener>,
}

impl Default for SharedTopology {
    fn default() -> SharedTopology {
        SharedTopology {
            current: ArcSwap::from_pointee(Snapshot::empty()),
            writers: Mutex::new(Writers { confirmed_at: None, listeners: Vec::new() }),
            stale: Notify::new(),
            unrest: Notify::new(),
        }
    }
}

impl SharedTopology {
    /// The current snapshot.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Publishes a full view; the snapshot gets the next version. An equal view only renews the age.
    /// Returns whether anything changed.
    pub fn publish(&self, mut snapshot: Snapshot) -> bool {
        let mut writers = self.lock();
        writers.confirmed_at = Some(Instant::now());
        let old = self.current.load();
        snapshot.version = old.version;
        snapshot.handing_over = old.handing_over.clone();
        if **old == snapshot {
            return false;
        }
        self.replace(&writers, snapshot);
        true
    }

    /// Gives one slot to another node of `seen`, as a `MOVED` said, and hints that the rest may be
    /// stale too. Does nothing when the topology is no longer the one that the caller saw.
    pub fn patch(&self, seen: &Snapshot, slot: Slot, node: NodeIx) {
        let writers = self.lock();
        let current = self.current.load();
        if current.version == seen.version && current.primary_of(slot) != Some(current.node(node)) {
            self.replace(&writers, current.with_owner([slot], node));
        }
        drop(writers);
        self.hint_stale();
    }

    /// A primary is about to hand its slots over; a later word for the same primary counts alone.
    pub fn begin_hand_over(&self, over: HandingOver) {
        let writers = self.lock();
        let mut next = Snapshot::clone(&self.current.load());
        next.handing_over.retain(|other| other.primary != over.primary);
        if next.handing_over.len() < MOST_HAND_OVERS {
            next.handing_over.push(over);
        }
        self.replace(&writers, next);
    }

    /// A primary that was about to hand over keeps its slots. Without a word before, nothing changes.
    pub fn end_hand_over(&self, primary: NodeId) {
        let writers = self.lock();
        let current = self.current.load();
        if current.handing_over.iter().any(|over| over.primary == primary) {
            let mut next = Snapshot::clone(&current);
            next.handing_over.retain(|over| over.primary != primary);
            self.replace(&writers, next);
        }
    }

    /// Gives slots to another node, as was announced; hand-overs to it are over. A look confirms it soon.
    pub fn give(&self, ranges: &[SlotRange], node: NodeId) {
        let writers = self.lock();
        let current = self.current.load();
        if let Some(ix) = current.node_by_id(&node) {
            let mut next = current.with_owner(ranges.iter().flat_map(|range| range.slots()), ix);
            next.handing_over.retain(|over| over.to != node);
            self.replace(&writers, next);
        }
        drop(writers);
        self.hint_stale();
    }

    /// When a full view was last published, changed or not.
    pub fn confirmed_at(&self) -> Option<Instant> {
        self.lock().confirmed_at
    }

    /// Calls `listener` after every change, on the thread that made it; it must not block.
    pub fn on_change(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.lock().listeners.push(Box::new(listener));
    }

    /// Says that the topology looks stale; many hints before the next look count as one.
    pub fn hint_stale(&self) {
        self.stale.notify_one();
        self.unrest.notify_one();
    }

    /// Waits for a hint. Cancel-safe; meant for one waiter.
    pub async fn stale_hinted(&self) {
        self.stale.notified().await;
    }

    /// Waits for a hint, or a change of the topology. Cancel-safe; meant for one waiter, another than
    /// that of [`SharedTopology::stale_hinted`].
    pub async fn unrest(&self) {
        self.unrest.notified().await;
    }

    fn replace(&self, writers: &Writers, mut snapshot: Snapshot) {
        snapshot.version = self.current.load().version + 1;
        self.current.store(Arc::new(snapshot));
        self.unrest.notify_one();
        for listener in &writers.listeners {
            listener();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Writers> {
        self.writers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::two_shards;
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn an_equal_view_changes_nothing() {
        let shared = SharedTopology::default();
        let changes = Arc::new(AtomicUsize::new(0));
        let counter = changes.clone();
        shared.on_change(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        assert!(shared.publish(two_shards()));
        assert!(!shared.publish(two_shards()));
        assert_eq!((shared.load().version, changes.load(Ordering::Relaxed)), (1, 1));
    }

    #[test]
    fn a_hand_over_lasts_until_the_new_owner_is_told() {
        let shared = SharedTopology::default();
        shared.publish(two_shards());
        let [old, new, other] = [0, 2, 1].map(|ix| shared.load().node(ix).id);
        let now = Instant::now();
        let until = now + std::time::Duration::from_secs(1);
        shared.begin_hand_over(HandingOver { primary: old, to: new, until });
        // A look at the nodes in between does not end it.
        shared.publish(two_shards());
        assert!(shared.load().handing_over(old, now).is_some());
        assert!(shared.load().handing_over(old, until).is_none());
        assert!(shared.load().handing_over(other, now).is_none());
        shared.give(&[SlotRange::new(0, 8191).unwrap()], new);
        let snapshot = shared.load();
        assert!(snapshot.handing_over(old, now).is_none());
        assert_eq!(snapshot.primary_of(Slot::new(0).unwrap()).unwrap().id, new);
        assert_eq!(snapshot.primary_of(Slot::new(8192).unwrap()).unwrap().id, other);
    }

    #[test]
    fn a_hand_over_that_failed_leaves_everything_as_it_was() {
        let shared = SharedTopology::default();
        shared.publish(two_shards());
        let (primary, to) = (shared.load().node(0).id, shared.load().node(2).id);
        let now = Instant::now();
        let until = now + std::time::Duration::from_secs(1);
        shared.begin_hand_over(HandingOver { primary, to, until });
        shared.end_hand_over(primary);
        assert!(shared.load().handing_over(primary, now).is_none());
        assert_eq!(shared.load().primary_of(Slot::new(0).unwrap()).unwrap().id, primary);
    }

    #[test]
    fn a_patch_for_an_old_topology_is_ignored() {
        let shared = SharedTopology::default();
        shared.publish(two_shards());
        let seen = shared.load();
        let slot = Slot::new(7).unwrap();
        shared.patch(&seen, slot, 1);
        assert_eq!(shared.load().version, 2);
        shared.patch(&seen, slot, 0);
        assert_eq!(shared.load().version, 2);
    }
}
