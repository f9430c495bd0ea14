//! How a key is changed only if it is what it was, and locked against other commands over several slots.
//! Pure.
//!
//! Each of these requests has one key, so that nodes run it in a slot on the move as well. DUMP gives a
//! value the same bytes as long as nobody changes it; a value that was restored may have others than
//! before.

use super::exchange::{Value, single};
use super::{Ask, Manner};
use crate::proxy::slot_tag::tag_of;
use crate::topology::Slot;
use sha1::{Digest, Sha1};

/// What the names of locks begin with.
const PREFIX: &str = "slotgate:lock:";
/// How long a lock outlives a gateway that dies, in milliseconds: longer than a request is held and such
/// a command takes; others of its kind wait for it, or are refused.
const LONGEST_LOCK: &str = "30000";

/// Name of the holder. Unlocks what it has locked.
const UNLOCK: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end \
return ARGV[1]";
/// Digest of what the key must be, time to live, payload (empty: no key) → the digest of what the key is
/// then (empty: no key), or 0.
const SWAP: &str = "\
local function digest() local value = redis.call('DUMP', KEYS[1]) \
return value and redis.sha1hex(value) or '' end \
if digest() ~= ARGV[1] then return 0 end \
if ARGV[3] == '' then redis.call('DEL', KEYS[1]) \
else redis.call('RESTORE', KEYS[1], ARGV[2], ARGV[3], 'REPLACE') end \
return digest()";

/// Locks a key for one holder, unless it is locked: then the reply is null.
pub fn lock(key: &[u8], slot: Slot, holder: &str) -> Ask {
    let name = name_of(key, slot);
    single(Manner::Write, slot, &["SET", &name, holder, "NX", "PX", LONGEST_LOCK])
}

/// Unlocks a key, if this holder has locked it.
pub fn unlock(key: &[u8], slot: Slot, holder: &str) -> Ask {
    let name = name_of(key, slot);
    single(Manner::Write, slot, &["EVAL", UNLOCK, "1", &name, holder])
}

/// Sets, or removes, a key whose value still has the digest `from`.
pub fn swap(key: &[u8], slot: Slot, from: &[u8], to: Option<&Value>) -> Ask {
    let ttl = to.map_or("0".to_string(), Value::restored_ttl);
    let payload = to.map_or(&b""[..], |value| &value.payload);
    let args = [b"EVAL", SWAP.as_bytes(), b"1", key, from, ttl.as_bytes(), payload];
    single(Manner::Write, slot, &args)
}

/// What SWAP calls a value.
pub fn digest(value: &Value) -> Vec<u8> {
    hex(&value.payload).into_bytes()
}

fn name_of(key: &[u8], slot: Slot) -> String {
    format!("{PREFIX}{{{}}}:{}", tag_of(slot), hex(key))
}

fn hex(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
