//! Every metric there is: one row each with name, kind, unit, help and labels.
//!
//! Data only. A metric that is not in [`TABLE`] does not exist; the documentation and the dashboard
//! are checked against it.

/// What a metric's numbers mean over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows; starts at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket, with their sum.
    Histogram,
}

impl Kind {
    /// The word of a `# TYPE` line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Where a metric's numbers come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Counted by the workers.
    Recorded,
    /// Read off the topology or the process when somebody asks.
    Scraped,
}

/// One row of the table.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Option<metrics::Unit>,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    pub origin: Origin,
}

macro_rules! table {
    ($($id:ident: $kind:ident $origin:ident $name:literal [$($label:literal)*] $unit:expr, $help:literal;)+) => {
        $(
            #[doc = $help]
            pub static $id: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                help: $help,
                labels: &[$($label),*],
                origin: Origin::$origin,
            };
        )+

        /// All metrics, in reading order.
        pub static TABLE: &[&Metric] = &[$(&$id),+];
    };
}

const COUNT: Option<metrics::Unit> = Some(metrics::Unit::Count);
const BYTES: Option<metrics::Unit> = Some(metrics::Unit::Bytes);
const SECONDS: Option<metrics::Unit> = Some(metrics::Unit::Seconds);

table! {
    REQUESTS: Counter Recorded "slotgate_requests_total" ["family" "outcome"] COUNT,
        "Requests answered, by command family and by how they ended (ok, error of a node, refused, failed).";
    REQUEST_DURATION: Histogram Recorded "slotgate_request_duration_seconds" ["family"] SECONDS,
        "Time from a request's last byte read to its reply queued for the client, by command family.";
    BACKEND_DURATION: Histogram Recorded "slotgate_backend_duration_seconds" [] SECONDS,
        "Time from a request queued for a node to the node's reply.";
    REDIRECTS: Counter Recorded "slotgate_redirects_total" ["kind"] COUNT,
        "Answers of nodes that sent a request elsewhere or made it wait; clients never see one.";
    RETRIES: Counter Recorded "slotgate_retries_total" [] COUNT,
        "Requests sent again, whatever the cause.";
    HELD: Counter Recorded "slotgate_held_total" [] COUNT,
        "Requests that were held because their shard had no reachable primary.";
    HELD_NOW: Gauge Recorded "slotgate_held" [] COUNT,
        "Requests held at this moment.";
    REFUSED: Counter Recorded "slotgate_refused_total" ["reason"] COUNT,
        "Requests answered with an error of the gateway's own, by reason.";
    ERRANDS: Counter Recorded "slotgate_cross_slot_total" ["family" "result"] COUNT,
        "Commands with keys in several slots that cannot be split, by family and result (done, error, too-large, \
         half-way, refused).";
    SHARD_REQUESTS: Counter Recorded "slotgate_shard_requests_total" ["primary"] COUNT,
        "Requests sent to a shard, named by the id of its primary.";
    CLIENTS: Gauge Recorded "slotgate_clients" [] COUNT,
        "Clients connected.";
    CLIENTS_ACCEPTED: Counter Recorded "slotgate_clients_accepted_total" [] COUNT,
        "Client connections accepted.";
    CLIENTS_REJECTED: Counter Recorded "slotgate_clients_rejected_total" [] COUNT,
        "Client connections turned away because of --max-clients.";
    CLIENTS_CLOSED: Counter Recorded "slotgate_clients_closed_total" ["reason"] COUNT,
        "Client connections ended, by reason.";
    CLIENT_IN: Counter Recorded "slotgate_client_received_bytes_total" [] BYTES,
        "Bytes read from clients.";
    CLIENT_OUT: Counter Recorded "slotgate_client_sent_bytes_total" [] BYTES,
        "Bytes written to clients.";
    BACKENDS: Gauge Recorded "slotgate_backends" [] COUNT,
        "Connections to nodes.";
    BACKENDS_OPENED: Counter Recorded "slotgate_backends_opened_total" [] COUNT,
        "Connections to nodes opened.";
    BACKENDS_LOST: Counter Recorded "slotgate_backends_lost_total" [] COUNT,
        "Connections to nodes that failed, were lost or could not be opened.";
    BACKEND_IN: Counter Recorded "slotgate_backend_received_bytes_total" [] BYTES,
        "Bytes read from nodes.";
    BACKEND_OUT: Counter Recorded "slotgate_backend_sent_bytes_total" [] BYTES,
        "Bytes written to nodes.";
    TOPOLOGY_VERSION: Gauge Scraped "slotgate_topology_version" [] None,
        "How often the topology has changed since the start.";
    TOPOLOGY_AGE: Gauge Scraped "slotgate_topology_age_seconds" [] SECONDS,
        "Time since the nodes last confirmed the topology; absent until they have once.";
    SLOTS_COVERED: Gauge Scraped "slotgate_slots_covered" [] COUNT,
        "Hash slots that have an owner, of 16384.";
    SLOTS_SERVED: Gauge Scraped "slotgate_slots_served" [] COUNT,
        "Hash slots whose owner is not held for failed, of 16384.";
    NODE_HEALTH: Gauge Scraped "slotgate_node_health" ["node" "addr" "role" "health"] None,
        "1 for the health that the cluster ascribes to a node (ok, suspect, failed), 0 for the others.";
    SHARD_SLOTS: Gauge Scraped "slotgate_shard_slots" ["primary"] COUNT,
        "Hash slots that a shard owns, named by the id of its primary.";
    MANAGE_STEPS: Counter Scraped "slotgate_manage_steps_total" ["action" "result"] COUNT,
        "Steps that the manager tried, by action and result (done, already-done, failed); absent without --manage.";
    MANAGE_PROBLEMS: Gauge Scraped "slotgate_manage_problems" [] COUNT,
        "Things that the manager finds wrong with the cluster.";
    MANAGE_HEALTHY_AGE: Gauge Scraped "slotgate_manage_healthy_age_seconds" [] SECONDS,
        "Time since the manager last found nothing wrong; absent until it has once.";
    MANAGE_PAUSED: Gauge Scraped "slotgate_manage_paused" [] None,
        "1 while the pause file keeps the manager from acting, otherwise 0.";
    LEADER: Gauge Scraped "slotgate_leader" [] None,
        "1 while this gateway leads and its manager may act, 0 while another may; absent where none is elected.";
    LEADER_TRANSITIONS: Counter Scraped "slotgate_leader_transitions_total" [] COUNT,
        "How often another gateway came to lead, as the Lease counts it; absent where none is elected.";
    KUBERNETES_WATCHED: Gauge Scraped "slotgate_kubernetes_watched" [] None,
        "1 while the API server tells of the pods, 0 while what it told last is used; absent without --kubernetes.";
    READY: Gauge Scraped "slotgate_ready" [] None,
        "1 when /readyz says ready, otherwise 0.";
    BUILD: Gauge Scraped "slotgate_build_info" ["version"] None,
        "Always 1; the label names the version.";
    UPTIME: Gauge Scraped "slotgate_uptime_seconds" [] SECONDS,
        "Time since the start.";
    CPU: Counter Scraped "process_cpu_seconds_total" [] SECONDS,
        "User and system CPU time of the process.";
    MEMORY: Gauge Scraped "process_resident_memory_bytes" [] BYTES,
        "Resident memory of the process.";
    DESCRIPTORS: Gauge Scraped "process_open_fds" [] COUNT,
        "File descriptors in use.";
    MAX_DESCRIPTORS: Gauge Scraped "process_max_fds" [] COUNT,
        "File descriptors that the process may use.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_prometheus_conventions() {
        for metric in TABLE {
            let name = metric.name;
            assert!(name.starts_with("slotgate_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            let base = name.trim_end_matches("_total");
            assert_eq!(base.ends_with("_seconds"), metric.unit == SECONDS, "{name}");
            assert_eq!(base.ends_with("_bytes"), metric.unit == BYTES, "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn no_name_is_given_twice() {
        let mut names: Vec<&str> = TABLE.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }
}
