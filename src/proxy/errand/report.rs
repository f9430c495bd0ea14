//! Which commands an application calls with keys in several slots: told in the log, not more often than a
//! person reads it.

use crate::command::CommandIx;
use rustc_hash::FxHashMap;
use std::time::Duration;

/// How often one command is told of, by each worker.
const PACE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Uses {
    untold: u64,
    /// In microseconds of the worker's clock; 0: never.
    told_at: u64,
}

/// The commands that were called with keys in several slots, and how often since they were last told of.
#[derive(Debug, Default)]
pub struct CrossSlotUses(FxHashMap<CommandIx, Uses>);

impl CrossSlotUses {
    /// One more call; gives how many there were since the command was last told of, when it is time to
    /// tell of it.
    pub fn count(&mut self, command: CommandIx, now: u64) -> Option<u64> {
        let uses = self.0.entry(command).or_default();
        uses.untold += 1;
        let is_due = uses.told_at == 0 || now - uses.told_at >= PACE.as_micros() as u64;
        is_due.then(|| {
            uses.told_at = now;
            std::mem::take(&mut uses.untold)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_of_at_once_and_then_with_what_came_since() {
        let mut uses = CrossSlotUses::default();
        let (one, other) = (CommandIx(1), CommandIx(2));
        assert_eq!(uses.count(one, 1), Some(1));
        assert_eq!(uses.count(one, 2), None);
        assert_eq!(uses.count(other, 2), Some(1));
        assert_eq!(uses.count(one, 2 + PACE.as_micros() as u64), Some(2));
    }
}
