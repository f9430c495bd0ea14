//! The shape users write: one name for each setting, as flag, as environment variable and as key of a
//! file. Everything is optional here; `layers` puts the sources on top of each other.

use super::units::{Address, Count, Size, Span, Switch};
use crate::control::{discover::Seed, kubernetes, refresh};
use crate::{admin, proxy, telemetry::logging};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// What one source says. A field's name with `-` for `_` is the flag and the key in a file; with
/// `SLOTGATE_` before it, in capitals, the environment variable.
///
/// No name may end like the variables that Kubernetes makes of a Service called `slotgate…`
/// (`_PORT`, `_SERVICE_HOST`, `_PORT_6379_TCP`).
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Settings {
    /// Where clients connect
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Service")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Address>,

    /// Nodes to start from, separated by commas; one that answers is enough. A name may stand for
    /// many addresses, such as a headless Service
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', help_heading = "Service")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<Vec<Seed>>,

    /// A file of nodes to start from, one a line; read again when it changes
    #[arg(long, value_name = "FILE", help_heading = "Service")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed_file: Option<PathBuf>,

    /// Where /metrics, /livez and /readyz are served
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Service")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<Address>,

    /// What becomes of a command whose keys lie in several slots and that cannot be split, such as SUNION
    /// or RENAME: refuse it; emulate-reads: serve it if it only reads; emulate: serve writes too, not
    /// atomically (docs/cross-slot.md)
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true, help_heading = "Service")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_slot: Option<proxy::CrossSlot>,

    /// Tell in the log which commands are called with keys in several slots
    #[arg(
        long, value_name = "YES|NO", num_args = 0..=1, require_equals = true, default_missing_value = "yes",
        help_heading = "Log"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_cross_slot: Option<Switch>,

    /// Keep the cluster whole: nodes with new addresses, lost links, orphaned slots, missing replicas.
    /// The seeds must lead to the nodes themselves (a headless Service, not a load balancer)
    #[arg(
        long, value_name = "YES|NO", num_args = 0..=1, require_equals = true, default_missing_value = "yes",
        help_heading = "Management"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manage: Option<Switch>,

    /// Learn the nodes from the pods of a StatefulSet, as the Kubernetes API server tells of them
    #[arg(
        long, value_name = "YES|NO", num_args = 0..=1, require_equals = true, default_missing_value = "yes",
        help_heading = "Kubernetes"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Switch>,

    /// The namespace of that StatefulSet [default: the own one]
    #[arg(long, value_name = "NAME", help_heading = "Kubernetes")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,

    /// The StatefulSet that the nodes run in
    #[arg(long, value_name = "NAME", help_heading = "Kubernetes")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statefulset: Option<String>,

    /// Where the pods' nodes take clients
    #[arg(long, value_name = "PORT", help_heading = "Kubernetes")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_in_pods: Option<NonZeroU16>,

    /// The Lease by which the gateways of one StatefulSet elect the one whose --manage acts; the others
    /// follow [default: slotgate- and the StatefulSet's name]
    #[arg(long, value_name = "NAME", help_heading = "Kubernetes")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,

    /// While this file exists, --manage looks and tells, and changes nothing
    #[arg(long, value_name = "FILE", help_heading = "Management")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_file: Option<PathBuf>,

    /// Where --manage keeps what no node can tell, for the next one should it be killed: which nodes are of
    /// the cluster, and what was under way [default: with --kubernetes a ConfigMap, else nowhere]
    #[arg(long, value_name = "FILE", help_heading = "Management")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal_file: Option<PathBuf>,

    /// Threads that serve clients [default: the cores that this process may use]
    #[arg(long, value_name = "N", help_heading = "Service")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<Count>,

    /// The ACL user towards nodes
    #[arg(long, value_name = "NAME", help_heading = "Passwords")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,

    /// A file with the password towards nodes (or put the password itself into SLOTGATE_PASSWORD)
    #[arg(long, value_name = "FILE", help_heading = "Passwords")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,

    /// A file with the password that clients must give (or SLOTGATE_REQUIRE_PASSWORD)
    #[arg(long, value_name = "FILE", help_heading = "Passwords")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_password_file: Option<PathBuf>,

    /// How long a request waits while its shard has no reachable primary; 0s refuses at once
    #[arg(long, value_name = "TIME", help_heading = "Times")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,

    /// How often the nodes are asked for the topology when nothing hints at a change
    #[arg(long, value_name = "TIME", help_heading = "Times")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Span>,

    /// How long a node may take for one request
    #[arg(long, value_name = "TIME", help_heading = "Times")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<Span>,

    /// Disconnect clients that send nothing for so long; 0s is never
    #[arg(long, value_name = "TIME", help_heading = "Times")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,

    /// Disconnect clients that take nothing of what waits for them for so long; 0s is never
    #[arg(long, value_name = "TIME", help_heading = "Times")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_timeout: Option<Span>,

    /// How long requests under way may take when the process is told to end
    #[arg(long, value_name = "TIME", help_heading = "Times")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Span>,

    /// Turn away clients beyond this many
    #[arg(long, value_name = "N", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_clients: Option<Count>,

    /// Stop reading a client that has so many requests under way
    #[arg(long, value_name = "N", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline_limit: Option<Count>,

    /// Stop reading a client for which so many bytes of replies wait
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_soft_limit: Option<Size>,

    /// Disconnect a client for which so many bytes of replies wait
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_hard_limit: Option<Size>,

    /// Requests of all clients that may be held at once; one client may have a quarter of them
    #[arg(long, value_name = "N", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_requests: Option<Count>,

    /// Bytes of all requests that may be held at once; one client may have a quarter of them
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_bytes: Option<Size>,

    /// Stream bodies larger than this and never store them whole
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_threshold: Option<Size>,

    /// Bytes of values and replies that one command may bring together whose keys lie in several slots
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_slot_bytes: Option<Size>,

    /// Node connections of their own for clients in transactions, blocking commands and subscriptions
    #[arg(long, value_name = "N", help_heading = "Limits")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive_connections: Option<Count>,

    /// How much is logged: error, warn, info, debug or trace, or by module: info,slotgate::proxy=debug
    #[arg(long, value_name = "LEVEL", help_heading = "Log")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<logging::Level>,

    /// The shape of log lines
    #[arg(long, value_name = "FORMAT", value_enum, help_heading = "Log")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<logging::Format>,
}

