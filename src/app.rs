//! Builds every part of `serve` from the configuration, connects them, and runs until drained.
//!
//! Only wires: each part owns its own work. The order is the order of starting and, backwards, of
//! ending.

use crate::admin::{self, AdminError};
use crate::command::Table;
use crate::config::Config;
use crate::control::announce;
use crate::control::kubernetes::{self, KubernetesError, Place, Reporter, Troubles, WatchStatus, lease};
use crate::control::leadership::Terms;
use crate::control::pods::Pods;
use crate::control::reconcile::{self, ManageStatus};
use crate::control::refresh::{self, RefreshStatus};
use crate::proxy::{Proxy, StartError};
use crate::shutdown::{Phase, Shutdown};
use crate::telemetry::Metrics;
use crate::topology::SharedTopology;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// How long readiness waits for connections to all shards, once they are known: one that cannot be reached
/// must not keep the others from being served.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// What control tasks get to end by themselves; they wait for nothing that takes longer.
const TASK_PATIENCE: Duration = Duration::from_secs(2);

/// Descriptors for everything that serves no client alone: node connections of the workers, the admin server,
/// the control plane, files.
const SPARE_DESCRIPTORS: u64 = 512;

/// The gateway could not start, or ended of its own accord.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Proxy(#[from] StartError),
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    #[error("the control task {0} panicked; the log tells where")]
    Broken(&'static str),
    #[error("ended by a second signal before all requests were finished")]
    CutShort,
}

/// Serves until a signal, then drains.
///
/// # Errors
/// When an address cannot be used, or a control task broke.
pub async fn run(mut config: Config) -> Result<(), AppError> {
    let started = Instant::now();
    let connections = config.proxy.max_clients + config.proxy.exclusive_connections;
    raise_descriptor_limit(connections as u64 + SPARE_DESCRIPTORS);
    let shutdown = Shutdown::default();
    shutdown.drain_on_signals().map_err(AppError::Signals)?;
    let topology = Arc::new(SharedTopology::default());
    let metrics = Arc::new(Metrics::new());

    let admin = admin::Server::bind(config.admin).await?;
    let admin_addr = admin.local_addr();
    let table = Arc::new(Table::builtin());
    let proxy = Arc::new(Proxy::start(config.proxy, topology.clone(), table, metrics.clone())?);
    let status = Arc::new(RefreshStatus::default());
    let manage = config.manage.as_ref().map(|_| Arc::new(ManageStatus::default()));
    let terms = config.lease.as_ref().map(|lease| Arc::new(Terms::new(lease.identity.clone())));
    let watched = config.kubernetes.as_ref().map(|_| Arc::new(WatchStatus::default()));
    let state = admin::State {
        topology: topology.clone(),
        refresh: status.clone(),
        manage: manage.clone(),
        terms: terms.clone(),
        kubernetes: watched.clone(),
        metrics,
        shutdown: shutdown.clone(),
        started,
    };
    shutdown.spawn("admin", admin.run(state));

    let (learned, node) = oneshot::channel();
    let stopped = || {
        let shutdown = shutdown.clone();
        async move { shutdown.reached(Phase::Stopped).await }
    };
    // Completes when the manager has ended, and nothing of what it did is under way any more.
    let (managing, managed) = oneshot::channel::<Infallible>();
    if let (Some(place), Some(watched)) = (&config.kubernetes, watched) {
        let place = Place::find(place).await?;
        let (teller, pods) = watch::channel(Arc::new(Pods::default()));
        shutdown.spawn("kubernetes", kubernetes::watch(place.clone(), teller, watched.clone(), stopped()));
        config.refresh.pods = Some(pods.clone());
        if let (Some(config), Some(manage), Some(terms)) = (&mut config.manage, manage.clone(), &terms) {
            let (leads, troubles) = (terms.leadership(), Arc::<Troubles>::default());
            let reporter = Reporter {
                place: place.clone(),
                manage,
                pods: pods.clone(),
                leads: leads.clone(),
                troubles: troubles.clone(),
            };
            shutdown.spawn("report", reporter.run(stopped()));
            config.pods = Some(pods);
            config.kubernetes =
                Some(reconcile::Kubernetes { place: place.clone(), leads, watched, troubles });
        }
        if let (Some(lease), Some(terms)) = (config.lease, terms) {
            let ended = async { drop(managed.await) };
            shutdown.spawn("lease", lease::run(place, lease, terms, ended));
        }
    }
    let refresh::Config { credentials, limit, .. } = config.refresh.clone();
    shutdown.spawn("announcements", announce::listen(credentials, limit, topology.clone(), stopped()));
    let stopped = stopped();
    shutdown.spawn("refresh", refresh::run(config.refresh, topology.clone(), status, Some(learned), stopped));
    if let (Some(config), Some(status)) = (config.manage, manage) {
        let draining = {
            let shutdown = shutdown.clone();
            async move { shutdown.reached(Phase::Draining).await }
        };
        let managed = reconcile::run(config, topology, status, draining);
        shutdown.spawn("manage", async move {
            managed.await;
            drop(managing);
        });
    }
    let learner = proxy.clone();
    shutdown.spawn("learn", async move {
        // Without an answer the built-in table goes on alone.
        if let Ok(node) = node.await {
            learner.learn(node.server.as_deref(), node.commands.to_vec());
        }
    });

    let (starting, connecting) = (shutdown.clone(), proxy.clone());
    shutdown.spawn("start", async move {
        tokio::select! {
            () = connecting.connected(CONNECT_PATIENCE) => {}
            // Without a cluster there is nothing to connect to, and the end must not wait for it.
            () = starting.reached(Phase::Draining) => {}
        }
        if starting.phase() == Phase::Starting {
            starting.advance(Phase::Ready);
        }
    });
    tracing::info!(listen = %proxy.local_addr(), admin = %admin_addr, "slotgate is serving clients");
    shutdown.reached(Phase::Draining).await;
    tracing::info!(clients = proxy.clients(), timeout = ?config.drain_timeout, "draining");
    let is_drained = tokio::select! {
        () = proxy.drain(config.drain_timeout) => true,
        () = shutdown.reached(Phase::Stopped) => false,
    };
    shutdown.stop(TASK_PATIENCE).await;
    if let Some(task) = shutdown.broken() {
        return Err(AppError::Broken(task));
    }
    if !is_drained {
        return Err(AppError::CutShort);
    }
    tracing::info!("drained");
    Ok(())
}

/// Raises the soft limit of open descriptors to `needed` where the hard limit allows, as the servers do
/// for their own `maxclients`; says so when it does not.
fn raise_descriptor_limit(needed: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes an rlimit to the pointer, which is valid.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 || limit.rlim_cur >= needed {
        return;
    }
    limit.rlim_cur = needed.min(limit.rlim_max);
    // SAFETY: setrlimit reads an rlimit from the pointer, which is valid.
    let is_set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } == 0;
    if !is_set || limit.rlim_cur < needed {
        tracing::warn!(
            limit = limit.rlim_cur,
            needed,
            "too few file descriptors for max-clients and exclusive-connections; raise the limit (ulimit -n, \
             LimitNOFILE=) or lower them"
        );
    }
}
