//! Four shards become three and four again while clients are at work, and no key is lost.

use crate::lab::Lab;
use crate::load::{Load, Tally};
use crate::report::Row;
use crate::scenarios::no_errors;
use anyhow::{Context as _, Result, bail, ensure};
use slotgate::topology::{SLOTS, Slot};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const SHARDS: usize = 4;
/// For each shard.
const CLIENTS: usize = 6;
/// Keys that nobody touches meanwhile.
const KEYS: usize = 20_000;
/// Requests in one write.
const BATCH: usize = 500;
/// Longer than any request may be held.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

/// A primary and its replica leave, and come back as an empty shard that gets its share.
pub fn resize(slotgate: &Path, times: u32) -> Result<Vec<Row>> {
    let lab = Lab::serving_with(slotgate, SHARDS * 2)?;
    fill(lab.gateway)?;
    let before = Digest::of(&lab)?;
    ensure!(before.keys == KEYS, "only {} of {KEYS} keys were written", before.keys);
    let load_keys = keys_of_shards();
    let load = Load::start(lab.gateway, &load_keys, CLIENTS);
    let (mut shrunk, mut grown) = (Duration::ZERO, Duration::ZERO);
    let mut digests = Vec::new();
    for _ in 0..times {
        let primary = lab.primary_of(&load_keys[SHARDS - 1])?;
        let replica = replica_of(&lab, primary)?;
        let [primary, replica] = [primary, replica].map(|node| lab.nodes.addrs()[node].to_string());
        let stays = lab.nodes.addrs()[lab.primary_of(&load_keys[0])?].to_string();
        let begun = Instant::now();
        lab.slotgate(&["remove", &primary, &stays, "--yes"])?;
        lab.slotgate(&["remove", &replica, &stays, "--yes"])?;
        shrunk = shrunk.max(begun.elapsed());
        digests.push(Digest::of(&lab)?);
        let begun = Instant::now();
        lab.slotgate(&["add", &primary, &stays, "--yes"])?;
        lab.slotgate(&["rebalance", &stays, "--use-empty", "--yes"])?;
        lab.slotgate(&["add", &replica, &stays, "--replica-of", &primary, "--yes"])?;
        grown = grown.max(begun.elapsed());
        digests.push(Digest::of(&lab)?);
    }
    lab.wait_until_whole()?;
    let tally = Tally::of(&load.stop());
    let what = format!("shrink 4 -> 3, grow 3 -> 4 shards ({times} x)");
    let lost = digests.iter().map(|digest| KEYS - digest.keys).max().unwrap_or(0);
    let is_same = digests.iter().all(|digest| *digest == before);
    let words = if is_same { "the digest as before" } else { "ANOTHER DIGEST" };
    let measured = format!("{lost} lost of {KEYS}, {words}");
    let took = format!("shrunk in {shrunk:.1?}, grown in {grown:.1?}, longest command {:.0?}", tally.longest);
    let errors = no_errors(&what, &tally);
    Ok(vec![
        Row::new(&errors.what, &errors.promised, format!("{}; {took}", errors.measured), errors.is_kept),
        Row::new(&format!("{what}: keys"), "0 lost, same digest", measured, lost == 0 && is_same),
    ])
}

/// A key of each of the four shards, as they are formed.
fn keys_of_shards() -> Vec<String> {
    let key = |shard: usize| {
        let mut keys = (0..).map(|number| format!("load:{number}"));
        keys.find(|key| Slot::of_key(key.as_bytes()).index() * SHARDS / SLOTS == shard).unwrap_or_default()
    };
    (0..SHARDS).map(key).collect()
}

/// The node that follows this one.
fn replica_of(lab: &Lab, primary: usize) -> Result<usize> {
    let id = lab.ask(primary, &["CLUSTER", "MYID"])?;
    for node in 0..lab.nodes.addrs().len() {
        let nodes = lab.ask(node, &["CLUSTER", "NODES"])?;
        if nodes.lines().any(|line| line.contains("myself,slave") && line.contains(&id)) {
            return Ok(node);
        }
    }
    bail!("nobody follows {id}")
}

fn key(ix: usize) -> String {
    format!("still:{ix}")
}

