//! `CLUSTER COUNTKEYSINSLOT`: how many keys each node holds of some slots.

use crate::backend::Credentials;
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::topology::{NodeId, Slot};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// For each node, the slots of which it holds keys, with their number.
pub type SlotKeys = BTreeMap<NodeId, BTreeMap<Slot, u64>>;

/// Questions in one write; a thousand answers come within milliseconds.
const BATCH: usize = 1000;

/// Counts the keys of these slots on all nodes at once, replicas too.
///
/// # Errors
/// The first node that did not answer: what is not counted must not be taken for empty.
pub async fn observe_slot_keys(
    nodes: &[(NodeId, SocketAddr)],
    slots: &[Slot],
    credentials: &Credentials,
    limit: Duration,
) -> Result<SlotKeys, NodeError> {
    let mut counting = JoinSet::new();
    for (id, addr) in nodes.iter().copied() {
        let (credentials, slots) = (credentials.clone(), slots.to_vec());
        counting.spawn(async move {
            let mut client = NodeClient::connect(addr, &credentials, limit).await?;
            Ok((id, count_slot_keys(&mut client, &slots).await?))
        });
    }
    counting.join_all().await.into_iter().collect()
}

/// Counts the keys that one node holds of these slots; those without any are left out.
///
/// # Errors
/// It does not answer, or refuses to count.
pub async fn count_slot_keys(
    client: &mut NodeClient,
    slots: &[Slot],
) -> Result<BTreeMap<Slot, u64>, NodeError> {
    let mut counts = BTreeMap::new();
    for batch in slots.chunks(BATCH) {
        let numbers: Vec<String> = batch.iter().map(Slot::to_string).collect();
        let questions: Vec<[&str; 3]> =
            numbers.iter().map(|number| ["CLUSTER", "COUNTKEYSINSLOT", number]).collect();
        let questions: Vec<&[&str]> = questions.iter().map(<[&str; 3]>::as_slice).collect();
        for (slot, reply) in batch.iter().zip(client.call_all(&questions).await?) {
            let Reply::Integer(keys) = reply? else {
                return Err(NodeError::Unexpected {
                    addr: client.addr(),
                    what: "CLUSTER COUNTKEYSINSLOT".into(),
                });
            };
            if keys > 0 {
                counts.insert(*slot, keys.unsigned_abs());
            }
        }
    }
    Ok(counts)
}
