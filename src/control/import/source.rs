//! The source: a server that is only read. Its keys are listed and read as `DUMP` gives them, a bounded
//! number of bytes at a time.

use super::ImportError;
use super::watch::Watch;
use crate::backend::Credentials;
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::topology::Slot;
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many keys are listed at once; the source serves nobody else meanwhile, about half a millisecond.
const LISTED: &str = "1000";
/// How many values are asked for in one write: as many as this, and about so many bytes.
const KEYS_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: u64 = 2 << 20;
/// Where the source does not tell how large values are.
const UNWEIGHED_AT_ONCE: usize = 16;
/// What a slow network and a busy source do at least, in bytes a second.
const SLOW_RATE: u64 = 5 << 20;
/// `DUMP` of the largest value that Redis holds in one piece has a little more than 512 MiB; a key of many
/// pieces may have more.
const MAX_REPLY: usize = 4 << 30;

/// A key's value, as `DUMP` gives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    pub payload: Bytes,
    /// In milliseconds since 1970.
    pub expiry: Option<u64>,
}

/// A place in the list of all keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor(Bytes);

impl Default for Cursor {
    fn default() -> Cursor {
        Cursor(Bytes::from_static(b"0"))
    }
}

impl Cursor {
    /// Whether it is at the end, or at the beginning.
    pub fn is_end(&self) -> bool {
        self.0.as_ref() == b"0"
    }
}

/// What a source says of itself.
#[derive(Clone, Debug, Default)]
pub struct About {
    pub version: String,
    pub is_cluster: bool,
    /// How many keys each database has.
    pub databases: BTreeMap<u32, u64>,
    pub used_memory: u64,
    /// How often databases were swapped.
    pub swaps: u64,
}

/// A server whose keys are read.
#[derive(Debug)]
pub struct Source {
    pub addr: SocketAddr,
    pub client: NodeClient,
    watch: Option<Watch>,
    /// Keys to be copied for reasons that the source does not tell.
    added: HashSet<Bytes>,
    /// Of which slots the keys are; all of them are here when the source is no cluster.
    pub slots: Option<Vec<bool>>,
    limit: Duration,
    has_absolute_expiry: bool,
    has_weights: bool,
}

impl Source {
    /// Connects, and picks the database.
    ///
    /// # Errors
    /// The source cannot be reached or refuses.
    pub async fn open(
        addr: SocketAddr,
        credentials: &Credentials,
        database: u32,
        limit: Duration,
    ) -> Result<Source, ImportError> {
        let mut client = NodeClient::connect(addr, credentials, limit).await.map_err(ImportError::Source)?;
        client.set_max_reply(MAX_REPLY);
        if database != 0 {
            client.call(&["SELECT", &database.to_string()]).await.map_err(ImportError::Source)?;
        }
        let has = |reply: Result<Reply, NodeError>| match reply {
            Ok(_) => Ok(true),
            // Older than the command, or not allowed.
            Err(NodeError::Refused { text, .. })
                if !text.starts_with("NOAUTH") && !text.starts_with("LOADING") =>
            {
                Ok(false)
            }
            Err(error) => Err(ImportError::Source(error)),
        };
        let has_absolute_expiry = has(client.call(&["PEXPIRETIME", "slotgate"]).await)?;
        let has_weights = has(client.call(&["MEMORY", "USAGE", "slotgate"]).await)?;
        Ok(Source {
            addr,
            client,
            watch: None,
            added: HashSet::new(),
            slots: None,
            limit,
            has_absolute_expiry,
            has_weights,
        })
    }

    /// Begins to hear of what is written.
    ///
    /// # Errors
    /// The source does not offer it.
    pub async fn begin_watch(&mut self, credentials: &Credentials) -> Result<(), ImportError> {
        self.watch = Some(Watch::begin(self.addr, credentials, self.limit).await?);
        Ok(())
    }

    /// Waits until everything that was written before this call has been heard of.
    ///
    /// # Errors
    /// The source does not answer.
    pub async fn catch_up(&mut self) -> Result<(), ImportError> {
        match &mut self.watch {
            Some(watch) => watch.catch_up().await,
            None => Ok(()),
        }
    }

    /// Takes up to `count` keys that are to be copied again.
    pub fn take_written(&mut self, count: usize) -> Vec<Bytes> {
        let told = self.watch.as_ref().map(|watch| watch.take(count)).unwrap_or_default();
        // The same key may be here for both reasons, and must not come twice.
        let mut keys: HashSet<Bytes> = told.into_iter().collect();
        keys.extend(take(&mut self.added, count.saturating_sub(keys.len())));
        keys.into_iter().filter(|key| self.has_slot_of(key)).collect()
    }

