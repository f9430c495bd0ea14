//! Numbers that are read off at the moment of a scrape: the topology and the process itself.

use super::readiness::readiness;
use super::topology::health_word;
use crate::control::kubernetes::WatchStatus;
use crate::control::leadership::Leader;
use crate::control::reconcile::ManageStatus;
use crate::shutdown::Phase;
use crate::telemetry::{Sample, table};
use crate::topology::{Health, NodeIx, ShardIx, Snapshot};
use std::time::Duration;

/// The samples of a snapshot that the nodes confirmed `age` ago. Pure.
pub fn topology_samples(phase: Phase, snapshot: &Snapshot, age: Option<Duration>) -> Vec<Sample> {
    let mut samples = vec![
        Sample::new(&table::TOPOLOGY_VERSION, snapshot.version as f64),
        Sample::new(&table::SLOTS_COVERED, snapshot.covered() as f64),
        Sample::new(&table::SLOTS_SERVED, snapshot.served() as f64),
        Sample::new(&table::READY, f64::from(u8::from(readiness(phase, snapshot).is_ok()))),
    ];
    samples.extend(age.map(|age| Sample::new(&table::TOPOLOGY_AGE, age.as_secs_f64())));
    for (ix, node) in snapshot.nodes().iter().enumerate() {
        let shard = snapshot.shard_of_node(ix as NodeIx).map(|shard| snapshot.shard(shard));
        let role = match shard {
            Some(shard) if usize::from(shard.primary) == ix => "primary",
            Some(_) => "replica",
            None => "none",
        };
        for health in [Health::Ok, Health::Suspect, Health::Failed] {
            let labels =
                [node.id.as_str(), &node.addr.to_string(), role, health_word(health)].map(str::to_string);
            samples.push(Sample::with(
                &table::NODE_HEALTH,
                labels,
                f64::from(u8::from(node.health == health)),
            ));
        }
    }
    for (ix, shard) in snapshot.shards().iter().enumerate() {
        let slots: usize = snapshot.ranges_of(ix as ShardIx).iter().map(|range| range.count()).sum();
        let primary = snapshot.node(shard.primary).id.as_str();
        samples.push(Sample::with(&table::SHARD_SLOTS, [primary], slots as f64));
    }
    samples
}

/// What the manager counted.
pub fn manage_samples(status: &ManageStatus) -> Vec<Sample> {
    let mut samples = vec![
        Sample::new(&table::MANAGE_PROBLEMS, status.problem_count() as f64),
        Sample::new(&table::MANAGE_PAUSED, f64::from(u8::from(status.is_paused()))),
    ];
    samples
        .extend(status.healthy_ago().map(|ago| Sample::new(&table::MANAGE_HEALTHY_AGE, ago.as_secs_f64())));
    let steps = status.steps();
    samples.extend(
        steps.into_iter().map(|(action, result, count)| {
            Sample::with(&table::MANAGE_STEPS, [action, result], count as f64)
        }),
    );
    samples
}

/// Who leads.
pub fn leader_samples(leader: &Leader) -> [Sample; 2] {
    [
        Sample::new(&table::LEADER, f64::from(u8::from(leader.is_own))),
        Sample::new(&table::LEADER_TRANSITIONS, f64::from(leader.transitions)),
    ]
}

/// What the API server is of no use for.
pub fn kubernetes_sample(status: &WatchStatus) -> Sample {
    Sample::new(&table::KUBERNETES_TROUBLES, status.troubles().len() as f64)
}

/// The samples of this process, up for `uptime`; what the system does not tell is left out.
pub fn process_samples(uptime: Duration) -> Vec<Sample> {
    let mut samples = vec![
        Sample::with(&table::BUILD, [env!("CARGO_PKG_VERSION")], 1.0),
        Sample::new(&table::UPTIME, uptime.as_secs_f64()),
    ];
    samples.extend(cpu_time().map(|time| Sample::new(&table::CPU, time.as_secs_f64())));
    samples.extend(resident_bytes().map(|bytes| Sample::new(&table::MEMORY, bytes as f64)));
    samples.extend(open_descriptors().map(|count| Sample::new(&table::DESCRIPTORS, count as f64)));
    samples.extend(max_descriptors().map(|count| Sample::new(&table::MAX_DESCRIPTORS, count as f64)));
    samples
}

/// User and system time of all threads.
fn cpu_time() -> Option<Duration> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage writes a whole rusage to the pointer, which is valid and large enough.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return None;
        }
        usage.assume_init()
    };
    let duration = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    Some(duration(usage.ru_utime) + duration(usage.ru_stime))
}

/// `VmRSS` of proc(5).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn open_descriptors() -> Option<usize> {
    // One of them is the directory that is being read.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

fn max_descriptors() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes an rlimit to the pointer, which is valid.
    let is_known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    is_known.then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::super::tests::cluster;
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn a_scrape_shows_the_topology() {
        let text =
            Metrics::new().render(&topology_samples(Phase::Ready, &cluster(), Some(Duration::from_secs(3))));
        let id = |n: u8| format!("{n:040x}");
        for line in [
            "slotgate_topology_age_seconds 3".to_string(),
            "slotgate_slots_served 16384".to_string(),
            "slotgate_ready 1".to_string(),
            format!("slotgate_shard_slots{{primary=\"{}\"}} 8192", id(0)),
            format!("slotgate_shard_requests_total{{primary=\"{}\"}} 0", id(1)),
            format!(
                "slotgate_node_health{{node=\"{}\",addr=\"127.0.0.1:7002\",role=\"replica\",health=\"suspect\"}} 1",
                id(2)
            ),
            format!(
                "slotgate_node_health{{node=\"{}\",addr=\"127.0.0.1:7002\",role=\"replica\",health=\"ok\"}} 0",
                id(2)
            ),
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn without_an_answer_of_the_nodes_there_is_no_age() {
        let samples = topology_samples(Phase::Ready, &Snapshot::empty(), None);
        assert!(samples.iter().all(|sample| sample.metric.name != table::TOPOLOGY_AGE.name));
    }

    #[test]
    fn the_process_knows_its_memory_and_descriptors() {
        let samples = process_samples(Duration::from_secs(1));
        let value = |name: &str| samples.iter().find(|sample| sample.metric.name == name).unwrap().value;
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
    }
}
