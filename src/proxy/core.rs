//! All sessions and connections of one worker, free of IO: bytes go in, bytes and wishes come out.
//!
//! The worker reads and writes sockets and calls in here; everything between (frames, routes, order,
//! redirects, merges) happens on this one structure, on one thread, without a lock. What it wants done
//! outside it leaves in [`Effects`].

use super::config::Config;
use super::cursor::ScanOrder;
use super::flight::{Held, Lane, Purpose, SessionKey, Tag};
use super::router::{Traits, traits};
use super::scripts::{ScriptSha, SeenScripts};
use super::session::{Busy, Session};
use super::stats::Stats;
use crate::backend::{Backoff, Connection, Credentials};
use crate::command::{KeyRef, Table};
use crate::resp::{RequestScanner, Version};
use crate::telemetry::{Close, Recorder};
use crate::topology::{Health, NodeId, ShardIx, SharedTopology, Slot, Snapshot};
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
    /// A large reply is being passed on.
    pub is_relaying: bool,
    /// Not read for now: its owner does not keep up.
    pub is_paused: bool,
    /// Scripts that were loaded over this connection.
    pub scripts: FxHashSet<ScriptSha>,
    pub is_dirty: bool,
}

/// What the core wants the worker to do.
#[derive(Debug, Default)]
pub struct Effects {
    pub dirty_backends: Vec<usize>,
    pub dirty_sessions: Vec<usize>,
    /// New connections, to be opened.
    pub connects: Vec<usize>,
    /// Connections that are no longer in [`Core::backends`]; their sockets are to be closed.
    pub closed_backends: Vec<usize>,
    /// Sessions to be looked at again: something they waited for has happened.
    pub resuming: VecDeque<usize>,
    /// Paused connections that may be read again.
    pub readable_backends: Vec<usize>,
}

impl Effects {
    /// Whether the worker has done everything that was wished for, but for writing to nodes.
    fn is_empty(&self) -> bool {
        self.dirty_sessions.is_empty()
            && self.connects.is_empty()
            && self.closed_backends.is_empty()
            && self.resuming.is_empty()
            && self.readable_backends.is_empty()
    }
}

/// No shared connection yet.
pub(super) const NO_BACKEND: u32 = u32::MAX;
/// Buffers kept for the next busy turn.
const POOLED_BUFFERS: usize = 1024;
/// A buffer that grew larger than this is not kept.
const POOLED_SIZE: usize = 16 * 1024;
/// Requests under way on one shared connection; beyond it they wait here. Bounds what a slow node
/// can pile up.
const PIPE_REQUESTS: usize = 64 * 1024;
const PIPE_BYTES: usize = 64 << 20;

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
    pipes: [Vec<u32>; 2],
    /// Whether any client has asked for RESP3.
    has_resp3: bool,
    by_node: FxHashMap<(SocketAddr, NodeId, Version), usize>,
    backoffs: FxHashMap<(SocketAddr, NodeId), Reconnect>,
    pub sessions: Slab<Session>,
    pub backends: Slab<Backend>,
    /// Exclusive connections that nobody uses now, the one that was used last at the end.
    pub idle_exclusive: FxHashMap<(SocketAddr, NodeId, Version), Vec<usize>>,
    pub exclusive_count: usize,
    /// Held requests that are to be tried soon.
    pub held: VecDeque<Held>,
    /// Held requests that could not be sent when they were tried, oldest first.
    pub parked: VecDeque<Held>,
    pub parked_places: FxHashSet<(SessionKey, Slot)>,
    /// When parked requests are looked at again if nothing happens, in microseconds of the worker's clock.
    pub parked_due: u64,
    /// Something happened that may help parked requests.
    pub wants_parked: bool,
    /// Of held and parked requests together.
    pub held_bytes: usize,
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
    asked: Vec<SocketAddr>,
    pub(super) buffers: Vec<Vec<u8>>,
    started: Instant,
    pub now: Instant,
    /// Microseconds since the worker started, never 0; read once a turn.
    pub now_us: u64,
    /// The topology's version when held requests were last looked at.
    pub released_version: u64,
    next_generation: u32,
    pub is_draining: bool,
    /// There has been a connection to every shard.
    has_connected: bool,
    pub subscriptions: super::pubsub::Subscriptions,
    pub seen_scripts: SeenScripts,
}

/// Puts a buffer into the pool, unless it is too large or there are enough.
#[inline]
pub(super) fn recycle(pool: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if buffer.capacity() <= POOLED_SIZE && pool.len() < POOLED_BUFFERS {
        buffer.clear();
        pool.push(buffer);
    }
}

