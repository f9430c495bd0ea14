//! Pods of Redis that are deleted or whose volume is lost.

use super::{ELECTED, under_load};
use crate::faults::kill_container;
use crate::lab::{Lab, Member, Pod, REDIS, TOOLS};
use crate::report::Row;
use crate::tally::within;
use crate::words::{say, time};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
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

/// A primary's storage loses what it wrote: all of it with its pod, or only its data.
pub fn volume(lab: &Lab) -> Result<Vec<Row>> {
    lab.install()?;
    Ok([claim(lab)?, data(lab)?].concat())
}

/// The claim is deleted and the pod ended at once: another node comes back in its place.
fn claim(lab: &Lab) -> Result<Vec<Row>> {
    const WHAT: &str = "a primary's volume lost with its pod";
    lose(lab, WHAT, "VolumeLost", |lost| {
        let before = lab.pods(&selector(&lost.pod))?;
        let claim = format!("redis-data-{}", lost.pod);
        lab.kubectl.run(&["delete", "persistentvolumeclaim", "--wait=false", &claim])?;
        lab.kubectl.run(&["delete", "pod", "--force", "--grace-period=0", "--wait=false", &lost.pod])?;
        lab.wait_until_replaced(&selector(&lost.pod), &before)
    })
}

/// The node comes back at once and empty, under its id and with its slots: its replica must not become a
/// copy of that.
fn data(lab: &Lab) -> Result<Vec<Row>> {
    const WHAT: &str = "a primary killed, and back without its data";
    lose(lab, WHAT, "DataLost", |lost| {
        let pod = lab.pods(&selector(&lost.pod))?.pop().context("the primary has no pod")?;
        lab.kubectl.run(&["exec", &pod.name, "--", "sh", "-c", "rm -r /var/lib/redis/appendonlydir"])?;
        let at = kill_container(&lab.tools(), &pod.machine, TOOLS, &pod.container)?;
        lab.wait_for("its container runs again", Duration::from_secs(60), || {
            let now = lab.pods(&selector(&pod.name)).map_err(|error| format!("{error:#}"))?;
            let is_new = |now: &Pod| now.container != pod.container && now.is_running;
            if now.iter().any(is_new) { Ok(()) } else { Err("not yet".into()) }
        })?;
        Ok(at)
    })
}

/// Takes something from a primary; what its replica had must be there afterwards, and an Event must tell.
fn lose(
    lab: &Lab,
    what: &str,
    event: &str,
    fault: impl FnOnce(&Member) -> Result<Instant>,
) -> Result<Vec<Row>> {
    let mut began = Instant::now();
    let (tally, done) = under_load(lab, what, |load| {
        let members = lab.wait_until_whole(6)?;
        let lost = members.iter().find(|member| member.is_primary).context("no primary")?;
        say(&format!("  {what}: {} with {} keys", lost.pod, lost.keys));
        began = Instant::now();
        let runs = fault(lost)?;
        lab.wait_until_whole(6)?;
        let whole = runs.elapsed();
        load.go_on(20)?;
        // Events are told a second later.
        sleep(Duration::from_secs(2));
        let events = lab.kubectl.get(&["events", "--field-selector", "involvedObject.name=redis"])?;
        let of_slotgate = |event: &&Value| event["source"]["component"] == "slotgate";
        let all = events["items"].as_array().into_iter().flatten().filter(of_slotgate);
        let reasons: BTreeSet<&str> = all.filter_map(|event| event["reason"].as_str()).collect();
        let told = match reasons.contains(event) {
            true => "told".to_string(),
            false => format!("only {}", reasons.iter().copied().collect::<Vec<_>>().join(" ")),
        };
        Ok(vec![
            within(&format!("{what}: whole after it runs again"), Duration::from_secs(60), whole),
            Row::new(&format!("{what}: told"), &format!("Event {event}"), told, reasons.contains(event)),
        ])
    })?;
    // What the node took between its end and its replica's turn is gone.
    let is_kept = tally.errors() == 0 && tally.lost_but_around(began, ELECTED) == 0;
    let row = Row::new(what, "0 errors, nothing replicated lost", tally.words(), is_kept);
    Ok([vec![row], done].concat())
}

fn selector(pod: &str) -> String {
    format!("{REDIS},statefulset.kubernetes.io/pod-name={pod}")
}

/// Who is what, by the nodes' ids.
fn roles(members: &[Member]) -> BTreeMap<String, bool> {
    members.iter().map(|member| (member.id.clone(), member.is_primary)).collect()
}
