//! A slot of few small keys, copied while its owner goes on serving it, and switched in one transaction.
//!
//! WATCH the keys → DUMP them → RESTORE them on the target → in one transaction on the source: the slot is
//! MIGRATING, its keys are gone. The transaction runs only when nobody wrote to a watched key meanwhile
//! (<https://redis.io/docs/latest/develop/interact/transactions/>), so at every moment one node alone
//! answers for a key: before it the source, which redirects nobody; after it the target. Neither node stands
//! still for longer than one command takes, as it does for a whole MIGRATE.
//!
//! Until the transaction the copies on the target are worth nothing, and a [`mark`] beside them says so to
//! the next run, should this one be killed.

use super::{Cluster, MigrateError, Words, ask, ask_all, set_slot, words};
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::control::plan::rebalance::Move;
use crate::topology::{NodeId, SLOTS, Slot};
use std::sync::LazyLock;

/// WATCH compares a key with all that the connection watches: with more, MIGRATE is as fast.
pub(super) const MOST_KEYS: usize = 512;

type Key = Vec<u8>;

/// The key that stands in a slot of the target while copies are made there.
pub(super) fn mark(slot: Slot) -> Key {
    /// A hash tag for each slot: the first number that falls into it.
    static TAGS: LazyLock<Vec<u32>> = LazyLock::new(|| {
        let mut tags = vec![None; SLOTS];
        let mut left = SLOTS;
        for number in 0.. {
            let tag: &mut Option<u32> = &mut tags[Slot::of_key(number.to_string().as_bytes()).index()];
            if tag.is_none() {
                *tag = Some(number);
                left -= 1;
            }
            if left == 0 {
                break;
            }
        }
        tags.into_iter().flatten().collect()
    });
    format!("slotgate:copying:{{{}}}", TAGS[slot.index()]).into_bytes()
}

/// Sets the mark; its value is the source, whose copies these are.
pub(super) fn set_mark(slot: Slot, source: NodeId) -> [Words; 2] {
    [words(["ASKING"]), vec![b"SET".to_vec(), mark(slot), source.as_str().as_bytes().to_vec()]]
}

/// Removes the mark.
pub(super) fn remove_mark(slot: Slot) -> [Words; 2] {
    [words(["ASKING"]), vec![b"DEL".to_vec(), mark(slot)]]
}

