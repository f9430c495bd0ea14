//! `slotgate set-timeout`: the node timeout of all nodes, changed at once and kept.

use super::config_set::{How, set};
use super::{Exit, nodes};

/// Change cluster-node-timeout on all nodes at once
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate set-timeout 5000 redis-0:6379
  slotgate set-timeout 15000 redis-0:6379 --dry-run

After so many milliseconds without an answer a node is taken for dead, and a replica may take over. The same
as 'slotgate config set cluster-node-timeout'. Exit code 1 when a node did not take it. SLOTGATE_USER and
SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// Milliseconds; below 2000 a short hiccup is taken for death
    #[arg(value_name = "MS", value_parser = clap::value_parser!(u32).range(100..))]
    millis: u32,
    #[command(flatten)]
    cluster: nodes::Cluster,
    #[command(flatten)]
    how: How,
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    set(&args.cluster, &args.how, "cluster-node-timeout", args.millis.to_string().as_bytes())
}
