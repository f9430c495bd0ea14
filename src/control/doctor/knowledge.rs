//! What is known about each kind of finding, as data: how bad, why it happens, what repairs it. Pure.
//!
//! In commands, words in braces are filled with what was found: `{node}` `{viewer}` as `-h HOST -p PORT`,
//! `{address}` and `{any}` (some node that answers) as `HOST:PORT`.

use super::Severity::{self, Error, Hint, Warning};

/// One kind of finding.
#[derive(Clone, Copy, Debug)]
pub struct Knowledge {
    pub kind: &'static str,
    pub severity: Severity,
    pub cause: &'static str,
    pub repair: &'static [&'static str],
}

const fn known(
    kind: &'static str,
    severity: Severity,
    cause: &'static str,
    repair: &'static [&'static str],
) -> Knowledge {
    Knowledge { kind, severity, cause, repair }
}

const MEET: &[&str] = &["redis-cli {viewer} CLUSTER MEET {ip} {port}"];
const SET: &[&str] = &["slotgate config set {setting} {wish} {any}"];

/// Every kind, each once.
pub const KNOWLEDGE: &[Knowledge] = &[
    // What `check` finds.
    known(
        "silent",
        Error,
        "the process is down or hangs, a network or a firewall is between, or the password is wrong",
        &["redis-cli {node} PING"],
    ),
    known(
        "not-serving",
        Error,
        "it knows of slots that nobody serves, or it sits in a minority without the other primaries",
        &["redis-cli {node} CLUSTER INFO", "slotgate fix {any} --dry-run"],
    ),
    known(
        "uncovered-slots",
        Error,
        "slots were never given to a node, or were taken away by hand; commands for their keys fail",
        &["slotgate fix {any}"],
    ),
    known(
        "stray-keys",
        Error,
        "a move was broken off by hand (CLUSTER SETSLOT STABLE), or slots were given to another node without their \
         keys; the repair brings the keys to the owner",
        &["slotgate fix {any}"],
    ),
    known(
        "disagreement",
        Error,
        "the news of a change is still on its way, or does not get through between some nodes; if it stays, give the \
         rightful owner a new epoch",
        &["slotgate check {any}", "redis-cli -h HOST -p PORT CLUSTER BUMPEPOCH"],
    ),
    known("open-slot", Warning, "a move of this slot is under way or was cut short", &["slotgate fix {any}"]),
    known("unknown-member", Error, "the two never met, or one has forgotten the other", MEET),
    known(
        "other-role",
        Warning,
        "the news of a change of roles is still on its way, or does not get through",
        MEET,
    ),
    known(
        "split-shard",
        Warning,
        "the ids of shards travel by gossip, seconds after the roles; a node that ends before it has them right may \
         refuse to start again (\"corrupted cluster config file\", Valkey 8)",
        &["slotgate check {any}", "redis-cli {node} CLUSTER SHARDS"],
    ),
    known(
        "handshake",
        Warning,
        "the first contact was just begun, or the cluster bus (port + 10000) is closed between the two",
        MEET,
    ),
    known(
        "no-address",
        Error,
        "addresses were exchanged among the nodes; a member without an address is neither called nor judged, and its vote \
         is missing",
        MEET,
    ),
    known(
        "failed",
        Error,
        "it is down, or cut off from most primaries; start it again, or remove it when it is gone for good",
        &["redis-cli {node} PING", "slotgate remove {id} {any}"],
    ),
    known(
        "suspected",
        Warning,
        "it is down, hangs, or is cut off from these nodes, and most primaries have not agreed yet",
        &["redis-cli {node} PING"],
    ),
    known(
        "no-bus-connection",
        Warning,
        "a connection of the cluster bus was lost or is refused by a firewall",
        &["nc -vz {ip} {bus_port}"],
    ),
    known(
        "replica-link-down",
        Error,
        "the replica has lost its primary, looks for it at an old address, or is still copying it; it cannot take over",
        &["redis-cli {node} CLUSTER REPLICATE {primary_id}"],
    ),
    known(
        "same-epoch",
        Warning,
        "two primaries got the same config epoch; claims for one slot could then not be told apart",
        &["redis-cli {node} CLUSTER BUMPEPOCH"],
    ),
    known(
        "few-replicas",
        Warning,
        "a replica is down, was moved, or was never there; if this primary dies, its slots are lost until it is back",
        &["slotgate add NEW-HOST:PORT {any} --replica-of {id}"],
    ),
    // Addresses.
    known(
        "stale-primary-address",
        Error,
        "its primary's address changed and only the nodes' table followed; the link never comes back by itself",
        &["redis-cli {node} CLUSTER REPLICATE {primary_id}"],
    ),
    known(
        "moved-nodes",
        Error,
        "machines or pods came back with other addresses, and members that have lost each other do not find each \
         other again; the manager heals all of it, in the right order, while it serves",
        &["slotgate serve --manage --seed {all}"],
    ),
    known(
        "stale-own-address",
        Warning,
        "its address changed and nobody has met it since; clients are sent to the old one",
        &["redis-cli {node} CONFIG SET cluster-announce-ip {ip}"],
    ),
    known("wrong-address", Error, "the member's address changed and this node has not heard of it", MEET),
    // Placement.
    known(
        "replica-on-primary-host",
        Warning,
        "both are lost with the host, and the shard's data with them",
        &[
            "redis-cli {node} CLUSTER REPLICATE {other_id}",
            "redis-cli {other} CLUSTER REPLICATE {primary_id}",
        ],
    ),
    known(
        "majority-on-one-host",
        Warning,
        "if this host is lost, too few primaries are left to elect replicas, and everything stops",
        &["slotgate failover {primary} {any}"],
    ),
    known("one-host", Hint, "if this host is lost, everything is", &[]),
    known(
        "replica-in-primary-zone",
        Warning,
        "both are lost with the zone, and the shard's data with them",
        &[
            "redis-cli {node} CLUSTER REPLICATE {other_id}",
            "redis-cli {other} CLUSTER REPLICATE {primary_id}",
        ],
    ),
    known(
        "majority-in-one-zone",
        Warning,
        "if this zone is lost, too few primaries are left to elect replicas, and everything stops",
        &["slotgate failover {primary} {any}"],
    ),
    known("one-zone", Hint, "if this zone is lost, everything is", &[]),
    known(
        "few-primaries",
        Warning,
        "with fewer than three primaries none can be replaced by election: the rest are no majority",
        &["slotgate add NEW-HOST:PORT {any}"],
    ),
    known(
        "minority-risk",
        Error,
        "if one more primary is lost, no majority is left to elect replicas, and everything stops",
        &["redis-cli {node} PING"],
    ),
    // Load.
    known(
        "memory-nearly-full",
        Warning,
        "writes are refused (OOM) when the limit is reached",
        &["slotgate config set maxmemory {more} {any}"],
    ),
    known(
        "memory-full",
        Error,
        "writes are refused (OOM) when the limit is reached",
        &["slotgate config set maxmemory {more} {any}"],
    ),
    known(
        "memory-evicts",
        Hint,
        "by its maxmemory-policy the node deletes keys to make room; right for a cache only",
        &["slotgate config set maxmemory {more} {any}"],
    ),
    known(
        "no-memory-limit",
        Hint,
        "without a limit a node grows until the system kills it; leave a quarter of the memory for copies and buffers",
        &["slotgate config set maxmemory BYTES {any}"],
    ),
    known(
        "save-failed",
        Error,
        "the disk is full or cannot be written; the node refuses writes (MISCONF) or loses them when it restarts",
        &["redis-cli {node} INFO persistence", "redis-cli {node} BGSAVE"],
    ),
    known("mixed-versions", Hint, "an update is under way or was cut short", &[]),
    // Settings.
    known(
        "settings-unreadable",
        Hint,
        "the ACL user may not run CONFIG GET, so settings that will hurt are not seen",
        &["redis-cli {node} ACL SETUSER USER +config|get"],
    ),
    known("settings-differ", Warning, "the nodes will behave differently on the same bad day", SET),
    known(
        "replicas-move-by-themselves",
        Hint,
        "a drained primary and a spare replica change their primary without being asked, and placement is undone",
        SET,
    ),
    known("one-lost-slot-stops-all", Hint, "when one shard is down, all others refuse commands too", SET),
    known(
        "stale-replica-may-take-over",
        Warning,
        "any replica may take over, however old its data is; newer writes are then lost",
        SET,
    ),
    known(
        "hasty-node-timeout",
        Warning,
        "a fork, a slow disk or a busy processor is taken for death, and needless failovers lose writes",
        SET,
    ),
    known(
        "patient-node-timeout",
        Hint,
        "a dead primary is missed for longer than this before a replica takes over",
        SET,
    ),
    known(
        "no-automatic-failover",
        Warning,
        "no replica takes over when its primary dies; a guard of a repair that was left on?",
        SET,
    ),
    known(
        "writes-need-every-replica",
        Warning,
        "when one replica restarts, its primary refuses writes (NOREPLICAS)",
        SET,
    ),
    known(
        "nothing-is-saved",
        Warning,
        "a primary that restarts at once comes back empty, and empties its replicas too",
        SET,
    ),
    known(
        "names-without-hostname",
        Warning,
        "redirects name nodes by hostname, and a node without one is named '?'",
        SET,
    ),
];