/// When nobody says otherwise, requests under way get as long as Kubernetes gives a pod by default
/// (30 s), less what the process itself needs to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

impl Settings {
    /// The defaults of every part, as if a user had written them.
    pub fn defaults() -> Settings {
        let proxy = proxy::Config::default();
        let log = logging::Config::default();
        let count = |number: usize| Some(Count(NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)));
        Settings {
            listen: Some(Address(proxy.listen)),
            seed: None,
            seed_file: None,
            admin: Some(Address(admin::Config::default().listen)),
            manage: Some(Switch(false)),
            pause_file: None,
            journal_file: None,
            kubernetes: Some(Switch(false)),
            namespace: None,
            statefulset: Some(kubernetes::STATEFUL_SET.into()),
            port_in_pods: NonZeroU16::new(kubernetes::PORT),
            lease: None,
            workers: count(proxy.workers),
            user: None,
            password_file: None,
            require_password_file: None,
            hold: Some(Span(proxy.hold)),
            refresh: Some(Span(refresh::Config::default().refresh)),
            request_timeout: Some(Span(proxy.request_timeout)),
            idle_timeout: Some(Span(proxy.idle_timeout.unwrap_or_default())),
            write_timeout: Some(Span(proxy.write_timeout.unwrap_or_default())),
            drain_timeout: Some(Span(DRAIN_TIMEOUT)),
            max_clients: count(proxy.max_clients),
            pipeline_limit: count(proxy.pipeline_limit),
            output_soft_limit: Some(Size(proxy.output_soft_limit)),
            output_hard_limit: Some(Size(proxy.output_hard_limit)),
            held_requests: count(proxy.held_requests),
            held_bytes: Some(Size(proxy.held_bytes)),
            stream_threshold: Some(Size(proxy.stream_threshold)),
            cross_slot: Some(proxy.cross_slot),
            cross_slot_bytes: Some(Size(proxy.cross_slot_bytes)),
            report_cross_slot: Some(Switch(proxy.report_cross_slot)),
            exclusive_connections: count(proxy.exclusive_connections),
            log_level: Some(log.level),
            log_format: Some(log.format),
        }
    }

    /// The names of all settings as they stand in a file, in reading order.
    pub fn keys() -> Vec<String> {
        let command = <Settings as clap::Args>::augment_args(clap::Command::new("settings"));
        command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_string).collect()
    }

    /// What is said here, by name.
    pub fn to_map(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            // Paths that are no UTF-8 are the only thing that JSON cannot say.
            _ => Map::new(),
        }
    }

    /// Checks one value by itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(key: &str, value: &Value) -> Result<(), serde_json::Error> {
        let one = Map::from_iter([(key.to_string(), value.clone())]);
        serde_json::from_value::<Settings>(Value::Object(one)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_a_flag_and_a_key_of_the_same_name() {
        for key in Settings::keys() {
            let value = match key.as_str() {
                "seed" => serde_json::json!(["h:1"]),
                "listen" | "admin" => "127.0.0.1:1".into(),
                "log-format" => "json".into(),
                "log-level" => "warn".into(),
                "user" | "namespace" | "statefulset" | "lease" => "u".into(),
                "manage" | "kubernetes" | "report-cross-slot" => "yes".into(),
                "cross-slot" => "refuse".into(),
                file if file.ends_with("-file") => "/f".into(),
                time if ["hold", "refresh"].contains(&time) || time.ends_with("-timeout") => "1s".into(),
                _ => 1.into(),
            };
            Settings::check(&key, &value).unwrap_or_else(|error| panic!("{key}: {error}"));
        }
    }

    #[test]
    fn no_name_collides_with_what_kubernetes_injects_for_a_service() {
        for key in Settings::keys() {
            let is_injected = ["port", "service-host", "tcp"].iter().any(|end| key.ends_with(end));
            assert!(!is_injected, "{key}");
        }
    }
}
