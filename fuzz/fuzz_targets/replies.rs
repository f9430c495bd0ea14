//! What nodes answer: a reply read whole and in pieces ends at the same place or is refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use slotgate::command::parse_command_reply;
use slotgate::resp::{Advance, InvalidReply, ReplyScanner};

fuzz_target!(|data: &[u8]| {
    // The first byte says how large the pieces are.
    let Some((&size, data)) = data.split_first() else { return };
    let whole = ReplyScanner::default().advance(data);
    assert_eq!(in_pieces(data, usize::from(size).max(1)), whole);
    if let Ok(Advance { consumed, .. }) = whole {
        assert!(consumed <= data.len());
    }
    // Whatever it says of commands: no panic.
    let _ = parse_command_reply(data);
});

/// Shows the scanner what it has not consumed, and some bytes more each time.
fn in_pieces(data: &[u8], size: usize) -> Result<Advance, InvalidReply> {
    let (mut scanner, mut consumed, mut end) = (ReplyScanner::default(), 0, 0);
    loop {
        end = (end + size).min(data.len());
        let advance = scanner.advance(&data[consumed..end])?;
        consumed += advance.consumed;
        if advance.is_done || end == data.len() {
            return Ok(Advance { consumed, is_done: advance.is_done });
        }
    }
}
