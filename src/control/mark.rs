//! Mark: what settings of a node were before they were changed for a while, kept on the node itself. Pure.
//!
//! Whoever changes a setting for a while may be killed before it is put back. A file of ours would be lost
//! with our machine, and would not know that the node restarted with its own settings meanwhile. So the
//! former values are written into another setting of the same node that means little at that time, in the
//! same `CONFIG SET`: they are there as long as the change is, and any other slotgate finds them.

use std::time::Duration;

/// What a mark adds to nothing at least; nobody sets so many replicas by hand.
const LEAST: u64 = 100_000;
/// Settings of servers end here (`INT_MAX`).
const MOST: u64 = i32::MAX as u64;
/// What a setting in which a mark is left may be by itself.
const OWN: u64 = 1000;

/// Elections are held back, and the node timeout may be short: left in `cluster-migration-barrier`, as
/// replicas that do not move to other primaries meanwhile are welcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuardMark {
    /// `cluster-node-timeout` as it was, at least 100 ms.
    pub node_timeout: Duration,
    /// `cluster-migration-barrier` as it was.
    pub barrier: u64,
}

impl GuardMark {
    /// What a setting says, if that is a mark.
    pub fn read(barrier: u64) -> Option<GuardMark> {
        let (node_timeout, barrier) = read(barrier)?;
        Some(GuardMark { node_timeout: Duration::from_millis(node_timeout), barrier })
    }

    /// The value to set; `None` when the former values are too unusual to be kept.
    pub fn write(self) -> Option<u64> {
        write(u64::try_from(self.node_timeout.as_millis()).ok()?, self.barrier)
    }
}

/// First copies begin at once: left in `repl-diskless-sync-max-replicas`, which is not looked at while
/// there is no delay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DelayMark {
    /// `repl-diskless-sync-delay` as it was, in seconds.
    pub delay: u64,
    /// `repl-diskless-sync-max-replicas` as it was.
    pub max_replicas: u64,
}

impl DelayMark {
    /// What a setting says, if that is a mark.
    pub fn read(max_replicas: u64) -> Option<DelayMark> {
        let (delay, max_replicas) = read(max_replicas)?;
        Some(DelayMark { delay: delay.checked_sub(LEAST / OWN)?, max_replicas })
    }

    /// The value to set; `None` when the former values are too unusual to be kept.
    pub fn write(self) -> Option<u64> {
        write(self.delay.checked_add(LEAST / OWN)?, self.max_replicas)
    }
}

fn read(marked: u64) -> Option<(u64, u64)> {
    (marked >= LEAST).then_some((marked / OWN, marked % OWN))
}

fn write(other: u64, own: u64) -> Option<u64> {
    let marked = other.checked_mul(OWN)?.checked_add(own)?;
    (own < OWN && (LEAST..=MOST).contains(&marked)).then_some(marked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn usual_settings_are_no_marks_and_unusual_ones_are_not_overwritten() {
        for usual in [0, 1, 2, 100, 99_999] {
            assert_eq!((GuardMark::read(usual), DelayMark::read(usual)), (None, None));
        }
        let guard =
            |millis, barrier| GuardMark { node_timeout: Duration::from_millis(millis), barrier }.write();
        assert_eq!(guard(5000, 1), Some(5_000_001));
        assert_eq!((guard(99, 1), guard(5000, 1000), guard(2_147_484, 0)), (None, None, None));
        assert_eq!(DelayMark { delay: 5, max_replicas: 0 }.write(), Some(105_000));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value: u64, own in 0u64..2000) {
            let guard = GuardMark { node_timeout: Duration::from_millis(value % 3_000_000), barrier: own };
            let delay = DelayMark { delay: value % 3_000_000, max_replicas: own };
            if let Some(marked) = guard.write() {
                prop_assert!(marked <= i32::MAX as u64);
                prop_assert_eq!(GuardMark::read(marked), Some(guard));
            }
            if let Some(marked) = delay.write() {
                prop_assert!(marked <= i32::MAX as u64);
                prop_assert_eq!(DelayMark::read(marked), Some(delay));
            }
        }
    }
}
