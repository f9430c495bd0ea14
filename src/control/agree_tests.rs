//! Small clusters told by lines of `CLUSTER NODES`; node `n` answers at 127.0.0.n:7000.

use super::super::observe::{ClusterInfo, parse_nodes};
use super::*;

fn id(n: u8) -> NodeId {
    format!("{n:040x}").parse().unwrap()
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, n], 7000))
}

/// What node `me` says: `(node, flags, epoch, slots)`; flags `slave:1` name the primary.
fn view(me: u8, is_ok: bool, members: &[(u8, &str, u64, &str)]) -> NodeView {
    let line = |(n, flags, epoch, slots): &(u8, &str, u64, &str)| {
        let (flags, primary) = match flags.split_once(':') {
            Some((flags, primary)) => (flags, id(primary.parse().unwrap()).to_string()),
            None => (*flags, "-".into()),
        };
        let own = if *n == me { "myself," } else { "" };
        format!("{} 127.0.0.{n}:7000@17000 {own}{flags} {primary} 0 0 {epoch} connected {slots}\n", id(*n))
    };
    let text: String = members.iter().map(line).collect();
    let cluster = ClusterInfo { is_ok, known_nodes: members.len(), current_epoch: 0 };
    NodeView::new(addr(me), cluster, parse_nodes(&text).unwrap()).unwrap()
}

fn agreement(views: &[NodeView], current: &Snapshot, is_seed: bool) -> Option<Agreement> {
    let heard: Vec<Heard<'_>> = views.iter().map(|view| Heard { view, is_seed }).collect();
    agree(&heard, current).unwrap()
}

fn snapshot(views: &[NodeView]) -> Snapshot {
    agreement(views, &Snapshot::empty(), true).unwrap().snapshot
}

fn owner(snapshot: &Snapshot, slot: u16) -> Option<NodeId> {
    snapshot.primary_of(Slot::new(slot).unwrap()).map(|node| node.id)
}

const BEFORE: [(u8, &str, u64, &str); 3] =
    [(1, "master", 1, "0-8191"), (2, "master", 2, "8192-16383"), (3, "slave:1", 1, "")];
const AFTER: [(u8, &str, u64, &str); 3] =
    [(1, "slave:3", 3, ""), (2, "master", 2, "8192-16383"), (3, "master", 3, "0-8191")];

#[test]
fn shards_hold_their_primary_replicas_and_slots() {
    let snapshot = snapshot(&[view(1, true, &BEFORE), view(2, true, &BEFORE)]);
    assert_eq!((snapshot.covered(), snapshot.shards().len(), snapshot.nodes().len()), (SLOTS, 2, 3));
    assert_eq!((owner(&snapshot, 0), owner(&snapshot, 16383)), (Some(id(1)), Some(id(2))));
    let shard = snapshot.shard(snapshot.shard_of(Slot::new(0).unwrap()).unwrap());
    assert_eq!(shard.replicas.iter().map(|ix| snapshot.node(*ix).addr).collect::<Vec<_>>(), [addr(3)]);
}

#[test]
fn the_highest_epoch_wins_even_against_more_votes() {
    let views = [view(1, true, &BEFORE), view(2, true, &BEFORE), view(3, true, &AFTER)];
    let snapshot = snapshot(&views);
    assert_eq!(owner(&snapshot, 0), Some(id(3)));
    // The old primary still calls itself one: a shard without slots, not the owner of any.
    assert_eq!(snapshot.covered(), SLOTS);
}

#[test]
fn of_equal_epochs_the_most_votes_win() {
    let one = [(1, "master", 5, "0-16383"), (2, "master", 5, "")];
    let two = [(1, "master", 5, ""), (2, "master", 5, "0-16383")];
    let lone = [(1, "master", 5, "0-16383"), (2, "master", 5, ""), (3, "master", 0, "")];
    assert_eq!(
        owner(&snapshot(&[view(1, true, &one), view(3, true, &lone), view(2, true, &two)]), 7),
        Some(id(1))
    );
}

#[test]
fn nodes_that_cannot_see_the_majority_are_not_heard_while_others_can() {
    let minority = [(1, "master", 9, "0-8191"), (2, "master,fail?", 2, "8192-16383"), (3, "slave:1", 1, "")];
    let snapshot = snapshot(&[view(1, false, &minority), view(2, true, &AFTER)]);
    assert_eq!(owner(&snapshot, 0), Some(id(3)));
    assert!(snapshot.nodes().iter().all(|node| node.health == Health::Ok));
}

#[test]
fn a_cluster_that_is_down_as_a_whole_is_still_known() {
    let lines = [(1, "master", 1, "0-8191"), (2, "master,fail", 2, "8192-16383")];
    let snapshot = snapshot(&[view(1, false, &lines)]);
    assert_eq!((snapshot.covered(), snapshot.served()), (SLOTS, 8192));
}

