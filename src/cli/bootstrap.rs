//! `slotgate bootstrap`: lone nodes → one cluster.

use super::change::Change;
use super::moving::stop_on_interrupt;
use super::{Ended, Exit, nodes};
use crate::control::bootstrap::{self, BootstrapError, Progress};
use crate::control::discover::Seed;
use crate::control::migrate::Stop;
use crate::control::plan::form::{Formation, Part, Plan, Refusal};
use crate::control::run_error::RunError;
use crate::control::view::View;
use serde_json::{Value, json};

/// Form a cluster of empty nodes, or finish one that was begun
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate bootstrap 10.0.0.{1,2,3,4,5,6}:6379 --replicas 1
  slotgate bootstrap redis-0:6379 redis-1:6379 redis-2:6379 --replicas 0 --yes
  slotgate bootstrap redis-{0,1,2,3,4,5}:6379 --zone redis-0:6379=a --zone redis-1:6379=b ...
  slotgate bootstrap redis-{0,1,2,3,4,5}.redis:6379 --dry-run --output json

The first nodes become primaries, spread over hosts and zones, the others their replicas, apart from their
primary's host and zone where possible. Shows the plan and asks. Ends when all nodes agree, every replica follows its primary and all
config epochs are distinct.
Run again on a finished cluster it changes nothing; run again after it was cut short, with the same nodes
in the same order, it goes on. A node that holds keys or belongs to another cluster is refused.
SLOTGATE_USER and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// The nodes, each by an address of its own
    #[arg(value_name = "HOST:PORT", required = true)]
    nodes: Vec<Seed>,
    /// How many replicas each primary gets
    #[arg(long, value_name = "N", default_value_t = 1)]
    replicas: usize,
    #[command(flatten)]
    zones: nodes::Zones,
    #[command(flatten)]
    login: nodes::Login,
    #[command(flatten)]
    change: Change,
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    let is_json = args.change.is_json();
    let credentials = args.change.credentials(&args.login)?;
    let config = bootstrap::Config {
        nodes: args.nodes,
        replicas: args.replicas,
        credentials,
        limit: nodes::LIMIT,
        timeout: args.change.timeout.0,
        stop: Stop::default(),
    };
    nodes::runtime()?.block_on(async {
        let mut view = bootstrap::observe(&config).await?;
        if !view.silent.is_empty() {
            let why = nodes::each_with_next_step(&view.silent);
            let text =
                format!("all nodes must answer; nothing was changed. These could not be asked:\n{why}");
            return Err(Ended::wrong(text).into());
        }
        args.zones.tell(&mut view).await?;
        let formation = bootstrap::plan(&config, &view)
            .map_err(|error| Ended { exit: exit_of(&error), text: error.to_string() })?;
        let has_actions = matches!(&formation, Formation::Needed(plan) if !plan.actions.is_empty());
        if let Formation::Needed(plan) = &formation
            && has_actions
        {
            if !is_json {
                print!("{}", text(plan, &config));
            }
            if args.change.dry_run {
                if is_json {
                    print_json(&formation, "planned")?;
                } else {
                    println!("Nothing was changed: this was a dry run.");
                }
                return Ok(Exit::Fine);
            }
            if !args.change.is_confirmed()? {
                return Ok(Exit::Wrong);
            }
        }
        stop_on_interrupt(config.stop.clone())?;
        finish(&config, &view, &formation, |progress| args.change.say(progress)).await?;
        match (is_json, has_actions) {
            (true, true) => print_json(&formation, "formed")?,
            (true, false) => print_json(&formation, "unchanged")?,
            (false, true) => println!(
                "Done: {} nodes agree, all slots are covered, every replica follows its primary.",
                view.nodes.len()
            ),
            (false, false) => {
                println!("These {} nodes are a whole cluster already; nothing was changed.", view.nodes.len())
            }
        }
        Ok(Exit::Fine)
    })
}

fn exit_of(error: &BootstrapError) -> Exit {
    match error {
        BootstrapError::Refused(Refusal::TooMany | Refusal::Twice(..)) => Exit::Usage,
        BootstrapError::Refused(
            Refusal::TooFew { .. }
            | Refusal::Keys { .. }
            | Refusal::Foreign { .. }
            | Refusal::OtherPart { .. },
        ) => Exit::Refused,
        _ => Exit::Wrong,
    }
}

/// Carries out what is missing and waits until the cluster is whole.
pub(super) async fn finish(
    config: &bootstrap::Config,
    view: &View,
    formation: &Formation,
    progress: impl FnMut(Progress),
) -> Result<(), RunError> {
    match formation {
        Formation::Needed(plan) => bootstrap::carry_out(config, plan, progress).await,
        Formation::Formed => {
            let addrs: Vec<_> = view.nodes.iter().map(|node| node.view.asked).collect();
            bootstrap::end(config, &addrs, progress).await
        }
    }
}

fn text(plan: &Plan, config: &bootstrap::Config) -> String {
    let mut out = format!(
        "A cluster of {} nodes, {} replicas for each primary:\n",
        plan.members.len(),
        config.replicas
    );
    for member in &plan.members {
        let part = match &member.part {
            Part::Primary { range } => format!("primary of the slots {range} ({} slots)", range.count()),
            Part::Replica { of } => format!("replica of {}", plan.members[*of].party),
        };
        out += &format!("  {} {} {part}\n", member.party, member.party.id.short());
    }
    for warning in &plan.warnings {
        out += &format!("Note: {warning}\n");
    }
    out += "Steps:\n";
    for (ix, action) in plan.actions.iter().enumerate() {
        out += &format!("  {}. {action}\n", ix + 1);
    }
    out
}

fn print_json(formation: &Formation, result: &str) -> anyhow::Result<()> {
    let plan = match formation {
        Formation::Needed(plan) => to_json(plan),
        Formation::Formed => Value::Null,
    };
    println!("{}", serde_json::to_string_pretty(&json!({ "result": result, "plan": plan }))?);
    Ok(())
}

fn to_json(plan: &Plan) -> Value {
    let members = plan.members.iter().map(|member| {
        let (slots, primary) = match &member.part {
            Part::Primary { range } => (Some(range.to_string()), None),
            Part::Replica { of } => (None, Some(plan.members[*of].party.addr.to_string())),
        };
        json!({
            "address": member.party.addr.to_string(),
            "id": member.party.id.as_str(),
            "slots": slots,
            "replica_of": primary,
        })
    });
    json!({
        "members": members.collect::<Vec<_>>(),
        "actions": plan.actions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "warnings": plan.warnings,
    })
}
