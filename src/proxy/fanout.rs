//! Split a command by slot or shard, and make one reply of the parts.
//!
//! Pure but for RANDOMKEY's dice. A part's reply is looked at only as far as its policy needs.

use super::cursor::Cursor;
use super::error_reply::ErrorReply;
use crate::resp::{ReplyScanner, ReplyWriter, Version, write_bulk, write_head};
use crate::topology::Slot;

/// How the replies of a command's parts become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// Integers are added: DEL, EXISTS, DBSIZE.
    Sum,
    /// The least integer: WAIT.
    Min,
    /// The node's integer, but never less than this: PUBLISH, which also reaches our own clients.
    AtLeast(i64),
    /// Every part must succeed; the first one's reply is the reply: MSET, FLUSHALL, SCRIPT LOAD.
    AllSucceed,
    /// Values in the order of the client's keys, of which this many were given: MGET.
    Values { positions: Vec<u32> },
    /// Arrays are joined: KEYS.
    Concat,
    /// Arrays of 0 and 1; 1 where all parts have it, or it is known here: SCRIPT EXISTS.
    LogicalAnd { known: Vec<bool> },
    /// Of (DBSIZE, RANDOMKEY) pairs one key, the larger nodes' with more weight.
    RandomKey,
    /// The node's cursor becomes one that leads through all shards: SCAN.
    Scan { cursor: Cursor },
    /// The reports of all primaries become one server's: INFO.
    Info(Box<super::info::Request>),
    /// The node's replies, with those of the gateway's own commands among them: EXEC.
    Exec(Box<super::splice::OwnCommands>),
    /// What all primaries and the gateway say of who listens becomes one: PUBSUB.
    Listeners(Box<super::listeners::Request>),
    /// The values of one node, but for what is its own: CONFIG GET.
    Settings(super::settings::Own),
}

/// One command whose reply is made of several.
#[derive(Debug)]
pub struct Merge {
    pub policy: Policy,
    pub version: Version,
    /// Whether the parts change something: then a failure of some must say so.
    pub is_write: bool,
    count: usize,
    left: usize,
    /// Where each part's reply lies in `bytes`, by part.
    parts: Vec<(usize, usize)>,
    bytes: Vec<u8>,
    failed: usize,
    first_failure: Option<Vec<u8>>,
    sum: i64,
    /// The replies were more than is kept; none is.
    is_too_large: bool,
}

impl Merge {
    /// Waits for `parts` replies.
    pub fn new(policy: Policy, version: Version, parts: usize, is_write: bool) -> Merge {
        let keeps = !matches!(policy, Policy::Sum | Policy::Min | Policy::AtLeast(_));
        let sum = match policy {
            Policy::Min => i64::MAX,
            Policy::AtLeast(least) => least,
            _ => 0,
        };
        Merge {
            policy,
            version,
            is_write,
            count: parts,
            left: parts,
            parts: if keeps { vec![(0, 0); parts] } else { Vec::new() },
            bytes: Vec::new(),
            failed: 0,
            first_failure: None,
            sum,
            is_too_large: false,
        }
    }

    /// Takes the reply of part `part`; true when it was the last one missing. Of more than `limit` bytes
    /// in all, nothing is kept.
    pub fn add(&mut self, part: usize, reply: &[u8], limit: usize) -> bool {
        debug_assert!(part < self.count);
        self.left = self.left.saturating_sub(1);
        if reply.first() == Some(&b'-') {
            self.failed += 1;
            self.first_failure.get_or_insert_with(|| reply.to_vec());
        } else {
            match self.policy {
                Policy::Sum => self.sum = self.sum.saturating_add(integer(reply)),
                Policy::Min => self.sum = self.sum.min(integer(reply)),
                Policy::AtLeast(_) => self.sum = self.sum.max(integer(reply)),
                Policy::AllSucceed if !self.bytes.is_empty() => {}
                _ if self.is_too_large || self.bytes.len() + reply.len() > limit => {
                    self.is_too_large = true;
                    self.bytes = Vec::new();
                }
                _ => {
                    let start = self.bytes.len();
                    self.bytes.extend_from_slice(reply);
                    self.parts[part] = (start, self.bytes.len());
                }
            }
        }
        self.left == 0
    }

