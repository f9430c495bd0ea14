//! `make torture`: clients at work while nodes fail over, restart and die, and what they noticed.
//!
//! Prints one table: what was done, what is promised, what was measured. It never fails because of a
//! figure, unless asked to by `--strict`: figures are of this machine, and it may be busy.

mod client;
mod lab;
mod load;
mod moves;
mod report;
mod scenarios;

use anyhow::Result;
use clap::Parser as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Puts a cluster under load through slotgate, changes it, and counts what the clients noticed.
#[derive(Debug, clap::Parser)]
#[command(name = "lifecycle")]
struct Args {
    /// Only these scenarios, e.g. form,kill
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    only: Vec<String>,
    /// How often each shard is failed over, and the like: the short form is 1
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
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
    let known: Vec<&str> = scenarios::ALL.iter().map(|(name, _)| *name).collect();
    if let Some(name) = args.only.iter().find(|name| !known.contains(&name.as_str())) {
        anyhow::bail!("there is no scenario {name}; there are {}", known.join(", "));
    }
    let mut rows = Vec::new();
    for (name, run) in scenarios::ALL {
        if args.only.is_empty() || args.only.iter().any(|only| only == name) {
            eprintln!("{name} ...");
            rows.extend(run(&args.slotgate, args.times)?);
        }
    }
    report::print(&rows);
    let is_broken = rows.iter().any(|row| !row.is_kept);
    Ok(if args.strict && is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
