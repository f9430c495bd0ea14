//! How far an import is, told now and then: in place on a terminal, a line each time elsewhere.

use super::pace::Pace;
use crate::control::import::Event;

pub struct Progress {
    pace: Pace,
    what: &'static str,
    waiting: Option<u64>,
}

impl Progress {
    pub fn new(is_json: bool) -> Progress {
        Progress { pace: Pace::new("done", is_json), what: "", waiting: None }
    }

    pub fn hear(&mut self, event: Event) {
        match event {
            Event::Begin { what, keys } => {
                self.end();
                self.pace.restart("done");
                self.pace.keys.wanted = keys;
                (self.what, self.waiting) = (what, None);
                self.pace.note(&format!("Now {what}: about {keys} keys"));
            }
            Event::Step { keys, bytes } if self.waiting.is_none() => self.pace.add(keys, bytes),
            Event::Step { .. } => {}
            Event::Following { waiting } => {
                if self.waiting.is_none() {
                    self.end();
                    self.pace.note(
                        "Following the source: every key is copied. Stop the writers, then press Ctrl-C to finish",
                    );
                    self.pace.restart("done");
                }
                let has_caught_up = waiting == 0 && self.waiting.is_none_or(|before| before > 0);
                if self.pace.is_due() || has_caught_up && self.pace.is_terminal() {
                    self.pace.say(&format!("Following: {waiting} written keys wait to be copied"));
                }
                self.waiting = Some(waiting);
            }
            Event::Note(text) => self.pace.note(&text),
        }
    }

    /// The last word on the part under way.
    pub fn end(&mut self) {
        let keys = std::mem::take(&mut self.pace.keys.done);
        if keys > 0 && self.waiting.is_none() {
            let took = self.pace.seconds();
            self.pace.note(&format!("Finished {}: {keys} keys in {took:.1} s", self.what));
        }
    }
}
