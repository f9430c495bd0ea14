//! RDBs that a real server wrote: every value is found, and RESTORE takes it for what it was.

use crate::support::keys::{SETTINGS, bulks, requests, tell_all};
use crate::support::real_cluster::RealCluster;
use slotgate::control::rdb::{Entry, Item, Keep, Scanner};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[test]
fn every_value_of_an_rdb_is_restored_as_it_was() {
    let settings: Vec<(&str, &str)> =
        SETTINGS.into_iter().filter(|(name, _)| !name.starts_with("cluster")).collect();
    let (source, target) =
        (RealCluster::start_standalone_with(&settings), RealCluster::start_standalone_with(&settings));
    let (mut from, mut to) = (source.client(0), target.client(0));
    for (_, words) in requests() {
        let reply = from.call(&words);
        assert!(!reply.starts_with(b"-"), "{}", String::from_utf8_lossy(&reply));
    }
    // A list one of whose nodes is an entry of its own.
    from.expect("DEBUG QUICKLIST-PACKED-THRESHOLD 100b", "+OK\r\n");
    from.call(&["RPUSH", "list:plain", "short", &"long".repeat(100), "short"]);
    from.expect("DEBUG QUICKLIST-PACKED-THRESHOLD 0", "+OK\r\n");
    from.call(&["FUNCTION", "LOAD", LIBRARY]);

    let bytes = saved(&mut from);
    let (entries, functions) = scan(&bytes, bytes.len());
    assert_eq!(scan(&bytes, 1), (entries.clone(), functions.clone()), "byte by byte it is the same");
    let before = tell_all(&mut from);
    assert_eq!(entries.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    let kinds: BTreeSet<&str> = entries.values().map(|entry| entry.value.kind()).collect();
    assert_eq!(kinds, BTreeSet::from(["hash", "list", "set", "stream", "string", "zset"]));
    let types: BTreeSet<u8> = entries.values().map(|entry| entry.value.raw()[0]).collect();
    assert!(types.len() >= 9, "only these encodings were made: {types:?}");

    for (key, entry) in entries {
        let dump = bulks(&from.call(&[b"DUMP".as_slice(), &key])).remove(0);
        let raw = entry.value.raw();
        assert_eq!(raw.len(), dump.len() - 10, "the value of {:?}", String::from_utf8_lossy(&key));
        // A table that grows meanwhile may be written in another order.
        if !["hash", "set"].contains(&entry.value.kind()) {
            assert_eq!(raw, &dump[..dump.len() - 10], "the value of {:?}", String::from_utf8_lossy(&key));
        }
        let expiry = entry.expires_at.map_or(0, |at| at.as_millis()).to_string();
        let payload = entry.value.into_payload();
        let reply = to.call(&[b"RESTORE", key.as_slice(), expiry.as_bytes(), &payload, b"ABSTTL"]);
        assert_eq!(String::from_utf8_lossy(&reply), "+OK\r\n", "{:?}", String::from_utf8_lossy(&key));
    }
    assert_eq!(tell_all(&mut to), before);
    let groups = ["XINFO", "GROUPS", "stream"];
    assert_eq!(to.call_text(&groups), from.call_text(&groups));
    let pending = ["XPENDING", "stream", "busy"];
    assert_eq!(to.call_text(&pending), from.call_text(&pending));
    for function in functions {
        let reply = to.call(&[b"FUNCTION".as_slice(), b"RESTORE", &function]);
        assert_eq!(reply, b"+OK\r\n");
    }
    to.expect("FCALL answer 0", ":42\r\n");
}

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('answer', function() return 42 end)";

/// The RDB that a node writes.
fn saved(client: &mut crate::support::client::Client) -> Vec<u8> {
    client.expect("SAVE", "+OK\r\n");
    let mut setting = |name: &str| {
        let pair = bulks(&client.call(&["CONFIG", "GET", name]));
        String::from_utf8(pair[1].clone()).unwrap()
    };
    let path = Path::new(&setting("dir")).join(setting("dbfilename"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is found when the bytes come in pieces of this length.
fn scan(bytes: &[u8], piece: usize) -> (BTreeMap<Vec<u8>, Entry>, Vec<Vec<u8>>) {
    let mut scanner = Scanner::new(Keep::Values { limit: 1 << 30 });
    let (mut entries, mut functions) = (BTreeMap::new(), Vec::new());
    for mut piece in bytes.chunks(piece) {
        while let Some(item) = scanner.advance(&mut piece).unwrap() {
            match item {
                Item::Key(entry) => {
                    let twin = entries.insert(entry.key.clone(), entry);
                    assert_eq!(twin, None);
                }
                Item::Function(function) => functions.push(function.into_payload()),
                Item::End { .. } => {}
            }
        }
    }
    scanner.finish().unwrap();
    (entries, functions)
}
