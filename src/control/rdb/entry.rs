//! What an RDB holds: keys with their values, and functions, as `RESTORE` and `FUNCTION RESTORE` want them.
//! Pure.

use super::CRC64;
use std::fmt;
use std::time::Duration;

/// The RDB version since which there are functions (Redis 7.0).
const FUNCTIONS_SINCE: u16 = 10;

/// One key of an RDB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub key: Vec<u8>,
    /// The number of its database; 0 in most clusters.
    pub database: u64,
    /// When it expires, since the Unix epoch; `None`: never.
    pub expires_at: Option<Duration>,
    pub value: Value,
}

/// A value as it lies in the RDB: its type byte and its serialized bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    pub(super) raw: Vec<u8>,
    pub(super) size: u64,
    pub(super) since: u16,
    pub(super) kind: &'static str,
}

impl Value {
    /// What `TYPE` calls it; `module` of a module's type.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The RDB version that a server must know to restore it.
    pub fn since(&self) -> u16 {
        self.since
    }

    /// How many bytes it has, the type's included.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The type byte and the serialized bytes; empty when values are not kept.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// What `RESTORE` wants. The version in its footer is the first one that knows the value's type, not
    /// the file's, so that older servers take from newer ones what they can.
    pub fn into_payload(self) -> Vec<u8> {
        with_footer(self.raw, self.since)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {} bytes", self.size)
    }
}

/// A library of functions as it lies in the RDB: its opcode and its code.
#[derive(Clone, PartialEq, Eq)]
pub struct Function {
    pub(super) raw: Vec<u8>,
}

impl Function {
    /// What `FUNCTION RESTORE` wants.
    pub fn into_payload(self) -> Vec<u8> {
        with_footer(self.raw, FUNCTIONS_SINCE)
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a library of {} bytes", self.raw.len())
    }
}

/// The footer of `DUMP`: the RDB version in 2 bytes and a checksum of all before it in 8, little-endian.
fn with_footer(mut raw: Vec<u8>, version: u16) -> Vec<u8> {
    raw.reserve_exact(10);
    raw.extend(version.to_le_bytes());
    raw.extend(CRC64.checksum(&raw).to_le_bytes());
    raw
}
