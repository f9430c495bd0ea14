//! DATA PLANE: one client command, start to finish.
//!
//! So far only the door: the address is taken, nobody is let in.

mod config;

pub use config::Config;

use crate::command::Table;
use crate::telemetry::Metrics;
use crate::topology::SharedTopology;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// The running data plane.
pub struct Proxy {
    listener: TcpListener,
}

/// The data plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "cannot listen for clients at {addr}: {error}; give another address with --listen, or stop what uses it"
    )]
    Listen { addr: SocketAddr, error: std::io::Error },
}

impl Proxy {
    /// Takes the address.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub fn start(
        config: Config,
        _topology: Arc<SharedTopology>,
        _table: Arc<Table>,
        _metrics: Arc<Metrics>,
    ) -> Result<Proxy, StartError> {
        let wrap = |error| StartError::Listen { addr: config.listen, error };
        Ok(Proxy { listener: TcpListener::bind(config.listen).map_err(wrap)? })
    }

    /// Where clients connect; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound listener has an address")
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        0
    }

    /// Accepts nobody any more, and waits until all clients are gone or `timeout` is over.
    pub async fn drain(&self, _timeout: Duration) {}

    /// Adds what a node's own `COMMAND` reply, given as its bytes, tells beyond the built-in table.
    pub fn learn(&self, _reply: Vec<u8>) {}
}
