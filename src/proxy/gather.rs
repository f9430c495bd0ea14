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
/// One byte in so many of those under way is worth a write: while the nodes have the others, waiting leaves
/// none of them idle.
const WORTHY: usize = 4;
/// How many moments one write waits at most.
const MOST: u8 = 3;
/// A wait that brings fewer events than this did not pay, and is not tried again for so many writes.
const FRUITFUL: usize = 2;
const PAUSE: u32 = 64;

/// What is under way to nodes.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnTheWay {
    pub requests: usize,
    pub bytes: usize,
    /// Those that are not written yet.
    pub unwritten: usize,
}

/// Decides whether the next wait pays.
#[derive(Debug, Default)]
pub struct Gathering {
    /// How many moments were waited since the last write.
    waits: u8,
    pause: u32,
}

impl Gathering {
    /// Whether to wait before the next write to nodes.
    pub fn wants_to_wait(&self, on_the_way: OnTheWay) -> bool {
        self.pause == 0
            && self.waits < MOST
            && on_the_way.requests >= MANY
            && on_the_way.unwritten * WORTHY < on_the_way.bytes
    }

    /// What came while it waited.
    pub fn has_waited(&mut self, events: usize) {
        self.waits += 1;
        if events < FRUITFUL {
            self.pause = PAUSE;
        }
    }

    pub fn has_written(&mut self) {
        self.waits = 0;
        self.pause = self.pause.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_the_way(requests: usize, unwritten: usize) -> OnTheWay {
        OnTheWay { requests, bytes: requests * 40, unwritten: unwritten * 40 }
    }

    #[test]
    fn few_requests_and_full_batches_never_wait() {
        let gathering = Gathering::default();
        assert!(!gathering.wants_to_wait(on_the_way(MANY - 1, 1)));
        assert!(!gathering.wants_to_wait(on_the_way(100, 100 / WORTHY)));
        assert!(gathering.wants_to_wait(on_the_way(100, 100 / WORTHY - 1)));
        assert!(gathering.wants_to_wait(on_the_way(MANY, 1)));
    }

    #[test]
    fn one_write_waits_a_few_moments_at_most() {
        let mut gathering = Gathering::default();
        for _ in 0..3 {
            for _ in 0..MOST {
                assert!(gathering.wants_to_wait(on_the_way(100, 1)));
                gathering.has_waited(FRUITFUL);
            }
            assert!(!gathering.wants_to_wait(on_the_way(100, 1)));
            gathering.has_written();
        }
    }

    #[test]
    fn waits_that_bring_nothing_become_rare() {
        let mut gathering = Gathering::default();
        let mut waits = 0;
        for _ in 0..1000 {
            if gathering.wants_to_wait(on_the_way(100, 1)) {
                waits += 1;
                gathering.has_waited(FRUITFUL - 1);
                assert!(!gathering.wants_to_wait(on_the_way(100, 1)));
            }
            gathering.has_written();
        }
        assert_eq!(waits, 1000_usize.div_ceil(PAUSE as usize));
    }
}