#[test]
fn a_node_has_failed_when_the_majority_of_views_says_so() {
    let health = |words: [&str; 3]| {
        let lines = |word| {
            [(1, word, 1, "0-16383"), (2, "master", 2, ""), (3, "master", 3, ""), (4, "master", 4, "")]
        };
        let views: Vec<NodeView> = (2..5).zip(words).map(|(me, word)| view(me, true, &lines(word))).collect();
        snapshot(&views).node(0).health
    };
    assert_eq!(health(["master", "master", "master"]), Health::Ok);
    assert_eq!(health(["master,fail?", "master", "master"]), Health::Suspect);
    assert_eq!(health(["master,fail", "master", "master"]), Health::Suspect);
    assert_eq!(health(["master,fail", "master,fail", "master"]), Health::Failed);
}

#[test]
fn strangers_at_a_known_address_are_not_heard() {
    let current = snapshot(&[view(1, true, &BEFORE)]);
    let strangers = [(8, "master", 99, "0-16383")];
    assert!(agreement(&[view(8, true, &strangers)], &current, false).is_none());
    let both = agreement(&[view(8, true, &strangers), view(2, true, &BEFORE)], &current, true).unwrap();
    assert_eq!(owner(&both.snapshot, 0), Some(id(1)));
    // A seed is the operator's word: a rebuilt cluster is found by it when nobody of the old answers.
    let rebuilt = agreement(&[view(8, true, &strangers)], &current, true).unwrap();
    assert_eq!(owner(&rebuilt.snapshot, 0), Some(id(8)));
}

#[test]
fn fewer_slots_need_a_second_witness_or_a_second_look() {
    let current = snapshot(&[view(1, true, &BEFORE)]);
    let fewer = [(1, "master", 1, "0-8191"), (2, "master", 2, "8192-9000")];
    let one = agreement(&[view(1, true, &fewer)], &current, false).unwrap();
    assert!(!one.may_replace(&current, false));
    assert!(one.may_replace(&current, true));
    let two = agreement(&[view(1, true, &fewer), view(2, true, &fewer)], &current, false).unwrap();
    assert!(two.may_replace(&current, false));
}

#[test]
fn an_empty_node_never_clears_the_topology() {
    let current = snapshot(&[view(1, true, &BEFORE)]);
    let empty = agreement(&[view(8, false, &[(8, "master", 0, "")])], &current, true).unwrap();
    assert!(!empty.may_replace(&current, true));
}

#[test]
fn a_node_that_moved_is_where_the_others_see_it_or_where_it_answered() {
    let moved = |me: u8, asked: u8, own: u8, other: u8| {
        let line = |n: u8, at: u8| {
            let flags = if n == me { "myself,master" } else { "master" };
            format!("{} 127.0.0.{at}:7000@17000 {flags} - 0 0 {n} connected {n}\n", id(n))
        };
        let text = if me == 1 { line(1, own) + &line(2, 2) } else { line(1, other) + &line(2, 2) };
        NodeView::new(
            addr(asked),
            ClusterInfo { is_ok: true, ..Default::default() },
            parse_nodes(&text).unwrap(),
        )
        .unwrap()
    };
    // Its own line is stale (9), the other's is right (5).
    assert_eq!(snapshot(&[moved(1, 5, 9, 5), moved(2, 2, 0, 5)]).node(0).addr, addr(5));
    // It knows its new address and answered there; the other has yet to learn.
    assert_eq!(snapshot(&[moved(1, 5, 5, 9), moved(2, 2, 0, 9)]).node(0).addr, addr(5));
    // Nobody asked it: what the other says.
    assert_eq!(snapshot(&[moved(2, 2, 0, 9)]).node(0).addr, addr(9));
}

#[test]
fn a_member_whose_address_got_lost_keeps_the_one_we_knew() {
    let current = snapshot(&[view(1, true, &BEFORE)]);
    let text = format!(
        "{} 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-8191\n{} :0@0 master,noaddr - 0 0 2 disconnected 8192-16383\n",
        id(1),
        id(2)
    );
    let lost = NodeView::new(addr(1), ClusterInfo::default(), parse_nodes(&text).unwrap()).unwrap();
    let next = agreement(&[lost], &current, false).unwrap().snapshot;
    assert_eq!(next.primary_of(Slot::new(9000).unwrap()).map(|node| node.addr), Some(addr(2)));
}

#[test]
fn a_replica_of_a_demoted_primary_goes_with_it_to_the_new_one() {
    let lines = [
        (1, "slave:3", 3, ""),
        (2, "master", 2, "8192-16383"),
        (3, "master", 3, "0-8191"),
        (4, "slave:1", 3, ""),
        (5, "handshake", 0, ""),
    ];
    let snapshot = snapshot(&[view(2, true, &lines)]);
    let shard = snapshot.shard(snapshot.shard_of(Slot::new(0).unwrap()).unwrap());
    assert_eq!((shard.replicas.len(), snapshot.nodes().len()), (2, 4));
}

#[test]
fn equal_views_make_equal_snapshots_in_any_order() {
    let (one, two) = (view(1, true, &BEFORE), view(2, true, &BEFORE));
    assert_eq!(snapshot(&[one.clone(), two.clone()]), snapshot(&[two, one]));
}
