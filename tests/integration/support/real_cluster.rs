//! Six real nodes formed into one cluster: one shared by every test that leaves it as it was, and
//! private ones for tests that break things.

use super::client::Client;
use super::{PATIENCE, wait_until};
use slotgate::local_nodes::{LocalNodes, LocalNodesConfig};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use tokio::runtime::{self, Runtime};

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
        form(cluster.addrs(), 1);
        cluster
    }

    /// Three primaries (nodes 0 to 2) without replicas.
    pub fn start_without_replicas(settings: &[(&str, &str)]) -> RealCluster {
        let cluster = RealCluster::start_nodes(3, settings);
        form(cluster.addrs(), 0);
        cluster
    }

    /// Makes one cluster of nodes that have yet to meet.
    pub fn form(&self, replicas: usize) {
        form(self.addrs(), replicas);
    }

    /// Nodes in cluster mode that have yet to meet.
    pub fn start_unformed(count: usize) -> RealCluster {
        RealCluster::start_nodes(count, &[])
    }

    /// One node without cluster mode: what clients expect a Redis to be.
    pub fn start_standalone() -> RealCluster {
        RealCluster::start_nodes(1, &[("cluster-enabled", "no")])
    }

    fn start_nodes(count: usize, settings: &[(&str, &str)]) -> RealCluster {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let config = LocalNodesConfig { count, settings, ..LocalNodesConfig::default() };
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

    /// Ends node `ix` and starts one at its address that has never heard of the others.
    pub fn replace_by_stranger(&mut self, ix: usize) {
        self.kill(ix);
        let dir = self.nodes.dir().join(self.addrs()[ix].port().to_string());
        std::fs::remove_file(dir.join("cluster.conf")).unwrap();
        self.restart(ix);
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
    ADDRS.get_or_init(|| {
        let (started, addrs) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        // A thread of its own, because nodes end with the thread that started them: a test's would
        // take them away from the others.
        let keeper = thread::spawn(move || {
            let cluster = RealCluster::start();
            started.send(cluster.addrs().to_vec()).unwrap();
            let _ = ended.recv();
        });
        *KEEPER.lock().unwrap() = Some((end, keeper));
        // SAFETY: the handler is a function without arguments that unwinds into nothing.
        unsafe { libc::atexit(end_shared) };
        addrs.recv().expect("the shared cluster starts; why it did not is said above")
    })
}

static KEEPER: Mutex<Option<(mpsc::Sender<()>, JoinHandle<()>)>> = Mutex::new(None);

/// Statics are never dropped, and the nodes' folder would stay behind.
extern "C" fn end_shared() {
    if let Ok(mut keeper) = KEEPER.lock()
        && let Some((end, thread)) = keeper.take()
    {
        drop(end);
        let _ = thread.join();
    }
}

/// Makes one cluster of the nodes, with so many replicas for each primary, and waits until all of them
/// agree.
fn form(addrs: &[SocketAddr], replicas: usize) {
    let output = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(addrs.iter().map(SocketAddr::to_string))
        .args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"])
        .output()
        .expect("redis-cli was not found (Debian, Ubuntu: apt-get install redis-tools)");
    assert!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stdout));
    for addr in addrs {
        let mut node = Client::connect(*addr);
        wait_until(&format!("{addr} knows a whole cluster, within {PATIENCE:?}"), || {
            let info = node.call_text(&["CLUSTER", "INFO"]);
            let replication = node.call_text(&["INFO", "replication"]);
            info.contains("cluster_state:ok")
                && info.contains(&format!("cluster_known_nodes:{}\r", addrs.len()))
                && (replicas == 0
                    || replication.contains(&format!("connected_slaves:{replicas}"))
                    || replication.contains("master_link_status:up"))
        });
    }
}
