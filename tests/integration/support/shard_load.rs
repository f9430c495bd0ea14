//! Many clients that know what each of their replies must be.

use super::client::{Client, request};
use super::gateway::Gateway;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the test and its clients tell each other.
#[derive(Default)]
pub struct Load {
    /// The clients are to end.
    pub is_over: AtomicBool,
    /// A primary was killed: its replica may lack what was acknowledged last.
    pub is_lossy: AtomicBool,
    /// Replies read by all clients together.
    pub progress: AtomicU64,
}

impl Load {
    /// Ends the clients when the test fails, so that it does not wait for them.
    pub fn guard(&self) -> impl Drop + '_ {
        struct Guard<'a>(&'a Load);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.is_over.store(true, Ordering::Relaxed);
                }
            }
        }
        Guard(self)
    }

    /// Waits until the clients have read so many replies more.
    #[track_caller]
    pub fn wait_for_progress(&self, count: u64) {
        let now = self.progress.load(Ordering::Relaxed);
        super::wait_until("the clients go on", || {
            assert!(!self.is_over.load(Ordering::Relaxed), "a client has failed");
            self.progress.load(Ordering::Relaxed) >= now + count
        });
    }
}

/// What a client found out.
#[derive(Default, Debug)]
pub struct Tally {
    /// How often a key had fallen back behind what was acknowledged.
    pub fallen_back: u64,
    /// Replies as expected.
    pub right: u64,
    /// Errors that say that the outcome is unknown.
    pub unknown: u64,
    /// Errors that say that the request was not run.
    pub not_run: u64,
}

/// One client with keys of its own, of every type that remembers order, in a pipeline of `depth`
/// requests. Each reply must be the next one of its key, each in its turn.
///
/// An error that says that a request was not run, or that nobody knows, is counted; what its key holds
/// afterwards must be one of the two.
#[track_caller]
pub fn run_ordered_client(gateway: &Gateway, name: &str, depth: usize, load: &Load) -> Tally {
    let _guard = load.guard();
    let mut client = gateway.client();
    let mut keys: Vec<Counter> = (0..8)
        .map(|number| Counter::new(format!("{name}:{number}"), ["INCR", "RPUSH", "APPEND"][number % 3]))
        .collect();
    let (mut tally, mut waiting) = (Tally::default(), VecDeque::new());
    let mut next = 0;
    loop {
        let is_over = load.is_over.load(Ordering::Relaxed);
        if is_over && waiting.is_empty() {
            break;
        }
        if !is_over && waiting.len() < depth {
            let mut batch = Vec::new();
            while waiting.len() < depth {
                let ix = next % keys.len();
                next += 1;
                batch.extend(keys[ix].request());
                waiting.push_back(ix);
            }
            client.send_raw(batch);
        }
        // Half of them, so that the pipeline never runs dry.
        for _ in 0..waiting.len().div_ceil(2) {
            let ix = waiting.pop_front().unwrap();
            let reply = client.read();
            keys[ix].check(&reply, &mut tally, load);
            load.progress.fetch_add(1, Ordering::Relaxed);
        }
    }
    keys.iter().for_each(|key| key.check_end(&mut client, load));
    tally
}

/// A key that grows by one with every request.
struct Counter {
    key: String,
    command: &'static str,
    /// The least and the most that the key may have grown to.
    least: u64,
    most: u64,
}

impl Counter {
    fn new(key: String, command: &'static str) -> Counter {
        Counter { key, command, least: 0, most: 0 }
    }

    fn request(&self) -> Vec<u8> {
        match self.command {
            "INCR" => request(&["INCR", &self.key]),
            command => request(&[command, &self.key, "x"]),
        }
    }

    #[track_caller]
    fn check(&mut self, reply: &[u8], tally: &mut Tally, load: &Load) {
        let text = String::from_utf8_lossy(reply);
        let number = text.strip_prefix(':').and_then(|number| number.trim_end().parse::<u64>().ok());
        match number {
            Some(number) => {
                let expected = self.least + 1..=self.most + 1;
                let has_fallen_back = number <= self.least && load.is_lossy.load(Ordering::Relaxed);
                assert!(
                    expected.contains(&number) || has_fallen_back,
                    "{} {}: {number}, not {expected:?}",
                    self.command,
                    self.key
                );
                tally.fallen_back += u64::from(has_fallen_back);
                (self.least, self.most) = (number, number);
                tally.right += 1;
            }
            None if text.starts_with("-IOERR outcome unknown") => {
                self.most += 1;
                tally.unknown += 1;
            }
            None if text.contains(" not run") => tally.not_run += 1,
            None => panic!("{} {}: {text}", self.command, self.key),
        }
    }

    #[track_caller]
    fn check_end(&self, client: &mut Client, load: &Load) {
        let command = match self.command {
            "INCR" => "GET",
            "RPUSH" => "LLEN",
            _ => "STRLEN",
        };
        let reply = client.call_text(&[command, &self.key]);
        let number = reply.lines().last().unwrap().trim_start_matches(':').parse::<u64>();
        // A key that never grew does not exist.
        let number = number.unwrap_or(0);
        let least = if load.is_lossy.load(Ordering::Relaxed) { 0 } else { self.least };
        assert!(
            (least..=self.most).contains(&number),
            "{command} {}: {number}, not {least}..={}",
            self.key,
            self.most
        );
    }
}
