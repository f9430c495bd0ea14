//! The connections that a session has for itself for a while, and those that wait for the next one. How
//! many there are is bounded, over all workers together.

use super::core::Core;
use super::flight::{Aim, Lane, SessionKey};
use super::session::Busy;
use crate::resp::Version;
use crate::topology::{Health, NodeId};
use std::net::SocketAddr;

/// Exclusive connections to one node that are kept for the next who needs one.
const IDLE_EXCLUSIVE: usize = 64;

impl Core {
    /// A connection to a node for one session alone, new or one that was kept; requests may be queued on
    /// it at once. `None` when there is no such node now, or there are too many.
    pub fn acquire(&mut self, aim: Aim, version: Version, owner: SessionKey) -> Option<usize> {
        let topology = self.topology.clone();
        let node = match aim {
            Aim::Owner(slot) => topology.primary_of(slot)?,
            Aim::Asked { node, .. } => topology.node(topology.node_by_addr(self.asked(node)?)?),
            Aim::Any => topology.primaries().next()?,
        };
        if node.health == Health::Failed || !self.may_connect(node.addr, node.id) {
            return None;
        }
        self.acquire_at(node.addr, node.id, version, owner)
    }

    fn acquire_at(
        &mut self,
        addr: SocketAddr,
        id: NodeId,
        version: Version,
        owner: SessionKey,
    ) -> Option<usize> {
        let kept = self.idle_exclusive.get_mut(&(addr, id, version)).and_then(Vec::pop);
        if let Some(ix) = kept {
            self.backends[ix].owner = Some(owner);
            return Some(ix);
        }
        let most = self.config.exclusive_connections;
        if !self.stats.shares.take_exclusive(most) {
            self.close_idle();
            if !self.stats.shares.take_exclusive(most) {
                self.stats.shares.note_shortage();
                return None;
            }
        }
        Some(self.open_backend(addr, id, version, Lane::Exclusive, Some(owner)))
    }

    /// Whether there is, or can be made, room for one more exclusive connection.
    pub fn may_open_exclusive(&self) -> bool {
        self.stats.shares.exclusive() < self.config.exclusive_connections
            || self.idle_exclusive.values().any(|idle| !idle.is_empty())
    }

    /// Closes an idle exclusive connection: of the node that has most of them, the one that is idle longest.
    fn close_idle(&mut self) {
        let most = self.idle_exclusive.values().max_by_key(|idle| idle.len());
        if let Some(ix) = most.and_then(|idle| idle.first().copied()) {
            self.close_backend(ix, false);
        }
    }

    /// Closes all that are idle, when a client, maybe another worker's, has found no room. Called once a
    /// second.
    pub fn yield_idle(&mut self) {
        let shortages = self.stats.shares.shortages();
        if std::mem::replace(&mut self.seen_shortages, shortages) != shortages {
            let idle: Vec<usize> = self.idle_exclusive.values().flatten().copied().collect();
            idle.into_iter().for_each(|ix| self.close_backend(ix, false));
        }
    }

    /// A connection is closed; says whether it was an idle exclusive one.
    pub fn take_from_idle(&mut self, ix: usize, key: (SocketAddr, NodeId, Version)) -> bool {
        let Some(idle) = self.idle_exclusive.get_mut(&key) else { return false };
        let Some(at) = idle.iter().position(|other| *other == ix) else { return false };
        idle.remove(at);
        true
    }

    /// A reply, or the lack of one, is settled: an exclusive connection on which nothing is under way
    /// any more goes back to be used by others.
    pub fn after_flight(&mut self, ix: usize) {
        let Some(backend) = self.backends.get_mut(ix) else { return };
        let is_free = backend.lane == Lane::Exclusive
            && backend.owner.is_some()
            && backend.wire.flights.is_empty()
            && !backend.is_kept
            && backend.upload.is_none();
        // An upload continues after its probe was answered.
        if !is_free || self.is_uploading_to(ix) {
            return;
        }
        let backend = &mut self.backends[ix];
        backend.owner = None;
        backend.is_relaying = false;
        backend.is_paused = false;
        backend.is_one_way = false;
        let key = (backend.wire.addr, backend.wire.node, backend.wire.version);
        let idle = self.idle_exclusive.entry(key).or_default();
        if backend.wire.is_up() && backend.wire.outbox.is_empty() && idle.len() < IDLE_EXCLUSIVE {
            idle.push(ix);
        } else {
            self.close_backend(ix, false);
        }
    }

    fn is_uploading_to(&mut self, ix: usize) -> bool {
        let Some(owner) = self.backends[ix].owner else { return false };
        self.session_of(owner).is_some_and(
            |session| matches!(session.busy, Some(Busy::Uploading { backend, .. }) if backend == ix),
        )
    }
}
