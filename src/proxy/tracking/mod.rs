//! CLIENT TRACKING: clients are told when keys change that they may have cached.
//!
//! Every node tells of all keys that change ([`super::ears`]), over one connection; who has read what is remembered
//! here ([`table`]), where a client is one and the same whatever node it reads from. A change that is heard of
//! while a read of the client is under way is told after its reply, which may be older.
//!
//! Nodes do not tell whose change it was. With NOLOOP, a change of a key within a moment of the client's own is
//! taken for that. So is, after a transaction that wrote a key and then read it, the first change that is heard of.

mod options;
mod table;
mod touched;

pub use options::Options;
pub use touched::Touched;

use self::options::{Told, Wish};
use self::table::Reader;
use super::core::Core;
use super::ears::Hears;
use super::error_reply::ErrorReply;
use super::flight::SessionKey;
use super::notice::Notice;
use super::session::{Busy, Session};
use crate::command::Spec;
use crate::resp::{ReplyWriter, Request, Version};
use crate::telemetry::{Family, Outcome};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where RESP2 clients hear of changes.
const CHANNEL: &str = "__redis__:invalidate";

/// What INFO tells of it, over all workers.
#[derive(Debug, Default)]
pub struct Counts {
    pub clients: AtomicUsize,
    pub keys: AtomicUsize,
    pub items: AtomicUsize,
    pub prefixes: AtomicUsize,
}

/// One worker's clients that track.
#[derive(Debug, Default)]
pub struct Tracking {
    /// Those that track.
    sessions: Vec<SessionKey>,
    /// Where the clients are that are told for others, by number; looked up anew when they are not there.
    redirects: FxHashMap<u64, usize>,
    table: table::Table,
    /// What of the table's size is in the counts of all workers.
    counted: (usize, usize),
}

impl Tracking {
    /// Whether any client tracks.
    pub fn is_on(&self) -> bool {
        !self.sessions.is_empty()
    }
}

