//! What the commands that talk to nodes themselves have in common: login, look-up, runtime.

use super::environment;
use crate::backend::Credentials;
use crate::config::{Config, ConfigError, Settings};
use crate::control::discover::Seed;
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
    pub fn credentials(&self) -> Result<Credentials, ConfigError> {
        let (user, password_file) = (self.user.clone(), self.password_file.clone());
        let flags = Settings { user, password_file, ..Settings::default() };
        Ok(Config::load(&flags, &environment, None)?.refresh.credentials)
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
