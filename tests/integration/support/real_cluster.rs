//! Six real nodes formed into one cluster: one shared by every test that leaves it as it was, and
//! private ones for tests that break things.

use super::client::Client;
use super::program::{bootstrap, expect};
use slotgate::local_nodes::{LocalNodes, LocalNodesConfig};
use std::ffi::CString;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use tokio::runtime::{self, Runtime};

/// Nodes that nobody ends should not be taken for dead because the machine is busy.
const CALM: (&str, &str) = ("cluster-node-timeout", "60000");

/// The program that every test's nodes run: `redis-server`, or what `SLOTGATE_TEST_SERVER` names.
pub fn server() -> String {
    std::env::var("SLOTGATE_TEST_SERVER").unwrap_or_else(|_| "redis-server".into())
}

/// Nodes wait for the disk at each change of their cluster, for seconds when something else writes much: their
/// folders are put into memory where the system has a folder for that, and room in it.
fn keep_files_in_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let memory = Path::new("/dev/shm");
        if free_space(memory).is_some_and(|free| free > 2 << 30) {
            // Somebody else's choice stays.
            _ = tempfile::env::override_temp_dir(memory);
        }
    });
}

/// In bytes; `None` where there is no such folder.
fn free_space(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_encoded_bytes()).ok()?;
    // SAFETY: all zeros is a statvfs, and both pointers are to what the call expects.
    let stats = unsafe {
        let mut stats: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &raw mut stats) == 0).then_some(stats)?
    };
    Some(stats.f_bavail * stats.f_frsize)
}

/// A cluster of its own: three primaries (nodes 0 to 2), a replica for each. It ends with the thread
/// that started it.
pub struct RealCluster {
    runtime: Runtime,
    nodes: LocalNodes,
}

impl RealCluster {
    pub fn start() -> RealCluster {
        RealCluster::start_with(&[])
    }

    /// With more lines for each node's configuration file.
    pub fn start_with(settings: &[(&str, &str)]) -> RealCluster {
        let cluster = RealCluster::start_nodes(6, settings);
        cluster.form(1);
        cluster
    }

    /// Three primaries (nodes 0 to 2) without replicas.
    /// They bear long silence, so that a busy machine looks like no failure, unless `settings` say otherwise.
    pub fn start_without_replicas(settings: &[(&str, &str)]) -> RealCluster {
        let cluster = RealCluster::start_nodes(3, &[&[CALM], settings].concat());
        cluster.form(0);
        cluster
    }

    /// Makes one cluster of nodes that have yet to meet, with so many replicas for each primary. It is
    /// whole at the end: all nodes know all roles, so that a failover is voted for at once, which
    /// `redis-cli --cluster create` does not wait for.
    pub fn form(&self, replicas: usize) {
        let args = ["--yes", "--replicas", &replicas.to_string()];
        expect(&bootstrap(self.addrs(), &args).output().unwrap(), 0, "Done");
    }

    /// Nodes in cluster mode that have yet to meet.
    pub fn start_unformed(count: usize) -> RealCluster {
        RealCluster::start_unformed_with(count, &[])
    }

    /// The same with more lines for each node's configuration file.
    pub fn start_unformed_with(count: usize, settings: &[(&str, &str)]) -> RealCluster {
        RealCluster::start_nodes(count, settings)
    }

    /// One node without cluster mode: what clients expect a Redis to be.
    pub fn start_standalone() -> RealCluster {
        RealCluster::start_standalone_with(&[])
    }

    /// The same with more lines for its configuration file.
    pub fn start_standalone_with(settings: &[(&str, &str)]) -> RealCluster {
        RealCluster::start_nodes(1, &[&[("cluster-enabled", "no")], settings].concat())
    }

    /// Three primaries (nodes 0 to 2) with a replica each, on these hosts in turn: node `i` is on host `i`
    /// modulo their number. They bear long silence.
    pub fn start_on_hosts(hosts: &[Ipv4Addr], settings: &[(&str, &str)]) -> RealCluster {
        let cluster = RealCluster::start_nodes_on(6, hosts, &[&[CALM], settings].concat());
        cluster.form(1);
        cluster
    }

    fn start_nodes(count: usize, settings: &[(&str, &str)]) -> RealCluster {
        RealCluster::start_nodes_on(count, &[Ipv4Addr::LOCALHOST], settings)
    }

    fn start_nodes_on(count: usize, hosts: &[Ipv4Addr], settings: &[(&str, &str)]) -> RealCluster {
        let config = LocalNodesConfig { hosts: hosts.to_vec(), ..LocalNodesConfig::default() };
        RealCluster::start_config(count, settings, config)
    }

    /// Nodes in cluster mode that have yet to meet, with an address each (127.0.`net`.1 and on) that others
    /// learn as they do of pods.
    pub fn start_like_pods(count: usize, net: u8) -> RealCluster {
        RealCluster::start_like_pods_with(count, net, &[])
    }

    /// The same with more lines for each node's configuration file.
    pub fn start_like_pods_with(count: usize, net: u8, settings: &[(&str, &str)]) -> RealCluster {
        let hosts = (1..=count as u8).map(|host| Ipv4Addr::new(127, 0, net, host)).collect();
        let config = LocalNodesConfig { hosts, is_unannounced: true, ..LocalNodesConfig::default() };
        // They are killed at once, and what a client was told is stored must be on disk by then.
        RealCluster::start_config(count, &[&[("appendfsync", "always")], settings].concat(), config)
    }

