//! The [`Io`] that works everywhere: sockets are edge-triggered, so that no call is spent on asking for
//! events; a read that does not fill the buffer has emptied the socket.

use super::core::Core;
use super::worker::{Io, Outcome, enable_keepalive, put};
use crate::backend::{MAX_SLICES, Phase};
use crate::telemetry::Close;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use rustc_hash::FxHashSet;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What one read takes at most: enough for a 64 KB value with its frame, or thousands of small requests.
const READ_SIZE: usize = 128 << 10;
/// Reads of one socket in one turn, so that one busy peer does not keep the others waiting.
const READS_PER_TURN: usize = 4;
const WAKE: Token = Token(usize::MAX);

/// See the module's documentation.
pub struct Epoll {
    poll: Poll,
    events: Option<Events>,
    clients: Vec<Option<TcpStream>>,
    nodes: Vec<Option<TcpStream>>,
    /// Sockets that had more than one turn may read, or may be read again.
    again: Vec<Token>,
    /// Sockets whose other side has ended, which no event tells again: they are read to the end.
    ended: FxHashSet<Token>,
    buffer: Box<[u8]>,
}

fn client_token(ix: usize) -> Token {
    Token(ix << 1)
}

fn node_token(ix: usize) -> Token {
    Token(ix << 1 | 1)
}

