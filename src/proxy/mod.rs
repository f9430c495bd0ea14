//! DATA PLANE: one client command, start to finish.
//!
//! ```text
//! listener → worker → read (frame) → dispatch (name, keys → router: Route) → held / backend
//!     → settle (redirect: again? fanout: merge) → pipeline → worker → client
//! ```
//! Everything between `worker`'s reads and writes is free of IO and happens on one `Core` a
//! thread.

mod answer;
mod blocking;
mod client_command;
mod client_line;
mod client_state;
mod clock;
#[cfg(test)]
mod compatibility;
mod config;
mod configure;
mod core;
#[cfg(test)]
mod core_tests;
mod cursor;
mod debug;
mod dispatch;
mod doubt;
mod ears;
mod effects;
mod epoll;
mod errand;
pub mod error_reply;
mod everywhere;
mod exclusive;
mod fanout;
mod feed;
mod flight;
mod gather;
mod harmless;
mod held;
mod info;
mod info_fields;
mod kept;
mod key_slots;
mod large_reply;
mod links;
mod listener;
mod listeners;
mod local;
mod lost;
mod messages;
mod notice;
mod paused_call;
mod pinned;
mod pipeline;
mod pubsub;
mod read;
pub mod redirect;
mod replay;
mod reply_parts;
mod reports;
pub mod router;
mod scripts;
mod session;
mod settings;
mod settle;
mod slot_tag;
mod slow_log;
mod splice;
mod stats;
mod subscriber;
mod tracking;
mod traits;
mod upload;
mod wait;
mod watch;
mod watched_keys;
mod worker;

pub use config::{Config, CrossSlot};
pub use errand::only_reads;
pub use stats::Stats;

use self::core::Core;
use self::epoll::Epoll;
use self::listener::{Listener, ListenerHandle};
use self::worker::{Order, Worker, WorkerHandle};
use crate::command::{Table, parse_command_reply};
use crate::telemetry::{Metrics, Recorder};
use crate::topology::SharedTopology;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The running data plane.
pub struct Proxy {
    addr: SocketAddr,
    listener: ListenerHandle,
    workers: Arc<Vec<WorkerHandle>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    table: Mutex<Arc<Table>>,
    topology: Arc<SharedTopology>,
    stats: Arc<Stats>,
}

/// The data plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "cannot listen for clients at {addr}: {error}; give another address with --listen, or stop what uses it"
    )]
    Listen { addr: SocketAddr, error: std::io::Error },
    #[error("cannot start a worker thread: {0}")]
    Thread(std::io::Error),
}

impl Proxy {
    /// Takes the address and starts the workers; clients are served from now on, and held until the
    /// topology is known.
    ///
    /// # Errors
    /// When the address is in use or not ours, or the system gives no thread.
    pub fn start(
        mut config: Config,
        topology: Arc<SharedTopology>,
        table: Arc<Table>,
        metrics: Arc<Metrics>,
    ) -> Result<Proxy, StartError> {
        let wrap = |error| StartError::Listen { addr: config.listen, error };
        let (listener, listener_handle) = Listener::bind(config.listen).map_err(wrap)?;
        let addr = listener.local_addr().map_err(wrap)?;
        config.listen = addr;
        let config = Arc::new(config);
        let stats = Arc::new(Stats::default());
        let (mut workers, mut threads) = (Vec::new(), Vec::new());
        for number in 0..config.workers.max(1) {
            let mut core = Core::new(
                config.clone(),
                table.clone(),
                topology.clone(),
                stats.clone(),
                Recorder::new(metrics.clone()),
            );
            core.worker = number;
            let (handle, run) = prepare(core).map_err(StartError::Thread)?;
            workers.push(handle);
            threads.push(spawn(format!("worker-{number}"), move || {
                let _guard = AbortOnPanic;
                if let Err(error) = run() {
                    tracing::error!(%error, "a worker has ended");
                }
            })?);
        }
        let workers = Arc::new(workers);
        let peers = Arc::downgrade(&workers);
        stats.peers.introduce(workers.len(), move |worker, notice| {
            if let Some(workers) = peers.upgrade() {
                workers[worker].tell(Order::Notice(notice));
            }
        });
        let (places, clients, most) = (workers.clone(), stats.clone(), config.max_clients);
        let rejected = Mutex::new(Recorder::new(metrics));
        threads.push(spawn("listener".to_string(), move || {
            listener.run(&places, &clients, most, || {
                let mut recorder = rejected.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                recorder.client_rejected();
                recorder.flush();
            });
        })?);
        let woken = Arc::downgrade(&workers);
        topology.on_change(move || {
            for worker in woken.upgrade().iter().flat_map(|workers| workers.iter()) {
                worker.tell(Order::Topology);
            }
        });
        Ok(Proxy {
            addr,
            listener: listener_handle,
            workers,
            threads: Mutex::new(threads),
            table: Mutex::new(table),
            topology,
            stats,
        })
    }

    /// Where clients connect; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.stats.connected()
    }

    /// Accepts nobody any more, and waits until all clients are gone or `timeout` is over; then ends the
    /// workers.
    pub async fn drain(&self, timeout: Duration) {
        self.listener.close();
        self.workers.iter().for_each(|worker| worker.tell(Order::Drain));
        let deadline = Instant::now() + timeout;
        while self.clients() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.workers.iter().for_each(|worker| worker.tell(Order::Stop));
        let threads = std::mem::take(&mut *lock(&self.threads));
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        let _ = joined.await;
    }

    /// Waits until every worker is connected to every shard, or for `patience` after the topology is known.
    pub async fn connected(&self, patience: Duration) {
        let mut deadline = None;
        while self.stats.connected_workers() < self.workers.len() {
            if self.topology.load().covered() > 0 {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience);
                if Instant::now() >= deadline {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Takes over what a node tells of itself: its name and version, as in `redis 7.0.15`, where it tells, and what its
    /// `COMMAND` reply, given as its bytes, has beyond the built-in table.
    pub fn learn(&self, server: Option<&str>, reply: Vec<u8>) {
        if let Some(server) = server {
            self.stats.set_server(server);
        }
        let commands = match parse_command_reply(&reply) {
            Ok(commands) => commands,
            Err(error) => return tracing::warn!(%error, "a node's COMMAND reply is not understood"),
        };
        let mut table = lock(&self.table);
        let mut extended = Table::clone(&table);
        let added = extended.extend(commands);
        if added > 0 {
            tracing::info!(added, "the nodes know more commands");
        }
        *table = Arc::new(extended);
        self.workers.iter().for_each(|worker| worker.tell(Order::Learn(table.clone())));
    }
}

/// A worker that is gone would leave its clients waiting for ever, and new ones would still be placed on it:
/// better to end as a whole and be started again.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

type Run = Box<dyn FnOnce() -> std::io::Result<()> + Send>;

/// A worker around `core`: its handle, and what its thread does.
fn prepare(core: Core) -> std::io::Result<(WorkerHandle, Run)> {
    let (io, waker) = Epoll::new()?;
    let (handle, orders) = worker::handle(move || drop(waker.wake()));
    Ok((handle, Box::new(move || Worker::new(core, io, orders).run())))
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name).spawn(run).map_err(StartError::Thread)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
