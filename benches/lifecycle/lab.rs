//! A cluster of real nodes with slotgate in front of it.

use crate::client::Client;
use anyhow::{Context as _, Result, bail, ensure};
use slotgate::local_nodes::{LocalNodes, LocalNodesConfig};
use slotgate::topology::Slot;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Far above what anything here takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

pub struct Lab {
    pub nodes: LocalNodes,
    pub gateway: SocketAddr,
    slotgate: PathBuf,
    serving: Option<Child>,
    runtime: Runtime,
}

impl Lab {
    /// So many nodes that have never met.
    pub fn unformed(slotgate: &Path, count: usize) -> Result<Lab> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let nodes = runtime.block_on(LocalNodes::start(LocalNodesConfig {
            count,
            settings: vec![("repl-diskless-sync-delay".into(), "5".into())],
            ..Default::default()
        }))?;
        // Taken from the system and given back: another process could get it meanwhile, and would be seen.
        let gateway = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Ok(Lab { nodes, gateway, slotgate: slotgate.into(), serving: None, runtime })
    }

    /// Three primaries with a replica each, served.
    pub fn serving(slotgate: &Path) -> Result<Lab> {
        let mut lab = Lab::unformed(slotgate, 6)?;
        lab.bootstrap()?;
        lab.serve()?;
        Ok(lab)
    }

    /// Puts slotgate in front of the nodes, and waits until it serves all shards.
    pub fn serve(&mut self) -> Result<()> {
        let mut command = Command::new(&self.slotgate);
        command.args(["serve", "--listen", &self.gateway.to_string(), "--admin", "127.0.0.1:0", "--seed"]);
        let log = std::fs::File::create(self.nodes.dir().join("slotgate.log"))?;
        command.arg(self.addrs().join(",")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.serving = Some(command.spawn().context("cannot start slotgate")?);
        let gateway = self.gateway;
        self.wait_until("slotgate serves all shards", |_| {
            let mut client = Client::connect(gateway)?;
            let replies: Result<Vec<String>> =
                (0..64).map(|number| client.call(&["SET", &format!("probe:{number}"), "x"])).collect();
            Ok(replies?.iter().all(|reply| reply == "+OK"))
        })
    }

    pub fn addrs(&self) -> Vec<String> {
        self.nodes.addrs().iter().map(SocketAddr::to_string).collect()
    }

    pub fn bootstrap(&self) -> Result<()> {
        let addrs = self.addrs();
        let words = ["bootstrap", "--replicas", "1", "--yes"];
        self.slotgate(&words.into_iter().chain(addrs.iter().map(String::as_str)).collect::<Vec<_>>())
    }

    /// Runs a slotgate command to its end.
    pub fn slotgate(&self, words: &[&str]) -> Result<()> {
        let output = Command::new(&self.slotgate).args(words).stdin(Stdio::null()).output()?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "slotgate {}: {}", words.join(" "), String::from_utf8_lossy(&said));
        Ok(())
    }

    pub fn ask(&self, node: usize, words: &[&str]) -> Result<String> {
        Client::connect(self.nodes.addrs()[node])?.call(words)
    }

    /// A key of each of the three shards.
    pub fn keys(&self) -> Vec<String> {
        let key = |shard: u16| {
            let mut keys = (0..).map(|number| format!("load:{number}"));
            keys.find(|key| Slot::of_key(key.as_bytes()).number() / 5462 == shard).unwrap_or_default()
        };
        (0..3).map(key).collect()
    }

    pub fn is_primary(&self, node: usize) -> Result<bool> {
        Ok(self.ask(node, &["INFO", "replication"])?.contains("role:master"))
    }

    /// Which node owns the key now.
    pub fn primary_of(&self, key: &str) -> Result<usize> {
        let slot = Slot::of_key(key.as_bytes()).number();
        let owns = |line: &str| {
            line.split(' ').skip(8).any(|range| {
                let (start, end) = range.split_once('-').unwrap_or((range, range));
                let bounds = start.parse().ok().zip(end.parse().ok());
                bounds.is_some_and(|(start, end): (u16, u16)| (start..=end).contains(&slot))
            })
        };
        for node in 0..self.nodes.addrs().len() {
            let Ok(nodes) = self.ask(node, &["CLUSTER", "NODES"]) else { continue };
            if nodes.lines().any(|line| line.contains("myself,master") && owns(line)) {
                return Ok(node);
            }
        }
        bail!("no node says that it owns slot {slot}")
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes.kill(node);
    }

    pub fn restart(&mut self, node: usize) -> Result<()> {
        Ok(self.runtime.block_on(self.nodes.restart(node))?)
    }

    /// Waits until every replica follows its primary and every node is content.
    pub fn wait_until_whole(&self) -> Result<()> {
        self.wait_until("all nodes are content and all replicas linked", |lab| {
            for node in 0..lab.nodes.addrs().len() {
                let info = lab.ask(node, &["INFO", "replication"])?;
                let is_linked = match info.contains("role:master") {
                    true => info.contains("state=online"),
                    false => info.contains("master_link_status:up"),
                };
                if !is_linked || !lab.ask(node, &["CLUSTER", "INFO"])?.contains("cluster_state:ok") {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Lab) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        let mut last = None;
        while Instant::now() < deadline {
            match is_so(self) {
                Ok(true) => return Ok(()),
                Ok(false) => last = None,
                Err(error) => last = Some(error),
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("not within {LIMIT:?}: {what}{}", last.map(|error| format!(": {error:#}")).unwrap_or_default())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(serving) = &mut self.serving {
            let _ = serving.kill();
            let _ = serving.wait();
        }
    }
}
