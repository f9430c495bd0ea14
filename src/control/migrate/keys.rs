//! The keys of open slots, from source to target: list, weigh, MIGRATE, look again, until none is left.
//!
//! While a slot is open, its source creates no key in it (it answers ASK instead), so a list that comes
//! back empty stays empty (<https://redis.io/docs/latest/commands/cluster-setslot/>).

use super::{Cluster, Event, MigrateError, Words, ask, ask_all, words};
use crate::control::action::Party;
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::topology::Slot;
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many keys of a slot are looked at in one round.
const LISTED: usize = 512;
/// How many keys, and about how many bytes, one write moves: both nodes serve nobody else for that long,
/// a few milliseconds.
const KEYS_AT_ONCE: usize = 512;
const BYTES_AT_ONCE: u64 = 512 << 10;
/// Each so manieth key is weighed; where one of them is large, or an exchange broke, all are. To weigh all
/// always costs a tenth of the rate.
const SAMPLED: usize = 8;
const LARGE: u64 = 4 << 10;
/// A key from here on is announced: it stops both nodes for a tenth of a second and more.
const BIG: u64 = 16 << 20;
/// How long the nodes may stop in the exchange of usual keys: less than the usual node timeout, so that
/// a target that hangs does not make the source look dead.
const STEP_LIMIT: Duration = Duration::from_secs(3);
/// What a slow network and a busy target do at least with a big key, in bytes a second.
const SLOW_RATE: u64 = 10 << 20;
/// How often an exchange that broke is tried again before giving up.
const ATTEMPTS: usize = 3;
/// Rounds in which no key left.
const IDLE_ROUNDS: usize = 10;

pub(super) type Key = Vec<u8>;

/// One MIGRATE: keys of one slot.
struct Load {
    slot: Slot,
    keys: Vec<Key>,
    bytes: u64,
}

/// Moves the keys of some open slots.
pub(super) struct Mover<'a> {
    pub cluster: &'a Cluster,
    pub source: &'a mut NodeClient,
    /// Only asked how it is: it gets the keys from the source.
    pub target_client: &'a mut NodeClient,
    pub target: Party,
    pub events: &'a mpsc::Sender<Event>,
    /// Keys whose copy on the target may be overwritten: it came from an exchange of ours that broke, or
    /// is the same.
    replaceable: HashSet<Key>,
    broken: usize,
}

