//! SLOWLOG: the logs of all primaries as one. Pure.
//!
//! A command that all primaries were sent, such as FLUSHALL, stands in each of their logs and once in ours.

use super::fanout::{element, elements, integer, pairs_of, text_of};
use crate::resp::{self, ReplyWriter};

/// How far back a node's log is searched for its entry of a command that went to all.
const WINDOW: usize = 32;
/// Nodes that were sent a command together began it within so many seconds.
const TOGETHER: i64 = 1;
/// What nodes and those who manage them say to each other: no client's business, and it tells addresses.
const OF_NODES: &[&str] =
    &["cluster", "migrate", "psync", "sync", "replconf", "replicaof", "slaveof", "failover"];
/// CONFIG as the gateway itself says it, where no client's command is meant: so it can be told from theirs.
pub const OUR_CONFIG: &str = "cONFIG";
/// What GET shows when it is not told how many.
const USUAL: usize = 10;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Len,
    /// The newest so many.
    Get(usize),
}

impl Request {
    /// Of SLOWLOG LEN or GET; `None` when the number is none.
    pub fn new(request: &resp::Request) -> Option<Request> {
        if request.arg(1).eq_ignore_ascii_case(b"len") {
            return Some(Request::Len);
        }
        let Some(given) = request.get(2) else { return Some(Request::Get(USUAL)) };
        match std::str::from_utf8(given).ok()?.parse::<i64>().ok()? {
            _ if request.len() > 3 => None,
            -1 => Some(Request::Get(usize::MAX)),
            count => usize::try_from(count).ok().map(Request::Get),
        }
    }
}

/// One entry of a node's log.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    id: i64,
    time: i64,
    micros: i64,
    args: &'a [u8],
    /// The client's address and name, where the node tells.
    rest: &'a [u8],
    fields: usize,
}

impl<'a> Entry<'a> {
    fn of(entry: &'a [u8]) -> Option<Entry<'a>> {
        let (fields, rest) = super::fanout::array(entry);
        let (id, rest) = element(rest)?;
        let (time, rest) = element(rest)?;
        let (micros, rest) = element(rest)?;
        let (args, rest) = element(rest)?;
        Some(Entry { id: integer(id), time: integer(time), micros: integer(micros), args, rest, fields })
    }

    fn is_of_clients(&self) -> bool {
        let name = elements(self.args).next().map(text_of).unwrap_or_default();
        let is_ours = name == OUR_CONFIG.as_bytes();
        let name = name.to_ascii_lowercase();
        !is_ours && !OF_NODES.iter().any(|of_nodes| of_nodes.as_bytes() == name)
    }

    /// Whether it is another node's entry of the same command.
    fn is_same(&self, other: &Entry) -> bool {
        self.args == other.args && (self.time - other.time).abs() <= TOGETHER
    }
}

/// Writes what was asked; the last reply is that of CONFIG GET slowlog-max-len.
pub fn merge(request: &Request, replies: &[&[u8]], out: &mut ReplyWriter) {
    let (limit, logs) = replies.split_last().map_or((usize::MAX, replies), |(setting, logs)| {
        let limit = pairs_of(setting).next().map(|(_, value)| integer(value));
        (limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX), logs)
    });
    let nodes = logs.len().max(1) as i64;
    let entries = one_log(logs);
    let kept = entries.len().min(limit);
    let shown = match request {
        Request::Len => return out.integer(kept as i64),
        Request::Get(count) => kept.min(*count),
    };
    out.array(shown);
    for (node, entry) in entries.iter().take(shown) {
        out.array(entry.fields);
        // Unlike those of all other entries of all nodes.
        out.integer(entry.id * nodes + node);
        out.integer(entry.time);
        out.integer(entry.micros);
        out.out.extend_from_slice(entry.args);
        out.out.extend_from_slice(entry.rest);
    }
}

