//! What the manager asks an endpoint beyond its view: where it really is, its settings, its link.

use super::{ObserveError, observe_node};
use crate::backend::Credentials;
use crate::control::mark::{DelayMark, GuardMark};
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::control::view::{Observation, Silent};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// What a node is asked for that its view does not tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// The address at which the node itself took our connection (`laddr` of `CLIENT INFO`, Redis 6.2
    /// on): another than the one that was dialled when something between us translates addresses.
    pub local: Option<SocketAddr>,
    /// `None` when we may not ask (`CONFIG` is often kept from users).
    pub settings: Option<HealSettings>,
    /// Of a replica: its link to the primary.
    pub link: Link,
}

/// Settings that decide how a node is healed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HealSettings {
    /// `cluster-announce-ip` is set: the node does not learn its address from others.
    pub is_announced: bool,
    /// `cluster-node-timeout` as it is now.
    pub node_timeout: Duration,
    /// `cluster-migration-barrier`, in which a guard leaves its mark.
    pub migration_barrier: u64,
    /// First copies begin at once for a while, and nobody has put that back.
    pub delay_mark: Option<DelayMark>,
}

impl HealSettings {
    /// What a guard left.
    pub fn guard_mark(&self) -> Option<GuardMark> {
        GuardMark::read(self.migration_barrier)
    }

    /// `cluster-node-timeout` as the operator set it.
    pub fn usual_node_timeout(&self) -> Duration {
        self.guard_mark().map_or(self.node_timeout, |mark| mark.node_timeout)
    }
}

/// How a replica hangs on its primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// How long it has been down; `None` while it is up, and when it never was since the node's start.
    pub down_for: Option<Duration>,
    /// A first copy is on its way.
    pub is_syncing: bool,
    /// How much of the replication stream it has, in bytes.
    pub offset: u64,
}

/// What one endpoint said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub seen: Observation,
    pub facts: Facts,
}

/// Asks all endpoints at once; each has `limit` for each of its steps.
pub async fn ask_all(
    addrs: &[SocketAddr],
    credentials: &Credentials,
    limit: Duration,
) -> (Vec<Answer>, Vec<Silent>) {
    let mut asking = JoinSet::new();
    for addr in addrs.iter().copied() {
        let credentials = credentials.clone();
        asking.spawn(async move { (addr, ask(addr, &credentials, limit).await) });
    }
    let (mut answers, mut silent) = (Vec::new(), Vec::new());
    while let Some(joined) = asking.join_next().await {
        match joined {
            Ok((_, Ok(answer))) => answers.push(answer),
            Ok((addr, Err(error))) => silent.push(Silent { addr, error }),
            Err(_) => {}
        }
    }
    answers.sort_unstable_by_key(|answer| answer.seen.view.asked);
    silent.sort_unstable_by_key(|silent| silent.addr);
    (answers, silent)
}

async fn ask(addr: SocketAddr, credentials: &Credentials, limit: Duration) -> Result<Answer, ObserveError> {
    let mut client = NodeClient::connect(addr, credentials, limit).await?;
    let seen = observe_node(&mut client).await?;
    let facts = ask_facts(&mut client).await?;
    Ok(Answer { seen, facts })
}

/// Asks a node for its facts. What it does not know or tell is left out.
///
/// # Errors
/// The connection failed.
pub async fn ask_facts(client: &mut NodeClient) -> Result<Facts, NodeError> {
    let questions: [&[&str]; 4] = [
        &["CLIENT", "INFO"],
        &["INFO", "replication"],
        &["CONFIG", "GET", "cluster-*"],
        &["CONFIG", "GET", "repl-diskless-sync-max-replicas"],
    ];
    let mut replies = client.call_all(&questions).await?.into_iter();
    let mut text = || replies.next().and_then(Result::ok);
    let (own, replication, config, sync) = (text(), text(), text(), text());
    Ok(Facts {
        local: own.as_ref().and_then(bytes_of).and_then(|text| parse_local(&text)),
        link: replication.as_ref().and_then(bytes_of).map(|text| parse_link(&text)).unwrap_or_default(),
        settings: config
            .zip(sync)
            .and_then(|(config, sync)| parse_settings(&[words(&config), words(&sync)].concat())),
    })
}

