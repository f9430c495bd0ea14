//! One client: its bytes in, its replies out, and what holds it up. The reading of commands is in
//! `read`, what becomes of them in `dispatch`.

use super::client_state::ClientState;
use super::errand::Errand;
use super::feed::Feed;
use super::pipeline::{Pipeline, Ticket};
use super::replay::Replay;
use crate::resp::{RequestProgress, RequestScanner};
use crate::telemetry::Close;
use crate::topology::Slot;

/// While this lasts, no further command of the client is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// A blocking command waits for data; a client that leaves takes it along.
    Blocked,
    /// A command runs alone, over a connection of the session's own.
    Alone,
    /// A transaction is carried out piece by piece.
    Replaying,
    /// A script without keys runs, over a connection of the session's own.
    Script,
    /// A large request waits until its node is known to serve the key; its first `scanned` bytes are
    /// whole arguments.
    Probing { scanned: usize, progress: RequestProgress },
    /// A large request is passed on as it comes.
    Uploading { backend: usize, ticket: Ticket, progress: RequestProgress },
    /// The rest of a large request that was refused is thrown away: `skip` bytes of whole arguments, then
    /// what `progress` follows.
    Discarding { skip: usize, progress: RequestProgress },
    /// A large reply is passed on as it comes.
    Relaying { backend: usize },
}

/// Later commands for this slot wait until the ticket's part is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    pub slot: Slot,
    pub ticket: Ticket,
    pub part: u32,
    /// The connection that the part is under way on, or `NO_BACKEND`.
    pub backend: u32,
    /// A later command for the slot, at its other node while the slot moves, was served meanwhile: if the
    /// part has to be sent once more, it comes too late.
    pub is_overtaken: bool,
}

/// WATCH: the connection that keeps the watch, until EXEC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    pub slot: Slot,
    /// Without it the watch is lost, and EXEC must not run.
    pub backend: Option<usize>,
}

/// Our work for one client connection.
#[derive(Debug)]
pub struct Session {
    pub generation: u32,
    /// The client's number, unique in this process; what CLIENT ID answers.
    pub id: u64,
    pub state: ClientState,
    pub pipeline: Pipeline,
    /// Input that is not a whole command yet, or whose turn has not come.
    pub tail: Vec<u8>,
    /// How far the request at the beginning of `tail` is scanned, when that is worth keeping.
    pub scan: Option<Box<RequestScanner>>,
    /// Replies to be written; the first `written` bytes are.
    pub out: Vec<u8>,
    pub written: usize,
    pub gates: Vec<Gate>,
    /// How many of its requests are held, and their bytes.
    pub held_requests: usize,
    pub held_bytes: usize,
    pub busy: Option<Busy>,
    /// One for each slot.
    pub watches: Vec<Watch>,
    /// A transaction that is carried out here, after its EXEC.
    pub replay: Option<Box<Replay>>,
    /// SYNC.
    pub feed: Option<Box<Feed>>,
    /// What it is there for, if it is no client's.
    pub errand: Option<Box<Errand>>,
    /// When the client last sent something, in microseconds of the worker's clock.
    pub heard_at: u64,
    /// Since when it has not taken what waits for it; 0: it has.
    pub stuck_at: u64,
    /// Commands wait in `tail`, or the socket is not read, until something is answered or written.
    pub is_stalled: bool,
    /// Its command waits for the end of CLIENT PAUSE.
    pub is_paused: bool,
    /// The client sends no more.
    pub is_eof: bool,
    /// To be closed once everything is written, and why.
    pub closing: Option<Close>,
    /// Stands in the worker's list of sessions with something to write.
    pub is_dirty: bool,
    /// Since when replies are kept back, as others of their batch are under way; 0: none are.
    pub kept_at: u64,
    /// Stands in the worker's list of sessions to be looked at again.
    pub is_resuming: bool,
}

impl Session {
    pub fn new(generation: u32, id: u64, is_authenticated: bool, now: u64) -> Session {
        Session {
            generation,
            id,
            state: ClientState::new(is_authenticated),
            pipeline: Pipeline::default(),
            tail: Vec::new(),
            scan: None,
            out: Vec::new(),
            written: 0,
            gates: Vec::new(),
            held_requests: 0,
            held_bytes: 0,
            busy: None,
            watches: Vec::new(),
            replay: None,
            feed: None,
            errand: None,
            heard_at: now,
            stuck_at: 0,
            is_stalled: false,
            is_paused: false,
            is_eof: false,
            closing: None,
            is_dirty: false,
            kept_at: 0,
            is_resuming: false,
        }
    }

    /// Bytes that wait to be written to the client.
    #[inline]
    pub fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    /// Has later commands for the slot wait for this part, which is under way on `backend`, if anywhere.
    pub fn gate(&mut self, slot: Slot, ticket: Ticket, part: u32, backend: u32) {
        match self.gates.iter_mut().find(|gate| gate.ticket == ticket && gate.part == part) {
            Some(gate) => gate.backend = backend,
            None => self.gates.push(Gate { slot, ticket, part, backend, is_overtaken: false }),
        }
    }

    /// Whether a command that goes over `backend` would overtake an earlier one for its slot.
    pub fn would_overtake(&self, slot: Slot, ticket: Ticket, part: u32, backend: u32) -> bool {
        self.gates.iter().any(|gate| {
            gate.slot == slot && (gate.ticket, gate.part) < (ticket, part) && gate.backend != backend
        })
    }

    /// Whether a command for `slot` must wait for an earlier one.
    pub fn is_gated(&self, slot: Slot) -> bool {
        self.gates.iter().any(|gate| gate.slot == slot)
    }

    /// Whether nothing is owed and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.pipeline.is_empty() && self.unwritten() == 0 && self.tail.is_empty() && self.busy.is_none()
    }
}
