//! `INFO` and `CLUSTER INFO`: the fields that the control plane looks at. Pure.
//!
//! Both are lines of `name:value`; a field that is missing, as in older versions, takes its default.

use std::collections::HashMap;

fn fields(text: &str) -> HashMap<&str, &str> {
    text.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}

fn number<T: std::str::FromStr + Default>(fields: &HashMap<&str, &str>, name: &str) -> T {
    fields.get(name).and_then(|value| value.parse().ok()).unwrap_or_default()
}

/// What a node says of its cluster as a whole (`CLUSTER INFO`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClusterInfo {
    /// `cluster_state:ok`: it serves; not so while slots are missing or it sits in a minority.
    pub is_ok: bool,
    pub known_nodes: usize,
    pub current_epoch: u64,
}

impl ClusterInfo {
    pub fn parse(text: &str) -> ClusterInfo {
        let fields = fields(text);
        ClusterInfo {
            is_ok: fields.get("cluster_state") == Some(&"ok"),
            known_nodes: number(&fields, "cluster_known_nodes"),
            current_epoch: number(&fields, "cluster_current_epoch"),
        }
    }
}

/// A release as `major.minor`, enough to know which commands there are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Release(pub u16, pub u16);

/// What a node says of itself (`INFO`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeInfo {
    /// `redis` or `valkey`, with its version, for people.
    pub server: String,
    /// The Redis release whose commands it has; Valkey tells the one that it is compatible with.
    pub release: Release,
    pub is_cluster: bool,
    /// Keys in all its databases.
    pub keys: u64,
    pub role: Role,
    /// How far it is in the replication stream, in bytes: a primary's own writes, a replica's copy of them.
    pub offset: u64,
    pub memory: Memory,
    /// It was started with a configuration file, to which `CONFIG REWRITE` can write.
    pub has_config_file: bool,
    /// A save to disk failed: `rdb_last_bgsave_status` or `aof_last_write_status` is not `ok`.
    pub has_save_failed: bool,
    /// The machine that it runs on, where Kubernetes tells; nodes do not know.
    pub host: Option<String>,
    /// The availability zone that it was told to be in (`availability-zone` of Valkey 8).
    pub zone: Option<String>,
    /// How many shards it sorts the nodes into (`CLUSTER SHARDS`); `None`: it keeps no shard ids.
    pub shards: Option<usize>,
}

/// A node's memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    pub used: u64,
    /// `maxmemory`; 0: no limit.
    pub max: u64,
}

/// A node's place in replication.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Role {
    #[default]
    Primary,
    Replica {
        /// Where it looks for its primary.
        primary_host: String,
        primary_port: u16,
        /// `master_link_status:up`: it follows its primary, and holds a copy to take over with.
        is_link_up: bool,
    },
}

impl NodeInfo {
    pub fn parse(text: &str) -> NodeInfo {
        let fields = fields(text);
        let of = |name: &str| fields.get(name).copied().unwrap_or_default();
        let server = match of("valkey_version") {
            "" => format!("redis {}", of("redis_version")),
            version => format!("valkey {version}"),
        };
        let mut release = of("redis_version").split('.').map(|part| part.parse().unwrap_or(0));
        let role = match of("role") {
            "slave" => Role::Replica {
                primary_host: of("master_host").into(),
                primary_port: number(&fields, "master_port"),
                is_link_up: of("master_link_status") == "up",
            },
            _ => Role::Primary,
        };
        NodeInfo {
            server,
            release: Release(release.next().unwrap_or(0), release.next().unwrap_or(0)),
            is_cluster: of("cluster_enabled") == "1",
            keys: keys_of_all_databases(&fields),
            offset: match role {
                Role::Primary => number(&fields, "master_repl_offset"),
                Role::Replica { .. } => number(&fields, "slave_repl_offset"),
            },
            role,
            memory: Memory { used: number(&fields, "used_memory"), max: number(&fields, "maxmemory") },
            has_config_file: !of("config_file").is_empty(),
            has_save_failed: ["rdb_last_bgsave_status", "aof_last_write_status"]
                .iter()
                .any(|name| fields.get(name).is_some_and(|status| *status != "ok")),
            zone: Some(of("availability_zone")).filter(|zone| !zone.is_empty()).map(String::from),
            shards: None,
            host: None,
        }
    }
}

/// `db0:keys=12,expires=0,...`, one line for each database that holds keys.
fn keys_of_all_databases(fields: &HashMap<&str, &str>) -> u64 {
    let is_database = |name: &str| name.strip_prefix("db").is_some_and(|n| n.parse::<u32>().is_ok());
    let keys =
        |value: &str| value.split(',').find_map(|part| part.strip_prefix("keys=")?.parse::<u64>().ok());
    fields
        .iter()
        .filter(|(name, _)| is_database(name))
        .filter_map(|(_, value)| keys(value))
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cluster_info_is_read() {
        let text =
            "cluster_enabled:1\r\ncluster_state:ok\r\ncluster_known_nodes:6\r\ncluster_current_epoch:7\r\n";
        assert_eq!(ClusterInfo::parse(text), ClusterInfo { is_ok: true, known_nodes: 6, current_epoch: 7 });
        assert!(!ClusterInfo::parse("cluster_state:fail\r\n").is_ok);
    }

    #[test]
    fn keys_of_every_database_count() {
        let text =
            "# Keyspace\r\ndb0:keys=2,expires=0,avg_ttl=0\r\ndb9:keys=40,expires=1,avg_ttl=0,subexpiry=0\r\n";
        assert_eq!(NodeInfo::parse(text).keys, 42);
        assert_eq!(NodeInfo::parse("# Keyspace\r\n").keys, 0);
    }

    #[test]
    fn a_replica_says_whom_it_follows() {
        let text = "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:down\r\n";
        let role = Role::Replica { primary_host: "10.0.0.1".into(), primary_port: 6379, is_link_up: false };
        assert_eq!(NodeInfo::parse(text).role, role);
    }

    #[test]
    fn offset_memory_file_and_failed_saves_are_read() {
        let text = "used_memory:7\r\nmaxmemory:9\r\nconfig_file:/etc/redis.conf\r\nrole:slave\r\n\
            slave_repl_offset:5\r\nmaster_repl_offset:6\r\nrdb_last_bgsave_status:ok\r\naof_last_write_status:err\r\n";
        let info = NodeInfo::parse(text);
        assert_eq!((info.offset, info.memory), (5, Memory { used: 7, max: 9 }));
        assert!(info.has_config_file && info.has_save_failed);
        let info =
            NodeInfo::parse("role:master\r\nslave_repl_offset:5\r\nmaster_repl_offset:6\r\nconfig_file:\r\n");
        assert_eq!(info.offset, 6);
        assert!(!info.has_config_file && !info.has_save_failed);
    }

    #[test]
    fn servers_are_told_apart() {
        let redis = NodeInfo::parse("redis_version:7.0.15\r\nredis_mode:cluster\r\ncluster_enabled:1\r\n");
        assert_eq!(
            (redis.server.as_str(), redis.release, redis.is_cluster),
            ("redis 7.0.15", Release(7, 0), true)
        );
        let valkey = NodeInfo::parse("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n");
        assert_eq!((valkey.server.as_str(), valkey.release), ("valkey 8.1.1", Release(7, 2)));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text: String) {
            let _ = (NodeInfo::parse(&text), ClusterInfo::parse(&text));
        }
    }
}