    /// Whether any part failed.
    pub fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// Whether the replies were more than is kept.
    pub fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    fn part(&self, part: usize) -> &[u8] {
        let (start, end) = self.parts[part];
        &self.bytes[start..end]
    }

    /// The reply, once all parts are in.
    pub fn finish(mut self) -> Vec<u8> {
        let parts = self.count;
        if let Some(first) = self.first_failure.take() {
            // A read that failed in part, or a write that failed everywhere, is just a failure.
            if !self.is_write || self.failed == parts {
                return first;
            }
            let first = String::from_utf8_lossy(&first[1..]).trim_end().to_string();
            let mut out = Vec::new();
            let error = ErrorReply::Partial { failed: self.failed, parts, first };
            ReplyWriter { out: &mut out, version: self.version }.error(&error.to_string());
            return out;
        }
        let mut out = Vec::with_capacity(self.bytes.len() + 16);
        match &self.policy {
            Policy::Sum | Policy::Min | Policy::AtLeast(_) => {
                ReplyWriter { out: &mut out, version: self.version }.integer(self.sum)
            }
            Policy::AllSucceed | Policy::Exec(_) => return self.bytes,
            Policy::Values { positions } => self.values(positions, &mut out),
            Policy::Concat => self.concat(&mut out),
            Policy::LogicalAnd { known } => self.logical_and(known, &mut out),
            Policy::RandomKey => self.random_key(&mut out),
            Policy::Scan { cursor } => rewrite_cursor(self.part(0), cursor, &mut out),
            Policy::Info(request) => {
                let reports: Vec<&[u8]> = (0..parts).map(|part| text_of(self.part(part))).collect();
                let text = super::info::merge(request, &reports);
                ReplyWriter { out: &mut out, version: self.version }.verbatim(&text);
            }
            Policy::Listeners(request) => {
                let replies: Vec<&[u8]> = (0..parts).map(|part| self.part(part)).collect();
                let mut reply = ReplyWriter { out: &mut out, version: self.version };
                super::listeners::merge(request, &replies, &mut reply);
            }
            Policy::Settings(own) => {
                let mut reply = ReplyWriter { out: &mut out, version: self.version };
                super::settings::rewrite(self.part(0), own, &mut reply);
            }
        }
        out
    }

    /// `positions[i]` is the client's place for the `i`-th value, counted over all parts in order.
    fn values(&self, positions: &[u32], out: &mut Vec<u8>) {
        const MISSING: &[u8] = b"$-1\r\n";
        let mut values: Vec<&[u8]> = vec![MISSING; positions.len()];
        let mut next = 0;
        for part in 0..self.parts.len() {
            let (_, mut rest) = array(self.part(part));
            while let Some((value, after)) = element(rest)
                && next < positions.len()
            {
                values[positions[next] as usize] = value;
                rest = after;
                next += 1;
            }
        }
        write_head(out, b'*', values.len());
        for value in values {
            out.extend_from_slice(value);
        }
    }

    fn concat(&self, out: &mut Vec<u8>) {
        let arrays: Vec<(usize, &[u8])> = (0..self.parts.len()).map(|part| array(self.part(part))).collect();
        let kind = self.bytes.first().copied().unwrap_or(b'*');
        write_head(out, kind, arrays.iter().map(|(count, _)| count).sum());
        for (_, elements) in arrays {
            out.extend_from_slice(elements);
        }
    }

