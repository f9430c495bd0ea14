//! How long the scanners take for one frame: requests as clients send them, replies as nodes do.
//!
//! `cargo bench --bench codec`. Every frame here is whole; no socket, no routing. Bodies are skipped, so
//! bytes per second would say nothing.

use criterion::{Criterion, criterion_group, criterion_main};
use slotgate::resp::{Limits, ReplyScanner, RequestScan, RequestScanner, split_inline, write_request};
use std::hint::black_box;

fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_request(&mut frame, args.iter());
    frame
}

fn requests(criterion: &mut Criterion) {
    let keys: Vec<String> = (0..10).map(|ix| format!("key:{ix:012}")).collect();
    let mget: Vec<&[u8]> = [&b"MGET"[..]].into_iter().chain(keys.iter().map(String::as_bytes)).collect();
    let key = keys[0].as_bytes();
    let mut group = criterion.benchmark_group("request");
    for (name, frame) in [
        ("GET", request(&[b"GET", key])),
        ("SET of 64 bytes", request(&[b"SET", key, &[b'v'; 64]])),
        ("SET of 4 KB", request(&[b"SET", key, &[b'v'; 4096]])),
        ("MGET of 10 keys", request(&mget)),
    ] {
        let mut scanner = RequestScanner::default();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                scanner.reset();
                let scan = scanner.scan(black_box(&frame), Limits::USUAL);
                assert_eq!(scan, Ok(RequestScan::Complete { len: frame.len() }));
            });
        });
    }
    let inline = b"SET key:000000000000 \"a value\"\r\n";
    group.bench_function("inline", |bencher| {
        let mut scanner = RequestScanner::default();
        bencher.iter(|| {
            scanner.reset();
            let scan = scanner.scan(black_box(inline), Limits::USUAL);
            assert_eq!(scan, Ok(RequestScan::Inline { len: inline.len() }));
            split_inline(black_box(&inline[..inline.len() - 2]))
        });
    });
    group.finish();
}

fn replies(criterion: &mut Criterion) {
    let bulk = |len: usize| [format!("${len}\r\n").into_bytes(), vec![b'v'; len], b"\r\n".to_vec()].concat();
    let nested =
        [b"*10\r\n".to_vec(), [b"*2\r\n$5\r\nfield\r\n".to_vec(), bulk(64)].concat().repeat(10)].concat();
    let mut group = criterion.benchmark_group("reply");
    for (name, frame) in [
        ("status", b"+OK\r\n".to_vec()),
        ("integer", b":1234567\r\n".to_vec()),
        ("bulk of 64 bytes", bulk(64)),
        ("bulk of 4 KB", bulk(4096)),
        ("array of 10 bulks", [b"*10\r\n".to_vec(), bulk(64).repeat(10)].concat()),
        ("nested array", nested),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let advance = ReplyScanner::default().advance(black_box(&frame));
                assert!(advance.is_ok_and(|advance| advance.is_done && advance.consumed == frame.len()));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, requests, replies);
criterion_main!(benches);
