//! Pods of Redis that are deleted or whose volume is lost.

use super::{ELECTED, under_load};
use crate::lab::{Lab, Member, REDIS};
use crate::report::Row;
use crate::tally::within;
use crate::words::{say, time};
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long it may take from the moment the pod runs again.
const WHOLE: Duration = Duration::from_secs(15);

/// One replica's pod, then one primary's.
pub fn one(lab: &Lab) -> Result<Vec<Row>> {
    lab.install()?;
    let mut rows = Vec::new();
    for (kind, is_primary) in [("replica", false), ("primary", true)] {
        let what = format!("a {kind}'s pod deleted");
        let (tally, done) = under_load(lab, &what, |_| {
            let members = lab.wait_until_whole(6)?;
            let of_kind = members.iter().find(|member| member.is_primary == is_primary);
            let name = &of_kind.with_context(|| format!("no {kind}"))?.pod;
            say(&format!("  {what}: {name}"));
            let selector = selector(name);
            let before = lab.pods(&selector)?;
            lab.kubectl.run(&["delete", "pod", "--wait=false", name])?;
            let runs = lab.wait_until_replaced(&selector, &before)?;
            lab.wait_until_whole(6)?;
            Ok(vec![within(&format!("{what}: whole after it runs again"), WHOLE, runs.elapsed())])
        })?;
        rows.push(tally.unnoticed(&what));
        rows.extend(done);
    }
    Ok(rows)
}

/// All six at once: nobody is left to serve, and each comes back at another address.
pub fn all(lab: &Lab) -> Result<Vec<Row>> {
    const WHAT: &str = "all six pods deleted at once";
    const SERVING: Duration = Duration::from_secs(10);
    lab.install()?;
    let (tally, mut rows) = under_load(lab, WHAT, |load| {
        let roles = roles(&lab.wait_until_whole(6)?);
        let before = lab.pods(REDIS)?;
        say(&format!("  {WHAT}"));
        lab.kubectl.run(&["delete", "pod", "--wait=false", "--selector", REDIS])?;
        let runs = lab.wait_until_replaced(REDIS, &before)?;
        load.go_on(5)?;
        let serving = runs.elapsed();
        let after = self::roles(&lab.wait_until_whole(6)?);
        let whole = runs.elapsed();
        let changed: Vec<&str> = after
            .iter()
            .filter(|(id, role)| roles.get(*id) != Some(role))
            .map(|(id, _)| id.as_str())
            .collect();
        Ok(vec![
            within(&format!("{WHAT}: serving after the last one runs"), SERVING, serving),
            Row::new(
                &format!("{WHAT}: roles as before"),
                "0 changed",
                format!("{} changed; whole after {}", changed.len(), time(whole)),
                changed.is_empty(),
            ),
        ])
    })?;
    // Clients wait longer than any request is held; what they are told meanwhile is measured, not promised.
    rows.insert(0, Row::new(WHAT, "data there, nothing lost", tally.words(), tally.is_whole()));
    Ok(rows)
}

/// A primary's claim is deleted and its pod ended at once, so that it does not hand over before.
pub fn volume(lab: &Lab) -> Result<Vec<Row>> {
    const WHAT: &str = "a primary's volume lost with its pod";
    lab.install()?;
    let mut fault = Instant::now();
    let (tally, done) = under_load(lab, WHAT, |_| {
        let members = lab.wait_until_whole(6)?;
        let lost = members.iter().find(|member| member.is_primary).context("no primary")?;
        let before = lab.pods(&selector(&lost.pod))?;
        say(&format!("  {WHAT}: {} with {} keys", lost.pod, lost.keys));
        fault = Instant::now();
        let claim = format!("redis-data-{}", lost.pod);
        lab.kubectl.run(&["delete", "persistentvolumeclaim", "--wait=false", &claim])?;
        lab.kubectl.run(&["delete", "pod", "--force", "--grace-period=0", "--wait=false", &lost.pod])?;
        let runs = lab.wait_until_replaced(&selector(&lost.pod), &before)?;
        let after = lab.wait_until_whole(6)?;
        let whole = runs.elapsed();
        let is_new = after.iter().all(|member| member.id != lost.id);
        anyhow::ensure!(is_new, "{} came back with its id: its volume was not lost", lost.pod);
        let warnings = ["events", "--field-selector", "involvedObject.name=redis,type=Warning"];
        let warnings = lab.kubectl.get(&warnings)?;
        let reasons =
            warnings["items"].as_array().into_iter().flatten().filter_map(|event| event["reason"].as_str());
        let reasons: BTreeSet<&str> = reasons.collect();
        Ok(vec![
            within(&format!("{WHAT}: whole after it runs again"), Duration::from_secs(60), whole),
            Row::new(
                &format!("{WHAT}: report"),
                "Event VolumeLost",
                reasons.iter().copied().collect::<Vec<_>>().join(" "),
                reasons.contains("VolumeLost"),
            ),
        ])
    })?;
    let is_kept = tally.errors() == 0 && tally.lost_but_around(fault, ELECTED) == 0;
    let mut rows = vec![Row::new(WHAT, "0 errors, nothing replicated lost", tally.words(), is_kept)];
    rows.extend(done);
    Ok(rows)
}

fn selector(pod: &str) -> String {
    format!("{REDIS},statefulset.kubernetes.io/pod-name={pod}")
}

/// Who is what, by the nodes' ids.
fn roles(members: &[Member]) -> BTreeMap<String, bool> {
    members.iter().map(|member| (member.id.clone(), member.is_primary)).collect()
}
