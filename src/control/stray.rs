//! Stray keys: those that a primary holds of slots which others own. Clients are sent to the owner and never
//! find them. Nodes do not tell of them; every slot in question has to be counted.
//!
//! They stay behind when a move is broken off by hand (`CLUSTER SETSLOT STABLE`), or when slots are taken from
//! a node and given to another without their keys. A slot under way is none of this: it is open, or a job
//! of the node's own is bringing its keys.

use super::migrate::has_jobs;
use super::node_client::{NodeClient, NodeError};
use super::observe::{ObserveError, count_slot_keys, observe_view};
use super::view::{NodeView, Silent, Stray, View};
use crate::backend::Credentials;
use crate::topology::{Slot, SlotRange};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// Looks for stray keys on all primaries at once, those without any key aside. Each of the up to 16384 slots is
/// a question, which costs a node about 0.1 microseconds (Redis 7.0): all of them take it one or two
/// milliseconds, in pieces of a tenth.
pub async fn find_strays(
    view: &View,
    credentials: &Credentials,
    limit: Duration,
) -> (Vec<Stray>, Vec<NodeError>) {
    let mut looking = JoinSet::new();
    for node in view.nodes.iter().filter(|node| node.info.keys > 0) {
        let (addr, slots) = (node.view.asked, foreign(&node.view));
        if node.view.myself().primary.is_some() || slots.is_empty() {
            continue;
        }
        let credentials = credentials.clone();
        looking.spawn(async move { find_on(addr, slots, &credentials, limit).await });
    }
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for looked in looking.join_all().await {
        match looked {
            Ok(stray) => found.extend(stray),
            Err(error) => errors.push(error),
        }
    }
    found.sort_by_key(|stray| stray.addr);
    (found, errors)
}

/// Adds what can be found to a view. A node that does not let us count is passed over; one that does not
/// answer any more is silent.
pub async fn add_strays(view: &mut View, credentials: &Credentials, limit: Duration) {
    let (strays, errors) = find_strays(view, credentials, limit).await;
    view.strays = strays;
    for error in errors.into_iter().filter(|error| !matches!(error, NodeError::Refused { .. })) {
        view.silent.push(Silent { addr: error.addr(), error: ObserveError::Node(error) });
    }
}

async fn find_on(
    addr: SocketAddr,
    slots: Vec<Slot>,
    credentials: &Credentials,
    limit: Duration,
) -> Result<Option<Stray>, NodeError> {
    let mut client = NodeClient::connect(addr, credentials, limit).await?;
    let mut counts = count_slot_keys(&mut client, &slots).await?;
    if counts.is_empty() || has_jobs(&mut client).await? {
        return Ok(None);
    }
    // Slots may have come since the view was taken.
    let unexpected = |_| NodeError::Unexpected { addr, what: "CLUSTER NODES".into() };
    let now = foreign(&observe_view(&mut client).await.map_err(unexpected)?);
    counts.retain(|slot, _| now.binary_search(slot).is_ok());
    let (slots, keys) = (SlotRange::cover(counts.keys().copied()), counts.values().sum());
    Ok((keys > 0).then_some(Stray { addr, slots, keys }))
}

/// The slots that a node says others own, in order; those that are open at it aside.
fn foreign(view: &NodeView) -> Vec<Slot> {
    let (me, mut covered) = (view.myself(), view.coverage());
    for slot in
        me.slots.iter().flat_map(|range| range.slots()).chain(me.open_slots.iter().map(|open| open.slot))
    {
        covered[slot.index()] = false;
    }
    Slot::all().filter(|slot| covered[slot.index()]).collect()
}
