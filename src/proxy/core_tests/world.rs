//! Clients, the core and nodes, with the bytes between them in transit. Nothing moves unless it is told
//! to; sockets are edge-triggered as the worker's are: what is not read when it comes is not read until
//! the core asks for it.

use super::cluster::{Cluster, Link, addr, text};
use crate::backend::{MAX_SLICES, Phase};
use crate::command::Table;
use crate::proxy::config::Config;
use crate::proxy::core::Core;
use crate::proxy::flight::Lane;
use crate::proxy::stats::{ClientInfo, Stats};
use crate::resp::{ReplyScanner, write_request};
use crate::telemetry::{Metrics, Recorder};
use crate::topology::SharedTopology;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one read takes, as the worker's buffer.
const READ_SIZE: usize = 128 << 10;

#[derive(Debug)]
pub struct Client {
    /// Its session, while it is connected.
    pub ix: Option<usize>,
    /// Sent, and not arrived.
    pub transit: Vec<u8>,
    /// Arrived, and not read.
    arrived: Vec<u8>,
    is_eof: bool,
    pub received: Vec<u8>,
    /// How many bytes of replies its socket still takes.
    pub room: usize,
}

/// A connection to a node.
#[derive(Debug)]
pub struct Wire {
    pub link: Link,
    /// How many bytes of requests its socket still takes.
    pub room: usize,
}

pub struct World {
    pub core: Core,
    pub cluster: Cluster,
    pub clients: Vec<Client>,
    pub wires: BTreeMap<usize, Wire>,
    pub shared: Arc<SharedTopology>,
    pub start: Instant,
    pub elapsed: Duration,
}

impl World {
    /// A world whose gateway knows the cluster and is connected to it.
    pub fn new(config: Config) -> World {
        let mut world = World::unborn(config);
        world.publish();
        world.core.load_topology();
        world.settle();
        world
    }

    /// A world whose gateway knows no cluster yet.
    pub fn unborn(config: Config) -> World {
        fastrand::seed(7);
        let shared = Arc::new(SharedTopology::default());
        let stats = Arc::new(Stats::default());
        let recorder = Recorder::new(Arc::new(Metrics::new()));
        let core = Core::new(Arc::new(config), Arc::new(Table::builtin()), shared.clone(), stats, recorder);
        let start = core.now;
        World {
            core,
            cluster: Cluster::new(),
            clients: Vec::new(),
            wires: BTreeMap::new(),
            shared,
            start,
            elapsed: Duration::ZERO,
        }
    }

    pub fn publish(&mut self) {
        self.shared.publish(self.cluster.snapshot());
    }

    pub fn connect(&mut self) -> usize {
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let info = ClientInfo { addr, laddr: addr, fd: 3, worker: 0, connected_at: Instant::now() };
        let id = self.core.stats.admit_client(info, usize::MAX).unwrap();
        let ix = self.core.open_session(id);
        let (transit, arrived, received) = (Vec::new(), Vec::new(), Vec::new());
        self.clients.push(Client {
            ix: Some(ix),
            transit,
            arrived,
            is_eof: false,
            received,
            room: usize::MAX,
        });
        self.clients.len() - 1
    }

    /// A client sends a command, which arrives at once.
    pub fn send(&mut self, client: usize, line: &str) {
        let mut frame = Vec::new();
        write_request(&mut frame, line.split(' ').collect::<Vec<_>>());
        self.send_bytes(client, &frame);
    }

