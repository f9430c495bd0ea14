//! What the data plane can be told, with the reason of each default.
//!
//! Owned here; `config/` assembles it from what the user wrote.

use crate::secret::Secret;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What becomes of a command whose keys lie in several slots and that cannot be split.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum CrossSlot {
    /// It is refused.
    Refuse,
    /// It is served if it only reads: what may go wrong is seen by its caller alone.
    #[default]
    EmulateReads,
    /// It is served, writes too, which others may see half done.
    Emulate,
}

/// The settings of the data plane.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// How many worker threads serve clients.
    pub workers: usize,
    /// Clients beyond this many are turned away, as `maxclients` does.
    pub max_clients: usize,
    /// A client that sends nothing for so long is disconnected; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// A client that takes nothing of what waits for it for so long is disconnected; `None` is never.
    pub write_timeout: Option<Duration>,
    /// How long a request waits for its shard to have a reachable primary again.
    pub hold: Duration,
    /// What clients must give with AUTH or HELLO; `None` lets everybody in.
    pub require_password: Option<Secret>,
    /// The ACL user towards nodes; `None` is `default`.
    pub node_user: Option<String>,
    /// The password towards nodes; `None` sends no AUTH.
    pub node_password: Option<Secret>,
    /// Requests of one client that may be under way; beyond it the client is not read.
    pub pipeline_limit: usize,
    /// Replies in bytes that may wait for one client before it is not read any more.
    pub output_soft_limit: usize,
    /// Replies in bytes that may wait for one client before it is disconnected.
    pub output_hard_limit: usize,
    /// Requests of all clients that may be held at once; one client may have a quarter of them.
    pub held_requests: usize,
    /// Bytes of all requests that may be held at once; one client may have a quarter of them, or a single
    /// request.
    pub held_bytes: usize,
    /// Bodies larger than this many bytes are streamed and never stored whole.
    pub stream_threshold: usize,
    /// Node connections of their own that clients in transactions, blocking commands and
    /// subscriptions may have in all.
    pub exclusive_connections: usize,
    /// Commands whose keys lie in several slots.
    pub cross_slot: CrossSlot,
    /// Bytes of values and replies that one of these may bring together at once.
    pub cross_slot_bytes: usize,
    /// Whether the log tells which of these commands are called.
    pub report_cross_slot: bool,
    /// How long a node may take for one request before the client gets an error.
    pub request_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            // Redis' port, on every interface: a container has one, and clients are elsewhere.
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 6379)),
            // A worker is one core kept busy. The count respects CPU affinity and cgroup quotas.
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            // The servers' own default.
            max_clients: 10_000,
            // The servers' own default: `timeout 0`.
            idle_timeout: None,
            // Longer than any pause of a working client; what waits for it is bounded meanwhile.
            write_timeout: Some(Duration::from_secs(60)),
            // A failover at a node timeout of 5 s takes six to eight.
            hold: Duration::from_secs(10),
            require_password: None,
            node_user: None,
            node_password: None,
            // Far above the pipelines that client libraries send, and a bound on the tickets of one
            // client (some tens of KB).
            pipeline_limit: 1024,
            // Enough to keep a fast client's socket busy while the next replies come.
            output_soft_limit: 1 << 20,
            // Twice the servers' hard limit for subscribers, so a client that a node tolerates is
            // tolerated here.
            output_hard_limit: 64 << 20,
            // A second of a busy shard's requests, bounded by bytes as well.
            held_requests: 100_000,
            // What a gateway in a small container can spare.
            held_bytes: 64 << 20,
            // Below, one copy is cheaper than owning a connection; above, memory is what counts.
            stream_threshold: 256 << 10,
            // The nodes' default maxclients, which these connections count against.
            exclusive_connections: 10_000,
            cross_slot: CrossSlot::default(),
            // Sets and lists of ordinary size many times over; a node that dumps more at once pauses for
            // everybody. A quarter of what may be held, so that one finds room in a failover.
            cross_slot_bytes: 16 << 20,
            report_cross_slot: false,
            // Longer than any sane command; blocking commands have their own deadline.
            request_timeout: Duration::from_secs(60),
        }
    }
}
