//! `slotgate serve`: the gateway itself.

use super::{Exit, environment};
use crate::app;
use crate::config::{Config, Settings};
use crate::telemetry::logging;
use std::path::PathBuf;

/// Serve a cluster to plain clients as one Redis
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate serve --seed redis-0:6379
  slotgate serve --seed redis.prod.svc:6379 --listen 0.0.0.0:6380 --workers 4
  slotgate serve --config /etc/slotgate.toml --password-file /run/secrets/redis
  slotgate serve --seed-file nodes.txt --manage --pause-file /run/slotgate/pause
  slotgate serve --seed-file nodes.txt --manage --journal-file /var/lib/slotgate/journal.json
  slotgate serve --kubernetes --manage --statefulset redis --seed redis-svc:6379
  SLOTGATE_SEED=redis-0:6379 SLOTGATE_MAX_CLIENTS=500 slotgate serve

Each setting can be given as a flag, as an environment variable (SLOTGATE_ and the flag's name, in
capitals, with _ for -) or in a file (--config, TOML or YAML, the flags' names as keys). A flag wins over
the environment, the environment over the file. 'slotgate config show' takes the same flags and prints
what would count and why.

With --manage it also keeps the cluster whole, and tells at /api/status of the admin address what is wrong,
what it does and what it leaves to you. --seed-file is then the list of all nodes: a new empty node in it is
given the place of a missing replica, and a node that is in it no more and gone for long is forgotten.

A manager that is killed is continued by the next one: what is done, the nodes say, and what was changed on
them for a while, they carry a mark of. With --journal-file it also keeps which nodes are of the cluster, so
that the next one tells them from another cluster's at their old addresses, and says what was cut short.

With --kubernetes the gateways of one StatefulSet elect by a Lease the one whose --manage acts; the others
look, tell and serve. Who is elected is told at /api/status, and the Lease given back at the end.

With --kubernetes and --manage the journal is in the ConfigMap slotgate-journal-STATEFULSET, what is done and
found is told by Events on the StatefulSet, and the ConfigMap slotgate-status has the status ('slotgate status
--kubernetes' shows it). 'kubectl annotate statefulset redis slotgate.dev/paused=true' stops all changes.

SIGTERM and SIGINT drain: no new clients, /readyz fails, requests under way are finished within
--drain-timeout. A second signal ends at once, with exit code 1.")]
pub struct Args {
    #[command(flatten)]
    pub file: ConfigFile,
    #[command(flatten)]
    pub settings: Settings,
}

/// Which settings file is read.
#[derive(clap::Args)]
pub struct ConfigFile {
    /// A file of settings, TOML or YAML (or SLOTGATE_CONFIG)
    #[arg(long = "config", value_name = "FILE", help_heading = "Service")]
    path: Option<PathBuf>,
}

impl ConfigFile {
    /// The flag's file, or the environment's.
    pub fn path(&self) -> Option<PathBuf> {
        self.path.clone().or_else(|| std::env::var_os("SLOTGATE_CONFIG").map(PathBuf::from))
    }
}

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let config = match Config::load(&args.settings, &environment, args.file.path().as_deref()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Ok(Exit::Usage);
        }
    };
    let refresh = &config.refresh;
    if refresh.seeds.is_empty() && refresh.seed_file.is_none() && config.kubernetes.is_none() {
        eprintln!(
            "slotgate: no node to start from; give one or more with --seed HOST:PORT[,HOST:PORT...] (or \
             SLOTGATE_SEED), or --seed-file FILE, or --kubernetes"
        );
        return Ok(Exit::Usage);
    }
    logging::init(&config.log);
    // Everything but the workers, which have threads of their own, waits most of the time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(app::run(config))?;
    Ok(Exit::Fine)
}
