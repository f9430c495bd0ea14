//! Jobs as nodes tell of them, and whole moves by nodes that answer what is documented.

use super::*;
use crate::backend::Credentials;
use crate::control::action::Party;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

fn reply(jobs: &[&[(&str, &str)]]) -> Reply {
    let bulk = |text: &str| Reply::BulkString(text.to_string().into());
    let job =
        |job: &&[(&str, &str)]| Reply::Array(job.iter().flat_map(|(n, v)| [bulk(n), bulk(v)]).collect());
    Reply::Array(jobs.iter().map(job).collect())
}

fn job(id: &str, state: State, why: &str, retries: u32) -> Job {
    Job { id: id.into(), state, why: why.into(), retries }
}

#[test]
fn the_jobs_of_valkey_are_read() {
    let told = reply(&[
        &[("name", "a"), ("operation", "EXPORT"), ("state", "snapshotting"), ("message", "")],
        &[("name", "b"), ("state", "failed"), ("message", "Connection lost to target")],
        &[("name", "c"), ("state", "success"), ("message", "")],
        &[("name", "d"), ("state", "cancelled"), ("message", "")],
    ]);
    assert_eq!(
        parse_jobs(&told, Dialect::Valkey),
        [
            job("a", State::Active, "snapshotting", 0),
            job("b", State::Failed, "Connection lost to target", 0),
            job("c", State::Done, "success", 0),
            job("d", State::Failed, "cancelled", 0),
        ]
    );
}

#[test]
fn the_jobs_of_redis_are_read_and_one_that_is_tried_again_is_not_over() {
    let told = reply(&[
        &[("id", "a"), ("state", "completed"), ("last_error", ""), ("retries", "0")],
        &[("id", "b"), ("state", "failed"), ("last_error", "timeout"), ("retries", "2")],
        &[("id", "c"), ("state", "canceled"), ("last_error", "by the user"), ("retries", "0")],
    ]);
    assert_eq!(
        parse_jobs(&told, Dialect::Redis),
        [
            job("a", State::Done, "completed", 0),
            job("b", State::Active, "timeout", 2),
            job("c", State::Failed, "by the user", 0),
        ]
    );
}

const SOURCE: &str = "1111111111111111111111111111111111111111";
const TARGET: &str = "2222222222222222222222222222222222222222";

/// Two nodes that log what they are asked: `source` or `target`, and the words. How the nodes answer
/// depends on how often they were asked the same before.
struct Nodes {
    step: Move,
    cluster: Cluster,
    log: Arc<Mutex<Vec<String>>>,
}

type Script = fn(&str, usize) -> Option<&'static str>;

impl Nodes {
    async fn start(script: Script) -> Nodes {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut parties = Vec::new();
        for (name, id) in [("source", SOURCE), ("target", TARGET)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            parties.push(Party { id: id.parse().unwrap(), addr });
            let log = log.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(stream, addr, name, script, log.clone()));
                }
            });
        }
        let ranges = vec![SlotRange::new(0, 2).unwrap(), SlotRange::new(7, 7).unwrap()];
        let cluster = Cluster {
            credentials: Credentials::default(),
            limit: Duration::from_secs(10),
            speed: crate::control::migrate::Speed::default(),
            primaries: Vec::new(),
            replicas: HashMap::new(),
        };
        Nodes { step: Move { source: parties[0], target: parties[1], ranges }, cluster, log }
    }

    async fn carry_out(&self, dialect: Dialect) -> (Outcome, Vec<Event>) {
        let (events, mut heard) = mpsc::channel(16);
        let outcome = carry_out(&self.cluster, &self.step, dialect, &events, &Stop::default()).await.unwrap();
        drop(events);
        let mut all = Vec::new();
        while let Some(event) = heard.recv().await {
            all.push(event);
        }
        (outcome, all)
    }

    fn times(&self, line: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|asked| *asked == line).count()
    }
}

async fn answer(
    stream: TcpStream,
    addr: SocketAddr,
    name: &str,
    script: Script,
    log: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let count: usize = line.trim_end().strip_prefix('*')?.parse().ok()?;
        let mut words = vec![name.to_string()];
        for _ in 0..count {
            line.clear();
            stream.read_line(&mut line).await.ok()?;
            let len: usize = line.trim_end().strip_prefix('$')?.parse().ok()?;
            let mut word = vec![0; len + 2];
            stream.read_exact(&mut word).await.ok()?;
            words.push(String::from_utf8_lossy(&word[..len]).into_owned());
        }
        let asked = words.join(" ");
        let earlier = {
            let mut log = log.lock().unwrap();
            log.push(asked.clone());
            log.iter().filter(|line| **line == asked).count() - 1
        };
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let reply = match asked.as_str() {
            "source CLUSTER NODES" => {
                let me = format!("{SOURCE} {addr}@1 myself,master - 0 0 1 connected 0-2 7\n");
                bulk(&format!("{me}{TARGET} {addr}@1 master - 0 0 2 connected 9-16383\n"))
            }
            "source CLUSTER INFO" => bulk("cluster_state:ok\r\ncluster_known_nodes:2\r\n"),
            asked if asked.starts_with("source CLUSTER COUNTKEYSINSLOT") => ":5\r\n".into(),
            asked => script(asked, earlier).unwrap_or("-ERR nobody expects this\r\n").into(),
        };
        stream.write_all(reply.as_bytes()).await.ok()?;
    }
}

