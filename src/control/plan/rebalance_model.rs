//! Clusters for the tests of plans of moves, and what every such plan keeps to, by whatever it balances.

use super::rebalance::{Holder, Move};
use crate::control::action::Party;
use crate::topology::{Slot, SlotRange};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::collections::BTreeMap;

pub fn holder(ix: usize, slots: Vec<SlotRange>, weight: u32) -> Holder {
    let id = format!("{ix:040x}").parse().unwrap();
    Holder { node: Party { id, addr: ([10, 0, 0, 1], 7000 + ix as u16).into() }, slots, weight }
}

pub fn range(start: u16, end: u16) -> SlotRange {
    SlotRange::new(start, end).unwrap()
}

pub fn three() -> Vec<Holder> {
    vec![
        holder(1, vec![range(0, 5460)], 1),
        holder(2, vec![range(5461, 10922)], 1),
        holder(3, vec![range(10923, 16383)], 1),
    ]
}

/// A cluster of so many nodes, one with a weight at least. Each piece is an owner and how many slots it gets
/// next, or nobody when there is no such node; the first node gets the rest of the first `slots`.
pub fn deal(nodes: usize, slots: usize, pieces: Vec<(usize, usize)>, weights: Vec<u32>) -> Vec<Holder> {
    let mut owned = vec![Vec::new(); nodes];
    let mut all = Slot::all().take(slots);
    for (owner, len) in pieces {
        let piece: Vec<Slot> = all.by_ref().take(len).collect();
        if owner < nodes {
            owned[owner].extend(piece);
        }
    }
    owned[0].extend(all);
    let holders = owned.into_iter().zip(weights).enumerate();
    let mut holders: Vec<Holder> =
        holders.map(|(ix, (slots, weight))| holder(ix, SlotRange::cover(slots), weight)).collect();
    holders[1].weight = holders[1].weight.max(1);
    holders
}

pub fn slots_of(holder: &Holder) -> Vec<Slot> {
    holder.slots.iter().flat_map(|range| range.slots()).collect()
}

pub fn moved(moves: &[Move]) -> usize {
    moves.iter().map(Move::count).sum()
}

/// Who owns what after the moves, each of which takes slots from who owns them.
pub fn apply(holders: &[Holder], moves: &[Move]) -> Vec<Holder> {
    let mut owner: BTreeMap<Slot, usize> = BTreeMap::new();
    for (ix, holder) in holders.iter().enumerate() {
        owner.extend(slots_of(holder).into_iter().map(|slot| (slot, ix)));
    }
    let place = |party: Party| holders.iter().position(|holder| holder.node == party).unwrap();
    for step in moves {
        for slot in step.ranges.iter().flat_map(|range| range.slots()) {
            assert_eq!(owner.insert(slot, place(step.target)), Some(place(step.source)), "slot {slot}");
        }
    }
    let slots = |ix| SlotRange::cover(owner.iter().filter(|(_, of)| **of == ix).map(|(slot, _)| *slot));
    holders.iter().enumerate().map(|(ix, holder)| Holder { slots: slots(ix), ..holder.clone() }).collect()
}

/// What every plan keeps to: a slot moves once and from its owner to another, none is lost, and a node
/// without a weight is left without slots. The cluster after the moves.
pub fn check_moves(holders: &[Holder], moves: &[Move]) -> Result<Vec<Holder>, TestCaseError> {
    prop_assert!(moves.iter().all(|step| step.source != step.target));
    let mut slots: Vec<Slot> =
        moves.iter().flat_map(|step| &step.ranges).flat_map(|range| range.slots()).collect();
    slots.sort_unstable();
    slots.dedup();
    prop_assert_eq!(slots.len(), moved(moves), "a slot moves once");
    let after = apply(holders, moves);
    let count = |holders: &[Holder]| holders.iter().map(|holder| slots_of(holder).len()).sum::<usize>();
    prop_assert_eq!(count(&after), count(holders));
    prop_assert!(after.iter().all(|holder| holder.weight > 0 || holder.slots.is_empty()));
    Ok(after)
}
