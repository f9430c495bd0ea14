//! Machines that are drained, die, or lose their network.

use super::{ELECTED, under_load, under_load_at};
use crate::lab::{GATEWAYS, Lab, REDIS, TOOLS};
use crate::objects;
use crate::report::Row;
use crate::tally::within;
use crate::words::{say, time};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

/// A machine's clients learn of its end by no word of it: they wait no longer than a request is ever held.
const PATIENCE: Duration = Duration::from_secs(12);
/// Kubernetes needs 40 s to notice that a machine is gone; until then every other new connection is given to
/// the gateway that was there.
const ALL_SERVED: Duration = Duration::from_secs(50);
const CUT: Duration = Duration::from_secs(60);

/// All its pods of ours must go elsewhere; those of others stay.
pub fn drain(lab: &Lab) -> Result<Vec<Row>> {
    lab.install()?;
    let machine = victim(lab)?;
    let what = "a machine drained";
    let (tally, done) = under_load(lab, what, |_| {
        say(&format!("  kubectl drain {machine}"));
        let began = Instant::now();
        let uncordon = Uncordon { lab, machine: &machine };
        let ours = format!("--pod-selector={}={}", objects::OWNER, lab.namespace);
        lab.kubectl.run(&["drain", &machine, "--ignore-daemonsets", "--timeout=5m", &ours])?;
        say(&format!("  drained after {}", time(began.elapsed())));
        // A pod that finds no place waits until the machine is back; the others go on without it.
        drop(uncordon);
        lab.wait_until_whole(6)?;
        Ok(Vec::new())
    })?;
    // A gateway that goes closes its clients' connections between two replies.
    let mut row = tally.closed_at_most(what, 1);
    row.promised = "0 errors (its gateway's clients: closed once)".into();
    Ok([vec![row], done].concat())
}

struct Uncordon<'a> {
    lab: &'a Lab<'a>,
    machine: &'a str,
}

impl Drop for Uncordon<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.lab.kubectl.run(&["uncordon", self.machine]) {
            say(&format!("  {} IS STILL CORDONED: {error:#}", self.machine));
        }
    }
}

/// Without a word, and after a while it boots.
pub fn kill(lab: &Lab) -> Result<Vec<Row>> {
    const WHAT: &str = "a machine killed";
    lab.install()?;
    let faults = lab.site.faults.as_ref().context("no SLOTGATE_TEST_FAULTS")?;
    let machine = victim(lab)?;
    let doors = lab.doors_without(&machine)?;
    let mut fault = Instant::now();
    let (tally, done) = under_load_at(WHAT, &doors, PATIENCE, |load| {
        fault = Instant::now();
        let broken = faults.break_one(&machine, "kill", "boot")?;
        // All clients, whichever gateway they had.
        load.go_on(20)?;
        let serving = fault.elapsed();
        // Long enough for Kubernetes to notice, too.
        sleep(Duration::from_secs(60).saturating_sub(fault.elapsed()));
        broken.mend()?;
        let booted = Instant::now();
        lab.wait_until_whole(6)?;
        Ok(vec![
            within(&format!("{WHAT}: all clients served again"), ALL_SERVED, serving),
            within(
                &format!("{WHAT}: whole after boot, without a hand"),
                Duration::from_secs(60),
                booted.elapsed(),
            ),
        ])
    })?;
    let is_kept = tally.errors() == 0 && tally.lost_but_around(fault, ELECTED) == 0 && tally.twice == 0;
    let mut rows = vec![Row::new(WHAT, "0 errors, nothing replicated lost", tally.words(), is_kept)];
    rows.extend(done);
    Ok(rows)
}

