//! `slotgate rebalance`: every primary its share of the slots.

use super::moving::{self, find};
use super::{Ended, Exit};
use crate::control::plan::rebalance::{Holder, Move, rebalance};
use crate::control::plan::rebalance_loads::{Loads, Unit, rebalance_loads};

/// Give every primary its share of the slots, moving as few as possible, while clients go on
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate rebalance redis-0:6379
  slotgate rebalance --use-empty redis-0:6379 --yes
  slotgate rebalance --by bytes redis-0:6379 --dry-run
  slotgate rebalance --weight 10.0.0.4:6379=0 --weight 3f1c=2 redis-0:6379 --dry-run
  slotgate rebalance --max-rate 5000 --max-latency 20ms redis-0:6379 --yes

Weights are 1 unless given; 0 gives all slots of a node to the others. Primaries without slots get some
only with --use-empty or a weight of their own. Ranges are kept whole where possible.
--by keys and --by bytes share out what the slots hold instead of their number, as far as slots can be
divided: none is split. Bytes are counted by nodes that can (Redis 8.2, cluster-slot-stats-enabled yes);
elsewhere a node's data is taken to be spread evenly over its keys.
Where both nodes can move slots by themselves (Valkey 9, Redis 8.4), they are asked to; elsewhere, and with
--max-rate or --max-latency, keys go by MIGRATE in portions.
First ends what an earlier run left open. Ctrl-C finishes the slots under way; a run that was stopped or
killed is continued by the next one; one that was stopped also says which commands undo it. Exit code 3: not
done, because it would not be safe.
SLOTGATE_USER and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// A primary (its address or the beginning of its id) and its weight; may be given several times
    #[arg(long, value_name = "NODE=W", value_parser = weight)]
    weight: Vec<(String, u32)>,
    /// Give slots to primaries that have none
    #[arg(long)]
    use_empty: bool,
    /// Do nothing while nobody is further than this from the share
    #[arg(long, value_name = "PERCENT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=100))]
    threshold: u8,
    /// What is shared out by weight
    #[arg(long, value_enum, default_value = "slots")]
    by: By,
    #[command(flatten)]
    moving: moving::Run,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// The number of slots
    Slots,
    /// The number of keys in them
    Keys,
    /// The memory that their keys take
    Bytes,
}

impl By {
    fn unit(self) -> Option<Unit> {
        match self {
            By::Slots => None,
            By::Keys => Some(Unit::Keys),
            By::Bytes => Some(Unit::Bytes),
        }
    }
}

fn weight(text: &str) -> Result<(String, u32), String> {
    let parsed = text.rsplit_once('=').and_then(|(node, weight)| Some((node, weight.parse().ok()?)));
    match parsed {
        Some((node, weight)) if !node.is_empty() => Ok((node.to_string(), weight)),
        _ => Err("write it as NODE=W with a whole number, such as 10.0.0.4:6379=2".to_string()),
    }
}

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    moving::run(
        &args.moving,
        args.by.unit(),
        |holders, loads| plan(args, holders, loads),
        |_, _| "run the same command again".to_string(),
    )
}

fn plan(args: &Args, holders: &[Holder], loads: Option<&Loads>) -> Result<Vec<Move>, Ended> {
    let mut taking_part = holders.to_vec();
    let mut weighed = Vec::new();
    for (name, weight) in &args.weight {
        let party = find(holders, name)?;
        weighed.push(party);
        for holder in taking_part.iter_mut().filter(|holder| holder.node == party) {
            holder.weight = *weight;
        }
    }
    taking_part.retain(|holder| args.use_empty || !holder.slots.is_empty() || weighed.contains(&holder.node));
    let moves = match loads {
        Some(loads) => rebalance_loads(&taking_part, loads, args.threshold),
        None => rebalance(&taking_part, args.threshold),
    };
    moves.map_err(Ended::usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_follow_the_last_equals_sign() {
        assert_eq!(weight("[::1]:6379=2"), Ok(("[::1]:6379".to_string(), 2)));
        for wrong in ["", "=1", "a", "a=", "a=-1", "a=1.5"] {
            assert!(weight(wrong).is_err(), "{wrong}");
        }
    }
}
