//! The workloads, as data: what redis-benchmark is told, and which keys are there before.

use crate::echo::Reply;
use crate::targets::Kind;

/// redis-benchmark puts a random number below its `-r` here.
const RANDOM_KEY: &str = "key:__rand_int__";
#[rustfmt::skip]
const MGET_OF_TEN: &[&str] = &[
    "-c", "50", "-r", "100000", "mget",
    RANDOM_KEY, RANDOM_KEY, RANDOM_KEY, RANDOM_KEY, RANDOM_KEY,
    RANDOM_KEY, RANDOM_KEY, RANDOM_KEY, RANDOM_KEY, RANDOM_KEY,
];

/// One workload; every target gets the same.
pub struct Workload {
    pub name: &'static str,
    pub title: &'static str,
    pub load: Load,
    /// Keys written through the target before the first round, so that reads hit.
    pub fill: Option<Keys>,
    /// What the echo answers, so that it writes as many bytes as a node would; `None`: no echo run.
    pub echo: Option<Reply>,
}

/// What is done to a target.
#[derive(Clone, Copy)]
pub enum Load {
    /// redis-benchmark with these arguments sends `count` requests.
    Requests { args: &'static [&'static str], count: u64 },
    /// So many clients do one SET and one GET each and then nothing.
    IdleClients(usize),
}

/// The first `count` of redis-benchmark's random keys, with values of `size` bytes.
#[derive(Clone, Copy)]
pub struct Keys {
    pub count: usize,
    pub size: usize,
}

const SMALL: Option<Keys> = Some(Keys { count: 100_000, size: 64 });

/// The idle clients come first: a process that has served before has memory to reuse, which would
/// hide what a client costs.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "idle",
        title: "5000 idle clients that each did one SET and one GET",
        load: Load::IdleClients(5000),
        fill: None,
        echo: None,
    },
    Workload {
        name: "get50",
        title: "GET, 50 clients",
        load: Load::Requests { args: &["-t", "get", "-c", "50", "-r", "100000", "-d", "64"], count: 50_000 },
        fill: SMALL,
        echo: Some(Reply::Bulk(64)),
    },
    Workload {
        name: "set50",
        title: "SET, 50 clients",
        load: Load::Requests { args: &["-t", "set", "-c", "50", "-r", "100000", "-d", "64"], count: 50_000 },
        fill: None,
        echo: Some(Reply::Ok),
    },
    Workload {
        name: "get50P16",
        title: "GET, 50 clients, pipeline 16",
        load: Load::Requests {
            args: &["-t", "get", "-c", "50", "-r", "100000", "-d", "64", "-P", "16"],
            count: 350_000,
        },
        fill: SMALL,
        echo: Some(Reply::Bulk(64)),
    },
    Workload {
        name: "get1",
        title: "GET, 1 client",
        load: Load::Requests { args: &["-t", "get", "-c", "1", "-r", "100000", "-d", "64"], count: 7_000 },
        fill: SMALL,
        echo: Some(Reply::Bulk(64)),
    },
    Workload {
        name: "get500",
        title: "GET, 500 clients",
        load: Load::Requests { args: &["-t", "get", "-c", "500", "-r", "100000", "-d", "64"], count: 50_000 },
        fill: SMALL,
        echo: Some(Reply::Bulk(64)),
    },
    Workload {
        name: "mget10",
        title: "MGET of 10 random keys over three shards, 50 clients",
        load: Load::Requests { args: MGET_OF_TEN, count: 20_000 },
        fill: SMALL,
        echo: Some(Reply::ArrayOfBulks(10, 64)),
    },
    Workload {
        name: "get4k",
        title: "GET 4 KB, 50 clients",
        load: Load::Requests { args: &["-t", "get", "-c", "50", "-r", "1000", "-d", "4096"], count: 35_000 },
        fill: Some(Keys { count: 1000, size: 4096 }),
        echo: Some(Reply::Bulk(4096)),
    },
    Workload {
        name: "set64k",
        title: "SET 64 KB, 20 clients",
        load: Load::Requests { args: &["-t", "set", "-c", "20", "-r", "1000", "-d", "65536"], count: 7_000 },
        fill: None,
        echo: Some(Reply::Ok),
    },
];

impl Workload {
    /// How many of `wanted` rounds this workload runs. Idle clients connect once: in a second round
    /// the process would reuse the first one's memory.
    pub fn rounds(&self, wanted: u16) -> u16 {
        match self.load {
            Load::IdleClients(_) => 1,
            Load::Requests { .. } => wanted,
        }
    }

    /// Each round is so many runs on every target in turn: where the scheduler puts the processes differs
    /// from run to run, and costs or saves a tenth.
    pub fn runs_per_round(&self) -> u64 {
        match self.load {
            Load::IdleClients(_) => 1,
            Load::Requests { .. } => 5,
        }
    }

    pub fn applies_to(&self, kind: Kind) -> bool {
        kind != Kind::Echo || self.echo.is_some()
    }
}
