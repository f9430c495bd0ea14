//! Clients at work: each writes one key, knows what the reply must be, and notes how long it took.

use crate::client::Client;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What a client does all the time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Counts up: nothing may be lost, nothing counted twice.
    Count,
    /// Sets and gets: harmless to repeat, so it must never fail while it may be held.
    Register,
}

/// The reply for a key that does not exist.
const ABSENT: &str = "$-1";

/// One request, when it was sent and how long its reply took.
#[derive(Clone, Copy)]
pub struct Sample {
    pub sent: Instant,
    pub took: Duration,
}

/// What one client saw.
pub struct Record {
    pub shard: usize,
    pub samples: Vec<Sample>,
    pub errors: Vec<String>,
    /// Counts whose outcome nobody knows, and the client was told so.
    pub unknown: u64,
    /// Acknowledged, and not there any more.
    pub lost: u64,
    /// There more often than asked for.
    pub twice: u64,
}

pub struct Load {
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Record>>,
}

impl Load {
    /// So many clients for each of the keys, which are of one shard each; each sends as fast as it is answered.
    pub fn start(gateway: SocketAddr, keys: &[String], each: usize) -> Load {
        Load::paced(gateway, keys, each, Duration::ZERO)
    }

    /// The same, with a pause after each reply.
    pub fn paced(gateway: SocketAddr, keys: &[String], each: usize, pause: Duration) -> Load {
        let is_over = Arc::new(AtomicBool::new(false));
        let clients = keys.iter().enumerate().flat_map(|(shard, key)| {
            let is_over = is_over.clone();
            (0..each).map(move |number| {
                let work = if number % 2 == 0 { Work::Count } else { Work::Register };
                // Same slot, as the whole key is the tag.
                let (key, is_over) = (format!("{{{key}}}{number}"), is_over.clone());
                thread::spawn(move || run(gateway, shard, &key, (work, pause), &is_over))
            })
        });
        let clients = clients.collect();
        Load { is_over, clients }
    }

    pub fn stop(self) -> Vec<Record> {
        self.is_over.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().expect("a client's thread ended badly")).collect()
    }
}

fn run(
    gateway: SocketAddr,
    shard: usize,
    key: &str,
    (work, pause): (Work, Duration),
    is_over: &AtomicBool,
) -> Record {
    let mut record = Record { shard, samples: Vec::new(), errors: Vec::new(), unknown: 0, lost: 0, twice: 0 };
    let mut client = None;
    // The counter is between these two, the second one more for every unknown outcome.
    let (mut least, mut most) = (0u64, 0u64);
    // What the register may hold: the last value that was acknowledged, or one of unknown outcome after it. At
    // first there is none.
    let mut standing = vec![ABSENT.to_string()];
    let mut round = 0u64;
    while !is_over.load(Ordering::Relaxed) {
        let Some(connection) = &mut client else {
            match Client::connect(gateway) {
                Ok(connection) => client = Some(connection),
                Err(error) => {
                    record.errors.push(format!("{error:#}"));
                    thread::sleep(Duration::from_millis(50));
                }
            }
            continue;
        };
        round += 1;
        let value = round.to_string();
        let sent = Instant::now();
        let reply = match work {
            Work::Count => connection.call(&["INCR", key]),
            Work::Register if round.is_multiple_of(2) => connection.call(&["GET", key]),
            Work::Register => connection.call(&["SET", key, &value]),
        };
        record.samples.push(Sample { sent, took: sent.elapsed() });
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        match reply {
            Err(error) => {
                record.errors.push(format!("{error:#}"));
                client = None;
                most += 1;
                standing.push(value);
            }
            Ok(reply) if reply.starts_with("-IOERR outcome unknown") => {
                record.unknown += 1;
                most += 1;
                standing.push(value);
            }
            Ok(reply) if reply.starts_with('-') => record.errors.push(reply),
            Ok(reply) if work == Work::Count => match reply.strip_prefix(':').and_then(|n| n.parse().ok()) {
                Some(count) => {
                    record.lost += (least + 1).saturating_sub(count);
                    record.twice += u64::saturating_sub(count, most + 1);
                    (least, most) = (count, count);
                }
                None => record.errors.push(reply),
            },
            Ok(reply) if round.is_multiple_of(2) => {
                record.lost += u64::from(!standing.contains(&reply));
            }
            Ok(_) => standing = vec![value],
        }
    }
    record
}

/// What several clients saw together.
pub struct Tally {
    pub requests: usize,
    pub errors: Vec<String>,
    pub unknown: u64,
    pub lost: u64,
    pub twice: u64,
    pub longest: Duration,
}

impl Tally {
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Tally {
        let mut tally =
            Tally { requests: 0, errors: Vec::new(), unknown: 0, lost: 0, twice: 0, longest: Duration::ZERO };
        for record in records {
            tally.requests += record.samples.len();
            tally.errors.extend(record.errors.iter().cloned());
            tally.unknown += record.unknown;
            tally.lost += record.lost;
            tally.twice += record.twice;
            let longest = record.samples.iter().map(|sample| sample.took).max();
            tally.longest = tally.longest.max(longest.unwrap_or_default());
        }
        tally
    }

    /// In a few words, with the first error if there is one.
    pub fn words(&self) -> String {
        let mut words = format!("{} errors in {}", self.errors.len(), self.requests);
        if let Some(error) = self.errors.first() {
            words.push_str(&format!(" ({error})"));
        }
        words
    }
}

/// The time below which 99 of 100 replies came, of requests sent within the spans.
pub fn p99<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    spans: &[(Instant, Instant)],
) -> Option<Duration> {
    let is_in = |sample: &Sample| spans.iter().any(|(from, to)| sample.sent >= *from && sample.sent < *to);
    let mut times: Vec<Duration> = records
        .into_iter()
        .flat_map(|record| record.samples.iter().filter(|sample| is_in(sample)).map(|sample| sample.took))
        .collect();
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * 99 / 100).copied()
}
