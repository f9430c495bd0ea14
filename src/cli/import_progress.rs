//! How far an import is, told now and then: in place on a terminal, a line each time elsewhere.

use crate::control::import::Event;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often it is told, on a terminal and elsewhere.
const TELL_EVERY: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

pub struct Progress {
    is_json: bool,
    is_terminal: bool,
    what: &'static str,
    began: Instant,
    told: Instant,
    wanted: u64,
    keys: u64,
    bytes: u64,
    waiting: Option<u64>,
}

impl Progress {
    pub fn new(is_json: bool) -> Progress {
        let is_terminal = if is_json { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let now = Instant::now();
        Progress {
            is_json,
            is_terminal,
            what: "",
            began: now,
            told: now,
            wanted: 0,
            keys: 0,
            bytes: 0,
            waiting: None,
        }
    }

    pub fn hear(&mut self, event: Event) {
        match event {
            Event::Begin { what, keys } => {
                self.end();
                *self = Progress { what, wanted: keys, ..Progress::new(self.is_json) };
                self.say_alone(&format!("Now {what}: about {keys} keys"));
            }
            Event::Step { keys, bytes } => {
                self.keys += keys;
                self.bytes += bytes;
                if self.waiting.is_none() && self.is_due() {
                    self.say(&self.line());
                }
            }
            Event::Following { waiting } => {
                if self.waiting.is_none() {
                    self.end();
                    self.say_alone(
                        "Following the source: every key is copied. Stop the writers, then press Ctrl-C to finish",
                    );
                    self.told = Instant::now();
                }
                let has_caught_up = waiting == 0 && self.waiting.is_none_or(|before| before > 0);
                if self.is_due() || has_caught_up && self.is_terminal {
                    self.say(&format!("Following: {waiting} written keys wait to be copied"));
                }
                self.waiting = Some(waiting);
            }
            Event::Note(text) => self.say_alone(&text),
        }
    }

    /// The last word on the part under way.
    pub fn end(&mut self) {
        if self.keys > 0 && self.waiting.is_none() {
            let took = self.began.elapsed().as_secs_f64();
            self.say_alone(&format!("Finished {}: {} keys in {took:.1} s", self.what, self.keys));
            self.keys = 0;
        }
    }

    fn is_due(&mut self) -> bool {
        let is_due = self.told.elapsed() >= TELL_EVERY[usize::from(!self.is_terminal)];
        if is_due {
            self.told = Instant::now();
        }
        is_due
    }

    fn line(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let rate = self.keys as f64 / seconds;
        let left = self.wanted.saturating_sub(self.keys) as f64 / rate.max(0.001);
        format!(
            "{} of about {} keys, {rate:.0} keys/s, {:.1} MB/s, about {left:.0} s left",
            self.keys,
            self.wanted.max(self.keys),
            self.bytes as f64 / seconds / 1e6
        )
    }

    /// In place on a terminal. A reader that went away does not stop the work.
    fn say(&self, line: &str) {
        let (start, end) = if self.is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let line = format!("{start}{line}{end}");
        let _ = if self.is_json {
            io::stderr().write_all(line.as_bytes()).and_then(|()| io::stderr().flush())
        } else {
            io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush())
        };
    }

    fn say_alone(&self, line: &str) {
        self.say(line);
        if self.is_terminal {
            let _ = if self.is_json { writeln!(io::stderr()) } else { writeln!(io::stdout()) };
        }
    }
}
