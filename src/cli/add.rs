//! `slotgate add`: one empty node more.

use super::{Exit, Output, moving, nodes};
use crate::config::Span;
use crate::control::add::{self, AddError, Wish};
use crate::control::discover::Seed;
use crate::control::migrate::{Journey, JourneyError, Stop, ready_holders};
use serde_json::json;
use std::time::Duration;

/// What one node gets for each answer; a person waits.
const LIMIT: Duration = Duration::from_secs(5);

/// Add an empty node to a cluster, as a primary without slots or as a replica
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate add 10.0.0.7:6379 10.0.0.1:6379
  slotgate add redis-6:6379 redis-0:6379 --replica-of auto --yes
  slotgate add redis-6:6379 redis-0:6379 --replica-of 3f1c --dry-run --output json

The newcomer must be empty and of no other cluster. Functions are copied to it first. A new primary has
no slots: 'slotgate rebalance --use-empty' gives it some. Run again after it was cut short, it goes on.
Exit code 3: not done, because it would not be safe.
SLOTGATE_USER and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// The node to add
    #[arg(value_name = "NEW")]
    newcomer: Seed,
    /// A node of the cluster; the others are found through it
    #[arg(value_name = "EXISTING")]
    existing: Seed,
    /// Make it a replica of this shard (its primary's address or the beginning of its id), or of the one
    /// with the fewest replicas
    #[arg(long, value_name = "SHARD|auto")]
    replica_of: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Show the plan and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// How long the nodes may take to agree
    #[arg(long, value_name = "TIME", default_value = "60s")]
    timeout: Span,
    #[command(flatten)]
    login: nodes::Login,
    /// The shape of the answer; with json, --yes or --dry-run is needed
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let is_json = args.output == Output::Json;
    if is_json && !args.yes && !args.dry_run {
        eprintln!("slotgate: --output json asks no question; add --yes or --dry-run");
        return Ok(Exit::Usage);
    }
    let credentials = match args.login.credentials() {
        Ok(credentials) => credentials,
        Err(error) => {
            eprintln!("{error}");
            return Ok(Exit::Usage);
        }
    };
    nodes::runtime()?.block_on(async {
        let addrs = nodes::resolve(std::slice::from_ref(&args.existing), LIMIT).await?;
        let newcomers = nodes::resolve(std::slice::from_ref(&args.newcomer), LIMIT).await?;
        let [addr] = newcomers[..] else {
            eprintln!("slotgate: {} has several addresses; name the node by one of its own", args.newcomer);
            return Ok(Exit::Usage);
        };
        let journey =
            Journey { addrs, credentials, limit: LIMIT, timeout: args.timeout.0, stop: Stop::default() };
        let planned = async {
            let newcomer = add::observe_newcomer(&journey, addr).await?;
            let view = journey.look().await;
            let wish = match args.replica_of.as_deref() {
                None => Wish::Primary,
                Some("auto") => Wish::ReplicaOfPoorest,
                Some(name) => match moving::find(&ready_holders(&view)?, name) {
                    Ok(party) => Wish::ReplicaOf(party.id),
                    Err(moving::Refused(_, text)) => return Err(AddError::NoSuchPrimary(text)),
                },
            };
            let plan = add::plan(&view, &newcomer, &wish)?;
            Ok((view, plan))
        };
        let (view, plan) = match planned.await {
            Ok(planned) => planned,
            Err(error) => return Ok(refuse(&error)),
        };
        let steps: Vec<String> = plan.actions.iter().map(ToString::to_string).collect();
        let is_idle = steps.is_empty();
        let answer = |result: &str| {
            if is_json {
                println!(
                    "{}",
                    json!({ "result": result, "node": plan.newcomer.id.as_str(), "actions": steps })
                );
            }
        };
        if !is_json {
            steps.iter().for_each(|step| println!("{step}"));
        }
        if args.dry_run {
            answer("planned");
            return Ok(Exit::Fine);
        }
        if !is_idle && !args.yes && !moving::is_confirmed()? {
            println!("Nothing was changed: the answer was not 'yes'.");
            return Ok(Exit::Wrong);
        }
        if let Err(error) = add::carry_out(&journey, &view, &plan, |action| eprintln!("Now: {action}")).await
        {
            return Ok(refuse(&error));
        }
        answer(if is_idle { "unchanged" } else { "added" });
        match (is_json, is_idle) {
            (true, _) => {}
            (false, true) => println!("{addr} is a member already; nothing was changed."),
            (false, false) => println!("Added {addr}: all nodes know it."),
        }
        Ok(Exit::Fine)
    })
}

fn refuse(error: &AddError) -> Exit {
    eprintln!("slotgate: {error}");
    match error {
        AddError::NotEmpty { .. } | AddError::Cluster(JourneyError::NotInOrder(_)) => Exit::Refused,
        AddError::NoSuchPrimary(_) => Exit::Usage,
        _ => Exit::Wrong,
    }
}
