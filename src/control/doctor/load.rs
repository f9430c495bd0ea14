//! Memory, disk and versions: what nodes say of themselves that will hurt. Pure.

use super::Fact;
use crate::control::node_client::NodeError;
use crate::control::observe::Settings;
use crate::control::problem::join;
use crate::control::view::{Observation, View};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// From here on it is time to act, in percent of `maxmemory`.
const NEARLY_FULL: u64 = 80;
/// From here on a single large key may be refused.
const FULL: u64 = 95;

pub(super) fn facts(view: &View, settings: &BTreeMap<SocketAddr, Result<Settings, NodeError>>) -> Vec<Fact> {
    let mut facts: Vec<Fact> = view.nodes.iter().filter_map(|node| memory(node, settings)).collect();
    let unlimited: Vec<SocketAddr> =
        view.nodes.iter().filter(|node| node.info.memory.max == 0).map(|node| node.view.asked).collect();
    if !unlimited.is_empty() {
        let nodes =
            if unlimited.len() == view.nodes.len() { "all nodes".into() } else { join(&unlimited, " ") };
        let text = format!("{nodes} have no memory limit (maxmemory 0)");
        facts.push(Fact::new("no-memory-limit", text));
    }
    for node in view.nodes.iter().filter(|node| node.info.has_save_failed) {
        let text = format!("{} could not write its data to disk", node.view.asked);
        facts.push(Fact::new("save-failed", text).with_node("node", node.view.asked));
    }
    let servers: BTreeSet<&str> = view.nodes.iter().map(|node| node.info.server.as_str()).collect();
    if servers.len() > 1 {
        let servers: Vec<&str> = servers.into_iter().collect();
        facts.push(Fact::new("mixed-versions", format!("the nodes run {}", join(&servers, ", "))));
    }
    facts
}

fn memory(node: &Observation, settings: &BTreeMap<SocketAddr, Result<Settings, NodeError>>) -> Option<Fact> {
    let (asked, memory) = (node.view.asked, node.info.memory);
    let percent = memory.used.saturating_mul(100).checked_div(memory.max)?;
    let policy = settings.get(&asked).and_then(|read| read.as_ref().ok()?.get("maxmemory-policy"));
    let evicts = policy.is_some_and(|policy| policy != "noeviction");
    let kind = match percent {
        NEARLY_FULL.. if evicts => "memory-evicts",
        FULL.. => "memory-full",
        NEARLY_FULL.. => "memory-nearly-full",
        _ => return None,
    };
    let text =
        format!("{asked} uses {percent} % of its memory limit ({} of {} bytes)", memory.used, memory.max);
    // Half as much again: room to think, without guessing what the machine has.
    Some(Fact::new(kind, text).with("more", memory.max.saturating_add(memory.max / 2)))
}
