//! INFO: the reports of all primaries, made into that of one server. Pure.
//!
//! Clients decide by it what they talk to, so it must not say that there is a cluster.

use super::error_reply::quoted;
use super::info_fields::{self as fields, Rule};
use crate::resp;

/// What INFO was asked for, and what the gateway knows itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    wants_slotgate: bool,
    facts: Facts,
}

/// The gateway's own facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    pub port: u16,
    pub clients: usize,
    pub connections: u64,
    pub uptime_seconds: u64,
    pub workers: usize,
    pub topology_version: u64,
    pub shards: usize,
    pub nodes: usize,
    pub slots_served: usize,
    pub held: usize,
    pub max_clients: usize,
    /// Clients whose commands wait for the end of CLIENT PAUSE.
    pub paused_clients: usize,
    /// Fields about clients that track, and their numbers.
    pub tracking: [(&'static str, usize); 4],
}

impl Request {
    /// Of the request's sections; none means the default ones, which include ours.
    pub fn new(request: &resp::Request, facts: Facts) -> Request {
        let mut sections =
            request.args().skip(1).map(|section| quoted(section).to_ascii_lowercase()).peekable();
        let is_default = sections.peek().is_none();
        let wants_slotgate = is_default
            || sections.any(|section| matches!(&*section, "all" | "everything" | "default" | "slotgate"));
        Request { wants_slotgate, facts }
    }
}

/// Merges the primaries' reports; the first one gives what cannot be added up.
pub fn merge(request: &Request, reports: &[&[u8]]) -> String {
    let reports: Vec<String> =
        reports.iter().map(|report| String::from_utf8_lossy(report).into_owned()).collect();
    let facts = &request.facts;
    let mut out = String::new();
    let mut section = "";
    for line in reports.first().map_or("", |first| first).lines() {
        let Some((field, value)) = line.split_once(':') else {
            section = line.strip_prefix("# ").unwrap_or(section);
            out.push_str(line);
            out.push_str("\r\n");
            continue;
        };
        let merged = match field {
            "redis_mode" | "server_mode" => "standalone".to_string(),
            "cluster_enabled" => "0".to_string(),
            "role" => "master".to_string(),
            "tcp_port" => facts.port.to_string(),
            "connected_clients" => facts.clients.to_string(),
            "maxclients" => facts.max_clients.to_string(),
            "total_connections_received" => facts.connections.to_string(),
            "uptime_in_seconds" => facts.uptime_seconds.to_string(),
            "uptime_in_days" => (facts.uptime_seconds / 86_400).to_string(),
            "blocked_clients" => (total(values(field, &reports)) as usize + facts.paused_clients).to_string(),
            _ if field.starts_with("tracking_") => {
                let ours = facts.tracking.iter().find(|(name, _)| *name == field);
                ours.map_or(value.to_string(), |(_, count)| count.to_string())
            }
            _ if is_of_one_node(field) => continue,
            // Written as a whole, below.
            _ if is_database(field) || fields::is_by_name(field) => continue,
            _ => match fields::rule(section, field) {
                Rule::Sum => sum(field, value, &reports),
                Rule::Max => most(field, value, &reports),
                Rule::Min => values(field, &reports).filter_map(number).min().map_or(value.into(), to_text),
                Rule::Human => human(field, &reports).unwrap_or_else(|| value.to_string()),
                Rule::First => value.to_string(),
            },
        };
        out.push_str(&format!("{field}:{merged}\r\n"));
    }
    for section in fields::BY_NAME {
        let head = format!("# {section}\r\n");
        if let Some(at) = out.find(&head) {
            out.insert_str(at + head.len(), &fields::merge_by_name(&reports, section));
        }
    }
    if out.contains("# Keyspace") {
        let at = out.find("# Keyspace\r\n").map_or(out.len(), |at| at + "# Keyspace\r\n".len());
        out.insert_str(at, &keyspace(&reports));
    }
    if request.wants_slotgate {
        if !out.is_empty() {
            out.push_str("\r\n");
        }
        out.push_str(&format!(
            "# Slotgate\r\nslotgate_version:{}\r\nslotgate_workers:{}\r\nslotgate_topology_version:{}\r\n\
             slotgate_shards:{}\r\nslotgate_nodes:{}\r\nslotgate_slots_served:{}\r\nslotgate_held_requests:{}\r\n",
            env!("CARGO_PKG_VERSION"),
            facts.workers,
            facts.topology_version,
            facts.shards,
            facts.nodes,
            facts.slots_served,
            facts.held,
        ));
    }
    out
}

/// Would show a node's address or place, as `slave0:ip=10.0.0.7,...` does.
fn is_of_one_node(field: &str) -> bool {
    field.strip_prefix("slave").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        // `listener0:name=tcp,bind=10.0.0.7,port=6379` of newer servers.
        || field.starts_with("listener")
        || matches!(field, "master_host" | "master_port" | "executable" | "config_file")
}

fn is_database(field: &str) -> bool {
    field.strip_prefix("db").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn values<'a>(field: &'a str, reports: &'a [String]) -> impl Iterator<Item = &'a str> {
    reports
        .iter()
        .filter_map(move |report| report.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')))
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn to_text(number: i64) -> String {
    number.to_string()
}

fn total<'a>(values: impl Iterator<Item = &'a str>) -> i64 {
    values.filter_map(number).sum()
}

fn sum(field: &str, first: &str, reports: &[String]) -> String {
    match first.split_once('.') {
        Some((_, fraction)) => {
            let total: f64 = values(field, reports).filter_map(|value| value.parse::<f64>().ok()).sum();
            format!("{total:.0$}", fraction.len())
        }
        None if number(first).is_some() => total(values(field, reports)).to_string(),
        None => first.to_string(),
    }
}

fn most(field: &str, first: &str, reports: &[String]) -> String {
    values(field, reports).filter_map(number).max().map_or(first.to_string(), to_text)
}

/// `used_memory_human` from what `used_memory` is made.
fn human(field: &str, reports: &[String]) -> Option<String> {
    let bytes_field = field.strip_suffix("_human")?;
    let sizes = values(bytes_field, reports).filter_map(|value| value.parse::<f64>().ok());
    let bytes: f64 = match fields::rule("Memory", bytes_field) {
        Rule::Sum => sizes.sum(),
        Rule::Max => sizes.fold(0.0, f64::max),
        _ => return None,
    };
    let (unit, size) = match bytes {
        b if b < 1024.0 => return Some(format!("{b:.0}B")),
        b if b < 1048576.0 => ('K', 1024.0),
        b if b < 1073741824.0 => ('M', 1048576.0),
        _ => ('G', 1073741824.0),
    };
    Some(format!("{:.2}{unit}", bytes / size))
}

/// `db0:keys=3,expires=1,avg_ttl=99` over all nodes; further fields of newer servers are added up too.
fn keyspace(reports: &[String]) -> String {
    let mut fields: Vec<(&str, u64)> = Vec::new();
    let mut count = 0;
    for line in values("db0", reports) {
        count += 1;
        for (name, value) in line.split(',').filter_map(|field| field.split_once('=')) {
            let value: u64 = value.parse().unwrap_or(0);
            match fields.iter_mut().find(|(other, _)| *other == name) {
                Some((_, total)) => *total += value,
                None => fields.push((name, value)),
            }
        }
    }
    if fields.is_empty() {
        return String::new();
    }
    let shown = fields.iter().map(|(name, total)| {
        let value = if *name == "avg_ttl" { total / count } else { *total };
        format!("{name}={value}")
    });
    format!("db0:{}\r\n", shown.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(keys: u32) -> String {
        format!(
            "# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\ntcp_port:7001\r\n\r\n# Replication\r\n\
             role:master\r\nslave0:ip=10.0.0.7,port=1\r\n\r\n# Memory\r\nused_memory:1024\r\n\
             used_memory_human:1.00K\r\n\
             used_memory_lua:2048\r\nused_memory_lua_human:2.00K\r\n\r\n# Cluster\r\ncluster_enabled:1\r\n\r\n# Keyspace\r\n\
             db0:keys={keys},expires=1,avg_ttl=10\r\n"
        )
    }

    fn merged() -> String {
        let request = Request { wants_slotgate: true, facts: Facts { port: 6379, ..Facts::default() } };
        let reports = [report(2), report(3)];
        merge(&request, &reports.each_ref().map(|report| report.as_bytes()))
    }

    #[test]
    fn the_face_is_that_of_one_standalone_server() {
        let text = merged();
        for line in ["redis_mode:standalone", "cluster_enabled:0", "tcp_port:6379", "role:master"] {
            assert!(text.contains(&format!("{line}\r\n")), "{line}");
        }
        assert!(!text.contains("10.0.0.7"));
    }

    #[test]
    fn counts_are_those_of_all_shards() {
        let text = merged();
        for line in [
            "used_memory:2048",
            "used_memory_human:2.00K",
            "used_memory_lua:2048",
            "used_memory_lua_human:2.00K",
            "db0:keys=5,expires=2,avg_ttl=10",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line}");
        }
        assert!(text.contains("# Slotgate\r\nslotgate_version:"));
    }
}
