//! Accepts clients and places each on the worker that has the fewest.

use super::stats::{ClientInfo, Stats};
use super::worker::{Order, WorkerHandle};
use mio::{Events, Interest, Poll, Token, Waker};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: Token = Token(0);
const WAKE: Token = Token(1);
/// Connections that wait to be accepted; a burst of clients after a restart fits in.
const BACKLOG: i32 = 4096;
/// The pause when the process has no file descriptor left for a client.
const NO_DESCRIPTOR_PAUSE: Duration = Duration::from_millis(50);

/// The socket where clients connect.
pub struct Listener {
    socket: mio::net::TcpListener,
    poll: Poll,
    waker: Arc<Waker>,
    is_closed: Arc<AtomicBool>,
}

/// Ends the accepting of clients.
pub struct ListenerHandle {
    waker: Arc<Waker>,
    is_closed: Arc<AtomicBool>,
}

impl ListenerHandle {
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
    }
}

impl Listener {
    /// Takes the address.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub fn bind(addr: SocketAddr) -> std::io::Result<(Listener, ListenerHandle)> {
        let domain = socket2::Domain::for_address(addr);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let mut socket = mio::net::TcpListener::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut socket, CLIENTS, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let is_closed = Arc::new(AtomicBool::new(false));
        let handle = ListenerHandle { waker: waker.clone(), is_closed: is_closed.clone() };
        Ok((Listener { socket, poll, waker, is_closed }, handle))
    }

    /// Where clients connect; tells the port when 0 was asked for.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until closed.
    pub fn run(mut self, workers: &[WorkerHandle], stats: &Stats, max_clients: usize, on_reject: impl Fn()) {
        let _keeps_waker_alive = self.waker.clone();
        let mut events = Events::with_capacity(8);
        while !self.is_closed.load(Ordering::Relaxed) {
            if let Err(error) = self.poll.poll(&mut events, None)
                && error.kind() != ErrorKind::Interrupted
            {
                tracing::error!(%error, "cannot accept clients any more");
                return;
            }
            while !self.is_closed.load(Ordering::Relaxed) {
                match self.socket.accept() {
                    Ok((socket, addr)) => place(socket, addr, workers, stats, max_clients, &on_reject),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                        tracing::warn!("no file descriptor left for a client; raise the limit (ulimit -n)");
                        std::thread::sleep(NO_DESCRIPTOR_PAUSE);
                    }
                    // The client gave up before it was accepted.
                    Err(_) => {}
                }
            }
        }
    }
}

fn place(
    socket: mio::net::TcpStream,
    addr: SocketAddr,
    workers: &[WorkerHandle],
    stats: &Stats,
    max_clients: usize,
    on_reject: &impl Fn(),
) {
    let least = workers.iter().enumerate().min_by_key(|(_, worker)| worker.load.load(Ordering::Relaxed));
    let Some((ix, worker)) = least else { return };
    let mut socket: std::net::TcpStream = socket.into();
    let laddr = socket.local_addr().unwrap_or(addr);
    let fd = socket.as_raw_fd();
    let info = ClientInfo { addr, laddr, fd, worker: ix, connected_at: Instant::now() };
    match stats.admit_client(info, max_clients) {
        Some(id) => {
            worker.load.fetch_add(1, Ordering::Relaxed);
            worker.tell(Order::Client(socket, id));
        }
        None => {
            on_reject();
            // The socket's buffer is empty, so this does not block.
            let _ = socket.write_all(b"-ERR max number of clients reached\r\n");
        }
    }
}
