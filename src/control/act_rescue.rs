//! act, rescue: a replica that still has its keys takes over from its primary that came back without them.

use super::act::{ActError, Acted, Actor};
use super::action::Party;
use super::node_client::NodeClient;
use super::plan::heal_rescue::{is_bare, still_holds};
use super::view::Observation;

/// Looks at both once more, and lets the replica ask for votes. The primary is not asked to agree (`FORCE`): it
/// has nothing to wait for. The votes are (never `TAKEOVER`).
pub(super) async fn rescue(
    actor: &Actor,
    client: &mut NodeClient,
    node: &Observation,
    primary: Party,
) -> Result<Acted, ActError> {
    let me = node.view.myself();
    if me.primary.is_none() && !me.slots.is_empty() {
        return Ok(Acted::AlreadyDone);
    }
    let (_, bare) = actor.open(primary).await?;
    if me.primary != Some(primary.id) || !still_holds(node) || !is_bare(&bare) {
        return Err(ActError::Changed { addr: node.view.asked, id: primary.id });
    }
    client.call(&["CLUSTER", "FAILOVER", "FORCE"]).await?;
    Ok(Acted::Done)
}
