//! Report: a status as a table for people and as JSON for programs, with the nodes' pods where there are
//! any. Pure.

use super::pods::{Pod, Pods};
use super::problem::join;
use super::status::{Member, ShardStatus, Status};
use super::table::{Table, bytes};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The nodes, a line each.
pub fn table(status: &Status, pods: Option<&Pods>) -> String {
    let mut table = Table::new(&[
        "SLOTS", "COUNT", "NODE", "POD", "MACHINE", "ID", "ROLE", "KEYS", "MEMORY", "LINK", "LAG", "VERSION",
        "NOTE",
    ]);
    // Where there is one host only, nobody is misplaced.
    let hosts =
        status.shards.iter().flat_map(|shard| &shard.members).filter_map(|member| Some(member.addr?.ip()));
    let has_hosts = hosts.collect::<BTreeSet<_>>().len() > 1;
    for shard in &status.shards {
        for (ix, member) in shard.members.iter().enumerate() {
            let (slots, count) = match ix {
                0 => (ranges(shard), shard.slot_count().to_string()),
                _ => (String::new(), String::new()),
            };
            table.push([vec![slots, count], cells(member, pod_of(member, pods), has_hosts)].concat());
        }
    }
    table.text()
}

/// The shards with their members.
pub fn shards(status: &Status, pods: Option<&Pods>) -> Value {
    let member = |member: &Member| {
        let state = member.state.as_ref();
        let mut shown = json!({
            "address": member.addr.map(|addr| addr.to_string()),
            "id": member.id.as_str(),
            "role": role(member),
            "answers": state.is_some(),
            "keys": state.map(|state| state.keys),
            "memory_bytes": state.map(|state| state.memory.used),
            "memory_limit_bytes": state.map(|state| state.memory.max).filter(|max| *max > 0),
            "link": state.and_then(|state| state.is_link_up).map(|is_up| if is_up { "up" } else { "down" }),
            "lag_bytes": state.and_then(|state| state.lag),
            "server": state.map(|state| state.server.as_str()),
            "on_primarys_host": member.is_beside_primary,
        });
        if let Some(pod) = pod_of(member, pods) {
            shown["pod"] = pod.name.as_str().into();
            shown["machine"] = pod.host.as_deref().into();
        }
        shown
    };
    let shard = |shard: &ShardStatus| {
        json!({
            "slots": shard.slots.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "slot_count": shard.slot_count(),
            "members": shard.members.iter().map(member).collect::<Vec<_>>(),
        })
    };
    status.shards.iter().map(shard).collect()
}

fn pod_of<'a>(member: &Member, pods: Option<&'a Pods>) -> Option<&'a Pod> {
    pods?.at(member.addr?.ip())
}

fn role(member: &Member) -> &'static str {
    if member.is_primary { "primary" } else { "replica" }
}

/// At most this many ranges; a table with hundreds is read by nobody.
const RANGES: usize = 3;

fn ranges(shard: &ShardStatus) -> String {
    match shard.slots.len() {
        0 => "none".into(),
        count if count > RANGES => {
            format!("{} and {} more", join(&shard.slots[..RANGES], " "), count - RANGES)
        }
        _ => join(&shard.slots, " "),
    }
}

fn cells(member: &Member, pod: Option<&Pod>, has_hosts: bool) -> Vec<String> {
    let addr = member.addr.map_or_else(|| "?".into(), |addr| addr.to_string());
    let name = pod.map_or_else(String::new, |pod| pod.name.clone());
    let machine = pod.and_then(|pod| pod.host.clone()).unwrap_or_default();
    let mut cells = vec![addr, name, machine, member.id.short().into(), role(member).into()];
    let mut notes = Vec::new();
    match &member.state {
        Some(state) => {
            let memory = match state.memory.max {
                0 => bytes(state.memory.used),
                max => format!("{} of {}", bytes(state.memory.used), bytes(max)),
            };
            let link = state.is_link_up.map_or("", |is_up| if is_up { "up" } else { "DOWN" });
            let lag = state.lag.map_or_else(String::new, bytes);
            cells.extend([state.keys.to_string(), memory, link.into(), lag, state.server.clone()]);
        }
        None => {
            cells.extend(std::iter::repeat_n(String::new(), 5));
            notes.push("DOES NOT ANSWER");
        }
    }
    if member.is_beside_primary && has_hosts {
        notes.push("on its primary's host");
    }
    if pod.is_some_and(|pod| pod.is_leaving) {
        notes.push("its pod is leaving");
    }
    cells.push(notes.join(", "));
    cells
}