    /// How many keys are to be copied again.
    pub fn waiting(&self) -> usize {
        self.added.len() + self.watch.as_ref().map_or(0, Watch::count)
    }

    /// Whether all keys may have changed since this was asked last.
    pub fn take_everything(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::take_everything)
    }

    /// Whether a key is to be copied again.
    pub fn is_waiting(&self, key: &Bytes) -> bool {
        self.added.contains(key) || self.watch.as_ref().is_some_and(|watch| watch.has(key))
    }

    /// Has keys copied again.
    pub fn add(&mut self, keys: impl IntoIterator<Item = Bytes>) {
        self.added.extend(keys);
    }

    /// Whether a key is or would be here.
    pub fn has_slot_of(&self, key: &[u8]) -> bool {
        self.slots.as_ref().is_none_or(|slots| slots[Slot::of_key(key).index()])
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn about(&mut self) -> Result<About, ImportError> {
        let info = self.client.call_text(&["INFO"]).await.map_err(ImportError::Source)?;
        let stats = self.client.call_text(&["INFO", "commandstats"]).await.unwrap_or_default();
        Ok(About::parse(&info, &stats))
    }

    /// Some keys more, and where to go on. A key that is there all the time comes at least once.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn list(&mut self, cursor: &Cursor) -> Result<(Cursor, Vec<Bytes>), ImportError> {
        list(&mut self.client, cursor).await.map_err(ImportError::Source)
    }

    /// Which of these keys are not there.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn missing(&mut self, keys: Vec<Bytes>) -> Result<Vec<Bytes>, ImportError> {
        let exists = Bytes::from_static(b"EXISTS");
        let questions: Vec<[Bytes; 2]> = keys.iter().map(|key| [exists.clone(), key.clone()]).collect();
        let mut missing = Vec::new();
        let replies = ask(&mut self.client, &questions).await.map_err(ImportError::Source)?;
        for (key, reply) in keys.into_iter().zip(replies) {
            if reply.map_err(ImportError::Source)? == Reply::Integer(0) {
                missing.push(key);
            }
        }
        Ok(missing)
    }

    /// Cuts keys into groups whose values are asked for at once.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn weigh(&mut self, keys: Vec<Bytes>) -> Result<Vec<(Vec<Bytes>, u64)>, ImportError> {
        if !self.has_weights {
            return Ok(keys.chunks(UNWEIGHED_AT_ONCE).map(|keys| (keys.to_vec(), 0)).collect());
        }
        let (memory, usage) = (Bytes::from_static(b"MEMORY"), Bytes::from_static(b"USAGE"));
        let mut weights = Vec::with_capacity(keys.len());
        for some in keys.chunks(1000) {
            let questions: Vec<[Bytes; 3]> =
                some.iter().map(|key| [memory.clone(), usage.clone(), key.clone()]).collect();
            for reply in ask(&mut self.client, &questions).await.map_err(ImportError::Source)? {
                weights.push(if let Ok(Reply::Integer(bytes)) = reply { bytes.max(0) as u64 } else { 0 });
            }
        }
        let mut groups: Vec<(Vec<Bytes>, u64)> = Vec::new();
        for (key, weight) in keys.into_iter().zip(weights) {
            match groups.last_mut() {
                Some((group, bytes)) if group.len() < KEYS_AT_ONCE && *bytes + weight <= BYTES_AT_ONCE => {
                    group.push(key);
                    *bytes += weight;
                }
                _ => groups.push((vec![key], weight)),
            }
        }
        Ok(groups)
    }

    /// The values of a group of keys, which together have about so many bytes; `None`: there is no such key.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn values(&mut self, keys: &[Bytes], bytes: u64) -> Result<Vec<Option<Value>>, ImportError> {
        self.client.set_limit(self.limit + Duration::from_secs(bytes / SLOW_RATE));
        let values = values(&mut self.client, keys, self.has_absolute_expiry).await;
        self.client.set_limit(self.limit);
        values.map_err(ImportError::Source)
    }
}

