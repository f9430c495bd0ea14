//! What the workers share: who is connected, the scripts that were shown, and a few totals. Touched when a
//! client comes, goes or names itself, or uses scripts; never per ordinary command.

use super::scripts::Scripts;
use crate::topology::NodeId;
use arc_swap::ArcSwap;
use dashmap::DashMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// What CLIENT LIST tells of a client.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    pub addr: SocketAddr,
    pub worker: usize,
    pub connected_at: Instant,
    pub name: Box<[u8]>,
    pub lib_name: Box<[u8]>,
    pub lib_ver: Box<[u8]>,
    pub is_resp3: bool,
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

/// Whether it is a pattern, and the name.
type Topic = (bool, Box<[u8]>);

/// How many clients of this process are subscribed to each channel and pattern, over all workers.
#[derive(Debug, Default)]
pub struct Subscribers {
    pub channels: DashMap<Box<[u8]>, usize>,
    pub patterns: DashMap<Box<[u8]>, usize>,
    /// By how many of our connections each node is subscribed to them.
    carried: DashMap<NodeId, HashMap<Topic, usize>>,
}

impl Subscribers {
    pub fn add(&self, is_pattern: bool, name: &[u8]) {
        *self.topics(is_pattern).entry(name.into()).or_insert(0) += 1;
    }

    pub fn remove(&self, is_pattern: bool, name: &[u8]) {
        let topics = self.topics(is_pattern);
        if let Some(mut count) = topics.get_mut(name) {
            *count = count.saturating_sub(1);
        }
        topics.remove_if(name, |_, count| *count == 0);
    }

    /// A connection of ours to a node is subscribed.
    pub fn carry(&self, node: NodeId, is_pattern: bool, name: &[u8]) {
        *self.carried.entry(node).or_default().entry((is_pattern, name.into())).or_insert(0) += 1;
    }

    /// And is not any more.
    pub fn drop_carried(&self, node: NodeId, is_pattern: bool, name: &[u8]) {
        if let Some(mut carried) = self.carried.get_mut(&node) {
            let topic = (is_pattern, name.into());
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
    pub fn carried_at(&self, node: NodeId, is_pattern: bool) -> Vec<(Box<[u8]>, usize)> {
        let Some(carried) = self.carried.get(&node) else { return Vec::new() };
        let wanted = carried.iter().filter(|((kind, _), _)| *kind == is_pattern);
        wanted.map(|((_, name), count)| (name.clone(), *count)).collect()
    }

    fn topics(&self, is_pattern: bool) -> &DashMap<Box<[u8]>, usize> {
        if is_pattern { &self.patterns } else { &self.channels }
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
            server: ArcSwap::from_pointee("redis 7.0.0".to_string()),
        }
    }
}

impl Stats {
    /// Gives a client its number, unless there are `most` already.
    pub fn admit_client(&self, addr: SocketAddr, worker: usize, most: usize) -> Option<u64> {
        let admitted = self
            .connected
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < most).then_some(count + 1));
        admitted.ok()?;
        let id = self.next_client.fetch_add(1, Ordering::Relaxed);
        let info = ClientInfo {
            addr,
            worker,
            connected_at: Instant::now(),
            name: Box::default(),
            lib_name: Box::default(),
            lib_ver: Box::default(),
            is_resp3: false,
        };
        self.clients.insert(id, info);
        Some(id)
    }

    pub fn forget_client(&self, id: u64) {
        if self.clients.remove(&id).is_some() {
            self.connected.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub fn update_client(&self, id: u64, change: impl FnOnce(&mut ClientInfo)) {
        if let Some(mut info) = self.clients.get_mut(&id) {
            change(&mut info);
        }
    }

    pub fn client(&self, id: u64) -> Option<ClientInfo> {
        self.clients.get(&id).map(|info| info.clone())
    }

    /// All clients, by number.
    pub fn clients(&self) -> Vec<(u64, ClientInfo)> {
        let mut all: Vec<(u64, ClientInfo)> =
            self.clients.iter().map(|entry| (*entry.key(), entry.value().clone())).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
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
        let first = stats.admit_client(addr, 0, 1).unwrap();
        assert_eq!(stats.admit_client(addr, 0, 1), None);
        stats.forget_client(first);
        stats.forget_client(first);
        assert_eq!((stats.connected(), stats.admit_client(addr, 0, 1)), (0, Some(2)));
    }
}