/// Throws away what an earlier run copied and did not switch, if it did.
///
/// `owner` is who owns the slot now. Were it another node than the mark says, what is on the target may be
/// all that there is.
pub(super) async fn discard(target: &mut NodeClient, slot: Slot, owner: NodeId) -> Result<(), NodeError> {
    let marked = ask_all(target, &[words(["ASKING"]), vec![b"GET".to_vec(), mark(slot)]]).await?;
    let is_ours =
        matches!(marked.last(), Some(Reply::BulkString(id)) if id.as_ref() == owner.as_str().as_bytes());
    if !is_ours {
        return ask_all(target, &remove_mark(slot)).await.map(drop);
    }
    // All that the slot has there came through a copy: before the transaction nobody is sent to the target.
    let list = words(["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &MOST_KEYS.to_string()]);
    loop {
        let listed = ask_all(target, std::slice::from_ref(&list)).await?;
        let mut keys = listed.first().map(keys_of).unwrap_or_default();
        // The mark goes last: until then the copies are known for what they are.
        keys.retain(|key| *key != mark(slot));
        if keys.is_empty() {
            return ask_all(target, &remove_mark(slot)).await.map(drop);
        }
        ask_all(target, &unlink_each(&keys)).await?;
    }
}

/// A slot that was switched.
pub(super) struct Switched {
    pub keys: u64,
    /// What the source still has in it: keys that came while it was copied.
    pub left: Reply,
}

/// Connections that copy one slot at a time: WATCH belongs to a connection.
pub(super) struct Lane {
    source: NodeClient,
    target: NodeClient,
}

impl Lane {
    pub async fn open(cluster: &Cluster, step: &Move) -> Result<Lane, NodeError> {
        let source = cluster.connect(step.source.addr).await?;
        Ok(Lane { source, target: cluster.connect(step.target.addr).await? })
    }

    /// Copies and switches a slot that is IMPORTING on the target, marked there, and not yet MIGRATING on
    /// the source. `None`: it was not switched, for one of many reasons, and the target has nothing of it.
    ///
    /// # Errors
    /// A connection failed: nobody knows how far it came.
    pub async fn switch(
        &mut self,
        cluster: &Cluster,
        step: &Move,
        slot: Slot,
        keys: &[Key],
    ) -> Result<Option<Switched>, MigrateError> {
        let copies = match self.read(keys).await {
            Ok(copies) => copies,
            // Larger than we take: a large value among small ones.
            Err(NodeError::Protocol { .. }) => {
                self.source = cluster.connect(step.source.addr).await?;
                None
            }
            Err(error) => return Err(error.into()),
        };
        let Some(copies) = copies else {
            self.give_up(slot, &[]).await?;
            return Ok(None);
        };
        let restore: Vec<Words> = copies.iter().map(Copy::restore).collect();
        let restored = ask(&mut self.target, &restore).await?;
        if restored.iter().any(Result::is_err) {
            // What was there before is not ours to remove.
            let ours = copies.into_iter().zip(&restored).filter(|(_, reply)| reply.is_ok());
            let ours: Vec<Key> = ours.map(|(copy, _)| copy.key).collect();
            ask(&mut self.source, &[words(["UNWATCH"])]).await?;
            self.give_up(slot, &ours).await?;
            return Ok(None);
        }
        let list = words(["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &MOST_KEYS.to_string()]);
        let transaction = [
            words(["MULTI"]),
            set_slot(slot, "MIGRATING", step.target.id),
            unlink(keys),
            words(["EXEC"]),
            list,
        ];
        let mut replies = ask(&mut self.source, &transaction).await?;
        let (left, done) = (replies.pop(), replies.pop());
        let Some(Ok(Reply::Array(done))) = done else {
            let ours: Vec<Key> = copies.into_iter().map(|copy| copy.key).collect();
            self.give_up(slot, &ours).await?;
            return Ok(None);
        };
        // From here on the copies are the keys.
        ask_all(&mut self.target, &remove_mark(slot)).await?;
        if let Some(Reply::Error(_)) = done.first() {
            // Its keys are gone all the same: a transaction goes on after an error.
            ask_all(&mut self.source, &[set_slot(slot, "MIGRATING", step.target.id)]).await?;
        }
        let left = left.transpose()?.unwrap_or(Reply::Null);
        Ok(Some(Switched { keys: copies.len() as u64, left }))
    }

    /// The keys' values and times to live, watched; `None` when the node does not let us.
    async fn read(&mut self, keys: &[Key]) -> Result<Option<Vec<Copy>>, NodeError> {
        let mut questions = vec![[vec![b"WATCH".to_vec()], keys.to_vec()].concat()];
        for key in keys {
            questions.push(vec![b"DUMP".to_vec(), key.clone()]);
            questions.push(vec![b"PTTL".to_vec(), key.clone()]);
        }
        let mut replies = ask(&mut self.source, &questions).await?.into_iter();
        let mut copies = Vec::with_capacity(keys.len());
        if !matches!(replies.next(), Some(Ok(_))) {
            return Ok(None);
        }
        for key in keys {
            match (replies.next(), replies.next()) {
                (Some(Ok(Reply::BulkString(value))), Some(Ok(Reply::Integer(ttl)))) => {
                    copies.push(Copy { key: key.clone(), value: value.to_vec(), ttl });
                }
                // It has gone since it was listed.
                (Some(Ok(Reply::Null)), Some(Ok(_))) => {}
                _ => {
                    ask(&mut self.source, &[words(["UNWATCH"])]).await?;
                    return Ok(None);
                }
            }
        }
        Ok(Some(copies))
    }

    /// Removes copies, and then the mark.
    async fn give_up(&mut self, slot: Slot, ours: &[Key]) -> Result<(), NodeError> {
        let mut questions = unlink_each(ours);
        questions.extend(remove_mark(slot));
        ask_all(&mut self.target, &questions).await.map(drop)
    }
}

/// A key as it was read.
struct Copy {
    key: Key,
    value: Vec<u8>,
    /// In milliseconds; below 0: it does not expire.
    ttl: i64,
}

impl Copy {
    fn restore(&self) -> Words {
        // 0 would mean that it never expires.
        let ttl = if self.ttl < 0 { 0 } else { self.ttl.max(1) };
        vec![b"RESTORE-ASKING".to_vec(), self.key.clone(), ttl.to_string().into_bytes(), self.value.clone()]
    }
}

fn unlink(keys: &[Key]) -> Words {
    [vec![b"UNLINK".to_vec()], keys.to_vec()].concat()
}

/// For a node that imports the slot: of several keys at once it must have each, and one may have expired.
fn unlink_each(keys: &[Key]) -> Vec<Words> {
    keys.iter().flat_map(|key| [words(["ASKING"]), unlink(std::slice::from_ref(key))]).collect()
}

/// The keys of a `CLUSTER GETKEYSINSLOT`.
pub(super) fn keys_of(reply: &Reply) -> Vec<Key> {
    let Reply::Array(keys) = reply else { return Vec::new() };
    let key = |key: &Reply| if let Reply::BulkString(key) = key { Some(key.to_vec()) } else { None };
    keys.iter().filter_map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_mark_of_its_own() {
        for slot in Slot::all() {
            assert_eq!(Slot::of_key(&mark(slot)), slot);
        }
    }
}
