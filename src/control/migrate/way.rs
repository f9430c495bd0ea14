//! Two nodes' releases → how slots go from one to the other. Pure.

use crate::control::action::Party;
use crate::control::observe::NodeInfo;
use std::fmt;

/// How a move's slots get to their target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// The nodes do it all themselves.
    Atomic(Dialect),
    /// We copy small slots and switch each by a script; the others go key by key.
    Copies,
    /// Key by key: MIGRATE.
    Keys,
}

/// Whose commands for atomic slot migration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// `CLUSTER MIGRATESLOTS`, asked of the source.
    Valkey,
    /// `CLUSTER MIGRATION IMPORT`, asked of the target.
    Redis,
}

/// The first releases with atomic slot migration
/// (<https://valkey.io/topics/atomic-slot-migration/>,
/// <https://redis.io/docs/latest/commands/cluster-migration/>).
const VALKEY_ATOMIC: (u32, u32) = (9, 0);
const REDIS_ATOMIC: (u32, u32) = (8, 4);

/// The first release that tells when a key expires, not only how long it has left
/// (<https://redis.io/docs/latest/commands/pexpiretime/>).
const REDIS_EXPIRE_TIMES: (u32, u32) = (7, 0);

/// The kind and release of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Server {
    dialect: Dialect,
    release: (u32, u32),
}

impl Server {
    fn of(info: &NodeInfo) -> Server {
        let (name, version) = info.server.split_once(' ').unwrap_or_default();
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        let release = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        Server { dialect: if name == "valkey" { Dialect::Valkey } else { Dialect::Redis }, release }
    }

    fn is_atomic(self) -> bool {
        match self.dialect {
            Dialect::Valkey => self.release >= VALKEY_ATOMIC,
            Dialect::Redis => self.release >= REDIS_ATOMIC,
        }
    }
}

/// The best way that both nodes know.
pub(super) fn choose(source: &NodeInfo, target: &NodeInfo) -> Way {
    let (from, to) = (Server::of(source), Server::of(target));
    if from.dialect == to.dialect && from.is_atomic() && to.is_atomic() {
        return Way::Atomic(from.dialect);
    }
    match from.dialect {
        Dialect::Redis if from.release >= REDIS_EXPIRE_TIMES => Way::Copies,
        // Valkey's SETSLOT waits for the node's replicas, which a command of a script cannot do.
        _ => Way::Keys,
    }
}

/// Why a move that one side could do by itself goes the classic way; `None` when there is nothing to say.
pub(super) fn why_not_atomic(
    (source, from): (Party, &NodeInfo),
    (target, to): (Party, &NodeInfo),
) -> Option<String> {
    let (has, lacks) = match (Server::of(from).is_atomic(), Server::of(to).is_atomic()) {
        (true, false) => (Told(source, from), Told(target, to)),
        (false, true) => (Told(target, to), Told(source, from)),
        _ => return None,
    };
    Some(format!("{has} moves slots atomically, {lacks} does not: moving them key by key"))
}

struct Told<'a>(Party, &'a NodeInfo);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.1.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_way_is_the_one_that_both_nodes_know() {
        let info = |server: &str| NodeInfo { server: server.into(), ..NodeInfo::default() };
        for (source, target, way) in [
            ("redis 6.2.14", "redis 7.0.15", Way::Keys),
            ("redis 7.0.15", "redis 7.0.15", Way::Copies),
            ("redis 8.2.3", "redis 8.4.0", Way::Copies),
            ("redis 8.4.0", "redis 8.10.1", Way::Atomic(Dialect::Redis)),
            ("valkey 8.1.1", "valkey 8.1.1", Way::Keys),
            ("valkey 8.1.1", "valkey 9.0.0", Way::Keys),
            ("valkey 9.0.0", "valkey 9.1.2", Way::Atomic(Dialect::Valkey)),
            ("redis 7.2.4", "valkey 9.1.2", Way::Copies),
            ("redis 8.4.0", "valkey 9.1.2", Way::Copies),
            ("redis ", "", Way::Keys),
        ] {
            assert_eq!(choose(&info(source), &info(target)), way, "{source} -> {target}");
        }
    }
}
