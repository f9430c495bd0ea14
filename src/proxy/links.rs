//! The connections to nodes, as the topology wants them: one shared connection to each shard's primary, and
//! their beginning and end. Which socket that is, is the worker's matter.

use super::core::{Backend, Core, NO_BACKEND, Reconnect};
use super::cursor::ScanOrder;
use super::flight::{Lane, Purpose, SessionKey, Tag};
use super::gather::OnTheWay;
use crate::backend::{Backoff, Connection};
use crate::command::Flags;
use crate::resp::Version;
use crate::topology::{Health, NodeId, ShardIx, Slot};
use rustc_hash::FxHashSet;
use std::net::SocketAddr;
use std::time::Duration;

/// Requests under way on one shared connection; beyond it they wait here. Bounds what a slow node
/// can pile up.
const PIPE_REQUESTS: usize = 64 * 1024;
const PIPE_BYTES: usize = 64 << 20;

impl Core {
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
        self.subscriptions.is_stale = true;
        self.carry_topics(None);
        self.fit_ears();
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
                let pipe = self.shared_backend(node.addr, node.id, node.health, version);
                // Of a shard that changes hands every request is looked at: held, if it writes.
                match topology.handing_over(node.id, self.now) {
                    Some(over) => {
                        if let Some(ix) = topology.node_by_id(&over.to) {
                            let next = topology.node(ix);
                            self.shared_backend(next.addr, next.id, next.health, version);
                        }
                        NO_BACKEND
                    }
                    None => pipe.map_or(NO_BACKEND, |ix| ix as u32),
                }
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
    /// who it is. An exclusive one was counted before.
    pub fn open_backend(
        &mut self,
        addr: SocketAddr,
        id: NodeId,
        version: Version,
        lane: Lane,
        owner: Option<SessionKey>,
    ) -> usize {
        let mut wire = Connection::new(addr, id, version, self.now);
        wire.is_known = [Version::Resp2, Version::Resp3].into_iter().any(|version| {
            let pipe = self.by_node.get(&(addr, id, version));
            pipe.is_some_and(|ix| self.backends.get(*ix).is_some_and(|pipe| pipe.wire.is_up()))
        });
        let ix = self.backends.insert(Backend {
            wire,
            lane,
            owner,
            is_kept: false,
            bounce: None,
            is_discarding: false,
            upload: None,
            is_one_way: false,
            is_raw: false,
            is_subscriber: false,
            is_relaying: false,
            is_paused: false,
            scripts: FxHashSet::default(),
            is_dirty: false,
        });
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

    /// The same for a shard that is about to change hands: for reads only, and for all again when the time
    /// that was announced is over.
    pub fn pipe_while_handing_over(&self, slot: Slot, tag: &Tag) -> Option<(usize, ShardIx)> {
        let shard = self.topology.shard_of(slot)?;
        let node = self.topology.node(self.topology.shard(shard).primary);
        // An errand that reads may bring values first, and a node that hands over lets that wait.
        let is_read = self.table.get(tag.command).flags.contains(Flags::READONLY) && !self.is_of_errand(tag);
        if self.topology.handing_over(node.id, self.now).is_some() && !is_read {
            return None;
        }
        let ix = *self.by_node.get(&(node.addr, node.id, tag.version))?;
        self.pipe(ix as u32).map(|ix| (ix, shard))
    }

    #[inline]
    fn pipe(&self, ix: u32) -> Option<usize> {
        let backend = self.backends.get(ix as usize)?;
        let wire = &backend.wire;
        (wire.is_up() && wire.flights.len() < PIPE_REQUESTS && wire.outbox.len() < PIPE_BYTES)
            .then_some(ix as usize)
    }

    /// What is under way on all shared connections.
    pub fn on_the_way(&self) -> OnTheWay {
        let pipes = self.pipes.iter().flatten().filter_map(|ix| self.backends.get(*ix as usize));
        pipes.fold(OnTheWay::default(), |all, pipe| OnTheWay {
            requests: all.requests + pipe.wire.flights.len(),
            bytes: all.bytes + pipe.wire.outbox.len(),
            unwritten: all.unwritten + pipe.wire.outbox.unsent(),
        })
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
            Lane::Exclusive => self.stats.shares.give_exclusive(),
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
        self.ear_lost(ix);
        self.feed_lost(backend.owner, backend.is_raw);
        self.lose_flights(&mut backend);
    }
}