    fn start_config(count: usize, settings: &[(&str, &str)], config: LocalNodesConfig) -> RealCluster {
        keep_files_in_memory();
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let config = LocalNodesConfig { count, server: server().into(), settings, ..config };
        let nodes = runtime.block_on(LocalNodes::start(config)).unwrap_or_else(|error| panic!("{error}"));
        RealCluster { runtime, nodes }
    }

    pub fn addrs(&self) -> &[SocketAddr] {
        self.nodes.addrs()
    }

    /// A plain connection to node `ix`.
    pub fn client(&self, ix: usize) -> Client {
        Client::connect(self.addrs()[ix])
    }

    /// Ends node `ix` as `kill -9` does.
    pub fn kill(&mut self, ix: usize) {
        self.nodes.kill(ix);
    }

    /// Starts node `ix` again on its data, ending it first when it runs.
    pub fn restart(&mut self, ix: usize) {
        self.runtime.block_on(self.nodes.restart(ix)).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Ends the nodes, starts them on their data at these addresses, and waits until each answers.
    pub fn move_to(&mut self, moves: &[(usize, SocketAddr)]) {
        for (ix, _) in moves {
            self.nodes.kill(*ix);
        }
        for (ix, addr) in moves {
            let moved = self.runtime.block_on(self.nodes.move_to(*ix, *addr));
            moved.unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Ends node `ix`, changes what it remembers of the cluster, and starts it again.
    pub fn restart_with_nodes_file(&mut self, ix: usize, change: impl Fn(&str) -> String) {
        self.kill(ix);
        let file = self.nodes.node_dir(ix).join("cluster.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, change(&text)).unwrap();
        self.restart(ix);
    }

    /// Ends node `ix` and starts one at its address that has never heard of the others.
    pub fn replace_by_stranger(&mut self, ix: usize) {
        self.kill(ix);
        std::fs::remove_file(self.nodes.node_dir(ix).join("cluster.conf")).unwrap();
        self.restart(ix);
    }

    /// Ends node `ix` and starts it without its data at this address, as when a pod's volume was lost: with
    /// its id, or as another node.
    pub fn lose_volume(&mut self, ix: usize, at: SocketAddr, keeps_id: bool) {
        self.kill(ix);
        for entry in std::fs::read_dir(self.nodes.node_dir(ix)).unwrap() {
            let entry = entry.unwrap();
            let is_kept = entry.file_name() == "cluster.conf" && keeps_id;
            if entry.file_type().unwrap().is_dir() {
                std::fs::remove_dir_all(entry.path()).unwrap();
            } else if !is_kept {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        self.move_to(&[(ix, at)]);
    }

    /// Freezes node `ix`: its connections stay open and nobody answers.
    pub fn freeze(&self, ix: usize) {
        self.nodes.stop_process(ix);
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self, ix: usize) {
        self.nodes.continue_process(ix);
    }
}

/// The addresses of the cluster that tests share. A test that uses it keeps to keys of its own (begin
/// them with its name), changes no setting, and neither empties nor counts the keyspace.
pub fn shared() -> &'static [SocketAddr] {
    static ADDRS: OnceLock<Vec<SocketAddr>> = OnceLock::new();
    ADDRS.get_or_init(keep_one)
}

/// A second shared cluster, for tests about the whole keyspace: one test at a time, which finds it
/// empty, may change settings and must change them back.
pub fn whole_keyspace() -> WholeKeyspace {
    static ADDRS: OnceLock<Vec<SocketAddr>> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let addrs = ADDRS.get_or_init(keep_one);
    for addr in addrs {
        let mut node = Client::connect(*addr);
        if node.call_text(&["ROLE"]).contains("master") {
            node.expect("FLUSHALL", "+OK\r\n");
        }
    }
    WholeKeyspace { addrs, _turn: turn }
}

/// The right to use [`whole_keyspace`]'s cluster.
pub struct WholeKeyspace {
    addrs: &'static [SocketAddr],
    _turn: MutexGuard<'static, ()>,
}

impl Deref for WholeKeyspace {
    type Target = [SocketAddr];

    fn deref(&self) -> &[SocketAddr] {
        self.addrs
    }
}

/// The primary of a key among the nodes of a cluster.
pub fn owner_of(nodes: &[SocketAddr], key: &str) -> SocketAddr {
    let is_owner = |addr: &&SocketAddr| {
        let mut node = Client::connect(**addr);
        let is_primary = node.call_text(&["ROLE"]).contains("master");
        is_primary && !node.call_text(&["EXISTS", key]).starts_with("-MOVED")
    };
    *nodes.iter().find(is_owner).expect("a primary serves the key")
}

/// Starts a cluster that lives until the test run ends.
fn keep_one() -> Vec<SocketAddr> {
    let (started, addrs) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    // A thread of its own, because nodes end with the thread that started them: a test's would take
    // them away from the others.
    let keeper = thread::spawn(move || {
        let cluster = RealCluster::start_with(&[CALM]);
        started.send(cluster.addrs().to_vec()).unwrap();
        let _ = ended.recv();
    });
    let mut keepers = KEEPERS.lock().unwrap();
    if keepers.is_empty() {
        // SAFETY: the handler is a function without arguments that unwinds into nothing.
        unsafe { libc::atexit(end_kept) };
    }
    keepers.push((end, keeper));
    drop(keepers);
    addrs.recv().expect("the shared cluster starts; why it did not is said above")
}

static KEEPERS: Mutex<Vec<(mpsc::Sender<()>, JoinHandle<()>)>> = Mutex::new(Vec::new());

/// Statics are never dropped, and the nodes' folders would stay behind.
extern "C" fn end_kept() {
    if let Ok(mut keepers) = KEEPERS.lock() {
        for (end, thread) in keepers.drain(..) {
            drop(end);
            let _ = thread.join();
        }
    }
}
