//! One worker's counts: plain numbers that nobody shares, added to [`Metrics`] once a second.
//!
//! On the hot path: each method is an addition or two. No lock, no atomic, no lookup, no clock.

use super::histogram::LocalHistogram;
use super::labels::{Close, ErrandResult, Family, Outcome, Reason, RedirectKind};
use super::metrics::Metrics;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

/// The counts of one worker since its last [`Recorder::flush`].
pub struct Recorder {
    metrics: Arc<Metrics>,
    requests: [[u64; Outcome::ALL.len()]; Family::ALL.len()],
    request_duration: [LocalHistogram; Family::ALL.len()],
    backend_duration: LocalHistogram,
    redirects: [u64; RedirectKind::ALL.len()],
    retries: u64,
    held: u64,
    held_now: Level,
    refused: [u64; Reason::ALL.len()],
    errands: [[u64; ErrandResult::ALL.len()]; Family::ALL.len()],
    clients: Level,
    clients_accepted: u64,
    clients_rejected: u64,
    clients_closed: [u64; Close::ALL.len()],
    client_in: u64,
    client_out: u64,
    backends: Level,
    backends_opened: u64,
    backends_lost: u64,
    backend_in: u64,
    backend_out: u64,
    shards: Vec<u64>,
    /// The ids of the shards' primaries, by shard index.
    primaries: Vec<String>,
}

/// This worker's part of a gauge that is the sum over all workers.
#[derive(Default)]
struct Level {
    now: usize,
    flushed: usize,
}

impl Level {
    fn flush(&mut self, gauge: &metrics::Gauge) {
        if self.now != self.flushed {
            gauge.increment(self.now as f64 - self.flushed as f64);
            self.flushed = self.now;
        }
    }
}

impl Recorder {
    /// An empty recorder that flushes into `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Recorder {
        Recorder {
            metrics,
            requests: Default::default(),
            request_duration: Default::default(),
            backend_duration: LocalHistogram::default(),
            redirects: Default::default(),
            retries: 0,
            held: 0,
            held_now: Level::default(),
            refused: Default::default(),
            errands: Default::default(),
            clients: Level::default(),
            clients_accepted: 0,
            clients_rejected: 0,
            clients_closed: Default::default(),
            client_in: 0,
            client_out: 0,
            backends: Level::default(),
            backends_opened: 0,
            backends_lost: 0,
            backend_in: 0,
            backend_out: 0,
            shards: Vec::new(),
            primaries: Vec::new(),
        }
    }

    /// A request was answered, `latency` after it was read.
    #[inline]
    pub fn request(&mut self, family: Family, outcome: Outcome, latency: Duration) {
        self.requests[family.index()][outcome.index()] += 1;
        self.request_duration[family.index()].record(latency);
    }

    /// A node answered, `latency` after the request was queued for it.
    #[inline]
    pub fn backend_latency(&mut self, latency: Duration) {
        self.backend_duration.record(latency);
    }

    /// A node sent a request elsewhere or made it wait.
    #[inline]
    pub fn redirect(&mut self, kind: RedirectKind) {
        self.redirects[kind.index()] += 1;
    }

    /// A request was sent again.
    #[inline]
    pub fn retried(&mut self) {
        self.retries += 1;
    }

    /// A request began to be held.
    #[inline]
    pub fn held(&mut self) {
        self.held += 1;
    }

    /// This worker holds `count` requests now.
    #[inline]
    pub fn held_now(&mut self, count: usize) {
        self.held_now.now = count;
    }

    /// The gateway answered a request with an error of its own.
    #[inline]
    pub fn refused(&mut self, reason: Reason) {
        self.refused[reason.index()] += 1;
    }

    /// A command with keys in several slots ended.
    pub fn errand(&mut self, family: Family, result: ErrandResult) {
        self.errands[family.index()][result.index()] += 1;
    }

    /// A client connected to this worker.
    #[inline]
    pub fn client_accepted(&mut self) {
        self.clients_accepted += 1;
        self.clients.now += 1;
    }

    /// A client was turned away because there are too many.
    #[inline]
    pub fn client_rejected(&mut self) {
        self.clients_rejected += 1;
    }

    /// A client that [`Recorder::client_accepted`] counted is gone.
    #[inline]
    pub fn client_closed(&mut self, why: Close) {
        self.clients_closed[why.index()] += 1;
        self.clients.now = self.clients.now.saturating_sub(1);
    }

    /// A connection to a node is open.
    #[inline]
    pub fn backend_opened(&mut self) {
        self.backends_opened += 1;
        self.backends.now += 1;
    }

    /// An open connection to a node ended; `is_lost` unless we closed it in good order.
    #[inline]
    pub fn backend_closed(&mut self, is_lost: bool) {
        self.backends_lost += u64::from(is_lost);
        self.backends.now = self.backends.now.saturating_sub(1);
    }

    /// A connection to a node could not be opened.
    #[inline]
    pub fn backend_refused(&mut self) {
        self.backends_lost += 1;
    }

    /// `bytes` were read from clients.
    #[inline]
    pub fn bytes_in(&mut self, bytes: u64) {
        self.client_in += bytes;
    }

    /// `bytes` were written to clients.
    #[inline]
    pub fn bytes_out(&mut self, bytes: u64) {
        self.client_out += bytes;
    }

    /// `bytes` were read from nodes.
    #[inline]
    pub fn backend_bytes_in(&mut self, bytes: u64) {
        self.backend_in += bytes;
    }

    /// `bytes` were written to nodes.
    #[inline]
    pub fn backend_bytes_out(&mut self, bytes: u64) {
        self.backend_out += bytes;
    }

    /// `count` requests were sent to the shard with index `ix` in the snapshot that
    /// [`Recorder::name_shards`] was last told of; an index beyond it is not counted.
    #[inline]
    pub fn shard(&mut self, ix: u16, count: u64) {
        if let Some(sum) = self.shards.get_mut(usize::from(ix)) {
            *sum += count;
        }
    }

    /// The topology changed: from now on shard `ix` is the one whose primary has the id at place
    /// `ix`. What was counted so far goes to the shards of before.
    pub fn name_shards(&mut self, primaries: impl IntoIterator<Item = impl Into<String>>) {
        self.flush_shards();
        self.primaries = primaries.into_iter().map(Into::into).collect();
        self.shards = vec![0; self.primaries.len()];
    }

    /// Adds what was counted to the shared metrics and starts again from zero. To be called about
    /// once a second; costs some microseconds.
    pub fn flush(&mut self) {
        self.flush_shards();
        let metrics = &*self.metrics;
        for (outcomes, counters) in self.requests.iter_mut().zip(&metrics.requests) {
            flush(outcomes, counters);
        }
        for (results, counters) in self.errands.iter_mut().zip(&metrics.errands) {
            flush(results, counters);
        }
        for (local, shared) in self.request_duration.iter_mut().zip(&metrics.request_duration) {
            shared.take(local);
        }
        metrics.backend_duration.take(&mut self.backend_duration);
        flush(&mut self.redirects, &metrics.redirects);
        flush(&mut self.refused, &metrics.refused);
        flush(&mut self.clients_closed, &metrics.clients_closed);
        for (count, counter) in [
            (&mut self.retries, &metrics.retries),
            (&mut self.held, &metrics.held),
            (&mut self.clients_accepted, &metrics.clients_accepted),
            (&mut self.clients_rejected, &metrics.clients_rejected),
            (&mut self.client_in, &metrics.client_in),
            (&mut self.client_out, &metrics.client_out),
            (&mut self.backends_opened, &metrics.backends_opened),
            (&mut self.backends_lost, &metrics.backends_lost),
            (&mut self.backend_in, &metrics.backend_in),
            (&mut self.backend_out, &metrics.backend_out),
        ] {
            counter.increment(take(count));
        }
        self.held_now.flush(&metrics.held_now);
        self.clients.flush(&metrics.clients);
        self.backends.flush(&metrics.backends);
    }

    fn flush_shards(&mut self) {
        for (primary, count) in self.primaries.iter().zip(&mut self.shards) {
            if *count > 0 {
                self.metrics.add_to_shard(primary, take(count));
            }
        }
    }
}

