//! What every plan of moves keeps to, whatever the cluster looks like.

use super::*;
use crate::topology::NodeId;
use proptest::prelude::*;

fn holder(ix: usize, slots: Vec<SlotRange>, weight: u32) -> Holder {
    let id = format!("{ix:040x}").parse().unwrap();
    Holder { node: Party { id, addr: ([10, 0, 0, 1], 7000 + ix as u16).into() }, slots, weight }
}

fn range(start: u16, end: u16) -> SlotRange {
    SlotRange::new(start, end).unwrap()
}

/// Who owns what after the moves.
fn apply(holders: &[Holder], moves: &[Move]) -> Vec<Holder> {
    let mut owner: BTreeMap<Slot, NodeId> = BTreeMap::new();
    for holder in holders {
        owner.extend(holder.slots.iter().flat_map(|range| range.slots()).map(|slot| (slot, holder.node.id)));
    }
    for step in moves {
        owner.extend(step.ranges.iter().flat_map(|range| range.slots()).map(|slot| (slot, step.target.id)));
    }
    let slots = |id| SlotRange::cover(owner.iter().filter(|(_, of)| **of == id).map(|(slot, _)| *slot));
    holders.iter().map(|holder| Holder { slots: slots(holder.node.id), ..holder.clone() }).collect()
}

fn sizes(holders: &[Holder]) -> Vec<usize> {
    holders.iter().map(|holder| count(&holder.slots)).collect()
}

fn moved(moves: &[Move]) -> usize {
    moves.iter().map(Move::count).sum()
}

fn three() -> Vec<Holder> {
    vec![
        holder(1, vec![range(0, 5460)], 1),
        holder(2, vec![range(5461, 10922)], 1),
        holder(3, vec![range(10923, 16383)], 1),
    ]
}

#[test]
fn a_fourth_shard_gets_a_quarter_in_few_ranges_and_gives_it_back() {
    let mut holders = three();
    holders.push(holder(4, vec![], 1));
    let moves = rebalance(&holders, 2).unwrap();
    assert_eq!((moved(&moves), moves.len()), (4096, 3));
    let mut grown = apply(&holders, &moves);
    assert_eq!(sizes(&grown), [4096; 4]);
    assert!(grown[..3].iter().all(|holder| holder.slots.len() == 1), "{grown:?}");
    assert_eq!(grown[3].slots.len(), 2, "{grown:?}");

    grown[3].weight = 0;
    let moves = rebalance(&grown, 2).unwrap();
    assert_eq!(moved(&moves), 4096);
    let shrunk = apply(&grown, &moves);
    assert_eq!(sizes(&shrunk).iter().max(), Some(&5462));
    assert!(shrunk[..3].iter().all(|holder| holder.slots.len() <= 2), "{shrunk:?}");
}

#[test]
fn what_is_nearly_even_stays() {
    let nearly = vec![holder(1, vec![range(0, 8000)], 1), holder(2, vec![range(8001, 16383)], 1)];
    assert_eq!(rebalance(&nearly, 3).unwrap(), []);
    assert_eq!(moved(&rebalance(&nearly, 0).unwrap()), 191);
    assert_eq!(rebalance(&three(), 0).unwrap(), [], "5461, 5462 and 5461 are as even as it gets");
}

#[test]
fn a_drained_node_is_never_nearly_even() {
    let drained = vec![holder(1, vec![range(0, 16382)], 1), holder(2, vec![range(16383, 16383)], 0)];
    assert_eq!(moved(&rebalance(&drained, 100).unwrap()), 1);
    let none = vec![holder(1, vec![range(0, 16383)], 0)];
    assert_eq!(rebalance(&none, 2), Err(NoPlan::NoWeight));
}

