//! `slotgate call`: one command on all nodes, their answers side by side.

use super::table::Table;
use super::{Exit, Output, nodes};
use crate::config::Span;
use crate::control::everywhere::{Target, call, targets};
use crate::control::node_client::{NodeError, Reply};
use crate::control::problem::join;
use crate::control::view::Silent;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;

/// Give one command to all nodes at once and show their answers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate call redis-0:6379 -- DBSIZE
  slotgate call --only primaries redis-0:6379 -- CONFIG GET maxmemory
  slotgate call --only replicas redis-0:6379 -- INFO replication
  slotgate call redis-0:6379 --output json -- LATENCY LATEST | jq '.answers[].answer'

The command is given to the nodes themselves, as redis-cli does, each answering for itself. Says where the
answers differ. Exit code 1 when a node refused it or did not answer. SLOTGATE_USER and SLOTGATE_PASSWORD
count as for 'serve'.")]
pub struct Args {
    #[command(flatten)]
    cluster: nodes::Cluster,
    /// Leave the others out
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// How long each node may take
    #[arg(long, value_name = "TIME", default_value = "5s")]
    timeout: Span,
    /// The shape of the answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND", required = true)]
    command: Vec<OsString>,
}

/// Which nodes are asked.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    Primaries,
    Replicas,
}

/// What the nodes said.
type Answers = Vec<(Target, Result<Reply, NodeError>)>;

pub fn run(args: Args) -> anyhow::Result<Exit> {
    let credentials = args.cluster.login.credentials()?;
    let (view, answers) = nodes::runtime()?.block_on(async {
        let view = args.cluster.observe(&credentials).await?;
        let wanted = args.only.map(|only| only == Only::Primaries);
        let mut asked = targets(&view);
        asked.retain(|target| wanted.is_none_or(|is_primary| target.is_primary == is_primary));
        let command: Vec<Vec<u8>> =
            args.command.iter().map(|word| word.as_encoded_bytes().to_vec()).collect();
        let answers = call(&asked, &command, &credentials, args.timeout.0).await;
        anyhow::Ok((view, answers))
    })?;
    match args.output {
        Output::Text => print!("{}", text(&answers, &view.silent)),
        Output::Json => println!("{:#}", to_json(&answers, &view.silent)),
    }
    let is_fine = view.silent.is_empty() && answers.iter().all(|(_, answer)| answer.is_ok());
    Ok(if is_fine { Exit::Fine } else { Exit::Wrong })
}

fn text(answers: &Answers, silent: &[Silent]) -> String {
    let role = |target: &Target| if target.is_primary { "primary" } else { "replica" };
    let shown: Vec<(&Target, String)> =
        answers.iter().map(|(target, answer)| (target, line(answer))).collect();
    let mut out = String::new();
    if shown.iter().any(|(_, answer)| answer.contains('\n')) {
        for (target, answer) in &shown {
            out += &format!("== {} {}\n{}\n", target.addr, role(target), answer.trim_end());
        }
    } else {
        let mut table = Table::new(&["NODE", "ROLE", "ANSWER"]);
        for (target, answer) in &shown {
            table.push(vec![target.addr.to_string(), role(target).into(), answer.clone()]);
        }
        out += &table.text();
    }
    let mut by_answer: BTreeMap<&str, Vec<SocketAddr>> = BTreeMap::new();
    for (target, answer) in &shown {
        by_answer.entry(answer).or_default().push(target.addr);
    }
    out += &match by_answer.len() {
        0 => "No such node was asked.\n".to_string(),
        1 => format!("All {} answers are the same.\n", shown.len()),
        kinds => {
            let rare = by_answer.iter().min_by_key(|(_, nodes)| nodes.len());
            let rare = rare.map_or_else(String::new, |(_, nodes)| {
                format!(": the rarest is that of {}", join(nodes, " "))
            });
            format!("The answers differ, {kinds} kinds among {} nodes{rare}.\n", shown.len())
        }
    };
    for silent in silent {
        out += &format!("NOT ASKED: {}\n", silent.error);
    }
    out
}

fn line(answer: &Result<Reply, NodeError>) -> String {
    match answer {
        Ok(reply) => reply_text(reply),
        Err(NodeError::Refused { text, .. }) => format!("(error) {text}"),
        Err(error) => format!("(no answer) {error}"),
    }
}

/// A reply as one line, unless it has lines of its own.
fn reply_text(reply: &Reply) -> String {
    match reply {
        Reply::BulkString(bytes) if bytes.is_empty() => "\"\"".into(),
        Reply::SimpleString(bytes) | Reply::BulkString(bytes) => {
            String::from_utf8_lossy(bytes).replace('\r', "")
        }
        Reply::Integer(number) => number.to_string(),
        Reply::Error(text) => format!("(error) {text}"),
        Reply::Null => "(nil)".into(),
        Reply::Array(items) if items.is_empty() => "(empty)".into(),
        Reply::Array(items) => join(&items.iter().map(reply_text).collect::<Vec<_>>(), " "),
    }
}

fn to_json(answers: &Answers, silent: &[Silent]) -> Value {
    let each = answers.iter().map(|(target, answer)| {
        let (answer, error) = match answer {
            Ok(reply) => (reply_json(reply), Value::Null),
            Err(error) => (Value::Null, error.to_string().into()),
        };
        let role = if target.is_primary { "primary" } else { "replica" };
        json!({ "address": target.addr.to_string(), "role": role, "answer": answer, "error": error })
    });
    let is_same = answers.windows(2).all(|pair| line(&pair[0].1) == line(&pair[1].1));
    json!({
        "same": is_same,
        "answers": each.collect::<Vec<_>>(),
        "not_asked": silent.iter().map(|silent| silent.error.to_string()).collect::<Vec<_>>(),
    })
}

fn reply_json(reply: &Reply) -> Value {
    match reply {
        Reply::SimpleString(bytes) | Reply::BulkString(bytes) => String::from_utf8_lossy(bytes).into(),
        Reply::Integer(number) => (*number).into(),
        Reply::Error(text) => json!({ "error": text.to_string() }),
        Reply::Null => Value::Null,
        Reply::Array(items) => items.iter().map(reply_json).collect(),
    }
}