    fn logical_and(&self, known: &[bool], out: &mut Vec<u8>) {
        let (count, _) = array(self.part(0));
        let mut all = vec![1; count];
        for part in 0..self.parts.len() {
            let (_, mut rest) = array(self.part(part));
            for flag in &mut all {
                let Some((value, after)) = element(rest) else { break };
                *flag = integer(value).min(*flag);
                rest = after;
            }
        }
        for (flag, _) in all.iter_mut().zip(known).filter(|(_, known)| **known) {
            *flag = 1;
        }
        let mut reply = ReplyWriter { out, version: self.version };
        reply.array(count);
        all.into_iter().for_each(|flag| reply.integer(flag));
    }

    fn random_key(&self, out: &mut Vec<u8>) {
        let nodes: Vec<(i64, &[u8])> = (0..self.parts.len() / 2)
            .map(|node| (integer(self.part(node * 2)), self.part(node * 2 + 1)))
            .filter(|(_, key)| key.starts_with(b"$") && !key.starts_with(b"$-1"))
            .map(|(size, key)| (size.max(1), key))
            .collect();
        let total: i64 = nodes.iter().map(|(size, _)| size).sum();
        if total == 0 {
            return ReplyWriter { out, version: self.version }.null();
        }
        let mut at = fastrand::i64(0..total);
        for (size, key) in nodes {
            if at < size {
                return out.extend_from_slice(key);
            }
            at -= size;
        }
    }
}

/// `*2`, the node's cursor, the keys → the same with the client's cursor.
fn rewrite_cursor(reply: &[u8], cursor: &Cursor, out: &mut Vec<u8>) {
    let (_, elements) = array(reply);
    let Some((node_cursor, keys)) = element(elements) else { return out.extend_from_slice(reply) };
    let node_cursor = std::str::from_utf8(text_of(node_cursor)).ok().and_then(|text| text.parse().ok());
    match node_cursor.and_then(|at| cursor.after(at)) {
        Some(next) => {
            write_head(out, b'*', 2);
            write_bulk(out, next.to_string().as_bytes());
            out.extend_from_slice(keys);
        }
        None => ReplyWriter { out, version: Version::Resp2 }.error(&ErrorReply::BadCursor.to_string()),
    }
}

/// The number in `:n` or a bulk; 0 when there is none.
pub fn integer(reply: &[u8]) -> i64 {
    std::str::from_utf8(text_of(reply)).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The body of a reply that is not an aggregate.
pub fn text_of(reply: &[u8]) -> &[u8] {
    let (Some(kind), Some(end)) = (reply.first(), memchr::memchr(b'\n', reply)) else { return b"" };
    match kind {
        b'$' => reply[end + 1..].strip_suffix(b"\r\n").unwrap_or_default(),
        b'=' => reply[end + 1..].strip_suffix(b"\r\n").and_then(|text| text.get(4..)).unwrap_or_default(),
        _ => reply[1..end].trim_ascii_end(),
    }
}

/// How many elements an array or set has, and their bytes.
pub fn array(reply: &[u8]) -> (usize, &[u8]) {
    let Some(end) = memchr::memchr(b'\n', reply) else { return (0, b"") };
    let count = std::str::from_utf8(reply[1..end].trim_ascii_end()).ok().and_then(|count| count.parse().ok());
    (count.unwrap_or(0), &reply[end + 1..])
}

/// The first reply of several, and the rest.
pub fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let advance = ReplyScanner::default().advance(bytes).ok()?;
    advance.is_done.then(|| bytes.split_at(advance.consumed))
}

