//! Plays Kubernetes' controllers and kubelets for one StatefulSet of a fake API server: real `redis-server`
//! processes, each on its volume, at another address in each life.

use super::fake_kube::FakeKube;
use super::fake_kube::objects::{pod, stateful_set};
use super::wait_until;
use serde_json::{Value, json};
use slotgate::local_nodes::{LocalNodes, LocalNodesConfig};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

const SET: &str = "redis";
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Tests run at once; each has nodes on addresses of its own.
static NETS: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);

/// The controllers at work. They end with this, and the processes with them.
pub struct Kubelet {
    is_over: Arc<AtomicBool>,
    lives: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
    pub port: u16,
}

impl Kubelet {
    /// Runs a StatefulSet of so many pods, of which there are never more than `most`.
    pub fn start(kube: &Arc<FakeKube>, replicas: usize, most: usize) -> Kubelet {
        let mut set = stateful_set(SET, replicas);
        set["metadata"]["generation"] = json!(1);
        set["spec"]["updateStrategy"]["rollingUpdate"] = json!({ "partition": 0 });
        set["status"]["observedGeneration"] = json!(1);
        kube.put("statefulsets", set);
        let (is_over, lives) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (started, port) = mpsc::channel();
        let (kube, over, made) = (kube.clone(), is_over.clone(), lives.clone());
        // One thread starts all processes: they end with the thread that started them.
        let thread = spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let config =
                LocalNodesConfig { count: most, is_unannounced: true, ..LocalNodesConfig::default() };
            let mut nodes = runtime.block_on(LocalNodes::start(config)).unwrap();
            let port = nodes.addrs()[0].port();
            (0..most).for_each(|ordinal| nodes.kill(ordinal));
            let net = NETS.fetch_add(1, Ordering::Relaxed);
            let mut work = Work { kube, nodes, net, port, lives: made, templates: Vec::new() };
            started.send(port).unwrap();
            while !over.load(Ordering::Relaxed) {
                runtime.block_on(work.round(most));
                sleep(LOOK_EVERY);
            }
        });
        let port = port.recv().expect("the nodes start");
        let kubelet = Kubelet { is_over, lives, thread: Some(thread), port };
        wait_until("all pods run", || kubelet.lives().len() == replicas);
        kubelet
    }

    /// The names of all pods that were ever made, in order.
    pub fn lives(&self) -> Vec<String> {
        self.lives.lock().unwrap().clone()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where the pods that are not told to end are.
pub fn addrs(kube: &FakeKube, port: u16) -> Vec<SocketAddr> {
    let staying = kube.list("pods").into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let ips = staying.map(|pod| pod["status"]["podIP"].as_str().unwrap().parse::<IpAddr>().unwrap());
    ips.map(|ip| SocketAddr::new(ip, port)).collect()
}

struct Work {
    kube: Arc<FakeKube>,
    nodes: LocalNodes,
    net: u8,
    port: u16,
    lives: Arc<Mutex<Vec<String>>>,
    /// All templates that there were; the number is the revision.
    templates: Vec<Value>,
}

impl Work {
    async fn round(&mut self, most: usize) {
        let set = self.kube.get("statefulsets", SET).unwrap();
        let template = &set["spec"]["template"];
        let known = self.templates.iter().position(|known| known == template);
        let revision = known.unwrap_or(self.templates.len());
        if known.is_none() {
            self.templates.push(template.clone());
        }
        let revision = format!("redis-{revision}");
        let status =
            json!({ "observedGeneration": set["metadata"]["generation"], "updateRevision": revision });
        if set["status"]["observedGeneration"] != status["observedGeneration"]
            || set["status"]["updateRevision"] != status["updateRevision"]
        {
            self.kube.patch("statefulsets", SET, &json!({ "status": status }));
        }
        let replicas = set["spec"]["replicas"].as_u64().unwrap() as usize;
        assert!(replicas <= most, "{replicas} pods are more than there are places");
        for ordinal in 0..most {
            let name = format!("{SET}-{ordinal}");
            let there = self.kube.get("pods", &name);
            let is_ending = there.as_ref().is_some_and(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
            match there {
                Some(_) if is_ending || ordinal >= replicas => {
                    self.nodes.kill(ordinal);
                    self.kube.remove("pods", &name);
                }
                None if ordinal < replicas => self.make(ordinal, &name, &revision).await,
                _ => {}
            }
        }
    }

    async fn make(&mut self, ordinal: usize, name: &str, revision: &str) {
        let life = self.lives.lock().unwrap().len();
        let ip = Ipv4Addr::new(127, 90 + self.net, 1 + (life / 200) as u8, 1 + (life % 200) as u8);
        self.nodes.move_to(ordinal, (ip, self.port).into()).await.unwrap();
        let mut made = pod(SET, ordinal, life, ip.into());
        made["metadata"]["labels"]["controller-revision-hash"] = json!(revision);
        self.kube.put("pods", made);
        self.lives.lock().unwrap().push(name.into());
    }
}
