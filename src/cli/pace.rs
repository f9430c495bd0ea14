//! How fast work on keys goes and when it will be done, told now and then: in place on a terminal, elsewhere
//! a line each time. On the standard error when a program reads the standard output.

use super::table::bytes;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often it is told: on a terminal, elsewhere.
const TELL_EVERY: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// Work under way.
pub struct Pace {
    is_json: bool,
    is_terminal: bool,
    /// What is being done: `written`.
    verb: &'static str,
    began: Instant,
    told: Option<Instant>,
    /// How many keys and bytes there are; 0 where nobody knows.
    pub wanted_keys: u64,
    pub wanted_bytes: u64,
    pub keys: u64,
    pub bytes: u64,
}

impl Pace {
    pub fn new(verb: &'static str, is_json: bool) -> Pace {
        let is_terminal = if is_json { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let began = Instant::now();
        let (wanted_keys, wanted_bytes, keys, bytes) = (0, 0, 0, 0);
        Pace { is_json, is_terminal, verb, began, told: None, wanted_keys, wanted_bytes, keys, bytes }
    }

    /// So much more is done.
    pub fn add(&mut self, keys: u64, bytes: u64) {
        self.keys += keys;
        self.bytes += bytes;
        let last = self.told.unwrap_or(self.began);
        if last.elapsed() >= TELL_EVERY[usize::from(!self.is_terminal)] {
            self.told = Some(Instant::now());
            self.say(&self.line());
        }
    }

    fn line(&self) -> String {
        let seconds = self.seconds().max(0.001);
        let mut line = String::new();
        if self.keys > 0 || self.wanted_keys > 0 {
            line += &format!("{} of {} keys, ", self.keys, self.wanted_keys.max(self.keys));
        }
        line += &format!("{}B", bytes(self.bytes));
        if self.wanted_bytes > 0 {
            line += &format!(" of {}B", bytes(self.wanted_bytes));
        }
        line += &format!(" {}, {}B/s", self.verb, bytes((self.bytes as f64 / seconds) as u64));
        let share = if self.wanted_keys > 0 {
            self.keys as f64 / self.wanted_keys as f64
        } else {
            self.bytes as f64 / self.wanted_bytes.max(1) as f64
        };
        if share > 0.0 {
            let left = seconds * (1.0 / share - 1.0);
            line += &format!(", about {:.0} s left", left.max(0.0));
        }
        line
    }

    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// A line that stays.
    pub fn note(&self, text: &str) {
        self.say(text);
        self.close();
    }

    /// Leaves the line that is told in place.
    pub fn end(&self) {
        if self.told.is_some() {
            self.say(&self.line());
            self.close();
        }
    }

    fn close(&self) {
        if self.is_terminal {
            let _ = if self.is_json { writeln!(io::stderr()) } else { writeln!(io::stdout()) };
        }
    }

    /// A reader that went away does not stop the work.
    fn say(&self, line: &str) {
        let (start, end) = if self.is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let line = format!("{start}{line}{end}");
        let _ = if self.is_json {
            io::stderr().write_all(line.as_bytes()).and_then(|()| io::stderr().flush())
        } else {
            io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush())
        };
    }
}
