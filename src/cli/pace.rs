//! How fast work on slots and keys goes and when it will be done, told now and then: in place on a terminal, elsewhere
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
    pub slots: Amount,
    pub keys: Amount,
    pub bytes: Amount,
}

/// How much is done, and how much there is to do; 0 where nobody knows.
#[derive(Clone, Copy, Default)]
pub struct Amount {
    pub done: u64,
    pub wanted: u64,
}

impl Pace {
    pub fn new(verb: &'static str, is_json: bool) -> Pace {
        let is_terminal = if is_json { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let (slots, keys, bytes) = Default::default();
        Pace { is_json, is_terminal, verb, began: Instant::now(), told: None, slots, keys, bytes }
    }

    /// Begins anew, with other work.
    pub fn restart(&mut self, verb: &'static str) {
        *self = Pace::new(verb, self.is_json);
    }

    /// So much more is done; told when it is time.
    pub fn add(&mut self, keys: u64, bytes: u64) {
        self.add_slots(0, keys, bytes);
    }

    /// As [`Pace::add`], with slots.
    pub fn add_slots(&mut self, slots: u64, keys: u64, bytes: u64) {
        self.slots.done += slots;
        self.keys.done += keys;
        self.bytes.done += bytes;
        if self.is_due() {
            self.say(&self.line());
        }
    }

    /// Whether it is time to tell something; asked once for each time.
    pub fn is_due(&mut self) -> bool {
        let last = self.told.unwrap_or(self.began);
        let is_due = last.elapsed() >= TELL_EVERY[usize::from(!self.is_terminal)];
        if is_due {
            self.told = Some(Instant::now());
        }
        is_due
    }

    /// Whether lines are told in place.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    fn line(&self) -> String {
        let seconds = self.seconds().max(0.001);
        let number = |number: u64, unit: &str| match unit {
            "B" => format!("{}B", bytes(number)),
            _ => format!("{number} {unit}"),
        };
        let known = [(self.slots, "slots"), (self.keys, "keys"), (self.bytes, "B")];
        let known = || known.iter().filter(|(amount, _)| amount.done > 0 || amount.wanted > 0);
        let done = known().map(|(Amount { done, wanted }, unit)| match (*wanted, *unit) {
            (0, unit) => number(*done, unit),
            (wanted, "B") => format!("{} of {}", number(*done, "B"), number(wanted.max(*done), "B")),
            (wanted, unit) => format!("{done} of {} {unit}", wanted.max(*done)),
        });
        let rates = known()
            .map(|(amount, unit)| format!("{}/s", number((amount.done as f64 / seconds) as u64, unit)));
        let mut line = format!("{} {}", done.collect::<Vec<_>>().join(", "), self.verb);
        for rate in rates {
            line += &format!(", {rate}");
        }
        let share = known().find(|(amount, _)| amount.wanted > 0);
        let share = share.map_or(0.0, |(amount, _)| amount.done as f64 / amount.wanted as f64);
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

    /// In place on a terminal. A reader that went away does not stop the work.
    pub fn say(&self, line: &str) {
        let (start, end) = if self.is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let line = format!("{start}{line}{end}");
        let _ = if self.is_json {
            io::stderr().write_all(line.as_bytes()).and_then(|()| io::stderr().flush())
        } else {
            io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_known() {
        let mut pace = Pace::new("moved", false);
        // Ten seconds ago, so that what passes meanwhile does not show.
        pace.began -= Duration::from_secs(10);
        pace.slots = Amount { done: 50, wanted: 100 };
        pace.keys.done = 3000;
        let line = pace.line();
        assert!(line.starts_with("50 of 100 slots, 3000 keys moved, "), "{line}");
        assert!(line.contains(" slots/s, ") && line.contains(" keys/s, about "), "{line}");
        pace.restart("checked");
        pace.bytes = Amount { done: 2048, wanted: 4096 };
        let line = pace.line();
        assert!(line.starts_with("2.0KB of 4.0KB checked, "), "{line}");
        pace.restart("written");
        pace.keys.done = 7;
        assert!(!pace.line().contains("left"), "{}", pace.line());
    }
}
