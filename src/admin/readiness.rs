//! Ready or not, and why not. Pure.

use crate::shutdown::Phase;
use crate::topology::{Health, SLOTS, ShardIx, Slot, SlotRange, Snapshot};
use std::fmt;

/// Why the gateway should get no clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotReady {
    /// The process is not in its serving phase.
    Phase(Phase),
    /// No node has answered yet.
    NoTopology,
    /// Slots that nobody owns.
    Unowned(Vec<SlotRange>),
    /// A primary that the cluster holds for failed, and its slots.
    Failed { node: String, slots: Vec<SlotRange> },
}

/// Whether the gateway serves and every slot has an owner that is not held for failed.
///
/// # Errors
/// The first reason why not, in the order of [`NotReady`]'s variants.
pub fn readiness(phase: Phase, topology: &Snapshot) -> Result<(), NotReady> {
    if phase > Phase::Ready {
        return Err(NotReady::Phase(phase));
    }
    if topology.nodes().is_empty() {
        return Err(NotReady::NoTopology);
    }
    if phase < Phase::Ready {
        return Err(NotReady::Phase(phase));
    }
    if topology.covered() < SLOTS {
        let unowned = Slot::all().filter(|slot| topology.shard_of(*slot).is_none());
        return Err(NotReady::Unowned(SlotRange::cover(unowned)));
    }
    for (ix, shard) in topology.shards().iter().enumerate() {
        let primary = topology.node(shard.primary);
        // Ranges are looked up only then: probes come often, and a look costs a pass over all slots.
        if primary.health != Health::Failed {
            continue;
        }
        let slots = topology.ranges_of(ix as ShardIx);
        if !slots.is_empty() {
            return Err(NotReady::Failed {
                node: format!("{} at {}", primary.id.short(), primary.addr),
                slots,
            });
        }
    }
    Ok(())
}

/// Whether clients are better served here than nowhere: as [`readiness`], but a shard that is lost to all
/// gateways alike does not count while another one lives. For load balancers, which would otherwise take all
/// gateways away and with them the shards that live.
///
/// # Errors
/// As [`readiness`].
pub fn serves_any(phase: Phase, topology: &Snapshot) -> Result<(), NotReady> {
    let ready = readiness(phase, topology);
    let lives = || {
        topology.shards().iter().enumerate().any(|(ix, shard)| {
            let is_failed = topology.node(shard.primary).health == Health::Failed;
            !is_failed && !topology.ranges_of(ix as ShardIx).is_empty()
        })
    };
    match ready {
        Err(NotReady::Failed { .. }) if lives() => Ok(()),
        ready => ready,
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotReady::Phase(phase) => write!(f, "{}", phase.as_str()),
            NotReady::NoTopology => f.write_str("no node of the cluster has answered yet; check --seed"),
            NotReady::Unowned(ranges) => {
                let count: usize = ranges.iter().map(|range| range.count()).sum();
                write!(f, "{count} of {SLOTS} slots have no owner: {}", list(ranges))
            }
            NotReady::Failed { node, slots } => {
                write!(f, "node {node} is held for failed and still owns slots {}", list(slots))
            }
        }
    }
}

/// The ranges, as many as a person reads.
fn list(ranges: &[SlotRange]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> = ranges.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if ranges.len() > SHOWN {
        format!(" and {} more ranges", ranges.len() - SHOWN)
    } else {
        String::new()
    };
    shown.join(",") + &more
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, node};
    use super::*;
    use crate::topology::Shard;

    #[test]
    fn a_whole_cluster_is_ready_only_while_the_process_serves() {
        assert_eq!(readiness(Phase::Ready, &cluster()), Ok(()));
        for phase in [Phase::Starting, Phase::Draining, Phase::Stopped] {
            assert_eq!(readiness(phase, &cluster()), Err(NotReady::Phase(phase)));
        }
    }

    #[test]
    fn without_any_answer_the_reason_names_the_seeds() {
        let reason = readiness(Phase::Ready, &Snapshot::empty()).unwrap_err().to_string();
        assert!(reason.contains("--seed"), "{reason}");
    }

    #[test]
    fn slots_without_an_owner_are_listed() {
        let shard = Shard { primary: 0, replicas: vec![] };
        let ranges = vec![SlotRange::new(0, 99).unwrap(), SlotRange::new(101, 16382).unwrap()];
        let topology = Snapshot::new(vec![node(0, Health::Ok)], vec![(shard, ranges)]).unwrap();
        let reason = readiness(Phase::Ready, &topology).unwrap_err().to_string();
        assert_eq!(reason, "2 of 16384 slots have no owner: 100,16383");
    }

    #[test]
    fn a_failed_owner_is_named_with_its_slots_and_a_failed_replica_is_not() {
        let of = |primary, replica| {
            let shard = Shard { primary: 0, replicas: vec![1] };
            let all = vec![SlotRange::new(0, 16383).unwrap()];
            Snapshot::new(vec![node(0, primary), node(1, replica)], vec![(shard, all)]).unwrap()
        };
        assert_eq!(readiness(Phase::Ready, &of(Health::Suspect, Health::Failed)), Ok(()));
        let reason = readiness(Phase::Ready, &of(Health::Failed, Health::Ok)).unwrap_err().to_string();
        assert_eq!(reason, "node 00000000 at 127.0.0.1:7000 is held for failed and still owns slots 0-16383");
    }

    #[test]
    fn a_lost_shard_takes_no_client_from_the_ones_that_live() {
        let of = |first, second| {
            let shard = |primary| Shard { primary, replicas: vec![] };
            let halves = [(0, 8191), (8192, 16383)].map(|(from, to)| vec![SlotRange::new(from, to).unwrap()]);
            let [low, high] = halves;
            let nodes = vec![node(0, first), node(1, second)];
            Snapshot::new(nodes, vec![(shard(0), low), (shard(1), high)]).unwrap()
        };
        let half = of(Health::Failed, Health::Ok);
        assert!(readiness(Phase::Ready, &half).is_err());
        assert_eq!(serves_any(Phase::Ready, &half), Ok(()));
        assert_eq!(serves_any(Phase::Draining, &half), Err(NotReady::Phase(Phase::Draining)));
        let none = of(Health::Failed, Health::Failed);
        assert!(matches!(serves_any(Phase::Ready, &none), Err(NotReady::Failed { .. })));
        assert_eq!(serves_any(Phase::Ready, &Snapshot::empty()), Err(NotReady::NoTopology));
    }
}
