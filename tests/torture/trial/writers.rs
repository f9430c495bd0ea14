//! Clients at work: each asks, reads, and notes what it was told.
//!
//! Plain clients: one address at a time, pipelined or not, to the next gateway when a connection ends. They
//! judge nothing.

use super::client::{Client, request};
use super::history::{Deed, Key, Kind, Op, Outcome, Value};
use std::io::Write as _;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a client that found no gateway waits before it tries the next one.
const RECONNECT: Duration = Duration::from_millis(10);
/// The longest pause between two pipelines: clients that never pause would only measure the machine.
const PAUSE: Duration = Duration::from_millis(3);

/// What all writers share.
struct Shared {
    began: Instant,
    gateways: Vec<SocketAddr>,
    keys: Vec<Key>,
    is_over: AtomicBool,
    /// Clients end connections of their own accord, with requests on them.
    hangs_up: AtomicBool,
    replies: AtomicU64,
}

/// Running clients.
pub struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<Op>>>,
}

impl Writers {
    /// So many clients on these keys; client `n` begins at gateway `n` modulo their number, and every other
    /// one sends pipelines. Register `n` is written by client `n` alone.
    pub fn start(gateways: &[SocketAddr], keys: &[Key], clients: u32, seed: u64) -> Writers {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            gateways: gateways.to_vec(),
            keys: keys.to_vec(),
            is_over: AtomicBool::new(false),
            hangs_up: AtomicBool::new(false),
            replies: AtomicU64::new(0),
        });
        let start = |number| {
            let writer = Writer::new(number, seed, shared.clone());
            thread::spawn(move || writer.run())
        };
        Writers { threads: (0..clients).map(start).collect(), shared }
    }

    /// The time as the history counts it.
    pub fn now(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// Replies that came so far.
    pub fn replies(&self) -> u64 {
        self.shared.replies.load(Ordering::Relaxed)
    }

    /// Lets clients end connections of their own accord, or no more.
    pub fn hang_up(&self, does: bool) {
        self.shared.hangs_up.store(does, Ordering::Relaxed);
    }

    /// Ends them once they have read what they wait for.
    pub fn stop(self) -> Vec<Op> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("a client ended badly")).collect()
    }
}

struct Writer {
    number: u32,
    random: fastrand::Rng,
    shared: Arc<Shared>,
    registers: Vec<usize>,
    session: u32,
    order: u32,
    ops: Vec<Op>,
}

impl Writer {
    fn new(number: u32, seed: u64, shared: Arc<Shared>) -> Writer {
        let is_register = |ix: &usize| shared.keys[*ix].kind == Kind::Register;
        let registers = (0..shared.keys.len()).filter(is_register).collect();
        let random = fastrand::Rng::with_seed(seed ^ u64::from(number) << 32);
        Writer { number, random, shared, registers, session: 0, order: 0, ops: Vec::new() }
    }

    fn run(mut self) -> Vec<Op> {
        let mut client: Option<Client> = None;
        let mut gateway = self.number as usize;
        while !self.shared.is_over.load(Ordering::Relaxed) {
            let Some(connected) = &mut client else {
                gateway += usize::from(self.session > 0);
                client = Client::try_connect(self.shared.gateways[gateway % self.shared.gateways.len()]);
                self.session += 1;
                if client.is_none() {
                    thread::sleep(RECONNECT);
                }
                continue;
            };
            if self.send_pipeline(connected).is_none() {
                client = None;
            }
            thread::sleep(PAUSE.mul_f64(self.random.f64()));
        }
        self.ops
    }

    /// Sends requests and reads their replies; `None` when the connection ended.
    fn send_pipeline(&mut self, client: &mut Client) -> Option<()> {
        let depth = if self.number.is_multiple_of(2) { 1 } else { self.random.usize(1..=16) };
        let first = self.ops.len();
        let mut bytes = Vec::new();
        let sent = self.shared.began.elapsed();
        for _ in 0..depth {
            let op = self.choose(sent);
            bytes.extend(encode(&op, &self.shared.keys[op.key].name));
            self.ops.push(op);
        }
        let mut is_open = client.stream().write_all(&bytes).is_ok();
        if self.shared.hangs_up.load(Ordering::Relaxed) && self.random.u8(..) < 10 {
            // Either cleanly or in the middle of it all.
            let how = if self.random.bool() { Shutdown::Both } else { Shutdown::Read };
            is_open = client.stream().shutdown(how).is_err();
        }
        for ix in first..self.ops.len() {
            let reply =
                if is_open { client.try_read() } else { Err(std::io::ErrorKind::NotConnected.into()) };
            let op = &mut self.ops[ix];
            op.ended = self.shared.began.elapsed();
            match reply {
                Ok(reply) => op.outcome = decode(op.deed, &reply),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    op.outcome = Outcome::Strange("no reply came".into());
                    is_open = false;
                }
                Err(_) => is_open = false,
            }
            self.shared.replies.fetch_add(u64::from(is_open), Ordering::Relaxed);
        }
        is_open.then_some(())
    }

    fn choose(&mut self, sent: Duration) -> Op {
        let mut key = self.random.usize(..self.shared.keys.len());
        let mut deed = Deed::Add;
        if self.shared.keys[key].kind == Kind::Register {
            deed = if self.random.bool() { Deed::Set } else { Deed::Get };
            if deed == Deed::Set {
                key = self.registers[self.number as usize % self.registers.len()];
            }
        }
        let value = Value { client: self.number, order: self.order };
        self.order += 1;
        Op { value, session: self.session, key, deed, sent, ended: sent, outcome: Outcome::Cut }
    }
}

fn encode(op: &Op, key: &str) -> Vec<u8> {
    let value = op.value.to_string();
    match (op.deed, key.rsplit(':').next()) {
        (Deed::Get, _) => request(&["GET", key]),
        (Deed::Set, _) => request(&["SET", key, &value]),
        (Deed::Add, Some("counter")) => request(&["INCR", key]),
        (Deed::Add, Some("list")) => request(&["RPUSH", key, &value]),
        (Deed::Add, _) => request(&["APPEND", key, &format!("{value};")]),
    }
}

/// What a reply says of its request.
fn decode(deed: Deed, reply: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(reply);
    let text = text.trim_end();
    let read = match (deed, text.as_bytes().first()) {
        (Deed::Add, Some(b':')) => text[1..].parse().ok().map(Outcome::Grown),
        (Deed::Set, _) if text == "+OK" => Some(Outcome::Stored),
        (Deed::Get, _) if text == "$-1" => Some(Outcome::Read(None)),
        (Deed::Get, Some(b'$')) => {
            let body = text.split_once("\r\n").map(|(_, body)| body.parse());
            body.and_then(Result::ok).map(|value| Outcome::Read(Some(value)))
        }
        (_, Some(b'-')) if text.starts_with("-IOERR outcome unknown") => Some(Outcome::Unknown(text.into())),
        (_, Some(b'-')) if text.contains(" not run") || text.contains("shutting down") => {
            Some(Outcome::Refused(text.into()))
        }
        _ => None,
    };
    read.unwrap_or_else(|| Outcome::Strange(text.into()))
}
