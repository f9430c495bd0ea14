//! All sessions and connections of one worker, free of IO: bytes go in, bytes and wishes come out.
//!
//! The worker reads and writes sockets and calls in here; everything between (frames, routes, order,
//! redirects, merges) happens on this one structure, on one thread, without a lock. What it wants done
//! outside it leaves in [`Effects`].

use super::config::Config;
use super::cursor::ScanOrder;
use super::effects::Effects;
use super::errand::CrossSlotUses;
use super::flight::{Held, Lane, SessionKey, Tag};
use super::router::{Traits, traits};
use super::scripts::{ScriptSha, SeenScripts};
use super::session::{Busy, Session};
use super::stats::Stats;
use super::watch::Watching;
use crate::backend::{Backoff, Connection, Credentials};
use crate::command::{CommandIx, KeyRef, Table};
use crate::resp::{RequestScanner, Version};
use crate::telemetry::{Close, Recorder};
use crate::topology::{NodeId, SharedTopology, Slot, Snapshot};
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connection to a node, and who may use it.
#[derive(Debug)]
pub struct Backend {
    pub wire: Connection<Tag>,
    pub lane: Lane,
    /// The session that has an exclusive connection for itself.
    pub owner: Option<SessionKey>,
    /// Kept for its owner although nothing is under way (WATCH).
    pub is_kept: bool,
    /// A reply before the one that counts said that the request was not run there.
    pub bounce: Option<Vec<u8>>,
    /// The reply that is arriving is thrown away, as it is asked for again elsewhere.
    pub is_discarding: bool,
    /// A large request passes through: its bytes are forgotten once written.
    pub upload: Option<Tag>,
    /// What is sent here is not kept for its reply (subscriptions, the end of a large request):
    /// forgotten once written.
    pub is_one_way: bool,
    /// What comes is no replies: it feeds the owner (SYNC).
    pub is_raw: bool,
    /// It carries subscriptions, and nothing else.
    pub is_subscriber: bool,
    /// A large reply is being passed on.
    pub is_relaying: bool,
    /// Not read for now: its owner does not keep up.
    pub is_paused: bool,
    /// Scripts that were loaded over this connection.
    pub scripts: FxHashSet<ScriptSha>,
    pub is_dirty: bool,
}

/// No shared connection yet.
pub(super) const NO_BACKEND: u32 = u32::MAX;
/// Buffers kept for the next busy turn.
const POOLED_BUFFERS: usize = 1024;
/// A buffer that grew larger than this is not kept.
const POOLED_SIZE: usize = 16 * 1024;
/// One worker's state. See the module's documentation.
pub struct Core {
    pub config: Arc<Config>,
    pub table: Arc<Table>,
    pub traits: Arc<Vec<Traits>>,
    pub shared: Arc<SharedTopology>,
    pub stats: Arc<Stats>,
    pub credentials: Credentials,
    pub topology: Arc<Snapshot>,
    pub scan_order: ScanOrder,
    /// The shared connection to each shard's primary, by protocol version and shard.
    pub(super) pipes: [Vec<u32>; 2],
    /// Whether any client has asked for RESP3.
    pub(super) has_resp3: bool,
    pub(super) by_node: FxHashMap<(SocketAddr, NodeId, Version), usize>,
    pub(super) backoffs: FxHashMap<(SocketAddr, NodeId), Reconnect>,
    pub sessions: Slab<Session>,
    pub backends: Slab<Backend>,
    /// Exclusive connections that nobody uses now, the one that was used last at the end.
    pub idle_exclusive: FxHashMap<(SocketAddr, NodeId, Version), Vec<usize>>,
    /// How often connections for one client were too few when this was last looked at.
    pub(super) seen_shortages: usize,
    /// Held requests that are to be tried soon.
    pub held: VecDeque<Held>,
    /// Held requests that could not be sent when they were tried, oldest first.
    pub parked: VecDeque<Held>,
    pub parked_places: FxHashSet<(SessionKey, Slot)>,
    /// When parked requests are looked at again if nothing happens, in microseconds of the worker's clock.
    pub parked_due: u64,
    /// Something happened that may help parked requests.
    pub wants_parked: bool,
    /// Held requests are to be looked at before the turn ends.
    pub wants_release: bool,
    /// The topology has changed and is to be taken over once the bytes at hand are read.
    pub wants_topology: bool,
    pub effects: Effects,
    pub recorder: Recorder,
    pub scanner: RequestScanner,
    pub keys: Vec<KeyRef>,
    pub grouped: Vec<(Slot, u32)>,
    /// Addresses that an ASK named.
    pub(super) asked: Vec<SocketAddr>,
    pub(super) buffers: Vec<Vec<u8>>,
    pub(super) started: Instant,
    pub now: Instant,
    /// Microseconds since the worker started, never 0; read once a turn.
    pub now_us: u64,
    /// The topology's version when held requests were last looked at.
    pub released_version: u64,
    pub(super) next_generation: u32,
    pub is_draining: bool,
    /// There has been a connection to every shard.
    pub(super) has_connected: bool,
    pub subscriptions: super::pubsub::Subscriptions,
    /// This worker's number.
    pub worker: usize,
    pub watching: Watching,
    pub tracking: super::tracking::Tracking,
    pub ears: super::ears::Ears,
    /// The command that shows clients, and its length, while it does.
    pub asking: Option<(CommandIx, usize)>,
    pub seen_scripts: SeenScripts,
    pub cross_slot_uses: CrossSlotUses,
}

