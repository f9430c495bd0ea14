//! What every plan of moves keeps to, whatever the cluster looks like.

use super::*;
use crate::control::plan::rebalance_model::{apply, check_moves, deal, holder, moved, range, three};
use proptest::prelude::*;

fn sizes(holders: &[Holder]) -> Vec<usize> {
    holders.iter().map(|holder| count(&holder.slots)).collect()
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
    (2..8usize, pieces, prop::collection::vec(0..4u32, 8))
        .prop_map(|(nodes, pieces, weights)| deal(nodes, SLOTS, pieces, weights))
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
        let after = check_moves(&holders, &moves)?;
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
