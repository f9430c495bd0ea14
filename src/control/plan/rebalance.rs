//! rebalance: who owns which slots, and how much each should own → the fewest slots to move. Pure.
//!
//! Every node's share is its weight's part of all slots, rounded down or up; who is rounded up is chosen
//! so that the fewest slots move, and then only what a node has too many is moved. Slots are taken from
//! ends of ranges, next to the target's own where possible, so ranges are never torn.

use crate::control::action::Party;
use crate::control::problem::join;
use crate::topology::{SLOTS, Slot, SlotRange};
use std::collections::BTreeMap;
use std::fmt;

/// A primary, what it owns, and its weight among the others: 0 gives all away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    pub node: Party,
    pub slots: Vec<SlotRange>,
    pub weight: u32,
}

/// Slots that go from one primary to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    pub source: Party,
    pub target: Party,
    pub ranges: Vec<SlotRange>,
}

impl Move {
    /// How many slots it moves.
    pub fn count(&self) -> usize {
        self.ranges.iter().map(|range| range.count()).sum()
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Move { source, target, ranges } = self;
        write!(f, "move {} slots from {source} to {target}: {}", self.count(), join(ranges, " "))
    }
}

/// Why there is no plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoPlan {
    #[error("all weights are 0: somebody must own the slots")]
    NoWeight,
    #[error("{node} owns {has} slots, fewer than the {wanted} that should leave it")]
    TooFew { node: std::net::SocketAddr, has: usize, wanted: usize },
}

/// The moves after which everybody has their share; none when nobody's slots are further than
/// `tolerance` percent from it. The second plan after the first is always empty.
///
/// # Errors
/// Nobody may own slots.
pub fn rebalance(holders: &[Holder], tolerance: u8) -> Result<Vec<Move>, NoPlan> {
    let shares = shares(holders)?;
    if is_even(holders, tolerance) {
        return Ok(Vec::new());
    }
    let mut board = Board::new(holders);
    let mut surplus: Vec<usize> = Vec::new();
    let mut deficit: Vec<usize> = Vec::new();
    for (holder, share) in holders.iter().zip(&shares) {
        let has = count(&holder.slots);
        surplus.push(has.saturating_sub(*share));
        deficit.push(share.saturating_sub(has));
    }
    while surplus.iter().any(|left| *left > 0) {
        let (source, target) = board.next_pair(&surplus, &deficit);
        let moved = board.take(source, target, surplus[source].min(deficit[target]));
        surplus[source] -= moved;
        deficit[target] -= moved;
    }
    Ok(board.moves(holders))
}

/// The move of `wanted` slots from the first holder to the second, by the same choice of slots.
///
/// # Errors
/// The source has not so many.
pub fn move_count(source: &Holder, target: &Holder, wanted: usize) -> Result<Vec<Move>, NoPlan> {
    let has = count(&source.slots);
    if has < wanted {
        return Err(NoPlan::TooFew { node: source.node.addr, has, wanted });
    }
    let holders = [source.clone(), target.clone()];
    let mut board = Board::new(&holders);
    let mut left = wanted;
    while left > 0 {
        left -= board.take(0, 1, left);
    }
    Ok(board.moves(&holders))
}

/// How many slots each holder should have: the rounding that moves the fewest.
fn shares(holders: &[Holder]) -> Result<Vec<usize>, NoPlan> {
    let weights: u64 = holders.iter().map(|holder| u64::from(holder.weight)).sum();
    if weights == 0 {
        return Err(NoPlan::NoWeight);
    }
    let total: usize = holders.iter().map(|holder| count(&holder.slots)).sum();
    let exact = |holder: &Holder| total as u64 * u64::from(holder.weight);
    let mut shares: Vec<usize> = holders.iter().map(|holder| (exact(holder) / weights) as usize).collect();
    let left = total - shares.iter().sum::<usize>();
    // Only a share with a fraction may be rounded up; best where a slot need not move for it.
    let mut fractions: Vec<usize> =
        (0..holders.len()).filter(|ix| exact(&holders[*ix]) % weights > 0).collect();
    fractions.sort_by_key(|ix| {
        let has_more = count(&holders[*ix].slots) > shares[*ix];
        (!has_more, std::cmp::Reverse(exact(&holders[*ix]) % weights), holders[*ix].node.id)
    });
    for ix in fractions.into_iter().take(left) {
        shares[ix] += 1;
    }
    Ok(shares)
}

