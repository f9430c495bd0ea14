//! A cluster whose nodes answer what a test says: for the exact moments that real nodes rarely meet.
//!
//! Who they are and what slots they serve they say by themselves; everything else is the script's.

use super::client::{Client, bulk, request};
use super::gateway::Gateway;
use super::wait_until;
use slotgate::topology::{Slot, SlotRange};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a fake node does about a request.
pub enum Answer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, and then the connection ends.
    Cut(Vec<u8>),
    /// Nothing, ever; later requests of the connection are answered nevertheless.
    Silence,
}

/// The bytes of an answer.
pub fn say(text: impl Into<Vec<u8>>) -> Answer {
    Answer::Bytes(text.into())
}

/// A request that a script is asked about.
pub struct Asked<'a> {
    /// The number of the node that got it.
    pub node: usize,
    /// Its words, joined by one space.
    pub line: &'a str,
    /// How many requests of the same words came before, at all nodes together.
    pub earlier: usize,
    /// The addresses of all nodes.
    pub addrs: &'a [SocketAddr],
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

/// Running fake primaries that divide the slots evenly. They end with this.
pub struct FakeCluster {
    shared: Arc<Shared>,
}

struct Shared {
    addrs: Vec<SocketAddr>,
    script: Box<Script>,
    /// What each node got, in order: its number and the words.
    log: Mutex<Vec<(usize, String)>>,
    /// The text of CLUSTER NODES without the mark `myself`; empty: as at the start.
    nonsense: Mutex<Option<String>>,
    sockets: Mutex<Vec<(usize, TcpStream)>>,
    refused: AtomicUsize,
    /// The nodes that take no new connection: they say this and end it.
    closed: Mutex<Vec<(usize, Vec<u8>)>>,
}

