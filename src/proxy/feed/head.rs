//! The beginning of an RDB file: how much of it is about the file and not about keys. Pure.
//!
//! A file is its header, fields about it, functions, the keys, and an end with a checksum (`src/rdb.c`,
//! `rdbSaveRio`). What stands between can be put after another file's keys as it is.

const HEADER: usize = b"REDIS0010".len();
const FIELD: u8 = 0xFA;
const FUNCTIONS: [u8; 2] = [0xF5, 0xF6];
/// The end of a file: its mark and the checksum.
pub const END: usize = 9;

/// These bytes are no RDB file of a kind that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

/// How many bytes the beginning has; `None` when more is needed to tell.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Unknown> {
    if !b"REDIS".starts_with(&bytes[..bytes.len().min(5)]) {
        return Err(Unknown);
    }
    let mut at = HEADER;
    loop {
        let strings = match bytes.get(at) {
            None => return Ok(None),
            Some(&FIELD) => 2,
            Some(opcode) if FUNCTIONS.contains(opcode) => 1,
            Some(_) => return Ok(Some(at)),
        };
        at += 1;
        for _ in 0..strings {
            match skip_string(bytes, at)? {
                Some(end) => at = end,
                None => return Ok(None),
            }
        }
    }
}

/// Where the string that begins at `at` ends, if all of its length is there.
fn skip_string(bytes: &[u8], at: usize) -> Result<Option<usize>, Unknown> {
    let Some(first) = bytes.get(at) else { return Ok(None) };
    if first >> 6 != 3 {
        return Ok(read_length(bytes, at).map(|(length, body)| body + length));
    }
    Ok(match first & 0x3F {
        0 => Some(at + 2),
        1 => Some(at + 3),
        2 => Some(at + 5),
        // Compressed: two lengths before the bytes.
        3 => read_length(bytes, at + 1).and_then(|(length, rest)| {
            let (_, body) = read_length(bytes, rest)?;
            Some(body + length)
        }),
        _ => return Err(Unknown),
    })
}

/// A length, and where what it is the length of begins.
fn read_length(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let first = *bytes.get(at)?;
    let number = |from: usize, count: usize| {
        let digits = bytes.get(from..from + count)?;
        Some(digits.iter().fold(0usize, |sum, digit| sum << 8 | usize::from(*digit)))
    };
    match (first >> 6, first) {
        (0, _) => Some((usize::from(first), at + 1)),
        (1, _) => Some((number(at, 2)? & 0x3FFF, at + 2)),
        (_, 0x80) => Some((number(at + 1, 4)?, at + 5)),
        // No string is longer than memory.
        (_, _) => Some((number(at + 1, 8)? & (usize::MAX >> 1), at + 9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_functions_are_no_keys() {
        let mut file = b"REDIS0010".to_vec();
        file.extend_from_slice(b"\xFA\x09redis-ver\x067.0.15\xFA\x0aredis-bits\xC0\x40");
        file.extend_from_slice(b"\xFA\x05ctime\xC2\x01\x02\x03\x04");
        file.extend_from_slice(b"\xF5\xC3\x04\x40\x64abcd");
        let head = file.len();
        file.extend_from_slice(b"\xFE\x00\xFB\x01\x00\x00\x01k\x01v\xFF12345678");
        assert_eq!(length(&file), Ok(Some(head)));
        for cut in 0..=head {
            assert_eq!(length(&file[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(length(b"REDIS0010\xFF12345678"), Ok(Some(9)));
        assert_eq!(length(b"-ERR no"), Err(Unknown));
        assert_eq!(length(b"REDIS0010\xFA\xC9"), Err(Unknown));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_told_apart_without_a_panic(tail in proptest::collection::vec(0u8.., 0..200), cut in 0usize..200) {
            let mut file = b"REDIS0010\xFA".to_vec();
            file.extend(tail);
            let whole = length(&file);
            if let Ok(Some(head)) = length(&file[..cut.min(file.len())]) {
                assert_eq!(whole, Ok(Some(head)));
            }
        }
    }
}
