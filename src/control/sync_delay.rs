//! A primary waits before a first copy, in case more replicas ask for one (`repl-diskless-sync-delay`, 5 s
//! unless set otherwise). While a cluster is formed all replicas are there, and nobody else comes.

use super::node_client::{NodeClient, NodeError};
use super::observe::read_settings;
use crate::backend::Credentials;
use std::net::SocketAddr;
use std::time::Duration;

const SETTING: &str = "repl-diskless-sync-delay";

/// Primaries whose delay is lifted, and what it was.
#[derive(Debug)]
pub struct Lifted<'a> {
    credentials: &'a Credentials,
    limit: Duration,
    before: Vec<(SocketAddr, String)>,
}

impl<'a> Lifted<'a> {
    /// Has the nodes send first copies at once. A node that does not allow it is left as it is: its
    /// replicas are linked some seconds later.
    pub async fn lift(nodes: &[SocketAddr], credentials: &'a Credentials, limit: Duration) -> Lifted<'a> {
        let mut lifted = Lifted { credentials, limit, before: Vec::new() };
        for addr in nodes {
            match lifted.exchange(*addr, "0").await {
                Ok(before) if before != "0" => lifted.before.push((*addr, before)),
                Ok(_) => {}
                Err(error) => tracing::debug!(%addr, %error, "first copies are not sent at once"),
            }
        }
        lifted
    }

    /// Sets the delays as they were.
    pub async fn restore(self) {
        for (addr, before) in &self.before {
            if let Err(error) = self.exchange(*addr, before).await {
                tracing::warn!(%addr, %error, "{SETTING} is still 0 and should be {before} again");
            }
        }
    }

    /// Sets the delay; returns what it was.
    async fn exchange(&self, addr: SocketAddr, value: &str) -> Result<String, NodeError> {
        let mut client = NodeClient::connect(addr, self.credentials, self.limit).await?;
        // A version that does not have it does not wait.
        let Some(before) = read_settings(&mut client, &[SETTING]).await?.remove(SETTING) else {
            return Ok("0".into());
        };
        if before != value {
            client.call(&["CONFIG", "SET", SETTING, value]).await?;
        }
        Ok(before)
    }
}
