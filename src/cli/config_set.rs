//! `slotgate config set`: one setting of all nodes, changed at once and kept. Also what `set-timeout`
//! shares with it.

use super::table::Table;
use super::{Ended, Exit, Output, nodes};
use crate::control::everywhere::{Change, Kept, Target, change_setting, read_setting, targets};
use crate::control::node_client::NodeError;
use crate::control::problem::join;
use crate::control::view::View;
use serde_json::{Value, json};
use std::io::Read as _;

/// Settings whose values are passwords: read from the standard input, never shown.
const SECRETS: [&str; 5] =
    ["requirepass", "masterauth", "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass"];
/// More than any setting needs.
const MAX_VALUE: u64 = 1 << 20;

/// Change a setting of all nodes at once, and keep it in their configuration files
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate config set maxmemory 4gb redis-0:6379
  slotgate config set cluster-allow-replica-migration no redis-0:6379 --dry-run
  slotgate config set save '' redis-0:6379
  slotgate config set masterauth - redis-0:6379 < password.txt

CONFIG SET on every node; then CONFIG REWRITE on those that were started with a configuration file, so that
the change outlives a restart. Shows each node's value before and after. A value of '-' is read from the
standard input; passwords are taken from there only. Exit code 1 when a node did not take it. SLOTGATE_USER
and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// The setting, by its name in redis.conf
    #[arg(value_name = "SETTING")]
    name: String,
    /// Its new value; '-' reads it from the standard input
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    value: String,
    #[command(flatten)]
    cluster: nodes::Cluster,
    #[command(flatten)]
    how: How,
}

/// How a setting is changed, and shown.
#[derive(clap::Args)]
pub struct How {
    /// Show the values as they are and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The shape of the answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    let name = args.name.to_ascii_lowercase();
    let is_secret = SECRETS.contains(&name.as_str());
    if is_secret && args.value != "-" {
        let text = format!(
            "a password on the command line can be read by others; give '-' for it and put it on the standard \
             input: slotgate config set {name} - HOST:PORT < FILE"
        );
        return Err(Ended::usage(text).into());
    }
    let value = if args.value == "-" && !args.how.dry_run { read_value()? } else { args.value.into_bytes() };
    set(&args.cluster, &args.how, &name, &value)
}

/// The standard input without the line end that editors append.
fn read_value() -> anyhow::Result<Vec<u8>> {
    let mut value = Vec::new();
    std::io::stdin().take(MAX_VALUE).read_to_end(&mut value)?;
    for end in [b'\n', b'\r'] {
        if value.last() == Some(&end) {
            value.pop();
        }
    }
    Ok(value)
}

/// One node, its value before, and what the change came to.
struct Line {
    target: Target,
    before: String,
    change: Option<Result<Change, NodeError>>,
}

/// Changes a setting on all nodes and shows what came of it.
///
/// # Errors
/// Nobody could be asked.
pub fn set(cluster: &nodes::Cluster, how: &How, name: &str, value: &[u8]) -> anyhow::Result<Exit> {
    let credentials = cluster.login.credentials()?;
    nodes::runtime()?.block_on(async {
        let view = cluster.observe(&credentials).await?;
        let mut lines = Vec::new();
        for (target, before) in read_setting(&targets(&view), name, &credentials, nodes::LIMIT).await {
            match before {
                Ok(Some(before)) => lines.push(Line { target, before, change: None }),
                Ok(None) => {
                    let text = format!("{} has no setting {name:?}; nothing was changed", target.addr);
                    return Err(Ended::usage(text).into());
                }
                Err(error) => anyhow::bail!("{error}; nothing was changed"),
            }
        }
        if !how.dry_run {
            let nodes: Vec<Target> = lines.iter().map(|line| line.target).collect();
            let changes = change_setting(&nodes, name, value, &credentials, nodes::LIMIT).await;
            for (line, (_, change)) in lines.iter_mut().zip(changes) {
                line.change = Some(change);
            }
        }
        match how.output {
            Output::Text => print!("{}", text(name, &lines, &view)),
            Output::Json => println!("{:#}", to_json(name, &lines, &view)),
        }
        let is_taken = |line: &Line| match &line.change {
            Some(change) => change.as_ref().is_ok_and(|change| !matches!(change.kept, Kept::Failed(_))),
            None => true,
        };
        let is_fine = view.silent.is_empty() && lines.iter().all(is_taken);
        Ok(if is_fine { Exit::Fine } else { Exit::Wrong })
    })
}

