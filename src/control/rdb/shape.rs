//! The shapes of values in an RDB, as data: what follows a type byte, up to the value's end. Pure.
//!
//! The sources are `rdb.h` and `rdb.c` of Redis and Valkey, as there is no specification.

/// A part of something in an RDB.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// A string: its length or encoding, then its bytes. Compact encodings (ziplist, listpack, intset,
    /// zipmap) are strings, too.
    Text,
    /// A number in the encoding of lengths, up to 9 bytes.
    Number,
    /// So many bytes.
    Bytes(u8),
    /// A number as digits after their count; 253 to 255 are not-a-number and the infinities.
    Score,
    /// A count, and so often these.
    Repeat(&'static [Part]),
    /// What a module wrote: an opcode before each part, and 0 at the end.
    Module,
}

use Part::{Bytes, Module, Number, Repeat, Score, Text};

/// How one type of value is written.
#[derive(Debug)]
pub struct Shape {
    kind: u8,
    /// What `TYPE` calls it.
    pub name: &'static str,
    /// The first RDB version with this type: a server of that version can restore it.
    pub since: u16,
    pub parts: &'static [Part],
}

/// Servers of this version are the oldest that values are restored into (Redis 5).
const OLD: u16 = 9;
/// Redis 7.0.
const V10: u16 = 10;
/// Redis 7.2, Valkey 7.2 and 8.
const V11: u16 = 11;
/// Redis 7.4 and 8.
const V12: u16 = 12;
/// Valkey 9, whose versions and types go apart from those of Redis.
pub const VALKEY_9: u16 = 80;

const fn shape(kind: u8, name: &'static str, since: u16, parts: &'static [Part]) -> Shape {
    Shape { kind, name, since, parts }
}

/// The types of both.
#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    shape(0, "string", OLD, &[Text]),
    shape(1, "list", OLD, &[Repeat(&[Text])]),
    shape(2, "set", OLD, &[Repeat(&[Text])]),
    shape(3, "zset", OLD, &[Repeat(&[Text, Score])]),
    shape(4, "hash", OLD, &[Repeat(&[Text, Text])]),
    shape(5, "zset", OLD, &[Repeat(&[Text, Bytes(8)])]), // with binary scores
    shape(7, "module", OLD, &[Number, Module]), // after the module's id
    shape(9, "hash", OLD, &[Text]), // as zipmap
    shape(10, "list", OLD, &[Text]), // as ziplist
    shape(11, "set", OLD, &[Text]), // as intset
    shape(12, "zset", OLD, &[Text]), // as ziplist
    shape(13, "hash", OLD, &[Text]), // as ziplist
    shape(14, "list", OLD, &[Repeat(&[Text])]), // as ziplists
    shape(15, "stream", OLD, STREAM_1),
    shape(16, "hash", V10, &[Text]), // as listpack
    shape(17, "zset", V10, &[Text]), // as listpack
    shape(18, "list", V10, &[Repeat(&[Number, Text])]), // as listpacks and plain nodes
    shape(19, "stream", V10, STREAM_2),
    shape(20, "set", V11, &[Text]), // as listpack
    shape(21, "stream", V11, STREAM_3),
];

/// The types of Redis alone: hashes whose fields expire.
#[rustfmt::skip]
const REDIS_SHAPES: &[Shape] = &[
    shape(22, "hash", V12, &[Repeat(&[Number, Text, Text])]),         // before the release
    shape(23, "hash", V12, &[Text]),                                  // before the release, as listpack
    shape(24, "hash", V12, &[Bytes(8), Repeat(&[Number, Text, Text])]),
    shape(25, "hash", V12, &[Bytes(8), Text]),                        // as listpack
];

/// The types of Valkey alone.
const VALKEY_SHAPES: &[Shape] = &[
    shape(22, "hash", VALKEY_9, &[Repeat(&[Text, Text, Bytes(8)])]), // hash whose fields expire
];

/// Entries: an id and a listpack, each a string.
const ENTRIES: Part = Repeat(&[Text, Text]);
/// Pending entries of a group: id, time of delivery, number of deliveries.
const PENDING: Part = Repeat(&[Bytes(16), Bytes(8), Number]);
/// Ids of the pending entries of a consumer.
const OWN_PENDING: Part = Repeat(&[Bytes(16)]);
/// Name, seen when, own pending entries.
const CONSUMERS: Part = Repeat(&[Text, Bytes(8), OWN_PENDING]);
/// Name, seen when, active when, own pending entries.
const CONSUMERS_3: Part = Repeat(&[Text, Bytes(8), Bytes(8), OWN_PENDING]);

// A stream: entries, their number, the last id; from the second on the first id, the largest deleted id and
// how many were ever added; groups of name, last id, from the second on entries read, pending, consumers.
const STREAM_1: &[Part] =
    &[ENTRIES, Number, Number, Number, Repeat(&[Text, Number, Number, PENDING, CONSUMERS])];
const STREAM_2: &[Part] = &stream(&[Text, Number, Number, Number, PENDING, CONSUMERS]);
const STREAM_3: &[Part] = &stream(&[Text, Number, Number, Number, PENDING, CONSUMERS_3]);

/// A stream from the second on, with groups such as this.
const fn stream(group: &'static [Part]) -> [Part; 10] {
    [ENTRIES, Number, Number, Number, Number, Number, Number, Number, Number, Repeat(group)]
}

/// The shape of a type in an RDB of this version.
pub fn shape_of(kind: u8, version: u16) -> Option<&'static Shape> {
    let own = if version >= VALKEY_9 { VALKEY_SHAPES } else { REDIS_SHAPES };
    SHAPES.iter().chain(own).find(|shape| shape.kind == kind)
}

/// What may stand between values in an RDB, by its opcode, when it is only to be skipped.
pub fn skipped(opcode: u8, version: u16) -> Option<&'static [Part]> {
    Some(match opcode {
        // Slots that are being imported (Valkey 9): a job's name and ranges.
        243 if version >= VALKEY_9 => &[Text, Repeat(&[Number, Number])],
        // How many keys a slot has: slot, keys, keys that expire.
        244 => &[Number, Number, Number],
        // A module's data beside keys, after the module's id.
        247 => &[Number, Module],
        // Idle time and frequency of use of the next key.
        248 => &[Number],
        249 => &[Bytes(1)],
        // A name and a value that describe the file.
        250 => &[Text, Text],
        // How many keys a database has: keys, keys that expire.
        251 => &[Number, Number],
        _ => return None,
    })
}

/// What follows the opcode of a module's part; `None` for an unknown one. 0, the end, is not among them.
pub fn module_part(opcode: u64) -> Option<&'static [Part]> {
    Some(match opcode {
        1 | 2 => &[Number],
        3 => &[Bytes(4)],
        4 => &[Bytes(8)],
        5 => &[Text],
        _ => return None,
    })
}

/// What follows the opcode of a function library.
pub const FUNCTION: &[Part] = &[Text];
