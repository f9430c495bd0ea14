//! The refresh against scripted nodes: what it asks, believes, publishes and keeps.

use super::*;
use crate::topology::{SLOTS, Slot};
use bytes::BytesMut;
use redis_protocol::resp2::{
    decode::decode_bytes_mut,
    types::{BytesFrame, Resp2Frame as _},
};
use std::sync::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A node that answers `CLUSTER NODES` with a text that the test may change.
#[derive(Clone)]
struct FakeNode {
    addr: SocketAddr,
    nodes: Arc<Mutex<String>>,
}

impl FakeNode {
    async fn start() -> FakeNode {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = FakeNode { addr: listener.local_addr().unwrap(), nodes: Arc::default() };
        let served = node.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(served.clone().serve(stream));
            }
        });
        node
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut received = BytesMut::new();
        while stream.read_buf(&mut received).await.is_ok_and(|len| len > 0) {
            while let Ok(Some((BytesFrame::Array(words), ..))) = decode_bytes_mut(&mut received) {
                let word =
                    |ix: usize| words.get(ix).and_then(|word: &BytesFrame| word.as_str().map(str::to_owned));
                let text = match (word(0).as_deref(), word(1).as_deref()) {
                    (Some("CLUSTER"), Some("NODES")) => self.nodes.lock().unwrap().clone(),
                    (Some("CLUSTER"), Some("INFO")) => "cluster_state:ok\r\n".into(),
                    (Some("COMMAND"), _) => String::new(),
                    (Some("INFO"), _) => "redis_version:7.0.15\r\n".into(),
                    _ => return,
                };
                let reply =
                    if text.is_empty() { "*0\r\n".into() } else { format!("${}\r\n{text}\r\n", text.len()) };
                if stream.write_all(reply.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }

    /// It says that it owns `slots`, and knows these others with theirs.
    fn say(&self, slots: &str, others: &[(&FakeNode, &str)]) {
        let line = |node: &FakeNode, flags: &str, slots: &str| {
            let port = node.addr.port();
            format!("{port:040} 127.0.0.1:{port}@0 {flags} - 0 0 {port} connected {slots}\n")
        };
        let mut text = line(self, "myself,master", slots);
        text.extend(others.iter().map(|(node, slots)| line(node, "master", slots)));
        *self.nodes.lock().unwrap() = text;
    }
}

struct Running {
    shared: Arc<SharedTopology>,
    status: Arc<RefreshStatus>,
    learned: oneshot::Receiver<Learned>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start(config: Config) -> Running {
    let (shared, status) = (Arc::new(SharedTopology::default()), Arc::new(RefreshStatus::default()));
    let (sender, learned) = oneshot::channel();
    let task =
        tokio::spawn(run(config, shared.clone(), status.clone(), Some(sender), std::future::pending()));
    Running { shared, status, learned, task }
}

/// Seeds only, and no periodic look within the time of a test.
fn config(seeds: &[&FakeNode]) -> Config {
    let seeds = seeds.iter().map(|node| node.addr.into()).collect();
    Config { seeds, refresh: Duration::from_secs(3600), ..Config::default() }
}

async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = timeout(Duration::from_secs(30), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not within 30 s: {what}"));
}

fn owner(shared: &SharedTopology, slot: u16) -> Option<SocketAddr> {
    shared.load().primary_of(Slot::new(slot).unwrap()).map(|node| node.addr)
}

async fn two_nodes() -> (FakeNode, FakeNode) {
    let (one, two) = (FakeNode::start().await, FakeNode::start().await);
    one.say("0-8191", &[(&two, "8192-16383")]);
    two.say("8192-16383", &[(&one, "0-8191")]);
    (one, two)
}

#[tokio::test]
async fn one_seed_leads_to_the_whole_cluster_and_its_commands() {
    let (one, two) = two_nodes().await;
    let mut running = start(config(&[&one]));
    wait_for("all slots covered", || running.shared.load().covered() == SLOTS).await;
    assert_eq!((owner(&running.shared, 0), owner(&running.shared, 16383)), (Some(one.addr), Some(two.addr)));
    let learned = (&mut running.learned).await.unwrap();
    assert_eq!((&*learned.commands, learned.server.as_deref()), (&b"*0\r\n"[..], Some("redis 7.0.15")));
    assert!(running.status.endpoints().iter().all(|(_, status)| status.answered_at.is_some()));
    assert_eq!(running.status.endpoints().len(), 2);
}

#[tokio::test]
async fn a_hint_makes_it_look_at_once() {
    let (one, two) = two_nodes().await;
    let running = start(config(&[&one]));
    wait_for("all slots covered", || running.shared.load().covered() == SLOTS).await;
    one.say("1-8191", &[(&two, "0 8192-16383")]);
    two.say("0 8192-16383", &[(&one, "1-8191")]);
    running.shared.hint_stale();
    wait_for("slot 0 moved", || owner(&running.shared, 0) == Some(two.addr)).await;
}

#[tokio::test]
async fn when_nobody_answers_the_topology_stays_and_the_trouble_is_told() {
    let (one, two) = two_nodes().await;
    let running = start(config(&[&one]));
    wait_for("all slots covered", || running.shared.load().covered() == SLOTS).await;
    one.nodes.lock().unwrap().clear();
    two.nodes.lock().unwrap().clear();
    running.shared.hint_stale();
    wait_for("trouble", || running.status.trouble().is_some()).await;
    assert_eq!(running.shared.load().covered(), SLOTS);
    one.say("0-16383", &[(&two, "")]);
    wait_for("the trouble is over", || running.status.trouble().is_none()).await;
    assert_eq!(owner(&running.shared, 16383), Some(one.addr));
}

#[tokio::test]
async fn a_strange_cluster_at_a_known_address_is_not_believed() {
    let (one, two) = two_nodes().await;
    let running = start(config(&[&one]));
    wait_for("all slots covered", || running.shared.load().covered() == SLOTS).await;
    let stranger = FakeNode::start().await;
    stranger.say("0-16383", &[]);
    // Its address was given to a node of another cluster; the seed is gone.
    *two.nodes.lock().unwrap() = stranger.nodes.lock().unwrap().clone();
    one.nodes.lock().unwrap().clear();
    running.shared.hint_stale();
    wait_for("trouble", || running.status.trouble().is_some()).await;
    assert_eq!(owner(&running.shared, 16383), Some(two.addr));
}

#[tokio::test]
async fn a_seed_that_leads_to_another_cluster_is_not_followed() {
    let (one, two) = two_nodes().await;
    let running = start(config(&[&one]));
    wait_for("all slots covered", || running.shared.load().covered() == SLOTS).await;
    let stranger = FakeNode::start().await;
    stranger.say("0-16383", &[]);
    *one.nodes.lock().unwrap() = stranger.nodes.lock().unwrap().clone();
    two.nodes.lock().unwrap().clear();
    running.shared.hint_stale();
    wait_for("trouble", || {
        running.status.trouble().is_some_and(|trouble| trouble.contains("another cluster"))
    })
    .await;
    assert_eq!(owner(&running.shared, 16383), Some(two.addr));
    one.say("0-16383", &[(&two, "")]);
    wait_for("the cluster is back", || owner(&running.shared, 16383) == Some(one.addr)).await;
}

#[tokio::test]
async fn a_seed_file_that_changes_is_read_again() {
    let (one, _two) = two_nodes().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seeds");
    let running = start(Config { seed_file: Some(path.clone()), ..config(&[]) });
    wait_for("trouble", || running.status.trouble().is_some()).await;
    std::fs::write(&path, format!("{} # the first\n", one.addr)).unwrap();
    wait_for("all slots covered", || running.shared.load().covered() == SLOTS).await;
}

#[tokio::test]
async fn a_seed_that_cannot_be_looked_up_is_told_and_the_others_serve() {
    let (one, _two) = two_nodes().await;
    let mut config = config(&[&one]);
    config.seeds.push("no-such-host.invalid:6379".parse().unwrap());
    let running = start(config);
    wait_for("all slots covered", || running.shared.load().covered() == SLOTS).await;
    assert_eq!(running.status.seed_errors().len(), 1);
}
