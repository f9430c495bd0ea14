//! Asks nodes for their views over connections that stay open from one look to the next.

use super::Learned;
use crate::backend::Credentials;
use crate::control::node_client::{NodeClient, NodeError};
use crate::control::observe::{NodeInfo, ObserveError, observe_view};
use crate::control::view::NodeView;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How long the slowest nodes are waited for once enough of the others have answered: a frozen node
/// must not delay the news of its own failover.
const GRACE: Duration = Duration::from_millis(100);

/// What one endpoint answered.
pub(super) type Answer = (SocketAddr, Result<NodeView, ObserveError>);

/// Open connections to the nodes that were asked last.
#[derive(Debug)]
pub(super) struct Asker {
    credentials: Credentials,
    limit: Duration,
    clients: HashMap<SocketAddr, NodeClient>,
}

impl Asker {
    pub fn new(credentials: Credentials, limit: Duration) -> Asker {
        Asker { credentials, limit, clients: HashMap::new() }
    }

    /// Asks all of `addrs` at once; done when all have answered or failed, or soon after at least half
    /// of them, and two, gave views that say `ok`.
    pub async fn ask(&mut self, addrs: &[SocketAddr]) -> Vec<Answer> {
        let mut asking = JoinSet::new();
        for &addr in addrs {
            let kept = self.clients.remove(&addr);
            let (credentials, limit) = (self.credentials.clone(), self.limit);
            asking.spawn(async move {
                match ask_one(kept, addr, &credentials, limit).await {
                    Ok((client, view)) => (addr, Some(client), Ok(view)),
                    Err(error) => (addr, None, Err(error)),
                }
            });
        }
        let enough = addrs.len().div_ceil(2).max(2);
        let mut good = 0;
        let mut answers: Vec<Answer> = Vec::with_capacity(addrs.len());
        // Replaced by a moment close by once enough have answered.
        let mut patience = Instant::now() + self.limit * 4;
        loop {
            let answer = tokio::select! {
                answer = asking.join_next() => answer,
                () = sleep_until(patience) => None,
            };
            let Some(answer) = answer else { break };
            let Ok((addr, client, result)) = answer else { continue };
            good += usize::from(result.as_ref().is_ok_and(|view| view.cluster.is_ok));
            if good == enough {
                patience = patience.min(Instant::now() + GRACE);
            }
            self.clients.extend(client.map(|client| (addr, client)));
            answers.push((addr, result));
        }
        for addr in addrs {
            if !answers.iter().any(|(answered, _)| answered == addr) {
                answers.push((*addr, Err(ObserveError::GivenUp(*addr))));
            }
        }
        answers
    }

    /// Asks one node what it is and what it can do.
    pub async fn learn(&mut self, addr: SocketAddr) -> Result<Learned, NodeError> {
        let mut client = match self.clients.remove(&addr) {
            Some(client) => client,
            None => NodeClient::connect(addr, &self.credentials, self.limit).await?,
        };
        let commands = client.call_raw(&["COMMAND"]).await?;
        // A user may be kept from INFO.
        let info = client.call_text(&["INFO", "server"]).await.ok();
        if info.is_some() {
            self.clients.insert(addr, client);
        }
        Ok(Learned { server: info.map(|info| NodeInfo::parse(&info).server), commands })
    }

    /// Closes all connections but those to these endpoints.
    pub fn keep(&mut self, endpoints: &BTreeSet<SocketAddr>) {
        self.clients.retain(|addr, _| endpoints.contains(addr));
    }
}

async fn ask_one(
    kept: Option<NodeClient>,
    addr: SocketAddr,
    credentials: &Credentials,
    limit: Duration,
) -> Result<(NodeClient, NodeView), ObserveError> {
    if let Some(mut client) = kept {
        match observe_view(&mut client).await {
            Ok(view) => return Ok((client, view)),
            // The node may have closed it for being idle, or was restarted.
            Err(ObserveError::Node(NodeError::Broken { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    let mut client = NodeClient::connect(addr, credentials, limit).await?;
    let view = observe_view(&mut client).await?;
    Ok((client, view))
}
