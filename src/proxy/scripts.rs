//! Script bodies, remembered, so that EVALSHA works wherever the slot lives now: on one Redis a script
//! that was run once is known, here it is known to one node of many.
//!
//! An EVALSHA of a known body goes to a node with SCRIPT LOAD before it, once for each connection. A
//! script that nobody showed to this gateway is left to the node's NOSCRIPT.

use super::core::Core;
use super::dispatch::Handled;
use super::fanout::{Merge, Policy};
use super::flight::{Aim, Lane, Purpose, Tag};
use super::pipeline::Place;
use super::router::{Handling, ScriptUse};
use super::session::Busy;
use crate::command::{CommandIx, Lookup};
use crate::resp::{Limits, Request, RequestScan, RequestScanner, write_request};
use crate::topology::{ShardIx, Slot};
use dashmap::DashMap;
use rustc_hash::{FxBuildHasher, FxHashSet};
use sha1::{Digest, Sha1};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What EVALSHA calls a script by: the SHA-1 digest of its body
/// (<https://redis.io/docs/latest/commands/evalsha/>).
pub type ScriptSha = [u8; 20];

/// A longer body is left to the nodes.
const LONGEST: usize = 1 << 20;
/// All bodies together; when they are more, all are forgotten, as those in use come again.
const MOST_BYTES: usize = 32 << 20;

/// The bodies that clients of this process have shown, shared by all workers.
#[derive(Debug, Default)]
pub struct Scripts {
    bodies: DashMap<ScriptSha, Arc<[u8]>>,
    bytes: AtomicUsize,
    /// How often everything was forgotten.
    generation: AtomicU64,
    /// Scripts without keys that are under way.
    running: AtomicUsize,
}

impl Scripts {
    /// Remembers a script.
    pub fn remember(&self, body: &[u8]) {
        if body.len() > LONGEST {
            return;
        }
        if self.bytes.load(Ordering::Relaxed) + body.len() > MOST_BYTES {
            self.forget_all();
        }
        if self.bodies.insert(Sha1::digest(body).into(), body.into()).is_none() {
            self.bytes.fetch_add(body.len(), Ordering::Relaxed);
        }
    }

    /// Forgets what turned out to be no script.
    fn forget(&self, body: &[u8]) {
        if self.bodies.remove(&ScriptSha::from(Sha1::digest(body))).is_some() {
            self.bytes.fetch_sub(body.len(), Ordering::Relaxed);
        }
    }

    /// The body of a script, if it was shown.
    pub fn get(&self, sha: &ScriptSha) -> Option<Arc<[u8]>> {
        self.bodies.get(sha).map(|body| body.clone())
    }

