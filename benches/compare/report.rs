//! Tables for people and a file for programs.

use crate::goals::Verdict;
use crate::measure::{Runs, Sample};
use crate::targets::Kind;
use crate::workloads::{Load, Workload};
use anyhow::{Context as _, Result};
use std::path::Path;

/// What is running now; on its own line, so that a log can hold it.
pub fn print_progress(workload: &Workload, round: u16, rounds: u16) {
    eprintln!("  {} round {}/{rounds}", workload.name, round + 1);
}

/// One table: a line per target that ran.
pub fn print_workload(workload: &Workload, runs: &Runs) {
    println!("\n{}: {}", workload.name, workload.title);
    match workload.load {
        Load::Requests { .. } => {
            println!(
                "{:<10} {:>10} {:>9} {:>9} {:>15} {:>10} {:>8} {:>8}",
                "target", "requests/s", "p50 ms", "p99 ms", "CPU us/request", "/ haproxy", "/ echo", "RSS MB"
            );
        }
        Load::IdleClients(_) => println!("{:<10} {:>14} {:>8}", "target", "KB per client", "RSS MB"),
    }
    for kind in Kind::ALL {
        let median = |figure: fn(&Sample) -> f64| runs.median(workload.name, kind, figure);
        let Some(rss) = median(|sample| sample.rss_mb) else { continue };
        if let Load::IdleClients(_) = workload.load {
            let each = median(|sample| sample.kb_per_client.unwrap_or(f64::NAN));
            println!("{kind:<10} {:>14} {rss:>8.1}", or_dash(each, 2));
            continue;
        }
        let cpu = |sample: &Sample| sample.cpu_us_per_request;
        println!(
            "{kind:<10} {:>10} {:>9} {:>9} {:>15} {:>10} {:>8} {rss:>8.1}",
            or_dash(median(|sample| sample.requests_per_second), 0),
            or_dash(median(|sample| sample.p50_ms), 3),
            or_dash(median(|sample| sample.p99_ms), 3),
            or_dash(median(cpu), 2),
            or_dash(runs.ratio(workload.name, kind, Kind::Haproxy, cpu), 2),
            or_dash(runs.ratio(workload.name, kind, Kind::Echo, cpu), 2),
        );
    }
}

/// What slotgate must reach, what it aims at, and what this run measured.
pub fn print_goals(verdicts: &[Verdict]) {
    println!("\nslotgate against its goals (medians of the rounds' ratios)");
    println!("{:<10} {:<30} {:>8} {:>8} {:>9}  verdict", "workload", "measure", "must", "aim", "measured");
    for verdict in verdicts {
        let sign = if verdict.is_higher_better { ">=" } else { "<=" };
        let bound = |bound: Option<f64>| bound.map_or("-".to_owned(), |bound| format!("{sign} {bound:.2}"));
        println!(
            "{:<10} {:<30} {:>8} {:>8} {:>9}  {}",
            verdict.workload,
            verdict.measure,
            bound(verdict.must),
            bound(verdict.aim),
            or_dash(verdict.measured, 2),
            verdict.word(),
        );
    }
    println!("CPU is the user and system time of the target's process; of 'direct' it is the node's own.");
}

/// Every sample and verdict.
pub fn write_json(file: &Path, runs: &Runs, verdicts: &[Verdict]) -> Result<()> {
    let text = serde_json::to_string_pretty(&serde_json::json!({ "runs": runs, "goals": verdicts }))?;
    std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

fn or_dash(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}
