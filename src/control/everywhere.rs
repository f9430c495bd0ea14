//! One command on many nodes at once: any command, or a setting that is changed and kept.

use super::node_client::{NodeClient, NodeError, Reply};
use super::observe::read_settings;
use super::view::View;
use crate::backend::Credentials;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// A node that is asked, with what is known of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    pub addr: SocketAddr,
    pub is_primary: bool,
    pub has_config_file: bool,
}

/// All nodes that answered, primaries first.
pub fn targets(view: &View) -> Vec<Target> {
    let target = |node: &super::view::Observation| Target {
        addr: node.view.asked,
        is_primary: node.view.myself().primary.is_none(),
        has_config_file: node.info.has_config_file,
    };
    let mut targets: Vec<Target> = view.nodes.iter().map(target).collect();
    targets.sort_by_key(|target| (!target.is_primary, target.addr));
    targets
}

/// Gives the command to all at once; the answers come in the order of `targets`.
pub async fn call(
    targets: &[Target],
    command: &[Vec<u8>],
    credentials: &Credentials,
    limit: Duration,
) -> Vec<(Target, Result<Reply, NodeError>)> {
    let command = command.to_vec();
    on_each(targets, credentials, limit, move |mut client, _| {
        let command = command.clone();
        async move { client.call(&command).await }
    })
    .await
}

/// What a change of a setting came to on one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The value that the node tells afterwards, in its own notation.
    pub now: String,
    pub kept: Kept,
}

/// Whether a change survives a restart of the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kept {
    /// In its configuration file.
    Written,
    /// It was started without a file.
    NoFile,
    /// The file could not be written.
    Failed(String),
}

/// Reads one setting of all; `None` of a node whose version does not have it.
pub async fn read_setting(
    targets: &[Target],
    name: &str,
    credentials: &Credentials,
    limit: Duration,
) -> Vec<(Target, Result<Option<String>, NodeError>)> {
    let name = name.to_ascii_lowercase();
    on_each(targets, credentials, limit, move |mut client, _| {
        let name = name.clone();
        async move { Ok(read_settings(&mut client, &[&name]).await?.remove(&name)) }
    })
    .await
}

/// Changes one setting on all (`CONFIG SET`) and keeps it where there is a file (`CONFIG REWRITE`).
pub async fn change_setting(
    targets: &[Target],
    name: &str,
    value: &[u8],
    credentials: &Credentials,
    limit: Duration,
) -> Vec<(Target, Result<Change, NodeError>)> {
    let (name, value) = (name.to_ascii_lowercase(), value.to_vec());
    on_each(targets, credentials, limit, move |mut client, target| {
        let (name, value) = (name.clone(), value.clone());
        async move {
            client.call(&[b"CONFIG", &b"SET"[..], name.as_bytes(), &value]).await?;
            let now = read_settings(&mut client, &[&name]).await?.remove(&name).unwrap_or_default();
            let kept = match target.has_config_file {
                false => Kept::NoFile,
                true => match client.call(&["CONFIG", "REWRITE"]).await {
                    Ok(_) => Kept::Written,
                    Err(NodeError::Refused { text, .. }) => Kept::Failed(text),
                    Err(error) => return Err(error),
                },
            };
            Ok(Change { now, kept })
        }
    })
    .await
}

/// Does something on a connection of its own to each node, all at once.
async fn on_each<T: Send + 'static, F: Future<Output = Result<T, NodeError>> + Send>(
    targets: &[Target],
    credentials: &Credentials,
    limit: Duration,
    work: impl Fn(NodeClient, Target) -> F + Clone + Send + 'static,
) -> Vec<(Target, Result<T, NodeError>)> {
    let mut working = JoinSet::new();
    for (ix, target) in targets.iter().copied().enumerate() {
        let (credentials, work) = (credentials.clone(), work.clone());
        working.spawn(async move {
            let done = match NodeClient::connect(target.addr, &credentials, limit).await {
                Ok(client) => work(client, target).await,
                Err(error) => Err(error),
            };
            (ix, target, done)
        });
    }
    let mut done = working.join_all().await;
    done.sort_unstable_by_key(|(ix, ..)| *ix);
    done.into_iter().map(|(_, target, done)| (target, done)).collect()
}
