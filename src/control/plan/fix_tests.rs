//! One slot in doubt at a time, among three primaries (1 to 3) and a replica of the first (4).

use super::*;
use crate::control::observe::{ClusterInfo, NodeInfo, parse_nodes};
use crate::control::view::Observation;
use proptest::prelude::*;

const SLOT: u16 = 93;

fn slot() -> Slot {
    Slot::new(SLOT).unwrap()
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 6379))
}

fn id(n: u8) -> NodeId {
    format!("{n:040x}").parse().unwrap()
}

/// All four nodes; each of `open` is a node and what its own line says at the end. `first` is what all
/// believe that node 1 owns.
fn view(first: &str, open: &[(u8, String)], silent: &[u8]) -> View {
    let observe = |me: u8| {
        let line = |n: u8| {
            let own = if n == me { "myself," } else { "" };
            let rest = match n {
                1 => format!("master - 0 0 1 connected {first}"),
                2 => "master - 0 0 2 connected 5461-10922".into(),
                3 => "master - 0 0 3 connected 10923-16383".into(),
                _ => format!("slave {} 0 0 1 connected", id(1)),
            };
            let open = open.iter().filter(|(node, _)| *node == n && n == me).map(|(_, text)| text.as_str());
            let open: Vec<&str> = open.collect();
            format!("{n:040x} {}@16379 {own}{rest} {}\n", addr(n), open.join(" "))
        };
        let text: String = (1..=4).map(line).collect();
        let cluster = ClusterInfo { is_ok: true, known_nodes: 4, current_epoch: 3 };
        let view = NodeView::new(addr(me), cluster, parse_nodes(&text).unwrap()).unwrap();
        Observation { view, info: NodeInfo::default() }
    };
    let nodes = (1..=4).filter(|n| !silent.contains(n)).map(observe).collect();
    View { nodes, ..View::default() }
}

const ALL: &str = "0-5460";
const WITHOUT: &str = "0-92 94-5460";

fn migrating(n: u8, to: u8) -> (u8, String) {
    (n, format!("[{SLOT}->-{}]", id(to)))
}

fn importing(n: u8, from: u8) -> (u8, String) {
    (n, format!("[{SLOT}-<-{}]", id(from)))
}

fn held(by: &[(u8, u64)]) -> SlotKeys {
    by.iter().map(|(n, keys)| (id(*n), BTreeMap::from([(slot(), *keys)]))).collect()
}

/// Where the slot is settled, and from whom.
#[track_caller]
fn settled(open: &[(u8, String)], keys: &[(u8, u64)]) -> (SocketAddr, Vec<SocketAddr>) {
    let fix = fix(&view(ALL, open, &[]), &held(keys), &[]);
    match (fix.actions.as_slice(), fix.refused.as_slice()) {
        ([Action::SettleSlot { node, from, others, may_lose: false, .. }], []) => {
            assert_eq!(1 + from.len() + others.len(), 3, "every primary is told");
            (node.addr, from.iter().map(|party| party.addr).collect())
        }
        _ => panic!("{fix:?}"),
    }
}

#[test]
fn a_move_that_both_ends_know_of_is_finished() {
    let open = [migrating(1, 2), importing(2, 1)];
    assert_eq!(settled(&open, &[(1, 5)]), (addr(2), vec![addr(1)]));
    // A third one that imports too is closed, and its keys come along.
    let open = [migrating(1, 2), importing(2, 1), importing(3, 1)];
    assert_eq!(settled(&open, &[(3, 5)]), (addr(2), vec![addr(1), addr(3)]));
}

#[test]
fn any_other_open_slot_goes_back_to_its_owner() {
    assert_eq!(settled(&[migrating(1, 2)], &[]), (addr(1), vec![]));
    assert_eq!(settled(&[importing(2, 1)], &[(2, 5)]), (addr(1), vec![addr(2)]));
    assert_eq!(settled(&[migrating(1, 2), importing(3, 1)], &[(3, 5)]), (addr(1), vec![addr(3)]));
    assert_eq!(settled(&[migrating(1, 2), importing(3, 1)], &[]), (addr(1), vec![addr(3)]));
}

#[test]
fn a_move_whose_end_has_keys_and_knows_of_no_move_is_finished() {
    assert_eq!(settled(&[migrating(1, 2)], &[(1, 5), (2, 5)]), (addr(2), vec![addr(1)]));
    // The fourth was the owner of the second's place, and is a replica of the first by now.
    let open = [migrating(2, 4)];
    let fix = fix(&view(WITHOUT, &owned_by(2, &open), &[]), &held(&[(1, 5)]), &[]);
    let [Action::SettleSlot { node, from, .. }] = fix.actions.as_slice() else { panic!("{fix:?}") };
    assert_eq!((node.addr, from[0].addr), (addr(1), addr(2)));
}

/// The same, and the slot is node `n`'s by its own word.
fn owned_by(n: u8, open: &[(u8, String)]) -> Vec<(u8, String)> {
    [&[(n, SLOT.to_string())], open].concat()
}

