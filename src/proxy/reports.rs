//! What the nodes tell of themselves (SLOWLOG, LATENCY, MEMORY, DEBUG DIGEST), as one server would tell it.
//! Pure.

use super::fanout::{elements, integer, pairs_of, text_of};
use super::slow_log;
use crate::resp::{self, ReplyWriter, write_request};
use sha1::{Digest, Sha1};

/// Which report of all primaries is made one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// SLOWLOG GET and LEN: one log, the newest first.
    SlowLog,
    /// LATENCY LATEST: each event once, as it happened last, with the worst of all nodes.
    Latest,
    /// LATENCY HISTORY: all samples by time.
    History,
    /// LATENCY HISTOGRAM: how many calls took so long, over all nodes.
    Histogram,
    /// ACL LOG: the entries of all nodes.
    Entries,
    /// MEMORY STATS: sizes added up.
    Numbers,
    /// Texts for people: one of them where all say the same.
    Texts,
    /// DEBUG DIGEST: as if all keys were in one server.
    Digest,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    SlowLog(slow_log::Request),
    Other(Report),
}

impl Request {
    /// `None` when the request cannot be understood, and any node says so in words of its own.
    pub fn new(report: Report, request: &resp::Request) -> Option<Request> {
        match report {
            Report::SlowLog => slow_log::Request::new(request).map(Request::SlowLog),
            _ => Some(Request::Other(report)),
        }
    }

    /// What each node is asked, and what only the first one is asked beyond it.
    pub fn questions(&self, request: &resp::Request) -> (Vec<u8>, Option<Vec<u8>>) {
        match self {
            Request::SlowLog(_) => {
                let ask = |words: &[&str]| {
                    let mut frame = Vec::new();
                    write_request(&mut frame, words);
                    frame
                };
                // As many as a node has: -1 means that only from Redis 7 on.
                let entries = ask(&["SLOWLOG", "GET", "2147483647"]);
                (entries, Some(ask(&[slow_log::OUR_CONFIG, "GET", "slowlog-max-len"])))
            }
            Request::Other(_) => (request.frame.to_vec(), None),
        }
    }
}

/// Writes one server's reply, made of those of the nodes.
pub fn merge(request: &Request, replies: &[&[u8]], out: &mut ReplyWriter) {
    match request {
        Request::SlowLog(request) => slow_log::merge(request, replies, out),
        Request::Other(Report::Latest) => latest(replies, out),
        Request::Other(Report::History) => history(replies, out),
        Request::Other(Report::Histogram) => histogram(replies, out),
        Request::Other(Report::Entries) => entries(replies, out),
        Request::Other(Report::Numbers) => numbers(replies, out),
        Request::Other(Report::Digest) => out.simple(&digest(replies)),
        Request::Other(_) => texts(replies, out),
    }
}

fn entries(replies: &[&[u8]], out: &mut ReplyWriter) {
    if let Some(done) = replies.first().filter(|reply| reply.starts_with(b"+")) {
        return out.out.extend_from_slice(done);
    }
    let all: Vec<&[u8]> = replies.iter().flat_map(|reply| elements(reply)).collect();
    out.array(all.len());
    all.iter().for_each(|entry| out.out.extend_from_slice(entry));
}

fn latest(replies: &[&[u8]], out: &mut ReplyWriter) {
    let mut events: Vec<(&[u8], Vec<i64>)> = Vec::new();
    for event in replies.iter().flat_map(|reply| elements(reply)) {
        let mut fields = elements(event);
        let Some(name) = fields.next() else { continue };
        let numbers: Vec<i64> = fields.map(integer).collect();
        match events.iter_mut().find(|(other, _)| *other == name) {
            Some((_, known)) => {
                let worst = known.get(2).max(numbers.get(2)).copied();
                if numbers.first() > known.first() {
                    *known = numbers;
                }
                if let (Some(max), Some(worst)) = (known.get_mut(2), worst) {
                    *max = worst;
                }
            }
            None => events.push((name, numbers)),
        }
    }
    out.array(events.len());
    for (name, numbers) in events {
        out.array(1 + numbers.len());
        out.out.extend_from_slice(name);
        numbers.into_iter().for_each(|number| out.integer(number));
    }
}

