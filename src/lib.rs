//! slotgate makes a Redis or Valkey Cluster look like one Redis, and keeps the cluster whole.
//!
//! # The map
//! ```text
//! DATA PLANE     client → listener → session → [resp] frame → [command] name, keys → router: Route
//!                       → dispatch → [backend] → redirect / merge → pipeline → client
//! CONTROL PLANE  discover → observe → View → plan → Action → act → report → Status
//! SHARED         topology: an immutable snapshot (slot → shard → node) in an ArcSwap.
//!                Control publishes it; the data plane loads it and hints when it is stale.
//!                Planned changes are announced in it before they happen.
//! KUBERNETES     control::kubernetes alone speaks to the API server. In: pods, the StatefulSet and its
//!                wishes. Out: Lease, journal, status, events, edits of the StatefulSet.
//! ```
//! Both flows can be read off the file names. They never import each other and meet only in
//! [`topology`]. The data plane is a core free of IO (`proxy::core`: bytes and events in, bytes and
//! wishes out) that one thread per worker drives; how sockets are moved is behind one trait, so that
//! tests can play any order of events. The control plane is asynchronous, on tokio.
//!
//! To read it: `topology`, `resp`, `command` (what everything speaks), then `proxy::core`, `read`,
//! `dispatch`, `settle`, `answer` (a request's way), then `control::refresh`, `control::bootstrap` and
//! `control::reconcile` (what keeps the cluster whole).
//!
//! # Invariants: promises to users, each with a test named after it
//! 1. Replies leave a session in the order in which its commands came; two commands of one session
//!    for the same slot never overtake each other, not even around a redirect or a failover. Only of a
//!    slot that is being moved key by key, commands for different keys may: each key's are in order.
//! 2. A request that a node may already have executed is never sent again unless repeating it is
//!    harmless.
//! 3. A reply that needs no merging is relayed as the bytes that came; it is never decoded into a
//!    tree.
//! 4. Losing Kubernetes, DNS or the lease never clears the topology; the data plane never waits for
//!    them.
//! 5. Everyone observes, only the leader acts; a plan is computed from one view, and each action
//!    re-checks its precondition.
//! 6. One slow or dead shard never delays a command for another shard. One slow client never delays
//!    another client, and never makes memory grow without bound.
//! 7. A client never sees MOVED, ASK or a node's address.

pub mod admin;
pub mod app;
pub mod backend;
pub mod cli;
pub mod command;
pub mod config;
pub mod control;
pub mod local_nodes;
pub mod proxy;
pub mod resp;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
pub mod topology;
