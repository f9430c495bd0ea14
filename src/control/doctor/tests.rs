//! One flaw at a time in a healthy cluster: nodes 1 to 3 are primaries, 4 to 6 their replicas, each on a
//! host of its own.

use super::*;
use crate::control::observe::{ClusterInfo, Memory, NodeInfo, Role, parse_nodes};
use crate::control::view::{NodeView, Observation};

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 6379))
}

/// Where each of the six nodes is, in the order of their numbers.
const AT: [u8; 6] = [1, 2, 3, 4, 5, 6];

/// What node `me` says when it and all others believe that the nodes are at `at`.
fn observation(me: u8, at: [u8; 6]) -> Observation {
    let line = |n: u8| {
        let own = if n == me { "myself," } else { "" };
        let rest = match n {
            1 => "master - 0 0 1 connected 0-5460".into(),
            2 => "master - 0 0 2 connected 5461-10922".into(),
            3 => "master - 0 0 3 connected 10923-16383".into(),
            n => format!("slave {:040x} 0 0 {} connected", n - 3, n - 3),
        };
        format!("{n:040x} {}@16379 {own}{rest}\n", addr(at[usize::from(n) - 1]))
    };
    let text: String = (1..=6).map(line).collect();
    let cluster = ClusterInfo { is_ok: true, known_nodes: 6, current_epoch: 3 };
    let asked = addr(at[usize::from(me) - 1]);
    let view = NodeView::new(asked, cluster, parse_nodes(&text).unwrap()).unwrap();
    let role = match me {
        1..=3 => Role::Primary,
        n => Role::Replica {
            primary_host: addr(at[usize::from(n) - 4]).ip().to_string(),
            primary_port: 6379,
            is_link_up: true,
        },
    };
    let memory = Memory { used: 10, max: 100 };
    Observation { view, info: NodeInfo { role, memory, ..NodeInfo::default() } }
}

fn placed(at: [u8; 6]) -> View {
    View { nodes: (1..=6).map(|me| observation(me, at)).collect(), ..View::default() }
}

fn found(view: &View) -> Vec<Finding> {
    diagnose(view, &BTreeMap::new(), None)
}

/// The only finding of a view.
#[track_caller]
fn only(view: &View) -> Finding {
    match found(view).as_slice() {
        [finding] => finding.clone(),
        other => panic!("not one finding: {other:#?}"),
    }
}

fn id(n: u8) -> String {
    format!("{n:040x}")
}

#[test]
fn a_healthy_cluster_has_no_finding() {
    assert_eq!(found(&placed(AT)), []);
}

#[test]
fn whatever_a_rule_finds_is_known_once() {
    let kinds: Vec<&str> = KNOWLEDGE.iter().map(|knowledge| knowledge.kind).collect();
    for kind in &kinds {
        assert_eq!(kinds.iter().filter(|other| other == &kind).count(), 1, "{kind}");
    }
    let kind_function = include_str!("../problem.rs").split("pub fn kind").nth(1).unwrap();
    let kind_function = kind_function.split("impl fmt::Display").next().unwrap();
    let mut named: Vec<&str> = quoted(kind_function, "=> ");
    assert!(named.len() > 10, "{named:?}");
    for rules in [
        include_str!("addresses.rs"),
        include_str!("placement.rs"),
        include_str!("load.rs"),
        include_str!("settings.rs"),
    ] {
        let before = named.len();
        named.extend(quoted(rules, "Fact::new("));
        named.extend(quoted(rules, "    kind: "));
        assert!(named.len() > before);
    }
    for field in ["    one: ", "    beside_primary: ", "    majority: "] {
        named.extend(quoted(include_str!("placement.rs"), field));
    }
    named.extend(["memory-evicts", "memory-full", "memory-nearly-full"]);
    for kind in &named {
        assert!(kinds.contains(kind), "nothing is known about {kind}");
    }
    for kind in kinds {
        assert!(named.contains(&kind), "nobody finds {kind}");
    }
}

/// The texts in quotes that come right after `before`.
fn quoted<'a>(source: &'a str, before: &str) -> Vec<&'a str> {
    let rest = source.split(before).skip(1);
    rest.filter_map(|rest| rest.strip_prefix('"')?.split('"').next()).collect()
}