/// Puts a buffer into the pool, unless it is too large or there are enough.
#[inline]
pub(super) fn recycle(pool: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if buffer.capacity() <= POOLED_SIZE && pool.len() < POOLED_BUFFERS {
        buffer.clear();
        pool.push(buffer);
    }
}

pub(super) struct Reconnect {
    pub(super) backoff: Backoff,
    pub(super) not_before: Instant,
}

impl Core {
    pub fn new(
        config: Arc<Config>,
        table: Arc<Table>,
        shared: Arc<SharedTopology>,
        stats: Arc<Stats>,
        recorder: Recorder,
    ) -> Core {
        let now = Instant::now();
        Core {
            credentials: Credentials {
                user: config.node_user.clone(),
                password: config.node_password.clone(),
            },
            traits: Arc::new(traits(&table)),
            config,
            table,
            shared,
            stats,
            topology: Arc::new(Snapshot::empty()),
            scan_order: ScanOrder::default(),
            pipes: [Vec::new(), Vec::new()],
            has_resp3: false,
            by_node: FxHashMap::default(),
            backoffs: FxHashMap::default(),
            sessions: Slab::new(),
            backends: Slab::new(),
            idle_exclusive: FxHashMap::default(),
            seen_shortages: 0,
            held: VecDeque::new(),
            parked: VecDeque::new(),
            parked_places: FxHashSet::default(),
            parked_due: 0,
            wants_parked: false,
            wants_release: false,
            wants_topology: false,
            effects: Effects::default(),
            recorder,
            scanner: RequestScanner::default(),
            keys: Vec::new(),
            grouped: Vec::new(),
            asked: Vec::new(),
            buffers: Vec::new(),
            started: now - Duration::from_micros(1),
            now,
            now_us: 1,
            released_version: 0,
            next_generation: 0,
            is_draining: false,
            has_connected: false,
            subscriptions: super::pubsub::Subscriptions::default(),
            worker: 0,
            watching: Watching::default(),
            tracking: super::tracking::Tracking::default(),
            ears: super::ears::Ears::default(),
            asking: None,
            seen_scripts: SeenScripts::default(),
            cross_slot_uses: CrossSlotUses::default(),
        }
    }

