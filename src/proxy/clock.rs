//! What is due by the clock: retries, timeouts, memory to give back, metrics. Nothing sets a timer of its own.

use super::core::{Backend, Core};
use super::flight::{Lane, Purpose, SessionKey, Tag};
use super::session::Busy;
use crate::telemetry::Close;
use std::time::Duration;

/// How long a node may take to accept a connection and to prove who it is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

impl Core {
    /// Whether something waits for the clock sooner than in a second.
    pub fn is_waiting(&self) -> bool {
        self.held_count() > 0
            || !self.backoffs.is_empty()
            || self.watching.pause.is_some()
            || self.ears.is_waiting()
    }

    /// What is due by the clock: reconnects, held requests, idle clients, hung nodes. Called every few
    /// milliseconds while anything waits.
    pub fn tick(&mut self) {
        self.connect_shared();
        self.check_pause();
        self.fit_ears();
        self.wants_release |= self.held_count() > 0;
        self.carry_topics(None);
    }

    /// What is due once a second: timeouts, memory, metrics.
    pub fn tick_second(&mut self) {
        self.check_subscribers();
        self.check_ears();
        self.yield_idle();
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

    /// Whether a request may wait for data, or run, as long as it likes.
    fn is_blocked(&self, tag: &Tag) -> bool {
        tag.lane == Lane::Exclusive
            && tag.purpose == Purpose::Answer
            && self.sessions.get(tag.session.ix as usize).is_some_and(|session| {
                session.generation == tag.session.generation
                    && matches!(session.busy, Some(Busy::Blocked | Busy::Script))
            })
    }
}
