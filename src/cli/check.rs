//! `slotgate check`: whether a cluster is whole, by all its nodes' words.

use super::{Exit, Output, nodes};
use crate::control::observe::Role;
use crate::control::problem::{Problem, join, problems};
use crate::control::stray::add_strays;
use crate::control::view::{Observation, View};
use crate::topology::{Slot, SlotRange};
use serde_json::{Value, json};

/// Check that a cluster is whole: slots, agreement, open slots, stray keys, members, replicas, epochs
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate check redis-0:6379
  slotgate check 10.0.0.1:6379 --replicas 2
  slotgate check redis-0:6379 --output json | jq '.problems[].text'

Any one node is enough: the others are found through it, and all are asked. Exit code 0: nothing is
wrong; 1: something is. SLOTGATE_USER and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    #[command(flatten)]
    cluster: nodes::Cluster,
    /// How many replicas each primary should have [default: one, as soon as any primary has one]
    #[arg(long, value_name = "N")]
    replicas: Option<usize>,
    /// The shape of the answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    let credentials = args.cluster.login.credentials()?;
    let view = nodes::runtime()?.block_on(async {
        let mut view = args.cluster.observe(&credentials).await?;
        add_strays(&mut view, &credentials, nodes::LIMIT).await;
        anyhow::Ok(view)
    })?;
    let found = problems(&view, args.replicas);
    match args.output {
        Output::Text => print!("{}", text(&view, &found)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&to_json(&view, &found))?),
    }
    Ok(if found.is_empty() { Exit::Fine } else { Exit::Wrong })
}

fn text(view: &View, found: &[Problem]) -> String {
    let mut out = String::new();
    for node in sorted(view) {
        let me = node.view.myself();
        let role = match (&me.primary, &node.info.role) {
            (None, _) => format!("primary of {} slots: {}", count(&me.slots), join(&me.slots, " ")),
            (Some(primary), role) => {
                let primary =
                    view.of(*primary).map_or(primary.to_string(), |node| node.view.asked.to_string());
                let link = if matches!(role, Role::Replica { is_link_up: true, .. }) { "up" } else { "down" };
                format!("replica of {primary}, link {link}")
            }
        };
        let (addr, id, info) = (node.view.asked, me.id.short(), &node.info);
        out += &format!("{addr} {id} {}, {} keys, epoch {}, {role}\n", info.server, info.keys, me.epoch);
    }
    if found.is_empty() {
        let covered = Slot::all().len();
        out += &format!(
            "Nothing is wrong: {} nodes agree, all {covered} slots are covered.\n",
            view.nodes.len()
        );
    } else {
        for problem in found {
            out += &format!("WRONG: {problem}\n");
        }
        out += &match found.len() {
            1 => "One thing is wrong".to_string(),
            count => format!("{count} things are wrong"),
        };
        let any = view.nodes.first().map(|node| format!(" {}", node.view.asked)).unwrap_or_default();
        out += &format!("; 'slotgate doctor{any}' says how to repair it.\n");
    }
    out
}

fn to_json(view: &View, found: &[Problem]) -> Value {
    let node = |node: &&Observation| {
        let me = node.view.myself();
        let (link, role) = match &node.info.role {
            Role::Primary => (None, "primary"),
            Role::Replica { is_link_up, .. } => (Some(if *is_link_up { "up" } else { "down" }), "replica"),
        };
        json!({
            "address": node.view.asked.to_string(),
            "id": me.id.as_str(),
            "server": node.info.server,
            "role": role,
            "primary": me.primary.map(|id| id.to_string()),
            "link": link,
            "slots": me.slots.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "slot_count": count(&me.slots),
            "keys": node.info.keys,
            "epoch": me.epoch,
            "serves": node.view.cluster.is_ok,
        })
    };
    let problem = |problem: &Problem| json!({ "kind": problem.kind(), "text": problem.to_string() });
    json!({
        "healthy": found.is_empty(),
        "nodes": sorted(view).iter().map(node).collect::<Vec<_>>(),
        "problems": found.iter().map(problem).collect::<Vec<_>>(),
    })
}

/// Primaries by their slots, then replicas by their addresses.
fn sorted(view: &View) -> Vec<&Observation> {
    let mut nodes: Vec<&Observation> = view.nodes.iter().collect();
    nodes.sort_by_key(|node| {
        let me = node.view.myself();
        (me.primary.is_some(), me.slots.first().copied(), node.view.asked)
    });
    nodes
}

fn count(ranges: &[SlotRange]) -> usize {
    ranges.iter().map(|range| range.count()).sum()
}
