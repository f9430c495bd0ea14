//! The process's life: starting → ready → draining → stopped, and the tasks that live with it.
//!
//! Phases only go forward. Signals, the admin server and the data plane meet here; each reads the
//! phase or waits for the next one. Owns every control task, so that none outlives the process's
//! orderly end. Workers are threads of the proxy and not owned here.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Where in its life the process is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Being built; no client is accepted.
    Starting,
    /// Clients are accepted.
    Ready,
    /// No new clients; what is under way is finished.
    Draining,
    /// Tasks must end now.
    Stopped,
}

impl Phase {
    /// The word for people and for `/readyz`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Stopped => "stopped",
        }
    }
}

/// The phase and the tasks. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Shutdown {
    shared: Arc<Shared>,
}

struct Shared {
    phase: watch::Sender<Phase>,
    tasks: Mutex<JoinSet<()>>,
    /// The first task that panicked.
    broken: Mutex<Option<&'static str>>,
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown {
            shared: Arc::new(Shared {
                phase: watch::Sender::new(Phase::Starting),
                tasks: Mutex::default(),
                broken: Mutex::default(),
            }),
        }
    }
}

impl Shutdown {
    /// The phase of this moment.
    pub fn phase(&self) -> Phase {
        *self.shared.phase.borrow()
    }

    /// Goes on to `phase`; does nothing when the process is that far already.
    pub fn advance(&self, phase: Phase) {
        self.shared.phase.send_if_modified(|now| {
            let is_later = phase > *now;
            if is_later {
                *now = phase;
            }
            is_later
        });
    }

    /// Waits until the process is at `phase` or beyond. Cancel-safe.
    pub async fn reached(&self, phase: Phase) {
        let mut receiver = self.shared.phase.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = receiver.wait_for(|now| *now >= phase).await;
    }

    /// Starts a control task. It should end by itself when the phase is [`Phase::Stopped`]; one that
    /// panics makes the process drain, as a gateway whose control plane is dead only looks alive.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let guard = PanicGuard { name, shutdown: self.clone() };
        self.tasks().spawn(async move {
            let _guard = guard;
            task.await;
        });
    }

    /// The first task that panicked, if one did.
    pub fn broken(&self) -> Option<&'static str> {
        *self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says [`Phase::Stopped`], waits for the tasks to end and aborts those that take longer than
    /// `patience`.
    pub async fn stop(&self, patience: Duration) {
        self.advance(Phase::Stopped);
        let mut tasks = std::mem::take(&mut *self.tasks());
        let all_ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all_ended).await.is_err() {
            tracing::warn!(tasks = tasks.len(), "tasks did not end in time and are aborted");
            tasks.shutdown().await;
        }
    }

    /// Starts a task that drains on SIGTERM or SIGINT, and goes on to [`Phase::Stopped`] on the next
    /// one, so that whoever waits for the drain gives up.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn drain_on_signals(&self) -> std::io::Result<()> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        self.spawn("signals", async move {
            while shutdown.phase() < Phase::Stopped {
                let name = tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = int.recv() => "SIGINT",
                    () = shutdown.reached(Phase::Stopped) => return,
                };
                if shutdown.phase() < Phase::Draining {
                    tracing::info!(signal = name, "draining; a second signal ends at once");
                    shutdown.advance(Phase::Draining);
                } else {
                    tracing::warn!(signal = name, "second signal, ending at once");
                    shutdown.advance(Phase::Stopped);
                }
            }
        });
        Ok(())
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives inside a task and notices when it unwinds.
struct PanicGuard {
    name: &'static str,
    shutdown: Shutdown,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "a control task panicked; draining");
            let mut broken = self.shutdown.shared.broken.lock().unwrap_or_else(PoisonError::into_inner);
            broken.get_or_insert(self.name);
            drop(broken);
            self.shutdown.advance(Phase::Draining);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_go_forward() {
        let shutdown = Shutdown::default();
        shutdown.advance(Phase::Draining);
        shutdown.advance(Phase::Ready);
        assert_eq!(shutdown.phase(), Phase::Draining);
    }

    #[tokio::test]
    async fn a_waiter_is_woken_by_its_phase_and_by_later_ones() {
        let shutdown = Shutdown::default();
        let waiter = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.reached(Phase::Ready).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        shutdown.advance(Phase::Stopped);
        waiter.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn stop_waits_for_tasks_that_end_and_aborts_those_that_do_not() {
        let shutdown = Shutdown::default();
        let (sender, ended) = tokio::sync::oneshot::channel();
        let waits = shutdown.clone();
        shutdown.spawn("obedient", async move {
            waits.reached(Phase::Stopped).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            sender.send(()).unwrap();
        });
        shutdown.spawn("stubborn", std::future::pending());
        shutdown.stop(Duration::from_secs(5)).await;
        assert_eq!(ended.await, Ok(()));
    }

    #[tokio::test]
    async fn a_task_that_panics_drains_the_process() {
        let shutdown = Shutdown::default();
        shutdown.spawn("clumsy", async { panic!("as the test wants") });
        shutdown.reached(Phase::Draining).await;
        assert_eq!(shutdown.broken(), Some("clumsy"));
    }
}
