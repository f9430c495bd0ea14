//! rdb: where each key and each value of an RDB begins and ends. Pure.
//!
//! An RDB is what a node writes to disk and sends to a new replica. A [`Scanner`] is given its bytes as they
//! come and gives out functions and keys; a value is never decoded, only measured (`shape`, `walk`), because
//! the bytes of a value in an RDB are those that `RESTORE` wants, but for a footer ([`Value::into_payload`]).
//!
//! Redis 5 to 8 and Valkey 8 and 9 write the versions 9 to 12 and 80; 7 and 8 are those of Redis 3.2 and 4.
//! What is lost: the idle time and the frequency of use of a key, and data that a module keeps beside keys.

mod entry;
mod lzf;
mod scanner;
mod shape;
mod text;
mod walk;

pub use entry::{Entry, Function, Value};
pub use scanner::{Item, Keep, Scanner};

use crc::{CRC_64_REDIS, Crc, Table};

/// The checksum of RDB files and of `DUMP` payloads: CRC-64 with Jones' polynomial, reflected.
static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// The longest key: `proto-max-bulk-len` of a server that nobody changed.
const MAX_KEY: u64 = 512 << 20;

/// The longest library of functions, for the same reason.
const MAX_FUNCTION: u64 = 512 << 20;

/// Why bytes are not an RDB that can be used. Nothing after them can be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RdbError {
    #[error("this is not an RDB: it begins with neither REDIS nor VALKEY and a version")]
    NotRdb,
    #[error("RDB version {0} is not known; known are 7 to 12 (Redis 3.2 to 8) and 80 (Valkey 9)")]
    Version(u16),
    #[error(
        "the value of the key {key:?} has the RDB type {kind}, which is not known: a newer server wrote it, or the \
         data is damaged"
    )]
    UnknownType { kind: u8, key: String },
    #[error("functions of a release candidate of Redis 7.0 cannot be read: load them on a released version")]
    PreReleaseFunction,
    #[error("the RDB is damaged at byte {at}: {what}")]
    Damaged { at: u64, what: &'static str },
    #[error("the value of the key {key:?} has more than {limit} bytes")]
    TooBig { key: String, limit: u64 },
    #[error("the RDB is damaged: its checksum is {computed:016x}, and should be {stored:016x}")]
    Checksum { computed: u64, stored: u64 },
    #[error("the RDB ends too early, after {0} bytes")]
    Truncated(u64),
}

/// A key for messages: short, and without control characters.
fn shown(key: &[u8]) -> String {
    const MOST: usize = 100;
    let text = String::from_utf8_lossy(&key[..key.len().min(MOST)]).into_owned();
    if key.len() > MOST { format!("{text}...") } else { text }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
