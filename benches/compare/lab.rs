//! The servers behind the targets, and the targets in front of them, for as long as the run lasts.

use crate::args::Args;
use crate::targets::{Kind, Target};
use crate::workloads::Workload;
use anyhow::{Context as _, Result, ensure};
use slotgate::local_nodes::{LocalNodes, LocalNodesConfig};
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;
use tokio::runtime::Runtime;

pub struct Lab {
    targets: Vec<Target>,
    wants_echo: bool,
    runtime: Runtime,
    cluster: Option<LocalNodes>,
    standalone: Option<LocalNodes>,
    _dir: tempfile::TempDir,
}

impl Lab {
    /// Starts what the wanted targets need, and the targets.
    pub fn start(args: &Args) -> Result<Lab> {
        // On this thread, because what it starts ends with the thread that started it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let dir = tempfile::Builder::new().prefix("slotgate-compare-").tempdir()?;
        let mut lab = Lab {
            targets: Vec::new(),
            wants_echo: args.wants(Kind::Echo),
            cluster: None,
            standalone: None,
            runtime,
            _dir: dir,
        };
        if args.wants(Kind::Direct) || args.wants(Kind::Haproxy) {
            let (node, pid) = lab.start_standalone()?;
            if args.wants(Kind::Direct) {
                lab.targets.push(Target::direct(node, pid));
            }
            if args.wants(Kind::Haproxy) {
                lab.targets.push(Target::haproxy(node, lab._dir.path())?);
            }
        }
        if args.wants(Kind::Slotgate) || args.wants(Kind::Envoy) {
            let seeds = lab.start_cluster()?;
            if args.wants(Kind::Slotgate) {
                lab.targets.push(Target::slotgate(
                    &args.slotgate,
                    &seeds,
                    &args.slotgate_arg,
                    lab._dir.path(),
                )?);
            }
            if args.wants(Kind::Envoy) {
                match Target::envoy(&seeds, lab._dir.path())? {
                    Some(envoy) => lab.targets.push(envoy),
                    None => eprintln!(
                        "envoy was not found and is left out ('make compare' fetches it where it can)"
                    ),
                }
            }
        }
        let order = |kind: Kind| Kind::ALL.iter().position(|other| *other == kind);
        lab.targets.sort_by_key(|target| order(target.kind));
        Ok(lab)
    }

    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The echo answers each workload as a node would.
    pub fn restart_echo(&mut self, workload: &Workload) -> Result<()> {
        self.targets.retain(|target| target.kind != Kind::Echo);
        if let (true, Some(reply)) = (self.wants_echo, workload.echo) {
            self.targets.push(Target::echo(reply)?);
        }
        Ok(())
    }

    /// Ends everything, the targets before what stands behind them.
    pub fn stop(&mut self) {
        self.targets.clear();
        self.cluster = None;
        self.standalone = None;
    }

    fn start_standalone(&mut self) -> Result<(SocketAddr, u32)> {
        let nodes = self.start_nodes(1, &[("cluster-enabled", "no")])?;
        let started = (nodes.addrs()[0], nodes.process_id(0).context("the standalone node has ended")?);
        self.standalone = Some(nodes);
        Ok(started)
    }

    fn start_cluster(&mut self) -> Result<Vec<SocketAddr>> {
        let nodes = self.start_nodes(6, &[])?;
        let addrs = nodes.addrs().to_vec();
        let output = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addrs.iter().map(SocketAddr::to_string))
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .context("redis-cli was not found (Debian, Ubuntu: apt-get install redis-tools)")?;
        ensure!(
            output.status.success(),
            "redis-cli could not form the cluster:\n{}",
            String::from_utf8_lossy(&output.stdout)
        );
        wait_for_replicas(&addrs)?;
        self.cluster = Some(nodes);
        Ok(addrs)
    }

    /// All nodes write nothing to disk: what it costs would be noise in every row.
    fn start_nodes(&self, count: usize, more: &[(&str, &str)]) -> Result<LocalNodes> {
        let settings = [("appendonly", "no")].iter().chain(more);
        let settings = settings.map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let config = LocalNodesConfig { count, settings, ..LocalNodesConfig::default() };
        Ok(self.runtime.block_on(LocalNodes::start(config))?)
    }
}

/// Until all replicas have copied their primaries, which would be measured, too.
fn wait_for_replicas(addrs: &[SocketAddr]) -> Result<()> {
    for addr in addrs {
        for attempt in 0.. {
            let port = addr.port().to_string();
            let output = Command::new("redis-cli").args(["-p", &port, "INFO", "replication"]).output()?;
            let info = String::from_utf8_lossy(&output.stdout);
            if info.contains(",state=online,") || info.contains("master_link_status:up") {
                break;
            }
            ensure!(attempt < 600, "node {addr} has no replica and is none:\n{info}");
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}
