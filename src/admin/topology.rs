//! The topology as `/api/topology` shows it. Pure.

use super::readiness::readiness;
use crate::shutdown::Phase;
use crate::topology::{Health, Node, NodeIx, ShardIx, Snapshot};
use serde::Serialize;
use std::time::Duration;

/// The whole answer.
#[derive(Debug, Serialize)]
pub struct TopologyReport {
    pub is_ready: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Why the last look at the cluster told nothing.
    pub trouble: Option<String>,
    pub version: u64,
    /// Since the nodes last confirmed it; `null` before they have once.
    pub age_seconds: Option<f64>,
    pub slots_covered: usize,
    pub slots_served: usize,
    pub shards: Vec<ShardReport>,
    /// Members without a shard.
    pub others: Vec<NodeReport>,
}

#[derive(Debug, Serialize)]
pub struct ShardReport {
    /// As `0-5460`.
    pub slots: Vec<String>,
    pub slot_count: usize,
    pub primary: NodeReport,
    pub replicas: Vec<NodeReport>,
}

#[derive(Debug, Serialize)]
pub struct NodeReport {
    pub id: String,
    pub addr: String,
    pub hostname: Option<String>,
    pub health: &'static str,
}

/// The word for a node's health, as labels and reports have it.
pub const fn health_word(health: Health) -> &'static str {
    match health {
        Health::Ok => "ok",
        Health::Suspect => "suspect",
        Health::Failed => "failed",
    }
}

/// Describes `snapshot`, which the nodes confirmed `age` ago.
pub fn report(phase: Phase, snapshot: &Snapshot, age: Option<Duration>) -> TopologyReport {
    let ready = readiness(phase, snapshot);
    let describe = |ix: &NodeIx| describe(snapshot.node(*ix));
    let shards = snapshot.shards().iter().enumerate().map(|(ix, shard)| {
        let ranges = snapshot.ranges_of(ix as ShardIx);
        ShardReport {
            slots: ranges.iter().map(ToString::to_string).collect(),
            slot_count: ranges.iter().map(|range| range.count()).sum(),
            primary: describe(&shard.primary),
            replicas: shard.replicas.iter().map(describe).collect(),
        }
    });
    let lone = (0..snapshot.nodes().len() as NodeIx).filter(|ix| snapshot.shard_of_node(*ix).is_none());
    TopologyReport {
        is_ready: ready.is_ok(),
        reason: ready.err().map(|reason| reason.to_string()),
        trouble: None,
        version: snapshot.version,
        age_seconds: age.map(|age| age.as_secs_f64()),
        slots_covered: snapshot.covered(),
        slots_served: snapshot.served(),
        shards: shards.collect(),
        others: lone.map(|ix| describe(&ix)).collect(),
    }
}

fn describe(node: &Node) -> NodeReport {
    NodeReport {
        id: node.id.to_string(),
        addr: node.addr.to_string(),
        hostname: node.hostname.as_deref().map(str::to_string),
        health: health_word(node.health),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cluster;
    use super::*;

    #[test]
    fn every_node_is_reported_once_and_in_its_place() {
        let report = report(Phase::Ready, &cluster(), Some(Duration::from_millis(1500)));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["is_ready"], true);
        assert_eq!(json["age_seconds"], 1.5);
        assert_eq!(json["slots_covered"], 16384);
        assert_eq!(json["shards"][0]["slots"], serde_json::json!(["0-8191"]));
        assert_eq!(json["shards"][0]["primary"]["addr"], "127.0.0.1:7000");
        assert_eq!(json["shards"][0]["replicas"][0]["health"], "suspect");
        assert_eq!(json["shards"][1]["slot_count"], 8192);
        assert_eq!(json["others"][0]["addr"], "127.0.0.1:7003");
    }
}
