//! `slotgate move-slots`: slots of one primary to another.

use super::moving::{self, find};
use super::{Ended, Exit};
use crate::control::discover::Seed;
use crate::control::plan::rebalance::{Holder, Move, move_count};
use crate::topology::{Slot, SlotRange};
use std::collections::BTreeSet;

/// Move slots with their keys from one primary to another, while clients go on
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate move-slots --from 10.0.0.1:6379 --to 10.0.0.4:6379 --count 1000 10.0.0.1:6379
  slotgate move-slots --from 3f1c --to 9ab0 --slots 0-99,200 redis-0:6379 --yes
  slotgate move-slots --from 3f1c --to 9ab0 --count 10 redis-0:6379 --dry-run --output json
  slotgate move-slots --from 3f1c --to 9ab0 --slots 0-99,200 --rollback redis-0:6379
  slotgate move-slots --from 3f1c --to 9ab0 --count 10 --max-rate 5000 --max-latency 20ms redis-0:6379

A node is called by its address or the beginning of its id. --count takes slots from the ends of ranges.
Where both nodes can move slots by themselves (Valkey 9, Redis 8.4), they are asked to; elsewhere, and with
--max-rate or --max-latency, keys go by MIGRATE in portions.
First ends what an earlier run left open. Ctrl-C finishes the slots under way and says how to go on; a
run that was killed is continued by the next one. --rollback gives back what such a run moved, and leaves
what it did not: first the slots left open are finished, since halfway they cannot be turned round without
hiding keys from clients, then they go back with the others. Exit code 3: not done, because it would not be safe.
SLOTGATE_USER and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// The primary that gives
    #[arg(long, value_name = "NODE")]
    from: String,
    /// The primary that gets
    #[arg(long, value_name = "NODE")]
    to: String,
    /// How many slots
    #[arg(long, value_name = "N", conflicts_with = "slots", required_unless_present = "slots")]
    count: Option<usize>,
    /// Which slots
    #[arg(long, value_name = "RANGES", value_delimiter = ',', value_parser = slot_range)]
    slots: Vec<SlotRange>,
    /// Give back those of the slots that --to has got
    #[arg(long, requires = "slots")]
    rollback: bool,
    #[command(flatten)]
    moving: moving::Run,
}

fn slot_range(text: &str) -> Result<SlotRange, String> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let range = || SlotRange::new(start.trim().parse().ok()?, end.trim().parse().ok()?);
    range().ok_or_else(|| "write slots as 7 or 0-5460, several with commas between".to_string())
}

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    moving::run(&args.moving, None, |holders, _| plan(args, holders), resume)
}

fn plan(args: &Args, holders: &[Holder]) -> Result<Vec<Move>, Ended> {
    let (mut source, mut target) = (find(holders, &args.from)?, find(holders, &args.to)?);
    if source == target {
        return Err(Ended::usage(format!("{source} is both --from and --to")));
    }
    if args.rollback {
        (source, target) = (target, source);
    }
    let holder = |party| holders.iter().find(|holder| holder.node == party);
    let (Some(from), Some(to)) = (holder(source), holder(target)) else { return Ok(Vec::new()) };
    if let Some(count) = args.count {
        return move_count(from, to, count).map_err(Ended::usage);
    }
    let owns = |holder: &Holder, slot: Slot| {
        holder.slots.iter().any(|range| range.start <= slot && slot <= range.end)
    };
    let wanted: BTreeSet<Slot> = args.slots.iter().flat_map(|range| range.slots()).collect();
    if let Some(slot) = wanted.iter().find(|slot| !owns(from, **slot) && !owns(to, **slot)) {
        return Err(Ended::refused(format!("slot {slot} is owned by neither {source} nor {target}")));
    }
    let ranges = SlotRange::cover(wanted.into_iter().filter(|slot| owns(from, *slot)));
    Ok(if ranges.is_empty() { Vec::new() } else { vec![Move { source, target, ranges }] })
}

/// By slots, since a count would begin anew.
fn resume(moves: &[Move], seed: &Seed) -> String {
    match moves.first() {
        Some(step) => moving::command(step, seed),
        None => "run the same command again".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_they_are_shown() {
        assert_eq!(slot_range("0-5460"), Ok(SlotRange::new(0, 5460).unwrap()));
        assert_eq!(slot_range("7"), Ok(SlotRange::new(7, 7).unwrap()));
        for wrong in ["", "-", "7-", "9-7", "16384", "a"] {
            assert!(slot_range(wrong).is_err(), "{wrong}");
        }
    }
}
