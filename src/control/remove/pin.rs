//! Keeps a node that gives its last slot away, and its replicas, from following the slots' new owner by
//! themselves: each would copy all of that one's keys for nothing.
//!
//! The setting is `cluster-allow-replica-migration` (Redis 7.0 on). It is lifted to what the other
//! members have, which needs no memory of what it was: a run that was killed is tidied up by the next.
//! Where it cannot be read or set, nothing is lost but that time.

use crate::backend::Credentials;
use crate::control::everywhere::{Target, read_setting, targets};
use crate::control::migrate::Journey;
use crate::control::node_client::{NodeClient, NodeError};
use crate::control::view::View;
use crate::topology::NodeId;
use std::net::SocketAddr;
use std::time::Duration;

const SETTING: &str = "cluster-allow-replica-migration";

/// The leaver and its replicas.
pub(super) struct Pins {
    nodes: Vec<SocketAddr>,
    /// Whether the other members let nodes follow slots; otherwise there is nothing to do.
    is_needed: bool,
    credentials: Credentials,
    limit: Duration,
}

impl Pins {
    pub(super) async fn read(journey: &Journey, view: &View, leaver: NodeId) -> Pins {
        let (credentials, limit) = (journey.credentials.clone(), journey.limit);
        let is_leaving = |addr: SocketAddr| {
            view.at(addr)
                .is_some_and(|node| node.view.id() == leaver || node.view.myself().primary == Some(leaver))
        };
        let (leaving, others): (Vec<Target>, Vec<Target>) =
            targets(view).into_iter().partition(|target| is_leaving(target.addr));
        let answers = read_setting(&others, SETTING, &credentials, limit).await;
        let is_needed = answers.iter().any(|(_, answer)| matches!(answer, Ok(Some(value)) if value == "yes"));
        let nodes = leaving.into_iter().map(|target| target.addr).collect();
        Pins { nodes, is_needed, credentials, limit }
    }

    pub(super) async fn pin(&self) {
        for addr in &self.nodes {
            self.set(*addr, "no").await;
        }
    }

    pub(super) async fn unpin_all(&self) {
        for addr in &self.nodes {
            self.unpin(*addr).await;
        }
    }

    pub(super) async fn unpin(&self, addr: SocketAddr) {
        self.set(addr, "yes").await;
    }

    async fn set(&self, addr: SocketAddr, value: &str) {
        if !self.is_needed {
            return;
        }
        let set = async {
            let mut client = NodeClient::connect(addr, &self.credentials, self.limit).await?;
            client.call(&["CONFIG", "SET", SETTING, value]).await?;
            Ok::<_, NodeError>(())
        };
        // Without it the node follows the slots, and is taken from there.
        let _ = set.await;
    }
}
