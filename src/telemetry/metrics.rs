//! The shared side of the metrics: handles registered once, and the text that a scrape gets.

use super::histogram::SharedHistogram;
use super::labels::{Close, ErrandResult, Family, Outcome, Reason, RedirectKind};
use super::table::{self, Kind, Metric, Origin, TABLE};
use super::text;
use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::array;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A number that is read off when somebody asks: a metric of [`Origin::Scraped`].
#[derive(Debug)]
pub struct Sample {
    pub metric: &'static Metric,
    /// Values of the metric's labels, in the table's order.
    pub labels: Vec<String>,
    pub value: f64,
}

impl Sample {
    /// A number without labels.
    pub fn new(metric: &'static Metric, value: f64) -> Sample {
        Sample { metric, labels: Vec::new(), value }
    }

    /// A number with its labels' values.
    pub fn with(
        metric: &'static Metric,
        labels: impl IntoIterator<Item = impl Into<String>>,
        value: f64,
    ) -> Sample {
        Sample { metric, labels: labels.into_iter().map(Into::into).collect(), value }
    }
}

/// Everything that the workers' recorders add to. One for the process, shared by reference.
pub struct Metrics {
    exporter: PrometheusHandle,
    pub(super) requests: [[Counter; Outcome::ALL.len()]; Family::ALL.len()],
    pub(super) request_duration: [SharedHistogram; Family::ALL.len()],
    pub(super) backend_duration: SharedHistogram,
    pub(super) redirects: [Counter; RedirectKind::ALL.len()],
    pub(super) retries: Counter,
    pub(super) held: Counter,
    pub(super) held_now: Gauge,
    pub(super) refused: [Counter; Reason::ALL.len()],
    pub(super) errands: [[Counter; ErrandResult::ALL.len()]; Family::ALL.len()],
    pub(super) clients: Gauge,
    pub(super) clients_accepted: Counter,
    pub(super) clients_rejected: Counter,
    pub(super) clients_closed: [Counter; Close::ALL.len()],
    pub(super) client_in: Counter,
    pub(super) client_out: Counter,
    pub(super) backends: Gauge,
    pub(super) backends_opened: Counter,
    pub(super) backends_lost: Counter,
    pub(super) backend_in: Counter,
    pub(super) backend_out: Counter,
    /// Requests by the id of the shard's primary. Not with the exporter, which never forgets a label.
    shards: Mutex<BTreeMap<String, u64>>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// Registers every metric of the table.
    pub fn new() -> Metrics {
        let recorder = PrometheusBuilder::new().build_recorder();
        let counter = |metric: &'static Metric, labels: &[&'static str]| register(&recorder, metric, labels);
        let gauge = |metric: &'static Metric| {
            describe(&recorder, metric);
            recorder.register_gauge(&Key::from_static_name(metric.name), &METADATA)
        };
        Metrics {
            exporter: recorder.handle(),
            requests: array::from_fn(|family| {
                array::from_fn(|outcome| {
                    counter(&table::REQUESTS, &[Family::ALL[family].as_str(), Outcome::ALL[outcome].as_str()])
                })
            }),
            request_duration: Default::default(),
            backend_duration: SharedHistogram::default(),
            redirects: RedirectKind::ALL.map(|kind| counter(&table::REDIRECTS, &[kind.as_str()])),
            retries: counter(&table::RETRIES, &[]),
            held: counter(&table::HELD, &[]),
            held_now: gauge(&table::HELD_NOW),
            refused: Reason::ALL.map(|reason| counter(&table::REFUSED, &[reason.as_str()])),
            errands: Family::ALL.map(|family| {
                ErrandResult::ALL.map(|result| counter(&table::ERRANDS, &[family.as_str(), result.as_str()]))
            }),
            clients: gauge(&table::CLIENTS),
            clients_accepted: counter(&table::CLIENTS_ACCEPTED, &[]),
            clients_rejected: counter(&table::CLIENTS_REJECTED, &[]),
            clients_closed: Close::ALL.map(|close| counter(&table::CLIENTS_CLOSED, &[close.as_str()])),
            client_in: counter(&table::CLIENT_IN, &[]),
            client_out: counter(&table::CLIENT_OUT, &[]),
            backends: gauge(&table::BACKENDS),
            backends_opened: counter(&table::BACKENDS_OPENED, &[]),
            backends_lost: counter(&table::BACKENDS_LOST, &[]),
            backend_in: counter(&table::BACKEND_IN, &[]),
            backend_out: counter(&table::BACKEND_OUT, &[]),
            shards: Mutex::default(),
        }
    }

    /// The Prometheus text of all metrics: what the workers flushed, and `scraped`, the numbers of
    /// this moment. Shards that `scraped` does not name (by [`table::SHARD_SLOTS`]) are forgotten.
    pub fn render(&self, scraped: &[Sample]) -> String {
        let mut out = self.exporter.render();
        text::header(&mut out, &table::REQUEST_DURATION);
        for (family, histogram) in Family::ALL.iter().zip(&self.request_duration) {
            let labels = [("family", family.as_str())];
            text::histogram(&mut out, table::REQUEST_DURATION.name, &labels, histogram);
        }
        text::header(&mut out, &table::BACKEND_DURATION);
        text::histogram(&mut out, table::BACKEND_DURATION.name, &[], &self.backend_duration);
        text::header(&mut out, &table::SHARD_REQUESTS);
        for (primary, count) in self.keep_shards(scraped).iter() {
            text::sample(&mut out, table::SHARD_REQUESTS.name, &[("primary", primary)], *count as f64);
        }
        for metric in TABLE.iter().filter(|metric| metric.origin == Origin::Scraped) {
            text::header(&mut out, metric);
            for sample in scraped.iter().filter(|sample| sample.metric.name == metric.name) {
                let values = sample.labels.iter().map(String::as_str);
                let labels: Vec<(&str, &str)> = metric.labels.iter().copied().zip(values).collect();
                text::sample(&mut out, metric.name, &labels, sample.value);
            }
        }
        out
    }

    /// Adds to the requests of the shard whose primary has this id.
    pub(super) fn add_to_shard(&self, primary: &str, count: u64) {
        let mut shards = self.shards();
        match shards.get_mut(primary) {
            Some(sum) => *sum += count,
            None => drop(shards.insert(primary.to_string(), count)),
        }
    }

    fn keep_shards(&self, scraped: &[Sample]) -> MutexGuard<'_, BTreeMap<String, u64>> {
        let mut shards = self.shards();
        let current = || {
            let of_shards = scraped.iter().filter(|sample| sample.metric.name == table::SHARD_SLOTS.name);
            of_shards.filter_map(|sample| sample.labels.first())
        };
        shards.retain(|primary, _| current().any(|name| name == primary));
        for primary in current() {
            if !shards.contains_key(primary) {
                shards.insert(primary.clone(), 0);
            }
        }
        shards
    }

    fn shards(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static METADATA: Metadata<'static> = Metadata::new("slotgate", Level::INFO, None);

fn describe(recorder: &PrometheusRecorder, metric: &'static Metric) {
    let name = KeyName::from_const_str(metric.name);
    match metric.kind {
        Kind::Counter => recorder.describe_counter(name, metric.unit, metric.help.into()),
        Kind::Gauge => recorder.describe_gauge(name, metric.unit, metric.help.into()),
        Kind::Histogram => recorder.describe_histogram(name, metric.unit, metric.help.into()),
    }
}

fn register(recorder: &PrometheusRecorder, metric: &'static Metric, values: &[&'static str]) -> Counter {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    describe(recorder, metric);
    let labels: Vec<Label> =
        metric.labels.iter().zip(values).map(|(label, value)| Label::new(*label, *value)).collect();
    recorder.register_counter(&Key::from_parts(metric.name, labels), &METADATA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_table_is_rendered_with_help_and_type() {
        let text = Metrics::new().render(&[]);
        for metric in TABLE {
            let help = format!("# HELP {} {}\n", metric.name, metric.help);
            let kind = format!("# TYPE {} {}\n", metric.name, metric.kind.as_str());
            assert_eq!(text.matches(&help).count(), 1, "{help}");
            assert_eq!(text.matches(&kind).count(), 1, "{kind}");
        }
        let types = text.lines().filter(|line| line.starts_with("# TYPE")).count();
        assert_eq!(types, TABLE.len(), "a metric is rendered that is not in the table");
    }

    #[test]
    fn recorded_metrics_start_at_zero_with_all_their_labels() {
        let text = Metrics::new().render(&[]);
        for line in [
            "slotgate_requests_total{family=\"sorted-set\",outcome=\"refused\"} 0",
            "slotgate_redirects_total{kind=\"moved\"} 0",
            "slotgate_refused_total{reason=\"crossslot\"} 0",
            "slotgate_clients_closed_total{reason=\"output\"} 0",
            "slotgate_request_duration_seconds_bucket{family=\"string\",le=\"0.00005\"} 0",
            "slotgate_backend_duration_seconds_bucket{le=\"+Inf\"} 0",
            "slotgate_held 0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_shard_that_left_is_forgotten_and_a_new_one_starts_at_zero() {
        let metrics = Metrics::new();
        metrics.add_to_shard("aa", 3);
        metrics.add_to_shard("bb", 4);
        let slots = |primary: &str| Sample::with(&table::SHARD_SLOTS, [primary], 5461.0);
        let text = metrics.render(&[slots("bb"), slots("cc")]);
        assert!(!text.contains("slotgate_shard_requests_total{primary=\"aa\"}"));
        assert!(text.contains("slotgate_shard_requests_total{primary=\"bb\"} 4\n"));
        assert!(text.contains("slotgate_shard_requests_total{primary=\"cc\"} 0\n"));
    }
}
