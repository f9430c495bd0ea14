//! What slotgate has to reach, as data, and whether a run reached it. Pure.

use crate::measure::{Runs, Sample};
use crate::targets::Kind;

/// What is compared.
#[derive(Clone, Copy)]
enum Measure {
    /// CPU time per request, as a ratio to another target's.
    CpuTo(Kind),
    /// Median latency, as a ratio to HAProxy's.
    LatencyToHaproxy,
    /// Requests per second, as a ratio to another target's: the higher the better.
    ThroughputTo(Kind),
    /// Memory per idle client, in KB.
    KbPerClient,
}

struct Goal {
    workload: &'static str,
    measure: Measure,
    must: Option<f64>,
    aim: Option<f64>,
}

const fn goal(workload: &'static str, measure: Measure, must: Option<f64>, aim: Option<f64>) -> Goal {
    Goal { workload, measure, must, aim }
}

const CPU: Measure = Measure::CpuTo(Kind::Haproxy);

#[rustfmt::skip]
const GOALS: &[Goal] = &[
    goal("get50",    CPU,                                  Some(0.60), Some(0.48)),
    goal("set50",    CPU,                                  Some(0.62), Some(0.50)),
    goal("get50P16", CPU,                                  Some(1.05), Some(0.70)),
    goal("get500",   CPU,                                  Some(0.50), Some(0.38)),
    goal("get4k",    CPU,                                  Some(0.65), Some(0.55)),
    goal("set64k",   CPU,                                  Some(0.75), Some(0.65)),
    goal("mget10",   CPU,                                  Some(0.85), Some(0.60)),
    goal("get1",     Measure::LatencyToHaproxy,            Some(1.00), None),
    goal("get50",    Measure::ThroughputTo(Kind::Haproxy), Some(1.35), None),
    goal("get50",    Measure::ThroughputTo(Kind::Direct),  None,       Some(1.00)),
    goal("get50",    Measure::CpuTo(Kind::Echo),           None,       Some(1.25)),
    goal("idle",     Measure::KbPerClient,                 Some(2.00), None),
];

/// A goal beside what was measured.
#[derive(serde::Serialize)]
pub struct Verdict {
    pub workload: &'static str,
    pub measure: String,
    pub must: Option<f64>,
    pub aim: Option<f64>,
    /// `None`: one of the targets did not run.
    pub measured: Option<f64>,
    pub is_higher_better: bool,
}

impl Verdict {
    fn reaches(&self, bound: Option<f64>) -> Option<bool> {
        let (bound, measured) = (bound?, self.measured?);
        Some(if self.is_higher_better { measured >= bound } else { measured <= bound })
    }

    /// What must be reached was not, or is not known to be.
    pub fn is_missed(&self) -> bool {
        self.must.is_some() && self.reaches(self.must) != Some(true)
    }

    pub fn word(&self) -> &'static str {
        match (self.measured, self.reaches(self.must), self.reaches(self.aim)) {
            (None, ..) => "not measured",
            (_, Some(false), _) => "MISSED",
            (_, _, Some(true)) => "aim reached",
            (_, Some(true), _) => "reached",
            (_, None, _) => "aim not reached",
        }
    }
}

/// Every goal beside the medians of the run.
pub fn judge(runs: &Runs) -> Vec<Verdict> {
    GOALS.iter().map(|goal| goal.judge(runs)).collect()
}

impl Goal {
    fn judge(&self, runs: &Runs) -> Verdict {
        let workload = self.workload;
        let ratio = |to, figure: fn(&Sample) -> f64| runs.ratio(workload, Kind::Slotgate, to, figure);
        let (measure, measured) = match self.measure {
            Measure::CpuTo(to) => {
                (format!("CPU per request / {to}"), ratio(to, |sample| sample.cpu_us_per_request))
            }
            Measure::LatencyToHaproxy => {
                ("p50 latency / haproxy".to_owned(), ratio(Kind::Haproxy, |sample| sample.p50_ms))
            }
            Measure::ThroughputTo(to) => {
                (format!("requests per second / {to}"), ratio(to, |sample| sample.requests_per_second))
            }
            Measure::KbPerClient => (
                "KB per idle client".to_owned(),
                runs.median(workload, Kind::Slotgate, |sample| sample.kb_per_client.unwrap_or(f64::NAN)),
            ),
        };
        let is_higher_better = matches!(self.measure, Measure::ThroughputTo(_));
        Verdict { workload, measure, must: self.must, aim: self.aim, measured, is_higher_better }
    }
}
