//! act, healing: the steps that repair a cluster, each with its precondition looked at once more.

use super::act::{ActError, Acted};
use super::action::Party;
use super::mark::GuardMark;
use super::node_client::{NodeClient, NodeError};
use super::observe::{Facts, Flags, HealSettings, Release, Role, ask_facts};
use super::plan::heal_guard::HASTY;
use super::plan::heal_orphans::is_accused;
use super::view::Observation;
use crate::topology::NodeId;
use std::net::{IpAddr, SocketAddr};

/// The first release whose `CONFIG SET` takes several settings, all or none.
const SETS_SEVERAL: Release = Release(7, 0);

/// Points a replica at its primary once more, unless it found it meanwhile.
pub(super) async fn relink(
    client: &mut NodeClient,
    node: &Observation,
    primary: Party,
) -> Result<Acted, ActError> {
    let changed = ActError::Changed { addr: node.view.asked, id: primary.id };
    if node.view.myself().primary != Some(primary.id) {
        return Err(changed);
    }
    let line = node.view.line(primary.id);
    if line.and_then(|line| line.addr(node.view.asked)) != Some(primary.addr) {
        return Err(changed);
    }
    if matches!(node.info.role, Role::Replica { is_link_up: true, .. }) {
        return Ok(Acted::AlreadyDone);
    }
    client.call(&["CLUSTER", "REPLICATE", primary.id.as_str()]).await?;
    Ok(Acted::Done)
}

/// Corrects `cluster-announce-ip`, where it is set.
pub(super) async fn announce(
    client: &mut NodeClient,
    node: &Observation,
    ip: IpAddr,
) -> Result<Acted, ActError> {
    if node.view.myself().ip == Some(ip) {
        return Ok(Acted::AlreadyDone);
    }
    let facts = ask_facts(client).await?;
    let addr = node.view.asked;
    // The node itself must have taken our connection there.
    if facts.local != Some(SocketAddr::new(ip, addr.port())) {
        return Err(ActError::Changed { addr, id: node.view.id() });
    }
    client.call(&["CONFIG", "SET", "cluster-announce-ip", &ip.to_string()]).await?;
    Ok(Acted::Done)
}

/// Forbids a node to take over, and leaves the mark that says who did.
pub(super) async fn guard(client: &mut NodeClient, node: &Observation) -> Result<Acted, ActError> {
    if node.view.myself().flags.has(Flags::NO_FAILOVER) {
        return Ok(Acted::AlreadyDone);
    }
    let settings = heal_settings(client, node).await?;
    let mark = settings
        .guard_mark()
        .unwrap_or(GuardMark { node_timeout: settings.node_timeout, barrier: settings.migration_barrier });
    let marked = mark.write().ok_or(ActError::UnusualSettings { addr: node.view.asked })?;
    // The mark first: a guard without one would stay for ever if we ended in between.
    set(client, node, &[(BARRIER, marked.to_string()), (NO_FAILOVER, "yes".into())]).await?;
    Ok(Acted::Done)
}

/// Shortens the node timeout; the guard's mark keeps what it was.
pub(super) async fn hasten(client: &mut NodeClient, node: &Observation) -> Result<Acted, ActError> {
    let settings = heal_settings(client, node).await?;
    if settings.guard_mark().is_none() {
        return Err(ActError::NotGuarded { addr: node.view.asked });
    }
    if settings.node_timeout <= HASTY {
        return Ok(Acted::AlreadyDone);
    }
    set(client, node, &[(NODE_TIMEOUT, HASTY.as_millis().to_string())]).await?;
    Ok(Acted::Done)
}

/// Lifts a guard that carries the mark, and sets all as it was.
pub(super) async fn unguard(client: &mut NodeClient, node: &Observation) -> Result<Acted, ActError> {
    let Some(mark) = heal_settings(client, node).await?.guard_mark() else { return Ok(Acted::AlreadyDone) };
    let settings = [
        (NODE_TIMEOUT, mark.node_timeout.as_millis().to_string()),
        (NO_FAILOVER, "no".into()),
        // Last, for servers that take one at a time.
        (BARRIER, mark.barrier.to_string()),
    ];
    set(client, node, &settings).await?;
    Ok(Acted::Done)
}

/// Lets a replica ask for votes, while it cannot reach its primary itself.
pub(super) async fn elect(
    client: &mut NodeClient,
    node: &Observation,
    primary: NodeId,
) -> Result<Acted, ActError> {
    if node.view.myself().primary.is_none() {
        return Ok(Acted::AlreadyDone);
    }
    let is_lost = node.view.line(primary).is_some_and(|line| is_accused(line) || !line.is_linked);
    if node.view.myself().primary != Some(primary) || !is_lost {
        return Err(ActError::Changed { addr: node.view.asked, id: primary });
    }
    // Never TAKEOVER, which asks nobody.
    client.call(&["CLUSTER", "FAILOVER", "FORCE"]).await?;
    Ok(Acted::Done)
}

/// Removes a member that is held for failed or has no address, owns nothing and is not followed.
pub(super) async fn forget(
    client: &mut NodeClient,
    node: &Observation,
    leaver: NodeId,
) -> Result<Acted, ActError> {
    let Some(line) = node.view.line(leaver) else { return Ok(Acted::AlreadyDone) };
    // One whose address another node has by now is never held for failed.
    let is_gone = line.flags.has(Flags::FAILED) || line.flags.has(Flags::NO_ADDRESS);
    let is_unneeded =
        is_gone && line.slots.is_empty() && !node.view.members().any(|line| line.primary == Some(leaver));
    if !is_unneeded {
        return Err(ActError::Changed { addr: node.view.asked, id: leaver });
    }
    client.call(&["CLUSTER", "FORGET", leaver.as_str()]).await?;
    Ok(Acted::Done)
}

/// Redis before 5 has it under another name, and is not guarded.
const NO_FAILOVER: &str = "cluster-replica-no-failover";
const NODE_TIMEOUT: &str = "cluster-node-timeout";
const BARRIER: &str = "cluster-migration-barrier";

async fn heal_settings(client: &mut NodeClient, node: &Observation) -> Result<HealSettings, ActError> {
    let Facts { settings, .. } = ask_facts(client).await?;
    settings.ok_or(ActError::NoSettings { addr: node.view.asked })
}

async fn set(
    client: &mut NodeClient,
    node: &Observation,
    settings: &[(&str, String)],
) -> Result<(), NodeError> {
    let words = settings.iter().flat_map(|(name, value)| [*name, value.as_str()]);
    let words: Vec<&str> = words.collect();
    if node.info.release >= SETS_SEVERAL {
        client.call(&[&["CONFIG", "SET"], &words[..]].concat()).await?;
        return Ok(());
    }
    for pair in words.chunks_exact(2) {
        client.call(&["CONFIG", "SET", pair[0], pair[1]]).await?;
    }
    Ok(())
}
