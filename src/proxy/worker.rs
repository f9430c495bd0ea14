//! One OS thread that owns its clients and its connections to nodes: it moves bytes between sockets and
//! the [`Core`], and writes everything once a turn.
//!
//! A turn: wait, let the core work on all that came, write to clients, look once more for what came
//! meanwhile, write to nodes. Nodes come last because a node that is woken often takes over the very
//! core that woke it; the second look, and a moment's wait before it where that pays
//! ([`super::gather`]), lets more requests travel in that one write. Replies to commands that came
//! together leave together ([`super::kept`]). How bytes are moved is an [`Io`]'s matter.

use super::core::Core;
use super::gather::{Gathering, MOMENT};
use super::kept::Kept;
use super::notice::Notice;
use crate::command::Table;
use crate::telemetry::Close;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How often a turn may do what its own writing made possible, before it looks for events again.
const ROUNDS_PER_TURN: usize = 8;
/// The pace at which held requests and lost connections are tried again.
const TICK: Duration = Duration::from_millis(5);
const SECOND: Duration = Duration::from_secs(1);

/// Moves bytes between sockets and a core.
pub trait Io {
    /// Waits up to `timeout` for something to happen, and brings everything that came to the core.
    ///
    /// # Errors
    /// When waiting fails for good.
    fn wait(&mut self, core: &mut Core, timeout: Duration, events: &mut Outcome) -> std::io::Result<()>;

    /// Whether there is more to do without waiting.
    fn has_more(&self) -> bool;

    /// Takes a client's socket over.
    ///
    /// # Errors
    /// When it cannot be watched.
    fn open_client(&mut self, ix: usize, socket: TcpStream) -> std::io::Result<()>;
    fn close_client(&mut self, ix: usize);
    /// The client may be read again.
    fn resume_client(&mut self, ix: usize);
    /// Writes what waits for a client, as far as its socket takes it.
    ///
    /// # Errors
    /// When the connection is broken.
    fn write_client(&mut self, core: &mut Core, ix: usize) -> std::io::Result<()>;

    /// Begins to connect to a node.
    ///
    /// # Errors
    /// When that fails at once.
    fn open_node(&mut self, ix: usize, addr: SocketAddr) -> std::io::Result<()>;
    fn close_node(&mut self, ix: usize);
    /// The node may be read again.
    fn resume_node(&mut self, ix: usize);
    /// Writes what waits for a node, as far as its socket takes it.
    ///
    /// # Errors
    /// When the connection is broken.
    fn write_node(&mut self, core: &mut Core, ix: usize) -> std::io::Result<()>;
}

/// What [`Io::wait`] tells its worker.
#[derive(Default)]
pub struct Outcome {
    /// Another thread has an order.
    pub is_woken: bool,
    /// How many sockets had something to tell.
    pub events: usize,
    /// Clients whose connections are gone.
    pub lost_clients: Vec<(usize, Close)>,
}

/// What another thread tells a worker.
pub enum Order {
    /// A client, and its number.
    Client(TcpStream, u64),
    /// A table that knows more commands; indices stay.
    Learn(Arc<Table>),
    /// The topology may have changed.
    Topology,
    /// Another worker tells something.
    Notice(Notice),
    /// Let clients go as soon as nothing of theirs is under way.
    Drain,
    /// End now.
    Stop,
}

/// A worker as other threads see it.
pub struct WorkerHandle {
    orders: Sender<Order>,
    wake: Box<dyn Fn() + Send + Sync>,
    /// How many clients it has.
    pub load: Arc<AtomicUsize>,
}

impl WorkerHandle {
    /// Tells the worker something; it wakes up for it.
    pub fn tell(&self, order: Order) {
        // A worker that is gone needs to be told nothing.
        let _ = self.orders.send(order);
        (self.wake)();
    }
}

/// The receiving end of a [`WorkerHandle`].
pub struct Orders {
    receiver: Receiver<Order>,
    load: Arc<AtomicUsize>,
}

/// A worker's two ends; `wake` must make its [`Io::wait`] return.
pub fn handle(wake: impl Fn() + Send + Sync + 'static) -> (WorkerHandle, Orders) {
    let (orders, receiver) = channel();
    let load = Arc::new(AtomicUsize::new(0));
    (WorkerHandle { orders, wake: Box::new(wake), load: load.clone() }, Orders { receiver, load })
}

/// See the module's documentation.
pub struct Worker<I> {
    core: Core,
    io: I,
    orders: Orders,
    kept: Kept,
    /// Requests for nodes wait, and this turn began with the second look for more.
    has_looked_again: bool,
    gathering: Gathering,
    is_stopped: bool,
}