impl Core {
    /// CLIENT TRACKING.
    pub fn client_tracking(
        &mut self,
        ix: usize,
        family: Family,
        request: &Request,
    ) -> Result<(), ErrorReply> {
        let stats = self.stats.clone();
        let now = self.sessions[ix].state.tracking.as_deref();
        match options::parse(request, now, |id| stats.client(id).is_some())? {
            Wish::Off => {
                self.stop_tracking(ix);
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("OK"));
            }
            Wish::On(wanted) => {
                let added = wanted.prefixes.as_ref().map_or(0, Vec::len);
                let state = &mut self.sessions[ix].state;
                let before = state.tracking.replace(Box::new(wanted));
                let known = before.as_ref().and_then(|before| before.prefixes.as_ref()).map_or(0, Vec::len);
                stats.tracking.prefixes.fetch_add(added - known, Ordering::Relaxed);
                if before.is_none() {
                    let key = self.key_of(ix);
                    self.tracking.sessions.push(key);
                    stats.tracking.clients.fetch_add(1, Ordering::Relaxed);
                    self.load_watch();
                }
                self.wait_for_ears(ix, family, Hears::Changes);
            }
        }
        Ok(())
    }

    /// CLIENT TRACKING OFF, or the end of the client.
    pub fn stop_tracking(&mut self, ix: usize) {
        let Some(options) = self.sessions[ix].state.tracking.take() else { return };
        let prefixes = options.prefixes.as_ref().map_or(0, Vec::len);
        self.stats.tracking.prefixes.fetch_sub(prefixes, Ordering::Relaxed);
        self.stats.tracking.clients.fetch_sub(1, Ordering::Relaxed);
        let key = self.key_of(ix);
        self.tracking.sessions.retain(|other| *other != key);
        self.ears.forget(key);
        if !self.tracking.is_on() {
            self.tracking.table.clear();
            self.tracking.redirects.clear();
            self.count_tracking();
        }
        self.load_watch();
    }

    /// CLIENT CACHING.
    pub fn client_caching(&mut self, ix: usize, word: &[u8]) -> Result<(), ErrorReply> {
        options::cache(word, self.sessions[ix].state.tracking.as_deref_mut())
    }

    /// CLIENT TRACKINGINFO.
    pub fn tracking_info(&mut self, ix: usize, family: Family) {
        let options = self.sessions[ix].state.tracking.clone();
        self.answer_now(ix, family, Outcome::Ok, |reply| {
            let flags = options.as_ref().map_or(vec!["off"], |options| options.flags());
            reply.map(3);
            reply.bulk("flags");
            reply.set(flags.len());
            flags.iter().for_each(|flag| reply.bulk(flag));
            reply.bulk("redirect");
            reply.integer(options.as_ref().map_or(-1, |options| options.redirect as i64));
            reply.bulk("prefixes");
            let prefixes = options.and_then(|options| options.prefixes).unwrap_or_default();
            reply.array(prefixes.len());
            prefixes.iter().for_each(|prefix| reply.bulk(prefix));
        });
    }

    /// A command of a client that tracks is on its way.
    pub fn track(&mut self, ix: usize, spec: &Spec, touched: Touched) {
        let (key, now) = (self.key_of(ix), self.now_us);
        let session = &mut self.sessions[ix];
        // Answered already: as if it were the last one that was.
        let ticket = session.pipeline.last().unwrap_or_default();
        let Some(options) = session.state.tracking.as_deref_mut() else { return };
        let wants_reads = options.wants_reads();
        if !spec.name.starts_with("client|") && session.state.transaction.is_none() {
            options.is_caching = false;
        }
        let Touched { read, written, settled } = touched;
        options.note_writes(written, settled, ticket, now);
        if !wants_reads || read.is_empty() {
            return;
        }
        options.has_read = true;
        read.iter().for_each(|name| self.tracking.table.remember(name, key, ticket));
        self.evict();
    }

    /// So many keys may be remembered, as the nodes have it; 0: as many as there are.
    pub fn limit_tracking(&mut self, limit: usize) {
        self.tracking.table.limit = limit;
        self.evict();
    }

    /// Gives up keys beyond the limit: their readers are told that they have changed.
    fn evict(&mut self) {
        while let Some((key, sessions)) = self.tracking.table.evict() {
            // Whoever wrote it: nothing will be told of it any more.
            for Reader { session, ticket } in sessions {
                if self.tracks(session).is_some_and(|options| options.prefixes.is_none()) {
                    let is_reading = self
                        .session_of(session)
                        .is_some_and(|session| session.pipeline.get_mut(ticket).is_some());
                    self.tell_changed(session, Some(&[&*key]), is_reading);
                }
            }
        }
        self.count_tracking();
    }

    fn tell_readers(&mut self, key: &[u8], readers: Vec<Reader>) {
        for Reader { session: reader, ticket } in readers {
            let now = self.now_us;
            let Some(session) = self.session_of(reader) else { continue };
            let Session { state, pipeline, .. } = session;
            let Some(options) = state.tracking.as_deref_mut().filter(|options| options.prefixes.is_none())
            else {
                continue;
            };
            match options.judge(key, now, |ticket| pipeline.get_mut(ticket).is_some()) {
                Told::Not => {}
                // What it read is newer.
                Told::NotYet => self.tracking.table.remember(key, reader, ticket),
                Told::Now { is_own } => {
                    let is_reading = pipeline.get_mut(ticket).is_some();
                    self.tell_changed(reader, Some(&[key]), is_own || is_reading);
                }
            }
        }
    }

    fn count_tracking(&mut self) {
        let (keys, items) = self.tracking.table.size();
        let (counted_keys, counted_items) = std::mem::replace(&mut self.tracking.counted, (keys, items));
        let counts = &self.stats.tracking;
        counts.keys.fetch_add(keys.wrapping_sub(counted_keys), Ordering::Relaxed);
        counts.items.fetch_add(items.wrapping_sub(counted_items), Ordering::Relaxed);
    }

    /// These keys have changed.
    pub fn on_changed(&mut self, keys: &[&[u8]]) {
        // Nodes give them sorted by name, whatever the order of the changes: any order is as right.
        for key in keys.iter().rev() {
            let sessions = self.tracking.table.take(key);
            self.tell_readers(key, sessions);
        }
        self.count_tracking();
        let now = self.now_us;
        for key in self.tracking.sessions.clone() {
            let Some(session) = self.session_of(key) else { continue };
            let Session { state, pipeline, .. } = session;
            let Some(options) = state.tracking.as_deref_mut() else { continue };
            let mut messages = Vec::new();
            for prefix in options.prefixes.clone().unwrap_or_default() {
                let (mut meant, mut is_any_own) = (Vec::new(), false);
                for name in keys.iter().filter(|name| name.starts_with(&prefix)) {
                    if let Told::Now { is_own } =
                        options.judge(name, now, |ticket| pipeline.get_mut(ticket).is_some())
                    {
                        meant.push(*name);
                        is_any_own |= is_own;
                    }
                }
                messages.push((meant, is_any_own));
            }
            for (meant, is_own) in messages.into_iter().filter(|(meant, _)| !meant.is_empty()) {
                self.tell_changed(key, Some(&meant), is_own);
            }
        }
    }

    /// Any key may have changed.
    pub fn on_all_changed(&mut self) {
        self.tracking.table.clear();
        self.count_tracking();
        for session in self.tracking.sessions.clone() {
            // One that waits for tracking to begin has cached nothing.
            let is_pending = self.ears.is_pending(session);
            let may_have_cached = self.session_of(session).is_some_and(|session| {
                let options = session.state.tracking.as_deref_mut();
                options.is_some_and(|options| {
                    std::mem::take(&mut options.has_read) || options.prefixes.is_some()
                })
            });
            if may_have_cached && !is_pending {
                self.tell_changed(session, None, true);
            }
        }
    }

    fn tracks(&mut self, session: SessionKey) -> Option<&Options> {
        self.session_of(session)?.state.tracking.as_deref()
    }

    /// Tells a client, or the one that it chose, of changed keys; `None`: of all. `is_in_turn`: after the
    /// replies that it is owed now.
    fn tell_changed(&mut self, key: SessionKey, keys: Option<&[&[u8]]>, is_in_turn: bool) {
        let Some(redirect) = self.tracks(key).map(|options| options.redirect) else { return };
        if redirect != 0 {
            return self.tell_redirected(key, redirect, keys);
        }
        let Some(session) = self.session_of(key) else { return };
        if session.state.version == Version::Resp2 {
            return;
        }
        let bytes = message(Version::Resp3, keys);
        if is_in_turn && !session.pipeline.is_empty() && session.busy != Some(Busy::Blocked) {
            self.tell_in_turn(key, bytes);
        } else {
            self.tell(key, bytes);
        }
    }

    fn tell_redirected(&mut self, key: SessionKey, redirect: u64, keys: Option<&[&[u8]]>) {
        match self.stats.client(redirect) {
            Some(info) => {
                let keys: Option<Vec<Box<[u8]>>> =
                    keys.map(|keys| keys.iter().map(|key| Box::from(*key)).collect());
                if info.worker == self.worker {
                    self.on_redirected(redirect, keys.as_deref());
                } else {
                    let keys = keys.map(Into::into);
                    self.stats.peers.tell(info.worker, Notice::Changed { client: redirect, keys });
                }
            }
            None => {
                let Some(session) = self.session_of(key) else { return };
                if let Some(options) = &mut session.state.tracking {
                    options.is_broken = true;
                }
                if session.state.version == Version::Resp3 {
                    let mut out = Vec::new();
                    let mut reply = ReplyWriter { out: &mut out, version: Version::Resp3 };
                    reply.push(2);
                    reply.bulk("tracking-redir-broken");
                    reply.integer(redirect as i64);
                    self.tell(key, out);
                }
            }
        }
    }

    /// A client of this worker is to be told what another one's tracking found.
    pub fn on_redirected(&mut self, client: u64, keys: Option<&[Box<[u8]>]>) {
        let known = self.tracking.redirects.get(&client).copied();
        let is_there = |ix: &usize| self.sessions.get(*ix).is_some_and(|session| session.id == client);
        let found = known.filter(is_there).or_else(|| {
            let mut sessions = self.sessions.iter();
            sessions.find(|(_, session)| session.id == client).map(|(ix, _)| ix)
        });
        let Some(ix) = found else { return };
        self.tracking.redirects.insert(client, ix);
        let state = &self.sessions[ix].state;
        if state.version == Version::Resp3 || state.subscriptions > 0 {
            let keys: Option<Vec<&[u8]>> = keys.map(|keys| keys.iter().map(|key| &**key).collect());
            let bytes = message(state.version, keys.as_deref());
            self.tell(self.key_of(ix), bytes);
        }
    }
}

/// What a client that speaks this version is told of keys; with `None`, of all of them.
fn message(version: Version, keys: Option<&[&[u8]]>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reply = ReplyWriter { out: &mut out, version };
    match version {
        Version::Resp3 => {
            reply.push(2);
            reply.bulk("invalidate");
        }
        Version::Resp2 => {
            reply.array(3);
            reply.bulk("message");
            reply.bulk(CHANNEL);
        }
    }
    match keys {
        Some(keys) => {
            reply.array(keys.len());
            keys.iter().for_each(|key| reply.bulk(key));
        }
        None => reply.null(),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_pushes_in_resp3_and_of_a_channel_in_resp2() {
        assert_eq!(message(Version::Resp3, Some(&[b"k"])), b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n");
        assert_eq!(message(Version::Resp3, None), b">2\r\n$10\r\ninvalidate\r\n_\r\n");
        assert_eq!(
            message(Version::Resp2, Some(&[b"k"])),
            b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n"
        );
        assert!(message(Version::Resp2, None).ends_with(b"$-1\r\n"));
    }
}
