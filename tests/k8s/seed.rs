//! Keys that nobody touches: all of them must be there in the end, and nothing else with such a name.

use crate::wire::Client;
use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;

pub const KEYS: usize = 3000;
/// Keys of one MGET or MSET.
const BATCH: usize = 100;

fn key(number: usize) -> String {
    format!("seed:{number}")
}

fn value(number: usize) -> String {
    format!("{number}-{}", "x".repeat(number % 200))
}

fn call(client: &mut Client, words: &[String]) -> Result<String> {
    let reply = client.try_call(words).with_context(|| words[0].clone())?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// Writes them all.
pub fn write(door: SocketAddr) -> Result<()> {
    let mut client = Client::try_connect(door).with_context(|| format!("nobody at {door}"))?;
    for first in (0..KEYS).step_by(BATCH) {
        let mut words = vec!["MSET".to_string()];
        words.extend((first..first + BATCH).flat_map(|number| [key(number), value(number)]));
        let reply = call(&mut client, &words)?;
        ensure!(reply == "+OK\r\n", "MSET: {reply}");
    }
    Ok(())
}

/// How many are not there as they were written.
pub fn missing(door: SocketAddr) -> Result<usize> {
    let mut client = Client::try_connect(door).with_context(|| format!("nobody at {door}"))?;
    let mut missing = 0;
    for first in (0..KEYS).step_by(BATCH) {
        let mut words = vec!["MGET".to_string()];
        words.extend((first..first + BATCH).map(key));
        let reply = call(&mut client, &words)?;
        ensure!(reply.starts_with('*'), "MGET: {reply}");
        // The values have no line ends in them: each has a line of its own after that of its length.
        let mut lines = reply.split("\r\n").skip(1);
        for number in first..first + BATCH {
            let found = lines.next().filter(|length| *length != "$-1").and_then(|_| lines.next());
            missing += usize::from(found != Some(&value(number)));
        }
    }
    Ok(missing)
}
