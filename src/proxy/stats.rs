//! What the workers share: who is connected, the scripts that were shown, and a few totals. Touched when a
//! client comes, goes or names itself, or uses scripts; never per ordinary command.

use super::doubt::Doubt;
use super::notice::Peers;
use super::pubsub::Kind;
use super::scripts::Scripts;
use super::tracking::Counts;
use super::watch::Watch;
use crate::topology::NodeId;
use arc_swap::ArcSwap;
use dashmap::DashMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// What CLIENT LIST tells of a client's connection.
#[derive(Debug, Clone, Copy)]
pub struct ClientInfo {
    pub addr: SocketAddr,
    /// Where it connected to.
    pub laddr: SocketAddr,
    pub fd: i32,
    pub worker: usize,
    pub connected_at: Instant,
}

/// Shared by all workers and the admin side.
#[derive(Debug)]
pub struct Stats {
    pub started: Instant,
    clients: DashMap<u64, ClientInfo>,
    next_client: AtomicU64,
    connected: AtomicUsize,
    connected_workers: AtomicUsize,
    pub subscribers: Subscribers,
    pub scripts: Scripts,
    pub shares: Shares,
    pub doubt: Doubt,
    pub watch: Watch,
    pub peers: Peers,
    pub tracking: Counts,
    /// The nodes' name and version; what HELLO answers.
    server: ArcSwap<String>,
}

/// What all workers have together of what is limited. Touched when a request is held or a connection for
/// one client is opened, and when that ends.
#[derive(Debug, Default)]
pub struct Shares {
    held: AtomicUsize,
    held_bytes: AtomicUsize,
    exclusive: AtomicUsize,
    shortages: AtomicUsize,
    errand_bytes: AtomicUsize,
}

/// Adds to a total that must not become more than `most`; says whether it could.
fn add_up_to(total: &AtomicUsize, count: usize, most: usize) -> bool {
    let add = |now: usize| now.checked_add(count).filter(|sum| *sum <= most);
    total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

impl Shares {
    /// One more request of `size` bytes is held, unless that were more than so many, or so many bytes.
    pub fn hold(&self, size: usize, most: usize, most_bytes: usize) -> bool {
        if !add_up_to(&self.held, 1, most) {
            return false;
        }
        let has_room = add_up_to(&self.held_bytes, size, most_bytes);
        if !has_room {
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
        has_room
    }

    /// A request of `size` bytes is held no more.
    pub fn release(&self, size: usize) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.held_bytes.fetch_sub(size, Ordering::Relaxed);
    }

    /// How many requests are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// And how many bytes they have.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// An errand keeps `size` bytes more, unless all together kept more than `most` then.
    pub fn keep_for_errand(&self, size: usize, most: usize) -> bool {
        add_up_to(&self.errand_bytes, size, most)
    }

    /// An errand keeps `size` bytes less.
    pub fn release_of_errand(&self, size: usize) {
        self.errand_bytes.fetch_sub(size, Ordering::Relaxed);
    }

    /// How many bytes errands keep.
    pub fn errand_bytes(&self) -> usize {
        self.errand_bytes.load(Ordering::Relaxed)
    }

    /// One more connection for one client, unless that were more than `most`.
    pub fn take_exclusive(&self, most: usize) -> bool {
        add_up_to(&self.exclusive, 1, most)
    }

    /// Such a connection is closed.
    pub fn give_exclusive(&self) {
        self.exclusive.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many such connections there are.
    pub fn exclusive(&self) -> usize {
        self.exclusive.load(Ordering::Relaxed)
    }

    /// A client found no room for one.
    pub fn note_shortage(&self) {
        self.shortages.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was so.
    pub fn shortages(&self) -> usize {
        self.shortages.load(Ordering::Relaxed)
    }
}

type Topic = (Kind, Box<[u8]>);

/// How many clients of this process are subscribed to each channel and pattern, over all workers.
#[derive(Debug, Default)]
pub struct Subscribers {
    pub channels: DashMap<Box<[u8]>, usize>,
    pub patterns: DashMap<Box<[u8]>, usize>,
    /// The channels that only their shards carry.
    pub shard_channels: DashMap<Box<[u8]>, usize>,
    /// By how many of our connections each node is subscribed to them.
    carried: DashMap<NodeId, HashMap<Topic, usize>>,
}

impl Subscribers {
    pub fn add(&self, kind: Kind, name: &[u8]) {
        *self.topics(kind).entry(name.into()).or_insert(0) += 1;
    }

    pub fn remove(&self, kind: Kind, name: &[u8]) {
        let topics = self.topics(kind);
        if let Some(mut count) = topics.get_mut(name) {
            *count = count.saturating_sub(1);
        }
        topics.remove_if(name, |_, count| *count == 0);
    }

    /// A connection of ours to a node is subscribed.
    pub fn carry(&self, node: NodeId, kind: Kind, name: &[u8]) {
        *self.carried.entry(node).or_default().entry((kind, name.into())).or_insert(0) += 1;
    }

    /// And is not any more.
    pub fn drop_carried(&self, node: NodeId, kind: Kind, name: &[u8]) {
        if let Some(mut carried) = self.carried.get_mut(&node) {
            let topic = (kind, name.into());
            let left = carried.get(&topic).map_or(0, |count| count.saturating_sub(1));
            if left > 0 {
                carried.insert(topic, left)
            } else {
                carried.remove(&topic)
            };
        }
        self.carried.remove_if(&node, |_, carried| carried.is_empty());
    }

    /// The channels, or patterns, that our connections to a node are subscribed to, and how many are.
    pub fn carried_at(&self, node: NodeId, kind: Kind) -> Vec<(Box<[u8]>, usize)> {
        let Some(carried) = self.carried.get(&node) else { return Vec::new() };
        let wanted = carried.iter().filter(|((other, _), _)| *other == kind);
        wanted.map(|((_, name), count)| (name.clone(), *count)).collect()
    }

    /// By how many of our connections to a node a message on `channel` comes to us.
    pub fn carried_for(&self, node: NodeId, channel: &[u8]) -> usize {
        let Some(carried) = self.carried.get(&node) else { return 0 };
        let reaches = |(kind, name): &Topic| match kind {
            Kind::Channel => **name == *channel,
            Kind::Pattern => crate::command::glob_matches(name, channel),
            Kind::Shard => false,
        };
        carried.iter().filter(|(topic, _)| reaches(topic)).map(|(_, count)| *count).sum()
    }

    fn topics(&self, kind: Kind) -> &DashMap<Box<[u8]>, usize> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shard_channels,
        }
    }
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            started: Instant::now(),
            clients: DashMap::new(),
            next_client: AtomicU64::new(1),
            connected: AtomicUsize::new(0),
            connected_workers: AtomicUsize::new(0),
            subscribers: Subscribers::default(),
            scripts: Scripts::default(),
            shares: Shares::default(),
            doubt: Doubt::default(),
            watch: Watch::default(),
            peers: Peers::default(),
            tracking: Counts::default(),
            server: ArcSwap::from_pointee("redis 7.0.0".to_string()),
        }
    }
}

