//! Real `redis-server` processes on this machine, for `slotgate demo`, tests and benchmarks.
//!
//! Starts, stops and restarts processes and owns their folder; knows nothing of clusters beyond
//! `cluster-enabled`: forming one is the control plane's work. No process survives its
//! [`LocalNodes`], nor the process that started it.

mod addresses;

use addresses::{choose_addresses, keep_addresses};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// A node that loads a large AOF answers `LOADING` meanwhile; longer than this is a fault.
const START_LIMIT: Duration = Duration::from_secs(60);
/// `shutdown-timeout` lets a primary wait 10 s for its replicas; then the process is killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Two programs may look for ports at once; whoever loses looks again.
const PORT_ATTEMPTS: usize = 5;
/// How much of a failed node's log an error shows.
const LOG_LINES: usize = 8;

/// Which processes to start.
#[derive(Clone, Debug)]
pub struct LocalNodesConfig {
    pub count: usize,
    /// Where the nodes keep their data; `None`: a temporary folder that goes with the nodes.
    pub dir: Option<PathBuf>,
    /// The program: a name looked up in `PATH`, or a path.
    pub server: PathBuf,
    /// The addresses to bind, in turn: node `i` gets host `i` modulo their number. Linux accepts all
    /// of 127.0.0.0/8, which makes nodes look like nodes of several machines.
    pub hosts: Vec<Ipv4Addr>,
    /// Take this port and the following ones; `None`: any free ones.
    pub first_port: Option<u16>,
    /// More lines for each node's configuration file, by directive; they win over ours.
    pub settings: Vec<(String, String)>,
    /// The nodes announce no address: others learn it from where their connections come from, as they do
    /// of pods. Needs Redis 7 or Valkey.
    pub is_unannounced: bool,
}

impl Default for LocalNodesConfig {
    fn default() -> LocalNodesConfig {
        LocalNodesConfig {
            count: 6,
            dir: None,
            server: "redis-server".into(),
            hosts: vec![Ipv4Addr::LOCALHOST],
            first_port: None,
            settings: Vec::new(),
            is_unannounced: false,
        }
    }
}

/// Why the nodes could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LocalNodesError {
    #[error(
        "{0} was not found: install it (Debian, Ubuntu: apt-get install redis-server) or name another one with \
         --server, e.g. --server valkey-server"
    )]
    NoServer(PathBuf),
    #[error("cannot run {0}: {1}")]
    Spawn(PathBuf, io::Error),
    #[error("cannot write to the folder {0}: {1}; choose another one")]
    Dir(PathBuf, io::Error),
    #[error(
        "port {0} is in use (each node needs its port and that port plus 10000): stop what listens there or \
         choose others"
    )]
    PortInUse(u16),
    #[error("port {0} cannot be used: a node's port plus 10000 must stay below 65536")]
    PortTooHigh(u16),
    #[error("no {0} free ports were found between {start} and {end}", start = addresses::PORTS.start, end = addresses::PORTS.end)]
    NoPorts(usize),
    #[error("the folder {dir} holds {found} nodes, not {wanted}: ask for {found}, or choose another folder")]
    OtherCount { dir: PathBuf, found: usize, wanted: usize },
    #[error("the file {0} does not list addresses, one a line; remove the folder or choose another one")]
    Addresses(PathBuf),
    /// `log` is what it said last: the file itself may go with the folder.
    #[error("the node on {addr} ended with {status}; the end of its log:\n{log}")]
    Exited { addr: SocketAddr, status: ExitStatus, log: String },
    #[error("the node on {addr} did not answer PING within {limit:?}; the end of its log:\n{log}", limit = START_LIMIT)]
    Silent { addr: SocketAddr, log: String },
}

/// Running nodes and the folder they live in. Dropping it kills them all; so does the end of the thread
/// that started them, by which the kernel ends them should this process be killed.
#[derive(Debug)]
pub struct LocalNodes {
    server: PathBuf,
    dir: PathBuf,
    /// Removes the folder after the nodes are gone (fields drop after `Drop::drop` ran).
    temporary: Option<tempfile::TempDir>,
    addrs: Vec<SocketAddr>,
    /// Each node's folder, which it keeps when it gets another address.
    dirs: Vec<PathBuf>,
    settings: Vec<(String, String)>,
    is_unannounced: bool,
    children: Vec<Option<Child>>,
}

