//! What is done to an installation, one function each, in the order in which they are played.

mod api;
mod gateways;
mod install;
mod machines;
mod pods;
mod rollout;
mod scale;

use crate::lab::{Lab, Site};
use crate::load::Load;
use crate::report::Row;
use crate::seed;
use crate::tally::Tally;
use crate::words::say;
use anyhow::Result;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    /// Why it cannot be played here, and what would help.
    pub lacks: fn(&Site) -> Option<String>,
    pub run: fn(&Lab) -> Result<Vec<Row>>,
}

pub enum Played {
    Rows(Vec<Row>),
    LeftOut(String),
}

pub const ALL: &[Scenario] = &[
    Scenario { name: "install", what: "kubectl apply -k deploy/", lacks: nothing, run: install::apply },
    Scenario {
        name: "adopt",
        what: "the tutorial's own objects, then kubectl apply -k deploy/overlays/gateway-only",
        lacks: nothing,
        run: install::adopt,
    },
    Scenario {
        name: "pods",
        what: "a replica's pod is deleted, then a primary's",
        lacks: nothing,
        run: pods::one,
    },
    Scenario {
        name: "all-pods",
        what: "all six pods of Redis are deleted at once",
        lacks: nothing,
        run: pods::all,
    },
    Scenario {
        name: "rollout",
        what: "kubectl rollout restart statefulset redis, then another image",
        lacks: nothing,
        run: rollout::run,
    },
    Scenario {
        name: "gateways",
        what: "kubectl rollout restart deployment slotgate, then kill -9 of the leader",
        lacks: nothing,
        run: gateways::run,
    },
    Scenario {
        name: "drain",
        what: "kubectl drain of a machine",
        lacks: machine_to_spare,
        run: machines::drain,
    },
    Scenario {
        name: "scale",
        what: "slotgate scale to 4 shards and back to 3",
        lacks: nothing,
        run: scale::run,
    },
    Scenario {
        name: "volume",
        what: "a primary's volume is lost with its pod",
        lacks: nothing,
        run: pods::volume,
    },
    Scenario { name: "kill", what: "a machine dies, and boots", lacks: power_switch, run: machines::kill },
    Scenario {
        name: "cut",
        what: "a machine's network is away for a minute",
        lacks: power_switch,
        run: machines::cut,
    },
    Scenario { name: "api", what: "the API server hangs for two minutes", lacks: api_server, run: api::run },
];

/// How long a primary that was lost may still take writes, or its loss go unnoticed: the node timeout of
/// redis.conf, and some for the election.
const ELECTED: Duration = Duration::from_secs(9);

fn nothing(_: &Site) -> Option<String> {
    None
}

fn machine_to_spare(site: &Site) -> Option<String> {
    let count = site.machines.len();
    (count < 2).then(|| format!("it needs two machines or more, there is {count}"))
}

fn power_switch(site: &Site) -> Option<String> {
    let lacks = "it needs a power switch: SLOTGATE_TEST_FAULTS=PROGRAM, which does PROGRAM kill|boot|cut|join MACHINE";
    match site.faults {
        None => Some(lacks.into()),
        Some(_) => machine_to_spare(site),
    }
}

fn api_server(site: &Site) -> Option<String> {
    let lacks = "it needs SLOTGATE_TEST_API_PID=PID, the process id of an API server on this machine, to stop it a while";
    site.api_pid.is_none().then(|| lacks.into())
}

/// Keys, then clients at work, then what is done; and at the end the keys must be there.
fn under_load(
    lab: &Lab,
    what: &str,
    change: impl FnOnce(&Load) -> Result<Vec<Row>>,
) -> Result<(Tally, Vec<Row>)> {
    under_load_at(what, &lab.doors()?, crate::PATIENCE, change)
}

/// The same at these doors, by clients that wait so long for a reply.
fn under_load_at(
    what: &str,
    doors: &[SocketAddr],
    patience: Duration,
    change: impl FnOnce(&Load) -> Result<Vec<Row>>,
) -> Result<(Tally, Vec<Row>)> {
    seed::write(doors[0])?;
    let began = Instant::now();
    let load = Load::start(doors, patience)?;
    let mut rows = change(&load)?;
    let tally = load.stop()?;
    tally.story(began).iter().for_each(|line| say(&format!("    {line}")));
    rows.push(kept(what, seed::missing(doors[0])?));
    Ok((tally, rows))
}

/// That no key of before is missing.
fn kept(what: &str, missing: usize) -> Row {
    let measured = format!("{missing} of {} missing", seed::KEYS);
    Row::new(&format!("{what}: keys of before"), "0 missing", measured, missing == 0)
}