impl Stats {
    /// Gives a client its number, unless there are `most` already.
    pub fn admit_client(&self, info: ClientInfo, most: usize) -> Option<u64> {
        let admitted = self
            .connected
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < most).then_some(count + 1));
        admitted.ok()?;
        let id = self.next_client.fetch_add(1, Ordering::Relaxed);
        self.clients.insert(id, info);
        Some(id)
    }

    pub fn forget_client(&self, id: u64) {
        if self.clients.remove(&id).is_some() {
            self.connected.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub fn client(&self, id: u64) -> Option<ClientInfo> {
        self.clients.get(&id).map(|info| *info)
    }

    /// A worker is connected to all shards for the first time.
    pub fn worker_is_connected(&self) {
        self.connected_workers.fetch_add(1, Ordering::Release);
    }

    /// How many workers have been connected to all shards.
    pub fn connected_workers(&self) -> usize {
        self.connected_workers.load(Ordering::Acquire)
    }

    /// The server's name and version that clients are told, as in `redis 7.0.15`.
    pub fn server(&self) -> Arc<String> {
        self.server.load_full()
    }

    pub fn set_server(&self, server: &str) {
        self.server.store(Arc::new(server.to_string()));
    }

    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// How many clients have connected so far.
    pub fn total_connections(&self) -> u64 {
        self.next_client.load(Ordering::Relaxed) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_take_together_stays_within_the_limits() {
        let shares = Shares::default();
        assert!(shares.hold(10, 2, 25) && !shares.hold(20, 2, 25) && shares.hold(10, 2, 25));
        assert!(!shares.hold(1, 2, 25));
        shares.release(10);
        assert_eq!((shares.held(), shares.held_bytes()), (1, 10));
        assert!(shares.hold(15, 2, 25));
        assert!(shares.take_exclusive(1) && !shares.take_exclusive(1));
        shares.give_exclusive();
        assert!(shares.take_exclusive(1));
    }

    #[test]
    fn clients_beyond_the_limit_are_not_admitted() {
        let (stats, addr) = (Stats::default(), SocketAddr::from(([127, 0, 0, 1], 1)));
        let info = ClientInfo { addr, laddr: addr, fd: 3, worker: 0, connected_at: Instant::now() };
        let first = stats.admit_client(info, 1).unwrap();
        assert_eq!(stats.admit_client(info, 1), None);
        stats.forget_client(first);
        stats.forget_client(first);
        assert_eq!((stats.connected(), stats.admit_client(info, 1)), (0, Some(2)));
    }
}