impl About {
    /// Reads the answers to `INFO` and `INFO commandstats`.
    pub fn parse(info: &str, stats: &str) -> About {
        let mut about = About::default();
        for (name, value) in
            info.lines().chain(stats.lines()).filter_map(|line| line.trim_end().split_once(':'))
        {
            let number = |text: &str, name: &str| {
                let fields = text.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
                fields.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
            };
            match name {
                // Valkey says what it is compatible with in redis_version.
                "valkey_version" => about.version = format!("Valkey {value}"),
                "redis_version" if about.version.is_empty() => about.version = format!("Redis {value}"),
                "cluster_enabled" => about.is_cluster = value == "1",
                "used_memory" => about.used_memory = value.parse().unwrap_or(0),
                "cmdstat_swapdb" => about.swaps = number(value, "calls"),
                _ => {
                    let database = name.strip_prefix("db").and_then(|number| number.parse().ok());
                    about.databases.extend(database.map(|database: u32| (database, number(value, "keys"))));
                }
            }
        }
        about
    }
}

/// Takes up to `count` keys out of a set.
pub(super) fn take(keys: &mut HashSet<Bytes>, count: usize) -> Vec<Bytes> {
    let taken: Vec<Bytes> = keys.iter().take(count).cloned().collect();
    for key in &taken {
        keys.remove(key);
    }
    taken
}

/// Some keys more of any server.
pub(super) async fn list(
    client: &mut NodeClient,
    cursor: &Cursor,
) -> Result<(Cursor, Vec<Bytes>), NodeError> {
    let addr = client.addr();
    let words = [b"SCAN", cursor.0.as_ref(), b"COUNT", LISTED.as_bytes()];
    let Reply::Array(parts) = client.call(&words).await? else { return Err(NodeError::Protocol { addr }) };
    match <[Reply; 2]>::try_from(parts) {
        Ok([Reply::BulkString(next), Reply::Array(keys)]) => {
            let key = |key| {
                if let Reply::BulkString(key) = key { Some(Bytes::copy_from_slice(&key)) } else { None }
            };
            Ok((Cursor(next), keys.into_iter().filter_map(key).collect()))
        }
        _ => Err(NodeError::Protocol { addr }),
    }
}

/// Asks all of it in one write.
pub(super) async fn ask<const N: usize>(
    client: &mut NodeClient,
    questions: &[[Bytes; N]],
) -> Result<Vec<Result<Reply, NodeError>>, NodeError> {
    let questions: Vec<&[Bytes]> = questions.iter().map(<[Bytes; N]>::as_slice).collect();
    client.call_all(&questions).await
}

/// The values of keys that the server has.
pub(super) async fn values(
    client: &mut NodeClient,
    keys: &[Bytes],
    has_absolute_expiry: bool,
) -> Result<Vec<Option<Value>>, NodeError> {
    let addr = client.addr();
    let (dump, expiry) =
        (Bytes::from_static(b"DUMP"), if has_absolute_expiry { &b"PEXPIRETIME"[..] } else { b"PTTL" });
    let expiry = Bytes::from_static(expiry);
    let questions: Vec<[Bytes; 2]> =
        keys.iter().flat_map(|key| [[dump.clone(), key.clone()], [expiry.clone(), key.clone()]]).collect();
    let replies = ask(client, &questions).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let mut replies = replies.into_iter();
    let mut values = Vec::with_capacity(keys.len());
    while let (Some(payload), Some(expiry)) = (replies.next(), replies.next()) {
        values.push(match (payload?, expiry?) {
            // It may expire between the two questions.
            (Reply::Null, _) | (_, Reply::Integer(-2)) => None,
            (Reply::BulkString(payload), Reply::Integer(-1)) => Some(Value { payload, expiry: None }),
            (Reply::BulkString(payload), Reply::Integer(time)) => {
                let time = u64::try_from(time).unwrap_or(0);
                let expiry = Some(if has_absolute_expiry { time } else { now + time });
                Some(Value { payload, expiry })
            }
            _ => return Err(NodeError::Protocol { addr }),
        });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_tells_what_it_holds() {
        let info = "redis_version:7.2.4\r\nvalkey_version:8.0.1\r\nused_memory:77\r\ncluster_enabled:0\r\n\
                    db0:keys=12,expires=1,avg_ttl=0\r\ndb3:keys=4,expires=0,avg_ttl=0\r\n";
        let about = About::parse(info, "cmdstat_swapdb:calls=2,usec=3\r\n");
        assert_eq!(about.version, "Valkey 8.0.1");
        assert_eq!(about.databases, BTreeMap::from([(0, 12), (3, 4)]));
        assert_eq!((about.used_memory, about.swaps, about.is_cluster), (77, 2, false));
    }
}
