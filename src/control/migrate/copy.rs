//! Slots of small keys, copied while their owner goes on serving them, and each switched in one step.
//!
//! The source WATCHes a slot's keys and dumps them → the target restores them → a transaction on the source
//! makes the slot MIGRATING and removes them. Had any of them changed meanwhile, it does not run
//! (<https://redis.io/docs/latest/develop/interact/transactions/>), so at every moment one node alone answers
//! for a key: before the transaction the source, which redirects nobody; after it the target. MIGRATE does the
//! same one key after the other, and both nodes stand still while each waits for the other.
//!
//! Until the switch the copies on the target are worth nothing, and a mark beside them says so to the next
//! run, should this one be killed.

use super::keys::{Key, keys_of};
use super::{Cluster, MigrateError, Words, ask, ask_all, words};
use crate::control::node_client::{MAX_REPLY, NodeClient, NodeError, Reply};
use crate::control::plan::rebalance::Move;
use crate::topology::{NodeId, SLOTS, Slot};
use bytes::Bytes;
use std::sync::LazyLock;

/// A node serves nobody else while it watches or switches a slot: for this many keys a millisecond. (WATCH
/// compares each key with all before it.)
pub(super) const MOST_KEYS: usize = 512;
/// Each so manieth key is read first; a slot where one of them takes so many bytes goes by MIGRATE, which
/// weighs all, tells of big ones and has a limit for each.
const SAMPLED: usize = 8;
const LARGE: usize = 4 << 10;
/// A value beyond this, which no sample met, is not taken: its slot goes by MIGRATE, too.
const LARGEST: usize = 1 << 20;

/// Makes a slot MIGRATING and removes its keys, if it still has as many as were watched: then there is no new
/// one among them. Gives 1 when it did. KEYS: one of the slot. ARGV: the slot, the target's id, how many.
const SWITCH: &str = "
local call, pcall, slot, count = redis.call, redis.pcall, ARGV[1], tonumber(ARGV[3])
local keys = call('CLUSTER', 'GETKEYSINSLOT', slot, count + 1)
if #keys ~= count then return 0 end
if pcall('CLUSTER', 'SETSLOT', slot, 'MIGRATING', ARGV[2])['err'] then return 0 end
if type(pcall('UNLINK', unpack(keys))) == 'number' then return 1 end
call('CLUSTER', 'SETSLOT', slot, 'STABLE')
return 0";

