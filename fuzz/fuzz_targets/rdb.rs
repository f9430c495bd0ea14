//! An RDB as a node sends it: scanned or refused, never a panic, and however it is split, the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use slotgate::control::rdb::{Item, Keep, RdbError, Scanner};

fn scan(bytes: &[u8], piece: usize) -> Result<Vec<Item>, RdbError> {
    let mut scanner = Scanner::new(Keep::Values { limit: 1 << 20 });
    let mut items = Vec::new();
    for mut input in bytes.chunks(piece) {
        while let Some(item) = scanner.advance(&mut input)? {
            items.push(item);
        }
    }
    scanner.finish()?;
    Ok(items)
}

fuzz_target!(|data: &[u8]| {
    let Some((piece, bytes)) = data.split_first() else { return };
    let whole = scan(bytes, usize::MAX);
    let pieces = scan(bytes, usize::from(*piece).max(1));
    // Where a value is too large, or damaged, is told where it is noticed, which a split may change.
    assert_eq!(whole.is_ok(), pieces.is_ok());
    if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
        assert_eq!(whole, pieces);
    }
    // Without a header of its own, most inputs end at once.
    let _ = scan(&[b"REDIS0012", bytes].concat(), 7);
    let _ = scan(&[b"VALKEY080", bytes].concat(), 7);
});
