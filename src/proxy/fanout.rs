//! Split a command by slot or shard, and make one reply of the parts.
//!
//! Pure but for RANDOMKEY's dice. A part's reply is looked at only as far as its policy needs.

use super::cursor::Cursor;
use super::error_reply::ErrorReply;
use crate::resp::{ReplyWriter, Version, write_bulk, write_head};
use crate::topology::Slot;

pub use super::reply_parts::{array, element, elements, integer, pairs_of, text_of};

/// How the replies of a command's parts become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// Integers are added: DEL, EXISTS, DBSIZE.
    Sum,
    /// The least integer: WAIT.
    Min,
    /// Whom a message reached: our clients, and those of the node but for our connections: PUBLISH.
    Reached { ours: i64, carried: i64 },
    /// Every part must succeed; the first one's reply is the reply: MSET, FLUSHALL, SCRIPT LOAD.
    AllSucceed,
    /// One part that succeeds is enough; that none does is told by the one that had something to end:
    /// SCRIPT KILL.
    Kill,
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
    /// What tells whether a watched key has changed; if none has, the head of so many replies: EXEC.
    Guard { count: u32 },
    /// The elements of an array of so many, without its head: a part of what EXEC answers.
    Elements { count: usize },
    /// What all primaries and the gateway say of who listens becomes one: PUBSUB.
    Listeners(Box<super::listeners::Request>),
    /// The values of one node, but for what is its own: CONFIG GET.
    Settings(super::settings::Own),
    /// A function's reply, unless it has to wait: FCALL.
    Call(Box<super::paused_call::Call>),
    /// Values before a change, and what became of it: CONFIG SET.
    Configure(Box<super::configure::Change>),
    /// What all primaries tell of themselves: SLOWLOG, LATENCY and others.
    Report(Box<super::reports::Request>),
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
        let keeps = !matches!(policy, Policy::Sum | Policy::Min | Policy::Reached { .. });
        let sum = match policy {
            Policy::Min => i64::MAX,
            Policy::Reached { ours, .. } => ours,
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
        if reply.first() == Some(&b'-') && !matches!(self.policy, Policy::Configure(_)) {
            self.failed += 1;
            if self.policy == Policy::Kill && !reply.starts_with(b"-NOTBUSY") {
                self.first_failure = None;
            }
            self.first_failure.get_or_insert_with(|| reply.to_vec());
        } else {
            match self.policy {
                Policy::Sum => self.sum = self.sum.saturating_add(integer(reply)),
                Policy::Min => self.sum = self.sum.min(integer(reply)),
                Policy::Reached { carried, .. } => self.sum += (integer(reply) - carried).max(0),
                Policy::AllSucceed | Policy::Kill if !self.bytes.is_empty() => {}
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
        self.failed > 0 && (self.policy != Policy::Kill || self.failed == self.count)
    }

    /// The first error that came.
    pub fn failure(&self) -> Option<&[u8]> {
        self.first_failure.as_deref()
    }

    /// Whether the replies were more than is kept.
    pub fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    /// The replies, in the order of the parts.
    pub fn replies(&self) -> Vec<&[u8]> {
        (0..self.count).map(|part| self.part(part)).collect()
    }

    fn part(&self, part: usize) -> &[u8] {
        let (start, end) = self.parts[part];
        &self.bytes[start..end]
    }

    /// The reply, once all parts are in.
    pub fn finish(mut self) -> Vec<u8> {
        let parts = self.count;
        if let Policy::Elements { count } = self.policy {
            return match self.first_failure {
                Some(error) => error.repeat(count),
                None if self.bytes.starts_with(b"*-1") || self.bytes.starts_with(b"_") => {
                    self.bytes.repeat(count)
                }
                None => array(&self.bytes).1.to_vec(),
            };
        }
        if let Some(first) = self.first_failure.take() {
            if self.policy == Policy::Kill && self.failed < parts {
                return self.bytes;
            }
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
            Policy::Sum | Policy::Min | Policy::Reached { .. } => {
                ReplyWriter { out: &mut out, version: self.version }.integer(self.sum)
            }
            Policy::Guard { count } => match self.replies().iter().find(|reply| !reply.starts_with(b"*1")) {
                Some(changed) => out.extend_from_slice(changed),
                None => write_head(&mut out, b'*', *count as usize),
            },
            Policy::AllSucceed
            | Policy::Kill
            | Policy::Exec(_)
            | Policy::Call(_)
            | Policy::Elements { .. } => {
                return self.bytes;
            }
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
                let mut reply = ReplyWriter { out: &mut out, version: self.version };
                super::listeners::merge(request, &self.replies(), &mut reply);
            }
            Policy::Configure(change) => {
                change.write(&self.replies(), &mut ReplyWriter { out: &mut out, version: self.version });
            }
            Policy::Report(request) => {
                let mut reply = ReplyWriter { out: &mut out, version: self.version };
                super::reports::merge(request, &self.replies(), &mut reply);
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

/// Groups the keys of a command by slot: fills `grouped` with (slot, key's number among the keys),
/// ordered by slot, keys of one slot in the client's order.
pub fn group_by_slot<'a>(keys: impl Iterator<Item = &'a [u8]>, grouped: &mut Vec<(Slot, u32)>) {
    grouped.clear();
    grouped.extend(keys.enumerate().map(|(number, key)| (Slot::of_key(key), number as u32)));
    grouped.sort_unstable();
}

#[cfg(test)]
#[path = "fanout_tests.rs"]
mod tests;
