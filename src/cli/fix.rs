//! `slotgate fix`: open slots and slots without an owner, repaired without a question that nobody answers.

use super::change::Change;
use super::moving::stop_on_interrupt;
use super::{Exit, nodes};
use crate::control::fix::{self, Config};
use crate::control::migrate::Stop;
use crate::control::plan::fix::Fix;
use crate::control::problem::{Problem, join, name_slots, problems};
use crate::control::stray::find_strays;
use crate::topology::SlotRange;
use serde_json::json;
use std::path::PathBuf;

/// Repair open slots, slots that nobody owns, and keys that are not where their slot is
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate fix redis-0:6379 --dry-run
  slotgate fix redis-0:6379 --yes
  slotgate fix redis-0:6379 --yes --allow-data-loss 93,100-120 --save-to lost.jsonl

A move that both its ends know of is finished; of any other open slot the keys go back to the owner. A slot
that nobody owns goes to the only node that holds keys of it, or, when none does, to the primary with the
fewest slots. Keys that a node holds of another's slots, where no client finds them, go to the owner. Slots
that may lose keys are refused (exit code 3): those of which a node that does not answer may hold keys, and
those of which several nodes hold keys while nobody owns them. --allow-data-loss with their numbers allows
it; each key that is given up is saved to a file first. Nothing is ever flushed.
Without a terminal, --yes is needed. Run again after it was cut short, it goes on. Exit code 1 when something
that is not about slots is wrong. SLOTGATE_USER and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    #[command(flatten)]
    cluster: nodes::Cluster,
    /// Slots that may lose keys, such as 93 or 93,100-120
    #[arg(long, value_name = "SLOTS", value_delimiter = ',', value_parser = read_range)]
    allow_data_loss: Vec<SlotRange>,
    /// Where keys are saved before they are given up: a JSON object a line, with what RESTORE takes
    #[arg(long, value_name = "FILE", default_value = "slotgate-lost-keys.jsonl")]
    save_to: PathBuf,
    #[command(flatten)]
    change: Change,
}

fn read_range(text: &str) -> Result<SlotRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.trim().parse().ok().zip(last.trim().parse().ok());
    range
        .and_then(|(first, last)| SlotRange::new(first, last))
        .ok_or_else(|| format!("{text:?} is not a slot (0 to 16383) or a range of slots such as 100-120"))
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    let is_json = args.change.is_json();
    let credentials = args.change.credentials(&args.cluster.login)?;
    let config = Config {
        credentials,
        limit: nodes::LIMIT,
        timeout: args.change.timeout.0,
        allowed: args.allow_data_loss,
        save_to: args.save_to,
        stop: Stop::default(),
    };
    nodes::runtime()?.block_on(async {
        let mut view = args.cluster.observe(&config.credentials).await?;
        let (strays, errors) = find_strays(&view, &config.credentials, config.limit).await;
        // What is not counted must not be taken for empty.
        errors.into_iter().next().map_or(Ok(()), Err)?;
        view.strays = strays;
        let fix = fix::plan(&config, &view).await?;
        let others = problems(&view, None).into_iter().filter(|problem| !is_about_slots(problem)).count();
        let left = match (fix.refused.is_empty(), others) {
            (false, _) => Exit::Refused,
            (true, 0) => Exit::Fine,
            _ => Exit::Wrong,
        };
        if !is_json {
            print!("{}", text(&fix));
            if let Some(node) = view.nodes.first().filter(|_| others > 0) {
                println!(
                    "{} not about slots: 'slotgate doctor {}' says what, and how to repair it.",
                    match others {
                        1 => "One more thing is wrong, which is".to_string(),
                        others => format!("{others} more things are wrong, which are"),
                    },
                    node.view.asked
                );
            }
        }
        if fix.actions.is_empty() {
            say(&fix, "unchanged", is_json, "Nothing was changed.");
            return Ok(left);
        }
        if args.change.dry_run {
            say(&fix, "planned", is_json, "Nothing was changed: this was a dry run.");
            return Ok(left);
        }
        if !args.change.is_confirmed()? {
            return Ok(Exit::Wrong);
        }
        stop_on_interrupt(config.stop.clone())?;
        fix::carry_out(&config, &view, &fix, |progress| args.change.say(progress)).await?;
        let done = match left {
            Exit::Refused => "Done, but for the slots that were refused.",
            _ => "Done: every slot in doubt has one owner, and all nodes agree.",
        };
        say(&fix, "fixed", is_json, done);
        Ok(left)
    })
}

/// What this command is for, or what goes away with it.
fn is_about_slots(problem: &Problem) -> bool {
    matches!(
        problem,
        Problem::Open { .. }
            | Problem::Uncovered { .. }
            | Problem::StrayKeys(_)
            | Problem::NotServing { .. }
            | Problem::Disagreement { .. }
    )
}

fn text(fix: &Fix) -> String {
    let mut out = String::new();
    if fix.actions.is_empty() && fix.refused.is_empty() {
        out += "No slot is open, none is without an owner, and every key is where its slot is.\n";
    }
    for (ix, action) in fix.actions.iter().enumerate() {
        out += &format!("  {}. {action}\n", ix + 1);
    }
    for refused in &fix.refused {
        out += &format!("REFUSED: the {}: {}", name_slots(&refused.slots), refused.reason);
        out += &match refused.reason.can_be_allowed() {
            true => format!("; or allow it: --allow-data-loss {}\n", join(&refused.slots, ",")),
            false => "\n".to_string(),
        };
    }
    out
}

fn say(fix: &Fix, result: &str, is_json: bool, text: &str) {
    if !is_json {
        println!("{text}");
        return;
    }
    let refused = fix.refused.iter().map(|refused| {
        json!({
            "slots": refused.slots.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "reason": refused.reason.to_string(),
            "can_be_allowed": refused.reason.can_be_allowed(),
        })
    });
    let shown = json!({
        "result": result,
        "actions": fix.actions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "refused": refused.collect::<Vec<_>>(),
    });
    println!("{shown:#}");
}
