//! An API server that takes connections and says nothing, for two minutes.

use super::under_load;
use crate::faults::Hanging;
use crate::lab::Lab;
use crate::report::Row;
use crate::words::say;
use anyhow::{Context as _, Result};
use std::thread::sleep;
use std::time::Duration;

const AWAY: Duration = Duration::from_secs(120);

pub fn run(lab: &Lab) -> Result<Vec<Row>> {
    const WHAT: &str = "the API server hangs for two minutes";
    lab.install()?;
    let pid = lab.site.api_pid.context("no SLOTGATE_TEST_API_PID")?;
    let (tally, done) = under_load(lab, WHAT, |load| {
        say("  the API server stops answering");
        let hanging = Hanging::stop(pid)?;
        sleep(AWAY);
        drop(hanging);
        say("  the API server goes on");
        lab.wait_for("somebody leads", Duration::from_secs(180), || {
            lab.leader().map(drop).map_err(|error| format!("{error:#}"))
        })?;
        lab.wait_until_whole(6)?;
        load.go_on(100)?;
        Ok(Vec::new())
    })?;
    Ok([vec![tally.unnoticed(WHAT)], done].concat())
}
