//! Carries [`Action::SettleSlot`](super::action::Action::SettleSlot) out: keys to the new owner, then the
//! owner's name to all, the new owner first, so that a slot is without an owner at no moment
//! (<https://redis.io/docs/latest/commands/cluster-setslot/>).
//!
//! Every step looks at what is; begun again it goes on. A key is deleted on one side only when the other
//! has the same, or when that was allowed and the key is saved in a file.

use super::act::{ActError, Acted, Actor};
use super::action::Party;
use super::migrate::discard;
use super::node_client::{NodeClient, NodeError, Reply};
use super::view::{NodeView, Observation};
use crate::topology::{NodeId, Slot};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How many keys are moved at once.
const BATCH: &str = "100";
/// For one batch: a key of a gigabyte takes some seconds to write, send and read.
const MOVE_LIMIT: Duration = Duration::from_secs(120);
/// The node's own limit for it, in milliseconds of silence of the other side.
const MIGRATE_MILLIS: &str = "60000";

/// Why a slot was not settled. What was moved until then stays moved.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    #[error(
        "the key {key:?} of slot {slot} is on {from} and on {to} with different values. Settle it by hand, or give up what \
         {from} has with --allow-data-loss {slot}"
    )]
    Differs { key: String, slot: Slot, from: SocketAddr, to: SocketAddr },
    #[error(
        "keys of slot {slot} stay on {from} though it says that it moved them: are they in another database than 0?"
    )]
    Stuck { slot: Slot, from: SocketAddr },
    #[error("cannot save keys to {0}: {1}; nothing was deleted")]
    Save(PathBuf, io::Error),
    #[error("{0} is a replica by now; run the same command again")]
    NotPrimary(SocketAddr),
}

/// Moves, gives and closes one slot; `from` and `others` as in the action.
pub(super) async fn settle_slot(
    actor: &Actor,
    target: &mut NodeClient,
    node: &Observation,
    slot: Slot,
    (from, others): (&[Party], &[Party]),
    may_lose: bool,
) -> Result<Acted, ActError> {
    let (to, number) = (Party { id: node.view.id(), addr: node.view.asked }, slot.to_string());
    if node.view.myself().primary.is_some() {
        return Err(SettleError::NotPrimary(to.addr).into());
    }
    let is_owner = owns(&node.view, slot);
    let mut sources = Vec::new();
    for party in from {
        sources.push(actor.open(*party).await?);
    }
    if !is_owner {
        // Importing lets it take keys, and lets it raise its epoch when it is given the slot. Whom it is
        // said to import from matters to nobody else; a source is there, or else nothing was open.
        let peer = sources.iter().find(|(_, source)| owns(&source.view, slot)).or(sources.first());
        if let Some((_, peer)) = peer {
            set_slot(target, &number, "IMPORTING", Some(peer.view.id())).await?;
        }
    } else {
        // While it says that it gives the slot away, an owner takes no key that it has not (ASK).
        set_slot(target, &number, "STABLE", None).await?;
    }
    for (source, state) in &mut sources {
        // What a move copied there and did not switch before it was killed is nobody's key.
        if is_owner && state.view.myself().open_slots.iter().any(|open| open.slot == slot) {
            discard(source, slot, to.id).await?;
        }
        if count(source, &number).await? == 0 {
            continue;
        }
        // MIGRATE works on a slot that is open only.
        let direction = if owns(&state.view, slot) { "MIGRATING" } else { "IMPORTING" };
        set_slot(source, &number, direction, Some(to.id)).await?;
        let mut moving = Moving { actor, slot, from: state.view.asked, to: to.addr, may_lose };
        moving.run().await?;
    }
    if !is_owner {
        set_slot(target, &number, "NODE", Some(to.id)).await?;
    }
    set_slot(target, &number, "STABLE", None).await?;
    for (source, _) in &mut sources {
        set_slot(source, &number, "NODE", Some(to.id)).await?;
        match set_slot(source, &number, "STABLE", None).await {
            // It gave its last slot away and became a replica, to which nothing is open.
            Err(NodeError::Refused { text, .. }) if text.contains("only with masters") => {}
            other => other?,
        }
    }
    for other in others {
        let (mut client, state) = actor.open(*other).await?;
        if state.view.myself().primary.is_none() {
            set_slot(&mut client, &number, "NODE", Some(to.id)).await?;
        }
    }
    Ok(Acted::Done)
}

fn owns(view: &NodeView, slot: Slot) -> bool {
    view.myself().slots.iter().any(|range| (range.start..=range.end).contains(&slot))
}

async fn set_slot(
    client: &mut NodeClient,
    slot: &str,
    what: &str,
    node: Option<NodeId>,
) -> Result<(), NodeError> {
    let mut words = vec!["CLUSTER", "SETSLOT", slot, what];
    words.extend(node.as_ref().map(NodeId::as_str));
    client.call(&words).await.map(|_| ())
}

