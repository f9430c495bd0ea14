//! `slotgate demo`: a cluster of real nodes on this machine, served as one Redis, gone after Ctrl-C.

use super::bootstrap::finish;
use super::change::say;
use super::{Exit, environment};
use crate::app;
use crate::config::{Address, Config, Settings, Span};
use crate::control::bootstrap;
use crate::control::discover::Seed;
use crate::control::migrate::Stop;
use crate::control::plan::form::count_primaries;
use crate::local_nodes::{LocalNodes, LocalNodesConfig};
use crate::telemetry::logging;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

/// Local nodes answer at once; a busy machine may take this long.
const LIMIT: Duration = Duration::from_secs(10);
/// How often we look whether the gateway is ready.
const READY_EVERY: Duration = Duration::from_millis(50);

/// Start a cluster of real nodes on this machine and serve it as one Redis
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate demo
  slotgate demo --nodes 9 --replicas 2 --port 7000 --workers 1
  slotgate demo --keep-dir ./nodes --server valkey-server --node-config enable-debug-command=yes

Clients connect to 127.0.0.1:PORT; /metrics, /livez and /readyz are at the port after it. Takes the
settings of 'serve' as well, but for --seed. Ctrl-C ends everything and removes the nodes' folder, unless
--keep-dir names one: that stays, and the next demo with it goes on where this one ended.")]
pub struct Args {
    /// How many nodes to start
    #[arg(long, value_name = "N", default_value_t = 6)]
    nodes: usize,
    /// How many replicas each primary gets
    #[arg(long, value_name = "N", default_value_t = 1)]
    replicas: usize,
    /// Where clients connect; the admin server takes the port after it
    #[arg(long, value_name = "PORT", default_value_t = 6380, value_parser = clap::value_parser!(u16).range(1..=65534))]
    port: u16,
    /// Keep the nodes' data in this folder [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    keep_dir: Option<PathBuf>,
    /// The server program
    #[arg(long, value_name = "PROGRAM", default_value = "redis-server")]
    server: PathBuf,
    /// One more line for each node's configuration file; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = node_setting)]
    node_config: Vec<(String, String)>,
    /// How long the nodes may take to agree
    #[arg(long, value_name = "TIME", default_value = "60s")]
    timeout: Span,
    #[command(flatten)]
    settings: Settings,
}

fn node_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !text.contains(['\n', '\r']) => {
            Ok((name.to_string(), value.to_string()))
        }
        _ => Err("write it as NAME=VALUE, such as enable-debug-command=yes".to_string()),
    }
}

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let config = match load(args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Ok(Exit::Usage);
        }
    };
    if let Err(refusal) = count_primaries(args.nodes, args.replicas) {
        eprintln!("slotgate: {refusal}");
        return Ok(Exit::Usage);
    }
    for addr in [config.proxy.listen, config.admin.listen] {
        if let Err(error) = TcpListener::bind(addr) {
            anyhow::bail!(
                "cannot listen at {addr}: {error}. Stop what uses it, or choose another place with --port (the admin \
                 server takes the port after it)"
            );
        }
    }
    logging::init(&config.log);
    // The nodes end with the thread that started them, so it must be this one.
    super::nodes::runtime()?.block_on(serve(args, config))
}

/// The settings of `serve`, at the demo's places and quieter: the demo itself tells what goes on.
fn load(args: &Args) -> anyhow::Result<Config> {
    let at = |port| Some(Address(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
    let settings = Settings {
        listen: args.settings.listen.or(at(args.port)),
        admin: args.settings.admin.or(at(args.port + 1)),
        log_level: args.settings.log_level.clone().or("warn".parse().ok()),
        ..args.settings.clone()
    };
    Ok(Config::load(&settings, &environment, None)?)
}

async fn serve(args: &Args, mut config: Config) -> anyhow::Result<Exit> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let nodes = tokio::select! {
        nodes = start(args, &config) => nodes?,
        // The nodes and their folder go as the future is dropped.
        _ = int.recv() => return Ok(Exit::Fine),
        _ = term.recv() => return Ok(Exit::Fine),
    };
    config.refresh.seeds = nodes.addrs().iter().copied().map(Seed::from).collect();
    config.refresh.seed_file = None;
    let (listen, admin) = (config.proxy.listen, config.admin.listen);
    let ended = tokio::select! {
        ended = app::run(config) => ended,
        never = announce(args, &nodes, listen, admin) => match never {},
    };
    println!("Stopping the nodes");
    nodes.shutdown().await;
    ended?;
    Ok(Exit::Fine)
}

/// Starts the nodes and makes them one cluster.
async fn start(args: &Args, config: &Config) -> anyhow::Result<LocalNodes> {
    println!("Starting {} nodes ({})", args.nodes, args.server.display());
    let nodes = LocalNodes::start(LocalNodesConfig {
        count: args.nodes,
        dir: args.keep_dir.clone(),
        server: args.server.clone(),
        settings: args.node_config.clone(),
        ..LocalNodesConfig::default()
    })
    .await?;
    println!("Forming a cluster of them in {}", nodes.dir().display());
    let form = bootstrap::Config {
        nodes: nodes.addrs().iter().copied().map(Seed::from).collect(),
        replicas: args.replicas,
        credentials: config.refresh.credentials.clone(),
        limit: LIMIT,
        timeout: args.timeout.0,
        stop: Stop::default(),
    };
    let view = bootstrap::observe(&form).await?;
    let formation = bootstrap::plan(&form, &view)?;
    finish(&form, &view, &formation, |progress| say(progress, false)).await?;
    Ok(nodes)
}

enum Never {}

/// Tells what to try as soon as the gateway is ready.
async fn announce(args: &Args, nodes: &LocalNodes, listen: SocketAddr, admin: SocketAddr) -> Never {
    while !is_ready(admin).await {
        sleep(READY_EVERY).await;
    }
    let (host, port) = (listen.ip(), listen.port());
    let at = if host.is_loopback() { format!("-p {port}") } else { format!("-h {host} -p {port}") };
    let places: Vec<String> = nodes.addrs().iter().map(ToString::to_string).collect();
    let end = match &args.keep_dir {
        Some(dir) => format!("Ctrl-C ends everything; the nodes' data stays in {}.", dir.display()),
        None => "Ctrl-C ends everything and leaves nothing behind.".to_string(),
    };
    println!(
        "
slotgate serves the {} nodes at {listen} as one Redis. Try:
  redis-cli {at} set a bbb
  redis-cli {at} mget a b c
  redis-benchmark {at} -t set,get,incr,lpush,mset -n 100000 -q
  curl http://{admin}/metrics
  slotgate check {}
The nodes: {}
{end}",
        places.len(),
        places[0],
        places.join(" "),
    );
    std::future::pending().await
}

async fn is_ready(admin: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    matches!(timeout(LIMIT, ask).await, Ok(Ok(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_settings_are_split_at_the_first_equals_sign() {
        assert_eq!(node_setting("save=3600 1"), Ok(("save".to_string(), "3600 1".to_string())));
        assert_eq!(node_setting("rename-command=A=B").unwrap().1, "A=B");
        for wrong in ["save", "=1", "a=b\nc d"] {
            assert!(node_setting(wrong).is_err(), "{wrong}");
        }
    }
}