impl FakeCluster {
    /// `count` nodes that follow `script`.
    pub fn start(count: usize, script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> FakeCluster {
        let listeners: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let shared = Arc::new(Shared {
            addrs: listeners.iter().map(|listener| listener.local_addr().unwrap()).collect(),
            script: Box::new(script),
            log: Mutex::default(),
            nonsense: Mutex::default(),
            sockets: Mutex::default(),
            refused: AtomicUsize::new(0),
            closed: Mutex::default(),
        });
        for (node, listener) in listeners.into_iter().enumerate() {
            let shared = shared.clone();
            // Ends with the test process: an idle listener harms nobody.
            thread::spawn(move || {
                for mut stream in listener.incoming().map_while(Result::ok) {
                    let closed = shared.closed.lock().unwrap().iter().find(|(of, _)| *of == node).cloned();
                    if let Some((_, why)) = closed {
                        shared.refused.fetch_add(1, Ordering::Relaxed);
                        let _ = stream.write_all(&why);
                        continue;
                    }
                    shared.sockets.lock().unwrap().push((node, stream.try_clone().unwrap()));
                    let shared = shared.clone();
                    thread::spawn(move || shared.serve(node, stream));
                }
            });
        }
        FakeCluster { shared }
    }

    pub fn addrs(&self) -> &[SocketAddr] {
        &self.shared.addrs
    }

    /// What the nodes got of clients so far: the node's number and the words.
    pub fn log(&self) -> Vec<(usize, String)> {
        self.shared.log.lock().unwrap().clone()
    }

    /// The numbers of the nodes that got this request, in order.
    pub fn got(&self, line: &str) -> Vec<usize> {
        self.log().into_iter().filter(|(_, got)| got == line).map(|(node, _)| node).collect()
    }

    /// From now on the nodes answer CLUSTER NODES with this.
    pub fn talk_nonsense(&self, text: &str) {
        *self.shared.nonsense.lock().unwrap() = Some(text.to_owned());
    }

    /// From now on every new connection to a node gets these bytes and ends.
    pub fn close(&self, node: usize, why: &str) {
        self.shared.closed.lock().unwrap().push((node, why.into()));
    }

    /// New connections are taken again.
    pub fn reopen(&self, node: usize) {
        self.shared.closed.lock().unwrap().retain(|(of, _)| *of != node);
    }

    /// How many connections were not taken, by all nodes together.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Says something on all connections of a node, unasked.
    pub fn shout(&self, node: usize, bytes: &str) {
        for (_, socket) in self.shared.sockets.lock().unwrap().iter_mut().filter(|(of, _)| *of == node) {
            let _ = socket.write_all(bytes.as_bytes());
        }
    }

    /// Ends the connections of a node.
    pub fn cut(&self, node: usize) {
        for (_, socket) in self.shared.sockets.lock().unwrap().iter().filter(|(of, _)| *of == node) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Ends a node: its connections, and every new one.
    pub fn kill(&self, node: usize) {
        self.close(node, "");
        self.cut(node);
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        (0..self.addrs().len()).for_each(|node| self.kill(node));
    }
}

impl Shared {
    fn serve(&self, node: usize, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(words) = read_request(&mut reader) {
            let line = words.join(" ");
            let answer = self.introduce(node, &line).unwrap_or_else(|| {
                let mut log = self.log.lock().unwrap();
                let earlier = log.iter().filter(|(_, got)| *got == line).count();
                log.push((node, line.clone()));
                drop(log);
                (self.script)(&Asked { node, line: &line, earlier, addrs: &self.addrs })
            });
            let is_written = match answer {
                Answer::Bytes(bytes) => stream.write_all(&bytes).is_ok(),
                Answer::Silence => true,
                Answer::Cut(bytes) => {
                    let _ = stream.write_all(&bytes);
                    // All of what was asked is read, so that the end is no reset that takes bytes along.
                    let _ = stream.shutdown(Shutdown::Write);
                    return;
                }
            };
            if !is_written {
                return;
            }
        }
    }

    /// The answers of any node to those who look at it.
    fn introduce(&self, node: usize, line: &str) -> Option<Answer> {
        let text = match line.to_ascii_uppercase().as_str() {
            "CLUSTER MYID" => id(node),
            "CLUSTER INFO" => {
                let count = self.addrs.len();
                format!(
                    "cluster_state:ok\r\ncluster_known_nodes:{count}\r\ncluster_current_epoch:{count}\r\n"
                )
            }
            "CLUSTER NODES" => match &*self.nonsense.lock().unwrap() {
                Some(text) => text.clone(),
                None => self.nodes(node),
            },
            "INFO SERVER" => "# Server\r\nredis_version:7.0.15\r\n".to_owned(),
            // Old nodes do not know it, others need not tell what they are.
            "HELLO 2" => return Some(say("-ERR unknown command\r\n")),
            "COMMAND" => return Some(say("-ERR not told\r\n")),
            "PING" => return Some(say("+PONG\r\n")),
            "SUBSCRIBE SLOTGATE:ANNOUNCEMENTS" => {
                let channel = "$22\r\nslotgate:announcements\r\n";
                return Some(say(format!("*3\r\n$9\r\nsubscribe\r\n{channel}:1\r\n")));
            }
            _ => return None,
        };
        Some(say(bulk(text)))
    }

    fn nodes(&self, myself: usize) -> String {
        let mut text = String::new();
        for (node, addr) in self.addrs.iter().enumerate() {
            let flags = if node == myself { "myself,master" } else { "master" };
            let (port, slots) = (addr.port(), self.slots(node));
            let bus = port.wrapping_add(10000).max(1);
            text += &format!("{} {addr}@{bus} {flags} - 0 0 {} connected {slots}\n", id(node), node + 1);
        }
        text
    }

    fn slots(&self, node: usize) -> SlotRange {
        let count = self.addrs.len();
        let first = |node: usize| (16384 * node / count) as u16;
        SlotRange::new(first(node), first(node + 1) - 1).unwrap()
    }
}

fn id(node: usize) -> String {
    format!("{:040x}", node + 0xfa4e)
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = read_number(reader, '*')?;
    (0..count)
        .map(|_| {
            let mut word = vec![0; read_number(reader, '$')? + 2];
            reader.read_exact(&mut word).ok()?;
            Some(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned())
        })
        .collect()
}

fn read_number(reader: &mut BufReader<TcpStream>, kind: char) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.strip_prefix(kind)?.trim_end().parse().ok()
}

/// A key that node `node` of two serves.
pub fn key_of(node: usize) -> String {
    let is_its = |key: &String| Slot::of_key(key.as_bytes()).index() / 8192 == node;
    (0..).map(|number| format!("k{number}")).find(is_its).unwrap()
}

/// The number of a key's slot.
pub fn slot_of(key: &str) -> usize {
    Slot::of_key(key.as_bytes()).index()
}

/// One worker, connected to all nodes: requests leave at once.
#[track_caller]
pub fn gateway_with(nodes: &FakeCluster, args: &[&str]) -> Gateway {
    let gateway = Gateway::start_with(nodes.addrs(), &[&["--workers", "1"], args].concat());
    let count = nodes.addrs().len() as f64;
    wait_until("it has connected to all nodes", || gateway.metric("slotgate_backends") == count);
    gateway
}

/// The same, which holds requests for two seconds.
#[track_caller]
pub fn gateway_for(nodes: &FakeCluster) -> Gateway {
    gateway_with(nodes, &["--hold", "2s"])
}

/// Sends the lines in one write, so that all of them are under way at once.
pub fn send_together(client: &mut Client, lines: &[&str]) {
    let words = |line: &&str| request(&line.split(' ').collect::<Vec<_>>());
    client.send_raw(lines.iter().flat_map(words).collect::<Vec<u8>>());
}

/// The next reply, as text.
#[track_caller]
pub fn read_text(client: &mut Client) -> String {
    String::from_utf8(client.read()).unwrap()
}
