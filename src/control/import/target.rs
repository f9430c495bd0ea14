//! What the target cluster has of keys, asked from their owners; redirects are followed, and a primary that
//! fails is waited for.

use super::ImportError;
use super::source::{Cursor, Value, ask, list, values};
use crate::backend::Credentials;
use crate::control::loader::{LoadError, Loader};
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::topology::Slot;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const MAX_REPLY: usize = 4 << 30;
/// How long to wait before asking again for what nobody answered.
const PAUSE: Duration = Duration::from_millis(300);

/// The cluster that is imported into, as far as it is read.
#[derive(Debug)]
pub struct Target {
    credentials: Credentials,
    limit: Duration,
    patience: Duration,
    clients: HashMap<SocketAddr, NodeClient>,
    has_absolute_expiry: bool,
}

impl Target {
    pub fn new(credentials: Credentials, limit: Duration, patience: Duration) -> Target {
        let clients = HashMap::new();
        Target { credentials, limit, patience, clients, has_absolute_expiry: true }
    }

    /// A connection to a node.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn client(&mut self, addr: SocketAddr) -> Result<&mut NodeClient, NodeError> {
        if self.clients.get(&addr).is_none_or(|client| !client.is_usable()) {
            let mut client = NodeClient::connect(addr, &self.credentials, self.limit).await?;
            client.set_max_reply(MAX_REPLY);
            self.clients.insert(addr, client);
        }
        self.clients.get_mut(&addr).ok_or(NodeError::Protocol { addr })
    }

    /// How many keys the cluster has.
    ///
    /// # Errors
    /// A primary does not answer.
    pub async fn count(&mut self, primaries: &[SocketAddr]) -> Result<u64, ImportError> {
        let mut keys = 0;
        for addr in primaries {
            let client = self.client(*addr).await.map_err(ImportError::Target)?;
            if let Reply::Integer(count) = client.call(&["DBSIZE"]).await.map_err(ImportError::Target)? {
                keys += count.max(0) as u64;
            }
        }
        Ok(keys)
    }

    /// Some keys more of one primary.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn list(
        &mut self,
        addr: SocketAddr,
        cursor: &Cursor,
    ) -> Result<(Cursor, Vec<Bytes>), ImportError> {
        let client = self.client(addr).await.map_err(ImportError::Target)?;
        list(client, cursor).await.map_err(ImportError::Target)
    }

    /// Which of these keys are there.
    ///
    /// # Errors
    /// Nobody serves one of them for too long.
    pub async fn present(
        &mut self,
        loader: &mut Loader,
        keys: Vec<Bytes>,
    ) -> Result<Vec<Bytes>, ImportError> {
        let exists = Bytes::from_static(b"EXISTS");
        let mut present = Vec::new();
        self.each_owner(loader, keys, 0, async |client, keys, _| {
            let questions: Vec<[Bytes; 2]> = keys.iter().map(|key| [exists.clone(), key.clone()]).collect();
            for (key, reply) in keys.iter().zip(ask(client, &questions).await?) {
                if reply? == Reply::Integer(1) {
                    present.push(key.clone());
                }
            }
            Ok(())
        })
        .await?;
        present.sort_unstable();
        present.dedup();
        Ok(present)
    }

    /// What there is of these keys, which have together about so many bytes.
    ///
    /// # Errors
    /// Nobody serves one of them for too long.
    pub async fn values(
        &mut self,
        loader: &mut Loader,
        keys: Vec<Bytes>,
        bytes: u64,
    ) -> Result<HashMap<Bytes, Value>, ImportError> {
        let mut found = HashMap::new();
        self.each_owner(loader, keys, bytes, async |client, keys, has_absolute_expiry| {
            let values = match values(client, keys, *has_absolute_expiry).await {
                Err(NodeError::Refused { text, .. })
                    if *has_absolute_expiry && text.starts_with("ERR unknown") =>
                {
                    // Older than Redis 7.
                    *has_absolute_expiry = false;
                    values(client, keys, false).await
                }
                values => values,
            };
            for (key, value) in keys.iter().zip(values?) {
                found.extend(value.map(|value| (key.clone(), value)));
            }
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Has each owner asked for its keys, until all were.
    async fn each_owner(
        &mut self,
        loader: &mut Loader,
        keys: Vec<Bytes>,
        bytes: u64,
        mut act: impl AsyncFnMut(&mut NodeClient, &[Bytes], &mut bool) -> Result<(), NodeError>,
    ) -> Result<(), ImportError> {
        let deadline = Instant::now() + self.patience;
        let mut waiting = keys;
        loop {
            let mut by_owner: BTreeMap<SocketAddr, Vec<Bytes>> = BTreeMap::new();
            for key in waiting.drain(..) {
                by_owner.entry(loader.owner(Slot::of_key(&key))).or_default().push(key);
            }
            let mut failed = None;
            for (addr, keys) in by_owner {
                let limit = self.limit + Duration::from_secs(bytes >> 22);
                let mut has_absolute_expiry = self.has_absolute_expiry;
                let asked = match self.client(addr).await {
                    Ok(client) => {
                        client.set_limit(limit);
                        act(client, &keys, &mut has_absolute_expiry).await
                    }
                    Err(error) => Err(error),
                };
                self.has_absolute_expiry = has_absolute_expiry;
                match asked {
                    Ok(()) => {}
                    Err(error) if is_final(&error) => return Err(ImportError::Target(error)),
                    Err(error) => {
                        self.clients.remove(&addr);
                        failed = Some((Slot::of_key(&keys[0]), error));
                        waiting.extend(keys);
                    }
                }
            }
            let Some((slot, error)) = failed else { return Ok(()) };
            if Instant::now() >= deadline {
                let (patience, text) = (self.patience, error.to_string());
                return Err(LoadError::Unserved { slot, patience, text }.into());
            }
            sleep(PAUSE).await;
            loader.look_again().await;
        }
    }
}

/// Whether asking again is of no use: no redirect, no node that is gone or not ready.
fn is_final(error: &NodeError) -> bool {
    const PASSING: [&str; 7] = ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "BUSY"];
    match error {
        NodeError::Refused { text, .. } => {
            let code = text.split(' ').next().unwrap_or_default();
            !PASSING.contains(&code)
        }
        _ => false,
    }
}