struct Reconnect {
    backoff: Backoff,
    not_before: Instant,
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
            exclusive_count: 0,
            held: VecDeque::new(),
            parked: VecDeque::new(),
            parked_places: FxHashSet::default(),
            parked_due: 0,
            wants_parked: false,
            held_bytes: 0,
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
            seen_scripts: SeenScripts::default(),
        }
    }

    /// Reads the clock, once a turn.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
        self.now_us = now.duration_since(self.started).as_micros() as u64;
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
        let Some(session) = self.sessions.try_remove(ix) else { return };
        self.recorder.client_closed(session.closing.unwrap_or(why));
        let key = SessionKey { ix: ix as u32, generation: session.generation };
        self.unsubscribe_all(key);
        self.stats.forget_client(session.id);
        let owned: Vec<usize> =
            self.backends.iter().filter(|(_, b)| b.owner == Some(key)).map(|(ix, _)| ix).collect();
        for backend in owned {
            self.close_backend(backend, false);
        }
        for queue in [&mut self.held, &mut self.parked] {
            queue.retain(|held| {
                let stays = held.tag.session != key;
                if !stays {
                    self.held_bytes -= held.request.len();
                }
                stays
            });
        }
        if session.out.capacity() > 0 {
            self.recycle(session.out);
        }
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

    /// Takes the current topology over if it has changed: connects to new primaries, lets go of nodes
    /// that left, and sends held requests on their way.
    pub fn load_topology(&mut self) {
        let topology = self.shared.load();
        if topology.version == self.topology.version {
            return;
        }
        self.topology = topology;
        self.gate_strays();
        self.scan_order = ScanOrder::of(&self.topology);
        self.recorder.name_shards(
            self.topology.shards().iter().map(|shard| self.topology.node(shard.primary).id.to_string()),
        );
        let gone: Vec<usize> = self
            .backends
            .iter()
            .filter(|(_, backend)| !self.is_usable(&backend.wire))
            .map(|(ix, _)| ix)
            .collect();
        for ix in gone {
            self.close_backend(ix, true);
        }
        self.backoffs.retain(|(addr, id), _| {
            self.topology.node_by_addr(*addr).is_some_and(|ix| self.topology.node(ix).id == *id)
        });
        self.connect_shared();
        self.wants_release = true;
        self.wants_parked = true;
        self.move_subscriptions();
    }

    /// Requests that are still under way to a former owner of their slot: later ones of the same session
    /// must not overtake them by going to the new owner.
    fn gate_strays(&mut self) {
        for (ix, backend) in self.backends.iter().filter(|(_, backend)| backend.lane == Lane::Shared) {
            let here = (backend.wire.addr, backend.wire.node);
            for flight in backend.wire.flights.iter().filter(|flight| flight.tag.purpose == Purpose::Answer) {
                let tag = &flight.tag;
                if let Some(slot) = tag.aim.slot()
                    && self.topology.primary_of(slot).is_none_or(|owner| (owner.addr, owner.id) != here)
                    && let Some(session) = self.sessions.get_mut(tag.session.ix as usize)
                    && session.generation == tag.session.generation
                {
                    session.gate(slot, tag.ticket, tag.part, ix as u32);
                }
            }
        }
    }

    /// Whether the node at the other end is still one of the cluster's and not held for dead.
    fn is_usable(&self, wire: &Connection<Tag>) -> bool {
        self.topology.node_by_id(&wire.node).is_some_and(|ix| {
            let node = self.topology.node(ix);
            node.addr == wire.addr && node.health != Health::Failed
        })
    }

    /// Makes sure that there is a connection, or an attempt at one, to every shard's primary; RESP3
    /// ones only where RESP3 clients have asked for any.
    pub fn connect_shared(&mut self) {
        let topology = self.topology.clone();
        for version in [Version::Resp2, Version::Resp3] {
            if version == Version::Resp3 && !self.has_resp3 {
                continue;
            }
            let pipes = topology.shards().iter().map(|shard| {
                let node = topology.node(shard.primary);
                self.shared_backend(node.addr, node.id, node.health, version)
                    .map_or(NO_BACKEND, |ix| ix as u32)
            });
            self.pipes[version as usize] = pipes.collect();
        }
    }

    fn shared_backend(
        &mut self,
        addr: SocketAddr,
        id: NodeId,
        health: Health,
        version: Version,
    ) -> Option<usize> {
        if let Some(&ix) = self.by_node.get(&(addr, id, version)) {
            return Some(ix);
        }
        (health != Health::Failed && self.may_connect(addr, id)).then(|| {
            let ix = self.open_backend(addr, id, version, Lane::Shared, None);
            self.by_node.insert((addr, id, version), ix);
            ix
        })
    }

    /// Whether a node may be tried now, after what happened at the last tries.
    pub fn may_connect(&self, addr: SocketAddr, id: NodeId) -> bool {
        self.backoffs.get(&(addr, id)).is_none_or(|reconnect| self.now >= reconnect.not_before)
    }

    /// Begins a connection; requests may be queued on it at once and leave when the node has proved
    /// who it is.
    pub fn open_backend(
        &mut self,
        addr: SocketAddr,
        id: NodeId,
        version: Version,
        lane: Lane,
        owner: Option<SessionKey>,
    ) -> usize {
        let ix = self.backends.insert(Backend {
            wire: Connection::new(addr, id, version, self.now),
            lane,
            owner,
            is_kept: false,
            bounce: None,
            is_discarding: false,
            upload: None,
            is_one_way: false,
            is_relaying: false,
            is_paused: false,
            scripts: FxHashSet::default(),
            is_dirty: false,
        });
        if lane == Lane::Exclusive {
            self.exclusive_count += 1;
        }
        self.effects.connects.push(ix);
        ix
    }

    /// The shared connection to the owner of `slot`, if it takes requests now.
    #[inline]
    pub fn pipe_of(&self, slot: Slot, version: Version) -> Option<(usize, ShardIx)> {
        let shard = self.topology.shard_of(slot)?;
        let ix = *self.pipes[version as usize].get(usize::from(shard))?;
        self.pipe(ix).map(|ix| (ix, shard))
    }

    #[inline]
    fn pipe(&self, ix: u32) -> Option<usize> {
        let backend = self.backends.get(ix as usize)?;
        let wire = &backend.wire;
        (wire.is_up() && wire.flights.len() < PIPE_REQUESTS && wire.outbox.len() < PIPE_BYTES)
            .then_some(ix as usize)
    }

    /// A shared connection to any primary: always the same one while it is there.
    pub fn any_pipe(&self, version: Version) -> Option<usize> {
        self.pipes[version as usize].iter().find_map(|ix| self.pipe(*ix))
    }

    /// The shared connection to the node at `addr`, opened if need be, if it takes requests now.
    pub fn pipe_to(&mut self, addr: SocketAddr, version: Version) -> Option<usize> {
        let topology = self.topology.clone();
        let node = topology.node(topology.node_by_addr(addr)?);
        let ix = self.shared_backend(node.addr, node.id, node.health, version)?;
        self.pipe(ix as u32)
    }

    /// A client speaks RESP3: connections that do are needed from now on.
    pub fn want_version(&mut self, version: Version) {
        if version == Version::Resp3 && !std::mem::replace(&mut self.has_resp3, true) {
            self.connect_shared();
        }
    }

    /// The connection is up: requests that waited for it may go.
    pub fn backend_is_up(&mut self, ix: usize) {
        self.recorder.backend_opened();
        let wire = &self.backends[ix].wire;
        self.backoffs.remove(&(wire.addr, wire.node));
        self.wants_release = true;
        self.wants_parked |= self.backends[ix].lane == Lane::Shared;
        self.mark_backend(ix);
        let pipes = &self.pipes[Version::Resp2 as usize];
        if !self.has_connected && pipes.iter().all(|pipe| self.pipe(*pipe).is_some()) {
            self.has_connected = true;
            self.stats.worker_is_connected();
        }
    }

    /// Forgets a connection. What was under way on it is held again, or answered, one by one in the
    /// order of the stream. `is_lost`: it broke, and is tried again later.
    pub fn close_backend(&mut self, ix: usize, is_lost: bool) {
        let Some(mut backend) = self.backends.try_remove(ix) else { return };
        self.effects.closed_backends.push(ix);
        let key = (backend.wire.addr, backend.wire.node, backend.wire.version);
        let was_idle = self.take_from_idle(ix, key);
        // A node may close what is idle (`timeout`) and be well.
        let is_lost = is_lost && !was_idle;
        if backend.wire.is_up() {
            self.recorder.backend_closed(is_lost);
        }
        match backend.lane {
            Lane::Shared => {
                self.by_node.remove(&key);
                for pipes in &mut self.pipes {
                    pipes.iter_mut().filter(|pipe| **pipe == ix as u32).for_each(|pipe| *pipe = NO_BACKEND);
                }
            }
            Lane::Exclusive => self.exclusive_count -= 1,
        }
        if is_lost {
            let reconnect = self.backoffs.entry((key.0, key.1)).or_insert_with(|| Reconnect {
                // A node that restarts is back within a second; a dead one is not worth more than a
                // try a second.
                backoff: Backoff::new(Duration::from_millis(20), Duration::from_secs(1)),
                not_before: self.now,
            });
            reconnect.not_before = self.now + reconnect.backoff.next_wait();
            self.shared.hint_stale();
        }
        self.subscriber_lost(ix);
        self.lose_flights(&mut backend);
    }

    /// Whether something waits for the clock sooner than in a second.
    pub fn is_waiting(&self) -> bool {
        self.held_count() > 0 || !self.backoffs.is_empty()
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
        self.traits = Arc::new(traits(&table));
        self.table = table;
    }

    /// What is due by the clock: reconnects, held requests, idle clients, hung nodes. Called every few
    /// milliseconds while anything waits.
    pub fn tick(&mut self) {
        self.connect_shared();
        self.wants_release |= self.held_count() > 0;
        self.move_subscriptions();
    }

    /// What is due once a second: timeouts, memory, metrics.
    pub fn tick_second(&mut self) {
        self.check_subscriber();
        self.recorder.held_now(self.held_count());
        self.recorder.flush();
        let hung: Vec<usize> =
            self.backends.iter().filter(|(_, backend)| self.is_hung(backend)).map(|(ix, _)| ix).collect();
        for ix in hung {
            self.close_backend(ix, true);
        }
        for (_, backend) in &mut self.backends {
            if backend.is_paused {
                backend.wire.heard_at = self.now;
            }
            if backend.wire.is_idle() {
                backend.wire.outbox.release();
                backend.wire.tail = Vec::new();
                // How long a node takes for a request counts from the request on.
                if backend.wire.is_up() && !backend.is_one_way {
                    backend.wire.heard_at = self.now;
                }
            }
        }
        let [idle_timeout, write_timeout] = [self.config.idle_timeout, self.config.write_timeout]
            .map(|timeout| timeout.map(|timeout| timeout.as_micros() as u64));
        let mut stuck_clients = Vec::new();
        for (ix, session) in &mut self.sessions {
            session.pipeline.release();
            if session.tail.is_empty() && session.tail.capacity() > 0 {
                session.tail = Vec::new();
            }
            let is_idle = idle_timeout.is_some_and(|timeout| {
                session.is_idle()
                    && session.state.subscriptions == 0
                    && self.now_us - session.heard_at > timeout
            });
            let is_stuck = write_timeout
                .is_some_and(|timeout| session.stuck_at > 0 && self.now_us - session.stuck_at > timeout);
            if is_stuck && session.closing != Some(Close::Output) {
                stuck_clients.push(SessionKey { ix: ix as u32, generation: session.generation });
            } else if is_idle && session.closing.is_none() {
                session.closing = Some(Close::Idle);
            }
        }
        stuck_clients.into_iter().for_each(|key| self.cut(key));
        let closing: Vec<usize> =
            self.sessions.iter().filter(|(_, session)| session.closing.is_some()).map(|(ix, _)| ix).collect();
        closing.into_iter().for_each(|ix| self.mark_session(ix));
    }
}

