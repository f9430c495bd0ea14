//! LZF, by which servers compress strings of more than 20 bytes. Pure.
//!
//! Only keys are unpacked, so it need not be fast. The format: a byte below 32 is the number of literal bytes
//! after it, less one; any other begins a copy of earlier output: 3 bits of length (7: a byte more), 13 bits
//! of distance.

use super::text::Fault;

/// The bytes that were packed, of which there must be `len`.
pub fn unpack(packed: &[u8], len: usize) -> Result<Vec<u8>, Fault> {
    const SHORT: Fault = "a compressed string that is cut off";
    const WRONG: Fault = "a compressed string that does not fit its length";
    let mut out = Vec::new();
    let mut rest = packed.iter();
    while let Some(control) = rest.next() {
        let control = usize::from(*control);
        if control < 32 {
            let (literal, after) = rest.as_slice().split_at_checked(control + 1).ok_or(SHORT)?;
            out.extend_from_slice(literal);
            rest = after.iter();
        } else {
            let mut count = control >> 5;
            if count == 7 {
                count += usize::from(*rest.next().ok_or(SHORT)?);
            }
            let distance = (control & 0x1f) << 8 | usize::from(*rest.next().ok_or(SHORT)?);
            let from = out.len().checked_sub(distance + 1).ok_or(WRONG)?;
            if out.len() + count + 2 > len {
                return Err(WRONG);
            }
            // The copy may reach into what it writes itself.
            for at in from..from + count + 2 {
                out.push(out[at]);
            }
        }
        if out.len() > len {
            return Err(WRONG);
        }
    }
    if out.len() == len { Ok(out) } else { Err(WRONG) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn literals_and_copies_are_unpacked() {
        assert_eq!(unpack(&[2, b'a', b'b', b'c'], 3), Ok(b"abc".to_vec()));
        // One literal, then 8 times the byte before; then a copy of 9 + 2 bytes with its length in a byte.
        assert_eq!(unpack(&[0, b'x', 6 << 5, 0], 9), Ok(b"xxxxxxxxx".to_vec()));
        assert_eq!(unpack(&[1, b'x', b'y', 7 << 5, 2, 1], 13), Ok(b"xyxyxyxyxyxyx".to_vec()));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        assert!(unpack(&[5, b'a'], 6).is_err());
        assert!(unpack(&[0, b'x', 6 << 5, 1], 9).is_err(), "reaches before the beginning");
        assert!(unpack(&[0, b'x', 7 << 5], 9).is_err());
        assert!(unpack(&[2, b'a', b'b', b'c'], 2).is_err());
        assert!(unpack(&[2, b'a', b'b', b'c'], 4).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_grow_beyond_the_length(packed: Vec<u8>, len in 0usize..4096) {
            if let Ok(out) = unpack(&packed, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }
}
