//! One OS thread that owns its clients and its connections to nodes: it moves bytes between sockets and
//! the [`Core`], and writes everything once a turn, nodes first.
//!
//! A turn: wait for events, read all sockets that have something, let the core work, write. Sockets are
//! edge-triggered, so that no call is spent on asking for events; a read that does not fill the buffer
//! has emptied the socket.

use super::core::Core;
use crate::backend::{MAX_SLICES, Phase};
use crate::command::Table;
use crate::telemetry::Close;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// What one read takes at most: enough for a 64 KB value with its frame, or thousands of small requests.
const READ_SIZE: usize = 128 << 10;
/// Reads of one socket in one turn, so that one busy peer does not keep the others waiting.
const READS_PER_TURN: usize = 4;
/// How often a turn may write what its own writing made possible, before it looks for events again.
const ROUNDS_PER_TURN: usize = 8;
/// The pace at which held requests and lost connections are tried again.
const TICK: Duration = Duration::from_millis(5);
const SECOND: Duration = Duration::from_secs(1);
const WAKE: Token = Token(usize::MAX);

/// What another thread tells a worker.
pub enum Order {
    /// A client, and its number.
    Client(std::net::TcpStream, u64),
    /// A table that knows more commands; indices stay.
    Learn(Arc<Table>),
    /// The topology may have changed.
    Topology,
    /// Let clients go as soon as nothing of theirs is under way.
    Drain,
    /// End now.
    Stop,
}

/// A worker as other threads see it.
pub struct WorkerHandle {
    orders: Sender<Order>,
    waker: Arc<Waker>,
    /// How many clients it has.
    pub load: Arc<AtomicUsize>,
}

impl WorkerHandle {
    /// Tells the worker something; it wakes up for it.
    pub fn tell(&self, order: Order) {
        // A worker that is gone needs to be told nothing.
        let _ = self.orders.send(order);
        let _ = self.waker.wake();
    }
}

/// See the module's documentation.
pub struct Worker {
    core: Core,
    poll: Poll,
    orders: Receiver<Order>,
    clients: Vec<Option<TcpStream>>,
    nodes: Vec<Option<TcpStream>>,
    /// Sockets that had more than one turn may read.
    again: Vec<Token>,
    buffer: Box<[u8]>,
    load: Arc<AtomicUsize>,
    is_stopped: bool,
}

fn client_token(ix: usize) -> Token {
    Token(ix << 1)
}

fn node_token(ix: usize) -> Token {
    Token(ix << 1 | 1)
}

