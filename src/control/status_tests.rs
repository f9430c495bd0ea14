//! How a small cluster is shown.

use super::*;
use crate::control::doctor::diagnose;
use crate::control::observe::{ClusterInfo, NodeInfo, parse_nodes};
use crate::control::view::NodeView;

/// Two primaries, a replica of the first beside it, and one of the second that did not answer.
fn view() -> View {
    let observe = |me: u8| {
        let line = |n: u8| {
            let own = if n == me { "myself," } else { "" };
            let rest = match n {
                1 => "master - 0 0 1 connected 8000-16383".into(),
                2 => "master - 0 0 2 connected 0-7999".into(),
                n => format!("slave {:040x} 0 0 1 connected", n - 2),
            };
            format!("{n:040x} 10.0.0.{}:{}@1 {own}{rest}\n", if n == 3 { 1 } else { n }, 7000 + u16::from(n))
        };
        let text: String = (1..=4).map(line).collect();
        let cluster = ClusterInfo { is_ok: true, known_nodes: 4, current_epoch: 2 };
        let asked = SocketAddr::from(([10, 0, 0, if me == 3 { 1 } else { me }], 7000 + u16::from(me)));
        let role = match me {
            3 => Role::Replica { primary_host: "10.0.0.1".into(), primary_port: 7001, is_link_up: true },
            _ => Role::Primary,
        };
        let info = NodeInfo { keys: 5, role, offset: 100 - u64::from(me), ..NodeInfo::default() };
        Observation { view: NodeView::new(asked, cluster, parse_nodes(&text).unwrap()).unwrap(), info }
    };
    View { nodes: (1..=3).map(observe).collect(), ..View::default() }
}

#[test]
fn shards_come_by_their_slots_and_members_with_their_state() {
    let status = status(&view());
    let shown: Vec<(usize, Vec<u16>)> = status
        .shards
        .iter()
        .map(|shard| {
            (
                shard.slot_count(),
                shard.members.iter().filter_map(|member| Some(member.addr?.port())).collect(),
            )
        })
        .collect();
    assert_eq!(shown, [(8000, vec![7002, 7004]), (8384, vec![7001, 7003])]);
    let silent = &status.shards[0].members[1];
    assert_eq!((silent.is_primary, silent.state.is_none()), (false, true));
    let replica = &status.shards[1].members[1];
    let state = replica.state.as_ref().unwrap();
    assert_eq!((replica.is_beside_primary, state.is_link_up, state.lag), (true, Some(true), Some(2)));
}

#[test]
fn the_verdict_names_the_worst_finding_and_is_fine_with_hints() {
    let (view, read) = (view(), BTreeMap::new());
    let findings = diagnose(&view, &read, None);
    let (is_healthy, text) = verdict(&status(&view), &findings);
    assert!(!is_healthy && text.starts_with("NOT healthy (errors: 0, warnings: 2). First: "), "{text}");
    let hints: Vec<Finding> =
        findings.into_iter().filter(|finding| finding.severity == Severity::Hint).collect();
    assert!(!hints.is_empty());
    let (is_healthy, text) = verdict(&status(&view), &hints);
    assert_eq!(
        (is_healthy, text.as_str()),
        (true, "Healthy: 2 shards, 4 nodes, all 16384 slots covered, 10 keys.")
    );
}
