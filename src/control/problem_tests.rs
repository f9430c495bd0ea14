//! One flaw at a time in a healthy cluster of two primaries and two replicas.

use super::super::observe::{ClusterInfo, NodeInfo, parse_nodes};
use super::super::view::Observation;
use super::*;

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, n], 7000))
}

/// Node `n`'s flags, primary, epoch, link and slots, as everyone sees them.
fn line(n: u8, rest: &str) -> String {
    format!("{n:040x} 127.0.0.{n}:7000@17000 {rest}\n")
}

fn healthy_lines() -> Vec<(u8, String)> {
    vec![
        (1, "master - 0 0 1 connected 0-8191".into()),
        (2, "master - 0 0 2 connected 8192-16383".into()),
        (3, format!("slave {:040x} 0 0 1 connected", 1)),
        (4, format!("slave {:040x} 0 0 2 connected", 2)),
    ]
}

fn observation(me: u8, lines: &[(u8, String)]) -> Observation {
    let own = |n: u8, rest: &str| if n == me { format!("myself,{rest}") } else { rest.into() };
    let text: String = lines.iter().map(|(n, rest)| line(*n, &own(*n, rest))).collect();
    let cluster = ClusterInfo { is_ok: true, known_nodes: lines.len(), current_epoch: 2 };
    let view = NodeView::new(addr(me), cluster, parse_nodes(&text).unwrap()).unwrap();
    let role = match me {
        1 | 2 => Role::Primary,
        n => {
            Role::Replica { primary_host: format!("127.0.0.{}", n - 2), primary_port: 7000, is_link_up: true }
        }
    };
    Observation { view, info: NodeInfo { role, ..NodeInfo::default() } }
}

fn healthy() -> View {
    let nodes = (1..=4).map(|me| observation(me, &healthy_lines())).collect();
    View { nodes, ..View::default() }
}

/// A view in which each of `viewers` sees node `n` as `rest`.
fn seen(viewers: &[u8], n: u8, rest: &str) -> View {
    let mut lines = healthy_lines();
    lines[usize::from(n) - 1].1 = rest.into();
    let mut view = healthy();
    for viewer in viewers {
        view.nodes[usize::from(*viewer) - 1] = observation(*viewer, &lines);
    }
    view
}

fn kinds(view: &View) -> Vec<&'static str> {
    problems(view, None).iter().map(Problem::kind).collect()
}

#[test]
fn a_healthy_cluster_has_no_problem() {
    assert_eq!(problems(&healthy(), Some(1)), []);
}

#[test]
fn slots_that_nobody_owns_are_listed() {
    let found = problems(&seen(&[1, 2, 3, 4], 2, "master - 0 0 2 connected 8192-9000 9003-16383"), None);
    assert_eq!(found, [Problem::Uncovered { slots: vec![SlotRange::new(9001, 9002).unwrap()] }]);
    assert_eq!(found[0].to_string(), "no node owns the slots 9001-9002");
}

#[test]
fn nodes_that_disagree_are_grouped() {
    let found = problems(&seen(&[3], 2, "master - 0 0 2 connected 8193-16383"), None);
    let groups = vec![vec![addr(3)], vec![addr(1), addr(2), addr(4)]];
    let Problem::Disagreement { groups: mut actual } = found[0].clone() else { panic!("{found:?}") };
    actual.sort_by_key(Vec::len);
    assert_eq!((found.len(), actual), (1, groups));
}

#[test]
fn an_open_slot_is_told_with_its_direction() {
    let peer = format!("{:040x}", 2);
    let found = problems(&seen(&[1], 1, &format!("master - 0 0 1 connected 0-8191 [7->-{peer}]")), None);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].to_string(), "slot 7 is open: 127.0.0.1:7000 is migrating it to 00000000");
}

#[test]
fn a_role_that_one_node_has_not_learned_is_told() {
    let found = problems(&seen(&[4], 3, "master - 0 0 0 connected"), None);
    let (seen, is) = (None, Some(format!("{:040x}", 1).parse().unwrap()));
    assert_eq!(found, [Problem::OtherRole { viewer: addr(4), member: addr(3), seen, is }]);
}

#[test]
fn a_failed_member_is_told_even_when_one_node_alone_says_so() {
    let replica = format!("slave,fail {:040x} 0 0 1 disconnected", 1);
    assert_eq!(kinds(&seen(&[2], 3, &replica)), ["failed"]);
    // Its primary then has no replica in order.
    assert_eq!(kinds(&seen(&[1], 3, &replica)), ["failed", "few-replicas"]);
    assert_eq!(kinds(&seen(&[2], 3, &replica.replace("fail", "fail?"))), ["suspected"]);
}

#[test]
fn a_member_that_one_node_does_not_know_is_told_with_the_bus_port() {
    let mut view = healthy();
    view.nodes[3] = observation(4, &healthy_lines()[1..]);
    let found = problems(&view, None);
    let unknown = Problem::Unknown { viewer: addr(4), member: addr(1), bus_port: 17000 };
    assert!(found.contains(&unknown) && unknown.to_string().contains("port 17000"), "{found:?}");
}

#[test]
fn handshakes_lost_addresses_and_missing_bus_connections_are_told() {
    assert!(kinds(&seen(&[2], 1, "handshake - 0 0 0 connected")).contains(&"handshake"));
    assert_eq!(kinds(&seen(&[2], 1, "master,noaddr - 0 0 1 disconnected 0-8191")), ["no-address"]);
    assert_eq!(kinds(&seen(&[2], 1, "master - 0 0 1 disconnected 0-8191")), ["no-bus-connection"]);
}

#[test]
fn a_replica_without_its_link_is_told() {
    let mut view = healthy();
    view.nodes[2].info.role =
        Role::Replica { primary_host: "10.9.9.9".into(), primary_port: 7000, is_link_up: false };
    let found = problems(&view, None);
    assert_eq!(found, [Problem::LinkDown { replica: addr(3), primary: "10.9.9.9:7000".into() }]);
}

#[test]
fn primaries_of_one_epoch_are_told() {
    let found = problems(&seen(&[1, 2, 3, 4], 2, "master - 0 0 1 connected 8192-16383"), None);
    assert_eq!(found, [Problem::SameEpoch { epoch: 1, primaries: vec![addr(1), addr(2)] }]);
}

#[test]
fn replicas_are_missed_where_others_have_one_or_where_they_were_asked_for() {
    let orphaned = format!("slave {:040x} 0 0 2 connected", 2);
    assert_eq!(kinds(&seen(&[1, 2, 3, 4], 3, &orphaned)), ["few-replicas"]);
    assert_eq!(problems(&healthy(), Some(2)).len(), 2);
    let mut bare = healthy();
    bare.nodes = (1..=2).map(|me| observation(me, &healthy_lines()[..2])).collect();
    assert_eq!(problems(&bare, None), []);
}

#[test]
fn a_node_that_does_not_serve_or_answer_is_told() {
    let mut view = healthy();
    view.nodes[0].view.cluster.is_ok = false;
    let error = super::super::observe::ObserveError::NotCluster(addr(9));
    view.silent.push(super::super::view::Silent { addr: addr(9), error });
    assert_eq!(kinds(&view), ["silent", "not-serving"]);
}

#[test]
fn a_node_that_sorts_a_replica_into_a_shard_of_its_own_is_seen() {
    let mut view = healthy();
    view.nodes[3].info.shards = Some(2);
    assert_eq!(kinds(&view), [""; 0]);
    view.nodes[3].info.shards = Some(3);
    assert_eq!(problems(&view, None), [Problem::SplitShard { viewer: addr(4) }]);
}
