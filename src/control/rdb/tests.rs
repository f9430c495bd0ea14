//! RDBs written part by part: every opcode and every type, split anywhere, damaged anywhere.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

/// An RDB of these bytes between its header and its end, with its checksum.
fn rdb(header: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = [header.as_bytes(), &parts.concat(), &[255]].concat();
    bytes.extend(CRC64.checksum(&bytes).to_le_bytes());
    bytes
}

fn scan(bytes: &[u8], piece: usize) -> Result<Vec<Item>, RdbError> {
    let mut scanner = Scanner::new(Keep::Values { limit: 1 << 20 });
    let mut items = Vec::new();
    for mut piece in bytes.chunks(piece.max(1)) {
        while let Some(item) = scanner.advance(&mut piece)? {
            items.push(item);
        }
        assert!(piece.is_empty() || scanner.finish().is_ok(), "bytes were left");
    }
    scanner.finish()?;
    Ok(items)
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

/// A key `k` of a type, and its serialized value.
fn key(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, 1, b'k'], value].concat()
}

/// For each type: its RDB header, its number, a value of it.
fn values() -> Vec<(&'static str, u8, Vec<u8>)> {
    let (a, id, eight) = (text(b"a"), vec![7; 16], vec![9; 8]);
    let all = |parts: &[&[u8]]| parts.concat();
    // One node; length and last id; then the newer versions' five numbers, one of which needs 9 bytes.
    let head = all(&[&[1], &text(&[0; 16]), &text(b"listpack"), &[1, 5, 6]]);
    let newer = [1, 2, 3, 0x81, 1, 2, 3, 4, 5, 6, 7, 8, 0x40, 77];
    let pending = all(&[&[2], &id, &eight, &[1], &id, &eight, &[0x80, 0, 0, 1, 0]]);
    let consumers = |times: usize| all(&[&[1], &text(b"consumer"), &eight.repeat(times), &[2], &id, &id]);
    let r9 = "REDIS0009";
    vec![
        (r9, 0, text(b"value")),
        (r9, 0, vec![0xc0, 5]),
        (r9, 0, vec![0xc1, 5, 5]),
        (r9, 0, vec![0xc2, 5, 5, 5, 5]),
        (r9, 0, vec![0xc3, 4, 0x40, 100, 1, 2, 3, 4]),
        (r9, 0, all(&[&[0x41, 0], &[b'x'; 256]])),
        (r9, 0, all(&[&[0x80, 0, 0, 1, 0], &[b'x'; 256]])),
        (r9, 1, all(&[&[2], &a, &a])),
        (r9, 2, all(&[&[2], &a, &a])),
        (r9, 3, all(&[&[3], &a, &[253], &a, &[255], &a, &[3], b"1.5"])),
        (r9, 4, all(&[&[1], &a, &a])),
        (r9, 5, all(&[&[2], &a, &eight, &a, &eight])),
        (r9, 7, all(&[&[0x81], &eight, &[1, 5, 2, 6, 3, 1, 2, 3, 4, 4], &eight, &[5], &a, &[0]])),
        (r9, 9, text(b"zipmap")),
        (r9, 10, text(b"ziplist")),
        (r9, 11, text(b"intset")),
        (r9, 12, text(b"ziplist")),
        (r9, 13, text(b"ziplist")),
        (r9, 14, all(&[&[2], &a, &a])),
        (r9, 15, all(&[&head, &[1], &text(b"group"), &[1, 2], &pending, &consumers(1)])),
        (r9, 15, all(&[&head, &[0]])),
        ("REDIS0010", 16, text(b"listpack")),
        ("REDIS0010", 17, text(b"listpack")),
        ("REDIS0010", 18, all(&[&[2, 2], &text(b"listpack"), &[1], &text(b"plain")])),
        ("REDIS0010", 19, all(&[&head, &newer, &[1], &text(b"group"), &[1, 2, 3], &pending, &consumers(1)])),
        ("REDIS0011", 20, text(b"listpack")),
        ("REDIS0011", 21, all(&[&head, &newer, &[1], &text(b"group"), &[1, 2, 3], &pending, &consumers(2)])),
        ("REDIS0012", 22, all(&[&[2, 0], &a, &a, &[0x41, 1], &a, &a])),
        ("REDIS0012", 23, text(b"listpack")),
        ("REDIS0012", 24, all(&[&eight, &[2, 0], &a, &a, &[5], &a, &a])),
        ("REDIS0012", 25, all(&[&eight, &text(b"listpack")])),
        ("VALKEY080", 22, all(&[&[2], &a, &a, &eight, &a, &a, &eight])),
        ("VALKEY080", 0, text(b"value")),
    ]
}

