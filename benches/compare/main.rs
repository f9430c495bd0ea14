//! `make compare`: slotgate beside other proxies, the same workloads on each in turn.
//!
//! Starts a six-node cluster and a standalone node, puts slotgate and Envoy in front of the one and
//! HAProxy in front of the other, runs redis-benchmark through each, round after round so that a
//! drifting machine drifts for all, and reports medians, ratios and what they should be. It never
//! judges by one run alone: only `--strict` turns a missed goal into an exit code.

mod args;
mod echo;
mod goals;
mod lab;
mod measure;
mod report;
mod targets;
mod wire;
mod workloads;

use anyhow::Result;
use args::Args;
use clap::Parser as _;
use lab::Lab;
use measure::Runs;
use std::collections::HashMap;
use std::process::ExitCode;
use targets::{Kind, Target};
use workloads::{Load, Workload};

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(reply) = &args.serve_echo {
        echo::serve(&reply.bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let workloads = args.workloads()?;
    measure::warn_unless_quiet();
    wire::raise_open_files_limit();

    let mut lab = Lab::start(&args)?;
    let mut runs = Runs::default();
    for workload in workloads {
        run_workload(&mut lab, workload, args.rounds, &mut runs)?;
        report::print_workload(workload, &runs);
    }
    lab.stop();

    let verdicts = goals::judge(&runs);
    report::print_goals(&verdicts);
    if let Some(file) = &args.json {
        report::write_json(file, &runs, &verdicts)?;
    }
    let is_missed = verdicts.iter().any(|verdict| verdict.is_missed());
    Ok(if args.strict && is_missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs one workload on every target, round after round. A target that fails is reported and left
/// out of this workload's later rounds; the others go on.
fn run_workload(lab: &mut Lab, workload: &'static Workload, rounds: u16, runs: &mut Runs) -> Result<()> {
    lab.restart_echo(workload)?;
    let mut failed = Vec::new();
    let rounds = workload.rounds(rounds);
    for target in lab.targets().iter().filter(|target| target.kind != Kind::Echo) {
        if let Some(keys) = workload.fill
            && let Err(error) = wire::fill(target.port, keys)
        {
            eprintln!("{} on {} failed: {error:#}", workload.name, target.kind);
            failed.push(target.kind);
        }
    }
    for round in 0..rounds {
        report::print_progress(workload, round, rounds);
        let mut samples: HashMap<Kind, Vec<measure::Sample>> = HashMap::new();
        for _ in 0..workload.runs_per_round() {
            for target in lab.targets() {
                if failed.contains(&target.kind) || !workload.applies_to(target.kind) {
                    continue;
                }
                match run_once(target, workload) {
                    Ok(sample) => samples.entry(target.kind).or_default().push(sample),
                    Err(error) => {
                        eprintln!("{} on {} failed: {error:#}", workload.name, target.kind);
                        failed.push(target.kind);
                    }
                }
            }
        }
        for (kind, samples) in samples.iter().filter(|(kind, _)| !failed.contains(kind)) {
            runs.add(workload.name, *kind, measure::Sample::mean(samples));
        }
    }
    Ok(())
}

fn run_once(target: &Target, workload: &Workload) -> Result<measure::Sample> {
    match workload.load {
        Load::Requests { args, count } => measure::run_requests(target, args, count),
        Load::IdleClients(count) => measure::hold_idle_clients(target, count),
    }
}
