//! Commands that wait for data: alone on a connection of their own, and no longer than they were given.

use super::core::Core;
use super::dispatch::Handled;
use super::flight::{Aim, Lane, Tag};
use super::pipeline::Place;
use super::router::{All, Handling, TimeoutAt};
use super::session::Busy;
use crate::command::CommandIx;
use crate::resp::{ReplyWriter, Request, write_request};
use crate::topology::Slot;

impl Core {
    /// A command that waits for data: alone on a connection of its own.
    pub fn send_blocking(&mut self, ix: usize, command: CommandIx, slot: Slot, request: &Request) -> Handled {
        let session = &self.sessions[ix];
        if !session.pipeline.is_empty() || !session.gates.is_empty() {
            return Handled::NotYet;
        }
        let ticket = self.take_ticket(ix, command, Place::Waiting);
        let mut tag = self.tag(ix, ticket, command, Aim::Owner(slot));
        tag.lane = Lane::Exclusive;
        self.sessions[ix].busy = Some(Busy::Blocked);
        self.forward(tag, &[request.frame]);
        Handled::Done
    }

    /// A blocking command that is tried again waits only for what is left of its time. `None`: nothing
    /// is left.
    pub fn with_time_left(&mut self, tag: &Tag, frame: Vec<u8>) -> Option<Vec<u8>> {
        if tag.lane == Lane::Shared {
            return Some(frame);
        }
        let handling = self.traits[usize::from(tag.command.0)].handling;
        let (Handling::Blocking(_) | Handling::All(All::Wait)) = handling else { return Some(frame) };
        let came_at = self.session_of(tag.session)?.pipeline.get_mut(tag.ticket)?.came_at;
        let waited = (self.now_us - came_at) as f64 / 1e6;
        let mut scanner = crate::resp::RequestScanner::default();
        scanner.scan(&frame, crate::resp::Limits::USUAL).ok()?;
        let request = Request::new(&frame, scanner.args());
        let (at, unit) = match handling {
            Handling::Blocking(TimeoutAt::First) => (1, 1.0),
            Handling::Blocking(TimeoutAt::BlockOption) => match super::key_slots::find_block_option(&request)
            {
                Some(at) => (at, 1000.0),
                None => return Some(frame.to_vec()),
            },
            Handling::All(_) => (request.len() - 1, 1000.0),
            _ => (request.len() - 1, 1.0),
        };
        let given: f64 =
            std::str::from_utf8(request.get(at)?).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0);
        if given <= 0.0 {
            return Some(frame);
        }
        let left = given - waited * unit;
        if left <= 0.0 {
            return None;
        }
        let left = if unit > 1.0 { format!("{:.0}", left.ceil()) } else { format!("{left:.3}") };
        let mut out = Vec::with_capacity(frame.len());
        let args = request.args().enumerate().map(|(n, arg)| if n == at { left.as_bytes() } else { arg });
        write_request(&mut out, args.collect::<Vec<_>>());
        Some(out)
    }

    /// What any blocking command answers when its time is over (`replyToBlockedClientOnTimeout`); of
    /// a WAIT, no replica is known to have anything.
    pub fn time_is_over(&self, tag: &Tag) -> Vec<u8> {
        let mut out = Vec::new();
        let mut reply = ReplyWriter { out: &mut out, version: tag.version };
        if self.is_wait(tag) {
            reply.integer(0)
        } else {
            reply.null_array()
        }
        out
    }
}
