//! Six nodes with an address each, formed into one cluster, and gateways in front of it.
//!
//! Does what it is told to nodes and gateways, and knows who serves what. Runs the real binaries only.

use super::client::Client;
use anyhow::{Context as _, Result, bail, ensure};
use slotgate::local_nodes::{LocalNodes, LocalNodesConfig};
use slotgate::topology::{Slot, SlotRange};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Far above what anything here takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// A node that does not answer for so long is taken as absent.
const ANSWER: Duration = Duration::from_secs(2);
const NODES: u8 = 6;

/// What is tried.
#[derive(Clone, Debug)]
pub struct Setup {
    pub slotgate: PathBuf,
    /// Silence of a node after which the others take it for lost.
    pub node_timeout: Duration,
    pub gateways: usize,
    /// The first gateway keeps the cluster whole.
    pub has_manager: bool,
}

pub struct World {
    setup: Setup,
    runtime: Runtime,
    nodes: LocalNodes,
    /// By number; `None` while one is ended.
    gateways: Vec<Option<Child>>,
    gateway_addrs: Vec<SocketAddr>,
    /// The second byte but one of the nodes' addresses.
    net: u8,
    is_frozen: Vec<bool>,
    /// When each node was last elected, as far as its process remembers.
    elected: Vec<Option<Instant>>,
}

/// A primary and what it serves, by its own word.
#[derive(Clone, Debug)]
pub struct Primary {
    pub node: usize,
    pub id: String,
    pub slots: Vec<SlotRange>,
}

