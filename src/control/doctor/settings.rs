//! Settings that decide what happens on a bad day, as a table: name, what is bad about a value, what
//! would be better. Pure.

use super::Fact;
use crate::control::node_client::NodeError;
use crate::control::observe::Settings;
use crate::control::problem::join;
use crate::control::view::View;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What is read of each node.
pub const SETTINGS: &[&str] = &[
    "cluster-allow-replica-migration",
    "cluster-require-full-coverage",
    "cluster-replica-validity-factor",
    "cluster-node-timeout",
    "cluster-replica-no-failover",
    "cluster-preferred-endpoint-type",
    "cluster-announce-hostname",
    "min-replicas-to-write",
    "maxmemory-policy",
    "appendonly",
    "save",
];

/// These are better the same on all nodes; when they differ, the most common value is proposed.
const SAME: &[&str] = &[
    "cluster-allow-replica-migration",
    "cluster-require-full-coverage",
    "cluster-replica-validity-factor",
    "cluster-node-timeout",
    "cluster-replica-no-failover",
    "maxmemory-policy",
    "appendonly",
];

/// When a setting is bad.
struct Rule {
    kind: &'static str,
    setting: &'static str,
    is_bad: fn(value: &str, all: &Settings, replicas: usize) -> bool,
    wish: &'static str,
}

/// A number; what is none is bad for no rule.
fn number(value: &str) -> Option<u64> {
    value.parse().ok()
}

const RULES: &[Rule] = &[
    Rule {
        kind: "replicas-move-by-themselves",
        setting: "cluster-allow-replica-migration",
        is_bad: |value, _, _| value == "yes",
        wish: "no",
    },
    Rule {
        kind: "one-lost-slot-stops-all",
        setting: "cluster-require-full-coverage",
        is_bad: |value, _, _| value == "yes",
        wish: "no",
    },
    Rule {
        kind: "stale-replica-may-take-over",
        setting: "cluster-replica-validity-factor",
        is_bad: |value, _, _| value == "0",
        wish: "10",
    },
    Rule {
        kind: "hasty-node-timeout",
        setting: "cluster-node-timeout",
        is_bad: |value, _, _| number(value).is_some_and(|millis| millis < 2000),
        wish: "5000",
    },
    Rule {
        kind: "patient-node-timeout",
        setting: "cluster-node-timeout",
        is_bad: |value, _, _| number(value).is_some_and(|millis| millis > 15000),
        wish: "5000",
    },
    Rule {
        kind: "no-automatic-failover",
        setting: "cluster-replica-no-failover",
        is_bad: |value, _, _| value == "yes",
        wish: "no",
    },
    Rule {
        kind: "writes-need-every-replica",
        setting: "min-replicas-to-write",
        is_bad: |value, _, replicas| {
            number(value).is_some_and(|needed| needed > 0 && needed >= replicas as u64)
        },
        wish: "0",
    },
    Rule {
        kind: "nothing-is-saved",
        setting: "appendonly",
        is_bad: |value, all, _| value == "no" && all.get("save").is_none_or(String::is_empty),
        wish: "yes",
    },
    Rule {
        kind: "names-without-hostname",
        setting: "cluster-preferred-endpoint-type",
        is_bad: |value, all, _| {
            value == "hostname" && all.get("cluster-announce-hostname").is_none_or(String::is_empty)
        },
        wish: "ip",
    },
];

pub(super) fn facts(view: &View, read: &BTreeMap<SocketAddr, Result<Settings, NodeError>>) -> Vec<Fact> {
    let mut facts = Vec::new();
    let known = || read.iter().filter_map(|(addr, read)| Some((*addr, read.as_ref().ok()?)));
    for (addr, error) in read.iter().filter_map(|(addr, read)| Some((addr, read.as_ref().err()?))) {
        let text = format!("the settings of {addr} cannot be read: {error}");
        facts.push(Fact::new("settings-unreadable", text).with_node("node", *addr));
    }
    let replicas = fewest_replicas(view);
    for Rule { kind, setting, is_bad, wish } in RULES {
        let bad: Vec<(SocketAddr, &String)> = known()
            .filter_map(|(addr, all)| {
                Some((addr, all.get(*setting).filter(|value| is_bad(value, all, replicas))?))
            })
            .collect();
        if let Some((_, value)) = bad.first() {
            let text = format!("{setting} is {value} on {}", nodes(&bad, known().count()));
            facts.push(Fact::new(kind, text).with("setting", setting).with("wish", wish));
        }
    }
    for setting in SAME {
        let mut by_value: BTreeMap<&String, Vec<SocketAddr>> = BTreeMap::new();
        for (addr, value) in known().filter_map(|(addr, all)| Some((addr, all.get(*setting)?))) {
            by_value.entry(value).or_default().push(addr);
        }
        if by_value.len() > 1
            && let Some((common, _)) = by_value.iter().max_by_key(|(_, addrs)| addrs.len())
        {
            let each: Vec<String> =
                by_value.iter().map(|(value, addrs)| format!("{value} on {}", join(addrs, " "))).collect();
            let text = format!("{setting} differs: {}", each.join("; "));
            facts.push(Fact::new("settings-differ", text).with("setting", setting).with("wish", common));
        }
    }
    facts
}

fn nodes(bad: &[(SocketAddr, &String)], all: usize) -> String {
    match bad.len() == all {
        true => "all nodes".into(),
        false => join(&bad.iter().map(|(addr, _)| *addr).collect::<Vec<_>>(), " "),
    }
}

/// How many replicas the primary with the fewest has, of those with slots.
fn fewest_replicas(view: &View) -> usize {
    let primaries = view.nodes.iter().filter(|node| !node.view.myself().slots.is_empty());
    let replicas = |id| view.nodes.iter().filter(|node| node.view.myself().primary == Some(id)).count();
    primaries.map(|primary| replicas(primary.view.id())).min().unwrap_or(0)
}