fn history(replies: &[&[u8]], out: &mut ReplyWriter) {
    let mut samples: Vec<&[u8]> = replies.iter().flat_map(|reply| elements(reply)).collect();
    samples.sort_by_key(|sample| elements(sample).next().map_or(0, integer));
    out.array(samples.len());
    samples.iter().for_each(|sample| out.out.extend_from_slice(sample));
}

/// For each command how many calls there were, and for some times, rising, how many took up to so long.
fn histogram(replies: &[&[u8]], out: &mut ReplyWriter) {
    let mut names: Vec<&[u8]> = Vec::new();
    let all: Vec<Vec<(&[u8], &[u8])>> = replies.iter().map(|reply| pairs_of(reply).collect()).collect();
    for (name, _) in all.iter().flatten() {
        if !names.contains(name) {
            names.push(name);
        }
    }
    out.map(names.len());
    for name in names {
        let mut calls = 0;
        let mut nodes: Vec<Vec<(i64, i64)>> = Vec::new();
        for (_, report) in all.iter().flatten().filter(|(other, _)| *other == name) {
            for (field, value) in pairs_of(report) {
                if text_of(field) == b"calls" {
                    calls += integer(value);
                } else {
                    nodes.push(pairs_of(value).map(|(at, count)| (integer(at), integer(count))).collect());
                }
            }
        }
        let mut times: Vec<i64> = nodes.iter().flatten().map(|(time, _)| *time).collect();
        times.sort_unstable();
        times.dedup();
        out.out.extend_from_slice(name);
        out.map(2);
        out.bulk("calls");
        out.integer(calls);
        out.bulk("histogram_usec");
        out.map(times.len());
        for time in times {
            let up_to = |node: &Vec<(i64, i64)>| {
                node.iter().rev().find(|(at, _)| *at <= time).map_or(0, |(_, count)| *count)
            };
            out.integer(time);
            out.integer(nodes.iter().map(up_to).sum());
        }
    }
}

/// Whole numbers are added up, ratios averaged, what is nested likewise; the first node gives the fields.
fn numbers(replies: &[&[u8]], out: &mut ReplyWriter) {
    let all: Vec<Vec<(&[u8], &[u8])>> = replies.iter().map(|reply| pairs_of(reply).collect()).collect();
    let mut names: Vec<&[u8]> = Vec::new();
    for (name, _) in all.iter().flatten() {
        if !names.contains(name) {
            names.push(name);
        }
    }
    out.map(names.len());
    for name in names {
        let same = all.iter().flatten().filter(|(other, _)| *other == name);
        let values: Vec<&[u8]> = same.map(|(_, value)| *value).collect();
        out.out.extend_from_slice(name);
        match values[0].first() {
            Some(b':') => out.integer(values.iter().map(|value| integer(value)).sum()),
            Some(b'*' | b'%') => numbers(&values, out),
            kind => match average(&values) {
                Some(average) if kind == Some(&b',') => out.double(average),
                Some(average) => out.bulk(average.to_string()),
                None => out.out.extend_from_slice(values[0]),
            },
        }
    }
}