fn is_even(holders: &[Holder], tolerance: u8) -> bool {
    let weights: u64 = holders.iter().map(|holder| u64::from(holder.weight)).sum();
    let total: usize = holders.iter().map(|holder| count(&holder.slots)).sum();
    holders.iter().all(|holder| {
        // Both sides times `weights` times 100, to stay with whole numbers.
        let share = total as u64 * u64::from(holder.weight);
        (count(&holder.slots) as u64 * weights).abs_diff(share) * 100 <= share * u64::from(tolerance)
    })
}

fn count(ranges: &[SlotRange]) -> usize {
    ranges.iter().map(|range| range.count()).sum()
}

/// Who owns which slot while moves are chosen.
struct Board {
    /// By slot; `None` where nobody of the holders owns it.
    owner: Vec<Option<usize>>,
    /// By holder: what is its own and stays takeable.
    ranges: Vec<Vec<SlotRange>>,
    moved: BTreeMap<(usize, usize), Vec<Slot>>,
}

/// Which end of a range is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Low,
    High,
}

impl Board {
    fn new(holders: &[Holder]) -> Board {
        let mut owner = vec![None; SLOTS];
        for (ix, holder) in holders.iter().enumerate() {
            for slot in holder.slots.iter().flat_map(|range| range.slots()) {
                owner[slot.index()] = Some(ix);
            }
        }
        let ranges = holders.iter().map(|holder| holder.slots.clone()).collect();
        Board { owner, ranges, moved: BTreeMap::new() }
    }

    /// Neighbours first, since their ranges merge; otherwise who has most too many and most too few.
    fn next_pair(&self, surplus: &[usize], deficit: &[usize]) -> (usize, usize) {
        let most = |left: &[usize]| (0..left.len()).max_by_key(|ix| left[*ix]).unwrap_or_default();
        let wants = |ix: &usize| deficit[*ix] > 0;
        let neighbours = (0..surplus.len()).filter(|source| surplus[*source] > 0).find_map(|source| {
            let bordering = self.ranges[source].iter().flat_map(|range| self.bordering(*range));
            bordering.map(|(holder, _)| holder).find(wants).map(|target| (source, target))
        });
        neighbours.unwrap_or_else(|| (most(surplus), most(deficit)))
    }

    /// Who owns the slots beside a range.
    fn bordering(&self, range: SlotRange) -> impl Iterator<Item = (usize, End)> {
        let before = range.start.index().checked_sub(1).and_then(|ix| self.owner[ix]);
        let after = self.owner.get(range.end.index() + 1).copied().flatten();
        before.map(|ix| (ix, End::Low)).into_iter().chain(after.map(|ix| (ix, End::High)))
    }

    /// Moves at most `most` slots, all from one range, and says how many.
    fn take(&mut self, source: usize, target: usize, most: usize) -> usize {
        let ranges = &self.ranges[source];
        let beside = ranges.iter().enumerate().find_map(|(at, range)| {
            self.bordering(*range).find(|(holder, _)| *holder == target).map(|(_, end)| (at, end))
        });
        // A range that fits goes whole: one piece less. Otherwise the largest loses its end.
        let fitting = || (0..ranges.len()).filter(|at| ranges[*at].count() <= most);
        let by_size = |at: &usize| ranges[*at].count();
        let Some((at, end)) = beside
            .or_else(|| fitting().max_by_key(by_size).map(|at| (at, End::High)))
            .or_else(|| (0..ranges.len()).max_by_key(by_size).map(|at| (at, End::High)))
        else {
            return most;
        };
        let range = ranges[at];
        let taken = most.min(range.count());
        let slots: Vec<Slot> = match end {
            End::Low => range.slots().take(taken).collect(),
            End::High => range.slots().skip(range.count() - taken).collect(),
        };
        for slot in &slots {
            self.owner[slot.index()] = Some(target);
        }
        let rest = range.slots().filter(|slot| self.owner[slot.index()] == Some(source));
        let rest = SlotRange::cover(rest);
        self.ranges[source].splice(at..=at, rest);
        self.moved.entry((source, target)).or_default().extend(slots);
        taken
    }

    fn moves(self, holders: &[Holder]) -> Vec<Move> {
        let pairs = self.moved.into_iter();
        let moves = pairs.map(|((source, target), mut slots)| {
            slots.sort_unstable();
            let (source, target) = (holders[source].node, holders[target].node);
            Move { source, target, ranges: SlotRange::cover(slots) }
        });
        moves.collect()
    }
}

#[cfg(test)]
#[path = "rebalance_tests.rs"]
mod tests;