#[test]
fn a_value_of_every_type_is_measured_to_its_last_byte() {
    for (header, kind, value) in values() {
        // A second key shows that the first one's end was found.
        let bytes = rdb(header, &[&key(kind, &value), &key(0, &text(b"last"))]);
        let items = scan(&bytes, usize::MAX).unwrap_or_else(|error| panic!("type {kind}: {error}"));
        let [Item::Key(first), Item::Key(second), Item::End { .. }] = items.as_slice() else {
            panic!("type {kind}: {items:?}");
        };
        assert_eq!(first.value.raw(), [&[kind], value.as_slice()].concat(), "type {kind}");
        assert_eq!(first.value.size(), value.len() as u64 + 1);
        assert_eq!((first.key.as_slice(), second.value.raw()), (&b"k"[..], &b"\0\x04last"[..]));
    }
}

/// Everything that is no value, around values.
fn everything() -> Vec<u8> {
    let aux = [&[250], text(b"redis-ver").as_slice(), &text(b"7.0.15")].concat();
    let module_aux = [247, 0x40, 9, 2, 2, 5, 2, b'h', b'i', 0];
    let function = [&[245], text(b"#!lua name=x").as_slice()].concat();
    let expiring = [&[252], 1_234_567_890_123u64.to_le_bytes().as_slice(), &[249, 3]].concat();
    let old = [&[253], 77u32.to_le_bytes().as_slice(), &[248, 0x41, 1]].concat();
    let packed_key = [4, 0xc3, 4, 9, 0, b'x', 6 << 5, 0, 1, 1, b'f', 1, b'v'];
    rdb(
        "REDIS0011",
        &[
            &aux,
            &module_aux,
            &function,
            &[254, 3, 251, 5, 2, 244, 1, 2, 3],
            &expiring,
            &key(0, &text(b"a")),
            &old,
            &[4, 0xc1, 0x39, 0x30, 1, 1, b'f', 1, b'v'],
            &packed_key,
            &[254, 0],
            &key(0, &text(b"b")),
        ],
    )
}

#[test]
fn keys_come_with_database_and_expiry_and_functions_with_their_code() {
    let items = scan(&everything(), usize::MAX).unwrap();
    let [Item::Function(function), Item::Key(a), Item::Key(b), Item::Key(c), Item::Key(d), Item::End { .. }] =
        items.as_slice()
    else {
        panic!("{items:?}");
    };
    assert!(function.clone().into_payload().starts_with(b"\xf5\x0c#!lua name=x\x0a\0"));
    assert_eq!(
        (a.key.as_slice(), a.database, a.expires_at),
        (&b"k"[..], 3, Some(Duration::from_millis(1_234_567_890_123)))
    );
    assert_eq!((b.key.as_slice(), b.expires_at), (&b"12345"[..], Some(Duration::from_secs(77))));
    assert_eq!((c.key.as_slice(), c.expires_at), (&b"xxxxxxxxx"[..], None));
    assert_eq!((d.key.as_slice(), d.database), (&b"k"[..], 0));
}

