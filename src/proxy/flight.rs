//! What a session wants to know about a request when its reply comes back from a node. Pure data.

use super::pipeline::Ticket;
use super::redirect::Cause;
use crate::command::CommandIx;
use crate::resp::Version;
use crate::topology::Slot;

/// A session for as long as it lives: its place, and a count that tells it from earlier ones there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey {
    pub ix: u32,
    pub generation: u32,
}

/// Which connection a request goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The worker's one connection to the node, full of other clients' requests.
    Shared,
    /// A connection that the session has for itself for a while.
    Exclusive,
}

/// What becomes of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It is the client's, or a part of it.
    Answer,
    /// Nobody's: a health check, or the end of something that a client left behind.
    Discard,
    /// It says whether the node would take a command that a transaction has queued.
    Check,
    /// It says whether the node serves the key of a large request that waits to be streamed.
    Probe,
    /// It is the client's and large: relayed as it comes.
    Stream,
}

/// A request's destination, as far as the sender chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// The primary of the slot.
    Owner(Slot),
    /// Any primary will do.
    Any,
    /// The node that an ASK named (by its interned address), with ASKING.
    Asked { node: u16, slot: Slot },
}

impl Aim {
    /// The slot whose order the request must keep.
    pub fn slot(self) -> Option<Slot> {
        match self {
            Aim::Owner(slot) | Aim::Asked { slot, .. } => Some(slot),
            Aim::Any => None,
        }
    }
}

/// A request under way.
#[derive(Debug, Clone, Copy)]
pub struct Tag {
    pub session: SessionKey,
    pub ticket: Ticket,
    /// Which part of a merged reply it is.
    pub part: u32,
    pub aim: Aim,
    pub command: CommandIx,
    pub version: Version,
    pub lane: Lane,
    pub purpose: Purpose,
    /// It changes something, and a node to which the connection broke may have run it.
    pub may_have_run: bool,
    /// How often it was sent elsewhere.
    pub redirects: u8,
    /// How often it waited for a better moment.
    pub waits: u8,
    /// When it was last put on its way, in microseconds of the worker's clock.
    pub sent_at: u64,
    /// When it first could not be run, in microseconds of the worker's clock; 0: never.
    pub held_at: u64,
}

/// A request that waits for a better moment. It was certainly not executed, or repeating it is
/// harmless.
#[derive(Debug)]
pub struct Held {
    pub tag: Tag,
    /// Replies before the one that counts.
    pub skip: u32,
    pub request: Vec<u8>,
    pub cause: Cause,
    /// Not tried before, in microseconds of the worker's clock, unless the topology changes.
    pub retry_at: u64,
    /// Later requests of the same session for the same slot that are still out: when one of them is
    /// served, this one must not be sent any more.
    pub behind: u32,
    pub is_overtaken: bool,
}
