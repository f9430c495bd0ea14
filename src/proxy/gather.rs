//! When a worker waits a moment before it writes to nodes, so that one write carries the requests of more
//! clients. Pure.
//!
//! Half of what a request costs is writes that carry one or two of them, and nodes that are woken for as
//! few. With many requests under way a moment's wait costs nobody anything: fewer, larger batches serve all
//! of them sooner. With few, or when nothing comes meanwhile, it would only delay them, so it is not done.

use std::time::Duration;

/// How long a moment is; the kernel's timer slack (50 us, unless set otherwise) comes on top.
pub const MOMENT: Duration = Duration::from_micros(70);
/// Fewer requests under way are a client or two that wait for their replies.
const MANY: usize = 8;
/// Bytes that are worth a write of their own.
const BATCH: usize = 512;
/// A wait that brings fewer events than this did not pay, and is not tried again for so many chances.
const FRUITFUL: usize = 2;
const PAUSE: u32 = 64;

/// Decides whether the next wait pays.
#[derive(Debug, Default)]
pub struct Gathering {
    pause: u32,
}

impl Gathering {
    /// Whether to wait, given how many requests are under way to nodes and how many bytes of them are not
    /// written yet.
    pub fn wants_to_wait(&mut self, under_way: usize, unwritten: usize) -> bool {
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        under_way >= MANY && unwritten < BATCH
    }

    /// What came while it waited.
    pub fn has_waited(&mut self, events: usize) {
        if events < FRUITFUL {
            self.pause = PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_requests_and_full_batches_never_wait() {
        let mut gathering = Gathering::default();
        assert!(!gathering.wants_to_wait(1, 40));
        assert!(!gathering.wants_to_wait(MANY - 1, 40));
        assert!(!gathering.wants_to_wait(100, BATCH));
        assert!(gathering.wants_to_wait(MANY, 40));
    }

    #[test]
    fn waits_that_bring_nothing_become_rare() {
        let mut gathering = Gathering::default();
        let mut waits = 0;
        for _ in 0..1000 {
            if gathering.wants_to_wait(100, 40) {
                waits += 1;
                gathering.has_waited(1);
            }
        }
        assert_eq!(waits, 1000_usize.div_ceil(PAUSE as usize + 1));
        gathering = Gathering::default();
        let fruitful = (0..1000).filter(|_| {
            let waits = gathering.wants_to_wait(100, 40);
            gathering.has_waited(FRUITFUL);
            waits
        });
        assert_eq!(fruitful.count(), 1000);
    }
}
