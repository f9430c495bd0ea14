//! What `make compare ARGS="..."` understands.

use crate::echo::Reply;
use crate::targets::Kind;
use crate::workloads::{WORKLOADS, Workload};
use anyhow::{Result, anyhow};
use std::path::PathBuf;

/// Measures slotgate side by side with other proxies on this machine.
#[derive(Debug, clap::Parser)]
#[command(name = "compare")]
pub struct Args {
    /// How often each workload runs on each target; the medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Only these workloads, e.g. get50,get50P16
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    workload: Vec<String>,
    /// Only these targets: direct, slotgate, haproxy, envoy, echo
    #[arg(long, value_delimiter = ',', value_name = "TARGET,...")]
    pub only: Vec<Kind>,
    /// The slotgate to measure
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_slotgate"))]
    pub slotgate: PathBuf,
    /// One more argument for `slotgate serve`; may be given several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub slotgate_arg: Vec<String>,
    /// Write every sample and the verdicts to this file, too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Exit with code 1 when a goal that must be reached is missed or could not be measured
    #[arg(long)]
    pub strict: bool,
    /// Be the echo server: answer every request with this reply
    #[arg(long, hide = true)]
    pub serve_echo: Option<Reply>,
    /// `cargo bench` says so to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    pub fn wants(&self, kind: Kind) -> bool {
        self.only.is_empty() || self.only.contains(&kind)
    }

    /// The workloads asked for, in the order of the table.
    pub fn workloads(&self) -> Result<Vec<&'static Workload>> {
        let known: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        if let Some(name) = self.workload.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(anyhow!("no workload is named '{name}'; there are: {}", known.join(", ")));
        }
        let is_wanted =
            |name: &str| self.workload.is_empty() || self.workload.iter().any(|given| given == name);
        Ok(WORKLOADS.iter().filter(|workload| is_wanted(workload.name)).collect())
    }
}