fn bytes_of(reply: &Reply) -> Option<String> {
    match reply {
        Reply::BulkString(bytes) | Reply::SimpleString(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        _ => None,
    }
}

/// `id=3 addr=127.0.0.1:41206 laddr=127.0.0.1:6379 fd=8 ...`; an IPv6 address stands in brackets.
fn parse_local(text: &str) -> Option<SocketAddr> {
    text.split_ascii_whitespace().find_map(|word| word.strip_prefix("laddr="))?.parse().ok()
}

fn parse_link(text: &str) -> Link {
    let fields: HashMap<&str, &str> =
        text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let number = |name: &str| fields.get(name).and_then(|value| value.parse::<u64>().ok());
    Link {
        // -1 when it never was up.
        down_for: number("master_link_down_since_seconds").map(Duration::from_secs),
        is_syncing: number("master_sync_in_progress") == Some(1),
        offset: number("slave_repl_offset").unwrap_or(0),
    }
}

/// Names and values in turn, as `CONFIG GET` answers.
fn words(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Array(words) => words.iter().filter_map(bytes_of).collect(),
        _ => Vec::new(),
    }
}

fn parse_settings(words: &[String]) -> Option<HealSettings> {
    let of = |name: &str| words.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str());
    Some(HealSettings {
        is_announced: of("cluster-announce-ip").is_some_and(|ip| !ip.is_empty()),
        node_timeout: Duration::from_millis(of("cluster-node-timeout")?.parse().ok()?),
        migration_barrier: of("cluster-migration-barrier")?.parse().ok()?,
        delay_mark: of("repl-diskless-sync-max-replicas")
            .and_then(|value| value.parse().ok())
            .and_then(DelayMark::read),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_the_node_itself_sees_is_read() {
        let text = "id=3 addr=127.0.0.1:41206 laddr=10.0.0.7:6379 fd=8 name= age=0\n";
        assert_eq!(parse_local(text), Some("10.0.0.7:6379".parse().unwrap()));
        assert_eq!(parse_local("id=3 laddr=[fd00::1]:6379 fd=8"), Some("[fd00::1]:6379".parse().unwrap()));
        assert_eq!(parse_local("id=3 addr=127.0.0.1:41206 fd=8"), None);
    }

    #[test]
    fn a_link_that_never_was_up_has_no_age() {
        let text = "role:slave\r\nmaster_sync_in_progress:1\r\nslave_repl_offset:56\r\n\
            master_link_down_since_seconds:-1\r\n";
        assert_eq!(parse_link(text), Link { down_for: None, is_syncing: true, offset: 56 });
        let down = parse_link("master_link_down_since_seconds:7\r\n").down_for;
        assert_eq!(down, Some(Duration::from_secs(7)));
    }

    #[test]
    fn settings_are_read_or_unknown() {
        let words =
            ["cluster-announce-ip", "", "cluster-node-timeout", "5000", "cluster-migration-barrier", "1"];
        let reply = Reply::Array(words.into_iter().map(|word| Reply::BulkString(word.into())).collect());
        let expected = HealSettings {
            is_announced: false,
            node_timeout: Duration::from_secs(5),
            migration_barrier: 1,
            delay_mark: None,
        };
        assert_eq!(parse_settings(&super::words(&reply)), Some(expected));
        assert_eq!(parse_settings(&[]), None);
    }

    #[test]
    fn marks_say_what_the_settings_were_before() {
        let words = [
            ("cluster-announce-ip", ""),
            ("cluster-node-timeout", "1000"),
            ("cluster-migration-barrier", "15000001"),
            ("repl-diskless-sync-max-replicas", "105002"),
        ];
        let words: Vec<String> =
            words.iter().flat_map(|(name, value)| [*name, *value]).map(Into::into).collect();
        let settings = parse_settings(&words).unwrap();
        assert_eq!(settings.usual_node_timeout(), Duration::from_secs(15));
        assert_eq!(settings.delay_mark, Some(DelayMark { delay: 5, max_replicas: 2 }));
    }
}
