//! Carries [`Action::Failover`](super::action::Action::Failover) out: `CLUSTER FAILOVER` on a replica,
//! then a look at both sides until they have changed roles. Gateways are told before and after it, and
//! hold new writes meanwhile.
//!
//! The plain kind only: the primary stops writes until the replica has all of them. Never `FORCE` or
//! `TAKEOVER`, which may lose writes (<https://redis.io/docs/latest/commands/cluster-failover/>).

use super::act::{ActError, Acted, Actor};
use super::action::Party;
use super::announce::{self, Announcement, announce};
use super::node_client::{NodeClient, NodeError, Reply};
use super::observe::Role;
use super::view::Observation;
use crate::topology::{NodeId, SlotRange};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often both are asked for their role; a failover between healthy nodes takes 2 to 50 ms.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A message of the cluster's passes from node to node within a millisecond or two. Writes that come later
/// than the announcement are held by the gateway, those before it by the node.
const HEARD_WITHIN: Duration = Duration::from_millis(5);
/// A node gives a manual failover up after 5 s (`CLUSTER_MF_TIMEOUT`); then it may be asked for again.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(5500);
/// Once more, as the votes of one try may have been lost.
const TRIES: usize = 2;

/// Why a replica did not take over.
#[derive(Debug, thiserror::Error)]
pub enum FailoverError {
    #[error("{replica} will not take over: it does not follow {primary} (any more)")]
    OtherPrimary { replica: SocketAddr, primary: SocketAddr },
    #[error("{replica} will not take over: slots of {primary} are on the move by now")]
    SlotsOpen { replica: SocketAddr, primary: SocketAddr },
    #[error("{replica} will not take over: it is not connected to its primary and may lack writes")]
    LinkDown { replica: SocketAddr },
    #[error(
        "{replica} did not take over from {primary} in {TRIES} tries of {GIVEN_UP_AFTER:?}; both serve as before. Is the \
         load on {primary} too high for its replica to catch up, and can most primaries be reached by {replica}?"
    )]
    NotElected { replica: SocketAddr, primary: SocketAddr },
}

/// Lets the replica take over and waits until both have their new roles.
pub(super) async fn fail_over(
    actor: &Actor,
    replica: &mut NodeClient,
    node: &Observation,
    primary: Party,
) -> Result<Acted, ActError> {
    let (me, addr) = (node.view.myself(), node.view.asked);
    if me.primary.is_none() && !me.slots.is_empty() {
        return Ok(Acted::AlreadyDone);
    }
    if me.primary != Some(primary.id) {
        return Err(FailoverError::OtherPrimary { replica: addr, primary: primary.addr }.into());
    }
    if !matches!(node.info.role, Role::Replica { is_link_up: true, .. }) {
        return Err(FailoverError::LinkDown { replica: addr }.into());
    }
    let (mut old, owner) = actor.open(primary).await?;
    let (to, slots) = (me.id, owner.view.myself().slots.clone());
    // What it gets after its replica was elected, that replica knows nothing of: both would be primaries.
    if !owner.view.myself().open_slots.is_empty() {
        return Err(FailoverError::SlotsOpen { replica: addr, primary: primary.addr }.into());
    }
    for _ in 0..TRIES {
        let begins = Announcement::Begins { primary: primary.id, to, lasts: announce::LONGEST };
        announce(&mut old, &begins).await;
        sleep(HEARD_WITHIN).await;
        let is_done = take_over(replica, &mut old, to, &slots).await;
        if !matches!(is_done, Ok(true)) {
            announce(replica, &Announcement::Ends { primary: primary.id }).await;
        }
        if is_done? {
            return Ok(Acted::Done);
        }
    }
    Err(FailoverError::NotElected { replica: addr, primary: primary.addr }.into())
}

/// One try; whether the replica was elected.
async fn take_over(
    replica: &mut NodeClient,
    old: &mut NodeClient,
    to: NodeId,
    slots: &[SlotRange],
) -> Result<bool, NodeError> {
    replica.call(&["CLUSTER", "FAILOVER"]).await?;
    let deadline = Instant::now() + GIVEN_UP_AFTER;
    let mut is_elected = false;
    while Instant::now() < deadline {
        if !is_elected && is_primary(replica).await? {
            is_elected = true;
            // By the new primary: the old one holds back whatever may write, and PUBLISH with it.
            announce(replica, &Announcement::Owner { node: to, slots: slots.to_vec() }).await;
        }
        if is_elected && !is_primary(old).await? {
            return Ok(true);
        }
        sleep(LOOK_EVERY).await;
    }
    // That the old primary has not heard of it yet is for the wait afterwards.
    Ok(is_elected)
}

/// `ROLE` begins with `master` or `slave`.
async fn is_primary(client: &mut NodeClient) -> Result<bool, NodeError> {
    let Reply::Array(role) = client.call(&["ROLE"]).await? else {
        return Err(NodeError::Unexpected { addr: client.addr(), what: "ROLE".into() });
    };
    Ok(matches!(role.first(), Some(Reply::BulkString(word)) if word.as_ref() == b"master"))
}