#[test]
fn a_payload_is_what_dump_gives() {
    // As answered by Redis 7.0 to `SET k 10` and `DUMP k`, but for the version, which is 10 there.
    let bytes = rdb("REDIS0010", &[&key(0, &[0xc0, 10])]);
    let Item::Key(entry) = scan(&bytes, 9).unwrap().remove(0) else { panic!() };
    let payload = entry.value.into_payload();
    assert_eq!(payload[..5], [0, 0xc0, 10, 9, 0]);
    // The footer's check: the sum over all with the sum itself is zero for a reflected CRC without a final
    // change.
    assert_eq!(CRC64.checksum(&payload), 0);
    assert_eq!(CRC64.checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca, "the check value in crc64.c of Redis");
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let of = |bytes: &[u8]| scan(bytes, usize::MAX).unwrap_err();
    assert_eq!(of(b"HTTP/1.1 200"), RdbError::NotRdb);
    assert_eq!(of(&rdb("REDIS0013", &[])), RdbError::Version(13));
    assert_eq!(of(&rdb("VALKEY081", &[])), RdbError::Version(81));
    let unknown = of(&rdb("REDIS0011", &[&key(99, b"??")]));
    assert_eq!(unknown, RdbError::UnknownType { kind: 99, key: "k".into() });
    assert_eq!(
        of(&rdb("VALKEY080", &[&key(24, b"??")])),
        RdbError::UnknownType { kind: 24, key: "k".into() }
    );
    assert_eq!(of(&rdb("REDIS0010", &[&[246]])), RdbError::PreReleaseFunction);
    assert!(matches!(of(&rdb("REDIS0010", &[&key(0, &[0xff])])), RdbError::Damaged { .. }));
    let huge = [&[0x81], [0x7f; 8].as_slice()].concat();
    assert!(matches!(of(&rdb("REDIS0010", &[&[0], &huge])), RdbError::Damaged { .. }), "a key too long");
    assert!(matches!(of(&rdb("REDIS0010", &[&key(0, &huge)])), RdbError::Truncated(_)));
    let big = [&[0x80, 0, 0x20, 0, 0], vec![0; 2 << 20].as_slice()].concat();
    assert_eq!(of(&rdb("REDIS0010", &[&key(0, &big)])), RdbError::TooBig { key: "k".into(), limit: 1 << 20 });
    let whole = everything();
    assert!(matches!(of(&whole[..whole.len() - 1]), RdbError::Truncated(_)));
}

#[test]
fn a_checksum_of_zero_means_that_the_server_wrote_none() {
    let mut bytes = everything();
    let end = bytes.len() - 8;
    bytes[end..].fill(0);
    assert!(scan(&bytes, 100).is_ok());
    bytes[end] = 1;
    assert!(matches!(scan(&bytes, 100), Err(RdbError::Checksum { .. })));
}

#[test]
fn bytes_after_the_end_are_left_alone() {
    let bytes = [everything(), b"*1\r\n$4\r\nPING\r\n".to_vec()].concat();
    let mut scanner = Scanner::new(Keep::Sizes);
    let mut input = bytes.as_slice();
    while let Some(item) = scanner.advance(&mut input).unwrap() {
        if let Item::Key(entry) = item {
            assert!(entry.value.raw().is_empty() && entry.value.size() > 1);
        }
    }
    assert_eq!(input, b"*1\r\n$4\r\nPING\r\n");
    assert_eq!(scanner.scanned(), everything().len() as u64);
    scanner.finish().unwrap();
}

fn any_rdb() -> impl Strategy<Value = Vec<u8>> {
    let one =
        prop::sample::select(values()).prop_map(|(header, kind, value)| rdb(header, &[&key(kind, &value)]));
    prop_oneof![one, Just(everything())]
}

proptest! {
    #[test]
    fn any_split_gives_the_same(bytes in any_rdb(), piece in 1usize..40) {
        prop_assert_eq!(scan(&bytes, piece), scan(&bytes, usize::MAX));
    }

    #[test]
    fn damaged_bytes_never_make_it_panic_and_never_pass(
        bytes in any_rdb(), at: prop::sample::Index, flip in 1u8.., piece in 1usize..40,
    ) {
        let mut damaged = bytes;
        let at = at.index(damaged.len());
        damaged[at] ^= flip;
        // Where the damage makes another version of the header, or a checksum of zero, other rules hold.
        prop_assert!(scan(&damaged, piece).is_err());
    }

    #[test]
    fn a_file_that_is_cut_off_is_never_whole(bytes in any_rdb(), at: prop::sample::Index) {
        prop_assert!(scan(&bytes[..at.index(bytes.len())], usize::MAX).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, piece in 1usize..40) {
        let _ = scan(&[b"REDIS0011", bytes.as_slice()].concat(), piece);
        let _ = scan(&[b"VALKEY080", bytes.as_slice()].concat(), piece);
    }
}
