//! `slotgate switch-all-from`: no primary is left on a host, before it is taken away.

use super::failover::{How, finish};
use super::{Ended, Exit, nodes};
use crate::control::plan::failover::switch_all_from;
use std::net::IpAddr;

/// Let replicas elsewhere take over from every primary on a host
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate switch-all-from 10.0.0.1 10.0.0.2:6379
  slotgate switch-all-from worker-3.example redis-0.redis:6379 --yes
  slotgate switch-all-from 10.0.0.1 10.0.0.2:6379 --dry-run --output json

For the day when a host is restarted or taken away. Each primary there hands over, one after the other, to
its best replica on another host; of 'failover' the same holds here. When one of them has no replica
elsewhere, nothing is done at all. When no primary is there (any more), there is nothing to do. SLOTGATE_USER
and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// The host, by its address or by a name that resolves to it
    #[arg(value_name = "HOST")]
    host: String,
    #[command(flatten)]
    cluster: nodes::Cluster,
    #[command(flatten)]
    how: How,
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    let credentials = args.how.change.credentials(&args.cluster.login)?;
    nodes::runtime()?.block_on(async {
        let host: Vec<IpAddr> = match args.host.parse() {
            Ok(ip) => vec![ip],
            Err(_) => tokio::net::lookup_host((args.host.as_str(), 0))
                .await
                .map_err(|error| Ended::usage(format!("cannot look up the host {}: {error}", args.host)))?
                .map(|addr| addr.ip())
                .collect(),
        };
        let view = args.cluster.observe(&credentials).await?;
        if !view.nodes.iter().any(|node| host.contains(&node.view.asked.ip())) {
            let text = format!("no node of this cluster answers on {}; nothing was changed", args.host);
            return Err(Ended::usage(text).into());
        }
        finish(&view, switch_all_from(&view, &host, args.how.max_lag), credentials, &args.how).await
    })
}
