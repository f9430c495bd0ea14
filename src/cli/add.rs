//! `slotgate add`: one empty node more.

use super::change::Change;
use super::{Ended, Exit, moving, nodes};
use crate::control::add::{self, AddError, Wish};
use crate::control::discover::Seed;
use crate::control::migrate::{Journey, JourneyError, Speed, Stop, ready_holders};
use crate::control::problem::join;
use serde_json::json;

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
    #[command(flatten)]
    login: nodes::Login,
    #[command(flatten)]
    change: Change,
}

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let is_json = args.change.is_json();
    let credentials = args.change.credentials(&args.login)?;
    nodes::runtime()?.block_on(async {
        let addrs = nodes::resolve(std::slice::from_ref(&args.existing), nodes::LIMIT).await?;
        nodes::all_can_write(&nodes::reach(&addrs, &credentials).await?)?;
        let newcomers = nodes::resolve(std::slice::from_ref(&args.newcomer), nodes::LIMIT).await?;
        let [addr] = newcomers[..] else {
            let text = format!("{} has several addresses; name the node by one of its own", args.newcomer);
            return Err(Ended::usage(text).into());
        };
        let journey = Journey {
            addrs,
            credentials,
            limit: nodes::LIMIT,
            timeout: args.change.timeout.0,
            stop: Stop::default(),
            speed: Speed::default(),
        };
        let planned = async {
            let newcomer = add::observe_newcomer(&journey, addr).await?;
            let view = journey.look().await;
            let wish = match args.replica_of.as_deref() {
                None => Wish::Primary,
                Some("auto") => Wish::ReplicaOfPoorest,
                Some(name) => match moving::find(&ready_holders(&view)?, name) {
                    Ok(party) => Wish::ReplicaOf(party.id),
                    Err(ended) => return Err(AddError::NoSuchPrimary(ended.text)),
                },
            };
            let plan = add::plan(&view, &newcomer, &wish)?;
            Ok((view, plan))
        };
        let (view, plan) = planned.await.map_err(ended)?;
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
        if args.change.dry_run {
            answer("planned");
            if !is_json {
                println!("Nothing was changed: this was a dry run.");
            }
            return Ok(Exit::Fine);
        }
        if !is_idle && !args.change.is_confirmed()? {
            return Ok(Exit::Wrong);
        }
        moving::stop_on_interrupt(journey.stop.clone())?;
        let tell = |progress| args.change.say(progress);
        add::carry_out(&journey, &view, &plan, tell).await.map_err(ended)?;
        answer(if is_idle { "unchanged" } else { "added" });
        match (is_json, is_idle) {
            (true, _) => {}
            (false, true) => println!("{addr} is a member already; nothing was changed."),
            (false, false) => println!("Added {addr}: all nodes know it."),
        }
        Ok(Exit::Fine)
    })
}

fn ended(error: AddError) -> Ended {
    let exit = match error {
        AddError::NotEmpty { .. } | AddError::Cluster(JourneyError::NotInOrder(_)) => Exit::Refused,
        AddError::NoSuchPrimary(_) => Exit::Usage,
        _ => Exit::Wrong,
    };
    let text = match &error {
        AddError::Observe(error) => nodes::with_next_step(error),
        AddError::Cluster(JourneyError::NotInOrder(problems)) => format!(
            "a node is added only to a cluster that is in order; this one is not: {}. 'slotgate doctor' says how to \
             repair it; nothing was changed",
            join(problems, "; ")
        ),
        _ => error.to_string(),
    };
    Ended { exit, text }
}
