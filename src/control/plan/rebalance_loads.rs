//! rebalance by what slots hold: who owns which slots, how many keys or bytes each holds, and how much
//! everybody should hold → the slots to move. Pure.
//!
//! Slots that hold far more than their neighbours go alone, since one of them does for many; all others are
//! taken from ends of ranges, next to the target's own where possible, with the empty slots on the way. Nobody
//! is filled beyond what is tolerated by that. Whoever is still too far from it then gives or gets single slots as
//! long as this makes the two more alike: a slot cannot be divided, so shares are met as far as slots allow.

use super::rebalance::{Holder, Move, NoPlan};
use crate::topology::{SLOTS, Slot, SlotRange};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

/// A slot that holds so many times the average of its owner's goes alone.
const HEAVY: u128 = 4;

/// What a slot is weighed by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Keys,
    Bytes,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Keys => "keys",
            Unit::Bytes => "bytes",
        })
    }
}

/// What each slot holds, by slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loads {
    pub unit: Unit,
    pub slots: Vec<u64>,
}

impl Loads {
    pub fn of(&self, slot: Slot) -> u64 {
        self.slots.get(slot.index()).copied().unwrap_or(0)
    }

    /// What is held by all slots of a move.
    pub fn of_move(&self, step: &Move) -> u64 {
        let slots = step.ranges.iter().flat_map(|range| range.slots());
        slots.map(|slot| self.of(slot)).fold(0, u64::saturating_add)
    }
}

/// The moves after which everybody holds their share of the loads, as far as slots allow; none when nobody
/// is further than `tolerance` percent from it. The second plan after the first is always empty.
///
/// # Errors
/// Nobody may own slots.
pub fn rebalance_loads(holders: &[Holder], loads: &Loads, tolerance: u8) -> Result<Vec<Move>, NoPlan> {
    if holders.iter().all(|holder| holder.weight == 0) {
        return Err(NoPlan::NoWeight);
    }
    let mut board = Board::new(holders, loads);
    for source in (0..holders.len()).filter(|ix| holders[*ix].weight == 0) {
        board.drain(source);
    }
    while !board.is_even(tolerance) && board.fill(tolerance) {}
    while !board.is_even(tolerance) && board.improve() {}
    Ok(board.moves())
}

/// Who owns which slot while moves are chosen. All amounts are multiplied by the sum of the weights, to
/// stay with whole numbers.
struct Board<'a> {
    holders: &'a [Holder],
    /// By slot.
    load: Vec<i128>,
    /// By slot, up to the last that has an owner; `None` where nobody of the holders owns it.
    owner: Vec<Option<usize>>,
    /// By holder.
    shares: Vec<i128>,
    /// By holder: how far beyond the share; negative: below it.
    excess: Vec<i128>,
}

/// A slot that could be taken, with the empty ones beside it that go along.
struct Choice {
    slot: usize,
    from: usize,
    to: usize,
}