#[test]
fn a_slot_without_an_owner_goes_to_who_holds_its_keys() {
    let view = view(WITHOUT, &[], &[]);
    let given = |keys: &[(u8, u64)]| match fix(&view, &held(keys), &[]).actions.as_slice() {
        [Action::AddSlots { node, ranges }] if ranges == &[SlotRange::new(SLOT, SLOT).unwrap()] => node.addr,
        other => panic!("{other:?}"),
    };
    assert_eq!(given(&[(3, 7)]), addr(3));
    // The first has the fewest slots now.
    assert_eq!(given(&[]), addr(1));
}

#[test]
fn what_could_lose_keys_is_left_until_it_is_named() {
    let named = [SlotRange::new(90, 95).unwrap()];
    let reason = |view: &View, keys: &[(u8, u64)]| {
        let fix = fix(view, &held(keys), &[SlotRange::new(94, 94).unwrap()]);
        assert_eq!(fix.actions, []);
        fix.refused[0].reason.clone()
    };
    let scattered = view(WITHOUT, &[], &[]);
    assert!(matches!(reason(&scattered, &[(2, 1), (3, 2)]), Reason::Scattered(_)));
    let allowed = fix(&scattered, &held(&[(2, 1), (3, 2)]), &named).actions;
    assert!(
        matches!(allowed.as_slice(), [Action::AddSlots { .. }, Action::SettleSlot { node, may_lose: true, .. }]
            if node.addr == addr(3)),
        "{allowed:?}"
    );
    let silent = view(WITHOUT, &[], &[2]);
    assert_eq!(reason(&silent, &[]), Reason::Silent(addr(2).to_string()));
    assert_eq!(fix(&silent, &held(&[]), &named).actions.len(), 1);
    let half = view(ALL, &[migrating(1, 2)], &[2]);
    assert!(matches!(reason(&half, &[]), Reason::Silent(_)));
}

#[test]
fn a_silent_replica_hides_no_keys() {
    let fix = fix(&view(WITHOUT, &[], &[4]), &held(&[]), &[]);
    assert_eq!((fix.actions.len(), fix.refused.len()), (1, 0));
}

#[test]
fn keys_that_only_a_replica_holds_are_not_passed_over() {
    let fix = fix(&view(WITHOUT, &[], &[]), &held(&[(4, 3)]), &[SlotRange::new(0, 100).unwrap()]);
    assert_eq!(fix.refused[0].reason, Reason::OnReplica(addr(4)));
    assert!(!fix.refused[0].reason.can_be_allowed());
}

#[test]
fn nodes_without_any_slot_are_no_cluster_to_repair() {
    let lone = format!("{:040x} {}@16379 myself,master - 0 0 0 connected\n", 1, addr(1));
    let cluster = ClusterInfo::default();
    let lone = NodeView::new(addr(1), cluster, parse_nodes(&lone).unwrap()).unwrap();
    let view = View { nodes: vec![Observation { view: lone, info: NodeInfo::default() }], ..View::default() };
    let fix = fix(&view, &SlotKeys::new(), &[SlotRange::new(0, 16383).unwrap()]);
    assert_eq!((fix.actions.len(), &fix.refused[0].reason), (0, &Reason::NoCluster));
}

proptest! {
    /// Whatever is open and whoever holds keys: the slot is either left alone or settled by all of its
    /// holders, and without being named nothing may be lost.
    #[test]
    fn no_holder_of_keys_is_passed_over(
        is_owned: bool,
        opened in proptest::collection::vec((1u8..4, 1u8..4, any::<bool>()), 0..4),
        keys in proptest::collection::btree_map(1u8..4, 1u64..9, 0..4),
    ) {
        let mut open: Vec<(u8, String)> = Vec::new();
        for (node, peer, is_migrating) in opened {
            if node != peer {
                open.push(if is_migrating { migrating(node, peer) } else { importing(node, peer) });
            }
        }
        let view = view(if is_owned { ALL } else { WITHOUT }, &open, &[]);
        let keys: Vec<(u8, u64)> = keys.into_iter().collect();
        let fix = fix(&view, &held(&keys), &[]);
        let is_doubtful = !is_owned || !open.is_empty();
        prop_assert_eq!(is_doubtful, !fix.actions.is_empty() || !fix.refused.is_empty());
        prop_assert!(fix.actions.is_empty() || fix.refused.is_empty());
        for action in &fix.actions {
            let seen: Vec<SocketAddr> = match action {
                Action::SettleSlot { node, from, may_lose, .. } => {
                    prop_assert!(!may_lose);
                    std::iter::once(node.addr).chain(from.iter().map(|party| party.addr)).collect()
                }
                Action::AddSlots { node, .. } if fix.actions.len() == 1 => vec![node.addr],
                Action::AddSlots { .. } => continue,
                other => panic!("{other:?}"),
            };
            prop_assert!(keys.iter().all(|(n, _)| seen.contains(&addr(*n))), "{:?} of {:?}", seen, keys);
        }
    }
}