/// Groups the keys of a command by slot: fills `grouped` with (slot, key's number among the keys),
/// ordered by slot, keys of one slot in the client's order.
pub fn group_by_slot<'a>(keys: impl Iterator<Item = &'a [u8]>, grouped: &mut Vec<(Slot, u32)>) {
    grouped.clear();
    grouped.extend(keys.enumerate().map(|(number, key)| (Slot::of_key(key), number as u32)));
    grouped.sort_unstable();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn merge(policy: Policy, is_write: bool, replies: &[&str]) -> String {
        let mut merge = Merge::new(policy, Version::Resp2, replies.len(), is_write);
        // The last one first: parts answer in any order.
        for (part, reply) in replies.iter().enumerate().rev() {
            assert_eq!(merge.add(part, reply.as_bytes(), usize::MAX), part == 0);
        }
        String::from_utf8(merge.finish()).unwrap()
    }

    #[test]
    fn counts_are_added() {
        assert_eq!(merge(Policy::Sum, true, &[":1\r\n", ":0\r\n", ":40\r\n"]), ":41\r\n");
        assert_eq!(merge(Policy::Min, false, &[":1\r\n", ":0\r\n"]), ":0\r\n");
    }

    #[test]
    fn values_stand_where_their_keys_stood() {
        let policy = Policy::Values { positions: vec![2, 0, 1] };
        assert_eq!(
            merge(policy, false, &["*2\r\n$1\r\nc\r\n$-1\r\n", "*1\r\n$1\r\nb\r\n"]),
            "*3\r\n$-1\r\n$1\r\nb\r\n$1\r\nc\r\n"
        );
    }

    #[test]
    fn arrays_are_joined_or_intersected() {
        assert_eq!(
            merge(Policy::Concat, false, &["*1\r\n$1\r\na\r\n", "*0\r\n", "*1\r\n$1\r\nb\r\n"]),
            "*2\r\n$1\r\na\r\n$1\r\nb\r\n"
        );
        assert_eq!(
            merge(
                Policy::LogicalAnd { known: vec![false, false, true] },
                false,
                &["*3\r\n:1\r\n:1\r\n:0\r\n", "*3\r\n:1\r\n:0\r\n:0\r\n"]
            ),
            "*3\r\n:1\r\n:0\r\n:1\r\n"
        );
    }

    #[test]
    fn a_write_that_failed_in_part_never_says_ok() {
        let failed = merge(Policy::AllSucceed, true, &["+OK\r\n", "-OOM no\r\n"]);
        assert_eq!(failed, "-OOM 1 of 2 parts failed, the others are done; the first failure: no\r\n");
        assert_eq!(merge(Policy::AllSucceed, true, &["-OOM no\r\n", "-OOM no\r\n"]), "-OOM no\r\n");
        assert_eq!(merge(Policy::Sum, false, &[":1\r\n", "-ERR x\r\n"]), "-ERR x\r\n");
    }

    #[test]
    fn a_random_key_comes_from_a_node_that_has_keys() {
        for _ in 0..20 {
            let reply = merge(Policy::RandomKey, false, &[":0\r\n", "$-1\r\n", ":9\r\n", "$1\r\nk\r\n"]);
            assert_eq!(reply, "$1\r\nk\r\n");
        }
        assert_eq!(merge(Policy::RandomKey, false, &[":0\r\n", "$-1\r\n"]), "$-1\r\n");
    }

    proptest! {
        #[test]
        fn split_then_merge_gives_every_key_its_value(keys in proptest::collection::vec("[a-f]{1,2}", 1..30)) {
            let mut grouped = Vec::new();
            group_by_slot(keys.iter().map(|key| key.as_bytes()), &mut grouped);
            let parts: Vec<&[(Slot, u32)]> = grouped.chunk_by(|a, b| a.0 == b.0).collect();
            let positions = grouped.iter().map(|(_, number)| *number).collect();
            let mut merge = Merge::new(Policy::Values { positions }, Version::Resp2, parts.len(), false);
            for (part, group) in parts.iter().enumerate() {
                let mut reply = format!("*{}\r\n", group.len()).into_bytes();
                group.iter().for_each(|(_, number)| write_bulk(&mut reply, keys[*number as usize].as_bytes()));
                merge.add(part, &reply, usize::MAX);
            }
            let mut expected = format!("*{}\r\n", keys.len()).into_bytes();
            keys.iter().for_each(|key| write_bulk(&mut expected, key.as_bytes()));
            prop_assert_eq!(merge.finish(), expected);
        }
    }
}
