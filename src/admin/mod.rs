//! HTTP for operators.

use std::net::{Ipv4Addr, SocketAddr};

/// The settings of the admin server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Config {
        // The port that Redis' Prometheus exporters use, so scrape configurations fit.
        Config { listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9121)) }
    }
}