    /// Reads the clock, once a turn.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
        self.now_us = now.duration_since(self.started).as_micros() as u64;
        self.follow_watch();
    }

    /// A client has connected.
    pub fn open_session(&mut self, id: u64) -> usize {
        self.next_generation = self.next_generation.wrapping_add(1);
        let is_authenticated = self.config.require_password.is_none();
        let session = Session::new(self.next_generation, id, is_authenticated, self.now_us);
        self.recorder.client_accepted();
        self.sessions.insert(session)
    }

    /// A client's connection is gone: forgets it and what it waited for.
    pub fn close_session(&mut self, ix: usize, why: Close) {
        if self.sessions.contains(ix) {
            self.set_monitor(ix, false);
            self.stop_tracking(ix);
        }
        let Some(session) = self.forget_session(ix) else { return };
        if session.is_paused {
            self.stats.watch.leave_pause();
        }
        if session.busy == Some(Busy::Script) {
            self.stats.scripts.end();
        }
        self.recorder.client_closed(session.closing.unwrap_or(why));
        self.unsubscribe_all(SessionKey { ix: ix as u32, generation: session.generation });
        self.stats.forget_client(session.id);
        if session.out.capacity() > 0 {
            self.recycle(session.out);
        }
    }

    /// Forgets a session, a client's or an errand's, and what it waited for.
    pub fn forget_session(&mut self, ix: usize) -> Option<Session> {
        let session = self.sessions.try_remove(ix)?;
        let key = SessionKey { ix: ix as u32, generation: session.generation };
        let owned: Vec<usize> =
            self.backends.iter().filter(|(_, b)| b.owner == Some(key)).map(|(ix, _)| ix).collect();
        for backend in owned {
            self.close_backend(backend, false);
        }
        for queue in [&mut self.held, &mut self.parked] {
            queue.retain(|held| {
                let stays = held.tag.session != key;
                if !stays {
                    self.stats.shares.release(held.request.len());
                }
                stays
            });
        }
        Some(session)
    }

    /// The session behind a key, if it still lives.
    #[inline]
    pub fn session_of(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.get_mut(key.ix as usize).filter(|session| session.generation == key.generation)
    }

    pub fn key_of(&self, ix: usize) -> SessionKey {
        SessionKey { ix: ix as u32, generation: self.sessions[ix].generation }
    }

    /// An empty buffer for replies.
    #[inline]
    pub fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes a buffer back that is no longer needed.
    #[inline]
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        recycle(&mut self.buffers, buffer);
    }

    /// A short name for a node's address.
    pub fn intern(&mut self, addr: SocketAddr) -> u16 {
        let at = self.asked.iter().position(|known| *known == addr).unwrap_or_else(|| {
            self.asked.push(addr);
            self.asked.len() - 1
        });
        u16::try_from(at).unwrap_or_default()
    }

    /// The address that [`Core::intern`] gave this name.
    pub fn asked(&self, name: u16) -> Option<SocketAddr> {
        self.asked.get(usize::from(name)).copied()
    }

    #[inline]
    pub fn mark_backend(&mut self, ix: usize) {
        let backend = &mut self.backends[ix];
        if !backend.is_dirty {
            backend.is_dirty = true;
            self.effects.dirty_backends.push(ix);
        }
    }

    #[inline]
    pub fn mark_session(&mut self, ix: usize) {
        let session = &mut self.sessions[ix];
        if !session.is_dirty {
            session.is_dirty = true;
            self.effects.dirty_sessions.push(ix);
        }
    }

    /// Has the session looked at again before the turn ends, if it waits for anything.
    #[inline]
    pub fn resume(&mut self, ix: usize) {
        let session = &mut self.sessions[ix];
        if session.is_stalled && !session.is_resuming && session.closing.is_none() {
            session.is_resuming = true;
            self.effects.resuming.push_back(ix);
        }
    }

    /// Whether there is something to be done before the worker looks for events again.
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty() || self.wants_release
    }

    /// The kernel took `count` bytes for a node.
    #[inline]
    pub fn backend_written(&mut self, ix: usize, count: usize) {
        self.recorder.backend_bytes_out(count as u64);
        let backend = &mut self.backends[ix];
        backend.wire.outbox.mark_sent(count);
        if backend.is_one_way || backend.upload.is_some() {
            backend.wire.outbox.pop_front(count);
            if let Some(owner) = backend.owner
                && count > 0
                && self.session_of(owner).is_some()
            {
                // A node that takes a large request is alive.
                self.backends[ix].wire.heard_at = self.now;
                self.resume(owner.ix as usize);
            }
        }
    }

    /// As much as the client's socket took is written: tidies up, and says why the connection is to be
    /// closed, if it is.
    #[inline]
    pub fn after_write(&mut self, ix: usize) -> Option<Close> {
        let session = &mut self.sessions[ix];
        if session.unwritten() == 0 {
            session.written = 0;
            let out = std::mem::take(&mut session.out);
            self.recycle(out);
        } else if session.written > session.out.len() / 2 {
            session.out.drain(..session.written);
            session.written = 0;
        }
        self.relay_drained(ix);
        if self.sessions[ix].closing.is_none() {
            self.resume(ix);
        }
        let session = &self.sessions[ix];
        // What a closing client said last is not looked at any more.
        let is_over = session.unwritten() == 0
            && session.pipeline.is_empty()
            && (!session.is_resuming || session.closing.is_some());
        let drained = (self.is_draining && session.is_idle()).then_some(Close::Drain);
        session.closing.or(session.is_eof.then_some(Close::Client)).or(drained).filter(|_| is_over)
    }

    /// Clients are let go as soon as nothing of theirs is under way.
    pub fn drain(&mut self) {
        self.is_draining = true;
        let all: Vec<usize> = self.sessions.iter().map(|(ix, _)| ix).collect();
        all.into_iter().for_each(|ix| self.mark_session(ix));
    }

    /// Takes over a table that knows more commands.
    pub fn learn(&mut self, table: Arc<Table>) {
        self.table = table;
        self.refresh_traits();
    }
}