/// What Valkey tells of its only job, called `a` or `b`.
macro_rules! valkey_job {
    ($name:literal, $state:literal, $message:literal, $len:literal) => {
        concat!(
            "*8\r\n$4\r\nname\r\n$1\r\n",
            $name,
            "\r\n$9\r\noperation\r\n$6\r\nEXPORT\r\n",
            "$5\r\nstate\r\n+",
            $state,
            "\r\n$7\r\nmessage\r\n$",
            $len,
            "\r\n",
            $message,
            "\r\n"
        )
    };
}

#[tokio::test]
async fn valkey_is_asked_on_the_source_after_what_it_is_doing_already() {
    let nodes = Nodes::start(|asked, earlier| match (asked, earlier) {
        // A job of somebody else; none; then ours.
        ("source CLUSTER GETSLOTMIGRATIONS", 0) => {
            Some(concat!("*1\r\n", valkey_job!("a", "snapshotting", "", "0")))
        }
        ("source CLUSTER GETSLOTMIGRATIONS", 1 | 2) => {
            Some(concat!("*1\r\n", valkey_job!("a", "success", "", "0")))
        }
        ("source CLUSTER GETSLOTMIGRATIONS", 3 | 4) => Some(concat!(
            "*2\r\n",
            valkey_job!("b", "replicating", "", "0"),
            valkey_job!("a", "success", "", "0")
        )),
        ("source CLUSTER GETSLOTMIGRATIONS", _) => Some(concat!(
            "*2\r\n",
            valkey_job!("b", "success", "", "0"),
            valkey_job!("a", "success", "", "0")
        )),
        (
            "source CLUSTER MIGRATESLOTS SLOTSRANGE 0 2 7 7 NODE 2222222222222222222222222222222222222222",
            0,
        ) => Some("+OK\r\n"),
        _ => None,
    })
    .await;
    let (outcome, events) = nodes.carry_out(Dialect::Valkey).await;
    assert!(matches!(outcome, Outcome::Over));
    assert_eq!(events, [Event::Moved { slots: 4, keys: 20 }]);
    assert_eq!(nodes.times("source CLUSTER GETSLOTMIGRATIONS"), 6);
}

#[tokio::test]
async fn valkey_that_fails_each_time_is_given_up_with_its_reason() {
    let nodes = Nodes::start(|asked, earlier| match (asked, earlier) {
        // Before each attempt it is asked what it knows, and after it what came of it.
        ("source CLUSTER GETSLOTMIGRATIONS", 0..=1) => Some("*0\r\n"),
        ("source CLUSTER GETSLOTMIGRATIONS", 2 | 3) => {
            Some(concat!("*1\r\n", valkey_job!("a", "failed", "no auth", "7")))
        }
        ("source CLUSTER GETSLOTMIGRATIONS", _) => Some(concat!(
            "*2\r\n",
            valkey_job!("b", "failed", "no auth", "7"),
            valkey_job!("a", "failed", "no auth", "7")
        )),
        (asked, 2) if asked.starts_with("source CLUSTER MIGRATESLOTS") => Some("-ERR not now\r\n"),
        (asked, _) if asked.starts_with("source CLUSTER MIGRATESLOTS") => Some("+OK\r\n"),
        _ => None,
    })
    .await;
    let (outcome, events) = nodes.carry_out(Dialect::Valkey).await;
    assert!(matches!(outcome, Outcome::Unable(why) if why == "ERR not now"));
    assert_eq!(events, []);
}

#[tokio::test]
async fn redis_is_asked_on_the_target_and_its_retries_are_bounded() {
    macro_rules! task {
        ($state:literal, $error:literal, $retries:literal) => {
            concat!(
                "*1\r\n*8\r\n$2\r\nid\r\n$4\r\ntask\r\n$5\r\nstate\r\n+",
                $state,
                "\r\n$10\r\nlast_error\r\n+",
                $error,
                "\r\n$7\r\nretries\r\n:",
                $retries,
                "\r\n"
            )
        };
    }
    let script: Script = |asked, earlier| match (asked, earlier) {
        ("target CLUSTER MIGRATION STATUS ALL", 0 | 1) => Some("*0\r\n"),
        ("target CLUSTER MIGRATION STATUS ALL", 2) => Some(task!("streaming-buffer", "", "0")),
        ("target CLUSTER MIGRATION STATUS ALL", 3) => Some(task!("failed", "link broke", "1")),
        ("target CLUSTER MIGRATION STATUS ALL", _) => Some(task!("completed", "", "1")),
        ("target CLUSTER MIGRATION IMPORT 0 2 7 7", 0) => Some("$4\r\ntask\r\n"),
        _ => None,
    };
    let nodes = Nodes::start(script).await;
    let (outcome, events) = nodes.carry_out(Dialect::Redis).await;
    assert!(matches!(outcome, Outcome::Over));
    assert_eq!(events, [Event::Moved { slots: 4, keys: 20 }]);

    let nodes = Nodes::start(|asked, earlier| match (asked, earlier) {
        ("target CLUSTER MIGRATION STATUS ALL", 0 | 1) => Some("*0\r\n"),
        ("target CLUSTER MIGRATION STATUS ALL", 2) => Some(task!("failed", "link broke", "3")),
        ("target CLUSTER MIGRATION STATUS ALL", _) => Some(task!("canceled", "link broke", "3")),
        ("target CLUSTER MIGRATION IMPORT 0 2 7 7", 0) => Some("$4\r\ntask\r\n"),
        ("target CLUSTER MIGRATION CANCEL ID task", 0) => Some(":1\r\n"),
        _ => None,
    })
    .await;
    let (outcome, _) = nodes.carry_out(Dialect::Redis).await;
    assert_eq!(nodes.times("target CLUSTER MIGRATION CANCEL ID task"), 1);
    assert!(matches!(outcome, Outcome::Unable(_)));
}
