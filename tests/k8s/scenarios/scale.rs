//! Three shards, four, and three again, by `slotgate scale`.

use super::under_load;
use crate::lab::{Lab, REDIS};
use crate::report::Row;
use crate::words::{say, time};
use anyhow::Result;
use std::time::Instant;

pub fn run(lab: &Lab) -> Result<Vec<Row>> {
    const WHAT: &str = "scale 3 -> 4 -> 3 shards";
    lab.install()?;
    let (tally, done) = under_load(lab, WHAT, |_| {
        for shards in [4, 3] {
            say(&format!("  slotgate scale --shards {shards}"));
            let began = Instant::now();
            let shards_text = shards.to_string();
            let words =
                ["scale", "--shards", &shards_text, "--replicas=1", "--yes", "--wait", "--timeout=10m"];
            lab.slotgate(&words)?;
            let members = lab.wait_until_whole(2 * shards)?;
            anyhow::ensure!(
                members.iter().filter(|member| member.is_primary).count() == shards,
                "{members:?}"
            );
            anyhow::ensure!(lab.pods(REDIS)?.len() == 2 * shards, "not {} pods", 2 * shards);
            say(&format!("  {shards} shards after {}", time(began.elapsed())));
        }
        Ok(Vec::new())
    })?;
    Ok([vec![tally.unnoticed(WHAT)], done].concat())
}
