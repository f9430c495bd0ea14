//! The gateways themselves: rolled out anew, and the leading one killed.

use super::under_load;
use crate::faults::kill_container;
use crate::lab::{Lab, TOOLS};
use crate::report::Row;
use crate::tally::within;
use crate::words::say;
use anyhow::Result;
use std::time::Duration;

pub fn run(lab: &Lab) -> Result<Vec<Row>> {
    lab.install()?;
    Ok([restart(lab)?, kill(lab)?].concat())
}

/// Each of two gateways is replaced once, so a client that falls from one to the other is closed twice.
fn restart(lab: &Lab) -> Result<Vec<Row>> {
    const WHAT: &str = "rollout restart deployment slotgate";
    let (tally, done) = under_load(lab, WHAT, |_| {
        say(&format!("  kubectl {WHAT}"));
        lab.kubectl.run(&["rollout", "restart", "deployment/slotgate"])?;
        lab.kubectl.run(&["rollout", "status", "deployment/slotgate", "--timeout=5m"])?;
        // The old ones drain after the new ones are there.
        lab.wait_for("the old gateways are gone", Duration::from_secs(120), || {
            match lab.pods(crate::lab::GATEWAYS).map_err(|error| format!("{error:#}"))?.as_slice() {
                [_, _] => Ok(()),
                pods => Err(format!("there are {}", pods.len())),
            }
        })?;
        lab.wait_until_whole(6)?;
        Ok(Vec::new())
    })?;
    Ok([vec![tally.closed_at_most(WHAT, 2)], done].concat())
}

/// Its clients lose their connection, and get another one at the first try or, while Kubernetes has not yet
/// heard of it, at one of the next.
fn kill(lab: &Lab) -> Result<Vec<Row>> {
    const WHAT: &str = "the leader killed -9";
    let (tally, done) = under_load(lab, WHAT, |_| {
        let (pod, holder) = lab.leader()?;
        say(&format!("  {WHAT}: {}", pod.name));
        let at = kill_container(&lab.tools(), &pod.machine, TOOLS, &pod.container)?;
        lab.wait_for("there is another leader", Duration::from_secs(60), || {
            match lab.leader().map_err(|error| format!("{error:#}"))? {
                (_, now) if now == holder => Err(format!("still {now}")),
                _ => Ok(()),
            }
        })?;
        let led = at.elapsed();
        lab.wait_until_whole(6)?;
        Ok(vec![within(&format!("{WHAT}: another one leads"), Duration::from_secs(20), led)])
    })?;
    let is_kept = tally.errors() == 0 && tally.most_ends() <= 1 && tally.is_whole();
    let row = Row::new(WHAT, "0 errors for who reconnects", tally.words(), is_kept);
    Ok([vec![row], done].concat())
}
