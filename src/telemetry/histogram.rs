//! Latency histograms: a worker's plain bucket counts, and the shared ones that they are added to.
//!
//! The exporter keeps a histogram as a list of single samples, each with a clock reading, until
//! somebody scrapes; at a hundred thousand requests a second and worker that is a stall of some
//! milliseconds a second and memory without bound. Here a sample is one addition, and a flush adds a
//! few dozen numbers whatever the load.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets in nanoseconds, evenly spaced by ratio from 50 us, below which a
/// network answers nothing, to 10 s, the default time that a request may be held.
const BOUNDS: [u64; 17] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// One more than the bounds: the last bucket takes what is slower than all of them.
const BUCKETS: usize = BOUNDS.len() + 1;

/// The samples of one worker since its last flush.
#[derive(Clone, Default, Debug)]
pub(super) struct LocalHistogram {
    buckets: [u64; BUCKETS],
    /// Nanoseconds.
    sum: u64,
}

impl LocalHistogram {
    /// Counts one sample.
    #[inline]
    pub(super) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        // Most requests end in one of the first buckets, so looking from below is the short way.
        let bucket = BOUNDS.iter().position(|bound| nanos <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket] += 1;
        self.sum = self.sum.saturating_add(nanos);
    }
}

/// The samples of all workers since the start.
#[derive(Default, Debug)]
pub(super) struct SharedHistogram {
    buckets: [AtomicU64; BUCKETS],
    /// Nanoseconds.
    sum: AtomicU64,
}

impl SharedHistogram {
    /// Moves `local`'s samples here and leaves it empty.
    pub(super) fn take(&self, local: &mut LocalHistogram) {
        for (shared, count) in self.buckets.iter().zip(&mut local.buckets) {
            if *count > 0 {
                shared.fetch_add(std::mem::take(count), Relaxed);
            }
        }
        self.sum.fetch_add(std::mem::take(&mut local.sum), Relaxed);
    }

    /// The bounds in seconds with the number of samples at or below each, from below; the last one
    /// is infinite and so counts all.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.iter().map(|nanos| *nanos as f64 / 1e9).chain([f64::INFINITY]);
        bounds.zip(&self.buckets).scan(0, |below, (bound, count)| {
            *below += count.load(Relaxed);
            Some((bound, *below))
        })
    }

    /// The sum of all samples in seconds.
    pub(super) fn sum(&self) -> f64 {
        self.sum.load(Relaxed) as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_in_every_bucket_from_its_own_on() {
        let (mut local, shared) = (LocalHistogram::default(), SharedHistogram::default());
        local.record(Duration::from_micros(50));
        local.record(Duration::from_micros(51));
        local.record(Duration::from_secs(60));
        shared.take(&mut local);
        shared.take(&mut local);
        let counts: Vec<u64> = shared.cumulative().map(|(_, count)| count).collect();
        assert_eq!(counts[..3], [1, 2, 2]);
        assert_eq!(counts[BOUNDS.len()..], [3]);
        assert_eq!(shared.sum(), 60.000101);
    }

    #[test]
    fn bounds_ascend() {
        assert!(BOUNDS.is_sorted_by(|a, b| a < b));
    }
}