impl Epoll {
    /// An event queue, and what wakes its waiter.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn new() -> std::io::Result<(Epoll, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let epoll = Epoll {
            poll,
            events: Some(Events::with_capacity(1024)),
            clients: Vec::new(),
            nodes: Vec::new(),
            again: Vec::new(),
            ended: FxHashSet::default(),
            buffer: vec![0; READ_SIZE].into(),
        };
        Ok((epoll, waker))
    }

    fn register(&self, socket: &mut TcpStream, token: Token) -> std::io::Result<()> {
        self.poll.registry().register(socket, token, Interest::READABLE | Interest::WRITABLE)
    }

    fn writable(&mut self, core: &mut Core, token: Token) {
        let ix = token.0 >> 1;
        if token.0 & 1 == 0 {
            if core.sessions.get(ix).is_some_and(|session| session.unwritten() > 0) {
                core.mark_session(ix);
            }
            return;
        }
        let (Some(Some(socket)), Some(backend)) = (self.nodes.get(ix), core.backends.get_mut(ix)) else {
            return;
        };
        if matches!(backend.wire.phase, Phase::Connecting) {
            match socket.take_error() {
                Ok(None) if socket.peer_addr().is_ok() => {
                    enable_keepalive(socket2::SockRef::from(socket));
                    backend.wire.greet(&core.credentials);
                }
                Ok(None) => return,
                Ok(Some(error)) | Err(error) => {
                    tracing::debug!(addr = %backend.wire.addr, %error, "cannot connect to a node");
                    return core.close_backend(ix, true);
                }
            }
        }
        if core.backends[ix].wire.has_unsent() {
            core.mark_backend(ix);
        }
    }

    /// Whether a read of so many bytes has taken all that there is.
    fn is_emptied(&self, count: usize, token: Token) -> bool {
        count < self.buffer.len() && (self.ended.is_empty() || !self.ended.contains(&token))
    }

    fn readable(&mut self, core: &mut Core, token: Token, outcome: &mut Outcome) {
        let ix = token.0 >> 1;
        if token.0 & 1 == 0 { self.read_client(core, ix, outcome) } else { self.read_node(core, ix) }
    }

    fn read_client(&mut self, core: &mut Core, ix: usize, outcome: &mut Outcome) {
        for _ in 0..READS_PER_TURN {
            if !core.wants_bytes(ix) {
                return;
            }
            let Some(Some(socket)) = self.clients.get_mut(ix) else { return };
            match socket.read(&mut self.buffer) {
                Ok(0) => return core.client_eof(ix),
                Ok(count) => {
                    core.client_bytes(ix, &self.buffer[..count]);
                    if self.is_emptied(count, client_token(ix)) {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return outcome.lost_clients.push((ix, Close::Error)),
            }
        }
        self.again.push(client_token(ix));
    }

    fn read_node(&mut self, core: &mut Core, ix: usize) {
        for _ in 0..READS_PER_TURN {
            let Some(backend) = core.backends.get(ix) else { return };
            if backend.is_paused || matches!(backend.wire.phase, Phase::Connecting) {
                return;
            }
            let Some(Some(socket)) = self.nodes.get_mut(ix) else { return };
            match socket.read(&mut self.buffer) {
                Ok(0) => return core.close_backend(ix, true),
                Ok(count) => {
                    core.backend_bytes(ix, &self.buffer[..count]);
                    if self.is_emptied(count, node_token(ix)) {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(addr = %backend.wire.addr, %error, "lost the connection to a node");
                    return core.close_backend(ix, true);
                }
            }
        }
        self.again.push(node_token(ix));
    }
}

impl Io for Epoll {
    fn wait(&mut self, core: &mut Core, timeout: Duration, outcome: &mut Outcome) -> std::io::Result<()> {
        let Some(mut events) = self.events.take() else { return Ok(()) };
        match self.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        core.set_now(Instant::now());
        outcome.events = 0;
        for token in std::mem::take(&mut self.again) {
            self.readable(core, token, outcome);
        }
        for event in &events {
            outcome.events += 1;
            let token = event.token();
            if token == WAKE {
                outcome.is_woken = true;
                continue;
            }
            if token.0 & 1 == 1 && core.effects.connects.contains(&(token.0 >> 1)) {
                // Of the connection that had this place before the one that is opened this turn.
                continue;
            }
            if event.is_read_closed() {
                self.ended.insert(token);
            }
            if event.is_writable() || event.is_error() || event.is_write_closed() {
                self.writable(core, token);
            }
            if event.is_readable() || event.is_read_closed() {
                self.readable(core, token, outcome);
            }
            if event.is_read_closed() && token.0 & 1 == 0 && core.client_hangup(token.0 >> 1) {
                outcome.lost_clients.push((token.0 >> 1, Close::Client));
            }
        }
        self.events = Some(events);
        Ok(())
    }

    fn has_more(&self) -> bool {
        !self.again.is_empty()
    }

    fn open_client(&mut self, ix: usize, socket: std::net::TcpStream) -> std::io::Result<()> {
        let mut socket = TcpStream::from_std(socket);
        let registered = self.register(&mut socket, client_token(ix));
        put(&mut self.clients, ix, socket);
        registered
    }

    fn close_client(&mut self, ix: usize) {
        self.ended.remove(&client_token(ix));
        self.clients.get_mut(ix).map(Option::take);
    }

    fn resume_client(&mut self, ix: usize) {
        self.again.push(client_token(ix));
    }

    fn write_client(&mut self, core: &mut Core, ix: usize) -> std::io::Result<()> {
        let (Some(Some(socket)), Some(session)) = (self.clients.get_mut(ix), core.sessions.get_mut(ix))
        else {
            return Ok(());
        };
        while session.unwritten() > 0 {
            match try_write(socket.write(&session.out[session.written..]))? {
                Some(count) => {
                    session.written += count;
                    session.stuck_at = 0;
                    core.recorder.bytes_out(count as u64);
                }
                None => {
                    if session.stuck_at == 0 {
                        session.stuck_at = core.now_us;
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    fn open_node(&mut self, ix: usize, addr: SocketAddr) -> std::io::Result<()> {
        let mut socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        self.register(&mut socket, node_token(ix))?;
        put(&mut self.nodes, ix, socket);
        Ok(())
    }

    fn close_node(&mut self, ix: usize) {
        self.ended.remove(&node_token(ix));
        self.nodes.get_mut(ix).map(Option::take);
    }

    fn resume_node(&mut self, ix: usize) {
        self.again.push(node_token(ix));
    }

    fn write_node(&mut self, core: &mut Core, ix: usize) -> std::io::Result<()> {
        let Some(Some(socket)) = self.nodes.get_mut(ix) else { return Ok(()) };
        loop {
            let wire = &mut core.backends[ix].wire;
            let (count, is_greeting) = match wire.phase {
                Phase::Connecting => return Ok(()),
                Phase::Greeting(_) if wire.greeting.is_empty() => return Ok(()),
                Phase::Greeting(_) => (try_write(socket.write(&wire.greeting))?, true),
                Phase::Up if wire.outbox.unsent() == 0 => return Ok(()),
                Phase::Up => {
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let filled = wire.outbox.unsent_slices(&mut slices);
                    let written = match &slices[..filled] {
                        [one] => socket.write(one),
                        several => socket.write_vectored(several),
                    };
                    (try_write(written)?, false)
                }
            };
            let Some(count) = count else { return Ok(()) };
            if is_greeting {
                wire.greeting.drain(..count);
            } else {
                core.backend_written(ix, count);
            }
        }
    }
}

/// `None`: the socket takes nothing now.
fn try_write(written: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match written {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Some(0)),
        Err(error) => Err(error),
    }
}
