//! `slotgate remove`: one node less.

use super::change::Change;
use super::moving::{Limits, Progress, stop_on_interrupt};
use super::{Ended, Exit, nodes};
use crate::control::bootstrap;
use crate::control::discover::Seed;
use crate::control::migrate::{Journey, JourneyError, Stop};
use crate::control::named::Name;
use crate::control::plan::remove::{Allowed, Plan, Stage};
use crate::control::remove::{self, Ending, Event, RemoveError, Wish};
use serde_json::json;
use std::io::{self, Write as _};

/// Take a node out of the cluster for good, while clients go on
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate remove 10.0.0.7:6379 10.0.0.1:6379
  slotgate remove 3f1c redis-0:6379 --dry-run
  slotgate remove redis-6:6379 redis-0:6379 --yes --output json

NODE is an address, or at least four digits that a node id begins with. A primary's slots go to the other
primaries, its replicas to those that have fewest, on another host where there is one. Then all members
forget the node, and last it is reset: an empty node of its own with a new id. A node that is dead and owns
no slots is forgotten only. To take a whole shard away, remove its primary, then the replica.

Refused (exit code 3): when fewer than three primaries would be left, as two of them are no majority
without the third (--allow-few-primaries); when a primary would be left without a replica
(--allow-no-replica); when the others have no memory for the keys; when a member does not answer, as it
would bring the node back by gossip; when a dead node owns slots ('slotgate failover', 'slotgate fix').

Ctrl-C finishes the step or the slots under way. Run again with the node's address after it was stopped or
killed, it goes on.
Beside 'serve --manage': take the node out of its seed file first. While listed there, the empty node is a
spare, which the manager takes in again as soon as a primary lacks a replica.
SLOTGATE_USER and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// The node to remove
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    cluster: nodes::Cluster,
    /// Leave a primary without a replica, if it comes to that
    #[arg(long)]
    allow_no_replica: bool,
    /// Leave fewer than three primaries, if it comes to that
    #[arg(long)]
    allow_few_primaries: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    change: Change,
}

const GO_ON: &str = "to go on, run the same command again";

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let is_json = args.change.is_json();
    let credentials = args.change.credentials(&args.cluster.login)?;
    nodes::runtime()?.block_on(async {
        nodes::all_can_write(&args.cluster.observe(&credentials).await?)?;
        let name = match args.node.parse::<Seed>() {
            Ok(seed) => Name::At(nodes::resolve(&[seed], nodes::LIMIT).await?),
            Err(_) => Name::Id(args.node.clone()),
        };
        let allowed = Allowed { no_replica: args.allow_no_replica, few_primaries: args.allow_few_primaries };
        let wish = Wish { text: args.node.clone(), name, allowed };
        let addrs = nodes::resolve(&args.cluster.nodes, nodes::LIMIT).await?;
        let (stop, timeout) = (Stop::default(), args.change.timeout.0);
        let journey = Journey {
            addrs,
            credentials,
            limit: nodes::LIMIT,
            timeout,
            stop: stop.clone(),
            speed: args.limits.speed(&stop),
        };
        let outlook = remove::look(&journey, &wish).await.map_err(|error| ended(&error, false))?;
        let plan = outlook.plan.clone();
        if !is_json {
            show(&plan);
        }
        if args.change.dry_run {
            answer(is_json, &plan, "planned", "Nothing was changed: this was a dry run.");
            return Ok(Exit::Fine);
        }
        if !args.change.is_confirmed()? {
            return Ok(Exit::Wrong);
        }
        stop_on_interrupt(stop)?;
        let mut telling = Telling { args, progress: Progress::new(is_json), is_moving: false };
        let carried = remove::carry_out(&journey, &wish, outlook, |event| telling.hear(event)).await;
        telling.end_moves();
        match carried.map_err(|error| ended(&error, true))? {
            Ending::Removed => {
                let text = match plan.stages.last() {
                    Some(Stage::Reset(node)) => {
                        format!("Removed {node}: no member knows it, and it is empty.")
                    }
                    _ => "Removed it: no member knows it any more.".to_string(),
                };
                answer(is_json, &plan, "removed", &text);
                Ok(Exit::Fine)
            }
            Ending::Stopped => {
                answer(is_json, &plan, "stopped", "");
                Err(Ended::wrong(format!("stopped; nothing was left half-way; {GO_ON}")).into())
            }
        }
    })
}

fn show(plan: &Plan) {
    plan.warnings.iter().for_each(|warning| println!("Warning: {warning}"));
    for stage in &plan.stages {
        println!("{stage}");
        if let Stage::Drain(moves) = stage {
            moves.iter().for_each(|step| println!("  {step}"));
        }
    }
}

fn answer(is_json: bool, plan: &Plan, result: &str, text: &str) {
    if !is_json {
        if !text.is_empty() {
            println!("{text}");
        }
        return;
    }
    let kind = |stage: &Stage| match stage {
        Stage::Drain(_) => "drain",
        Stage::HandOn { .. } => "replicate",
        Stage::Forget(_) => "forget",
        Stage::Reset(_) => "reset",
    };
    let step = |stage: &Stage| json!({ "kind": kind(stage), "text": stage.to_string() });
    let answer = json!({
        "result": result,
        "node": plan.leaver.as_str(),
        "address": plan.addr.map(|addr| addr.to_string()),
        "steps": plan.stages.iter().map(step).collect::<Vec<_>>(),
        "warnings": plan.warnings,
    });
    println!("{answer:#}");
}

/// Tells what goes on.
struct Telling<'a> {
    args: &'a Args,
    progress: Progress,
    is_moving: bool,
}

impl Telling<'_> {
    fn hear(&mut self, event: Event) {
        match event {
            Event::Step { step, steps, stage } => {
                self.end_moves();
                let line = format!("[{step}/{steps}] {stage}");
                // A reader that went away does not stop the work.
                let _ = if self.args.change.is_json() {
                    writeln!(io::stderr(), "{line}")
                } else {
                    writeln!(io::stdout(), "{line}")
                };
                if let Stage::Drain(moves) = stage {
                    self.progress.begin(&moves);
                    self.is_moving = true;
                }
            }
            Event::Waiting { what } => {
                self.args.change.say(bootstrap::Progress::Waiting { what: what.into() });
            }
            Event::Moving(event) => self.progress.hear(event),
        }
    }

    fn end_moves(&mut self) {
        if std::mem::take(&mut self.is_moving) {
            self.progress.end();
        }
    }
}

/// How a run ends that an error stopped.
fn ended(error: &RemoveError, has_begun: bool) -> Ended {
    let exit = match error {
        RemoveError::Named(_) => Exit::Usage,
        RemoveError::Refused(_) | RemoveError::NoRoom(_) | RemoveError::Midway(_) => Exit::Refused,
        RemoveError::Journey(JourneyError::NotInOrder(_) | JourneyError::Unclear(_)) => Exit::Refused,
        _ => Exit::Wrong,
    };
    let text = match error {
        RemoveError::Refused(_) | RemoveError::NoRoom(_) | RemoveError::Unsettled { .. } => error.to_string(),
        _ if has_begun => format!("{error}; {GO_ON}"),
        _ => error.to_string(),
    };
    Ended { exit, text }
}
