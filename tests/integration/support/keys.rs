//! Keys of every type and encoding, with times to live and binary names, and what nodes say of them.

use super::client::Client;
use std::collections::BTreeMap;

/// Settings of nodes under which a few entries make every encoding; their replicas begin at once.
pub const SETTINGS: [(&str, &str); 9] = [
    ("appendonly", "no"),
    ("enable-debug-command", "yes"),
    ("cluster-node-timeout", "60000"),
    ("repl-diskless-sync-delay", "0"),
    ("hash-max-listpack-entries", "8"),
    ("zset-max-listpack-entries", "8"),
    ("set-max-intset-entries", "8"),
    ("list-max-listpack-size", "8"),
    ("stream-node-max-entries", "4"),
];

/// A request that makes a key, or goes on with it.
type Request = Vec<Vec<u8>>;

fn request(words: &[&[u8]]) -> Request {
    words.iter().map(|word| word.to_vec()).collect()
}

/// `command key entry entry ...` with so many entries.
fn many(command: &str, key: &str, count: usize, entry: impl Fn(usize) -> Vec<String>) -> Request {
    let mut words = request(&[command.as_bytes(), key.as_bytes()]);
    words.extend((0..count).flat_map(entry).map(String::into_bytes));
    words
}

/// Requests that make keys of all types and encodings. The first word after the command is the key, or the
/// one after that of `XGROUP` and the like, where it says so.
pub fn requests() -> Vec<(Vec<u8>, Request)> {
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = (0..100_000).map(|_| random.u8(..)).collect();
    let far = b"PXAT 4102444800000".split(|byte| *byte == b' ').collect::<Vec<_>>();
    let mut requests: Vec<Request> = vec![
        request(&[b"SET", b"string:plain", b"value"]),
        request(&[b"SET", b"string:empty", b""]),
        request(&[b"SET", b"string:packed", &b"again and ".repeat(500)]),
        request(&[b"SET", b"string:noise", &noise]),
        request(&[&[b"SET".as_slice(), b"string:expiring", b"value"], far.as_slice()].concat()),
        request(&[b"SET", b"\x00\xff\r\n{binary}", b"\x00\x80"]),
        request(&[b"SET", b"", b"the empty key"]),
        request(&[b"SET", &b"a key that can be packed ".repeat(9), b"value"]),
        many("RPUSH", "list:small", 3, |ix| vec![format!("entry {ix}")]),
        many("RPUSH", "list:large", 100, |ix| vec![format!("entry {ix}")]),
        many("SADD", "set:numbers", 5, |ix| vec![(ix * 1_000_000_000_000).to_string()]),
        many("SADD", "set:small", 5, |ix| vec![format!("member {ix}")]),
        many("SADD", "set:large", 300, |ix| vec![format!("member {ix}")]),
        many("ZADD", "zset:small", 3, |ix| vec![format!("{ix}.5"), format!("member {ix}")]),
        many("ZADD", "zset:large", 50, |ix| vec![format!("{ix}.25"), format!("member {ix}")]),
        request(&[b"ZADD", b"zset:large", b"inf", b"most", b"-inf", b"least"]),
        many("HSET", "hash:small", 3, |ix| vec![format!("field {ix}"), "value".into()]),
        many("HSET", "hash:large", 50, |ix| vec![format!("field {ix}"), "x".repeat(ix * 9)]),
        request(&[b"PEXPIREAT", b"hash:large", b"4102444800001"]),
    ];
    for number in ["7", "-129", "32768", "-2147483648", "2147483648", "9223372036854775807"] {
        requests.push(request(&[b"SET", number.as_bytes(), number.as_bytes()]));
    }
    for ix in 1..=20 {
        let id = format!("{ix}-{ix}");
        requests.push(request(&[b"XADD", b"stream", id.as_bytes(), b"field", b"value"]));
    }
    let mut requests: Vec<(Vec<u8>, Request)> =
        requests.into_iter().map(|words| (words[1].clone(), words)).collect();
    for words in [
        "XDEL stream 3-3",
        "XGROUP CREATE stream idle $",
        "XGROUP CREATE stream busy 0",
        "XREADGROUP GROUP busy alice COUNT 7 STREAMS stream >",
        "XREADGROUP GROUP busy bob COUNT 4 STREAMS stream >",
        "XACK stream busy 2-2",
        "XGROUP CREATECONSUMER stream busy carol",
        "XGROUP CREATE stream:empty group 0 MKSTREAM",
    ] {
        let words: Request = words.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let key = words.iter().find(|word| word.starts_with(b"stream")).unwrap().clone();
        requests.push((key, words));
    }
    requests
}

/// What a node says of one key: the digest of its value, and when it expires.
pub type Told = (Vec<u8>, Vec<u8>);

/// All keys of a node.
pub fn tell_all(client: &mut Client) -> BTreeMap<Vec<u8>, Told> {
    let keys = bulks(&client.call(&["KEYS", "*"]));
    let mut told = BTreeMap::new();
    for keys in keys.chunks(500) {
        for key in keys {
            client.send(&[b"DEBUG".as_slice(), b"DIGEST-VALUE", key]);
            client.send(&[b"PEXPIRETIME".as_slice(), key]);
        }
        for key in keys {
            let (digest, expiry) = (client.read(), client.read());
            assert!(!digest.starts_with(b"-"), "{}", String::from_utf8_lossy(&digest));
            told.insert(key.clone(), (digest, expiry));
        }
    }
    told
}

/// The strings of a reply that is a string or an array of them; binary ones, too.
#[track_caller]
pub fn bulks(reply: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut found) = (reply, Vec::new());
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').expect("a whole line") + 1;
        let number = std::str::from_utf8(&rest[1..end - 2]).unwrap().parse::<usize>().unwrap();
        match rest[0] {
            b'*' => rest = &rest[end..],
            b'$' => {
                found.push(rest[end..end + number].to_vec());
                rest = &rest[end + number + 2..];
            }
            _ => panic!("no string: {}", String::from_utf8_lossy(reply)),
        }
    }
    found
}