async fn count(client: &mut NodeClient, slot: &str) -> Result<i64, NodeError> {
    match client.call(&["CLUSTER", "COUNTKEYSINSLOT", slot]).await? {
        Reply::Integer(keys) => Ok(keys),
        _ => Err(NodeError::Unexpected { addr: client.addr(), what: "CLUSTER COUNTKEYSINSLOT".into() }),
    }
}

/// The keys of one slot on their way from one node to another.
struct Moving<'a> {
    actor: &'a Actor,
    slot: Slot,
    from: SocketAddr,
    to: SocketAddr,
    may_lose: bool,
}

impl Moving<'_> {
    async fn run(&mut self) -> Result<(), ActError> {
        // Connections of their own, as a batch may take longer than other questions.
        let mut source = NodeClient::connect(self.from, &self.actor.credentials, MOVE_LIMIT).await?;
        let mut target = NodeClient::connect(self.to, &self.actor.credentials, MOVE_LIMIT).await?;
        let slot = self.slot.to_string();
        let mut moved = Vec::new();
        loop {
            let keys = keys(source.call(&["CLUSTER", "GETKEYSINSLOT", &slot, BATCH]).await?);
            if keys.is_empty() {
                return Ok(());
            }
            if keys == moved {
                return Err(SettleError::Stuck { slot: self.slot, from: self.from }.into());
            }
            moved.clone_from(&keys);
            if !self.migrate(&mut source, &keys, false).await? {
                for key in keys {
                    self.move_one(&mut source, &mut target, key).await?;
                }
            }
        }
    }

    /// Moves keys; false when the other side has one of them already.
    async fn migrate(
        &self,
        source: &mut NodeClient,
        keys: &[Bytes],
        replace: bool,
    ) -> Result<bool, NodeError> {
        let (ip, port) = (self.to.ip().to_string(), self.to.port().to_string());
        let credentials = &self.actor.credentials;
        let mut words: Vec<&[u8]> = vec![b"MIGRATE", ip.as_bytes(), port.as_bytes(), b"", b"0"];
        words.push(MIGRATE_MILLIS.as_bytes());
        if replace {
            words.push(b"REPLACE");
        }
        match (&credentials.user, &credentials.password) {
            (Some(user), Some(password)) => words.extend([b"AUTH2", user.as_bytes(), password.expose()]),
            (None, Some(password)) => words.extend([b"AUTH", password.expose()]),
            (_, None) => {}
        }
        words.push(b"KEYS");
        words.extend(keys.iter().map(Bytes::as_ref));
        match source.call(&words).await {
            Ok(_) => Ok(true),
            Err(NodeError::Refused { text, .. }) if text.contains("BUSYKEY") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Moves a key that both sides may have.
    async fn move_one(
        &self,
        source: &mut NodeClient,
        target: &mut NodeClient,
        key: Bytes,
    ) -> Result<(), ActError> {
        if self.migrate(source, std::slice::from_ref(&key), false).await? {
            return Ok(());
        }
        let (here, there) =
            (asking(source, &[b"DUMP", &key]).await?, asking(target, &[b"DUMP", &key]).await?);
        if here == there {
            self.migrate(source, &[key], true).await?;
            return Ok(());
        }
        let differs = || SettleError::Differs {
            key: String::from_utf8_lossy(&key).into_owned(),
            slot: self.slot,
            from: self.from,
            to: self.to,
        };
        let Some(file) = self.actor.save_to.as_ref().filter(|_| self.may_lose) else {
            return Err(differs().into());
        };
        let Reply::BulkString(dump) = here else {
            // It expired meanwhile.
            return Ok(());
        };
        let Reply::Integer(ttl) = asking(source, &[b"PTTL", &key]).await? else {
            return Err(differs().into());
        };
        self.save(file, &key, ttl, &dump).map_err(|error| SettleError::Save(file.clone(), error))?;
        asking(source, &[b"DEL", &key]).await?;
        Ok(())
    }

    /// Adds the key to the file, as what `RESTORE` takes, in hexadecimal digits; on disk when it returns.
    fn save(&self, file: &PathBuf, key: &[u8], ttl: i64, dump: &[u8]) -> io::Result<()> {
        let line = serde_json::json!({
            "slot": self.slot.number(),
            "from": self.from.to_string(),
            "key": String::from_utf8_lossy(key),
            "key_hex": hex(key),
            "ttl_millis": ttl.max(0),
            "dump_hex": hex(dump),
        });
        let mut file = File::options().create(true).append(true).open(file)?;
        writeln!(file, "{line}")?;
        file.sync_all()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asks about a key in a slot that the node may only be importing.
async fn asking(client: &mut NodeClient, words: &[&[u8]]) -> Result<Reply, NodeError> {
    let mut replies = client.call_all(&[&[&b"ASKING"[..]][..], words]).await?;
    match replies.pop() {
        Some(reply) => reply,
        None => Err(NodeError::Protocol { addr: client.addr() }),
    }
}

fn keys(reply: Reply) -> Vec<Bytes> {
    let Reply::Array(items) = reply else { return Vec::new() };
    let keys = items.into_iter().filter_map(|item| match item {
        Reply::BulkString(key) => Some(key),
        _ => None,
    });
    keys.collect()
}