/// A value for people; passwords and texts without letters show as words.
fn shown(name: &str, value: &str) -> String {
    match value {
        "" => "(empty)".into(),
        _ if SECRETS.contains(&name) => "(not shown)".into(),
        value => value.into(),
    }
}

fn text(name: &str, lines: &[Line], view: &View) -> String {
    let mut table = Table::new(&["NODE", "ROLE", "BEFORE", "NOW", "KEPT"]);
    for Line { target, before, change } in lines {
        let role = if target.is_primary { "primary" } else { "replica" };
        let (now, kept) = match change {
            None => (String::new(), String::new()),
            Some(Ok(Change { now, kept })) => (
                shown(name, now),
                match kept {
                    Kept::Written => "in its file".into(),
                    Kept::NoFile => "until it restarts: it has no file".into(),
                    Kept::Failed(text) => format!("NOT in its file: {text}"),
                },
            ),
            Some(Err(NodeError::Refused { text, .. })) => (format!("REFUSED: {text}"), String::new()),
            Some(Err(error)) => (format!("UNKNOWN: {error}"), String::new()),
        };
        table.push(vec![target.addr.to_string(), role.into(), shown(name, before), now, kept]);
    }
    let mut out = table.text();
    let changed = lines.iter().filter(|line| matches!(line.change, Some(Ok(_)))).count();
    let is_dry = lines.iter().all(|line| line.change.is_none());
    out += &match changed {
        _ if is_dry => "Nothing was changed: this was a dry run.\n".to_string(),
        _ if changed == lines.len() => format!("Changed {name} on {changed} nodes.\n"),
        0 => format!("No node took the new {name}; nothing was changed.\n"),
        _ => format!(
            "Only {changed} of {} nodes took the new {name}: they differ now. Set it again.\n",
            lines.len()
        ),
    };
    let now = lines.iter().filter_map(|line| line.change.as_ref()?.as_ref().ok()).map(|change| &change.now);
    let values: std::collections::BTreeSet<&String> =
        if is_dry { lines.iter().map(|line| &line.before).collect() } else { now.collect() };
    if values.len() > 1 {
        let values: Vec<String> = values.into_iter().map(|value| shown(name, value)).collect();
        out += &format!("The nodes differ: {}.\n", join(&values, ", "));
    }
    for silent in &view.silent {
        out += &format!("NOT ASKED: {}; run this again when it answers\n", silent.error);
    }
    out
}

fn to_json(name: &str, lines: &[Line], view: &View) -> Value {
    let each = lines.iter().map(|Line { target, before, change }| {
        let now = change.as_ref().and_then(|change| change.as_ref().ok());
        let error = match change {
            Some(Err(error)) => Some(error.to_string()),
            Some(Ok(Change { kept: Kept::Failed(text), .. })) => Some(text.clone()),
            _ => None,
        };
        json!({
            "address": target.addr.to_string(),
            "role": if target.is_primary { "primary" } else { "replica" },
            "before": shown(name, before),
            "now": now.map(|change| shown(name, &change.now)),
            "kept": now.map(|change| change.kept == Kept::Written),
            "error": error,
        })
    });
    json!({
        "setting": name,
        "nodes": each.collect::<Vec<_>>(),
        "not_asked": view.silent.iter().map(|silent| silent.error.to_string()).collect::<Vec<_>>(),
    })
}