    pub fn send_bytes(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].transit.extend_from_slice(bytes);
        self.arrive(client, usize::MAX);
    }

    /// Up to `count` bytes that a client sent arrive.
    pub fn arrive(&mut self, client: usize, count: usize) {
        let peer = &mut self.clients[client];
        let count = count.min(peer.transit.len());
        if count > 0 {
            peer.arrived.extend(peer.transit.drain(..count));
            self.read_client(client);
        }
        self.work();
    }

    /// A client sends no more.
    pub fn finish(&mut self, client: usize) {
        self.arrive(client, usize::MAX);
        self.clients[client].is_eof = true;
        self.read_client(client);
        self.work();
    }

    /// A client goes away at once.
    pub fn leave(&mut self, client: usize) {
        if let Some(ix) = self.clients[client].ix.take() {
            self.core.close_session(ix, crate::telemetry::Close::Client);
        }
        self.work();
    }

    fn read_client(&mut self, client: usize) {
        let peer = &mut self.clients[client];
        let Some(ix) = peer.ix else { return };
        while self.core.wants_bytes(ix) {
            if peer.arrived.is_empty() {
                if peer.is_eof {
                    self.core.client_eof(ix);
                }
                return;
            }
            let count = peer.arrived.len().min(READ_SIZE);
            let bytes: Vec<u8> = peer.arrived.drain(..count).collect();
            self.core.client_bytes(ix, &bytes);
        }
    }

    /// What the worker does between two waits for events.
    pub fn work(&mut self) {
        for _ in 0..1000 {
            let mut again = Vec::new();
            while let Some(ix) = self.core.effects.resuming.pop_front() {
                self.core.resume_session(ix);
                if self.core.wants_bytes(ix) {
                    again.extend(self.clients.iter().position(|client| client.ix == Some(ix)));
                }
            }
            if self.core.wants_release {
                self.core.release_held();
            }
            self.open_and_close();
            for ix in std::mem::take(&mut self.core.effects.dirty_backends) {
                if let Some(backend) = self.core.backends.get_mut(ix) {
                    backend.is_dirty = false;
                    self.write_node(ix);
                }
            }
            for ix in std::mem::take(&mut self.core.effects.dirty_sessions) {
                if let Some(session) = self.core.sessions.get_mut(ix) {
                    session.is_dirty = false;
                    self.write_client(ix);
                }
            }
            let is_idle = again.is_empty();
            again.into_iter().for_each(|client| self.read_client(client));
            for ix in std::mem::take(&mut self.core.effects.readable_backends) {
                self.deliver(ix, usize::MAX);
            }
            let effects = &self.core.effects;
            if is_idle
                && effects.resuming.is_empty()
                && effects.dirty_backends.is_empty()
                && effects.dirty_sessions.is_empty()
                && effects.connects.is_empty()
                && effects.closed_backends.is_empty()
                && !self.core.wants_release
            {
                return;
            }
        }
        panic!("the core finds no rest");
    }

    fn open_and_close(&mut self) {
        for ix in std::mem::take(&mut self.core.effects.closed_backends) {
            self.wires.remove(&ix);
        }
        for ix in std::mem::take(&mut self.core.effects.connects) {
            let Some(backend) = self.core.backends.get_mut(ix) else { continue };
            let node = (0..4).find(|node| addr(*node) == backend.wire.addr).unwrap();
            if self.cluster.is_alive[node] {
                self.wires.insert(ix, Wire { link: Link::to(node), room: usize::MAX });
                backend.wire.greet(&self.core.credentials);
                self.core.mark_backend(ix);
            } else {
                self.core.close_backend(ix, true);
            }
        }
    }

    fn write_node(&mut self, ix: usize) {
        let Some(wire) = self.wires.get_mut(&ix) else { return };
        while wire.room > 0 && self.core.backends[ix].wire.has_unsent() {
            let connection = &mut self.core.backends[ix].wire;
            if matches!(connection.phase, Phase::Greeting(_)) {
                wire.link.input.append(&mut connection.greeting);
                continue;
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = connection.outbox.unsent_slices(&mut slices);
            let bytes: Vec<u8> =
                slices[..filled].iter().flat_map(|slice| slice.iter().copied()).take(wire.room).collect();
            wire.link.input.extend_from_slice(&bytes);
            wire.room =
                wire.room.saturating_sub(bytes.len()).max(usize::from(wire.room == usize::MAX) * usize::MAX);
            self.core.backend_written(ix, bytes.len());
        }
    }

    fn write_client(&mut self, ix: usize) {
        let Some(client) = self.clients.iter().position(|client| client.ix == Some(ix)) else { return };
        let peer = &mut self.clients[client];
        let session = &mut self.core.sessions[ix];
        let count = session.unwritten().min(peer.room);
        peer.received.extend_from_slice(&session.out[session.written..session.written + count]);
        session.written += count;
        if count > 0 {
            session.stuck_at = 0;
        }
        if session.unwritten() > 0 && session.stuck_at == 0 {
            session.stuck_at = self.core.now_us;
        }
        if peer.room != usize::MAX {
            peer.room -= count;
        }
        if let Some(why) = self.core.after_write(ix) {
            self.clients[client].ix = None;
            self.core.close_session(ix, why);
        }
    }

    /// A client's socket takes more bytes from now on.
    pub fn take(&mut self, client: usize, room: usize) {
        self.clients[client].room = room;
        if let Some(ix) = self.clients[client].ix
            && self.core.sessions[ix].unwritten() > 0
        {
            self.core.mark_session(ix);
        }
        self.work();
    }

    /// A node's socket takes so many bytes from now on.
    pub fn clog(&mut self, ix: usize, room: usize) {
        if let Some(wire) = self.wires.get_mut(&ix) {
            wire.room = room;
            self.core.mark_backend(ix);
        }
        self.work();
    }

    /// A node runs up to `count` requests of one connection.
    pub fn run(&mut self, ix: usize, count: usize) -> bool {
        let Some(wire) = self.wires.get_mut(&ix) else { return false };
        let mut has_run = false;
        for _ in 0..count {
            if !self.cluster.run_next(&mut wire.link) {
                break;
            }
            has_run = true;
        }
        has_run
    }

    /// Up to `count` bytes of a node's replies arrive.
    pub fn deliver(&mut self, ix: usize, count: usize) -> bool {
        let Some(wire) = self.wires.get_mut(&ix) else { return false };
        let Some(backend) = self.core.backends.get(ix) else { return false };
        let count = wire.link.output.len().min(count).min(READ_SIZE);
        if count == 0 || backend.is_paused {
            return false;
        }
        let bytes: Vec<u8> = wire.link.output.drain(..count).collect();
        self.core.backend_bytes(ix, &bytes);
        self.work();
        true
    }

    /// A connection to a node breaks; what the node has not run by now it never will.
    pub fn cut(&mut self, ix: usize) {
        if self.wires.contains_key(&ix) && self.core.backends.contains(ix) {
            self.core.close_backend(ix, true);
        }
        self.work();
    }

    pub fn wires_to(&self, node: usize) -> Vec<usize> {
        self.wires.iter().filter(|(_, wire)| wire.link.node == node).map(|(ix, _)| *ix).collect()
    }

    /// The shared connection to a node.
    pub fn pipe_to(&self, node: usize) -> usize {
        let is_shared = |ix: &usize| self.core.backends[*ix].lane == Lane::Shared;
        self.wires_to(node).into_iter().find(is_shared).unwrap()
    }

    pub fn advance(&mut self, time: Duration) {
        let second = self.elapsed.as_secs();
        self.elapsed += time;
        self.core.set_now(self.start + self.elapsed);
        self.core.tick();
        if self.elapsed.as_secs() > second {
            self.core.tick_second();
        }
        self.work();
    }

    /// Moves everything that can move, without time passing.
    pub fn settle(&mut self) {
        (0..self.clients.len()).for_each(|client| self.arrive(client, usize::MAX));
        self.serve();
    }

    /// The nodes run and answer everything that has come to them.
    pub fn serve(&mut self) {
        self.work();
        for _ in 0..10_000 {
            let mut has_moved = false;
            for ix in self.wires.keys().copied().collect::<Vec<_>>() {
                has_moved |= self.run(ix, usize::MAX) | self.deliver(ix, usize::MAX);
            }
            if !has_moved {
                return;
            }
        }
        panic!("it goes on for ever");
    }

    /// The nodes answer the first words of new connections, and run nothing else.
    pub fn serve_greetings(&mut self) {
        self.work();
        for ix in self.wires.keys().copied().collect::<Vec<_>>() {
            if matches!(self.core.backends[ix].wire.phase, Phase::Greeting(_)) {
                // HELLO and CLUSTER MYID.
                self.run(ix, 2);
                self.deliver(ix, usize::MAX);
            }
        }
    }

    /// The replies that a client got, one by one.
    pub fn replies(&self, client: usize) -> Vec<String> {
        let mut rest = &self.clients[client].received[..];
        let mut replies = Vec::new();
        while !rest.is_empty() {
            let advance = ReplyScanner::default()
                .advance(rest)
                .unwrap_or_else(|_| panic!("no reply: {}", text(&rest[..rest.len().min(99)])));
            if !advance.is_done {
                let is_connected = self.clients[client].ix.is_some();
                assert!(!is_connected, "half a reply: {}", text(&rest[..rest.len().min(99)]));
                break;
            }
            replies.push(text(&rest[..advance.consumed]));
            rest = &rest[advance.consumed..];
        }
        replies
    }

    /// The last reply that a client got.
    pub fn last(&self, client: usize) -> String {
        self.replies(client).pop().unwrap_or_default()
    }
}