impl World {
    pub fn start(setup: Setup) -> Result<World> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let net = fastrand::u8(100..250);
        let server = std::env::var("SLOTGATE_TEST_SERVER").unwrap_or_else(|_| "redis-server".into());
        let settings = [
            ("cluster-node-timeout", setup.node_timeout.as_millis().to_string()),
            ("enable-debug-command", "yes".to_string()),
        ];
        let nodes = runtime.block_on(LocalNodes::start(LocalNodesConfig {
            count: usize::from(NODES),
            server: server.into(),
            hosts: (1..=NODES).map(|host| Ipv4Addr::new(127, 0, net, host)).collect(),
            is_unannounced: true,
            settings: settings.map(|(name, value)| (name.to_string(), value)).into(),
            ..LocalNodesConfig::default()
        }))?;
        // Taken from the system and given back, since a gateway that is started again must have its own.
        let listeners: Result<Vec<TcpListener>, _> =
            (0..setup.gateways).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
        let gateway_addrs: Result<Vec<SocketAddr>, _> =
            listeners?.iter().map(TcpListener::local_addr).collect();
        let mut world = World {
            gateways: (0..setup.gateways).map(|_| None).collect(),
            gateway_addrs: gateway_addrs?,
            is_frozen: vec![false; usize::from(NODES)],
            elected: vec![None; usize::from(NODES)],
            setup,
            runtime,
            nodes,
            net,
        };
        world.list_nodes()?;
        let addrs: Vec<String> = world.nodes.addrs().iter().map(SocketAddr::to_string).collect();
        let words = ["bootstrap", "--replicas", "1", "--yes"];
        world.slotgate(&words.into_iter().chain(addrs.iter().map(String::as_str)).collect::<Vec<_>>())?;
        for gateway in 0..world.gateways.len() {
            world.start_gateway(gateway)?;
        }
        Ok(world)
    }

    pub fn addr(&self, node: usize) -> String {
        self.nodes.addrs()[node].to_string()
    }

    pub fn count(&self) -> usize {
        self.nodes.addrs().len()
    }

    pub fn gateways(&self) -> &[SocketAddr] {
        &self.gateway_addrs
    }

    pub fn node_timeout(&self) -> Duration {
        self.setup.node_timeout
    }

    /// The reply's text, or an error when the node does not answer.
    pub fn ask(&self, node: usize, words: &[&str]) -> Result<String> {
        let addr = self.nodes.addrs()[node];
        let mut client = Client::try_connect(addr).with_context(|| format!("{addr} takes no connection"))?;
        client.set_patience(ANSWER);
        let reply = client.try_call(words).with_context(|| format!("{addr}: {}", words.join(" ")))?;
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }

    /// All primaries with slots that answer; of two that claim a slot, the one of the higher epoch.
    pub fn primaries(&self) -> Result<Vec<Primary>> {
        let mut found: Vec<(u64, Primary)> = Vec::new();
        for node in (0..self.count()).filter(|node| !self.is_frozen[*node]) {
            let Ok(nodes) = self.ask(node, &["CLUSTER", "NODES"]) else { continue };
            let own = nodes.lines().find(|line| line.contains("myself,master"));
            let Some(words) = own.map(|line| line.split(' ').collect::<Vec<_>>()) else { continue };
            let ranges = words[8..].iter().filter(|word| !word.starts_with('['));
            let slots: Vec<SlotRange> = ranges.filter_map(|word| parse_range(word)).collect();
            let epoch = words[6].parse().with_context(|| format!("{words:?}"))?;
            if !slots.is_empty() {
                found.push((epoch, Primary { node, id: words[0].to_string(), slots }));
            }
        }
        found.sort_by_key(|(epoch, primary)| (std::cmp::Reverse(*epoch), primary.node));
        Ok(found.into_iter().map(|(_, primary)| primary).collect())
    }

    pub fn primary_of(&self, slot: Slot) -> Result<Primary> {
        let primaries = self.primaries()?.into_iter();
        let mut owners = primaries.filter(|primary| primary.serves(slot));
        owners.next().with_context(|| format!("no node says that it owns slot {slot}"))
    }

    /// The nodes that follow this primary.
    pub fn replicas_of(&self, id: &str) -> Vec<usize> {
        let follows = |node: &usize| {
            let nodes = self.ask(*node, &["CLUSTER", "NODES"]).unwrap_or_default();
            nodes.lines().any(|line| line.contains("myself,slave") && line.contains(id))
        };
        (0..self.count()).filter(|node| !self.is_frozen[*node]).filter(follows).collect()
    }

    /// Lets a replica take over, as planned. Waits for its turn: a node that was elected begins no other
    /// election for four node timeouts (`clusterHandleSlaveFailover`, auth_retry_time).
    pub fn hand_over(&mut self, primary: &Primary) -> Result<()> {
        let replicas = self.replicas_of(&primary.id);
        let replica = *replicas.first().with_context(|| format!("node {} has no replica", primary.node))?;
        if let Some(elected) = self.elected[replica] {
            let turn = elected + self.setup.node_timeout * 4 + Duration::from_millis(500);
            thread::sleep(turn.saturating_duration_since(Instant::now()));
        }
        self.slotgate(&["failover", "--yes", &self.addr(replica), &self.addr(primary.node)])?;
        self.note_elected(replica);
        Ok(())
    }

    /// It was elected just now.
    pub fn note_elected(&mut self, node: usize) {
        self.elected[node] = Some(Instant::now());
    }

    pub fn kill(&mut self, node: usize) {
        self.elected[node] = None;
        self.nodes.kill(node);
    }

    /// Ends the node by SIGTERM, should it run, and starts it on its data.
    pub fn restart(&mut self, node: usize) -> Result<()> {
        self.elected[node] = None;
        Ok(self.runtime.block_on(self.nodes.restart(node))?)
    }

    pub fn freeze(&mut self, node: usize) {
        self.is_frozen[node] = true;
        self.nodes.stop_process(node);
    }

    pub fn thaw(&mut self, node: usize) {
        self.is_frozen[node] = false;
        self.nodes.continue_process(node);
    }

    /// Ends these nodes and starts them at addresses that none of them ever had, and lists those for the
    /// manager.
    pub fn move_elsewhere(&mut self, nodes: &[usize]) -> Result<()> {
        self.net = if self.net == 250 { 100 } else { self.net + 1 };
        // All at once, as when a whole machine room comes back.
        for process in nodes.iter().filter_map(|node| self.nodes.process_id(*node)) {
            // SAFETY: `kill` touches no memory; the child is not waited for yet, so its id is its own.
            unsafe { libc::kill(process as libc::pid_t, libc::SIGTERM) };
        }
        for node in nodes {
            self.elected[*node] = None;
            let port = self.nodes.addrs()[*node].port();
            let addr = SocketAddr::from((Ipv4Addr::new(127, 0, self.net, 1 + *node as u8), port));
            self.runtime.block_on(self.nodes.move_to(*node, addr))?;
        }
        self.list_nodes()
    }

    fn list_nodes(&self) -> Result<()> {
        let text: String = self.nodes.addrs().iter().map(|addr| format!("{addr}\n")).collect();
        let new = self.nodes.dir().join("seeds.new");
        std::fs::write(&new, text)?;
        Ok(std::fs::rename(new, self.seed_file())?)
    }

    fn seed_file(&self) -> PathBuf {
        self.nodes.dir().join("seeds.txt")
    }

    /// Runs a slotgate command to its end.
    pub fn slotgate(&self, words: &[&str]) -> Result<()> {
        let (is_done, said) = self.try_slotgate(words)?;
        ensure!(is_done, "slotgate {}: {said}", words.join(" "));
        Ok(())
    }

    /// Starts a slotgate command; what it says is kept with the logs.
    pub fn start_slotgate(&self, words: &[String]) -> Result<Child> {
        let log = File::options().create(true).append(true).open(self.command_log())?;
        let mut command = Command::new(&self.setup.slotgate);
        command.args(words).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(end_with_us(&mut command).spawn()?)
    }

    fn command_log(&self) -> PathBuf {
        self.nodes.dir().join("commands.log")
    }

    fn try_slotgate(&self, words: &[&str]) -> Result<(bool, String)> {
        let output = Command::new(&self.setup.slotgate).args(words).stdin(Stdio::null()).output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// Waits until `slotgate check` finds nothing wrong.
    pub fn wait_until_whole(&self) -> Result<()> {
        let mut said = String::new();
        let is_whole = wait_until("the cluster is whole", || {
            let (is_whole, text) = self.try_slotgate(&["check", &self.addr(0)])?;
            said = text;
            Ok(is_whole)
        });
        is_whole.with_context(|| said)
    }

    /// Starts a gateway and waits until it serves every shard.
    pub fn start_gateway(&mut self, gateway: usize) -> Result<()> {
        let addr = self.gateway_addrs[gateway];
        let mut command = Command::new(&self.setup.slotgate);
        command.args(["serve", "--listen", &addr.to_string(), "--admin", "127.0.0.1:0", "--workers", "1"]);
        command.arg("--seed-file").arg(self.seed_file());
        if self.setup.has_manager && gateway == 0 {
            command.arg("--manage");
        }
        let log = File::options().create(true).append(true).open(self.gateway_log(gateway))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.gateways[gateway] = Some(end_with_us(&mut command).spawn().context("cannot start slotgate")?);
        wait_until("the gateway serves all shards", || {
            let mut client = Client::try_connect(addr).context("no connection")?;
            client.set_patience(ANSWER);
            let mut is_served = true;
            for number in 0..64 {
                let reply = client.try_call(&["EXISTS", &format!("probe:{number}")])?;
                is_served &= reply.starts_with(b":");
            }
            Ok(is_served)
        })
    }

    /// Fails when a gateway that nobody ended is gone.
    pub fn check_gateways(&mut self) -> Result<()> {
        for (number, gateway) in self.gateways.iter_mut().enumerate() {
            if let Some(status) = gateway.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("gateway {number} ended, and nobody told it to: {status}");
            }
        }
        Ok(())
    }

    /// Sends it SIGTERM and waits until it has drained.
    pub fn drain_gateway(&mut self, gateway: usize) -> Result<()> {
        let Some(mut child) = self.gateways[gateway].take() else { return Ok(()) };
        // SAFETY: `kill` touches no memory; the child is not waited for yet, so its id is its own.
        unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
        let status = child.wait()?;
        ensure!(status.success(), "gateway {gateway} ended with {status}");
        Ok(())
    }

    pub fn kill_gateway(&mut self, gateway: usize) -> Result<()> {
        if let Some(mut child) = self.gateways[gateway].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    pub fn gateway_log(&self, gateway: usize) -> PathBuf {
        self.nodes.dir().join(format!("gateway-{gateway}.log"))
    }

    /// How often nodes agreed that another one is lost. Where nobody hurt one, the machine was too busy.
    pub fn losses_noticed(&self) -> usize {
        let log = |node| std::fs::read(self.nodes.node_dir(node).join("node.log")).unwrap_or_default();
        (0..self.count())
            .map(|node| String::from_utf8_lossy(&log(node)).matches("as failing (quorum reached)").count())
            .sum()
    }

    /// Copies all logs there, for whoever looks into what went wrong.
    pub fn keep_logs(&self, dir: &Path) -> Result<()> {
        for gateway in 0..self.gateways.len() {
            std::fs::copy(self.gateway_log(gateway), dir.join(format!("gateway-{gateway}.log")))?;
        }
        if self.command_log().exists() {
            std::fs::copy(self.command_log(), dir.join("commands.log"))?;
        }
        for node in 0..self.count() {
            std::fs::copy(self.nodes.node_dir(node).join("node.log"), dir.join(format!("node-{node}.log")))?;
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for gateway in 0..self.gateways.len() {
            // Fails only when it is gone already.
            let _ = self.kill_gateway(gateway);
        }
    }
}

impl Primary {
    pub fn serves(&self, slot: Slot) -> bool {
        self.slots.iter().any(|range| range.start <= slot && slot <= range.end)
    }
}

fn parse_range(word: &str) -> Option<SlotRange> {
    let (start, end) = word.split_once('-').unwrap_or((word, word));
    SlotRange::new(start.parse().ok()?, end.parse().ok()?)
}

/// Ends the process that `command` is going to start when the thread that starts it ends.
fn end_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        })
    }
}

/// Looks again and again until it is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut last = None;
    while Instant::now() < deadline {
        match is_so() {
            Ok(true) => return Ok(()),
            Ok(false) => last = None,
            Err(error) => last = Some(error),
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("not within {LIMIT:?}: {what}{}", last.map(|error| format!(": {error:#}")).unwrap_or_default())
}
