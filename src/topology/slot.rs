//! Hash slots: the 16384 parts of a cluster's key space, and the hash that picks one for a key.
//!
//! Pure. The hash is CRC16/XMODEM of the key's hash tag, modulo 16384
//! (Redis cluster specification, "Key distribution model").

use std::fmt;

/// How many hash slots a cluster has.
pub const SLOTS: usize = 16384;

/// One hash slot, 0 to 16383.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, or `None` from 16384 on.
    pub const fn new(number: u16) -> Option<Slot> {
        if (number as usize) < SLOTS { Some(Slot(number)) } else { None }
    }

    /// The slot that holds `key`.
    #[inline]
    pub fn of_key(key: &[u8]) -> Slot {
        Slot(crc16(hash_tag(key)) & (SLOTS as u16 - 1))
    }

    /// The slot's number as an index, always below [`SLOTS`].
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The slot's number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// All slots in ascending order.
    pub fn all() -> impl DoubleEndedIterator<Item = Slot> + ExactSizeIterator {
        (0..SLOTS as u16).map(Slot)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Slots `start` to `end`, both included; printed as `0-5460`, or `7` for a single slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SlotRange {
    pub start: Slot,
    pub end: Slot,
}

impl SlotRange {
    /// The range from `start` to `end`, or `None` when they are out of order or too large.
    pub fn new(start: u16, end: u16) -> Option<SlotRange> {
        let range = SlotRange { start: Slot::new(start)?, end: Slot::new(end)? };
        (start <= end).then_some(range)
    }

    /// The slots of the range, ascending.
    pub fn slots(self) -> impl DoubleEndedIterator<Item = Slot> + ExactSizeIterator {
        (self.start.0..self.end.0 + 1).map(Slot)
    }

    /// How many slots the range has.
    pub fn count(self) -> usize {
        self.end.index() - self.start.index() + 1
    }

    /// The fewest ranges that cover exactly `slots`, which must come in ascending order.
    pub fn cover(slots: impl IntoIterator<Item = Slot>) -> Vec<SlotRange> {
        let mut ranges: Vec<SlotRange> = Vec::new();
        for slot in slots {
            match ranges.last_mut() {
                Some(last) if last.end.0 + 1 == slot.0 => last.end = slot,
                _ => ranges.push(SlotRange { start: slot, end: slot }),
            }
        }
        ranges
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end {
            write!(f, "{}", self.start)
        } else {
            write!(f, "{}-{}", self.start, self.end)
        }
    }
}

/// The part of a key that is hashed: what stands between the first `{` and the first `}` after it,
/// when that is not empty; otherwise the whole key.
#[inline]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    let rest = &key[open + 1..];
    match memchr::memchr(b'}', rest) {
        Some(close) if close > 0 => &rest[..close],
        _ => key,
    }
}

/// CRC16/XMODEM: polynomial 0x1021, initial value 0, not reflected.
///
/// Two bytes a step through two tables, as a key's bytes are all that the hash of a request costs.
#[inline]
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let mut pairs = bytes.chunks_exact(2);
    for pair in &mut pairs {
        let high = (crc >> 8) as u8 ^ pair[0];
        let low = crc as u8 ^ pair[1];
        crc = CRC16_TABLES[1][high as usize] ^ CRC16_TABLES[0][low as usize];
    }
    for &byte in pairs.remainder() {
        crc = (crc << 8) ^ CRC16_TABLES[0][((crc >> 8) as u8 ^ byte) as usize];
    }
    crc
}

/// `[0][b]`: the remainder of byte `b`; `[1][b]`: the remainder of byte `b` followed by a zero byte.
static CRC16_TABLES: [[u16; 256]; 2] = crc16_tables();

const fn crc16_tables() -> [[u16; 256]; 2] {
    let mut tables = [[0u16; 256]; 2];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 16 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
            if bit == 8 {
                tables[0][byte] = crc;
            }
        }
        tables[1][byte] = crc;
        byte += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn crc16_gives_the_check_value_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn keys_hash_to_the_slots_that_redis_reports() {
        // As answered by CLUSTER KEYSLOT.
        for (key, slot) in [("a", 15495), ("foo", 12182), ("bar", 5061), ("", 0), ("user:{42}:name", 8000)] {
            assert_eq!(Slot::of_key(key.as_bytes()).number(), slot, "{key}");
        }
    }

    #[test]
    fn only_the_first_non_empty_hash_tag_counts() {
        assert_eq!(hash_tag(b"user:{42}:name"), b"42");
        assert_eq!(hash_tag(b"{}x"), b"{}x");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hash_tag(b"foo{bar"), b"foo{bar");
    }

    #[test]
    fn ranges_cover_slots_without_gaps() {
        let slots = [0, 1, 2, 7, 9, 10].map(|n| Slot::new(n).unwrap());
        let shown: Vec<String> = SlotRange::cover(slots).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["0-2", "7", "9-10"]);
    }

    proptest! {
        #[test]
        fn crc16_equals_its_bitwise_definition(bytes: Vec<u8>) {
            let mut expected = 0u16;
            for byte in &bytes {
                expected ^= u16::from(*byte) << 8;
                for _ in 0..8 {
                    expected = if expected & 0x8000 != 0 { (expected << 1) ^ 0x1021 } else { expected << 1 };
                }
            }
            prop_assert_eq!(crc16(&bytes), expected);
        }
    }
}
