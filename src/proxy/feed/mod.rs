//! SYNC: all primaries' keys as one RDB file, and then what each of them changes, as one stream.
//!
//! Every primary is asked for its own. The files are put together as they come: one after the other, read no
//! faster than the client takes them. After them, commands come in the order in which they reach us; those of
//! one node keep theirs, and transactions stay whole. When a node is lost or keys move between nodes, the
//! client's connection ends, as a server's does that a replica must ask anew.

mod head;
mod stream;

use self::stream::Stream;
use super::core::Core;
use super::dispatch::Handled;
use super::error_reply::ErrorReply;
use super::flight::{Lane, SessionKey};
use super::session::Busy;
use crate::resp::Version;
use crate::telemetry::{Family, Reason};

/// While a file is passed on, its node is not read while so much waits for the client.
const WINDOW: usize = 256 << 10;
/// What a file may have before its first key: functions.
const LONGEST_HEAD: usize = 16 << 20;
const SYNC: &[u8] = b"*1\r\n$4\r\nSYNC\r\n";

/// One client that is fed.
#[derive(Debug)]
pub struct Feed {
    sources: Vec<Source>,
    /// Whose file is passed on; all of them are once it is as many as there are.
    current: usize,
    has_begun: bool,
    has_selected: bool,
}

/// One node.
#[derive(Debug)]
struct Source {
    backend: usize,
    phase: Phase,
    /// Bytes whose turn has not come.
    bytes: Vec<u8>,
    stream: Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The file's length has not come.
    Asked,
    /// What comes before its keys has not come whole; so many bytes has the file.
    Head { size: usize },
    /// So many bytes have the keys that are still to come, and then its end.
    Keys { left: usize },
    /// What it changes.
    Changes,
}

/// Why a client is fed no more.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// In the words of a node, before anything was sent.
    Refused(Vec<u8>),
    Lost,
}

impl Source {
    /// Reads what comes before the keys, as far as it is there; `is_first`: the head is kept.
    fn begin(&mut self, is_first: bool) -> Result<(), End> {
        if self.phase == Phase::Asked {
            let blank = self.bytes.iter().take_while(|byte| **byte == b'\n').count();
            self.bytes.drain(..blank);
            let Some(end) = memchr::memchr(b'\n', &self.bytes) else { return Ok(()) };
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let size = line
                .strip_prefix(b"$")
                .and_then(|size| std::str::from_utf8(size).ok()?.trim_end().parse().ok());
            let Some(size) = size else { return Err(End::Refused(line)) };
            self.phase = Phase::Head { size };
        }
        if let Phase::Head { size } = self.phase {
            let Some(head) = head::length(&self.bytes).map_err(|_| End::Lost)? else {
                return if self.bytes.len() > LONGEST_HEAD { Err(End::Lost) } else { Ok(()) };
            };
            let left = size.checked_sub(head + head::END).ok_or(End::Lost)?;
            let kept = if is_first { head } else { 0 };
            self.bytes.drain(..head - kept);
            self.phase = Phase::Keys { left: left + kept };
        }
        Ok(())
    }

    /// Takes what can go on of the keys.
    fn take_keys(&mut self) -> Vec<u8> {
        let Phase::Keys { left } = &mut self.phase else { return Vec::new() };
        let count = self.bytes.len().min(*left);
        *left -= count;
        let taken = self.bytes.drain(..count).collect();
        if *left == 0 && self.bytes.len() >= head::END {
            self.bytes.drain(..head::END);
            self.phase = Phase::Changes;
        }
        taken
    }
}

