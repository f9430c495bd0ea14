//! `CONFIG GET`: the settings of nodes that decide what happens on a bad day, asked once.

use crate::backend::Credentials;
use crate::control::node_client::{NodeClient, NodeError, Reply};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// A node's settings by name. One that its version does not have is missing.
pub type Settings = BTreeMap<String, String>;

/// Reads these settings of one node. Never `CONFIG GET *`: that answers with passwords too.
///
/// # Errors
/// No answer in time, or the node lets us read none.
pub async fn read_settings(client: &mut NodeClient, names: &[&str]) -> Result<Settings, NodeError> {
    let questions: Vec<[&str; 3]> = names.iter().map(|name| ["CONFIG", "GET", *name]).collect();
    let questions: Vec<&[&str]> = questions.iter().map(<[&str; 3]>::as_slice).collect();
    let mut settings = Settings::new();
    for reply in client.call_all(&questions).await? {
        if let Reply::Array(pair) = reply?
            && let [Reply::BulkString(name), Reply::BulkString(value)] = pair.as_slice()
        {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            settings.insert(text(name), text(value));
        }
    }
    Ok(settings)
}

/// Reads these settings of all nodes at once, each within `limit` for each step.
pub async fn observe_settings(
    addrs: &[SocketAddr],
    names: &'static [&'static str],
    credentials: &Credentials,
    limit: Duration,
) -> BTreeMap<SocketAddr, Result<Settings, NodeError>> {
    let mut asking = JoinSet::new();
    for addr in addrs.iter().copied() {
        let credentials = credentials.clone();
        asking.spawn(async move {
            let read = async {
                let mut client = NodeClient::connect(addr, &credentials, limit).await?;
                read_settings(&mut client, names).await
            };
            (addr, read.await)
        });
    }
    asking.join_all().await.into_iter().collect()
}
