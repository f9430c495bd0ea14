//! How long to wait before the next try: doubling, with jitter, bounded. Pure but for the dice.

use std::time::Duration;

/// Waits that double from `first` to `most`, each cut at random by up to half, so that many
/// gateways do not knock on a node that comes back at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    pub const fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first, most, tries: 0 }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = Backoff::at(self.first, self.most, self.tries);
        self.tries = self.tries.saturating_add(1);
        wait
    }

    /// The wait after `tries` earlier ones.
    pub fn at(first: Duration, most: Duration, tries: u32) -> Duration {
        let whole = first.saturating_mul(1u32.checked_shl(tries).unwrap_or(u32::MAX)).min(most);
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// How many waits were given out since the last success.
    pub fn tries(&self) -> u32 {
        self.tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(35));
        for whole in [10, 20, 35, 35] {
            let wait = backoff.next_wait();
            assert!(
                wait <= Duration::from_millis(whole) && wait * 2 >= Duration::from_millis(whole),
                "{wait:?}"
            );
        }
        (0..100).for_each(|_| assert!(backoff.next_wait() <= Duration::from_millis(35)));
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(10));
    }
}
