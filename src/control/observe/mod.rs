//! observe: ask every endpoint at once what it is and what it sees, each with a deadline.

mod answer;
mod info;
mod node_line;
#[cfg(test)]
mod recorded;
mod settings;
mod slot_keys;
mod slot_loads;

pub use answer::{Answer, Facts, HealSettings, Link, ask_all, ask_facts};
pub use info::{ClusterInfo, Memory, NodeInfo, Release, Role};
pub use node_line::{Direction, Flags, NodeLine, NodeLineError, OpenSlot, parse_nodes};
pub use settings::{Settings, observe_settings, read_settings};
pub use slot_keys::{SlotKeys, count_slot_keys, observe_slot_keys};
pub use slot_loads::observe_slot_loads;

use super::node_client::{NodeClient, NodeError, Reply};
use super::view::{NodeView, Observation, Silent, View};
use crate::backend::Credentials;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// How often members that were just heard of are asked for more: one round finds all of a cluster whose
/// nodes know each other.
const ROUNDS: usize = 3;

/// The first release that keeps an id of each node's shard, and remembers them over restarts.
const HAS_SHARD_IDS: Release = Release(7, 2);

/// Why an endpoint gave no view.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("{addr}: {source}")]
    Line { addr: SocketAddr, source: NodeLineError },
    #[error("{0} does not list itself in CLUSTER NODES")]
    NoMyself(SocketAddr),
    #[error(
        "{0} has cluster support disabled: set `cluster-enabled yes` in its configuration and restart it"
    )]
    NotCluster(SocketAddr),
    #[error("asking {0} was given up")]
    GivenUp(SocketAddr),
}

/// Asks one node what it sees of the cluster.
///
/// # Errors
/// No answer in time, or one that cannot be read.
pub async fn observe_view(client: &mut NodeClient) -> Result<NodeView, ObserveError> {
    let [nodes, cluster] = client.call_texts([&["CLUSTER", "NODES"], &["CLUSTER", "INFO"]]).await?;
    read_view(client.addr(), &nodes, &cluster)
}

/// Asks one node what it sees of the cluster and what it is.
///
/// # Errors
/// No answer in time, one that cannot be read, or the node is not part of any cluster.
pub async fn observe_node(client: &mut NodeClient) -> Result<Observation, ObserveError> {
    let addr = client.addr();
    let mut info = NodeInfo::parse(&client.call_text(&["INFO"]).await?);
    if !info.is_cluster {
        return Err(ObserveError::NotCluster(addr));
    }
    if info.release >= HAS_SHARD_IDS {
        info.shards = match client.call(&["CLUSTER", "SHARDS"]).await? {
            Reply::Array(shards) => Some(shards.len()),
            _ => return Err(NodeError::Unexpected { addr, what: "CLUSTER SHARDS".into() }.into()),
        };
    }
    Ok(Observation { view: observe_view(client).await?, info })
}

/// Asks all endpoints at once; each has `limit` for each of its steps.
pub async fn observe_all(addrs: &[SocketAddr], credentials: &Credentials, limit: Duration) -> View {
    let mut asking = JoinSet::new();
    for (ix, addr) in addrs.iter().copied().enumerate() {
        let credentials = credentials.clone();
        asking.spawn(async move {
            let observed = async {
                let mut client = NodeClient::connect(addr, &credentials, limit).await?;
                observe_node(&mut client).await
            };
            (ix, addr, observed.await)
        });
    }
    let mut answers: Vec<_> = Vec::with_capacity(addrs.len());
    while let Some(answer) = asking.join_next().await {
        answers.extend(answer.ok());
    }
    answers.sort_unstable_by_key(|(ix, ..)| *ix);
    let mut view = View::default();
    for (_, addr, observed) in answers {
        match observed {
            Ok(observation) => view.nodes.push(observation),
            Err(error) => view.silent.push(Silent { addr, error }),
        }
    }
    view
}

/// Asks the nodes at `addrs`, and all members that these and others tell of.
pub async fn observe_cluster(addrs: &[SocketAddr], credentials: &Credentials, limit: Duration) -> View {
    let mut view = observe_all(addrs, credentials, limit).await;
    let mut asked: BTreeSet<SocketAddr> = addrs.iter().copied().collect();
    for _ in 0..ROUNDS {
        let told: BTreeSet<SocketAddr> =
            view.nodes.iter().flat_map(|node| untold(&view, &node.view)).collect();
        let new: Vec<SocketAddr> = told.into_iter().filter(|addr| asked.insert(*addr)).collect();
        if new.is_empty() {
            break;
        }
        let more = observe_all(&new, credentials, limit).await;
        view.nodes.extend(more.nodes);
        view.silent.extend(more.silent);
    }
    // One node may have been asked under two addresses, its own and the one that was given.
    let mut seen = BTreeSet::new();
    view.nodes.retain(|node| seen.insert(node.view.id()));
    view
}

/// Where members are that one node tells of and that were not asked yet.
fn untold(view: &View, told: &NodeView) -> Vec<SocketAddr> {
    let unasked = told.members().filter(|line| view.of(line.id).is_none());
    unasked.filter_map(|line| line.addr(told.asked)).collect()
}

fn read_view(asked: SocketAddr, nodes: &str, cluster: &str) -> Result<NodeView, ObserveError> {
    let lines = parse_nodes(nodes).map_err(|source| ObserveError::Line { addr: asked, source })?;
    NodeView::new(asked, ClusterInfo::parse(cluster), lines).ok_or(ObserveError::NoMyself(asked))
}
