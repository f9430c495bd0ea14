//! A transaction that is not for one node alone, with commands that concern all nodes (FLUSHALL, CONFIG
//! SET, DBSIZE) or with keys in several slots: carried out here, piece by piece, after EXEC.
//!
//! What has keys in one slot stays together as far as nothing else stands between: each such piece is a
//! transaction of its node. The reply to EXEC is the head of an array, followed by the replies to the
//! pieces in their order; what the client is told besides waits until they are all written.

use super::client_state::Transaction;
use super::core::{Core, NO_BACKEND};
use super::dispatch::Handled;
use super::fanout::{Merge, Policy};
use super::flight::{Aim, SessionKey};
use super::pinned::{EXEC, MULTI};
use super::pipeline::Place;
use super::scripts::each_request;
use super::session::Busy;
use crate::command::CommandIx;
use crate::resp::{Limits, Request, RequestScan, RequestScanner};
use crate::telemetry::{Family, Outcome};
use crate::topology::Slot;
use std::collections::VecDeque;

/// What is left of a transaction that is carried out here.
#[derive(Debug)]
pub struct Replay {
    /// EXEC.
    command: CommandIx,
    pieces: VecDeque<Piece>,
    /// What came for the client meanwhile and is no part of the reply.
    pushes: Vec<u8>,
}

/// A part of a transaction.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// A command that is carried out as if it stood alone.
    Alone(Vec<u8>),
    /// Commands that one node runs as a transaction.
    Together { slot: Option<Slot>, frames: Vec<u8>, count: u32 },
}

impl Replay {
    pub fn new(command: CommandIx, transaction: &Transaction) -> Replay {
        Replay { command, pieces: pieces(transaction), pushes: Vec::new() }
    }
}

/// Takes a transaction apart.
fn pieces(transaction: &Transaction) -> VecDeque<Piece> {
    let mut own = Vec::new();
    each_request(&transaction.own.frames, |request| own.push(request.frame.to_vec()));
    let mut own = transaction.own.places.iter().zip(own).peekable();
    let (mut pieces, mut number) = (VecDeque::new(), 0);
    each_request(&transaction.frames, |request| {
        let here = transaction.slots.get(number as usize).copied().flatten();
        if let Some((_, frame)) = own.next_if(|(at, _)| **at == number) {
            pieces.push_back(Piece::Alone(frame));
        } else if transaction.alone.contains(&number) {
            pieces.push_back(Piece::Alone(request.frame.to_vec()));
        } else if let Some(Piece::Together { slot, frames, count }) = pieces.back_mut()
            && (here.is_none() || slot.is_none() || here == *slot)
        {
            *slot = slot.or(here);
            frames.extend_from_slice(request.frame);
            *count += 1;
        } else {
            pieces.push_back(Piece::Together { slot: here, frames: request.frame.to_vec(), count: 1 });
        }
        number += 1;
    });
    pieces
}

impl Core {
    /// Begins to carry a transaction out.
    pub fn begin_replay(&mut self, ix: usize, command: CommandIx, transaction: &Transaction) {
        let count = transaction.count as usize;
        self.answer_now(ix, Family::Transactions, Outcome::Ok, |reply| reply.array(count));
        let session = &mut self.sessions[ix];
        session.replay = Some(Box::new(Replay::new(command, transaction)));
        session.busy = Some(Busy::Replaying);
        session.is_stalled = true;
        self.resume(ix);
    }

    /// The same for a transaction that begins once nodes have said that it may.
    pub fn wait_for_guard(&mut self, ix: usize, replay: Replay) {
        let session = &mut self.sessions[ix];
        session.replay = Some(Box::new(replay));
        session.is_stalled = true;
    }

