//! The cluster that a backup is restored into: who gets what, and whether it may be written to. Pure.

use super::census::Census;
use crate::control::backup::Refusal as NotWhole;
use crate::control::backup::source::owned;
use crate::control::observe::{Memory, NodeInfo, Release};
use crate::control::view::View;
use crate::topology::{SLOTS, SlotRange};
use std::net::SocketAddr;

/// What a value has more as `RESTORE` wants it: an RDB version and a checksum.
const FOOTER: u64 = 10;

/// A primary that owns slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub addr: SocketAddr,
    pub slots: Vec<SlotRange>,
    pub info: NodeInfo,
    /// `proto-max-bulk-len`: the longest value that it takes; `None` where it does not tell.
    pub max_value: Option<u64>,
}

/// Why a backup must not be restored into this cluster.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the cluster has {keys} keys: restore into an empty one, or add --replace, which overwrites keys of the same \
         name and keeps the others"
    )]
    HasKeys { keys: u64 },
    #[error(
        "{node} has room for about {room} bytes more below its maxmemory, and about {coming} would come: raise its \
         maxmemory, or restore into more shards"
    )]
    NoRoom { node: SocketAddr, room: u64, coming: u64 },
    #[error(
        "{node} runs {server}, which cannot read some values of the backup, such as that of {key:?}: restore into \
         nodes of the version that it was taken from, or a later one"
    )]
    OtherVersion { node: SocketAddr, server: String, key: String },
    #[error(
        "the value of {key:?} has {bytes} bytes, and {node} takes at most {limit} in one piece: raise it with \
         'slotgate config set proto-max-bulk-len'"
    )]
    TooLarge { key: String, bytes: u64, node: SocketAddr, limit: u64 },
    #[error("the backup has keys of database {database}, such as {key:?}; only database 0 can be restored")]
    OtherDatabase { database: u64, key: String },
    #[error(
        "the backup has functions, and {node} runs {server}, which has none: restore into Redis 7.0 or later"
    )]
    NoFunctions { node: SocketAddr, server: String },
}

/// The primaries with slots, of a cluster that is whole.
///
/// # Errors
/// It is not.
pub fn targets(view: &View) -> Result<Vec<Target>, NotWhole> {
    let owned = owned(view)?.into_iter();
    let target = |(id, slots)| {
        let node = view.of(id)?;
        Some(Target { addr: node.view.asked, slots, info: node.info.clone(), max_value: None })
    };
    Ok(owned.filter_map(target).collect())
}

/// For each slot, its owner.
pub fn owners(targets: &[Target]) -> Option<Vec<SocketAddr>> {
    let mut owners = vec![None; SLOTS];
    for target in targets {
        for slot in target.slots.iter().flat_map(|range| range.slots()) {
            owners[slot.index()] = Some(target.addr);
        }
    }
    owners.into_iter().collect()
}

/// The first reason not to restore what was counted; with `may_replace`, keys that are there are none.
pub fn refusal(census: &Census, targets: &[Target], may_replace: bool) -> Option<Refusal> {
    let keys = targets.iter().map(|target| target.info.keys).sum();
    if keys > 0 && !may_replace {
        return Some(Refusal::HasKeys { keys });
    }
    if let Some((database, key)) = census.elsewhere.clone() {
        return Some(Refusal::OtherDatabase { database, key });
    }
    targets.iter().find_map(|target| {
        let (node, server) = (target.addr, target.info.server.clone());
        let unreadable = census.versions.iter().find(|(version, _)| !reads(&target.info, **version));
        if let Some((_, key)) = unreadable {
            return Some(Refusal::OtherVersion { node, server, key: key.clone() });
        }
        if !census.functions.is_empty() && target.info.release < Release(7, 0) {
            return Some(Refusal::NoFunctions { node, server });
        }
        if let (Some((size, key)), Some(limit)) = (&census.largest, target.max_value)
            && size + FOOTER > limit
        {
            return Some(Refusal::TooLarge { key: key.clone(), bytes: size + FOOTER, node, limit });
        }
        let coming = census.shares.get(&target.addr)?.memory;
        let room = room(target.info.memory, may_replace && target.info.keys > 0)?;
        (coming > room).then_some(Refusal::NoRoom { node, room, coming })
    })
}

