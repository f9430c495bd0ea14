//! `slotgate failover`: a replica in its primary's place, without losing a write. Also what
//! `switch-all-from` shares with it: show, ask, carry out.

use super::change::Change;
use super::moving::stop_on_interrupt;
use super::table::bytes;
use super::{Ended, Exit, nodes};
use crate::backend::Credentials;
use crate::control::discover::Seed;
use crate::control::hand_over::{self, Ending};
use crate::control::migrate::Stop;
use crate::control::named::{self, Name};
use crate::control::plan::failover::{HandOver, Refusal, failover};
use crate::control::view::View;
use serde_json::json;

/// Let a replica take over from its primary, without losing a write
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate failover 10.0.0.4:6379 10.0.0.1:6379
  slotgate failover 07c37dfe redis-0:6379 --yes
  slotgate failover redis-3.redis:6379 redis-0.redis:6379 --dry-run --output json

NODE is an address, or at least four digits that a node id begins with. Of a primary, its best replica
takes over: the one whose link is up and that lacks least. Of a replica, this one does. The primary stops
writes until the replica has all of them (CLUSTER FAILOVER); that takes some milliseconds. Ends when all
nodes agree and all links are up. Refused (exit code 3) when the primary is down, the replica's link is
down or too far behind, or no majority of primaries is there; FORCE and TAKEOVER, which may lose writes,
are never used. Nodes hold no second election of one node within four node timeouts: writes to the shard then
wait until the attempt is given up. SLOTGATE_USER and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// The primary that hands over, or the replica that takes over
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    cluster: nodes::Cluster,
    #[command(flatten)]
    how: How,
}

/// How hand-overs are done, and shown.
#[derive(clap::Args)]
pub struct How {
    /// How many bytes of its primary's writes a replica may lack when it is chosen; it gets them before it
    /// takes over
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    pub max_lag: u64,
    #[command(flatten)]
    pub change: Change,
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    let credentials = args.how.change.credentials(&args.cluster.login)?;
    nodes::runtime()?.block_on(async {
        let view = args.cluster.observe(&credentials).await?;
        let name = match args.node.parse::<Seed>() {
            Ok(seed) => Name::At(nodes::resolve(&[seed], nodes::LIMIT).await?),
            Err(_) => Name::Id(args.node.clone()),
        };
        let node = named::find(&view, &args.node, &name).map_err(Ended::usage)?;
        finish(&view, failover(&view, node, args.how.max_lag).map(|over| vec![over]), credentials, &args.how)
            .await
    })
}

/// Shows the hand-overs, asks, and carries them out.
///
/// # Errors
/// A step failed.
pub async fn finish(
    view: &View,
    planned: Result<Vec<HandOver>, Refusal>,
    credentials: Credentials,
    how: &How,
) -> anyhow::Result<Exit> {
    let is_json = how.change.is_json();
    let overs = planned.map_err(|refusal| Ended::refused(format!("{refusal}; nothing was changed")))?;
    if overs.is_empty() {
        say(&overs, "unchanged", is_json, "No primary with slots is there; nothing was changed.");
        return Ok(Exit::Fine);
    }
    if !is_json {
        for over in &overs {
            println!("{} takes over from {} ({}B behind)", over.replica, over.primary, bytes(over.lag));
        }
    }
    if how.change.dry_run {
        say(&overs, "planned", is_json, "Nothing was changed: this was a dry run.");
        return Ok(Exit::Fine);
    }
    if !how.change.is_confirmed()? {
        return Ok(Exit::Wrong);
    }
    let (timeout, stop) = (how.change.timeout.0, Stop::default());
    stop_on_interrupt(stop.clone())?;
    let config = hand_over::Config { credentials, limit: nodes::LIMIT, timeout, stop };
    let ending = hand_over::carry_out(&config, view, &overs, |progress| how.change.say(progress)).await?;
    if let Ending::Stopped { done } = ending {
        say(&overs, "stopped", is_json, "");
        return Err(Ended::wrong(stopped(&overs, done)).into());
    }
    say(&overs, "done", is_json, "Done: all nodes agree and all links are up.");
    Ok(Exit::Fine)
}

/// What was done until the run was told to end, and how to go on.
fn stopped(overs: &[HandOver], done: usize) -> String {
    let check = overs.first().map(|over| over.replica.to_string()).unwrap_or_default();
    // The same command once more would turn a single hand-over back.
    match overs.len() - done {
        0 => format!(
            "stopped while the nodes heard of the new roles; nothing is left to do: 'slotgate check {check}' shows when \
             all agree"
        ),
        left => format!(
            "stopped; {done} took over, {left} did not begin. To go on with those, run the same command again"
        ),
    }
}

fn say(overs: &[HandOver], result: &str, is_json: bool, text: &str) {
    if !is_json {
        if !text.is_empty() {
            println!("{text}");
        }
        return;
    }
    let over = |over: &HandOver| {
        json!({
            "replica": over.replica.addr.to_string(),
            "replica_id": over.replica.id.as_str(),
            "primary": over.primary.addr.to_string(),
            "primary_id": over.primary.id.as_str(),
            "lag_bytes": over.lag,
            "action": over.action().to_string(),
        })
    };
    println!("{:#}", json!({ "result": result, "hand_overs": overs.iter().map(over).collect::<Vec<_>>() }));
}
