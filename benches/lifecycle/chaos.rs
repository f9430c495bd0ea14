//! `make torture ARGS="--only chaos --minutes 10"`: faults drawn by lot, while every write is accounted for.

use crate::report::Row;
use crate::trial::chapter::{Account, Trial};
use crate::trial::fault::{Fault, Harm};
use crate::trial::world::Setup;
use anyhow::Result;
use std::path::Path;
use std::time::{Duration, Instant};

/// As most clusters have it.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// Strikes until the time is over: first every fault once, in an order drawn by lot, then any.
///
/// Of `only` these, if there are any. The same seed draws the same faults in the same order; when a request meets one is up to the machine.
pub fn run(slotgate: &Path, minutes: f64, seed: u64, only: &[Fault]) -> Result<Vec<Row>> {
    eprintln!("chaos, seed {seed}: --seed {seed} draws the same faults again");
    let setup =
        Setup { slotgate: slotgate.into(), node_timeout: NODE_TIMEOUT, gateways: 2, has_manager: true };
    let mut trial = Trial::start(setup, seed)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let (begun, length) = (Instant::now(), Duration::from_secs_f64(minutes * 60.0));
    let mut lot: Vec<Fault> = Vec::new();
    let mut accounts: Vec<Account> = Vec::new();
    let mut stuck = None;
    while begun.elapsed() < length {
        // Faults of one harm together, since the worst one says what a chapter may cost.
        if lot.is_empty() {
            lot = if only.is_empty() { Fault::ALL.to_vec() } else { only.to_vec() };
            random.shuffle(&mut lot);
        }
        let first = lot.remove(0);
        let mut faults = vec![first];
        if let Some(other) = lot.iter().position(|other| other.harm() == first.harm()) {
            faults.push(lot.remove(other));
        }
        let account = match trial.tell(&faults) {
            Ok(account) => account,
            Err(error) => {
                // What came before still counts; the cluster is past help.
                eprintln!("  {error:#}");
                stuck = Some(error.to_string());
                break;
            }
        };
        eprintln!("  {}", account.line());
        accounts.push(account);
    }
    let rows = [
        row(
            &accounts,
            "chaos: planned changes",
            "0 errors, nothing lost, twice or out of order",
            &[Harm::None],
        ),
        row(
            &accounts,
            "chaos: links, gateways, addresses",
            "nothing lost, twice or out of order",
            &[Harm::Cut, Harm::Errors],
        ),
        row(
            &accounts,
            "chaos: primaries killed and frozen",
            "nothing twice, lost only the unreplicated end",
            &[Harm::Loss],
        ),
    ];
    let stuck = stuck.map(|why| Row::new("chaos: the cluster", "whole after every fault", why, false));
    Ok(rows.into_iter().flatten().chain(stuck).collect())
}

/// What all chapters of this harm came to, if there were any.
fn row(accounts: &[Account], what: &str, promised: &str, harms: &[Harm]) -> Option<Row> {
    let worst = |account: &&Account| {
        account.faults.iter().map(|fault| fault.harm()).max().is_some_and(|harm| harms.contains(&harm))
    };
    let accounts: Vec<&Account> = accounts.iter().filter(worst).collect();
    let sum = |of: fn(&Account) -> usize| accounts.iter().map(|account| of(account)).sum::<usize>();
    let mut measured = format!(
        "{} requests, {} faults",
        sum(|account| account.verdict.requests),
        sum(|account| account.faults.len())
    );
    let counted = [
        (sum(|account| account.verdict.refused), "refused"),
        (sum(|account| account.verdict.unknown), "of unknown outcome"),
        (sum(|account| account.verdict.cut), "cut off"),
        (sum(|account| account.verdict.lost as usize), "lost unreplicated"),
        (sum(|account| account.broken.len()), "promises broken"),
        (sum(|account| usize::from(account.is_unsure)), "times the machine was too busy"),
    ];
    for (count, what) in counted.iter().filter(|(count, _)| *count > 0) {
        measured.push_str(&format!(", {count} {what}"));
    }
    // Where nodes lost sight of each other for want of time, nothing can be said.
    let is_kept = accounts.iter().all(|account| account.broken.is_empty() || account.is_unsure);
    (!accounts.is_empty()).then(|| Row::new(what, promised, measured, is_kept))
}
