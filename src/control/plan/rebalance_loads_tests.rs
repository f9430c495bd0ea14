//! What every plan by keys or bytes keeps to, whatever the slots hold.

use super::*;
use crate::control::plan::rebalance_model::{
    apply, check_moves, deal, holder, moved, range, slots_of, three,
};
use proptest::prelude::*;

fn keys(of: impl Fn(u16) -> u64) -> Loads {
    Loads { unit: Unit::Keys, slots: Slot::all().map(|slot| of(slot.number())).collect() }
}

fn held(holders: &[Holder], loads: &Loads) -> Vec<u64> {
    holders.iter().map(|holder| slots_of(holder).into_iter().map(|slot| loads.of(slot)).sum()).collect()
}

#[test]
fn a_fourth_shard_gets_a_quarter_of_the_keys_in_few_ranges() {
    let mut holders = three();
    holders.push(holder(4, vec![], 1));
    // 50 to 69 keys in two of three slots, in no order.
    let loads = keys(|slot| if slot % 3 == 0 { 0 } else { 50 + u64::from(slot) * 7919 % 20 });
    let moves = rebalance_loads(&holders, &loads, 2).unwrap();
    let after = apply(&holders, &moves);
    let share = loads.slots.iter().sum::<u64>() / 4;
    assert!(held(&after, &loads).iter().all(|held| held.abs_diff(share) * 50 <= share), "{moves:?}");
    assert!(after.iter().all(|holder| holder.slots.len() <= 4), "{after:?}");
    assert!((3900..4300).contains(&moved(&moves)), "{}", moved(&moves));
}

#[test]
fn slots_that_hold_most_go_alone() {
    let holders = [holder(1, vec![range(0, 99)], 1), holder(2, vec![range(100, 199)], 1)];
    let loads = keys(|slot| if matches!(slot, 20 | 40) { 1000 } else { 1 });
    let moves = rebalance_loads(&holders, &loads, 5).unwrap();
    assert_eq!((moved(&moves), moves.len()), (1, 1), "{moves:?}");
    // One slot with nearly all keys cannot be divided, and going elsewhere it would help nobody.
    let loads = keys(|slot| if slot == 20 { 1000 } else { 0 });
    assert_eq!(rebalance_loads(&holders, &loads, 5).unwrap(), []);
}

#[test]
fn a_drained_node_gives_its_empty_slots_too_and_no_other_its_last() {
    let mut holders = [holder(1, vec![range(0, 99)], 1), holder(2, vec![range(100, 199)], 0)];
    let loads = keys(|slot| u64::from(slot == 150) * 10);
    assert_eq!(moved(&rebalance_loads(&holders, &loads, 100).unwrap()), 100);
    holders[0].weight = 0;
    assert_eq!(rebalance_loads(&holders, &loads, 2), Err(NoPlan::NoWeight));
    let last = [holder(1, vec![range(0, 0)], 1), holder(2, vec![], 100)];
    assert_eq!(rebalance_loads(&last, &keys(|_| 10), 2).unwrap(), []);
}

/// Two hundred slots in any pieces, a few owned by nobody, most of them small, some large, some empty.
fn clusters() -> impl Strategy<Value = (Vec<Holder>, Loads)> {
    let pieces = prop::collection::vec((0..6usize, 1..40usize), 1..30);
    let load = prop_oneof![3 => Just(0u64), 8 => 1..100u64, 1 => 1..20_000u64];
    let loads = prop::collection::vec(load, 200);
    (2..5usize, pieces, prop::collection::vec(0..4u32, 5), loads).prop_map(
        |(nodes, pieces, weights, loads)| {
            (deal(nodes, loads.len(), pieces, weights), Loads { unit: Unit::Bytes, slots: loads })
        },
    )
}

proptest! {
    #[test]
    fn a_plan_keeps_every_slot_and_meets_the_shares_as_far_as_slots_allow(
        (holders, loads) in clusters(),
        tolerance in 0..20u8,
    ) {
        let moves = rebalance_loads(&holders, &loads, tolerance).unwrap();
        let after = check_moves(&holders, &moves)?;
        let keeps_one = |(before, after): (&Holder, &Holder)| {
            before.weight == 0 || before.slots.is_empty() || !after.slots.is_empty()
        };
        prop_assert!(holders.iter().zip(&after).all(keeps_one), "{:?}", after);

        let weights: f64 = holders.iter().map(|holder| f64::from(holder.weight)).sum();
        let held = held(&after, &loads);
        let total: u64 = held.iter().sum();
        let share = |ix: usize| total as f64 * f64::from(holders[ix].weight) / weights;
        let excess: Vec<f64> = (0..holders.len()).map(|ix| held[ix] as f64 - share(ix)).collect();
        let is_even = (0..holders.len()).all(|ix| excess[ix].abs() <= share(ix) * f64::from(tolerance) / 100.0 + 1e-6);
        if !is_even {
            // No slot that would make two of them more alike.
            for (from, giver) in after.iter().enumerate() {
                let given = slots_of(giver);
                let least = given.iter().map(|slot| loads.of(*slot)).filter(|load| *load > 0).min();
                let Some(least) = least.filter(|_| given.len() > 1) else { continue };
                for to in (0..after.len()).filter(|to| *to != from && after[*to].weight > 0) {
                    prop_assert!(least as f64 >= excess[from] - excess[to] - 1e-6, "{from} -> {to}: {after:?}");
                }
            }
        }
        prop_assert_eq!(rebalance_loads(&after, &loads, tolerance).unwrap(), vec![]);
    }
}