fn average(values: &[&[u8]]) -> Option<f64> {
    let numbers: Option<Vec<f64>> =
        values.iter().map(|value| std::str::from_utf8(text_of(value)).ok()?.parse().ok()).collect();
    numbers.map(|numbers| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

fn texts(replies: &[&[u8]], out: &mut ReplyWriter) {
    let texts: Vec<_> = replies.iter().map(|reply| String::from_utf8_lossy(text_of(reply))).collect();
    if texts.windows(2).all(|pair| pair[0] == pair[1]) {
        return out.verbatim(texts.first().map_or("", |text| text));
    }
    let count = texts.len();
    let numbered =
        texts.iter().enumerate().map(|(at, text)| format!("Part {} of {count}:\n{text}\n", at + 1));
    out.verbatim(&numbered.collect::<String>());
}

/// The servers' digest is that of the database's number, with that of every key laid over it by XOR; that of a
/// server without keys is all zeroes (`src/debug.c`, `computeDatasetDigest`).
fn digest(replies: &[&[u8]]) -> String {
    let mut total = [0u8; 20];
    let mut filled = 0;
    for reply in replies {
        let text = text_of(reply);
        let bytes: Vec<u8> = text
            .chunks(2)
            .map_while(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
            .collect();
        filled += usize::from(bytes.iter().any(|byte| *byte != 0));
        total.iter_mut().zip(bytes).for_each(|(sum, byte)| *sum ^= byte);
    }
    // The number is there as often as there are servers with keys, and must be once.
    if filled > 0 && filled % 2 == 0 {
        let number = Sha1::digest(Sha1::digest(0u32.to_be_bytes()));
        total.iter_mut().zip(number).for_each(|(sum, byte)| *sum ^= byte);
    }
    total.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Version;

    fn merged(report: Report, version: Version, replies: &[&str]) -> String {
        let replies: Vec<&[u8]> = replies.iter().map(|reply| reply.as_bytes()).collect();
        let mut out = Vec::new();
        merge(&Request::Other(report), &replies, &mut ReplyWriter { out: &mut out, version });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_told_once_with_the_worst_of_all_nodes() {
        let node = |time: u32, last: u32, worst: u32| {
            format!("*1\r\n*4\r\n$4\r\nfork\r\n:{time}\r\n:{last}\r\n:{worst}\r\n")
        };
        assert_eq!(
            merged(Report::Latest, Version::Resp2, &[&node(10, 3, 9), "*0\r\n", &node(20, 4, 5)]),
            node(20, 4, 9)
        );
    }

    #[test]
    fn samples_of_all_nodes_stand_in_the_order_of_time() {
        let sample = |time: u32| format!("*2\r\n:{time}\r\n:7\r\n");
        let (a, b) = (format!("*2\r\n{}{}", sample(1), sample(5)), format!("*1\r\n{}", sample(3)));
        assert_eq!(
            merged(Report::History, Version::Resp2, &[&a, &b]),
            format!("*3\r\n{}{}{}", sample(1), sample(3), sample(5))
        );
    }

    #[test]
    fn calls_that_took_so_long_are_counted_over_all_nodes() {
        let node = |calls: u32, buckets: &str, count: usize| {
            format!(
                "*2\r\n$3\r\nget\r\n*4\r\n$5\r\ncalls\r\n:{calls}\r\n$14\r\nhistogram_usec\r\n*{count}\r\n{buckets}"
            )
        };
        let (a, b) = (node(3, ":1\r\n:1\r\n:4\r\n:3\r\n", 4), node(2, ":2\r\n:2\r\n", 2));
        assert_eq!(
            merged(Report::Histogram, Version::Resp2, &[&a, "*0\r\n", &b]),
            node(5, ":1\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n", 6)
        );
    }

    #[test]
    fn sizes_are_added_up_and_ratios_averaged() {
        let node = |size: u32, nested: u32, ratio: &str| {
            format!("%3\r\n+peak\r\n:{size}\r\n+db.0\r\n%1\r\n+x\r\n:{nested}\r\n+ratio\r\n,{ratio}\r\n")
        };
        assert_eq!(
            merged(Report::Numbers, Version::Resp3, &[&node(5, 1, "1"), &node(7, 2, "2")]),
            node(12, 3, "1.5")
        );
    }

    #[test]
    fn what_all_nodes_say_is_said_once() {
        let same = ["$2\r\nhi\r\n", "$2\r\nhi\r\n"];
        assert_eq!(merged(Report::Texts, Version::Resp2, &same), "$2\r\nhi\r\n");
        let other = merged(Report::Texts, Version::Resp3, &["=6\r\ntxt:hi\r\n", "=6\r\ntxt:ho\r\n"]);
        assert!(other.ends_with("txt:Part 1 of 2:\nhi\nPart 2 of 2:\nho\n\r\n"), "{other}");
    }

    #[test]
    fn the_digest_is_that_of_one_server_with_all_keys() {
        let empty = format!("+{}\r\n", "0".repeat(40));
        let one = format!("+{}\r\n", "1f".repeat(20));
        assert_eq!(merged(Report::Digest, Version::Resp2, &[&one, &empty]), one);
        // Two equal ones leave the number of the database alone.
        let base = "94e4a6e4ff1b6d5bdc1e0c5bff0bd9ee3c9e4a0b";
        let both = merged(Report::Digest, Version::Resp2, &[&one, &one]);
        assert_eq!(both.len(), base.len() + 3);
        let three = merged(Report::Digest, Version::Resp2, &[&one, &one, &one]);
        assert_eq!(three, one);
    }
}