impl Feed {
    /// Gives what the client gets now.
    fn advance(&mut self) -> Result<Vec<u8>, End> {
        let mut out = Vec::new();
        if !self.has_begun {
            for (at, source) in self.sources.iter_mut().enumerate() {
                source.begin(at == 0)?;
            }
            let sizes: Option<Vec<usize>> = self
                .sources
                .iter()
                .map(|source| if let Phase::Keys { left } = source.phase { Some(left) } else { None })
                .collect();
            let Some(sizes) = sizes else { return Ok(out) };
            out.extend_from_slice(format!("${}\r\n", sizes.iter().sum::<usize>() + head::END).as_bytes());
            self.has_begun = true;
        }
        while let Some(source) = self.sources.get_mut(self.current) {
            out.extend(source.take_keys());
            if source.phase != Phase::Changes {
                return Ok(out);
            }
            self.current += 1;
            if self.current == self.sources.len() {
                // Without a checksum, which is allowed to be 0 (`rdbchecksum no`).
                out.push(0xFF);
                out.extend_from_slice(&[0; head::END - 1]);
            }
        }
        for (at, source) in self.sources.iter_mut().enumerate() {
            let bytes = std::mem::take(&mut source.bytes);
            let passed =
                source.stream.push(&bytes, at == 0, &mut self.has_selected).map_err(|_| End::Lost)?;
            out.extend(passed);
        }
        Ok(out)
    }

    /// What is kept here.
    fn kept(&self) -> usize {
        self.sources.iter().map(|source| source.bytes.len() + source.stream.kept()).sum()
    }
}

impl Core {
    /// SYNC.
    pub fn start_feed(&mut self, ix: usize, family: Family) -> Handled {
        if !self.sessions[ix].pipeline.is_empty() {
            return Handled::NotYet;
        }
        let key = self.key_of(ix);
        let topology = self.topology.clone();
        let nodes: Vec<_> = topology.primaries().collect();
        let mut sources = Vec::new();
        for node in &nodes {
            if !self.may_connect(node.addr, node.id)
                || !self.stats.shares.take_exclusive(self.config.exclusive_connections)
            {
                break;
            }
            let backend = self.open_backend(node.addr, node.id, Version::Resp2, Lane::Exclusive, Some(key));
            self.backends[backend].is_one_way = true;
            self.backends[backend].is_raw = true;
            self.backends[backend].wire.outbox.push_owned(SYNC.to_vec());
            self.mark_backend(backend);
            sources.push(Source {
                backend,
                phase: Phase::Asked,
                bytes: Vec::new(),
                stream: Stream::default(),
            });
        }
        if sources.is_empty() || sources.len() < nodes.len() {
            sources.iter().for_each(|source| self.close_backend(source.backend, false));
            self.refuse(ix, family, Reason::Other, &ErrorReply::NoNodeForSync);
            return Handled::Done;
        }
        // Nothing that the client says is looked at any more.
        self.sessions[ix].busy = Some(Busy::Relaying { backend: sources[0].backend });
        let feed = Feed { sources, current: 0, has_begun: false, has_selected: false };
        self.sessions[ix].feed = Some(Box::new(feed));
        Handled::Done
    }

    /// Bytes of a node for a client that is fed.
    pub fn feed_bytes(&mut self, backend: usize, bytes: &[u8]) {
        let Some(key) = self.backends[backend].owner else { return self.close_backend(backend, false) };
        let limit = self.config.output_hard_limit;
        let Some(session) = self.session_of(key) else { return self.close_backend(backend, false) };
        let Some(feed) = session.feed.as_deref_mut() else { return };
        if let Some(source) = feed.sources.iter_mut().find(|source| source.backend == backend) {
            source.bytes.extend_from_slice(bytes);
        }
        match feed.advance() {
            Ok(out) => {
                session.out.extend_from_slice(&out);
                let is_live = feed.current == feed.sources.len();
                let unwritten = session.out.len() - session.written;
                if (is_live && unwritten > limit) || feed.kept() > limit {
                    return self.cut(key);
                }
                let (current, has_begun) = (feed.current, feed.has_begun);
                let is_behind = unwritten > WINDOW;
                let sources: Vec<(usize, Phase)> =
                    feed.sources.iter().map(|source| (source.backend, source.phase)).collect();
                let reading = sources.get(current).or(sources.first()).map(|(backend, _)| *backend);
                session.busy = reading.map(|backend| Busy::Relaying { backend });
                for (at, (backend, phase)) in sources.into_iter().enumerate() {
                    // Its file comes after the one that is passed on.
                    let waits =
                        !is_live && matches!(phase, Phase::Keys { .. }) && (!has_begun || at > current);
                    self.pause_source(backend, waits || (!is_live && at == current && is_behind));
                }
                self.mark_session(key.ix as usize);
            }
            Err(End::Refused(line)) => {
                session.out.extend_from_slice(&line);
                session.feed = None;
                self.close_after_writing(key.ix as usize, crate::telemetry::Close::Error);
            }
            Err(End::Lost) => self.cut(key),
        }
    }

