//! What the commands that talk to nodes themselves have in common: login, look-up, the first look at
//! all nodes, the question before a change, runtime.

use super::{Ended, environment};
use crate::backend::Credentials;
use crate::config::{Config, Settings};
use crate::control::discover::Seed;
use crate::control::node_client::NodeError;
use crate::control::observe::{ObserveError, observe_cluster};
use crate::control::problem::join;
use crate::control::view::{Silent, View};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Who we are towards nodes.
#[derive(clap::Args)]
pub struct Login {
    /// The ACL user towards nodes
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A file with the password towards nodes (or put the password itself into SLOTGATE_PASSWORD)
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Login {
    /// The credentials of flags and environment, found as `serve` finds them.
    ///
    /// # Errors
    /// A password file that cannot be read, or a user without a password.
    pub fn credentials(&self) -> Result<Credentials, Ended> {
        let (user, password_file) = (self.user.clone(), self.password_file.clone());
        let flags = Settings { user, password_file, ..Settings::default() };
        let config = Config::load(&flags, &environment, None).map_err(Ended::usage)?;
        Ok(config.refresh.credentials)
    }
}

/// What one node gets for each answer; a person waits.
pub const LIMIT: Duration = Duration::from_secs(5);

/// Where a cluster is found, and who we are towards its nodes.
#[derive(clap::Args)]
pub struct Cluster {
    /// Nodes to begin with; one that answers is enough
    #[arg(value_name = "HOST:PORT", required = true)]
    pub nodes: Vec<Seed>,
    #[command(flatten)]
    pub login: Login,
}

impl Cluster {
    /// Asks all nodes that can be found through those that were named.
    ///
    /// # Errors
    /// Not a single node answered; the text says why, and what to do.
    pub async fn observe(&self, credentials: &Credentials) -> anyhow::Result<View> {
        reach(&resolve(&self.nodes, LIMIT).await?, credentials).await
    }
}

/// Zones of nodes that do not tell theirs.
#[derive(clap::Args)]
pub struct Zones {
    /// The zone of a node, may be given several times: what is in one zone is lost together. Valkey nodes
    /// tell their own (availability-zone)
    #[arg(long = "zone", value_name = "HOST:PORT=ZONE", value_parser = read_zone)]
    zones: Vec<(Seed, String)>,
}

fn read_zone(text: &str) -> Result<(Seed, String), String> {
    let wrong = || "write it as HOST:PORT=ZONE, such as redis-0:6379=eu-1a".to_string();
    let (seed, zone) = text.split_once('=').ok_or_else(wrong)?;
    if zone.is_empty() { Err(wrong()) } else { Ok((seed.parse().map_err(|_| wrong())?, zone.to_string())) }
}

impl Zones {
    /// Puts the nodes into the zones that were named.
    ///
    /// # Errors
    /// No node is at such an address.
    pub async fn tell(&self, view: &mut View) -> anyhow::Result<()> {
        for (seed, zone) in &self.zones {
            let addrs = resolve(std::slice::from_ref(seed), LIMIT).await?;
            let node = view.nodes.iter_mut().find(|node| addrs.contains(&node.view.asked));
            let node =
                node.ok_or_else(|| Ended::usage(format!("--zone names {seed}, where no node answers")))?;
            node.info.zone = Some(zone.clone());
        }
        Ok(())
    }
}

/// Asks all nodes that can be found through those at `addrs`.
///
/// # Errors
/// Not a single node answered; the text says why, and what to do.
pub async fn reach(addrs: &[SocketAddr], credentials: &Credentials) -> anyhow::Result<View> {
    let view = observe_cluster(addrs, credentials, LIMIT).await;
    anyhow::ensure!(
        !view.nodes.is_empty(),
        "no node of the cluster could be asked:\n{}",
        each_with_next_step(&view.silent)
    );
    Ok(view)
}

/// Why each of these could not be asked, and what to do, a line each.
pub fn each_with_next_step(silent: &[Silent]) -> String {
    let each: Vec<String> =
        silent.iter().map(|silent| format!("  {}", with_next_step(&silent.error))).collect();
    join(&each, "\n")
}

/// Why a node could not be asked, and what to do.
pub fn with_next_step(error: &ObserveError) -> String {
    format!("{error}; {}", next_step(error))
}

/// # Errors
/// A node cannot write to its disk. Whatever changes in its cluster, it must write down (`nodes.conf`), and
/// a server that cannot ends itself.
pub fn all_can_write(view: &View) -> Result<(), Ended> {
    match view.nodes.iter().find(|node| node.info.has_save_failed) {
        None => Ok(()),
        Some(node) => {
            let addr = node.view.asked;
            Err(Ended::refused(format!(
                "{addr} could not write its data to disk, and a node that cannot write ends itself as soon as its \
                 cluster changes; nothing was changed. Make room on its disk, let it save once more ('redis-cli -h {} \
                 -p {} BGSAVE'), and run the same command again",
                addr.ip(),
                addr.port()
            )))
        }
    }
}

/// What a person does about a node that gave no answer.
fn next_step(error: &ObserveError) -> &'static str {
    match error {
        ObserveError::Node(NodeError::Refused { text, .. }) if text.starts_with("NOAUTH") => {
            "it wants a password: give it with --password-file FILE or in SLOTGATE_PASSWORD"
        }
        ObserveError::Node(NodeError::Refused { text, .. }) if text.contains("without any password") => {
            "it has no password: set requirepass and masterauth on it as on the others, or name another node"
        }
        ObserveError::Node(NodeError::Refused { what, .. }) if what == "AUTH" => {
            "check the password in --password-file or SLOTGATE_PASSWORD, and the user in --user or SLOTGATE_USER"
        }
        ObserveError::Node(NodeError::Refused { text, .. }) if text.starts_with("NOPERM") => {
            "let this ACL user run INFO and CLUSTER"
        }
        ObserveError::Node(NodeError::Connect { .. } | NodeError::Timeout { .. }) => {
            "is it running, and is this its client port? Start it, or name another node"
        }
        ObserveError::NotCluster(_) => "or name another node",
        _ => "is a Redis or Valkey server listening there? Name another node",
    }
}

/// All addresses of all seeds.
///
/// # Errors
/// No seed could be looked up.
pub async fn resolve(seeds: &[Seed], limit: Duration) -> anyhow::Result<Vec<SocketAddr>> {
    let (mut addrs, mut failed) = (BTreeSet::new(), Vec::new());
    for seed in seeds {
        match seed.resolve(limit).await {
            Ok(found) => addrs.extend(found),
            Err(error) => failed.push(format!("cannot look up {seed}: {error}")),
        }
    }
    anyhow::ensure!(!addrs.is_empty(), "{}", failed.join("; "));
    Ok(addrs.into_iter().collect())
}

/// One thread is enough for work that waits.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
