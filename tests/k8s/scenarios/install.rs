//! `kubectl apply -k deploy/` into an empty namespace, and slotgate alone in front of a cluster that runs.

use crate::lab::{Lab, REDIS};
use crate::objects;
use crate::report::Row;
use crate::tally::within;
use crate::wire::Client;
use crate::words::say;
use anyhow::{Context as _, Result};
use std::time::{Duration, Instant};

/// Until the first write is acknowledged, and until all is whole.
pub fn apply(lab: &Lab) -> Result<Vec<Row>> {
    let began = Instant::now();
    lab.apply(lab.whole())?;
    let door = lab.doors()?[0];
    lab.wait_for("a SET is acknowledged", Duration::from_secs(180), || {
        let mut client = Client::try_connect(door).ok_or("nobody is there")?;
        client.set_patience(Duration::from_secs(15));
        let reply = client.try_call(&["SET", "a", "bbb"]).map_err(|error| error.to_string())?;
        if reply == b"+OK\r\n" { Ok(()) } else { Err(String::from_utf8_lossy(&reply).trim().into()) }
    })?;
    let first = began.elapsed();
    let members = lab.wait_until_whole(6)?;
    let whole = began.elapsed();
    let mut primaries: Vec<&str> = members.iter().filter(|m| m.is_primary).map(|m| m.pod.as_str()).collect();
    primaries.sort_unstable();
    Ok(vec![
        within("apply -k deploy/ to the first SET", Duration::from_secs(45), first),
        within("apply -k deploy/ to all pods ready", Duration::from_secs(60), whole),
        Row::new("apply -k deploy/: primaries", "three", primaries.join(" "), primaries.len() == 3),
    ])
}

/// The tutorial's cluster, formed by its own command, with data; then slotgate in front of it.
pub fn adopt(lab: &Lab) -> Result<Vec<Row>> {
    const WHAT: &str = "gateway-only before the tutorial's cluster";
    say("  the tutorial's own objects");
    lab.kubectl.apply(&objects::tutorial(&lab.namespace)?)?;
    lab.wait_for("six pods run", Duration::from_secs(180), || {
        let running = lab.pods(REDIS).map_err(|error| format!("{error:#}"))?;
        let running = running.iter().filter(|pod| pod.is_ready).count();
        if running == 6 { Ok(()) } else { Err(format!("{running} do")) }
    })?;
    let before = lab.pods(REDIS)?;
    let nodes = before.iter().map(|pod| format!("{}:6379", pod.address)).collect::<Vec<_>>().join(" ");
    let first = &before[0].name;
    let form = format!("redis-cli --cluster create {nodes} --cluster-replicas 1 --cluster-yes");
    lab.kubectl.run(&["exec", first, "--", "sh", "-c", &form])?;
    // As the tutorial's reader would, by a client that follows redirects.
    let fill = "for i in $(seq 1 500); do echo set old:$i value-$i; done | redis-cli -c | grep -c OK";
    lab.wait_for("the cluster takes 500 keys", Duration::from_secs(60), || {
        let written =
            lab.kubectl.run(&["exec", first, "--", "sh", "-c", fill]).map_err(|e| format!("{e:#}"))?;
        if written.trim() == "500" { Ok(()) } else { Err(format!("{} were", written.trim())) }
    })?;
    let door = lab.doors()?[0];
    say("  kubectl apply -k deploy/overlays/gateway-only");
    let began = Instant::now();
    lab.apply("overlays/gateway-only")?;
    lab.wait_for("plain clients are served", Duration::from_secs(120), || {
        // Of all shards; a node would redirect most of them.
        (0..20).try_for_each(|number| {
            let mut client = Client::try_connect(door).ok_or("nobody is there")?;
            client.set_patience(Duration::from_secs(15));
            let words = ["SET".to_string(), format!("new:{number}"), "value".to_string()];
            let reply = client.try_call(&words).map_err(|error| error.to_string())?;
            if reply == b"+OK\r\n" { Ok(()) } else { Err(String::from_utf8_lossy(&reply).trim().to_string()) }
        })
    })?;
    let served = began.elapsed();
    let members = lab.wait_until_whole(6)?;
    let mut client = Client::try_connect(door).context("nobody is there")?;
    let mut missing = 0;
    for number in 1..=500 {
        let reply = client.try_call(&["GET".to_string(), format!("old:{number}")])?;
        missing += usize::from(!String::from_utf8_lossy(&reply).contains(&format!("value-{number}\r\n")));
    }
    let is_untouched = lab.pods(REDIS)?.iter().all(|pod| before.iter().any(|old| old.uid == pod.uid));
    Ok(vec![
        within(&format!("{WHAT}: clients served"), Duration::from_secs(20), served),
        Row::new(&format!("{WHAT}: keys"), "0 lost", format!("{missing} of 500 lost"), missing == 0),
        Row::new(
            &format!("{WHAT}: nodes"),
            "adopted, untouched",
            format!("{} nodes, pods {}", members.len(), if is_untouched { "the same" } else { "replaced" }),
            is_untouched,
        ),
    ])
}
