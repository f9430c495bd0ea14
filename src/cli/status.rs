//! `slotgate status`: the cluster in one table, once or again and again.

use super::table::{Table, bytes};
use super::{Exit, Output, nodes};
use crate::backend::Credentials;
use crate::config::Span;
use crate::control::doctor::{Finding, diagnose};
use crate::control::problem::join;
use crate::control::status::{Member, ShardStatus, Status, status, verdict};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal as _, Write as _};

/// Show shards, nodes, keys, memory and replication in one table
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate status redis-0:6379
  slotgate status redis-0:6379 --watch
  slotgate status redis-0:6379 --output json | jq -r '.shards[].members[].address'
  slotgate status redis-0:6379 --watch --every 10s --output json >> status.jsonl

MEMORY is what a node uses, of its limit where it has one. LAG is how many bytes of its primary's writes a
replica lacked at that moment. The last line is the verdict; 'slotgate doctor' explains it and says how to
repair what is wrong. Exit code 0: healthy; 1: something is wrong. SLOTGATE_USER and SLOTGATE_PASSWORD count
as for 'serve'.")]
pub struct Args {
    #[command(flatten)]
    cluster: nodes::Cluster,
    /// Show it again and again, until it is interrupted
    #[arg(long)]
    watch: bool,
    /// How long to wait between two looks
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "watch")]
    every: Span,
    /// The shape of the answer; with --watch, json is one object a line
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    let credentials = args.cluster.login.credentials()?;
    nodes::runtime()?.block_on(async {
        if !args.watch {
            let (is_healthy, shown) = look(&args, &credentials).await?;
            print!("{shown}");
            return Ok(if is_healthy { Exit::Fine } else { Exit::Wrong });
        }
        // One that nobody can reach right now may be there at the next look.
        loop {
            let shown = match look(&args, &credentials).await {
                Ok((_, shown)) => shown,
                Err(error) if args.output == Output::Json => {
                    format!("{}\n", json!({ "error": error.to_string() }))
                }
                Err(error) => format!("{error}\n"),
            };
            let is_screen = args.output == Output::Text && io::stdout().is_terminal();
            let clear = if is_screen { "\x1b[H\x1b[2J" } else { "" };
            let mut out = io::stdout();
            if out.write_all(format!("{clear}{shown}").as_bytes()).and_then(|()| out.flush()).is_err() {
                // Whoever read it went away.
                return Ok(Exit::Fine);
            }
            tokio::time::sleep(args.every.0).await;
        }
    })
}

async fn look(args: &Args, credentials: &Credentials) -> anyhow::Result<(bool, String)> {
    let view = args.cluster.observe(credentials).await?;
    let (status, findings) = (status(&view), diagnose(&view, &BTreeMap::new(), None));
    let (is_healthy, line) = verdict(&status, &findings);
    let shown = match (args.output, args.watch) {
        (Output::Text, _) => {
            let mut shown = text(&status) + &line;
            if let Some(any) = view.nodes.first().filter(|_| !is_healthy) {
                shown += &format!(" 'slotgate doctor {}' says how to repair it.", any.view.asked);
            }
            shown + "\n"
        }
        (Output::Json, true) => format!("{}\n", to_json(&status, &findings, is_healthy, &line)),
        (Output::Json, false) => format!("{:#}\n", to_json(&status, &findings, is_healthy, &line)),
    };
    Ok((is_healthy, shown))
}

fn text(status: &Status) -> String {
    let mut table = Table::new(&[
        "SLOTS", "COUNT", "NODE", "ID", "ROLE", "KEYS", "MEMORY", "LINK", "LAG", "VERSION", "NOTE",
    ]);
    // Where there is one host only, nobody is misplaced.
    let hosts =
        status.shards.iter().flat_map(|shard| &shard.members).filter_map(|member| Some(member.addr?.ip()));
    let has_hosts = hosts.collect::<BTreeSet<_>>().len() > 1;
    for shard in &status.shards {
        for (ix, member) in shard.members.iter().enumerate() {
            let (slots, count) = match ix {
                0 => (ranges(shard), shard.slot_count().to_string()),
                _ => (String::new(), String::new()),
            };
            table.push([vec![slots, count], cells(member, has_hosts)].concat());
        }
    }
    table.text()
}

/// At most this many ranges; a table with hundreds is read by nobody.
const RANGES: usize = 3;

fn ranges(shard: &ShardStatus) -> String {
    match shard.slots.len() {
        0 => "none".into(),
        count if count > RANGES => {
            format!("{} and {} more", join(&shard.slots[..RANGES], " "), count - RANGES)
        }
        _ => join(&shard.slots, " "),
    }
}

fn cells(member: &Member, has_hosts: bool) -> Vec<String> {
    let addr = member.addr.map_or_else(|| "?".into(), |addr| addr.to_string());
    let role = if member.is_primary { "primary" } else { "replica" };
    let mut cells = vec![addr, member.id.short().into(), role.into()];
    let mut notes = Vec::new();
    match &member.state {
        Some(state) => {
            let memory = match state.memory.max {
                0 => bytes(state.memory.used),
                max => format!("{} of {}", bytes(state.memory.used), bytes(max)),
            };
            let link = state.is_link_up.map_or("", |is_up| if is_up { "up" } else { "DOWN" });
            let lag = state.lag.map_or_else(String::new, bytes);
            cells.extend([state.keys.to_string(), memory, link.into(), lag, state.server.clone()]);
        }
        None => {
            cells.extend(std::iter::repeat_n(String::new(), 5));
            notes.push("DOES NOT ANSWER");
        }
    }
    if member.is_beside_primary && has_hosts {
        notes.push("on its primary's host");
    }
    cells.push(notes.join(", "));
    cells
}

fn to_json(status: &Status, findings: &[Finding], is_healthy: bool, line: &str) -> Value {
    let member = |member: &Member| {
        let state = member.state.as_ref();
        json!({
            "address": member.addr.map(|addr| addr.to_string()),
            "id": member.id.as_str(),
            "role": if member.is_primary { "primary" } else { "replica" },
            "answers": state.is_some(),
            "keys": state.map(|state| state.keys),
            "memory_bytes": state.map(|state| state.memory.used),
            "memory_limit_bytes": state.map(|state| state.memory.max).filter(|max| *max > 0),
            "link": state.and_then(|state| state.is_link_up).map(|is_up| if is_up { "up" } else { "down" }),
            "lag_bytes": state.and_then(|state| state.lag),
            "server": state.map(|state| state.server.as_str()),
            "on_primarys_host": member.is_beside_primary,
        })
    };
    let shard = |shard: &ShardStatus| {
        json!({
            "slots": shard.slots.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "slot_count": shard.slot_count(),
            "members": shard.members.iter().map(member).collect::<Vec<_>>(),
        })
    };
    let finding = |finding: &Finding| json!({ "kind": finding.kind, "severity": finding.severity.to_string(), "text": finding.text });
    json!({
        "healthy": is_healthy,
        "verdict": line,
        "shards": status.shards.iter().map(shard).collect::<Vec<_>>(),
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
    })
}