impl<I: Io> Worker<I> {
    pub fn new(core: Core, io: I, orders: Orders) -> Worker<I> {
        Worker {
            core,
            io,
            orders,
            kept: Kept::default(),
            has_looked_again: false,
            gathering: Gathering::default(),
            is_stopped: false,
        }
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// When waiting for events fails for good.
    pub fn run(mut self) -> std::io::Result<()> {
        let mut next_tick = Instant::now();
        let mut next_second = next_tick + SECOND;
        let mut outcome = Outcome::default();
        self.take_orders();
        while !self.is_stopped {
            self.work();
            let timeout = if self.has_more() {
                Duration::ZERO
            } else {
                let due = if self.core.is_waiting() { next_tick.min(next_second) } else { next_second };
                let due = due.saturating_duration_since(Instant::now());
                self.kept.time_left(self.core.now_us).map_or(due, |left| due.min(left))
            };
            // Requests for nodes wait for the second look.
            let is_gathering = self.has_looked_again && self.gathering.wants_to_wait(self.core.on_the_way());
            if is_gathering {
                std::thread::sleep(MOMENT);
            }
            self.io.wait(&mut self.core, timeout, &mut outcome)?;
            if is_gathering {
                self.gathering.has_waited(outcome.events);
            }
            for (ix, why) in outcome.lost_clients.drain(..) {
                self.close_client(ix, why);
            }
            if std::mem::take(&mut outcome.is_woken) {
                self.take_orders();
            }
            let now = self.core.now;
            if now >= next_tick {
                next_tick = now + TICK;
                self.core.tick();
            }
            if now >= next_second {
                next_second = now + SECOND;
                self.core.tick_second();
            }
        }
        Ok(())
    }

    /// Does what the last events made possible, and writes.
    fn work(&mut self) {
        while let Some(ix) = self.kept.take_due(&self.core.sessions, self.core.now_us) {
            self.core.mark_session(ix);
        }
        for _ in 0..ROUNDS_PER_TURN {
            while let Some(ix) = self.core.effects.resuming.pop_front() {
                self.core.resume_session(ix);
                if self.core.wants_bytes(ix) {
                    self.io.resume_client(ix);
                }
            }
            if self.core.wants_release {
                self.core.release_held();
            }
            self.open_and_close();
            self.write_clients();
            for ix in std::mem::take(&mut self.core.effects.readable_backends) {
                self.io.resume_node(ix);
            }
            if !self.core.has_effects() {
                break;
            }
        }
        let has_requests = !self.core.effects.dirty_backends.is_empty();
        let is_due = self.has_looked_again && !self.gathering.wants_to_wait(self.core.on_the_way());
        if has_requests && is_due {
            self.write_nodes();
            self.gathering.has_written();
        }
        self.has_looked_again = has_requests && !is_due;
    }

    /// Whether there is something to do without waiting for events.
    fn has_more(&self) -> bool {
        self.core.has_effects() || !self.core.effects.dirty_backends.is_empty() || self.io.has_more()
    }

    fn take_orders(&mut self) {
        self.core.load_topology();
        while let Ok(order) = self.orders.receiver.try_recv() {
            match order {
                Order::Client(socket, id) => self.accept(socket, id),
                Order::Learn(table) => self.core.learn(table),
                Order::Topology => {}
                Order::Notice(notice) => self.core.on_notice(notice),
                Order::Drain => self.core.drain(),
                Order::Stop => self.is_stopped = true,
            }
        }
    }

    fn accept(&mut self, socket: TcpStream, id: u64) {
        let ready = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
        let ix = self.core.open_session(id);
        let opened = self.io.open_client(ix, socket);
        if ready.and(opened).is_err() {
            self.close_client(ix, Close::Error);
        }
    }

    fn close_client(&mut self, ix: usize, why: Close) {
        if self.core.sessions.contains(ix) {
            self.io.close_client(ix);
            self.core.close_session(ix, why);
            self.orders.load.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Opens the connections that the core wants and closes those it has given up.
    fn open_and_close(&mut self) {
        for ix in std::mem::take(&mut self.core.effects.closed_backends) {
            self.io.close_node(ix);
        }
        for ix in std::mem::take(&mut self.core.effects.connects) {
            let Some(backend) = self.core.backends.get(ix) else { continue };
            if let Err(error) = self.io.open_node(ix, backend.wire.addr) {
                tracing::debug!(addr = %backend.wire.addr, %error, "cannot connect to a node");
                self.core.close_backend(ix, true);
            }
        }
    }

    fn write_nodes(&mut self) {
        let mut dirty = std::mem::take(&mut self.core.effects.dirty_backends);
        for ix in dirty.drain(..) {
            let Some(backend) = self.core.backends.get_mut(ix) else { continue };
            backend.is_dirty = false;
            if let Err(error) = self.io.write_node(&mut self.core, ix) {
                tracing::debug!(%error, "lost the connection to a node");
                self.core.close_backend(ix, true);
            }
        }
        if self.core.effects.dirty_backends.is_empty() {
            self.core.effects.dirty_backends = dirty;
        }
    }

    fn write_clients(&mut self) {
        let now = self.core.now_us;
        let mut dirty = std::mem::take(&mut self.core.effects.dirty_sessions);
        for ix in dirty.drain(..) {
            let Some(session) = self.core.sessions.get_mut(ix) else { continue };
            session.is_dirty = false;
            if self.kept.keeps(ix, session, now) {
                continue;
            }
            if self.io.write_client(&mut self.core, ix).is_err() {
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

/// A node that vanishes without a word must not hold requests for ever.
pub fn enable_keepalive(socket: socket2::SockRef) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(3);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(Duration::from_secs(10)));
}

/// Keeps a socket at its place in a list.
pub fn put<T>(places: &mut Vec<Option<T>>, ix: usize, socket: T) {
    if places.len() <= ix {
        places.resize_with(ix + 1, || None);
    }
    places[ix] = Some(socket);
}