    fn begin(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// A session waits for its script no more.
    pub fn end(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a node may be busy with a script.
    pub fn are_running(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// SCRIPT FLUSH.
    pub fn forget_all(&self) {
        self.bodies.clear();
        self.bytes.store(0, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }
}

/// What one worker knows of the shared scripts.
#[derive(Debug, Default)]
pub struct SeenScripts {
    /// Hashes of the bodies that were remembered already: cheaper than their digests.
    bodies: FxHashSet<u64>,
    generation: u64,
}

impl Core {
    /// Notes what a request tells of scripts.
    pub fn note_script(&mut self, usage: ScriptUse, request: &Request) {
        let stats = self.stats.clone();
        self.follow_flushes(&stats.scripts);
        match usage {
            ScriptUse::Shows(at) => {
                let body = request.get(usize::from(at)).unwrap_or_default();
                if self.seen_scripts.bodies.insert(FxBuildHasher.hash_one(body)) {
                    stats.scripts.remember(body);
                }
            }
            ScriptUse::Flushes => stats.scripts.forget_all(),
            ScriptUse::Calls => {}
        }
    }

    /// The body of the script that a client calls by this digest, if it was shown.
    pub fn known_body(&self, sha: &[u8]) -> Option<Arc<[u8]>> {
        self.stats.scripts.get(&parse_sha(sha)?)
    }

    fn follow_flushes(&mut self, scripts: &Scripts) {
        let generation = scripts.generation.load(Ordering::Relaxed);
        if self.seen_scripts.generation != generation {
            self.seen_scripts = SeenScripts { generation, ..SeenScripts::default() };
            self.backends.iter_mut().for_each(|(_, backend)| backend.scripts.clear());
        }
    }

    /// Sends the scripts before a request that calls them, as far as they are known here and were not
    /// sent over this connection before. `frames` is that request, or a whole transaction.
    pub fn load_scripts(&mut self, backend: usize, tag: &Tag, frames: &[u8]) {
        let stats = self.stats.clone();
        if stats.scripts.bytes.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.follow_flushes(&stats.scripts);
        each_request(frames, |request| {
            if self.script_use(request) == Some(ScriptUse::Calls)
                && let Some(sha) = request.get(1).and_then(parse_sha)
                && let Some(body) = stats.scripts.get(&sha)
                && self.backends[backend].scripts.insert(sha)
            {
                let mut load = Vec::with_capacity(body.len() + 48);
                write_request(&mut load, [&b"SCRIPT"[..], b"LOAD", &body]);
                let tag = Tag { purpose: Purpose::Discard, ..*tag };
                self.backends[backend].wire.push_owned(load, tag);
                self.mark_backend(backend);
            }
        });
    }

    /// What an error reply to the oldest request of a connection tells of scripts.
    pub fn note_script_error(&mut self, backend: usize, reply: &[u8]) {
        if [&b"-NOSCRIPT"[..], b"-LOADING"].iter().any(|code| reply.starts_with(code)) {
            // They were flushed there, or could not be loaded.
            self.backends[backend].scripts.clear();
        } else if reply.starts_with(b"-ERR Error compiling script") {
            let wire = &self.backends[backend].wire;
            let Some(front) = wire.flights.front() else { return };
            each_request(wire.outbox.front(front.len as usize), |request| {
                if let Some(ScriptUse::Shows(at)) = self.script_use(request) {
                    self.stats.scripts.forget(request.get(usize::from(at)).unwrap_or_default());
                }
            });
        }
    }

    /// The same for a request that is about to be forwarded to the owner of `slot`, unless it must wait:
    /// what waits comes by again.
    pub fn load_scripts_at(&mut self, ix: usize, command: CommandIx, slot: Slot, frames: &[u8]) {
        let session = &self.sessions[ix];
        if !session.is_gated(slot)
            && let Some((backend, _)) = self.pipe_of(slot, session.state.version)
        {
            let tag = self.tag(ix, 0, command, Aim::Owner(slot));
            self.load_scripts(backend, &tag, frames);
        }
    }

    /// A script that names no keys may use any, and may run for ever: alone on a connection of its own, so
    /// that others learn of a node that is busy with it.
    pub fn send_script(&mut self, ix: usize, command: CommandIx, request: &Request) -> Handled {
        let session = &self.sessions[ix];
        if !session.pipeline.is_empty() || !session.gates.is_empty() {
            return Handled::NotYet;
        }
        if !self.may_open_exclusive() {
            return self.send_any(ix, command, request);
        }
        let ticket = self.take_ticket(ix, command, Place::Waiting);
        let mut tag = self.tag(ix, ticket, command, Aim::Any);
        tag.lane = Lane::Exclusive;
        self.sessions[ix].busy = Some(Busy::Script);
        self.stats.scripts.begin();
        self.forward(tag, &[request.frame]);
        Handled::Done
    }

    /// A script without keys came upon one that its node does not hold: where to try it next. Nowhere can it
    /// have changed anything, as a node runs it beyond its first key only if that is its own.
    pub fn next_for_script(&self, tag: &Tag, reply: &[u8]) -> Option<Aim> {
        let is_script = tag.lane == Lane::Exclusive
            && tag.purpose == Purpose::Answer
            && !self.is_of_errand(tag)
            && self.traits[usize::from(tag.command.0)].handling == Handling::Script;
        if !is_script || !names_no_key(reply) {
            return None;
        }
        let next = ShardIx::from(tag.redirects.checked_add(1)?);
        let shard = (usize::from(next) < self.topology.shards().len()).then_some(next)?;
        self.topology.ranges_of(shard).first().map(|range| Aim::Owner(range.start))
    }

    /// SCRIPT KILL and FUNCTION KILL go to all primaries, over connections on which no script runs.
    pub fn send_kill(
        &mut self,
        ix: usize,
        command: CommandIx,
        firsts: Vec<Slot>,
        request: &Request,
    ) -> Handled {
        let merge = Merge::new(Policy::Kill, self.sessions[ix].state.version, firsts.len(), false);
        let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
        self.sessions[ix].busy = Some(Busy::Alone);
        for (part, slot) in firsts.into_iter().enumerate() {
            let mut tag = self.tag(ix, ticket, command, Aim::Owner(slot));
            tag.part = part as u32;
            tag.lane = Lane::Exclusive;
            self.forward(tag, &[request.frame]);
        }
        Handled::Done
    }

    fn script_use(&self, request: &Request) -> Option<ScriptUse> {
        match self.table.lookup(request) {
            Lookup::Found(command, _) => self.traits[usize::from(command.0)].script,
            _ => None,
        }
    }

    /// Which of the scripts that SCRIPT EXISTS asks for are known here.
    pub fn known_scripts(&self, request: &Request) -> Vec<bool> {
        let is_known = |sha: &[u8]| parse_sha(sha).is_some_and(|sha| self.stats.scripts.get(&sha).is_some());
        request.args().skip(2).map(is_known).collect()
    }
}

/// Whether a node stopped a script at a key that it does not hold and that the client has not named.
fn names_no_key(reply: &[u8]) -> bool {
    memchr::memmem::find(reply, b"attempted to access a non local key").is_some()
}

/// What the client is told then.
pub fn undeclared_key(reply: &[u8]) -> Option<Vec<u8>> {
    const ADVICE: &[u8] =
        b"; name the keys of a script (EVAL script 1 key), so that it runs where they are\r\n";
    let line = reply.strip_suffix(b"\r\n").filter(|_| names_no_key(reply))?;
    Some([line, ADVICE].concat())
}

/// Looks at each of the requests that travel as one.
pub fn each_request(frames: &[u8], mut look: impl FnMut(&Request)) {
    let (mut scanner, mut pos) = (RequestScanner::default(), 0);
    while pos < frames.len()
        && let Ok(RequestScan::Complete { len }) = {
            scanner.reset();
            scanner.scan(&frames[pos..], Limits::USUAL)
        }
    {
        look(&Request::new(&frames[pos..pos + len], scanner.args()));
        pos += len;
    }
}

/// 40 hexadecimal digits, in either case.
fn parse_sha(text: &[u8]) -> Option<ScriptSha> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut sha = ScriptSha::default();
    if text.len() != 2 * sha.len() {
        return None;
    }
    for (byte, pair) in sha.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(sha)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_found_by_its_digest_in_either_case() {
        let scripts = Scripts::default();
        scripts.remember(b"return 1");
        // printf 'return 1' | sha1sum
        for text in ["e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"] {
            let sha = parse_sha(text.as_bytes()).unwrap();
            assert_eq!(scripts.get(&sha).as_deref(), Some(&b"return 1"[..]));
        }
        scripts.forget_all();
        assert!(scripts.get(&Sha1::digest(b"return 1").into()).is_none());
    }

    #[test]
    fn what_is_no_digest_is_no_script() {
        for text in ["", "e0e1", &"g".repeat(40), &"0".repeat(41)] {
            assert_eq!(parse_sha(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn bodies_are_bounded() {
        let scripts = Scripts::default();
        scripts.remember(&vec![b'-'; LONGEST + 1]);
        assert_eq!(scripts.bodies.len(), 0);
        for number in 0..100 {
            scripts.remember(&[vec![b'-'; LONGEST - 1], vec![number]].concat());
            assert!(scripts.bodies.iter().map(|body| body.len()).sum::<usize>() <= MOST_BYTES);
        }
        assert!(!scripts.bodies.is_empty());
    }
}
