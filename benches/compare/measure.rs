//! One measurement: run the load, read what the benchmark saw and what the process used.

use crate::targets::{Kind, Target};
use crate::wire;
use anyhow::{Context as _, Result, ensure};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// What one run of one workload on one target showed.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Sample {
    pub requests_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// User and system time of the target's process and its threads, per request.
    pub cpu_us_per_request: f64,
    pub rss_mb: f64,
    /// Only of idle clients: by how much the process grew for each.
    pub kb_per_client: Option<f64>,
}

impl Sample {
    /// The mean of several, each figure by itself.
    pub fn mean(samples: &[Sample]) -> Sample {
        let of = |figure: fn(&Sample) -> f64| samples.iter().map(figure).sum::<f64>() / samples.len() as f64;
        Sample {
            requests_per_second: of(|sample| sample.requests_per_second),
            p50_ms: of(|sample| sample.p50_ms),
            p99_ms: of(|sample| sample.p99_ms),
            cpu_us_per_request: of(|sample| sample.cpu_us_per_request),
            rss_mb: of(|sample| sample.rss_mb),
            kb_per_client: samples
                .iter()
                .all(|sample| sample.kb_per_client.is_some())
                .then(|| of(|sample| sample.kb_per_client.unwrap_or_default())),
        }
    }
}

/// All samples of a run, in the order in which they were taken.
#[derive(Default, serde::Serialize)]
pub struct Runs(Vec<Row>);

#[derive(serde::Serialize)]
struct Row {
    workload: &'static str,
    target: Kind,
    samples: Vec<Sample>,
}

impl Runs {
    pub fn add(&mut self, workload: &'static str, target: Kind, sample: Sample) {
        match self.0.iter_mut().find(|row| row.workload == workload && row.target == target) {
            Some(row) => row.samples.push(sample),
            None => self.0.push(Row { workload, target, samples: vec![sample] }),
        }
    }

    fn samples(&self, workload: &str, target: Kind) -> &[Sample] {
        let row = self.0.iter().find(|row| row.workload == workload && row.target == target);
        row.map_or(&[], |row| &row.samples)
    }

    /// The median of one figure over the rounds; `None` when there is no round.
    pub fn median(&self, workload: &str, target: Kind, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(self.samples(workload, target).iter().map(figure).collect())
    }

    /// The median of the rounds' ratios: each round compares what ran within the same minute.
    pub fn ratio(
        &self,
        workload: &str,
        target: Kind,
        to: Kind,
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<f64> {
        let pairs = self.samples(workload, target).iter().zip(self.samples(workload, to));
        median(pairs.map(|(mine, theirs)| figure(mine) / figure(theirs)).collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Runs redis-benchmark on the target.
pub fn run_requests(target: &Target, args: &[&str], count: u64) -> Result<Sample> {
    let before = cpu_time(target.pid)?;
    let output = Command::new("redis-benchmark")
        .args(["-p", &target.port.to_string(), "--precision", "3", "--csv", "-n", &count.to_string()])
        .args(args)
        .output()
        .context("redis-benchmark was not found (Debian, Ubuntu: apt-get install redis-tools)")?;
    let used = cpu_time(target.pid)?.saturating_sub(before);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "redis-benchmark: {} {}", out.trim(), err.trim());
    // test, rps, average, min, p50, p95, p99, max; a line of names before it.
    let line = out.lines().rfind(|line| line.starts_with('"') && !line.starts_with("\"test\""));
    let fields: Option<Vec<f64>> = line.and_then(|line| {
        let fields = line.trim_matches('"').split("\",\"").skip(1);
        fields.map(|field| field.parse().ok()).collect()
    });
    let Some([rate, _, _, p50, _, p99, _]) = fields.as_deref() else {
        anyhow::bail!("redis-benchmark printed no figures: {} {}", out.trim(), err.trim());
    };
    Ok(Sample {
        requests_per_second: *rate,
        p50_ms: *p50,
        p99_ms: *p99,
        cpu_us_per_request: used.as_secs_f64() * 1e6 / count as f64,
        rss_mb: rss_kb(target.pid)? / 1024.0,
        kb_per_client: None,
    })
}

/// Connects clients one after the other and looks at the target's memory while all are idle.
pub fn hold_idle_clients(target: &Target, count: usize) -> Result<Sample> {
    let before = rss_kb(target.pid)?;
    let clients = (0..count)
        .map(|ix| wire::idle_client(target.port, ix).with_context(|| format!("client {ix}")))
        .collect::<Result<Vec<_>>>()?;
    // Long enough for a process that gives memory back when its clients have nothing to do.
    thread::sleep(Duration::from_secs(2));
    let after = rss_kb(target.pid)?;
    Ok(Sample {
        rss_mb: after / 1024.0,
        kb_per_client: Some((after - before) / clients.len() as f64),
        ..Sample::default()
    })
}

/// User and system time so far, of all threads (`/proc/PID/task/TID/schedstat`, first field, nanoseconds; a
/// short run is a few of the ticks that `/proc/PID/stat` counts in).
fn cpu_time(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("the process has ended")? {
        let Ok(stat) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let spent: Option<u64> = stat.split(' ').next().and_then(|field| field.parse().ok());
        nanoseconds += spent.context("/proc/PID/task/TID/schedstat is not as expected")?;
    }
    ensure!(nanoseconds > 0, "this kernel keeps no /proc/PID/task/TID/schedstat");
    Ok(Duration::from_nanos(nanoseconds))
}

fn rss_kb(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next()).and_then(|kb| kb.parse().ok());
    kb.context("/proc/PID/status holds no VmRSS")
}

/// Says so when other work on this machine is going to disturb the figures.
pub fn warn_unless_quiet() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    if let Some(load) = load.split(' ').next().and_then(|load| load.parse::<f64>().ok())
        && load > 0.5
    {
        eprintln!(
            "warning: this machine is not quiet (load {load}): absolute figures will be off, ratios less so"
        );
    }
}