#[test]
fn a_node_that_nobody_reaches_at_its_own_address_has_a_stale_one() {
    let mut view = placed(AT);
    // Asked under a new address, of which the others know; its own line is the old one.
    let moved = |me| observation(me, [9, 2, 3, 4, 5, 6]);
    view.nodes = (1..=6).map(moved).collect();
    let old_words = observation(1, AT);
    view.nodes[0] = Observation {
        view: NodeView::new(addr(9), old_words.view.cluster, old_words.view.lines().to_vec()).unwrap(),
        info: old_words.info,
    };
    let finding = only(&view);
    assert_eq!((finding.kind, finding.severity), ("stale-own-address", Severity::Warning));
    assert_eq!(finding.repair, ["redis-cli -h 10.0.0.9 -p 6379 CONFIG SET cluster-announce-ip 10.0.0.9"]);
}

#[test]
fn a_node_that_was_asked_under_another_name_is_no_finding() {
    let mut view = placed(AT);
    let same = observation(1, AT);
    view.nodes[0] = Observation {
        view: NodeView::new(addr(77), same.view.cluster, same.view.lines().to_vec()).unwrap(),
        info: same.info,
    };
    assert_eq!(found(&view), []);
}

/// Nodes of which some answer at new addresses (20 more at the end), while all know the old ones only.
fn moved(is_moved: impl Fn(u8) -> bool) -> View {
    let mut view = placed(AT);
    for (node, n) in view.nodes.iter_mut().zip(1..) {
        let mut text = String::new();
        for m in 1..=6u8 {
            let own = if m == n { "myself," } else { "" };
            let link = if is_moved(m) && m != n { "disconnected" } else { "connected" };
            let slots = ["0-5460", "5461-10922", "10923-16383"];
            text += &match m {
                1..=3 => format!(
                    "{m:040x} {}@16379 {own}master - 0 0 {m} {link} {}\n",
                    addr(m),
                    slots[usize::from(m) - 1]
                ),
                _ => format!("{m:040x} {}@16379 {own}slave {:040x} 0 0 {} {link}\n", addr(m), m - 3, m - 3),
            };
        }
        let asked = addr(if is_moved(n) { n + 20 } else { n });
        node.view = NodeView::new(asked, node.view.cluster, parse_nodes(&text).unwrap()).unwrap();
    }
    view
}

#[test]
fn of_nodes_that_all_have_new_addresses_the_first_finding_names_the_manager() {
    let findings = found(&moved(|_| true));
    assert_eq!((findings[0].kind, findings[0].severity), ("moved-nodes", Severity::Error));
    assert_eq!(findings[0].text, "the others look elsewhere for 6 of 6 nodes");
    let all: Vec<String> = (21..=26).map(|n| addr(n).to_string()).collect();
    assert_eq!(findings[0].repair, [format!("slotgate serve --manage --seed {}", all.join(","))]);
    // One alone is met again with the command that is told.
    assert!(found(&moved(|n| n == 5)).iter().all(|finding| finding.kind != "moved-nodes"));
    let some = found(&moved(|n| n == 2 || n == 5));
    assert_eq!(some[0].text, "the others look elsewhere for 2 of 6 nodes");
}

#[test]
fn a_replica_that_looks_elsewhere_for_its_primary_is_told_to_follow_again() {
    let mut view = placed(AT);
    view.nodes[3].info.role =
        Role::Replica { primary_host: "10.0.0.99".into(), primary_port: 6379, is_link_up: true };
    let finding = only(&view);
    assert_eq!(finding.kind, "stale-primary-address");
    assert_eq!(finding.repair, [format!("redis-cli -h 10.0.0.4 -p 6379 CLUSTER REPLICATE {}", id(1))]);
}

#[test]
fn a_replica_beside_its_primary_changes_places_with_another() {
    let finding = only(&placed([1, 2, 3, 1, 3, 2]));
    assert_eq!(finding.kind, "replica-on-primary-host");
    let replicate =
        |n: u8, primary| format!("redis-cli -h 10.0.0.{n} -p 6379 CLUSTER REPLICATE {}", id(primary));
    assert_eq!(finding.repair.len(), 2, "{finding:?}");
    assert_eq!(finding.repair[0], replicate(1, 2));
    assert_eq!(finding.repair[1], replicate(3, 1));
}

#[test]
fn a_host_with_most_primaries_hands_one_over() {
    // The ports are the same here, so nodes of one host differ by their numbers only in this model.
    let finding = only(&placed([1, 1, 3, 4, 5, 6]));
    assert_eq!(finding.kind, "majority-on-one-host");
    assert_eq!(finding.repair, ["slotgate failover 10.0.0.1:6379 10.0.0.1:6379"]);
}

/// Six hosts in these zones.
fn in_zones(zones: [&str; 6]) -> View {
    let mut view = placed(AT);
    for (node, zone) in view.nodes.iter_mut().zip(zones) {
        node.info.zone = Some(zone.into());
    }
    view
}