impl Worker {
    /// A worker around `core`, and the handle to it.
    ///
    /// # Errors
    /// When the system gives no event queue.
    pub fn new(core: Core) -> std::io::Result<(Worker, WorkerHandle)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (sender, orders) = channel();
        let load = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            core,
            poll,
            orders,
            clients: Vec::new(),
            nodes: Vec::new(),
            again: Vec::new(),
            buffer: vec![0; READ_SIZE].into(),
            load: load.clone(),
            is_stopped: false,
        };
        Ok((worker, WorkerHandle { orders: sender, waker, load }))
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// When waiting for events fails for good.
    pub fn run(mut self) -> std::io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut next_tick = Instant::now();
        let mut next_second = next_tick + SECOND;
        self.core.load_topology();
        while !self.is_stopped {
            self.work();
            let now = Instant::now();
            let due = if self.core.is_waiting() { next_tick.min(next_second) } else { next_second };
            let timeout =
                if self.again.is_empty() { due.saturating_duration_since(now) } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            self.core.set_now(now);
            for token in std::mem::take(&mut self.again) {
                self.readable(token);
            }
            for event in &events {
                let token = event.token();
                if token == WAKE {
                    self.take_orders();
                    continue;
                }
                if event.is_writable() || event.is_error() || event.is_write_closed() {
                    self.writable(token);
                }
                if event.is_readable() || event.is_read_closed() {
                    self.readable(token);
                }
                if event.is_read_closed() {
                    // The end comes after what is left to read, and no event will tell of it again.
                    self.again.push(token);
                    if token.0 & 1 == 0 && self.core.client_hangup(token.0 >> 1) {
                        self.close_client(token.0 >> 1, Close::Client);
                    }
                }
            }
            if now >= next_tick {
                next_tick = now + TICK;
                self.core.tick();
            }
            if now >= next_second {
                next_second = now + SECOND;
                self.core.tick_second();
            }
        }
        self.core.recorder.flush();
        Ok(())
    }

    /// Does what the last events made possible, and writes.
    fn work(&mut self) {
        for _ in 0..ROUNDS_PER_TURN {
            while let Some(ix) = self.core.effects.resuming.pop_front() {
                self.core.resume_session(ix);
                if self.core.wants_bytes(ix) {
                    self.again.push(client_token(ix));
                }
            }
            if self.core.wants_release {
                self.core.release_held();
            }
            self.open_and_close();
            self.write_nodes();
            self.write_clients();
            let effects = &self.core.effects;
            let is_done = effects.resuming.is_empty()
                && effects.dirty_backends.is_empty()
                && effects.dirty_sessions.is_empty()
                && effects.connects.is_empty()
                && effects.closed_backends.is_empty()
                && !self.core.wants_release;
            if is_done {
                break;
            }
        }
        for ix in std::mem::take(&mut self.core.effects.readable_backends) {
            self.again.push(node_token(ix));
        }
        if !self.core.effects.resuming.is_empty() || self.core.wants_release {
            // More than one turn's work: events first, then the rest.
            self.again.push(WAKE);
        }
    }

    fn take_orders(&mut self) {
        self.core.load_topology();
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Client(socket, id) => self.accept(socket, id),
                Order::Learn(table) => self.core.learn(table),
                Order::Topology => {}
                Order::Drain => self.core.drain(),
                Order::Stop => self.is_stopped = true,
            }
        }
    }

    fn accept(&mut self, socket: std::net::TcpStream, id: u64) {
        let ready = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
        let mut socket = TcpStream::from_std(socket);
        let ix = self.core.open_session(id);
        let token = client_token(ix);
        let registered =
            self.poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE);
        put(&mut self.clients, ix, socket);
        if ready.and(registered).is_err() {
            self.close_client(ix, Close::Error);
        }
    }

    fn close_client(&mut self, ix: usize, why: Close) {
        if self.clients.get_mut(ix).and_then(Option::take).is_some() {
            self.core.close_session(ix, why);
            self.load.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Opens the connections that the core wants and closes those it has given up.
    fn open_and_close(&mut self) {
        for ix in std::mem::take(&mut self.core.effects.closed_backends) {
            self.nodes.get_mut(ix).map(Option::take);
        }
        for ix in std::mem::take(&mut self.core.effects.connects) {
            let Some(backend) = self.core.backends.get(ix) else { continue };
            let opened = TcpStream::connect(backend.wire.addr).and_then(|mut socket| {
                socket.set_nodelay(true)?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut socket, node_token(ix), interest)?;
                Ok(socket)
            });
            match opened {
                Ok(socket) => put(&mut self.nodes, ix, socket),
                Err(error) => {
                    tracing::debug!(addr = %backend.wire.addr, %error, "cannot connect to a node");
                    self.core.close_backend(ix, true);
                }
            }
        }
    }

    fn writable(&mut self, token: Token) {
        let ix = token.0 >> 1;
        if token.0 & 1 == 0 {
            if self.core.sessions.get(ix).is_some_and(|session| session.unwritten() > 0) {
                self.core.mark_session(ix);
            }
            return;
        }
        let (Some(Some(socket)), Some(backend)) = (self.nodes.get(ix), self.core.backends.get_mut(ix)) else {
            return;
        };
        if matches!(backend.wire.phase, Phase::Connecting) {
            if self.core.effects.connects.contains(&ix) {
                // This is still the socket of the connection that had the place before.
                return;
            }
            match socket.take_error() {
                Ok(None) if socket.peer_addr().is_ok() => {
                    enable_keepalive(socket);
                    backend.wire.greet(&self.core.credentials);
                }
                Ok(None) => return,
                Ok(Some(error)) | Err(error) => {
                    tracing::debug!(addr = %backend.wire.addr, %error, "cannot connect to a node");
                    return self.core.close_backend(ix, true);
                }
            }
        }
        if self.core.backends[ix].wire.has_unsent() {
            self.core.mark_backend(ix);
        }
    }

    fn readable(&mut self, token: Token) {
        if token == WAKE {
            return;
        }
        let ix = token.0 >> 1;
        if token.0 & 1 == 0 { self.read_client(ix) } else { self.read_node(ix) }
    }

    fn read_client(&mut self, ix: usize) {
        for _ in 0..READS_PER_TURN {
            if !self.core.wants_bytes(ix) {
                return;
            }
            let Some(Some(socket)) = self.clients.get_mut(ix) else { return };
            match socket.read(&mut self.buffer) {
                Ok(0) => return self.core.client_eof(ix),
                Ok(count) => {
                    self.core.client_bytes(ix, &self.buffer[..count]);
                    if count < self.buffer.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.close_client(ix, Close::Error),
            }
        }
        self.again.push(client_token(ix));
    }

    fn read_node(&mut self, ix: usize) {
        for _ in 0..READS_PER_TURN {
            let Some(backend) = self.core.backends.get(ix) else { return };
            if backend.is_paused || matches!(backend.wire.phase, Phase::Connecting) {
                return;
            }
            let Some(Some(socket)) = self.nodes.get_mut(ix) else { return };
            match socket.read(&mut self.buffer) {
                Ok(0) => return self.core.close_backend(ix, true),
                Ok(count) => {
                    self.core.backend_bytes(ix, &self.buffer[..count]);
                    if count < self.buffer.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(addr = %backend.wire.addr, %error, "lost the connection to a node");
                    return self.core.close_backend(ix, true);
                }
            }
        }
        self.again.push(node_token(ix));
    }

    fn write_nodes(&mut self) {
        let mut dirty = std::mem::take(&mut self.core.effects.dirty_backends);
        for ix in dirty.drain(..) {
            let Some(backend) = self.core.backends.get_mut(ix) else { continue };
            backend.is_dirty = false;
            let Some(Some(socket)) = self.nodes.get_mut(ix) else { continue };
            if let Err(error) = write_node(&mut self.core, ix, socket) {
                tracing::debug!(%error, "lost the connection to a node");
                self.core.close_backend(ix, true);
            }
        }
        if self.core.effects.dirty_backends.is_empty() {
            self.core.effects.dirty_backends = dirty;
        }
    }

    fn write_clients(&mut self) {
        let mut dirty = std::mem::take(&mut self.core.effects.dirty_sessions);
        for ix in dirty.drain(..) {
            let Some(session) = self.core.sessions.get_mut(ix) else { continue };
            session.is_dirty = false;
            let Some(Some(socket)) = self.clients.get_mut(ix) else { continue };
            let mut is_broken = false;
            while session.unwritten() > 0 {
                match socket.write(&session.out[session.written..]) {
                    Ok(count) => {
                        session.written += count;
                        session.stuck_at = 0;
                        self.core.recorder.bytes_out(count as u64);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if session.stuck_at == 0 {
                            session.stuck_at = self.core.now_us;
                        }
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => {
                        is_broken = true;
                        break;
                    }
                }
            }
            if is_broken {
                self.close_client(ix, Close::Error);
            } else if let Some(why) = self.core.after_write(ix) {
                self.close_client(ix, why);
            }
        }
        if self.core.effects.dirty_sessions.is_empty() {
            self.core.effects.dirty_sessions = dirty;
        }
    }
}

/// Writes what waits for a node, as far as its socket takes it.
fn write_node(core: &mut Core, ix: usize, socket: &mut TcpStream) -> std::io::Result<()> {
    loop {
        let backend = &mut core.backends[ix];
        let wire = &mut backend.wire;
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

/// `None`: the socket takes nothing now.
fn try_write(written: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match written {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::Interrupted) => Ok(Some(0)),
        Err(error) => Err(error),
    }
}

/// A node that vanishes without a word must not hold requests for ever.
fn enable_keepalive(socket: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(3);
    let socket = socket2::SockRef::from(socket);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(Duration::from_secs(10)));
}

fn put(places: &mut Vec<Option<TcpStream>>, ix: usize, socket: TcpStream) {
    if places.len() <= ix {
        places.resize_with(ix + 1, || None);
    }
    places[ix] = Some(socket);
}