impl<'a> Mover<'a> {
    pub fn new(
        cluster: &'a Cluster,
        source: &'a mut NodeClient,
        target_client: &'a mut NodeClient,
        target: Party,
        events: &'a mpsc::Sender<Event>,
    ) -> Mover<'a> {
        Mover { cluster, source, target_client, target, events, replaceable: HashSet::new(), broken: 0 }
    }

    /// Empties the slots on the source, and says how many keys were moved. `listed` is what
    /// [`list`] said.
    pub async fn empty(&mut self, slots: &[Slot], mut listed: Vec<Reply>) -> Result<u64, MigrateError> {
        let (mut moved, mut idle) = (0, 0);
        loop {
            let found: Vec<(Slot, Vec<Key>)> =
                slots.iter().copied().zip(listed.iter().map(keys_of)).collect();
            let Some((slot, _)) = found.iter().find(|(_, keys)| !keys.is_empty()) else { return Ok(moved) };
            if idle > IDLE_ROUNDS {
                return Err(MigrateError::Stuck { slot: *slot, source_node: self.source.addr() });
            }
            let loads = self.weigh(found).await?;
            let sent = self.send(loads).await?;
            idle = if sent == 0 { idle + 1 } else { 0 };
            moved += sent;
            listed = ask_all(self.source, &list(slots)).await?;
        }
    }

    /// Cuts the keys into loads by number and bytes; a big key goes alone.
    async fn weigh(&mut self, mut found: Vec<(Slot, Vec<Key>)>) -> Result<Vec<Load>, MigrateError> {
        // REPLACE holds for a whole request: keys for which it is right stand together.
        for (_, keys) in &mut found {
            keys.sort_by_key(|key| self.is_replaceable(key));
        }
        let all = || found.iter().flat_map(|(_, keys)| keys);
        let samples: Vec<&Key> = all().step_by(SAMPLED).collect();
        let sampled = sizes(self.source, samples).await?;
        let has_large = self.broken > 0 || sampled.iter().any(|bytes| *bytes >= LARGE);
        let sizes = if has_large { sizes(self.source, all().collect()).await? } else { Vec::new() };
        let at_once = self.cluster.speed.keys_at_once(KEYS_AT_ONCE);
        let usual = sampled.iter().copied().max().unwrap_or(0);
        let mut sizes = sizes.into_iter();
        let mut loads: Vec<Load> = Vec::new();
        for (slot, keys) in found {
            let mut load = Load { slot, keys: Vec::new(), bytes: 0 };
            for key in keys {
                let bytes = sizes.next().unwrap_or(usual);
                if bytes >= BIG {
                    let name = key.escape_ascii().to_string();
                    self.tell(Event::BigKey { key: name, slot, bytes }).await;
                }
                let is_full = load.keys.len() >= at_once || load.bytes + bytes > BYTES_AT_ONCE;
                let is_other = load
                    .keys
                    .last()
                    .is_some_and(|last| self.is_replaceable(last) != self.is_replaceable(&key));
                if (is_full || is_other) && !load.keys.is_empty() {
                    loads.push(std::mem::replace(&mut load, Load { slot, keys: Vec::new(), bytes: 0 }));
                }
                load.keys.push(key);
                load.bytes += bytes;
            }
            if !load.keys.is_empty() {
                loads.push(load);
            }
        }
        Ok(loads)
    }

    /// Sends loads, several in a write while they are small, and says how many keys left.
    async fn send(&mut self, loads: Vec<Load>) -> Result<u64, MigrateError> {
        let mut moved = 0;
        let at_once = self.cluster.speed.keys_at_once(KEYS_AT_ONCE);
        let mut loads = loads.into_iter().peekable();
        while let Some(first) = loads.next() {
            let (mut keys, mut bytes) = (first.keys.len(), first.bytes);
            let mut write = vec![first];
            while let Some(next) =
                loads.next_if(|next| keys + next.keys.len() <= at_once && bytes + next.bytes <= BYTES_AT_ONCE)
            {
                keys += next.keys.len();
                bytes += next.bytes;
                write.push(next);
            }
            self.cluster.speed.wait(keys, self.source, self.target_client, self.events).await?;
            let requests: Vec<Words> = write.iter().map(|load| self.request(load)).collect();
            let replies = ask(self.source, &requests).await?;
            for (load, reply) in write.into_iter().zip(replies) {
                moved += self.settle(load, reply).await?;
            }
        }
        Ok(moved)
    }

    fn is_replaceable(&self, key: &Key) -> bool {
        self.replaceable.contains(key)
    }

    fn request(&self, load: &Load) -> Words {
        let limit = STEP_LIMIT + Duration::from_secs(load.bytes / SLOW_RATE);
        let (host, port) = (self.target.addr.ip().to_string(), self.target.addr.port().to_string());
        let mut request = words(["MIGRATE", &host, &port, "", "0", &limit.as_millis().to_string()]);
        if load.keys.iter().all(|key| self.is_replaceable(key)) {
            request.push(b"REPLACE".to_vec());
        }
        let credentials = &self.cluster.credentials;
        match (&credentials.user, &credentials.password) {
            (Some(user), Some(password)) => {
                let login = [b"AUTH2", user.as_bytes(), password.expose()];
                request.extend(login.map(<[u8]>::to_vec));
            }
            (None, Some(password)) => request.extend([b"AUTH".to_vec(), password.expose().to_vec()]),
            (_, None) => {}
        }
        request.push(b"KEYS".to_vec());
        request.extend(load.keys.iter().cloned());
        request
    }

    /// What came of one MIGRATE; keys that did not leave are met again in the next round.
    async fn settle(&mut self, load: Load, reply: Result<Reply, NodeError>) -> Result<u64, MigrateError> {
        let (slot, source_node, target) = (load.slot, self.source.addr(), self.target.addr);
        let text = match reply {
            Ok(Reply::SimpleString(word)) if word.as_ref() == b"NOKEY" => return Ok(0),
            Ok(_) => return Ok(load.keys.len() as u64),
            Err(NodeError::Refused { text, .. }) => text,
            Err(error) => return Err(error.into()),
        };
        if text.starts_with("IOERR") && self.broken < ATTEMPTS {
            // The target may have got keys whose receipt was lost. The source still has them and has
            // answered for them all the time, so its values are the right ones.
            self.broken += 1;
            self.tell(Event::Note(format!("{source_node} lost its exchange with {target}, trying again")))
                .await;
            self.replaceable.extend(load.keys);
            // Answers only after all that the source had sent it was dealt with.
            let mut client = self.cluster.connect(target).await?;
            client.call(&["PING"]).await?;
            return Ok(0);
        }
        if text.contains("BUSYKEY") {
            return self.compare(load).await.map(|()| 0);
        }
        if text.contains("OOM ") {
            return Err(MigrateError::Full { target, slot });
        }
        Err(MigrateError::Refused { slot, source_node, target, text })
    }

    /// Some of these keys are on both nodes: where both copies are the same, one may replace the other.
    async fn compare(&mut self, load: Load) -> Result<(), MigrateError> {
        let mut target = self.cluster.connect(self.target.addr).await?;
        for key in load.keys {
            let dump = vec![b"DUMP".to_vec(), key.clone()];
            let ours = match ask(self.source, std::slice::from_ref(&dump)).await?.pop() {
                // It left meanwhile: of a key that it lacks, the source of an open slot says ASK.
                Some(Err(NodeError::Refused { text, .. })) if text.starts_with("ASK ") => continue,
                Some(reply) => vec![reply?],
                None => continue,
            };
            let theirs = ask_all(&mut target, &[words(["ASKING"]), dump]).await?;
            match (ours.last(), theirs.last()) {
                (None | Some(Reply::Null), _) | (_, None | Some(Reply::Null)) => {}
                (ours, theirs) if ours == theirs => {
                    self.replaceable.insert(key);
                }
                _ if self.is_replaceable(&key) => {}
                _ if self.has_same_digest(&mut target, &key).await => {
                    self.replaceable.insert(key);
                }
                _ => {
                    return Err(MigrateError::Conflict {
                        key: key.escape_ascii().to_string(),
                        slot: load.slot,
                        source_node: self.source.addr(),
                        target: self.target.addr,
                    });
                }
            }
        }
        Ok(())
    }

    /// Two equal sets may be written down differently; their digest is the same, where DEBUG is allowed.
    async fn has_same_digest(&mut self, target: &mut NodeClient, key: &Key) -> bool {
        let digest = vec![b"DEBUG".to_vec(), b"DIGEST-VALUE".to_vec(), key.clone()];
        let ours = ask_all(self.source, std::slice::from_ref(&digest)).await;
        let theirs = ask_all(target, &[words(["ASKING"]), digest]).await;
        matches!((ours, theirs), (Ok(ours), Ok(theirs)) if ours.last() == theirs.last())
    }

    async fn tell(&self, event: Event) {
        // Whoever listens may have gone; the keys must move all the same.
        let _ = self.events.send(event).await;
    }
}

/// What keys take in memory, in bytes. An ACL may forbid to ask: then the number alone counts.
async fn sizes(source: &mut NodeClient, keys: Vec<&Key>) -> Result<Vec<u64>, NodeError> {
    let usage = |key: &Key| vec![b"MEMORY".to_vec(), b"USAGE".to_vec(), key.clone()];
    let replies = ask(source, &keys.into_iter().map(usage).collect::<Vec<_>>()).await?;
    let bytes = |reply| match reply {
        Ok(Reply::Integer(bytes)) => u64::try_from(bytes).unwrap_or(0),
        _ => 0,
    };
    Ok(replies.into_iter().map(bytes).collect())
}

/// Asks for the next keys of each slot.
pub(super) fn list(slots: &[Slot]) -> Vec<Words> {
    let question = |slot: &Slot| words(["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &LISTED.to_string()]);
    slots.iter().map(question).collect()
}

/// The keys of a `CLUSTER GETKEYSINSLOT`.
pub(super) fn keys_of(reply: &Reply) -> Vec<Key> {
    let Reply::Array(keys) = reply else { return Vec::new() };
    let key = |key: &Reply| if let Reply::BulkString(key) = key { Some(key.to_vec()) } else { None };
    keys.iter().filter_map(key).collect()
}
