//! `slotgate status`: the cluster in one table, once or again and again.

use super::status_in_kubernetes::{self, InKubernetes};
use super::{Exit, Output, nodes};
use crate::backend::Credentials;
use crate::config::Span;
use crate::control::discover::Seed;
use crate::control::doctor::{Finding, diagnose};
use crate::control::report;
use crate::control::status::{Status, status, verdict};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};

/// Show shards, nodes, keys, memory and replication in one table
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate status redis-0:6379
  slotgate status redis-0:6379 --watch
  slotgate status redis-0:6379 --output json | jq -r '.shards[].members[].address'
  slotgate status redis-0:6379 --watch --every 10s --output json >> status.jsonl
  slotgate status --kubernetes --namespace tool-env
  kubectl exec deploy/slotgate -- slotgate status --kubernetes

MEMORY is what a node uses, of its limit where it has one. LAG is how many bytes of its primary's writes a
replica lacked at that moment. The last line is the verdict; 'slotgate doctor' explains it and says how to
repair what is wrong.

With --kubernetes no node is asked: the leading gateway of a StatefulSet ('slotgate serve --kubernetes --manage')
writes what it sees, plans and finds into the ConfigMap slotgate-status (slotgate-status-NAME for a StatefulSet
NAME that is not called redis), and that is shown, with its age. One that nobody has written for a minute counts
as wrong.

Exit code 0: healthy; 1: something is wrong. SLOTGATE_USER and SLOTGATE_PASSWORD count
as for 'serve'.")]
pub struct Args {
    /// Nodes to begin with; one that answers is enough
    #[arg(value_name = "HOST:PORT", required_unless_present = "kubernetes")]
    nodes: Vec<Seed>,
    #[command(flatten)]
    login: nodes::Login,
    #[command(flatten)]
    kubernetes: InKubernetes,
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
    args.kubernetes.is_meant()?;
    let credentials = args.login.credentials()?;
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
    if args.kubernetes.is_meant()? {
        return status_in_kubernetes::look(&args.kubernetes, args.output, args.watch).await;
    }
    let view = nodes::reach(&nodes::resolve(&args.nodes, nodes::LIMIT).await?, credentials).await?;
    let (status, findings) = (status(&view), diagnose(&view, &BTreeMap::new(), None));
    let (is_healthy, line) = verdict(&status, &findings);
    let shown = match (args.output, args.watch) {
        (Output::Text, _) => {
            let mut shown = report::table(&status, None) + &line;
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

fn to_json(status: &Status, findings: &[Finding], is_healthy: bool, line: &str) -> Value {
    let finding = |finding: &Finding| json!({ "kind": finding.kind, "severity": finding.severity.to_string(), "text": finding.text });
    json!({
        "healthy": is_healthy,
        "verdict": line,
        "shards": report::shards(status, None),
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
    })
}