impl<'a> Board<'a> {
    fn new(holders: &'a [Holder], loads: &Loads) -> Board<'a> {
        let weights: i128 = holders.iter().map(|holder| i128::from(holder.weight)).sum();
        let load: Vec<i128> = Slot::all().map(|slot| i128::from(loads.of(slot)) * weights).collect();
        let mut owner = vec![None; SLOTS];
        let mut excess = vec![0; holders.len()];
        for (ix, holder) in holders.iter().enumerate() {
            for slot in holder.slots.iter().flat_map(|range| range.slots()) {
                owner[slot.index()] = Some(ix);
                excess[ix] += load[slot.index()];
            }
        }
        owner.truncate(owner.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
        let total: i128 = excess.iter().sum();
        let share = |holder: &Holder| total / weights * i128::from(holder.weight);
        let shares: Vec<i128> = holders.iter().map(share).collect();
        excess.iter_mut().zip(&shares).for_each(|(excess, share)| *excess -= share);
        Board { holders, load, owner, shares, excess }
    }

    fn is_even(&self, tolerance: u8) -> bool {
        let is_near = |(excess, share): (&i128, &i128)| excess.abs() * 100 <= share * i128::from(tolerance);
        self.excess.iter().zip(&self.shares).all(is_near)
    }

    /// Gives all slots of one holder to the others.
    fn drain(&mut self, source: usize) {
        while let Some(first) = self.owner.iter().position(|owner| *owner == Some(source)) {
            let Some(target) = self.poorest(source) else { return };
            let room = -self.excess[target];
            let choice = self.choose(source, target, room).or_else(|| self.choose(source, target, i128::MAX));
            match choice {
                Some(choice) => self.give(choice, target),
                // Only empty slots are left: to whom they border.
                None => {
                    let end = self.end_of_range(first);
                    let heir = self.beside(first, end).find(|heir| self.holders[*heir].weight > 0);
                    self.give(Choice { slot: first, from: first, to: end }, heir.unwrap_or(target));
                }
            }
        }
    }

    /// Moves a slot to somebody who lacks it; false when none fits. Both may get beyond their shares as far
    /// as is tolerated.
    fn fill(&mut self, tolerance: u8) -> bool {
        let tolerated = |ix: usize| self.shares[ix] * i128::from(tolerance) / 100;
        for source in self.richest_first() {
            let spare = self.excess[source];
            if spare <= 0 {
                break;
            }
            let mut targets: Vec<usize> =
                (0..self.holders.len()).filter(|ix| *ix != source && self.excess[*ix] < 0).collect();
            // Neighbours first, since their ranges merge.
            let neighbours = self.neighbours(source);
            targets.sort_by_key(|ix| (!neighbours[*ix], self.excess[*ix]));
            for target in targets {
                let lack = -self.excess[target];
                let most = spare.min(lack) + tolerated(source).min(tolerated(target));
                // Less than both together, or the two would be no more alike than before.
                if let Some(choice) = self.choose(source, target, most.min(spare + lack - 1)) {
                    self.give(choice, target);
                    return true;
                }
            }
        }
        false
    }

    /// Moves the one slot that makes a giver and the poorest most alike; false when none does.
    fn improve(&mut self) -> bool {
        for source in self.richest_first() {
            let Some(target) = self.poorest(source) else { continue };
            let gap = self.excess[source] - self.excess[target];
            if !self.may_give(source, 1) {
                continue;
            }
            let best = self
                .own(source)
                .filter(|slot| self.load[*slot] > 0 && self.load[*slot] < gap)
                .min_by_key(|slot| (2 * self.load[*slot] - gap).abs());
            if let Some(slot) = best {
                self.give(Choice { slot, from: slot, to: slot }, target);
                return true;
            }
        }
        false
    }

    fn richest_first(&self) -> Vec<usize> {
        let mut sources: Vec<usize> = (0..self.holders.len()).collect();
        sources.sort_by_key(|ix| (Reverse(self.excess[*ix]), *ix));
        sources
    }

    /// Who lacks most and may have slots.
    fn poorest(&self, source: usize) -> Option<usize> {
        let others = (0..self.holders.len()).filter(|ix| *ix != source && self.holders[*ix].weight > 0);
        others.min_by_key(|ix| self.excess[*ix])
    }

    /// Who owns a slot beside one of this holder's, by holder.
    fn neighbours(&self, source: usize) -> Vec<bool> {
        let mut neighbours = vec![false; self.holders.len()];
        for pair in self.owner.windows(2) {
            match pair {
                [Some(one), Some(other)] if *one == source => neighbours[*other] = true,
                [Some(one), Some(other)] if *other == source => neighbours[*one] = true,
                _ => {}
            }
        }
        neighbours
    }

    /// Who owns the slots before `from` and after `to`.
    fn beside(&self, from: usize, to: usize) -> impl Iterator<Item = usize> + use<> {
        let before = from.checked_sub(1).and_then(|slot| self.owner[slot]);
        let after = self.owner.get(to + 1).copied().flatten();
        [before, after].into_iter().flatten()
    }

    fn own(&self, holder: usize) -> impl Iterator<Item = usize> {
        (0..self.owner.len()).filter(move |slot| self.owner[*slot] == Some(holder))
    }

    /// A primary that gives its last slot away becomes a replica: only one without weight may.
    fn may_give(&self, source: usize, slots: usize) -> bool {
        self.holders[source].weight == 0 || self.own(source).nth(slots).is_some()
    }

    fn end_of_range(&self, start: usize) -> usize {
        let range = (start..self.owner.len()).take_while(|slot| self.owner[*slot] == self.owner[start]);
        range.last().unwrap_or(start)
    }

    /// The best slot of the source that holds something, but no more than `most`.
    fn choose(&self, source: usize, target: usize, most: i128) -> Option<Choice> {
        if !self.may_give(source, 1) {
            return None;
        }
        let held: i128 = self.own(source).map(|slot| self.load[slot]).sum();
        let heavy = held.unsigned_abs() / self.own(source).count().max(1) as u128 * HEAVY;
        let mut best: Option<(_, Choice)> = None;
        let mut start = 0;
        while start < self.owner.len() {
            let end = self.end_of_range(start);
            if self.owner[start] != Some(source) {
                start = end + 1;
                continue;
            }
            let holding = || (start..=end).filter(|slot| self.load[*slot] > 0);
            let (first, last) = (holding().next(), holding().next_back());
            for slot in holding().filter(|slot| self.load[*slot] <= most) {
                let times = self.load[slot].unsigned_abs() / heavy.max(1);
                let class = times.checked_ilog2().map_or(0, |class| class + 1);
                let (from, to) = match (class, Some(slot) == first, Some(slot) == last) {
                    (0, true, true) => (start, end),
                    (0, true, false) => (start, slot),
                    (0, false, true) => (slot, end),
                    _ => (slot, slot),
                };
                let is_end = from == start || to == end;
                let is_beside = is_end && self.beside(from, to).any(|owner| owner == target);
                // Amid a range the fullest: fewest pieces are torn out.
                let rank = (class, is_beside, is_end, if is_end { 0 } else { self.load[slot] });
                if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                    best = Some((rank, Choice { slot, from, to }));
                }
            }
            start = end + 1;
        }
        let (_, Choice { slot, from, to }) = best?;
        let is_whole = !self.may_give(source, to + 1 - from);
        Some(if is_whole { Choice { slot, from: slot, to: slot } } else { Choice { slot, from, to } })
    }

    fn give(&mut self, choice: Choice, target: usize) {
        let Some(source) = self.owner[choice.slot] else { return };
        for slot in choice.from..=choice.to {
            self.owner[slot] = Some(target);
            self.excess[source] -= self.load[slot];
            self.excess[target] += self.load[slot];
        }
    }

    /// What differs from the beginning: a slot that went on from one to the next moves only once.
    fn moves(self) -> Vec<Move> {
        let mut moved: BTreeMap<(usize, usize), Vec<Slot>> = BTreeMap::new();
        for (source, holder) in self.holders.iter().enumerate() {
            for slot in holder.slots.iter().flat_map(|range| range.slots()) {
                if let Some(target) = self.owner[slot.index()].filter(|target| *target != source) {
                    moved.entry((source, target)).or_default().push(slot);
                }
            }
        }
        let moves = moved.into_iter().map(|((source, target), slots)| Move {
            source: self.holders[source].node,
            target: self.holders[target].node,
            ranges: SlotRange::cover(slots),
        });
        moves.collect()
    }
}

#[cfg(test)]
#[path = "rebalance_loads_tests.rs"]
mod tests;
