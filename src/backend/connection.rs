//! One connection to a node, free of IO: what waits to be written, what was asked, what came back.
//!
//! The owner moves the bytes; this keeps them in order. `T` is what the owner wants to know about a
//! request when its reply comes.

use super::handshake::{Credentials, Handshake, HandshakeError, Release};
use super::outbox::Outbox;
use crate::resp::{ReplyScanner, Version};
use crate::topology::NodeId;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

/// Where a connection stands.
#[derive(Debug)]
pub enum Phase {
    /// The socket is not connected yet.
    Connecting,
    /// Connected; the node has yet to prove who it is.
    Greeting(Handshake),
    /// Requests may be written.
    Up,
}

/// A request on its way, in the order of the stream.
#[derive(Debug)]
pub struct Flight<T> {
    /// Bytes of the request in the outbox, those sent before it on its behalf included.
    pub len: u32,
    /// Replies that come before the one that counts (to ASKING, to MULTI and what it queued).
    pub skip: u32,
    pub tag: T,
}

/// A connection to the node `node` at `addr`.
#[derive(Debug)]
pub struct Connection<T> {
    pub addr: SocketAddr,
    pub node: NodeId,
    pub version: Version,
    pub phase: Phase,
    /// Which server the node is, once it has said so.
    pub release: Option<Release>,
    /// The number of this connection at the node, once it has said so.
    pub client_id: Option<u64>,
    /// The handshake's bytes that were not written yet.
    pub greeting: Vec<u8>,
    /// Another connection to the same node is up.
    pub is_known: bool,
    pub outbox: Outbox,
    pub flights: VecDeque<Flight<T>>,
    /// Bytes of a reply that is not complete; the scanner has seen the first `scanned` of them.
    pub tail: Vec<u8>,
    pub scanned: usize,
    pub scanner: ReplyScanner,
    /// When something was last received or, of a large request, taken by the node, or when nothing was
    /// awaited of it.
    pub heard_at: Instant,
}

impl<T> Connection<T> {
    pub fn new(addr: SocketAddr, node: NodeId, version: Version, now: Instant) -> Connection<T> {
        Connection {
            addr,
            node,
            version,
            phase: Phase::Connecting,
            is_known: false,
            release: None,
            client_id: None,
            greeting: Vec::new(),
            outbox: Outbox::default(),
            flights: VecDeque::new(),
            tail: Vec::new(),
            scanned: 0,
            scanner: ReplyScanner::default(),
            heard_at: now,
        }
    }

    #[inline]
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up)
    }

    /// The socket is connected: prepares the handshake.
    pub fn greet(&mut self, credentials: &Credentials) {
        let mut handshake = Handshake::begin(&mut self.greeting, self.version, credentials, Some(self.node));
        handshake.is_known = self.is_known;
        self.phase = Phase::Greeting(handshake);
    }

    /// Gives the first bytes of the node to the handshake; returns how many belonged to it. The
    /// connection is up when the handshake is over.
    ///
    /// # Errors
    /// The node refused, or is another one.
    pub fn advance_greeting(&mut self, bytes: &[u8]) -> Result<usize, HandshakeError> {
        let Phase::Greeting(handshake) = &mut self.phase else { return Ok(0) };
        let advance = handshake.advance(bytes)?;
        if advance.is_done {
            self.release = handshake.release;
            self.client_id = handshake.client_id;
            self.phase = Phase::Up;
        }
        Ok(advance.consumed)
    }

    /// Appends a request made of `parts`, whose reply is the one after `skip` others.
    #[inline]
    pub fn push(&mut self, parts: &[&[u8]], skip: u32, tag: T) {
        let before = self.outbox.len();
        self.outbox.push(parts);
        let len = (self.outbox.len() - before) as u32;
        self.flights.push_back(Flight { len, skip, tag });
    }

    /// Appends a request that owns its bytes.
    pub fn push_owned(&mut self, request: Vec<u8>, tag: T) {
        let len = request.len() as u32;
        self.outbox.push_owned(request);
        self.flights.push_back(Flight { len, skip: 0, tag });
    }

    /// Whether there is something to write now.
    pub fn has_unsent(&self) -> bool {
        match self.phase {
            Phase::Connecting => false,
            Phase::Greeting(_) => !self.greeting.is_empty(),
            Phase::Up => self.outbox.unsent() > 0,
        }
    }

    /// Whether nothing is asked and nothing half received.
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.outbox.is_empty() && self.tail.is_empty()
    }
}