/// The key that stands in a slot of the target while copies are made there.
fn mark(slot: Slot) -> Key {
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
pub async fn discard(target: &mut NodeClient, slot: Slot, owner: NodeId) -> Result<(), NodeError> {
    let marked = ask_all(target, &[words(["ASKING"]), vec![b"GET".to_vec(), mark(slot)]]).await?;
    let is_ours =
        matches!(marked.last(), Some(Reply::BulkString(id)) if id.as_ref() == owner.as_str().as_bytes());
    if !is_ours {
        return ask_all(target, &remove_mark(slot)).await.map(drop);
    }
    // All that the slot has there came through a copy: before the switch nobody is sent to the target.
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

/// Loads what switches slots, and gives its name; `None` when the source lets us run no scripts.
pub(super) async fn load(source: &mut NodeClient) -> Result<Option<Bytes>, NodeError> {
    let loaded = ask(source, &[words(["SCRIPT", "LOAD", SWITCH])]).await?.pop();
    Ok(match loaded {
        Some(Ok(Reply::BulkString(name))) => Some(name),
        _ => None,
    })
}

/// A slot that was switched, and how many keys it has.
pub(super) type Switched = (Slot, u64);

/// Copies slots that are IMPORTING on the target, and switches those whose keys nobody changed meanwhile. Of
/// the others nothing is on the target afterwards, and they are not MIGRATING.
pub(super) struct Copying<'a> {
    pub cluster: &'a Cluster,
    pub step: &'a Move,
    /// The name of what switches slots.
    pub switch: &'a [u8],
    /// A connection that nobody else watches keys on.
    pub source: &'a mut NodeClient,
    pub target: &'a mut NodeClient,
}

/// What a node answered, each judged alone.
type Answers = Vec<Result<Reply, NodeError>>;

/// A key and its value on the way, and when it expires (milliseconds since 1970, -1: never).
struct Copy {
    key: Key,
    dump: Bytes,
    expires: Vec<u8>,
}

const NEVER: &[u8] = b"-1";

impl Copy {
    /// What writes it where there is none.
    fn restore(&self) -> Vec<&[u8]> {
        match self.expires.as_slice() {
            NEVER => vec![b"RESTORE-ASKING", &self.key, b"0", &self.dump],
            at => vec![b"RESTORE-ASKING", &self.key, at, &self.dump, b"ABSTTL"],
        }
    }
}

impl Copying<'_> {
    /// # Errors
    /// A connection failed: nobody knows how far it came.
    pub async fn run(&mut self, slots: &[Slot]) -> Result<Vec<Switched>, MigrateError> {
        let mut switched = Vec::new();
        // One slot after the other: what a node has just touched, it finds again quickly.
        for slot in slots.iter().copied() {
            let keys = self.list(slot).await?;
            let Some(copies) = self.read(&keys).await? else { continue };
            if self.write(slot, &copies).await? && self.switch(slot, &copies).await? {
                switched.push((slot, copies.len() as u64));
            }
        }
        // From the switch on the copies are the keys.
        let unmark: Vec<Words> = switched.iter().flat_map(|(slot, _)| remove_mark(*slot)).collect();
        ask_all(self.target, &unmark).await?;
        Ok(switched)
    }

    /// The slot's keys; none when they are too many.
    async fn list(&mut self, slot: Slot) -> Result<Vec<Key>, NodeError> {
        let list = words(["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &(MOST_KEYS + 1).to_string()]);
        let listed = ask_all(self.source, &[list]).await?;
        let keys = listed.first().map(keys_of).unwrap_or_default();
        Ok(if keys.len() > MOST_KEYS { Vec::new() } else { keys })
    }

    /// Watches the keys and reads those that are there; `None` when there is none, or one is too large or may
    /// not be read.
    async fn read(&mut self, keys: &[Key]) -> Result<Option<Vec<Copy>>, MigrateError> {
        let mut watch: Vec<&[u8]> = vec![b"WATCH"];
        watch.extend(keys.iter().map(Vec::as_slice));
        let is_sampled = |(place, _): &(usize, &Key)| place.is_multiple_of(SAMPLED);
        let (samples, others): (Vec<_>, Vec<_>) = keys.iter().enumerate().partition(is_sampled);
        // What an earlier slot left watched is none of this one's.
        let first: [&[&[u8]]; 3] = [&[b"UNWATCH"], &watch, &[b"INFO", b"keyspace"]];
        let Some((first, mut copies)) = self.dump(&first, samples.into_iter().map(|(_, key)| key)).await?
        else {
            return Ok(None);
        };
        let [Ok(_), Ok(_), info] = &first[..] else { return Ok(None) };
        let may_expire = !says_nothing_expires(info);
        if copies.iter().any(|copy| copy.dump.len() > LARGE) {
            return Ok(None);
        }
        let Some((_, others)) = self.dump(&[], others.into_iter().map(|(_, key)| key)).await? else {
            return Ok(None);
        };
        copies.extend(others);
        if may_expire {
            let when: Vec<[&[u8]; 2]> = copies.iter().map(|copy| [&b"PEXPIRETIME"[..], &copy.key]).collect();
            let when: Vec<&[&[u8]]> = when.iter().map(|question| question.as_slice()).collect();
            let when = self.source.call_all(&when).await?;
            for (copy, when) in copies.iter_mut().zip(when) {
                let Ok(Reply::Integer(at)) = when else { return Ok(None) };
                copy.expires = at.to_string().into_bytes();
            }
        }
        Ok((!copies.is_empty()).then_some(copies))
    }

    /// Asks what comes `first`, and for the values of keys; gives the replies to the former, and the keys that
    /// are there. `None` when one is too large or may not be read.
    async fn dump<'k>(
        &mut self,
        first: &[&[&[u8]]],
        keys: impl Iterator<Item = &'k Key> + Clone,
    ) -> Result<Option<(Answers, Vec<Copy>)>, MigrateError> {
        let dumps: Vec<[&[u8]; 2]> = keys.clone().map(|key| [&b"DUMP"[..], key]).collect();
        let questions: Vec<&[&[u8]]> =
            first.iter().copied().chain(dumps.iter().map(|dump| dump.as_slice())).collect();
        self.source.set_max_reply(LARGEST);
        let replies = self.source.call_all(&questions).await;
        self.source.set_max_reply(MAX_REPLY);
        let mut replies = match replies {
            Ok(replies) => replies,
            Err(NodeError::Protocol { .. }) => {
                *self.source = self.cluster.connect(self.step.source.addr).await?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let values = replies.split_off(first.len());
        let mut copies = Vec::with_capacity(values.len());
        for (key, dump) in keys.zip(values) {
            match dump {
                Ok(Reply::BulkString(dump)) => {
                    copies.push(Copy { key: key.clone(), dump, expires: NEVER.to_vec() });
                }
                // It went since it was listed; came it back, the switch would notice.
                Ok(Reply::Null) => {}
                _ => return Ok(None),
            }
        }
        Ok(Some((replies, copies)))
    }

    /// Marks the slot on the target and writes the copies; whether all are there.
    async fn write(&mut self, slot: Slot, copies: &[Copy]) -> Result<bool, MigrateError> {
        let mark = set_mark(slot, self.step.source.id);
        let mark: Vec<Vec<&[u8]>> =
            mark.iter().map(|words| words.iter().map(Vec::as_slice).collect()).collect();
        let requests: Vec<Vec<&[u8]>> = mark.into_iter().chain(copies.iter().map(Copy::restore)).collect();
        let requests: Vec<&[&[u8]]> = requests.iter().map(Vec::as_slice).collect();
        let replies = self.target.call_all(&requests).await?;
        if replies.iter().all(Result::is_ok) {
            return Ok(true);
        }
        // A target without memory takes nothing; MIGRATE then says what is wrong. What was there before is
        // not ours to remove.
        let (marked, written) = replies.split_at(2);
        let ours = copies.iter().zip(written).filter(|(_, reply)| reply.is_ok());
        let ours: Vec<&Key> = ours.map(|(copy, _)| &copy.key).collect();
        self.give_up(ours, marked.iter().all(Result::is_ok).then_some(slot)).await?;
        Ok(false)
    }

    /// Whether the slot was switched; if not, the copies are gone.
    async fn switch(&mut self, slot: Slot, copies: &[Copy]) -> Result<bool, MigrateError> {
        let (number, count) = (slot.to_string(), copies.len().to_string());
        let target = self.step.target.id;
        let Some(first) = copies.first() else { return Ok(false) };
        let switch: [&[u8]; 7] = [
            b"EVALSHA",
            self.switch,
            b"1",
            &first.key,
            number.as_bytes(),
            target.as_str().as_bytes(),
            count.as_bytes(),
        ];
        let questions: [&[&[u8]]; 3] = [&[b"MULTI"], &switch, &[b"EXEC"]];
        let mut replies = self.source.call_all(&questions).await?;
        match replies.pop() {
            Some(Ok(Reply::Array(done))) if done.first() == Some(&Reply::Integer(1)) => Ok(true),
            // It did not run, or took back what it did.
            Some(Ok(_) | Err(NodeError::Refused { .. })) | None => {
                self.give_up(copies.iter().map(|copy| &copy.key).collect(), Some(slot)).await?;
                Ok(false)
            }
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Removes copies, and then the mark.
    async fn give_up(&mut self, ours: Vec<&Key>, marked: Option<Slot>) -> Result<(), NodeError> {
        let mut questions = unlink_each(ours);
        questions.extend(marked.into_iter().flat_map(remove_mark));
        ask_all(self.target, &questions).await.map(drop)
    }
}

/// Whether no key of the node has a time, by its `INFO keyspace`.
fn says_nothing_expires(info: &Result<Reply, NodeError>) -> bool {
    matches!(info, Ok(Reply::BulkString(text)) if text.windows(10).any(|word| word == b"expires=0,"))
}

/// For a node that imports the slot: of several keys at once it must have each, and one may have expired.
fn unlink_each<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<Words> {
    let unlink = |key: &Key| vec![b"UNLINK".to_vec(), key.clone()];
    keys.into_iter().flat_map(|key| [words(["ASKING"]), unlink(key)]).collect()
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
