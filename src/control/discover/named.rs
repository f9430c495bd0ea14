//! Named: all places where the operator says that nodes are: fixed seeds, a watched file of seeds, and the
//! pods that Kubernetes tells of. Notices when they change.

use super::{Seed, SeedFile};
use crate::control::pods::Pods;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

/// The pods as they were last told; the newest replaces all before.
pub type PodsWatch = watch::Receiver<Arc<Pods>>;

/// How often a watched seed file is read.
const SEED_FILE_EVERY: Duration = Duration::from_millis(500);

/// How long to wait for the next look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pause {
    /// When something hints at a change.
    pub shortest: Duration,
    /// When nothing does.
    pub longest: Duration,
}

/// The named places, as they are now.
#[derive(Debug)]
pub struct Named {
    fixed: Vec<Seed>,
    file: Option<SeedFile>,
    file_seeds: Vec<Seed>,
    file_error: Option<String>,
    file_tick: Interval,
    pods: Option<PodsWatch>,
    last_pods: Option<Arc<Pods>>,
    /// What is wrong with the file is told by one of those who read it.
    is_telling: bool,
}

impl Named {
    pub fn new(fixed: Vec<Seed>, file: Option<PathBuf>, pods: Option<PodsWatch>, is_telling: bool) -> Named {
        let mut file_tick = interval(SEED_FILE_EVERY);
        file_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Named {
            fixed,
            file: file.map(SeedFile::new),
            file_seeds: Vec::new(),
            file_error: None,
            file_tick,
            pods,
            last_pods: None,
            is_telling,
        }
    }

    /// Every place that is named now, each of the pods' addresses with them.
    pub fn seeds(&self) -> Vec<Seed> {
        let pods = self.pods().map(|pods| pods.addrs()).unwrap_or_default();
        let fixed = self.fixed.iter().chain(&self.file_seeds).cloned();
        fixed.chain(pods.into_iter().map(Seed::from)).collect()
    }

    /// The pods, where Kubernetes tells of any.
    pub fn pods(&self) -> Option<Arc<Pods>> {
        self.pods.as_ref().map(|pods| pods.borrow().clone()).or_else(|| self.last_pods.clone())
    }

    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Waits until it is time for the next look, counted from `since`: at once when other places are named or
    /// a pod changed. Gives when the hint came, if it did.
    pub async fn wait(
        &mut self,
        since: Instant,
        pause: Pause,
        hint: impl Future<Output = ()>,
    ) -> Option<Instant> {
        tokio::pin!(hint);
        let (mut wake, mut hinted) = (since + pause.longest, None);
        loop {
            tokio::select! {
                // The names first: hints come all the time while nobody is served, and they may say why.
                biased;
                () = self.changed() => return hinted,
                () = sleep_until(wake) => return hinted,
                () = &mut hint, if hinted.is_none() => {
                    (wake, hinted) = (since + pause.shortest, Some(Instant::now()));
                }
            }
        }
    }

    /// Completes when other places are named than before, or a pod changed. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            tokio::select! {
                _ = self.file_tick.tick(), if self.file.is_some() => {
                    if self.read_file().await {
                        return;
                    }
                }
                is_told = changed(&mut self.pods) => {
                    if is_told {
                        return;
                    }
                    // Nobody tells any more, as when the process ends; what was told last stays.
                    self.last_pods = self.pods.take().map(|pods| pods.borrow().clone());
                }
            }
        }
    }

    /// Reads the file if there is one; whether it names other seeds than before.
    pub async fn read_file(&mut self) -> bool {
        let Some(file) = &mut self.file else { return false };
        match file.read().await {
            Ok(None) => false,
            Ok(Some(seeds)) => {
                if self.is_telling {
                    tracing::info!(seeds = seeds.len(), "read the seed file");
                }
                self.file_error = None;
                self.file_seeds = seeds;
                true
            }
            Err(error) => {
                let error = error.to_string();
                if self.is_telling && self.file_error.as_ref() != Some(&error) {
                    tracing::warn!(error, "the seed file cannot be used; its last seeds stay in use");
                }
                self.file_error = Some(error);
                false
            }
        }
    }
}

/// Whether the pods changed; `false` when nobody tells of them any more. Never completes without pods.
async fn changed(pods: &mut Option<PodsWatch>) -> bool {
    match pods {
        Some(pods) => pods.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}