/// All entries, the newest first, with the number of the node.
fn one_log<'a>(logs: &[&'a [u8]]) -> Vec<(i64, Entry<'a>)> {
    let mut logs: Vec<Vec<Entry>> = logs
        .iter()
        .map(|log| elements(log).filter_map(Entry::of).filter(Entry::is_of_clients).collect())
        .collect();
    // The newest at the end, to be taken off.
    logs.iter_mut().for_each(|log| log.reverse());
    let mut all = Vec::new();
    loop {
        let mut heads: Vec<(usize, Entry)> =
            logs.iter().enumerate().filter_map(|(node, log)| Some((node, *log.last()?))).collect();
        heads.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.time));
        // What another node has newer entries before comes after these.
        let is_free = |(node, entry): &(usize, Entry)| {
            let mut others = logs.iter().enumerate().filter(|(other, _)| other != node);
            others.all(|(_, log)| {
                let at = log.iter().rev().take(WINDOW).position(|other| other.is_same(entry));
                at.is_none_or(|at| at == 0)
            })
        };
        let newest = heads.first().map_or(0, |(_, entry)| entry.time);
        let together = heads.iter().filter(|(_, entry)| newest - entry.time <= TOGETHER);
        let Some((node, mut entry)) = together.clone().find(|head| is_free(head)).or(heads.first()).copied()
        else {
            return all;
        };
        for log in &mut logs {
            if let Some(same) = log.pop_if(|last| last.is_same(&entry)) {
                entry.micros = entry.micros.max(same.micros);
            }
        }
        all.push((node as i64, entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Limits, RequestScanner, Version, write_request};

    fn log(entries: &[(i64, i64, i64, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = ReplyWriter { out: &mut out, version: Version::Resp2 };
        writer.array(entries.len());
        for (id, time, micros, command) in entries {
            writer.array(6);
            [*id, *time, *micros].into_iter().for_each(|number| writer.integer(number));
            let words: Vec<&str> = command.split(' ').collect();
            writer.array(words.len());
            words.iter().for_each(|word| writer.bulk(word));
            writer.bulk("127.0.0.1:1");
            writer.bulk("");
        }
        out
    }

    fn limit(most: u32) -> Vec<u8> {
        format!("*2\r\n$15\r\nslowlog-max-len\r\n${}\r\n{most}\r\n", most.to_string().len()).into_bytes()
    }

    fn asked(line: &str) -> Option<Request> {
        let (mut frame, mut scanner) = (Vec::new(), RequestScanner::default());
        write_request(&mut frame, line.split(' ').collect::<Vec<_>>());
        scanner.scan(&frame, Limits::USUAL).unwrap();
        Request::new(&resp::Request::new(&frame, scanner.args()))
    }

    fn merged(request: Request, replies: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        merge(&request, replies, &mut ReplyWriter { out: &mut out, version: Version::Resp2 });
        out
    }

    #[test]
    fn a_number_that_is_none_is_for_a_node_to_refuse() {
        assert_eq!(asked("SLOWLOG LEN"), Some(Request::Len));
        assert_eq!(asked("SLOWLOG GET"), Some(Request::Get(10)));
        assert_eq!(asked("SLOWLOG GET -1"), Some(Request::Get(usize::MAX)));
        assert_eq!(asked("SLOWLOG GET -2"), None);
        assert_eq!(asked("SLOWLOG GET many"), None);
    }

    #[test]
    fn logs_become_one_with_the_newest_first_and_what_went_to_all_once() {
        let a = log(&[(2, 100, 5, "config set x y"), (1, 100, 9, "get a"), (0, 99, 7, "slowlog reset")]);
        let b = log(&[(5, 100, 6, "set b 1"), (4, 100, 8, "config set x y"), (3, 99, 4, "slowlog reset")]);
        let expected = log(&[
            (11, 100, 6, "set b 1"),
            (4, 100, 8, "config set x y"),
            (2, 100, 9, "get a"),
            (0, 99, 7, "slowlog reset"),
        ]);
        let all = merged(Request::Get(10), &[&a, &b, &limit(128)]);
        assert_eq!(String::from_utf8(all).unwrap(), String::from_utf8(expected).unwrap());
        assert_eq!(merged(Request::Len, &[&a, &b, &limit(128)]), b":4\r\n");
    }

    #[test]
    fn no_more_is_kept_or_shown_than_one_server_would() {
        let (a, b) = (log(&[(1, 9, 5, "get a"), (0, 7, 5, "get a")]), log(&[(0, 8, 6, "get b")]));
        assert_eq!(merged(Request::Len, &[&a, &b, &limit(2)]), b":2\r\n");
        let first = log(&[(2, 9, 5, "get a")]);
        assert_eq!(merged(Request::Get(1), &[&a, &b, &limit(2)]), first);
        assert_eq!(merged(Request::Get(0), &[&a, &b, &limit(2)]), b"*0\r\n");
    }

    #[test]
    fn what_nodes_say_to_each_other_is_not_shown() {
        let log = log(&[
            (2, 60, 5, "cONFIG GET maxmemory"),
            (1, 50, 5, "MIGRATE 10.0.0.7 7001 k 0 1"),
            (0, 40, 5, "get a"),
        ]);
        assert_eq!(merged(Request::Len, &[&log, &limit(128)]), b":1\r\n");
    }

    #[test]
    fn the_same_command_later_is_another_entry() {
        let (a, b) = (log(&[(1, 50, 5, "dbsize"), (0, 40, 5, "dbsize")]), log(&[(0, 40, 6, "dbsize")]));
        assert_eq!(merged(Request::Len, &[&a, &b, &limit(128)]), b":2\r\n");
    }
}
