//! The end of every story: everything heals, and nothing is left behind.

use super::cluster::{TAGS, slot_of, text};
use super::world::World;
use crate::proxy::flight::Lane;
use std::time::Duration;

impl World {
    /// Heals everything, lets time pass until nothing is held, and checks that nothing was left behind.
    pub fn heal(&mut self) {
        self.cluster.is_alive = [true; 4];
        self.cluster.refusals = [None; 4];
        TAGS.iter().for_each(|tag| self.cluster.finish_move(slot_of(tag)));
        self.publish();
        self.core.load_topology();
        (0..self.clients.len()).for_each(|client| self.take(client, usize::MAX));
        for ix in self.wires.keys().copied().collect::<Vec<_>>() {
            self.clog(ix, usize::MAX);
        }
        self.settle();
        for _ in 0..200 {
            self.advance(Duration::from_millis(20));
            self.settle();
        }
        self.check_clean();
    }

    /// Checks that nothing is under way and that all that was lent came back.
    pub fn check_clean(&self) {
        let held: Vec<_> = self.core.held.iter().chain(&self.core.parked).collect();
        assert!(held.is_empty() && self.core.stats.shares.held_bytes() == 0, "held: {held:?}");
        assert_eq!(self.core.stats.shares.errand_bytes(), 0);
        for (ix, session) in &self.core.sessions {
            assert!(session.errand.is_none(), "an errand never ended: {:?}", session.errand);
            assert_eq!((session.held_requests, session.held_bytes), (0, 0), "session {ix} has requests held");
            assert!(session.gates.is_empty(), "session {ix} has gates: {:?}", session.gates);
            assert!(session.pipeline.is_empty(), "session {ix} owes replies");
            assert!(session.busy.is_none(), "session {ix} is busy: {:?}", session.busy);
            assert!(
                !session.is_stalled && session.tail.is_empty(),
                "session {ix} stalls: {}",
                text(&session.tail)
            );
        }
        let mut exclusive = 0;
        for (ix, backend) in &self.core.backends {
            assert!(backend.wire.flights.is_empty(), "backend {ix} owes replies");
            assert!(backend.wire.outbox.is_empty(), "backend {ix} keeps bytes");
            exclusive += usize::from(backend.lane == Lane::Exclusive);
            if let Some(owner) = backend.owner {
                let watches = &self.core.sessions[owner.ix as usize].watches;
                let is_watch = watches.iter().any(|watch| watch.backend == Some(ix));
                assert!(is_watch, "backend {ix} never came back");
            }
        }
        assert_eq!(self.core.stats.shares.exclusive(), exclusive);
        let idle: Vec<usize> = self.core.idle_exclusive.values().flatten().copied().collect();
        let is_idle = |ix: &usize| {
            let backend = &self.core.backends[*ix];
            backend.lane == Lane::Exclusive && backend.owner.is_none() && backend.wire.is_up()
        };
        assert!(idle.iter().all(is_idle), "taken for idle: {idle:?}");
        assert_eq!(idle.iter().collect::<std::collections::HashSet<_>>().len(), idle.len());
    }
}
