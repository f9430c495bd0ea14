//! `make test-k8s`: deploy/ on a real Kubernetes, under a constant load of plain clients while pods, gateways
//! and machines go away, and what these clients noticed.
//!
//! Takes the cluster that kubectl takes (KUBECONFIG). Each scenario has a namespace and a NodePort of its own.
//! Ends with a table, and with exit code 1 when a promise was broken or a scenario could not be played.

mod faults;
mod kubectl;
mod lab;
mod load;
mod objects;
#[path = "../../benches/lifecycle/report.rs"]
mod report;
mod scenarios;
mod seed;
mod tally;
#[allow(clippy::unwrap_used, dead_code)] // shared with tests where a failed unwrap is a failed test
#[path = "../integration/support/client.rs"]
mod wire;
mod words;

use anyhow::Result;
use clap::Parser as _;
use report::Row;
use scenarios::Played;
use std::process::ExitCode;
use std::time::Duration;

/// How long a client waits for a reply: longer than a request may be held, `--hold` being 10 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// Installs deploy/ on the Kubernetes of KUBECONFIG, once for each scenario in a namespace of its own, breaks
/// things under load, and counts what clients notice.
#[derive(Debug, clap::Parser)]
#[command(
    name = "test-k8s",
    after_help = "Environment:
  KUBECONFIG                 the cluster, as for kubectl
  SLOTGATE_TEST_IMAGE        slotgate's image, which the machines have or can pull [slotgate:dev]
  SLOTGATE_TEST_OTHER_IMAGE  what redis:7.0 is changed to [docker.io/library/redis:7.0, the same by its full name]
  SLOTGATE_TEST_FAULTS       a program for faults of machines: PROGRAM kill|boot|cut|join MACHINE ends a machine without
                             a word, starts it again, takes its network away, gives it back. Scenarios that need it are
                             left out without it
  SLOTGATE_TEST_API_PID      the process id of the API server, if it runs on this machine: it is stopped (SIGSTOP) for
                             two minutes. The scenario is left out without it"
)]
struct Args {
    /// Only these
    #[arg(value_name = "SCENARIO")]
    only: Vec<String>,
    /// List the scenarios and end
    #[arg(long)]
    list: bool,
    /// Leave the namespaces behind, to look at them
    #[arg(long)]
    keep: bool,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if args.list {
        for scenario in scenarios::ALL {
            println!("{:10} {}", scenario.name, scenario.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(name) = args.only.iter().find(|name| scenarios::ALL.iter().all(|known| known.name != **name))
    {
        anyhow::bail!("there is no scenario {name}; --list shows them");
    }
    let site = lab::Site::find()?;
    let (mut rows, mut left_out) = (Vec::new(), Vec::new());
    for scenario in scenarios::ALL {
        if !args.only.is_empty() && !args.only.iter().any(|name| name == scenario.name) {
            continue;
        }
        match play(&site, scenario, args.keep) {
            Ok(Played::Rows(played)) => rows.extend(played),
            Ok(Played::LeftOut(why)) => {
                words::say(&format!("{}: LEFT OUT: {why}", scenario.name));
                left_out.push(format!("{}: {why}", scenario.name));
            }
            // One that cannot be played to its end must not hide what the others measured.
            Err(error) => {
                words::say(&format!("{}: FAILED: {error:#}", scenario.name));
                let text: String =
                    format!("{error:#}").lines().next().unwrap_or_default().chars().take(160).collect();
                rows.push(Row::new(scenario.name, "played to its end", text, false));
            }
        }
    }
    report::print(&rows);
    if !left_out.is_empty() {
        println!("\nLeft out:");
        left_out.iter().for_each(|line| println!("  {line}"));
    }
    let is_broken = rows.iter().any(|row| !row.is_kept);
    Ok(if is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One scenario from its empty namespace to its end; what went wrong is shown before the namespace goes.
fn play(site: &lab::Site, scenario: &scenarios::Scenario, keep: bool) -> Result<Played> {
    if let Some(why) = (scenario.lacks)(site) {
        return Ok(Played::LeftOut(why));
    }
    words::say(&format!("{}: {}", scenario.name, scenario.what));
    let lab = lab::Lab::create(site, scenario.name, keep)?;
    let played = (scenario.run)(&lab);
    let is_well = matches!(&played, Ok(rows) if rows.iter().all(|row| row.is_kept));
    if !is_well {
        lab.show_what_happened();
    }
    if let Ok(rows) = &played {
        rows.iter()
            .for_each(|row| words::say(&format!("  {}: {} ({})", row.what, row.measured, row.promised)));
    }
    played.map(Played::Rows)
}
