//! `slotgate set-timeout`: the node timeout of all nodes, changed at once and kept.

use super::config_set::{How, set};
use super::{Exit, nodes};
use crate::config::Span;

/// Change cluster-node-timeout on all nodes at once
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate set-timeout 5000 redis-0:6379
  slotgate set-timeout 5s redis-0:6379
  slotgate set-timeout 15000 redis-0:6379 --dry-run

After so many milliseconds without an answer a node is taken for dead, and a replica may take over. The same
as 'slotgate config set cluster-node-timeout'. Exit code 1 when a node did not take it. SLOTGATE_USER and
SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// Milliseconds, or a time with its unit such as 15s; below two seconds a short hiccup is taken for death
    #[arg(value_name = "MS", value_parser = read_millis)]
    millis: u32,
    #[command(flatten)]
    cluster: nodes::Cluster,
    #[command(flatten)]
    how: How,
}

/// A bare number is one of milliseconds, as elsewhere in Redis.
fn read_millis(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no time of at least 100 milliseconds, such as 15000 or 15s");
    let millis = match text.parse() {
        Ok(millis) => Some(millis),
        Err(_) => text.parse::<Span>().ok().and_then(|span| u32::try_from(span.0.as_millis()).ok()),
    };
    millis.filter(|millis| *millis >= 100).ok_or_else(wrong)
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    set(&args.cluster, &args.how, "cluster-node-timeout", args.millis.to_string().as_bytes())
}