/// Its nodes, and a client with a gateway on it, live on by themselves for a minute.
pub fn cut(lab: &Lab) -> Result<Vec<Row>> {
    const WHAT: &str = "a machine's network cut for 60 s";
    lab.install()?;
    let faults = lab.site.faults.as_ref().context("no SLOTGATE_TEST_FAULTS")?;
    let gateway = lab.pods(GATEWAYS)?.into_iter().next().context("no gateway")?;
    let machine = gateway.machine.clone();
    // Writes all the time to the gateway beside it, and tells when and what came of it.
    let script = format!(
        "i=0; while :; do i=$((i+1)); r=$(timeout 15 redis-cli -h {} set witness:$((i % 50)) $i 2>&1 | head -n 1); \
         echo \"$(date +%s%3N) $i $r\"; sleep 0.05; done",
        gateway.address
    );
    lab.kubectl.apply(&[objects::pod("witness", &machine, TOOLS, &script)])?;
    lab.kubectl.run(&["wait", "--for=condition=Ready", "--timeout=60s", "pod/witness"])?;
    let (mut fault, mut since, mut until) = (Instant::now(), SystemTime::now(), SystemTime::now());
    let doors = lab.doors_without(&machine)?;
    let mut lies = Vec::new();
    let (tally, done) = under_load_at(WHAT, &doors, PATIENCE, |load| {
        sleep(Duration::from_secs(5));
        (fault, since) = (Instant::now(), SystemTime::now());
        let broken = faults.break_one(&machine, "cut", "join")?;
        load.go_on(20)?;
        let serving = fault.elapsed();
        sleep(CUT.saturating_sub(fault.elapsed()));
        until = SystemTime::now();
        broken.mend()?;
        let joined = Instant::now();
        lab.wait_until_whole(6)?;
        let whole = joined.elapsed();
        lies = witnessed(lab, &doors)?;
        Ok(vec![
            within(&format!("{WHAT}: all clients served again"), ALL_SERVED, serving),
            within(&format!("{WHAT}: whole after it is back"), Duration::from_secs(60), whole),
        ])
    })?;
    let is_kept = tally.errors() == 0 && tally.lost_but_around(fault, ELECTED) == 0 && tally.twice == 0;
    let mut rows = vec![Row::new(WHAT, "0 errors, nothing replicated lost", tally.words(), is_kept)];
    rows.extend(done);
    let late = |at: &&SystemTime| **at > since + ELECTED && **at < until;
    let window = lies.iter().filter(|at| **at >= since && **at <= since + ELECTED).count();
    let late = lies.iter().filter(late).count();
    rows.push(Row::new(
        &format!("{WHAT}: acknowledged on the cut side, and gone"),
        "0 once the node timeout is over",
        format!("{late}; {window} within it, {} otherwise", lies.len() - late - window),
        late == 0 && lies.len() == window,
    ));
    Ok(rows)
}

/// A machine with a gateway and, if there is such a one, with a primary.
fn victim(lab: &Lab) -> Result<String> {
    let members = lab.wait_until_whole(6)?;
    let nodes = lab.pods(REDIS)?;
    let has_primary = |machine: &str| {
        let is_primary = |pod: &str| members.iter().any(|member| member.pod == pod && member.is_primary);
        nodes.iter().any(|pod| pod.machine == machine && is_primary(&pod.name))
    };
    let gateways = lab.pods(GATEWAYS)?;
    let best = gateways.iter().max_by_key(|pod| has_primary(&pod.machine));
    Ok(best.context("no gateway runs")?.machine.clone())
}

/// When the witness was told of writes that are not there.
fn witnessed(lab: &Lab, doors: &[std::net::SocketAddr]) -> Result<Vec<SystemTime>> {
    let log = lab.kubectl.run(&["logs", "witness"])?;
    lab.kubectl.run(&["delete", "pod", "witness", "--wait=true"])?;
    let mut acknowledged: BTreeMap<u64, (u64, SystemTime)> = BTreeMap::new();
    for line in log.lines() {
        let mut words = line.split(' ');
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
        if let (Some(at), Some(value), Some("OK")) =
            (number(words.next()), number(words.next()), words.next())
        {
            acknowledged.insert(value % 50, (value, SystemTime::UNIX_EPOCH + Duration::from_millis(at)));
        }
    }
    anyhow::ensure!(acknowledged.len() >= 20, "the witness wrote only {} keys:\n{log}", acknowledged.len());
    let mut client = crate::wire::Client::try_connect(doors[0]).context("nobody is there")?;
    let mut lies = Vec::new();
    for (key, (value, at)) in acknowledged {
        let reply = client.try_call(&["GET".to_string(), format!("witness:{key}")])?;
        let reply = String::from_utf8_lossy(&reply).into_owned();
        let found = reply.split("\r\n").nth(1).and_then(|body| body.parse::<u64>().ok()).unwrap_or(0);
        // Later ones of unknown outcome may be there instead.
        if found < value {
            lies.push(at);
        }
    }
    Ok(lies)
}
