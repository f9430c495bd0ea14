//! What a backup holds, counted by type and by where each key will go. Pure.

use super::is_over;
use crate::control::rdb::Item;
use crate::topology::Slot;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

/// What one primary will get.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Share {
    pub keys: u64,
    /// Serialized.
    pub bytes: u64,
    /// What the keys took in the memory of the nodes that they come from, about.
    pub memory: u64,
}

/// Everything in a backup, or in one of its files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Census {
    now: SystemTime,
    /// All keys, those whose time is over among them.
    pub keys: u64,
    pub expired: u64,
    /// Keys that will expire.
    pub expiring: u64,
    /// How many keys to restore are of which type.
    pub kinds: BTreeMap<&'static str, u64>,
    pub shares: BTreeMap<SocketAddr, Share>,
    /// For each RDB version that a value needs, one such key.
    pub versions: BTreeMap<u16, String>,
    /// The key with the largest value, and its serialized size.
    pub largest: Option<(u64, String)>,
    /// A key of another database than 0.
    pub elsewhere: Option<(u64, String)>,
    /// As `FUNCTION RESTORE` wants them; the shards of a cluster mostly have the same.
    pub functions: Vec<Vec<u8>>,
}

impl Census {
    /// Of nothing; keys whose time is over by `now` are told apart.
    pub fn new(now: SystemTime) -> Census {
        Census {
            now,
            keys: 0,
            expired: 0,
            expiring: 0,
            kinds: BTreeMap::new(),
            shares: BTreeMap::new(),
            versions: BTreeMap::new(),
            largest: None,
            elsewhere: None,
            functions: Vec::new(),
        }
    }

    /// Counts one thing found in a file.
    pub fn count(&mut self, item: &Item, owner: &dyn Fn(Slot) -> SocketAddr) {
        let Item::Key(entry) = item else { return };
        self.keys += 1;
        if is_over(entry.expires_at, self.now) {
            self.expired += 1;
            return;
        }
        let name = || String::from_utf8_lossy(&entry.key[..entry.key.len().min(100)]).into_owned();
        let size = entry.value.size();
        self.expiring += u64::from(entry.expires_at.is_some());
        *self.kinds.entry(entry.value.kind()).or_default() += 1;
        let share = self.shares.entry(owner(Slot::of_key(&entry.key))).or_default();
        share.keys += 1;
        share.bytes += size;
        self.versions.entry(entry.value.since()).or_insert_with(name);
        if self.largest.as_ref().is_none_or(|(largest, _)| size > *largest) {
            self.largest = Some((size, name()));
        }
        if entry.database != 0 && self.elsewhere.is_none() {
            self.elsewhere = Some((entry.database, name()));
        }
    }

    /// Gives each share its part, by number of keys, of the memory that the file's node used.
    pub fn weigh(&mut self, memory: u64) {
        let keys = u128::from(self.keys.max(1));
        for share in self.shares.values_mut() {
            share.memory = (u128::from(memory) * u128::from(share.keys) / keys) as u64;
        }
    }

    /// Adds another file's.
    pub fn add(&mut self, other: Census, functions: Vec<Vec<u8>>) {
        self.keys += other.keys;
        self.expired += other.expired;
        self.expiring += other.expiring;
        for (kind, keys) in other.kinds {
            *self.kinds.entry(kind).or_default() += keys;
        }
        for (addr, more) in other.shares {
            let share = self.shares.entry(addr).or_default();
            *share = Share {
                keys: share.keys + more.keys,
                bytes: share.bytes + more.bytes,
                memory: share.memory + more.memory,
            };
        }
        for (version, key) in other.versions {
            self.versions.entry(version).or_insert(key);
        }
        self.largest = self.largest.take().max(other.largest);
        self.elsewhere = self.elsewhere.take().or(other.elsewhere);
        for payload in functions {
            if !self.functions.contains(&payload) {
                self.functions.push(payload);
            }
        }
    }

    /// How many keys are to be restored.
    pub fn wanted(&self) -> u64 {
        self.keys - self.expired
    }

    /// The bytes of their values.
    pub fn bytes(&self) -> u64 {
        self.shares.values().map(|share| share.bytes).sum()
    }
}
