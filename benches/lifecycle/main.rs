//! `make torture`: clients at work while nodes fail over, restart and die, and what they noticed.
//!
//! Prints one table: what was done, what is promised, what was measured. It never fails because of a
//! figure, unless asked to by `--strict`: figures are of this machine, and it may be busy.

mod addresses;
mod chaos;
mod client;
mod lab;
mod load;
mod moves;
mod report;
mod resize;
mod scenarios;
#[path = "../../tests/torture/trial/mod.rs"]
mod trial;

use anyhow::Result;
use clap::Parser as _;
use std::path::PathBuf;
use std::process::ExitCode;

const CHAOS: &str = "chaos";

/// Puts a cluster under load through slotgate, changes it, and counts what the clients noticed.
#[derive(Debug, clap::Parser)]
#[command(name = "lifecycle")]
struct Args {
    /// Only these scenarios, e.g. form,kill or chaos
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    only: Vec<String>,
    /// How often each shard is failed over, and the like: the short form is 1
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// How long faults drawn by lot strike: the scenario chaos
    #[arg(long, default_value_t = 3.0, value_name = "MINUTES")]
    minutes: f64,
    /// Of all faults only these
    #[arg(long, value_delimiter = ',', value_name = "FAULT,...")]
    faults: Vec<trial::fault::Fault>,
    /// Draw the faults of an earlier chaos again
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// The slotgate to try
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_slotgate"))]
    slotgate: PathBuf,
    /// Exit with code 1 when a promise was not kept
    #[arg(long)]
    strict: bool,
    /// `cargo bench` says so to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let known: Vec<&str> = scenarios::ALL.iter().map(|(name, _)| *name).chain([CHAOS]).collect();
    if let Some(name) = args.only.iter().find(|name| !known.contains(&name.as_str())) {
        anyhow::bail!("there is no scenario {name}; there are {}", known.join(", "));
    }
    let mut rows = Vec::new();
    let is_wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    for (name, run) in scenarios::ALL {
        if is_wanted(name) {
            eprintln!("{name} ...");
            // One that cannot be played to its end must not hide what the others measured.
            let played = run(&args.slotgate, args.times);
            rows.extend(
                played.unwrap_or_else(|error| vec![report::Row::new(name, "", format!("{error}"), false)]),
            );
        }
    }
    if is_wanted(CHAOS) {
        let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
        rows.extend(chaos::run(&args.slotgate, args.minutes, seed, &args.faults)?);
    }
    report::print(&rows);
    let is_broken = rows.iter().any(|row| !row.is_kept);
    Ok(if args.strict && is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