    fn pause_source(&mut self, backend: usize, is_paused: bool) {
        let Some(state) = self.backends.get_mut(backend) else { return };
        if std::mem::replace(&mut state.is_paused, is_paused) && !is_paused {
            self.effects.readable_backends.push(backend);
        }
    }

    /// A connection was closed; if a client was fed by it, that ends.
    pub fn feed_lost(&mut self, owner: Option<SessionKey>, is_raw: bool) {
        if is_raw
            && let Some(key) = owner
            && self.session_of(key).is_some_and(|session| session.feed.take().is_some())
        {
            self.cut(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(head: &str, keys: &str) -> Vec<u8> {
        let file = format!("REDIS0010{head}{keys}");
        let mut bytes = format!("${}\r\n", file.len() + head::END).into_bytes();
        bytes.extend_from_slice(file.as_bytes());
        bytes.extend_from_slice(b"\xFFchecksum");
        bytes
    }

    fn fed(pieces: &[(usize, Vec<u8>)], count: usize) -> Result<Vec<u8>, End> {
        let source =
            |backend| Source { backend, phase: Phase::Asked, bytes: Vec::new(), stream: Stream::default() };
        let sources = (0..count).map(source).collect();
        let mut feed = Feed { sources, current: 0, has_begun: false, has_selected: false };
        let mut out = Vec::new();
        for (source, bytes) in pieces {
            feed.sources[*source].bytes.extend_from_slice(bytes);
            out.extend(feed.advance()?);
        }
        Ok(out)
    }

    #[test]
    fn files_of_all_nodes_become_one_and_changes_follow() {
        let select = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n".to_vec();
        let change = |key: &str| format!("*2\r\n$3\r\ndel\r\n$1\r\n{key}\r\n").into_bytes();
        let a = [b"\n\n".to_vec(), file("", "aaaa"), select.clone(), change("a")].concat();
        let b = [file("", "bb"), select.clone(), change("b")].concat();
        let expected = [
            format!("${}\r\nREDIS0010aaaabb", 9 + 4 + 2 + 9).into_bytes(),
            b"\xFF\0\0\0\0\0\0\0\0".to_vec(),
            select,
            change("a"),
            change("b"),
        ]
        .concat();
        assert_eq!(fed(&[(0, a.clone()), (1, b.clone())], 2), Ok(expected.clone()));
        for cut in 0..a.len() {
            let pieces = [(0, a[..cut].to_vec()), (1, b.clone()), (0, a[cut..].to_vec())];
            let got = fed(&pieces, 2).unwrap();
            assert_eq!(got.len(), expected.len(), "{cut}");
            assert!(got.starts_with(&expected[..40]), "{cut}");
        }
    }

    #[test]
    fn a_node_that_refuses_is_heard() {
        let refused = b"-NOPERM no\r\n".to_vec();
        assert_eq!(fed(&[(0, refused.clone())], 2), Err(End::Refused(refused)));
        assert_eq!(fed(&[(0, b"$30\r\nnothing like a file at all".to_vec())], 1), Err(End::Lost));
    }
}