#[test]
fn what_is_in_one_zone_is_told_like_what_is_on_one_host() {
    assert_eq!(found(&in_zones(["a", "b", "c", "b", "c", "a"])), []);
    let finding = only(&in_zones(["a", "b", "c", "a", "c", "b"]));
    assert_eq!((finding.kind, finding.severity), ("replica-in-primary-zone", Severity::Warning));
    assert_eq!(finding.repair.len(), 2, "{finding:?}");
    assert!(
        finding.text.contains("10.0.0.4:6379 is in the zone a, as is its primary 10.0.0.1:6379"),
        "{finding:?}"
    );
    let finding = only(&in_zones(["a", "a", "b", "b", "b", "a"]));
    assert_eq!(finding.kind, "majority-in-one-zone");
    assert_eq!(finding.repair, ["slotgate failover 10.0.0.1:6379 10.0.0.1:6379"]);
    assert_eq!(only(&in_zones(["a"; 6])).kind, "one-zone");
}

#[test]
fn one_host_for_all_is_a_hint() {
    let finding = only(&placed([1; 6]));
    assert_eq!((finding.kind, finding.severity), ("one-host", Severity::Hint));
}

#[test]
fn memory_and_disks_that_are_full_are_told() {
    let mut view = placed(AT);
    view.nodes[1].info.memory.used = 85;
    let finding = only(&view);
    assert_eq!((finding.kind, finding.severity), ("memory-nearly-full", Severity::Warning));
    assert_eq!(finding.repair, ["slotgate config set maxmemory 150 10.0.0.1:6379"]);
    view.nodes[1].info.memory.used = u64::MAX;
    assert_eq!(only(&view).kind, "memory-full");
    view.nodes[1].info.memory = Memory { used: 10, max: 100 };
    view.nodes[2].info.has_save_failed = true;
    assert_eq!(only(&view).kind, "save-failed");
}

fn all_set(pairs: &[(&str, &str)]) -> BTreeMap<SocketAddr, Result<Settings, NodeError>> {
    let settings: Settings =
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    (1..=6).map(|n| (addr(n), Ok(settings.clone()))).collect()
}

#[test]
fn settings_that_will_hurt_are_found_with_a_better_value() {
    let kinds = |pairs: &[(&str, &str)]| {
        let findings = diagnose(&placed(AT), &all_set(pairs), None);
        findings.iter().map(|finding| finding.kind).collect::<Vec<_>>()
    };
    let fine = [
        ("cluster-node-timeout", "5000"),
        ("appendonly", "no"),
        ("save", "3600 1"),
        ("min-replicas-to-write", "0"),
    ];
    assert_eq!(kinds(&fine), [""; 0]);
    assert_eq!(kinds(&[("cluster-node-timeout", "1999")]), ["hasty-node-timeout"]);
    assert_eq!(kinds(&[("cluster-node-timeout", "60000")]), ["patient-node-timeout"]);
    assert_eq!(kinds(&[("cluster-replica-validity-factor", "0")]), ["stale-replica-may-take-over"]);
    assert_eq!(kinds(&[("cluster-replica-no-failover", "yes")]), ["no-automatic-failover"]);
    assert_eq!(kinds(&[("cluster-require-full-coverage", "yes")]), ["one-lost-slot-stops-all"]);
    assert_eq!(kinds(&[("cluster-allow-replica-migration", "yes")]), ["replicas-move-by-themselves"]);
    assert_eq!(kinds(&[("min-replicas-to-write", "1")]), ["writes-need-every-replica"]);
    assert_eq!(kinds(&[("appendonly", "no"), ("save", "")]), ["nothing-is-saved"]);
    assert_eq!(kinds(&[("cluster-preferred-endpoint-type", "hostname")]), ["names-without-hostname"]);
}

#[test]
fn nodes_that_are_set_differently_are_made_alike() {
    let mut read = all_set(&[("cluster-node-timeout", "5000")]);
    read.insert(addr(6), Ok([("cluster-node-timeout".to_string(), "6000".to_string())].into()));
    let findings = diagnose(&placed(AT), &read, None);
    let [finding] = findings.as_slice() else { panic!("{findings:#?}") };
    assert_eq!(finding.kind, "settings-differ");
    assert_eq!(finding.repair, ["slotgate config set cluster-node-timeout 5000 10.0.0.1:6379"]);
}

#[test]
fn a_lost_primary_is_told_with_the_votes_that_are_left() {
    let mut view = placed(AT);
    view.nodes.remove(1);
    let finding = only(&view);
    assert_eq!((finding.kind, finding.severity), ("minority-risk", Severity::Error));
    assert_eq!(finding.repair, ["redis-cli -h 10.0.0.2 -p 6379 PING"]);
}
