//! What clients send: a request read whole, byte by byte, and as the rest of one that was forwarded
//! from its middle on, ends at the same place or is refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use slotgate::resp::{Limits, RequestProgress, RequestScan, RequestScanner, split_inline};

fuzz_target!(|data: &[u8]| {
    for limits in [Limits::USUAL, Limits::UNAUTHENTICATED] {
        let mut whole = RequestScanner::default();
        let scan = whole.scan(data, limits);
        let args = whole.args().iter().map(|span| &data[span.start as usize..span.end as usize]);
        let args: Vec<&[u8]> = args.collect();
        match scan {
            Ok(RequestScan::Complete { len }) => {
                assert!(len <= data.len());
                assert_eq!(in_pieces(&data[..len], limits), Ok(RequestScan::Complete { len }));
                follow(&data[..len], limits);
            }
            Ok(RequestScan::Inline { len }) => {
                assert!(args.is_empty());
                assert_eq!(in_pieces(&data[..len], limits), Ok(RequestScan::Inline { len }));
                // Whatever the line is: no panic.
                let _ = split_inline(&data[..len]);
            }
            Ok(RequestScan::Incomplete { wants }) => assert!(wants > data.len(), "{wants}"),
            Err(error) => {
                let pieces = in_pieces(data, limits);
                assert!(pieces.is_err(), "{error} as a whole, {pieces:?} in pieces");
            }
        }
    }
});

/// Shows the scanner one byte more each time, until it decides.
fn in_pieces(data: &[u8], limits: Limits) -> Result<RequestScan, slotgate::resp::ProtocolError> {
    let mut scanner = RequestScanner::default();
    // Quadratic: long inputs only from near their end.
    let start = data.len().saturating_sub(512);
    for end in start..data.len() {
        match scanner.scan(&data[..end], limits)? {
            RequestScan::Incomplete { .. } => {}
            early => panic!("{early:?} already after {end} bytes of {}", data.len()),
        }
    }
    scanner.scan(data, limits)
}

/// Forwards a complete request from each of its arguments on, in pieces of two sizes.
fn follow(frame: &[u8], limits: Limits) {
    for cut in 0..frame.len().min(256) {
        let mut scanner = RequestScanner::default();
        if scanner.scan(&frame[..cut], limits).is_err() || scanner.scanned() == 0 {
            continue;
        }
        let mut progress = RequestProgress::of(&scanner, limits);
        let mut at = scanner.scanned();
        let mut end = at;
        loop {
            end = (end + 7).min(frame.len());
            let advance = progress.advance(&frame[at..end]).expect("the whole was a request");
            at += advance.consumed;
            if advance.is_done {
                assert_eq!(at, frame.len());
                break;
            }
            assert!(end < frame.len(), "the whole was complete");
        }
    }
}
