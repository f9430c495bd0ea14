//! `slotgate explain`: where a command goes and why.

use super::explanation::explain;
use super::{Exit, Output, environment};
use crate::command::Table;
use crate::config::{Config, Settings};
use crate::control::discover::Seed;
use crate::control::refresh::{self, RefreshStatus};
use crate::topology::{SharedTopology, Snapshot};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the seeds get to answer; a person waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Print what the gateway does with a command: its keys, slots, shards, nodes, route, and why
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate explain MGET a b c
  slotgate explain --seed redis-0:6379 SET user:{42}:name x
  slotgate explain --output json BLPOP jobs 0 | jq .route

Nothing is executed. Without a seed the slots are shown, but not who owns them. SLOTGATE_SEED,
SLOTGATE_USER and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// Nodes to ask for the topology, separated by commas
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    seed: Option<Vec<Seed>>,
    /// The ACL user towards nodes
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A file with the password towards nodes
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The shape of the answer
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub fn run(args: Args) -> anyhow::Result<Exit> {
    let flags = Settings {
        seed: args.seed,
        user: args.user,
        password_file: args.password_file,
        ..Settings::default()
    };
    let config = match Config::load(&flags, &environment, None) {
        Ok(config) => config.refresh,
        Err(error) => {
            eprintln!("{error}");
            return Ok(Exit::Usage);
        }
    };
    let topology = if config.seeds.is_empty() { None } else { Some(ask(config)?) };
    let words: Vec<Vec<u8>> = args.command.into_iter().map(OsStringExt::into_vec).collect();
    let explanation = explain(&Table::builtin(), &words, topology.as_deref());
    match args.output {
        Output::Text => print!("{explanation}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&explanation)?),
    }
    if topology.is_none() && !explanation.keys.is_empty() {
        eprintln!("(give --seed HOST:PORT to see which shard and node that is)");
    }
    Ok(Exit::Fine)
}

/// The topology as the seeds tell it.
fn ask(config: refresh::Config) -> anyhow::Result<Arc<Snapshot>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let topology = Arc::new(SharedTopology::default());
        let status = Arc::new(RefreshStatus::default());
        let published = Arc::new(tokio::sync::Notify::new());
        let publisher = published.clone();
        topology.on_change(move || publisher.notify_one());
        let patience = async { drop(tokio::time::timeout(PATIENCE, published.notified()).await) };
        refresh::run(config, topology.clone(), status.clone(), None, patience).await;
        if topology.confirmed_at().is_none() {
            let trouble = status.trouble().unwrap_or_else(|| "no node answered in time".to_string());
            anyhow::bail!("the seeds gave no topology: {trouble}");
        }
        Ok(topology.load())
    })
}