/// How many bytes more a node takes; `None`: as many as come. What is replaced needs its memory once.
fn room(memory: Memory, is_replaced: bool) -> Option<u64> {
    let used = if is_replaced { 0 } else { memory.used };
    (memory.max > 0).then(|| memory.max.saturating_sub(used))
}

/// Whether a server restores values that need this RDB version.
fn reads(info: &NodeInfo, version: u16) -> bool {
    let newest = match info.release {
        // Valkey says that it is Redis 7.2; its versions from 9 on know a type that Redis does not.
        _ if info.server.starts_with("valkey ") => {
            let major = info.server["valkey ".len()..].split('.').next().and_then(|major| major.parse().ok());
            if major.unwrap_or(0u16) >= 9 && version == 80 {
                return true;
            }
            11
        }
        release if release >= Release(7, 4) => 12,
        release if release >= Release(7, 2) => 11,
        release if release >= Release(7, 0) => 10,
        _ => 9,
    };
    version <= newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::restore::Share;
    use std::time::SystemTime;

    fn target(server: &str, redis: &str, keys: u64, memory: Memory) -> Target {
        let info = NodeInfo::parse(&format!("redis_version:{redis}\r\n"));
        let info = NodeInfo { server: server.into(), keys, memory, ..info };
        let slots = vec![SlotRange::new(0, 16383).unwrap()];
        Target { addr: ([10, 0, 0, 1], 6379).into(), slots, info, max_value: None }
    }

    #[test]
    fn keys_of_others_refuse_a_restore_unless_they_may_be_replaced() {
        let (census, full) = (Census::new(SystemTime::UNIX_EPOCH), Memory { used: 100, max: 100 });
        let targets = [target("redis 7.0.15", "7.0.15", 5, full)];
        assert_eq!(refusal(&census, &targets, false), Some(Refusal::HasKeys { keys: 5 }));
        assert_eq!(refusal(&census, &targets, true), None);
    }

    #[test]
    fn a_node_must_have_room_for_its_share() {
        let mut census = Census::new(SystemTime::UNIX_EPOCH);
        let at = ([10, 0, 0, 1], 6379).into();
        census.shares.insert(at, Share { keys: 1, bytes: 10, memory: 401 });
        let refused = |keys, max, may_replace| {
            refusal(
                &census,
                &[target("redis 7.0.15", "7.0.15", keys, Memory { used: 100, max })],
                may_replace,
            )
        };
        assert_eq!(refused(0, 500, false), Some(Refusal::NoRoom { node: at, room: 400, coming: 401 }));
        assert_eq!(refused(0, 501, false), None);
        assert_eq!(refused(0, 0, false), None, "no limit");
        assert_eq!(refused(3, 500, true), None, "what is there already needs no room a second time");
    }

    #[test]
    fn a_value_must_fit_into_one_request() {
        let mut census = Census::new(SystemTime::UNIX_EPOCH);
        census.largest = Some((91, "key".into()));
        let refused = |limit| {
            let target = target("redis 7.0.15", "7.0.15", 0, Memory::default());
            refusal(&census, &[Target { max_value: limit, ..target }], false)
        };
        assert!(matches!(refused(Some(100)), Some(Refusal::TooLarge { bytes: 101, limit: 100, .. })));
        assert_eq!((refused(Some(101)), refused(None)), (None, None));
    }

    #[test]
    fn a_server_must_know_the_types_of_all_values() {
        let reads = |server: &str, redis: &str, version| {
            super::reads(&target(server, redis, 0, Memory::default()).info, version)
        };
        assert!(reads("redis 6.2.1", "6.2.1", 9) && !reads("redis 6.2.1", "6.2.1", 10));
        assert!(reads("redis 7.0.15", "7.0.15", 10) && !reads("redis 7.0.15", "7.0.15", 11));
        assert!(reads("redis 8.0.0", "8.0.0", 12) && !reads("redis 8.0.0", "8.0.0", 80));
        assert!(reads("valkey 8.0.1", "7.2.4", 11) && !reads("valkey 8.0.1", "7.2.4", 12));
        assert!(reads("valkey 9.0.0", "7.2.4", 80) && !reads("valkey 9.0.0", "7.2.4", 12));
    }
}
