//! HTTP for operators: `/metrics`, `/livez`, `/readyz` (and `/readyz/any`), `/api/topology`, and a page at `/`.
//!
//! Reads the topology, the metrics and the phase; changes nothing and asks no node, so it answers
//! whatever state the cluster is in. Has no authentication: it shows no data and no secret, and
//! should be reachable from inside only.

mod readiness;
mod routes;
mod scrape;
mod server;
mod topology;

pub use readiness::{NotReady, readiness};
pub use routes::State;
pub use server::{AdminError, Server};
pub use topology::{NodeReport, ShardReport, TopologyReport, report};

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

#[cfg(test)]
mod tests {
    use crate::topology::{Health, Node, Shard, SlotRange, Snapshot};

    pub(super) fn node(n: u8, health: Health) -> Node {
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 7000 + u16::from(n)));
        Node { id: format!("{n:040x}").parse().unwrap(), addr, hostname: None, health }
    }

    /// Two shards, the first with a replica that some node cannot reach; one node without a shard.
    pub(super) fn cluster() -> Snapshot {
        let nodes = [Health::Ok, Health::Ok, Health::Suspect, Health::Ok];
        let nodes = nodes.into_iter().enumerate().map(|(n, health)| node(n as u8, health)).collect();
        let shard = |primary, replicas| Shard { primary, replicas };
        let range = |start, end| vec![SlotRange::new(start, end).unwrap()];
        Snapshot::new(
            nodes,
            vec![(shard(0, vec![2]), range(0, 8191)), (shard(1, vec![]), range(8192, 16383))],
        )
        .unwrap()
    }
}