#[test]
fn a_count_is_taken_from_the_source_beside_the_target() {
    let moves = move_count(&three()[0], &three()[1], 100).unwrap();
    assert_eq!(moves.len(), 1);
    assert_eq!(moves[0].ranges, [range(5361, 5460)]);
    assert!(matches!(move_count(&three()[0], &three()[1], 6000), Err(NoPlan::TooFew { has: 5461, .. })));
}

/// A cluster whose slots lie in any pieces, a few of them owned by nobody.
fn clusters() -> impl Strategy<Value = Vec<Holder>> {
    let pieces = prop::collection::vec((0..9usize, 1..3000usize), 1..60);
    (2..8usize, pieces, prop::collection::vec(0..4u32, 8)).prop_map(|(nodes, pieces, weights)| {
        let mut slots = vec![Vec::new(); nodes];
        let mut all = Slot::all();
        for (owner, len) in pieces {
            let piece: Vec<Slot> = all.by_ref().take(len).collect();
            if owner < nodes {
                slots[owner].extend(piece);
            }
        }
        slots[0].extend(all);
        let holders = slots.into_iter().zip(weights).enumerate();
        let mut holders: Vec<Holder> =
            holders.map(|(ix, (slots, weight))| holder(ix, SlotRange::cover(slots), weight)).collect();
        holders[1].weight = holders[1].weight.max(1);
        holders
    })
}

/// The fewest moves to any rounding of the shares, by trying all of them.
fn least(holders: &[Holder]) -> usize {
    let weights: u64 = holders.iter().map(|holder| u64::from(holder.weight)).sum();
    let has = sizes(holders);
    let total: usize = has.iter().sum();
    let exact: Vec<u64> = holders.iter().map(|holder| total as u64 * u64::from(holder.weight)).collect();
    let roundings = (0u32..1 << holders.len()).filter_map(|up| {
        let share = |ix: usize| {
            let is_up = up >> ix & 1 == 1;
            (!is_up || !exact[ix].is_multiple_of(weights))
                .then(|| (exact[ix] / weights) as usize + usize::from(is_up))
        };
        let shares: Vec<usize> = (0..holders.len()).map(share).collect::<Option<_>>()?;
        let moved = has.iter().zip(&shares).map(|(has, share)| has.saturating_sub(*share)).sum();
        (shares.iter().sum::<usize>() == total).then_some(moved)
    });
    roundings.min().unwrap()
}

proptest! {
    #[test]
    fn a_plan_moves_the_fewest_slots_once_and_leaves_each_with_one_owner(holders in clusters()) {
        let moves = rebalance(&holders, 0).unwrap();
        prop_assert_eq!(moved(&moves), least(&holders));
        for step in &moves {
            let source = holders.iter().find(|holder| holder.node == step.source).unwrap();
            let owned = |slot| source.slots.iter().any(|range| range.start <= slot && slot <= range.end);
            prop_assert!(step.ranges.iter().flat_map(|range| range.slots()).all(owned));
            prop_assert!(step.source != step.target);
        }
        let mut slots: Vec<Slot> =
            moves.iter().flat_map(|step| &step.ranges).flat_map(|range| range.slots()).collect();
        slots.sort_unstable();
        slots.dedup();
        prop_assert_eq!(slots.len(), moved(&moves), "a slot moves once");
        let after = apply(&holders, &moves);
        prop_assert_eq!(sizes(&after).iter().sum::<usize>(), sizes(&holders).iter().sum::<usize>());
        prop_assert!(after.iter().all(|holder| holder.weight > 0 || holder.slots.is_empty()));
        prop_assert_eq!(rebalance(&after, 0).unwrap(), vec![]);
    }

    #[test]
    fn a_source_is_never_left_with_more_ranges_than_it_had(holders in clusters()) {
        let after = apply(&holders, &rebalance(&holders, 0).unwrap());
        for (before, after) in holders.iter().zip(&after) {
            if count(&after.slots) < count(&before.slots) {
                prop_assert!(after.slots.len() <= before.slots.len());
            }
        }
    }
}
