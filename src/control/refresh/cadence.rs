//! When to look next. Pure: time is handed in.

use crate::control::discover::Pause;
use std::time::{Duration, Instant};

/// Hints of one burst count as one; a cluster in motion is not asked more often than this.
const SHORTEST: Duration = Duration::from_millis(50);
/// A look may take at most this part of the time: a cluster of a thousand nodes tells 200 KB a view.
const BUSY_SHARE: u32 = 10;
/// However long a look took: one that waited for a frozen node was not busy, and the next may show who
/// takes that node's place.
const BUSY_LONGEST: Duration = Duration::from_secs(1);
/// While something is amiss, or shortly after a hint, the next change is near.
const ALERT: Duration = Duration::from_millis(500);
/// A failover shows 6 to 8 s after the primary went silent (node timeout 5 s, then an election); until
/// long after that a hint keeps us looking.
const ALERT_AFTER_HINT: Duration = Duration::from_secs(20);
/// How soon a view that lacks slots is looked at again.
const CONFIRM: Duration = Duration::from_millis(200);
/// With nobody to ask, the time between attempts doubles from the first of these to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How a look ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// All slots served, no complaint.
    Settled,
    /// Slots without an owner, or members that others complain of.
    Unsettled,
    /// Fewer slots than before; to be looked at again before it is believed.
    Unconfirmed,
    /// No topology.
    Failed,
}

/// Remembers hints and failures.
#[derive(Debug)]
pub(super) struct Cadence {
    refresh: Duration,
    failures: u32,
    alert_until: Option<Instant>,
}

impl Cadence {
    pub fn new(refresh: Duration) -> Cadence {
        Cadence { refresh, failures: 0, alert_until: None }
    }

    /// The data plane saw something that the topology does not explain.
    pub fn hinted(&mut self, now: Instant) {
        self.alert_until = Some(now + ALERT_AFTER_HINT);
    }

    /// The pause after a look that took `took` and ended `now`; `jitter` from 0 to 1 keeps gateways apart.
    pub fn after(&mut self, outcome: Outcome, took: Duration, now: Instant, jitter: f64) -> Pause {
        self.failures = if outcome == Outcome::Failed { self.failures + 1 } else { 0 };
        let shortest = SHORTEST.max((took * BUSY_SHARE).min(BUSY_LONGEST));
        let is_alert = self.alert_until.is_some_and(|until| now < until);
        let longest = match outcome {
            Outcome::Failed => {
                let backoff = (BACKOFF.0 * 2u32.saturating_pow(self.failures.min(16) - 1)).min(BACKOFF.1);
                let pause = backoff.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
                return Pause { shortest: pause, longest: pause };
            }
            Outcome::Unconfirmed => CONFIRM,
            Outcome::Unsettled => ALERT,
            Outcome::Settled if is_alert => ALERT,
            Outcome::Settled => self.refresh.mul_f64(0.9 + jitter.clamp(0.0, 1.0) / 10.0),
        };
        let shortest = shortest.min(self.refresh);
        Pause { shortest, longest: longest.min(self.refresh).max(shortest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: Duration = Duration::from_secs(10);
    const QUICK: Duration = Duration::from_millis(1);

    #[test]
    fn a_settled_cluster_is_left_alone_for_the_refresh_interval() {
        let pause = Cadence::new(REFRESH).after(Outcome::Settled, QUICK, Instant::now(), 1.0);
        assert_eq!(pause, Pause { shortest: SHORTEST, longest: REFRESH });
    }

    #[test]
    fn a_hint_keeps_us_looking_until_a_failover_would_have_shown() {
        let (mut cadence, now) = (Cadence::new(REFRESH), Instant::now());
        cadence.hinted(now);
        assert_eq!(cadence.after(Outcome::Settled, QUICK, now, 0.0).longest, ALERT);
        let later = now + ALERT_AFTER_HINT;
        assert!(cadence.after(Outcome::Settled, QUICK, later, 0.0).longest > ALERT);
    }

    #[test]
    fn trouble_is_looked_at_soon_and_failures_ever_less_often() {
        let (mut cadence, now) = (Cadence::new(REFRESH), Instant::now());
        assert_eq!(cadence.after(Outcome::Unsettled, QUICK, now, 0.0).longest, ALERT);
        assert_eq!(cadence.after(Outcome::Unconfirmed, QUICK, now, 0.0).longest, CONFIRM);
        let failures: Vec<_> =
            (0..40).map(|_| cadence.after(Outcome::Failed, QUICK, now, 1.0).shortest).collect();
        assert!(failures.is_sorted() && failures[0] == BACKOFF.0 && failures[39] == BACKOFF.1);
        assert_eq!(cadence.after(Outcome::Failed, QUICK, now, 0.0).shortest, BACKOFF.1 / 2);
    }

    #[test]
    fn slow_looks_take_a_tenth_of_the_time_at_most() {
        let took = Duration::from_millis(80);
        let pause = Cadence::new(REFRESH).after(Outcome::Unsettled, took, Instant::now(), 0.0);
        assert_eq!(pause, Pause { shortest: took * 10, longest: took * 10 });
    }

    #[test]
    fn a_look_that_waited_for_a_frozen_node_is_soon_followed_by_the_next() {
        let took = Duration::from_secs(4);
        let pause = Cadence::new(REFRESH).after(Outcome::Unsettled, took, Instant::now(), 0.0);
        assert_eq!(pause, Pause { shortest: BUSY_LONGEST, longest: BUSY_LONGEST });
    }
}
