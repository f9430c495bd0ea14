//! `slotgate serve --manage` on real nodes: what the topics share.

mod addresses;
mod roles;

use super::support::client::Client;
use super::support::gateway::Gateway;
use super::support::program::run;
use super::support::real_cluster::RealCluster;
use super::support::wait_until;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

const KEYS: usize = 200;

/// Files that tell the gateway things.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn seeds(&self) -> PathBuf {
        self.0.path().join("nodes.txt")
    }

    fn pause(&self) -> PathBuf {
        self.0.path().join("pause")
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("journal.json")
    }

    /// Names these nodes, one a line, in one step.
    fn list(&self, addrs: &[SocketAddr]) {
        let text: String = addrs.iter().map(|addr| format!("{addr}\n")).collect();
        let new = self.0.path().join("nodes.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.seeds()).unwrap();
    }
}

/// A gateway that manages the cluster of the listed nodes.
fn manage(files: &Files, seeds: &[SocketAddr]) -> Gateway {
    let files = [files.seeds(), files.pause(), files.journal()];
    let [seed_file, pause, journal] = files.each_ref().map(|file| file.to_str().unwrap());
    let args = ["--manage", "--seed-file", seed_file, "--pause-file", pause, "--journal-file", journal];
    Gateway::start_unready(seeds, &args)
}

/// Six nodes, each with an address of its own, formed and filled through the gateway that manages them.
fn start(net: u8) -> (RealCluster, Files, Gateway) {
    let cluster = RealCluster::start_like_pods(6, net);
    cluster.form(1);
    let files = Files::new();
    files.list(cluster.addrs());
    let gateway = manage(&files, &cluster.addrs()[..2]);
    wait_until("it is ready", || gateway.admin_get("/readyz").0 == 200);
    let mut client = gateway.client();
    for ix in 0..KEYS {
        assert_eq!(client.call_text(&["SET", &format!("key:{ix}"), &ix.to_string()]), "+OK\r\n");
    }
    wait_for_phase(&gateway, "healthy");
    (cluster, files, gateway)
}

fn status(gateway: &Gateway) -> Value {
    let (code, body) = gateway.admin_get("/api/status");
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[track_caller]
fn wait_for_phase(gateway: &Gateway, phase: &str) {
    wait_until(&format!("the manager says {phase}"), || status(gateway)["phase"] == phase);
}

/// The texts of one field of all steps that were tried.
fn tried(gateway: &Gateway, field: &str) -> Vec<String> {
    let report = status(gateway);
    report["actions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|done| done[field].as_str().unwrap().to_string())
        .collect()
}

/// Each node's id and whom it follows, by its own word.
fn roles(addrs: &[SocketAddr]) -> Vec<(String, String)> {
    let own = |addr: &SocketAddr| {
        let nodes = Client::connect(*addr).call_text(&["CLUSTER", "NODES"]);
        let line = nodes.lines().find(|line| line.contains("myself")).unwrap().to_string();
        let words: Vec<&str> = line.split(' ').collect();
        (words[0].to_string(), words[3].to_string())
    };
    addrs.iter().map(own).collect()
}

fn setting(addr: SocketAddr, name: &str) -> String {
    let reply = Client::connect(addr).call_text(&["CONFIG", "GET", name]);
    reply.trim_end().lines().next_back().unwrap().to_string()
}

/// Waits until nothing is wrong by all nodes' words, and looks that all is as it was but for addresses.
#[track_caller]
fn expect_healed(cluster: &RealCluster, gateway: &Gateway, before: &[(String, String)]) {
    let addrs = cluster.addrs();
    let first = addrs[0].to_string();
    let mut seen = String::new();
    let began = std::time::Instant::now();
    let mut client = gateway.client();
    let mut last = String::new();
    wait_until("every key is served", || {
        (0..KEYS).all(|ix| {
            let (key, value) = (format!("key:{ix}"), ix.to_string());
            let reply = client.call_text(&["GET", &key]);
            let is_right = reply == format!("${}\r\n{value}\r\n", value.len());
            if !is_right && last != reply {
                eprintln!("{key}: {reply}");
                last = reply;
            }
            is_right
        })
    });
    let served = began.elapsed();
    wait_until("check finds nothing wrong", || {
        let output = run(&["check", &first]);
        seen = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success()
    });
    wait_for_phase(gateway, "healthy");
    eprintln!("served after {served:?}, whole after {:?}", began.elapsed());
    assert_eq!(roles(addrs), before, "a needless failover");
    for addr in addrs {
        // Everyone looks for everyone where it is, the own line included.
        let nodes = Client::connect(*addr).call_text(&["CLUSTER", "NODES"]);
        for other in addrs {
            assert!(nodes.contains(&format!(" {other}@")), "{addr} does not know {other}:\n{nodes}");
        }
        assert_eq!(setting(*addr, "cluster-replica-no-failover"), "no");
        assert_eq!(setting(*addr, "cluster-migration-barrier"), "1");
        assert_eq!(setting(*addr, "cluster-node-timeout"), "5000");
    }
}

/// The same ports on other addresses.
fn elsewhere(addrs: &[SocketAddr], net: u8) -> Vec<SocketAddr> {
    let host = |ix: usize| Ipv4Addr::new(127, 0, net, 1 + ix as u8);
    addrs.iter().enumerate().map(|(ix, addr)| SocketAddr::from((host(ix), addr.port()))).collect()
}

fn move_all(cluster: &mut RealCluster, addrs: &[SocketAddr]) {
    let moves: Vec<(usize, SocketAddr)> = addrs.iter().copied().enumerate().collect();
    cluster.move_to(&moves);
}