impl LocalNodes {
    /// Starts all nodes and waits until each answers `PING`.
    ///
    /// # Errors
    /// No server program, no ports, a folder that cannot be written, a node that does not come up.
    pub async fn start(config: LocalNodesConfig) -> Result<LocalNodes, LocalNodesError> {
        let mut attempt = 1;
        loop {
            match LocalNodes::start_once(&config).await {
                Err(LocalNodesError::Exited { log, .. })
                    if config.first_port.is_none()
                        && attempt < PORT_ATTEMPTS
                        && log.contains("already in use") =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn start_once(config: &LocalNodesConfig) -> Result<LocalNodes, LocalNodesError> {
        let temporary = match &config.dir {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("slotgate-nodes-")
                    .tempdir()
                    .map_err(|error| LocalNodesError::Dir(std::env::temp_dir(), error))?,
            ),
        };
        let dir =
            temporary.as_ref().map(|dir| dir.path().to_path_buf()).or(config.dir.clone()).unwrap_or_default();
        fs::create_dir_all(&dir).map_err(|error| LocalNodesError::Dir(dir.clone(), error))?;
        let dir = dir.canonicalize().map_err(|error| LocalNodesError::Dir(dir.clone(), error))?;
        let addrs = choose_addresses(&dir, config)?;
        let mut nodes = LocalNodes {
            server: config.server.clone(),
            children: addrs.iter().map(|_| None).collect(),
            dirs: addrs.iter().map(|addr| node_dir(&dir, *addr)).collect(),
            settings: config.settings.clone(),
            is_unannounced: config.is_unannounced,
            dir,
            temporary,
            addrs,
        };
        for ix in 0..nodes.addrs.len() {
            nodes.write_config(ix).map_err(|error| LocalNodesError::Dir(nodes.dir.clone(), error))?;
            nodes.spawn(ix)?;
        }
        for ix in 0..nodes.addrs.len() {
            nodes.wait_ready(ix).await?;
        }
        keep_addresses(&nodes.dir, &nodes.addrs)?;
        Ok(nodes)
    }

    /// Where the nodes take client connections, in the order of their numbers.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The folder that holds one folder per node, named by its port.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of node `ix`.
    pub fn node_dir(&self, ix: usize) -> &Path {
        &self.dirs[ix]
    }

    /// The process id of node `ix`, while it runs.
    pub fn process_id(&self, ix: usize) -> Option<u32> {
        self.children[ix].as_ref().map(Child::id)
    }

    /// Ends node `ix` at once, as `kill -9` does.
    pub fn kill(&mut self, ix: usize) {
        if let Some(mut child) = self.children[ix].take() {
            // Both fail only when the process is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Freezes node `ix`: its connections stay open and nobody answers.
    pub fn stop_process(&self, ix: usize) {
        self.signal(ix, libc::SIGSTOP);
    }

    /// Lets a frozen node go on.
    pub fn continue_process(&self, ix: usize) {
        self.signal(ix, libc::SIGCONT);
    }

    /// Starts node `ix` again on its address and data, ending it first when it runs.
    ///
    /// # Errors
    /// As [`LocalNodes::start`].
    pub async fn restart(&mut self, ix: usize) -> Result<(), LocalNodesError> {
        self.end(ix).await;
        self.spawn(ix)?;
        self.wait_ready(ix).await
    }

    /// Ends node `ix` and starts it on its data at another address, as when a pod is made anew.
    ///
    /// # Errors
    /// As [`LocalNodes::start`].
    pub async fn move_to(&mut self, ix: usize, addr: SocketAddr) -> Result<(), LocalNodesError> {
        self.end(ix).await;
        self.addrs[ix] = addr;
        self.write_config(ix).map_err(|error| LocalNodesError::Dir(self.dir.clone(), error))?;
        self.spawn(ix)?;
        self.wait_ready(ix).await
    }

    /// Ends all nodes; those of a kept folder get the time to write their data.
    pub async fn shutdown(mut self) {
        if self.temporary.is_none() {
            for ix in 0..self.children.len() {
                self.signal(ix, libc::SIGTERM);
            }
            for ix in 0..self.children.len() {
                self.end(ix).await;
            }
        }
    }

    async fn end(&mut self, ix: usize) {
        self.signal(ix, libc::SIGTERM);
        let deadline = Instant::now() + STOP_LIMIT;
        while let Some(child) = &mut self.children[ix] {
            match child.try_wait() {
                Ok(None) if Instant::now() < deadline => sleep(Duration::from_millis(10)).await,
                _ => self.kill(ix),
            }
        }
    }

    fn signal(&self, ix: usize, signal: libc::c_int) {
        if let Some(pid) = self.process_id(ix) {
            // SAFETY: `kill` touches no memory; the child is not waited for yet, so its id is its own.
            unsafe { libc::kill(pid as libc::pid_t, signal) };
        }
    }

    fn log_path(&self, ix: usize) -> PathBuf {
        self.dirs[ix].join("node.log")
    }

    fn write_config(&self, ix: usize) -> io::Result<()> {
        let (dir, addr) = (&self.dirs[ix], self.addrs[ix]);
        fs::create_dir_all(dir)?;
        let mut file = io::BufWriter::new(File::create(dir.join("node.conf"))?);
        writeln!(file, "bind {}\nport {}\ndir \"{}\"", addr.ip(), addr.port(), dir.display())?;
        writeln!(file, "daemonize no\ncluster-enabled yes\ncluster-config-file cluster.conf")?;
        writeln!(file, "cluster-node-timeout 5000\nappendonly yes\nsave \"\"")?;
        // A replica's first copy begins at once instead of 5 s later, when others might share it.
        writeln!(file, "repl-diskless-sync-delay 0")?;
        if self.is_unannounced {
            // Of the loopback addresses, protected mode trusts 127.0.0.1 alone.
            writeln!(file, "bind-source-addr {}\nprotected-mode no", addr.ip())?;
        } else if addr.ip() != Ipv4Addr::LOCALHOST {
            // Without it, peers take the source address of its connections, which is 127.0.0.1.
            writeln!(file, "cluster-announce-ip {}", addr.ip())?;
        }
        for (name, value) in &self.settings {
            writeln!(file, "{name} {value}")?;
        }
        file.flush()
    }

    fn spawn(&mut self, ix: usize) -> Result<(), LocalNodesError> {
        let dir = self.dirs[ix].clone();
        let open = || File::options().create(true).append(true).open(self.log_path(ix));
        let (out, err) = open()
            .and_then(|out| Ok((out.try_clone()?, out)))
            .map_err(|error| LocalNodesError::Dir(dir.clone(), error))?;
        let mut command = Command::new(&self.server);
        command.arg(dir.join("node.conf")).current_dir(&dir).stdin(Stdio::null()).stdout(out).stderr(err);
        // A group of its own: Ctrl-C in a terminal reaches us alone, and we end the nodes last.
        command.process_group(0);
        let parent = std::process::id();
        // SAFETY: only async-signal-safe calls run between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // The parent may have died before the line above took effect.
                if libc::getppid() as u32 != parent {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Ok(())
            });
        }
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LocalNodesError::NoServer(self.server.clone()),
            _ => LocalNodesError::Spawn(self.server.clone(), error),
        })?;
        self.children[ix] = Some(child);
        Ok(())
    }