    /// Goes on with a transaction; true when nothing is left of it.
    pub fn replay(&mut self, ix: usize) -> bool {
        loop {
            let session = &mut self.sessions[ix];
            let Some(replay) = &mut session.replay else { return true };
            if session.busy.is_some_and(|busy| busy != Busy::Replaying) {
                break;
            }
            let Some(piece) = replay.pieces.pop_front() else {
                if !session.pipeline.is_empty() {
                    break;
                }
                let pushes = std::mem::take(&mut replay.pushes);
                session.out.extend_from_slice(&pushes);
                session.replay = None;
                session.busy = None;
                self.mark_session(ix);
                return true;
            };
            let command = replay.command;
            session.busy = None;
            if self.may_proceed(ix) && self.send_piece(ix, command, &piece) == Handled::Done {
                self.sessions[ix].busy.get_or_insert(Busy::Replaying);
                continue;
            }
            let session = &mut self.sessions[ix];
            session.busy = Some(Busy::Replaying);
            if let Some(replay) = &mut session.replay {
                replay.pieces.push_front(piece);
            }
            break;
        }
        self.sessions[ix].is_stalled = true;
        false
    }

    fn send_piece(&mut self, ix: usize, command: CommandIx, piece: &Piece) -> Handled {
        match piece {
            Piece::Alone(frame) => {
                let mut scanner = RequestScanner::default();
                match scanner.scan(frame, Limits::USUAL) {
                    Ok(RequestScan::Complete { .. }) => self.handle(ix, &Request::new(frame, scanner.args())),
                    _ => Handled::Done,
                }
            }
            Piece::Together { slot, frames, count } => {
                let slot = *slot;
                if slot.is_some_and(|slot| self.sessions[ix].is_gated(slot)) {
                    return Handled::NotYet;
                }
                let version = self.sessions[ix].state.version;
                let merge = Merge::new(Policy::Elements { count: *count as usize }, version, 1, false);
                let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
                let tag = self.tag(ix, ticket, command, slot.map_or(Aim::Any, Aim::Owner));
                if let Some(slot) = slot {
                    self.load_scripts_at(ix, command, slot, frames);
                    self.sessions[ix].gate(slot, ticket, 0, NO_BACKEND);
                }
                self.forward_after(tag, &[MULTI, frames, EXEC], count + 1);
                Handled::Done
            }
        }
    }

    /// Keeps what a client is told besides until the reply to its transaction is written.
    pub fn keep_until_replayed(&mut self, key: SessionKey, bytes: &[u8]) {
        let limit = self.config.output_hard_limit;
        let Some(session) = self.session_of(key) else { return };
        let Some(replay) = &mut session.replay else { return };
        replay.pushes.extend_from_slice(bytes);
        if replay.pushes.len() > limit {
            self.cut(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::write_request;

    fn frame(line: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        write_request(&mut frame, line.split(' ').collect::<Vec<_>>());
        frame
    }

    #[test]
    fn what_has_keys_stays_together_between_what_concerns_all_nodes() {
        let lines = ["SET a 1", "GET a", "DBSIZE", "PING", "FLUSHALL"];
        let mut transaction = Transaction { count: 5, alone: vec![2, 4], ..Transaction::default() };
        lines.iter().for_each(|line| transaction.frames.extend(frame(line)));
        transaction.own.places = vec![3];
        transaction.own.frames = frame("CLIENT ID");
        let frames = [frame("SET a 1"), frame("GET a")].concat();
        let together = Piece::Together { slot: None, frames, count: 2 };
        let alone = ["DBSIZE", "CLIENT ID", "FLUSHALL"].map(|line| Piece::Alone(frame(line)));
        assert_eq!(pieces(&transaction), [together].into_iter().chain(alone).collect::<VecDeque<_>>());
    }

    #[test]
    fn each_slot_has_pieces_of_its_own_and_what_has_no_key_goes_along() {
        let slots = ["a", "b"].map(|key| Some(Slot::of_key(key.as_bytes())));
        let lines = ["PING", "SET a 1", "PING", "SET b 1", "SET a 2"];
        let mut transaction = Transaction { count: 5, ..Transaction::default() };
        lines.iter().for_each(|line| transaction.frames.extend(frame(line)));
        transaction.slots = vec![None, slots[0], None, slots[1], slots[0]];
        let frames = |lines: &[&str]| lines.iter().flat_map(|line| frame(line)).collect();
        let expected = [(slots[0], &lines[..3]), (slots[1], &lines[3..4]), (slots[0], &lines[4..])];
        let expected = expected.map(|(slot, lines)| Piece::Together {
            slot,
            frames: frames(lines),
            count: lines.len() as u32,
        });
        assert_eq!(pieces(&transaction), expected);
    }
}