/// Writes keys of every type, some with a time to live, some with many fields.
fn fill(gateway: SocketAddr) -> Result<()> {
    let requests = (0..KEYS).map(|ix| {
        let (key, value) = (key(ix), format!("value {ix}"));
        let mut words: Vec<String> = match ix % 7 {
            0 => vec!["SET".into(), key, value],
            1 => vec!["SET".into(), key, value, "EX".into(), "100000".into()],
            2 => vec!["RPUSH".into(), key, value],
            3 => vec!["HSET".into(), key, "field".into(), value],
            4 => vec!["SADD".into(), key, value],
            5 => vec!["ZADD".into(), key, "1.5".into(), value],
            _ => vec!["XADD".into(), key, "1-1".into(), "field".into(), value],
        };
        // Beyond what is kept in one piece of memory.
        if ix % 70 == 2 || ix % 70 == 4 {
            words.extend((0..200).map(|more| format!("more {more}")));
        }
        words
    });
    let replies = converse(gateway, &requests.collect::<Vec<_>>(), 1)?;
    match replies.iter().find(|reply| reply.starts_with('-')) {
        None => Ok(()),
        Some(error) => bail!("the keys could not be written: {error}"),
    }
}

/// What all untouched keys hold, wherever they are.
#[derive(PartialEq, Eq)]
struct Digest {
    keys: usize,
    sum: u64,
}

impl Digest {
    /// Asks each key's owner by that one's own word.
    fn of(lab: &Lab) -> Result<Digest> {
        let mut digest = Digest { keys: 0, sum: 0 };
        for node in 0..lab.nodes.addrs().len() {
            let nodes = lab.ask(node, &["CLUSTER", "NODES"])?;
            let Some(own) = nodes.lines().find(|line| line.contains("myself,master")) else { continue };
            let ranges = own.split(' ').skip(8).filter_map(|range| {
                let (start, end) = range.split_once('-').unwrap_or((range, range));
                Some((start.parse::<u16>().ok()?, end.parse::<u16>().ok()?))
            });
            let ranges: Vec<(u16, u16)> = ranges.collect();
            let owns = |key: &String| {
                let slot = Slot::of_key(key.as_bytes()).number();
                ranges.iter().any(|(start, end)| (*start..=*end).contains(&slot))
            };
            let keys: Vec<String> = (0..KEYS).map(key).filter(owns).collect();
            let question = |key: &String| vec!["DEBUG".to_string(), "DIGEST-VALUE".to_string(), key.clone()];
            // An array of one line.
            let lines = converse(lab.nodes.addrs()[node], &keys.iter().map(question).collect::<Vec<_>>(), 2)?;
            for (key, value) in keys.iter().zip(lines.chunks(2).map(|lines| &lines[1])) {
                ensure!(value.len() == 41, "DEBUG DIGEST-VALUE {key}: {value}");
                // Of a key that is not there.
                if value[1..].bytes().any(|digit| digit != b'0') {
                    let mut hash = DefaultHasher::new();
                    (key, value).hash(&mut hash);
                    digest.keys += 1;
                    digest.sum = digest.sum.wrapping_add(hash.finish());
                }
            }
        }
        Ok(digest)
    }
}

/// Sends requests, many at a time, and reads so many lines for each; of a bulk, its text.
fn converse(addr: SocketAddr, requests: &[Vec<String>], lines_each: usize) -> Result<Vec<String>> {
    let stream = TcpStream::connect(addr).with_context(|| format!("cannot connect to {addr}"))?;
    stream.set_read_timeout(Some(REPLY_LIMIT))?;
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::with_capacity(requests.len() * lines_each);
    for batch in requests.chunks(BATCH) {
        let mut text = String::new();
        for words in batch {
            text.push_str(&format!("*{}\r\n", words.len()));
            words.iter().for_each(|word| text.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        }
        stream.get_mut().write_all(text.as_bytes())?;
        for _ in 0..batch.len() * lines_each {
            let mut line = String::new();
            ensure!(stream.read_line(&mut line)? > 0, "{addr} closed the connection");
            // The id of a stream's entry is a bulk, of which this is the head.
            if line.starts_with('$') {
                line.clear();
                stream.read_line(&mut line)?;
            }
            lines.push(line.trim_end().to_string());
        }
    }
    Ok(lines)
}