impl Drop for Recorder {
    /// A worker that ends takes its part of the gauges with it and loses no count.
    fn drop(&mut self) {
        (self.held_now.now, self.clients.now, self.backends.now) = (0, 0, 0);
        self.flush();
    }
}

fn flush<const N: usize>(counts: &mut [u64; N], counters: &[metrics::Counter; N]) {
    for (count, counter) in counts.iter_mut().zip(counters) {
        if *count > 0 {
            counter.increment(take(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sample, table};
    use super::*;

    fn has(metrics: &Metrics, line: &str) -> bool {
        let primary = Sample::with(&table::SHARD_SLOTS, ["aa"], 1.0);
        metrics.render(&[primary]).lines().any(|have| have == line)
    }

    #[test]
    fn counts_of_all_workers_add_up() {
        let metrics = Arc::new(Metrics::new());
        let mut workers = [Recorder::new(metrics.clone()), Recorder::new(metrics.clone())];
        for worker in &mut workers {
            worker.request(Family::String, Outcome::Ok, Duration::from_micros(70));
            worker.redirect(RedirectKind::Ask);
            worker.refused(Reason::CrossSlot);
            worker.bytes_in(100);
            worker.client_accepted();
            worker.flush();
            worker.flush();
        }
        for line in [
            "slotgate_requests_total{family=\"string\",outcome=\"ok\"} 2",
            "slotgate_request_duration_seconds_bucket{family=\"string\",le=\"0.00005\"} 0",
            "slotgate_request_duration_seconds_bucket{family=\"string\",le=\"0.0001\"} 2",
            "slotgate_request_duration_seconds_count{family=\"string\"} 2",
            "slotgate_redirects_total{kind=\"ask\"} 2",
            "slotgate_refused_total{reason=\"crossslot\"} 2",
            "slotgate_client_received_bytes_total 200",
            "slotgate_clients 2",
        ] {
            assert!(has(&metrics, line), "{line}");
        }
    }

    #[test]
    fn a_worker_that_ends_leaves_its_counts_and_takes_its_gauges() {
        let metrics = Arc::new(Metrics::new());
        let mut worker = Recorder::new(metrics.clone());
        worker.client_accepted();
        worker.held_now(3);
        worker.flush();
        assert!(has(&metrics, "slotgate_held 3"));
        worker.retried();
        drop(worker);
        for line in [
            "slotgate_held 0",
            "slotgate_clients 0",
            "slotgate_retries_total 1",
            "slotgate_clients_accepted_total 1",
        ] {
            assert!(has(&metrics, line), "{line}");
        }
    }

    #[test]
    fn counts_from_before_a_change_go_to_the_shards_of_before() {
        let metrics = Arc::new(Metrics::new());
        let mut worker = Recorder::new(metrics.clone());
        worker.shard(0, 9);
        worker.name_shards(["aa"]);
        worker.shard(0, 2);
        worker.shard(1, 7);
        worker.name_shards(["bb"]);
        worker.shard(0, 5);
        worker.flush();
        assert!(has(&metrics, "slotgate_shard_requests_total{primary=\"aa\"} 2"));
    }
}
