//! A primary waits before a first copy, in case more replicas ask for one (`repl-diskless-sync-delay`, 5 s
//! unless set otherwise). While a cluster is formed all replicas are there, and nobody else comes: the delay
//! is lifted for that time, and a mark on the node says what it was ([`DelayMark`]).

use super::mark::DelayMark;
use super::node_client::{NodeClient, NodeError};
use super::observe::read_settings;
use crate::backend::Credentials;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

const DELAY: &str = "repl-diskless-sync-delay";
/// Since Redis 7, as the `CONFIG SET` of several settings is. Older ones send no diskless copies unless told
/// to; then replicas are linked some seconds later.
const MAX_REPLICAS: &str = "repl-diskless-sync-max-replicas";

/// Has the nodes send first copies at once. A node that does not allow it is left as it is: its replicas
/// are linked some seconds later.
pub async fn lift_all(nodes: &[SocketAddr], credentials: &Credentials, limit: Duration) {
    for addr in nodes {
        let lifted = async {
            let mut client = NodeClient::connect(*addr, credentials, limit).await?;
            lift(&mut client).await
        };
        if let Err(error) = lifted.await {
            tracing::debug!(%addr, %error, "first copies are not sent at once");
        }
    }
}

/// Sets the delays as they were wherever they were lifted, by us or by a run that was killed.
pub async fn restore_all(nodes: &[SocketAddr], credentials: &Credentials, limit: Duration) {
    let mut restoring = JoinSet::new();
    for addr in nodes.iter().copied() {
        let credentials = credentials.clone();
        restoring.spawn(async move {
            let restored = async {
                let mut client = NodeClient::connect(addr, &credentials, limit).await?;
                restore(&mut client).await
            };
            if let Err(error) = restored.await {
                tracing::warn!(%addr, %error, "could not look whether {DELAY} is as it was, or set it so");
            }
        });
    }
    restoring.join_all().await;
}

async fn lift(client: &mut NodeClient) -> Result<(), NodeError> {
    let Some((delay, max_replicas)) = read(client).await? else { return Ok(()) };
    if delay == 0 || DelayMark::read(max_replicas).is_some() {
        return Ok(());
    }
    let Some(marked) = (DelayMark { delay, max_replicas }).write() else { return Ok(()) };
    set(client, 0, marked).await
}

/// Sets the delay as it was, if it was lifted; says whether it was.
///
/// # Errors
/// The node does not answer, or does not let us.
pub(super) async fn restore(client: &mut NodeClient) -> Result<bool, NodeError> {
    let Some((_, max_replicas)) = read(client).await? else { return Ok(false) };
    let Some(mark) = DelayMark::read(max_replicas) else { return Ok(false) };
    set(client, mark.delay, mark.max_replicas).await?;
    Ok(true)
}

/// Both settings; `None` where there are none.
async fn read(client: &mut NodeClient) -> Result<Option<(u64, u64)>, NodeError> {
    let settings = read_settings(client, &[DELAY, MAX_REPLICAS]).await?;
    let number = |name: &str| settings.get(name)?.parse().ok();
    Ok(number(DELAY).zip(number(MAX_REPLICAS)))
}

/// In one command, so that nobody sees one without the other.
async fn set(client: &mut NodeClient, delay: u64, max_replicas: u64) -> Result<(), NodeError> {
    let (delay, max_replicas) = (delay.to_string(), max_replicas.to_string());
    client.call(&["CONFIG", "SET", DELAY, &delay, MAX_REPLICAS, &max_replicas]).await?;
    Ok(())
}
