//! How each field of INFO becomes one server's: knowledge as data. Pure.

use std::collections::BTreeMap;

/// What is made of a field that all primaries have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// As the first one says.
    First,
    Sum,
    Max,
    Min,
    /// A size for people, from the field that has it in bytes.
    Human,
}

/// The sections whose numbers are added up, unless a field says otherwise.
const COUNTED: &[&str] = &["Clients", "Memory", "Persistence", "Stats", "CPU"];

/// Fields of these sections that are no amounts. A `*` stands for any beginning or end.
const EXCEPTIONS: &[(&str, Rule)] = &[
    ("*_human", Rule::Human),
    ("*_perc", Rule::First),
    ("*_ratio", Rule::First),
    ("client_recent_max_*", Rule::Max),
    ("cluster_connections", Rule::First),
    ("total_system_memory", Rule::First),
    ("maxmemory_policy", Rule::First),
    ("active_defrag_running", Rule::Max),
    // Every primary has all scripts and functions, and an interpreter for them.
    ("number_of_*", Rule::Max),
    ("used_memory_lua", Rule::Max),
    ("used_memory_vm_*", Rule::Max),
    ("used_memory_scripts*", Rule::Max),
    ("used_memory_functions", Rule::Max),
    ("loading", Rule::Max),
    ("async_loading", Rule::Max),
    ("*_in_progress", Rule::Max),
    ("*_enabled", Rule::Max),
    ("*_scheduled", Rule::Max),
    ("*_status", Rule::First),
    ("rdb_last_save_time", Rule::Min),
    ("*_time_sec", Rule::Max),
    ("current_cow_size_age", Rule::Max),
    ("latest_fork_usec", Rule::Max),
    ("instantaneous_*_kbps", Rule::Sum),
];

/// The rule for a field of a section.
pub fn rule(section: &str, field: &str) -> Rule {
    if !COUNTED.contains(&section) {
        // Of replication, only how much there is of it; the rest is one node's history.
        return if field == "connected_slaves" { Rule::Sum } else { Rule::First };
    }
    let fits = |pattern: &str| match pattern.split_once('*') {
        Some((start, end)) => field.starts_with(start) && field.ends_with(end),
        None => field == pattern,
    };
    EXCEPTIONS.iter().find(|(pattern, _)| fits(pattern)).map_or(Rule::Sum, |(_, rule)| *rule)
}

/// The sections that have a line for each command or error, where each node has its own.
pub const BY_NAME: &[&str] = &["Commandstats", "Errorstats", "Latencystats"];

/// Whether a field stands in one of these sections.
pub fn is_by_name(field: &str) -> bool {
    ["cmdstat_", "errorstat_", "latency_percentiles_usec_"].iter().any(|start| field.starts_with(start))
}

/// The lines of such a section over all nodes: counts are added up, times are the worst.
pub fn merge_by_name(reports: &[String], section: &str) -> String {
    let head = format!("# {section}");
    let mut lines: BTreeMap<&str, Vec<(&str, f64)>> = BTreeMap::new();
    let mut order = Vec::new();
    for report in reports {
        let of_section = report.lines().skip_while(|line| *line != head).skip(1);
        for line in of_section.take_while(|line| !line.starts_with('#')) {
            let Some((name, values)) = line.split_once(':') else { continue };
            let parsed = values.split(',').filter_map(|field| {
                let (field, value) = field.split_once('=')?;
                Some((field, value.parse().ok()?))
            });
            let known = lines.entry(name).or_insert_with(|| {
                order.push(name);
                Vec::new()
            });
            for (field, value) in parsed {
                match known.iter_mut().find(|(other, _)| *other == field) {
                    Some((_, total)) if section == "Latencystats" => *total = total.max(value),
                    Some((_, total)) => *total += value,
                    None => known.push((field, value)),
                }
            }
        }
    }
    let text = |name: &&str| {
        let values = &lines[name];
        let of = |wanted: &str| values.iter().find(|(field, _)| *field == wanted).map_or(0.0, |(_, v)| *v);
        let shown = values.iter().map(|(field, value)| match *field {
            "usec_per_call" => format!("{field}={:.2}", of("usec") / of("calls").max(1.0)),
            _ if section == "Latencystats" => format!("{field}={value:.3}"),
            _ => format!("{field}={value}"),
        });
        format!("{name}:{}\r\n", shown.collect::<Vec<_>>().join(","))
    };
    order.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_added_up_and_states_are_not() {
        for (section, field, expected) in [
            ("Memory", "used_memory", Rule::Sum),
            ("Memory", "used_memory_human", Rule::Human),
            ("Memory", "used_memory_lua", Rule::Max),
            ("Memory", "used_memory_lua_human", Rule::Human),
            ("Memory", "used_memory_vm_total_human", Rule::Human),
            ("Memory", "mem_fragmentation_ratio", Rule::First),
            ("Persistence", "rdb_bgsave_in_progress", Rule::Max),
            ("Persistence", "rdb_last_save_time", Rule::Min),
            ("Stats", "expired_keys", Rule::Sum),
            ("Stats", "latest_fork_usec", Rule::Max),
            ("Server", "uptime_in_seconds", Rule::First),
            ("Replication", "connected_slaves", Rule::Sum),
            ("Replication", "master_repl_offset", Rule::First),
        ] {
            assert_eq!(rule(section, field), expected, "{section}: {field}");
        }
    }

    #[test]
    fn a_command_is_counted_over_all_nodes_that_ran_it() {
        let reports = [
            "# Commandstats\r\ncmdstat_get:calls=1,usec=10,usec_per_call=10.00,failed_calls=0\r\n\r\n# Errorstats\r\n\
             errorstat_ERR:count=2\r\n",
            "# Commandstats\r\ncmdstat_set:calls=2,usec=3,usec_per_call=1.50,failed_calls=1\r\n\
             cmdstat_get:calls=3,usec=2,usec_per_call=0.67,failed_calls=0\r\n",
        ]
        .map(String::from);
        assert_eq!(
            merge_by_name(&reports, "Commandstats"),
            "cmdstat_get:calls=4,usec=12,usec_per_call=3.00,failed_calls=0\r\n\
             cmdstat_set:calls=2,usec=3,usec_per_call=1.50,failed_calls=1\r\n"
        );
        assert_eq!(merge_by_name(&reports, "Errorstats"), "errorstat_ERR:count=2\r\n");
        assert_eq!(merge_by_name(&reports, "Latencystats"), "");
    }
}