impl Core {
    /// Whether a node owes something for too long: its first words, a reply, or that it takes a large
    /// request.
    fn is_hung(&self, backend: &Backend) -> bool {
        let wire = &backend.wire;
        let waited = self.now.saturating_duration_since(wire.heard_at);
        if !wire.is_up() {
            return waited > CONNECT_TIMEOUT;
        }
        let timeout = self.config.request_timeout;
        if waited <= timeout || backend.is_paused {
            return false;
        }
        let takes_nothing = backend.upload.is_some() && wire.outbox.unsent() > 0;
        takes_nothing
            || wire.flights.front().is_some_and(|front| {
                // What was asked only now has not waited since the last reply to something else.
                Duration::from_micros(self.now_us.saturating_sub(front.tag.sent_at)) > timeout
                    && !self.is_blocked(&front.tag)
            })
    }

    /// Whether a request may wait for data as long as it likes.
    fn is_blocked(&self, tag: &Tag) -> bool {
        tag.lane == Lane::Exclusive
            && tag.purpose == Purpose::Answer
            && self.sessions.get(tag.session.ix as usize).is_some_and(|session| {
                session.generation == tag.session.generation && session.busy == Some(Busy::Blocked)
            })
    }
}

/// How long a node may take to accept a connection and to prove who it is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
