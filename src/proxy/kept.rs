//! When replies are kept back for a moment, so that one write carries those of a whole batch. Pure.
//!
//! A client that sends many commands in one piece usually waits for all their replies. They come from
//! several nodes at several times; a write for each of these would cost it and us more than the moment that
//! the first ones wait for the last.

use super::session::Session;
use slab::Slab;
use std::collections::VecDeque;
use std::time::Duration;

/// How long replies are kept back at most, in microseconds.
const LONGEST: u64 = 1000;
/// More bytes than this are worth a write of their own.
const LARGEST: usize = 16 << 10;

/// The sessions whose replies are kept back, by their places, and since when, in microseconds of the
/// worker's clock; some of them may be written already.
#[derive(Debug, Default)]
pub struct Kept(VecDeque<(usize, u64)>);

impl Kept {
    /// Whether what waits to be written to the session's client is to wait for more.
    pub fn keeps(&mut self, ix: usize, session: &mut Session, now: u64) -> bool {
        let is_worth_it = !session.pipeline.is_batch_answered()
            && session.unwritten() < LARGEST
            && session.closing.is_none()
            && (session.kept_at == 0 || now < session.kept_at + LONGEST);
        if !is_worth_it {
            session.kept_at = 0;
        } else if session.kept_at == 0 {
            session.kept_at = now;
            self.0.push_back((ix, now));
        }
        is_worth_it
    }

    /// The next session that was kept waiting long enough.
    pub fn take_due(&mut self, sessions: &Slab<Session>, now: u64) -> Option<usize> {
        while let Some(&(ix, since)) = self.0.front() {
            let is_kept = sessions.get(ix).is_some_and(|session| session.kept_at == since);
            if is_kept && now < since + LONGEST {
                return None;
            }
            self.0.pop_front();
            if is_kept {
                return Some(ix);
            }
        }
        None
    }

    /// How long until a session is due, at the earliest.
    pub fn time_left(&self, now: u64) -> Option<Duration> {
        self.0.front().map(|(_, since)| Duration::from_micros((since + LONGEST).saturating_sub(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pipeline::{Entry, Place};
    use super::*;
    use crate::telemetry::{Close, Family, Outcome};

    /// A client that sent `count` commands in one piece.
    fn session(count: usize) -> Session {
        let mut session = Session::new(1, 1, true, 1);
        send(&mut session, count);
        session
    }

    fn send(session: &mut Session, count: usize) {
        for _ in 0..count {
            session.pipeline.push(Entry {
                place: Place::Waiting,
                came_at: 1,
                family: Family::String,
                outcome: Outcome::Ok,
                is_mute: false,
            });
        }
        session.pipeline.end_batch();
    }

    fn answer(session: &mut Session, reply: &[u8]) {
        session.pipeline.pop();
        session.out.extend_from_slice(reply);
    }

    #[test]
    fn replies_wait_for_the_last_of_their_batch_only() {
        let (mut kept, mut session) = (Kept::default(), session(2));
        answer(&mut session, b"+1\r\n");
        assert!(kept.keeps(0, &mut session, 10));
        send(&mut session, 5);
        answer(&mut session, b"+2\r\n");
        assert!(!kept.keeps(0, &mut session, 11));
    }

    #[test]
    fn a_single_command_is_answered_at_once() {
        let (mut kept, mut session) = (Kept::default(), session(1));
        answer(&mut session, b"+1\r\n");
        assert!(!kept.keeps(0, &mut session, 10));
    }

    #[test]
    fn many_bytes_and_a_connection_about_to_close_wait_for_nothing() {
        let mut kept = Kept::default();
        let mut large = session(2);
        answer(&mut large, &[b'x'; LARGEST]);
        assert!(!kept.keeps(0, &mut large, 10));
        let mut closing = session(2);
        closing.closing = Some(Close::Client);
        answer(&mut closing, b"+1\r\n");
        assert!(!kept.keeps(0, &mut closing, 10));
    }

    #[test]
    fn nothing_is_kept_back_for_longer_than_a_moment() {
        let (mut kept, mut sessions) = (Kept::default(), Slab::new());
        for _ in 0..3 {
            let mut session = session(3);
            answer(&mut session, b"+1\r\n");
            sessions.insert(session);
        }
        assert!(kept.keeps(0, &mut sessions[0], 10));
        assert!(kept.keeps(1, &mut sessions[1], 10));
        assert!(kept.keeps(2, &mut sessions[2], 20));
        // A second reply does not begin the moment anew.
        answer(&mut sessions[0], b"+2\r\n");
        assert!(kept.keeps(0, &mut sessions[0], 500));
        // All of this one's came, and it was written.
        answer(&mut sessions[1], b"+2\r\n+3\r\n");
        sessions[1].pipeline.pop();
        assert!(!kept.keeps(1, &mut sessions[1], 600));
        assert_eq!(kept.time_left(600), Some(Duration::from_micros(LONGEST - 590)));
        assert_eq!(kept.take_due(&sessions, LONGEST + 9), None);
        assert_eq!(kept.take_due(&sessions, LONGEST + 10), Some(0));
        assert!(!kept.keeps(0, &mut sessions[0], LONGEST + 10));
        assert_eq!(kept.take_due(&sessions, LONGEST + 10), None);
        assert_eq!(kept.time_left(LONGEST + 10), Some(Duration::from_micros(10)));
        sessions.remove(2);
        assert_eq!((kept.take_due(&sessions, LONGEST + 20), kept.time_left(LONGEST + 20)), (None, None));
    }
}
