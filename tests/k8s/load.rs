//! Plain clients at a constant pace: each writes and reads keys of its own and knows what must be there.
//!
//! A client whose connection ends connects again, to the next machine's address if this one does not answer,
//! and at the end reads every key that it wrote.

use crate::tally::{Event, Lost, Tally, Trouble};
use crate::wire::Client;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::io::{BufRead as _, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
/// Registers of one client: they lie in all shards.
const KEYS: usize = 40;
/// Between two requests of one client. More would only measure the machines.
const PACE: Duration = Duration::from_millis(20);
const CONNECT: Duration = Duration::from_secs(2);
/// How long a client tries to read at the end what it wrote.
const LAST_TRY: Duration = Duration::from_secs(60);

pub struct Load {
    is_over: Arc<AtomicBool>,
    /// Good replies of each client.
    replies: Arc<[AtomicUsize; CLIENTS]>,
    clients: Vec<JoinHandle<Result<Tally>>>,
}

impl Load {
    /// Clients at these doors in turn; each waits `patience` for a reply.
    pub fn start(doors: &[SocketAddr], patience: Duration) -> Result<Load> {
        let (is_over, replies) =
            (Arc::new(AtomicBool::new(false)), Arc::new([const { AtomicUsize::new(0) }; CLIENTS]));
        // Keys of its own: a load before it may have written under its clients' numbers.
        let name: u32 = fastrand::u32(..);
        let start = |number| {
            let (is_over, replies) = (is_over.clone(), replies.clone());
            let mut worker = Worker::new(format!("load:{name:08x}:{number}"), number, doors, patience);
            thread::spawn(move || worker.run(&is_over, &replies[number]).map(|()| worker.tally))
        };
        let load = Load { clients: (0..CLIENTS).map(start).collect(), is_over, replies };
        load.go_on(30)?;
        Ok(load)
    }

    /// Waits until every client has got so many good replies more: what comes next happens to clients that
    /// are at work, or what was before is over for all of them.
    pub fn go_on(&self, replies: usize) -> Result<()> {
        let count = |client: &AtomicUsize| client.load(Ordering::Relaxed);
        let (from, end): (Vec<usize>, _) =
            (self.replies.iter().map(count).collect(), Instant::now() + Duration::from_secs(180));
        for (client, from) in self.replies.iter().zip(from) {
            while count(client) < from + replies {
                anyhow::ensure!(Instant::now() < end, "a client gets no replies");
                sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Ends the load, a moment after the last fault, and reads everything back.
    pub fn stop(self) -> Result<Tally> {
        self.go_on(30)?;
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for client in self.clients {
            all.add(client.join().ok().context("a client's thread ended badly")??);
        }
        Ok(all)
    }
}

/// What a register may hold: what was acknowledged last, or something of unknown outcome after it.
#[derive(Default)]
struct Standing {
    acknowledged: Option<(u64, Instant)>,
    unknown: Vec<u64>,
}

struct Worker {
    /// What its keys begin with.
    name: String,
    number: usize,
    doors: Vec<SocketAddr>,
    door: usize,
    patience: Duration,
    client: Option<Client>,
    standing: BTreeMap<usize, Standing>,
    /// The counter is between these, the second one more for each unknown outcome.
    count: (u64, u64),
    counted: Instant,
    tally: Tally,
}

impl Worker {
    fn new(name: String, number: usize, doors: &[SocketAddr], patience: Duration) -> Worker {
        Worker {
            name,
            number,
            doors: doors.to_vec(),
            door: number,
            patience,
            client: None,
            standing: BTreeMap::new(),
            count: (0, 0),
            counted: Instant::now(),
            tally: Tally::default(),
        }
    }

    fn run(&mut self, is_over: &AtomicBool, replies: &AtomicUsize) -> Result<()> {
        let mut round = 0u64;
        while !is_over.load(Ordering::Relaxed) {
            round += 1;
            let key = fastrand::usize(..KEYS);
            let is_answered = match round % 4 {
                0 => self.add(),
                1 | 2 => self.set(key, round),
                _ => self.get(key),
            };
            replies.fetch_add(usize::from(is_answered), Ordering::Relaxed);
            sleep(PACE);
        }
        self.read_back()
    }

    fn register(&self, key: usize) -> String {
        format!("{}:{key}", self.name)
    }

    fn set(&mut self, key: usize, value: u64) -> bool {
        let is_done = self.ask(&["SET", &self.register(key), &value.to_string()]).as_deref() == Some("+OK");
        let standing = self.standing.entry(key).or_default();
        if is_done {
            *standing = Standing { acknowledged: Some((value, Instant::now())), unknown: Vec::new() };
        } else {
            standing.unknown.push(value);
        }
        is_done
    }

    /// Reads a register, and accounts for what is missing.
    fn get(&mut self, key: usize) -> bool {
        let name = self.register(key);
        let Some(said) = self.ask(&["GET", &name]) else { return false };
        let found = said.split_once("\r\n").and_then(|(_, body)| body.parse::<u64>().ok());
        let standing = self.standing.entry(key).or_default();
        let is_unknown = found.is_some_and(|found| standing.unknown.contains(&found));
        if let Some((value, acknowledged)) = standing.acknowledged
            && found != Some(value)
            && !is_unknown
        {
            self.tally.lost.push(Lost { key: name, acknowledged });
            // Once is enough.
            standing.acknowledged = found.map(|found| (found, Instant::now()));
        }
        true
    }

    fn add(&mut self) -> bool {
        let key = format!("{}:counter", self.name);
        let said = self.ask(&["INCR", &key]);
        match said.as_deref().and_then(|said| said.strip_prefix(':')?.parse::<u64>().ok()) {
            Some(count) => self.counted(key, count, 1),
            None => self.count.1 += 1,
        }
        said.is_some()
    }

    /// Compares the counter with what it may be, `more` added to it just now.
    fn counted(&mut self, key: String, count: u64, more: u64) {
        let (least, most) = (self.count.0 + more, self.count.1 + more);
        for _ in count..least {
            self.tally.lost.push(Lost { key: key.clone(), acknowledged: self.counted });
        }
        self.tally.twice += count.saturating_sub(most);
        (self.count, self.counted) = ((count, count), Instant::now());
    }

    /// All that was written, once the faults are over.
    fn read_back(&mut self) -> Result<()> {
        let end = Instant::now() + LAST_TRY;
        let keys: Vec<usize> = self.standing.keys().copied().collect();
        for key in keys {
            while !self.get(key) {
                anyhow::ensure!(Instant::now() < end, "{} cannot be read at the end", self.register(key));
                sleep(PACE);
            }
            self.tally.verified += 1;
        }
        let key = format!("{}:counter", self.name);
        let count = loop {
            match self.ask(&["GET", &key]) {
                Some(said) => {
                    break said.split_once("\r\n").and_then(|(_, body)| body.parse().ok()).unwrap_or(0);
                }
                None => anyhow::ensure!(Instant::now() < end, "{key} cannot be read at the end"),
            }
            sleep(PACE);
        };
        self.counted(key, count, 0);
        self.tally.verified += 1;
        Ok(())
    }

    /// One request and its reply without its last line end; anything but a good reply is noted.
    fn ask(&mut self, words: &[&str]) -> Option<String> {
        if self.client.is_none() {
            self.connect()?;
        }
        let client = self.client.as_mut()?;
        let sent = Instant::now();
        let said = client.try_call_or_close(words);
        self.tally.requests += 1;
        self.tally.longest = self.tally.longest.max(sent.elapsed());
        let trouble = match said {
            Ok(Some(reply)) => {
                let reply = String::from_utf8_lossy(&reply).trim_end().to_string();
                if !reply.starts_with('-') {
                    return Some(reply);
                }
                let is_unknown = reply.starts_with("-IOERR outcome unknown");
                self.note(if is_unknown { Trouble::Unknown(reply) } else { Trouble::Error(reply) });
                return None;
            }
            Ok(None) => Trouble::Closed,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Trouble::Silent
            }
            Err(error) => Trouble::Cut(error.to_string()),
        };
        self.note(trouble);
        self.client = None;
        None
    }

    fn connect(&mut self) -> Option<()> {
        let door = self.doors[self.door % self.doors.len()];
        match TcpStream::connect_timeout(&door, CONNECT) {
            Ok(stream) => {
                let client = Client::of(stream);
                client.set_patience(self.patience);
                self.client = Some(client);
                Some(())
            }
            Err(error) => {
                self.note(Trouble::Unreachable(format!("{door}: {error}")));
                self.door += 1;
                None
            }
        }
    }

    fn note(&mut self, trouble: Trouble) {
        self.tally.events.push(Event { at: Instant::now(), client: self.number, trouble });
    }
}

impl Client {
    /// One request and one reply; `None` if the connection was closed before a byte of it.
    fn try_call_or_close(&mut self, words: &[&str]) -> std::io::Result<Option<Vec<u8>>> {
        // What was closed while nothing was asked is not written to: it would answer with a reset.
        self.stream().set_nonblocking(true)?;
        let is_closed = matches!(self.stream().peek(&mut [0]), Ok(0));
        self.stream().set_nonblocking(false)?;
        if is_closed {
            return Ok(None);
        }
        self.stream().write_all(&crate::wire::request(words))?;
        if self.reader().fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.try_read().map(Some)
    }
}