    async fn wait_ready(&mut self, ix: usize) -> Result<(), LocalNodesError> {
        let addr = self.addrs[ix];
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if let Some(Ok(Some(status))) = self.children[ix].as_mut().map(Child::try_wait) {
                self.children[ix] = None;
                return Err(LocalNodesError::Exited { addr, status, log: last_lines(&self.log_path(ix)) });
            }
            if let Ok(Ok(true)) = timeout(Duration::from_secs(1), answers_ping(addr)).await {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(LocalNodesError::Silent { addr, log: last_lines(&self.log_path(ix)) })
    }
}

impl Drop for LocalNodes {
    fn drop(&mut self) {
        for ix in 0..self.children.len() {
            self.kill(ix);
        }
    }
}

/// The folder of the node that first listened there.
fn node_dir(dir: &Path, addr: SocketAddr) -> PathBuf {
    match addr.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => dir.join(addr.port().to_string()),
        _ => dir.join(addr.to_string()),
    }
}

/// Whether the node takes commands: a password it wants, or none, but not `LOADING`.
async fn answers_ping(addr: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut reply = [0; 64];
    let len = stream.read(&mut reply).await?;
    Ok(reply[..len].starts_with(b"+PONG") || reply[..len].starts_with(b"-NOAUTH"))
}

fn last_lines(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return "(nothing: is this program a Redis or Valkey server?)".into();
    }
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests;
