//! How many keys, or about how many bytes, each slot holds on its owner: what shares can be measured by.
//!
//! Bytes come from `CLUSTER SLOT-STATS` where the node counts them (Redis 8.2 with
//! `cluster-slot-stats-enabled yes`, <https://redis.io/docs/latest/commands/cluster-slot-stats/>; Valkey's
//! answer has none). Elsewhere the node's data is taken to be spread evenly over its keys.

use super::observe_slot_keys;
use crate::backend::Credentials;
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::control::plan::rebalance::Holder;
use crate::control::plan::rebalance_loads::{Loads, Unit};
use crate::topology::{SLOTS, Slot};
use std::collections::BTreeMap;
use std::time::Duration;

/// Weighs all slots of the holders on their owners.
///
/// # Errors
/// The first owner that did not answer: what is not weighed must not be taken for empty.
pub async fn observe_slot_loads(
    holders: &[Holder],
    unit: Unit,
    credentials: &Credentials,
    limit: Duration,
) -> Result<Loads, NodeError> {
    let nodes: Vec<_> = holders.iter().map(|holder| (holder.node.id, holder.node.addr)).collect();
    let slots: Vec<Slot> = Slot::all().collect();
    let counted = observe_slot_keys(&nodes, &slots, credentials, limit).await?;
    let mut loads = vec![0; SLOTS];
    for holder in holders {
        let mut keys = counted.get(&holder.node.id).cloned().unwrap_or_default();
        keys.retain(|slot, _| holder.slots.iter().any(|range| range.start <= *slot && *slot <= range.end));
        let of_slots = match unit {
            Unit::Keys => keys,
            Unit::Bytes => {
                let mut client = NodeClient::connect(holder.node.addr, credentials, limit).await?;
                weigh(&mut client, keys).await?
            }
        };
        for (slot, load) in of_slots {
            loads[slot.index()] = load;
        }
    }
    Ok(Loads { unit, slots: loads })
}

async fn weigh(client: &mut NodeClient, keys: BTreeMap<Slot, u64>) -> Result<BTreeMap<Slot, u64>, NodeError> {
    let stats = match client.call(&["CLUSTER", "SLOT-STATS", "SLOTSRANGE", "0", "16383"]).await {
        Ok(stats) => memory_bytes(&stats),
        // Older releases do not know it.
        Err(NodeError::Refused { .. }) => BTreeMap::new(),
        Err(error) => return Err(error),
    };
    let info = client.call_text(&["INFO", "memory"]).await?;
    let data = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
    let data = data.and_then(|data| data.trim().parse().ok()).unwrap_or(0);
    Ok(bytes_of(keys, &stats, data))
}

/// What the node counted, when it did for every slot with keys; otherwise `data`, shared by keys.
fn bytes_of(keys: BTreeMap<Slot, u64>, stats: &BTreeMap<Slot, u64>, data: u64) -> BTreeMap<Slot, u64> {
    let counted = |slot: &Slot| stats.get(slot).copied().filter(|bytes| *bytes > 0);
    if let Some(bytes) = keys.keys().map(|slot| Some((*slot, counted(slot)?))).collect() {
        return bytes;
    }
    let all: u128 = keys.values().map(|count| u128::from(*count)).sum();
    let share = |count: u64| {
        let bytes = u128::from(data) * u128::from(count) / all.max(1);
        // No slot with keys weighs nothing.
        u64::try_from(bytes).unwrap_or(u64::MAX).max(count)
    };
    keys.into_iter().map(|(slot, count)| (slot, share(count))).collect()
}

/// Reads `[[slot, [name, value, ...]], ...]`; what has another form is left out.
fn memory_bytes(stats: &Reply) -> BTreeMap<Slot, u64> {
    let Reply::Array(slots) = stats else { return BTreeMap::new() };
    let entry = |entry: &Reply| {
        let Reply::Array(entry) = entry else { return None };
        let [Reply::Integer(slot), Reply::Array(values)] = entry.as_slice() else { return None };
        let slot = Slot::new(u16::try_from(*slot).ok()?)?;
        let value = values.chunks_exact(2).find_map(|pair| match pair {
            [Reply::BulkString(name), Reply::Integer(value)] if name.as_ref() == b"memory-bytes" => {
                Some(*value)
            }
            _ => None,
        })?;
        Some((slot, u64::try_from(value).ok()?))
    };
    slots.iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(of: &[(u16, u64)]) -> BTreeMap<Slot, u64> {
        of.iter().map(|(slot, load)| (Slot::new(*slot).unwrap(), *load)).collect()
    }

    fn entry(slot: i64, values: &[(&'static str, i64)]) -> Reply {
        let values = values
            .iter()
            .flat_map(|(name, value)| [Reply::BulkString((*name).into()), Reply::Integer(*value)]);
        Reply::Array(vec![Reply::Integer(slot), Reply::Array(values.collect())])
    }

    #[test]
    fn bytes_are_read_from_slot_stats_where_they_are_counted() {
        let redis = Reply::Array(vec![
            entry(0, &[("key-count", 2), ("cpu-usec", 1), ("memory-bytes", 900)]),
            entry(7, &[("key-count", 1), ("memory-bytes", 100)]),
            entry(99999, &[("memory-bytes", 1)]),
            Reply::Integer(1),
        ]);
        assert_eq!(memory_bytes(&redis), slots(&[(0, 900), (7, 100)]));
        let valkey = Reply::Array(vec![entry(0, &[("key-count", 2), ("cpu-usec", 1)])]);
        assert_eq!(memory_bytes(&valkey), slots(&[]));
        assert_eq!(memory_bytes(&Reply::Null), slots(&[]));
    }

    #[test]
    fn bytes_that_are_not_counted_are_shared_by_keys() {
        let keys = || slots(&[(0, 1), (7, 3)]);
        assert_eq!(bytes_of(keys(), &slots(&[(0, 900), (7, 100)]), 400), slots(&[(0, 900), (7, 100)]));
        assert_eq!(bytes_of(keys(), &slots(&[(0, 900)]), 400), slots(&[(0, 100), (7, 300)]));
        assert_eq!(bytes_of(keys(), &slots(&[(0, 900), (7, 0)]), 400), slots(&[(0, 100), (7, 300)]));
        assert_eq!(bytes_of(keys(), &slots(&[]), 0), slots(&[(0, 1), (7, 3)]));
        assert_eq!(bytes_of(slots(&[]), &slots(&[]), 400), slots(&[]));
    }
}
