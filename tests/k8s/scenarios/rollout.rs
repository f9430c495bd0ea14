//! All pods of Redis anew, one after the other, by Kubernetes itself: primaries hand over in their `preStop`.

use super::under_load;
use crate::lab::Lab;
use crate::report::Row;
use crate::words::{say, time};
use anyhow::Result;
use std::time::Instant;

/// The same image by its full name, which every machine has: to the StatefulSet it is another one.
const SAME: &str = "docker.io/library/redis:7.0";

pub fn run(lab: &Lab) -> Result<Vec<Row>> {
    lab.install()?;
    let image = std::env::var("SLOTGATE_TEST_OTHER_IMAGE").unwrap_or_else(|_| SAME.into());
    let mut rows =
        roll(lab, "rollout restart statefulset redis", &["rollout", "restart", "statefulset/redis"])?;
    let other = format!("redis={image}");
    rows.extend(roll(lab, "another image of Redis", &["set", "image", "statefulset/redis", &other])?);
    Ok(rows)
}

fn roll(lab: &Lab, what: &str, command: &[&str]) -> Result<Vec<Row>> {
    let (tally, done) = under_load(lab, what, |_| {
        say(&format!("  kubectl {}", command.join(" ")));
        let began = Instant::now();
        lab.kubectl.run(command)?;
        lab.kubectl.run(&["rollout", "status", "statefulset/redis", "--timeout=15m"])?;
        lab.wait_until_whole(6)?;
        say(&format!("  whole after {}", time(began.elapsed())));
        Ok(Vec::new())
    })?;
    Ok([vec![tally.unnoticed(what)], done].concat())
}
