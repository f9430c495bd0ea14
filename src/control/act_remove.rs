//! act, removal: a member is forgotten while it lives, and emptied once nobody knows it.

use super::act::{ActError, Acted};
use super::node_client::{NodeClient, NodeError, Reply};
use super::observe::Flags;
use super::view::Observation;
use crate::topology::NodeId;
use std::time::Duration;

/// `CLUSTER RESET` frees a replica's keys before it answers: some seconds for tens of gigabytes.
const RESET_LIMIT: Duration = Duration::from_secs(120);

/// Removes a member that owns nothing and is followed by nobody who lives, by this node's word.
pub(super) async fn dismiss(
    client: &mut NodeClient,
    node: &Observation,
    leaver: NodeId,
) -> Result<Acted, ActError> {
    let Some(line) = node.view.line(leaver) else { return Ok(Acted::AlreadyDone) };
    let is_followed =
        node.view.members().any(|line| line.primary == Some(leaver) && !line.flags.has(Flags::FAILED));
    if !line.slots.is_empty() || is_followed {
        return Err(ActError::Changed { addr: node.view.asked, id: leaver });
    }
    client.call(&["CLUSTER", "FORGET", leaver.as_str()]).await?;
    Ok(Acted::Done)
}

/// Makes a node that nobody knows any more an empty node of its own: no members, a new id, no keys.
///
/// `CLUSTER RESET` empties a replica's memory but not its files: started again it would have the old keys
/// and take their slots. Hence `FLUSHALL`, which rewrites an append-only file, and `SAVE`, which
/// replaces the snapshot that a replica got from its primary.
pub(super) async fn reset(client: &mut NodeClient, node: &Observation) -> Result<Acted, ActError> {
    let me = node.view.myself();
    if !me.slots.is_empty() || (me.primary.is_none() && node.info.keys > 0) {
        return Err(ActError::Needed { addr: node.view.asked });
    }
    client.set_limit(RESET_LIMIT);
    const RESET: &[&str] = &["CLUSTER", "RESET", "HARD"];
    const EMPTY: [&[&str]; 2] = [&["FLUSHALL"], &["SAVE"]];
    let replies = if me.primary.is_some() {
        // In one write, so that nothing can come in between; should the reset be refused, a replica
        // refuses to be flushed as well.
        client.call_all(&[RESET, EMPTY[0], EMPTY[1]]).await?
    } else {
        if node.view.lines().len() > 1 {
            client.call(RESET).await?;
        }
        client.call_all(&EMPTY).await?
    };
    let mut replies = replies.into_iter();
    // Whether and where a snapshot can be written is the operator's choice.
    replies.next_back();
    for reply in replies {
        is_done(reply)?;
    }
    Ok(Acted::Done)
}

fn is_done(reply: Result<Reply, NodeError>) -> Result<(), NodeError> {
    match reply {
        // A manager took the empty node in at once, and it has the keys of its primary.
        Err(NodeError::Refused { text, .. }) if text.starts_with("READONLY") => Ok(()),
        other => other.map(drop),
    }
}
