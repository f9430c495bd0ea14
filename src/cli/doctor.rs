//! `slotgate doctor`: what is wrong or will hurt, why, and the command that repairs it.

use super::table::things;
use super::{Exit, Output, nodes};
use crate::control::doctor::{Finding, SETTINGS, Severity, diagnose};
use crate::control::observe::observe_settings;
use crate::control::stray::add_strays;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Find what is wrong or will hurt, and say why and how to repair it
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate doctor redis-0:6379
  slotgate doctor redis-0:6379 --replicas 2
  slotgate doctor redis-0:6379 --output json | jq -r '.findings[].repair[]'

Looks at all that 'check' looks at, and at addresses that are no longer true, placement, votes, memory,
disks, versions and settings. Changes nothing. An error does not work now; a warning will hurt at the next
fault; a hint is good to know. Exit code 0: nothing but hints; 1: an error or a warning. redis-cli takes its
password from REDISCLI_AUTH. SLOTGATE_USER and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    #[command(flatten)]
    cluster: nodes::Cluster,
    /// How many replicas each primary should have [default: one, as soon as any primary has one]
    #[arg(long, value_name = "N")]
    replicas: Option<usize>,
    #[command(flatten)]
    zones: nodes::Zones,
    /// The shape of the answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    let credentials = args.cluster.login.credentials()?;
    let (view, settings) = nodes::runtime()?.block_on(async {
        let mut view = args.cluster.observe(&credentials).await?;
        args.zones.tell(&mut view).await?;
        add_strays(&mut view, &credentials, nodes::LIMIT).await;
        let addrs: Vec<SocketAddr> = view.nodes.iter().map(|node| node.view.asked).collect();
        let settings = observe_settings(&addrs, SETTINGS, &credentials, nodes::LIMIT).await;
        anyhow::Ok((view, settings))
    })?;
    let findings = diagnose(&view, &settings, args.replicas);
    let is_healthy = !findings.iter().any(|finding| finding.severity > Severity::Hint);
    match args.output {
        Output::Text => print!("{}", text(&findings, view.nodes.len())),
        Output::Json => println!("{:#}", to_json(&findings, is_healthy)),
    }
    Ok(if is_healthy { Exit::Fine } else { Exit::Wrong })
}

fn text(findings: &[Finding], nodes: usize) -> String {
    let mut out = String::new();
    for Finding { severity, text, cause, repair, .. } in findings {
        let severity = severity.to_string().to_uppercase();
        out += &format!("{severity}: {text}\n  Why: {cause}\n");
        for command in repair {
            out += &format!("  Run: {command}\n");
        }
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let (nodes, hints) = (things(nodes, "node"), things(count(Severity::Hint), "hint"));
    out += &match errors + warnings {
        0 => format!("{nodes} looked at: nothing is wrong, {hints}.\n"),
        _ => format!(
            "{nodes} looked at: {}, {}, {hints}.\n",
            things(errors, "error"),
            things(warnings, "warning")
        ),
    };
    out
}

fn to_json(findings: &[Finding], is_healthy: bool) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "kind": finding.kind,
            "severity": finding.severity.to_string(),
            "text": finding.text,
            "cause": finding.cause,
            "repair": finding.repair,
        })
    };
    json!({ "healthy": is_healthy, "findings": findings.iter().map(finding).collect::<Vec<_>>() })
}
