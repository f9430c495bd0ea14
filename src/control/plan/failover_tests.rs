//! Who takes over in small clusters, and who must not.

use super::*;
use crate::control::observe::{ClusterInfo, NodeInfo, parse_nodes};
use crate::control::view::NodeView;

/// Four nodes of two shards: 1 and 2 are primaries, 3 and 5 replicate 1, 4 replicates 2. Node `n` is on
/// host 127.0.0.`n`. `offset` and `is_link_up` are the replicas'.
fn observation(me: u8, offset: u64, is_link_up: bool) -> Observation {
    let rest = |n: u8| match n {
        1 => "master - 0 0 1 connected 0-5000".to_string(),
        2 => "master - 0 0 2 connected 5001-10000".to_string(),
        6 => "master - 0 0 3 connected 10001-16383".to_string(),
        4 => format!("slave {:040x} 0 0 2 connected", 2),
        _ => format!("slave {:040x} 0 0 1 connected", 1),
    };
    let line = |n: u8| {
        let own = if n == me { "myself," } else { "" };
        format!("{n:040x} 127.0.0.{n}:7000@17000 {own}{}\n", rest(n))
    };
    let text: String = (1..=6).map(line).collect();
    let cluster = ClusterInfo { is_ok: true, known_nodes: 6, current_epoch: 3 };
    let view = NodeView::new(addr(me), cluster, parse_nodes(&text).unwrap()).unwrap();
    let role = match me {
        1 | 2 | 6 => Role::Primary,
        _ => Role::Replica { primary_host: "127.0.0.1".into(), primary_port: 7000, is_link_up },
    };
    Observation { view, info: NodeInfo { role, offset, ..NodeInfo::default() } }
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, n], 7000))
}

fn id(n: u8) -> NodeId {
    format!("{n:040x}").parse().unwrap()
}

fn view(nodes: &[(u8, u64, bool)]) -> View {
    let nodes = nodes.iter().map(|(n, offset, is_link_up)| observation(*n, *offset, *is_link_up)).collect();
    View { nodes, ..View::default() }
}

const ALL: [(u8, u64, bool); 6] =
    [(1, 100, true), (2, 50, true), (3, 90, true), (4, 50, true), (5, 95, true), (6, 0, true)];

#[test]
fn the_replica_that_lacks_least_takes_over_from_a_primary() {
    let over = failover(&view(&ALL), id(1), 1000).unwrap();
    assert_eq!((over.replica.addr, over.primary.addr, over.lag), (addr(5), addr(1), 5));
    let mut down = ALL;
    down[4].2 = false;
    assert_eq!(failover(&view(&down), id(1), 1000).unwrap().replica.addr, addr(3));
}

#[test]
fn a_shard_whose_slots_are_on_the_move_is_not_handed_over() {
    let mut view = view(&ALL);
    let moving = format!("0-5000 [6000-<-{:040x}]", 2);
    let lines = format!("{:040x} 127.0.0.1:7000@17000 myself,master - 0 0 1 connected {moving}\n", 1);
    let cluster = ClusterInfo { is_ok: true, known_nodes: 6, current_epoch: 3 };
    view.nodes[0].view = NodeView::new(addr(1), cluster, parse_nodes(&lines).unwrap()).unwrap();
    assert_eq!(failover(&view, id(1), 1000), Err(Refusal::SlotsOpen(addr(1))));
}

#[test]
fn a_replica_that_is_named_takes_over_itself() {
    assert_eq!(failover(&view(&ALL), id(3), 1000).unwrap().replica.addr, addr(3));
}

#[test]
fn what_could_lose_writes_is_refused() {
    let mut down = ALL;
    down[3].2 = false;
    assert_eq!(failover(&view(&down), id(2), 1000), Err(Refusal::LinkDown(addr(4))));
    assert_eq!(failover(&view(&ALL), id(3), 9), Err(Refusal::Lag { replica: addr(3), lag: 10, max: 9 }));
    assert_eq!(failover(&view(&ALL), id(6), 9), Err(Refusal::NoReplica(addr(6))));
    assert!(matches!(failover(&view(&ALL[1..]), id(1), 9), Err(Refusal::NoPrimary(_))));
    assert!(matches!(failover(&view(&ALL[1..]), id(3), 9), Err(Refusal::NoPrimary(_))));
    let no_replica_3 = [ALL[0], ALL[1], ALL[5]];
    assert!(matches!(failover(&view(&no_replica_3), id(3), 9), Err(Refusal::Silent(_))));
    assert_eq!(
        failover(&view(&[ALL[0], ALL[2]]), id(1), 1000),
        Err(Refusal::NoMajority { alive: 1, primaries: 3 })
    );
}

#[test]
fn a_host_is_left_by_all_its_primaries_or_by_none() {
    let hosts = |ns: &[u8]| ns.iter().map(|n| addr(*n).ip()).collect::<Vec<_>>();
    let replicas = |hosts: &[IpAddr]| {
        let overs = switch_all_from(&view(&ALL), hosts, 1000)?;
        Ok(overs.iter().map(|over| over.replica.addr).collect::<Vec<_>>())
    };
    assert_eq!(replicas(&hosts(&[1])), Ok(vec![addr(5)]));
    assert_eq!(replicas(&hosts(&[1, 2, 5])), Ok(vec![addr(3), addr(4)]));
    assert_eq!(replicas(&hosts(&[3])), Ok(vec![]));
    assert_eq!(replicas(&hosts(&[1, 6])), Err(Refusal::NoReplicaElsewhere(addr(6), addr(6).ip())));
    assert_eq!(replicas(&hosts(&[2, 4])), Err(Refusal::NoReplicaElsewhere(addr(2), addr(2).ip())));
}
