//! PUBSUB: who listens, over all nodes and all clients of the gateway. Pure.
//!
//! At the nodes, the gateway itself is one more client for each of its workers, whoever it listens for. What
//! nodes say is taken without that, and our clients are counted here. Other gateways count as the
//! clients of nodes that they are.

use super::fanout::{elements, integer, text_of};
use super::pubsub::{Kind, Name};
use super::stats::Subscribers;
use crate::command::glob_matches;
use crate::resp::{self, ReplyWriter};
use crate::topology::{ANNOUNCEMENTS, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// What PUBSUB was asked, and what the gateway knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The channels that somebody listens to: those of our clients, and for each node those that it only
    /// keeps for us, until we have told it that nobody wants them any more.
    Channels { ours: Vec<Name>, unwanted: Vec<Vec<Name>> },
    /// How many listen to each of these: the channels with our clients' number, and our connections at each
    /// node.
    Counts { ours: Vec<(Name, i64)>, carried: Vec<Vec<i64>> },
    /// How many patterns somebody listens to: our clients', and those at each node that are ours.
    Patterns { ours: i64, carried: Vec<i64> },
}

impl Request {
    /// Of PUBSUB CHANNELS, NUMSUB or NUMPAT, or of their twins for the channels of shards; to be asked of
    /// `nodes`, in this order.
    pub fn new(request: &resp::Request, subscribers: &Subscribers, nodes: &[NodeId]) -> Request {
        let (word, kind, channels) = match &*request.arg(1).to_ascii_lowercase() {
            word if word.starts_with(b"shard") => {
                (word[b"shard".len()..].to_vec(), Kind::Shard, &subscribers.shard_channels)
            }
            word => (word.to_vec(), Kind::Channel, &subscribers.channels),
        };
        let listened = |name: &Name| channels.contains_key(name);
        match &*word {
            b"numpat" => Request::Patterns {
                ours: subscribers.patterns.len() as i64,
                carried: nodes
                    .iter()
                    .map(|node| subscribers.carried_at(*node, Kind::Pattern).len() as i64)
                    .collect(),
            },
            b"numsub" => {
                let names: Vec<Name> = request.args().skip(2).map(Name::from).collect();
                let carried_at = |node: &NodeId| {
                    let carried: BTreeMap<Name, usize> =
                        subscribers.carried_at(*node, kind).into_iter().collect();
                    names.iter().map(|name| carried.get(name).map_or(0, |count| *count as i64)).collect()
                };
                let carried = nodes.iter().map(carried_at).collect();
                let ours = |name: &Name| channels.get(name).map_or(0, |count| *count as i64);
                Request::Counts { carried, ours: names.iter().map(|n| (n.clone(), ours(n))).collect() }
            }
            _ => {
                let is_asked = |name: &[u8]| request.get(2).is_none_or(|glob| glob_matches(glob, name));
                let ours = channels.iter().map(|entry| entry.key().clone());
                let unwanted_at = |node: &NodeId| {
                    let names = subscribers.carried_at(*node, kind).into_iter().map(|(name, _)| name);
                    names.filter(|name| !listened(name)).collect()
                };
                Request::Channels {
                    ours: ours.filter(|name| is_asked(name)).collect(),
                    unwanted: nodes.iter().map(unwanted_at).collect(),
                }
            }
        }
    }
}

/// Writes one server's reply, made of those of the nodes.
pub fn merge(request: &Request, replies: &[&[u8]], out: &mut ReplyWriter) {
    match request {
        Request::Channels { ours, unwanted } => {
            let mut names: BTreeSet<&[u8]> = ours.iter().map(|name| &**name).collect();
            for (reply, unwanted) in replies.iter().zip(unwanted) {
                names.extend(texts_of(reply).filter(|name| unwanted.iter().all(|other| **other != **name)));
            }
            names.remove(ANNOUNCEMENTS);
            out.array(names.len());
            names.into_iter().for_each(|name| out.bulk(name));
        }
        Request::Counts { ours, carried } => {
            let mut counts: Vec<i64> = ours.iter().map(|(_, count)| *count).collect();
            for (reply, carried) in replies.iter().zip(carried) {
                // Channels and counts in turn.
                let theirs = elements(reply).skip(1).step_by(2).map(integer);
                for ((count, theirs), carried) in counts.iter_mut().zip(theirs).zip(carried) {
                    *count += (theirs - carried).max(0);
                }
            }
            out.array(2 * counts.len());
            for ((name, _), count) in ours.iter().zip(counts) {
                out.bulk(name);
                out.integer(count);
            }
        }
        Request::Patterns { ours, carried } => {
            let theirs =
                replies.iter().zip(carried).map(|(reply, carried)| (integer(reply) - carried).max(0));
            out.integer(ours + theirs.sum::<i64>());
        }
    }
}

fn texts_of(reply: &[u8]) -> impl Iterator<Item = &[u8]> {
    elements(reply).map(text_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{RequestScanner, Version, write_request};

    fn node(number: u8) -> NodeId {
        format!("{number:040x}").parse().unwrap()
    }

    /// Two clients of ours for `news`, one for `n*`; carried by two connections to node 1.
    fn subscribers() -> Subscribers {
        let subscribers = Subscribers::default();
        for (kind, name) in [(Kind::Channel, "news"), (Kind::Channel, "news"), (Kind::Pattern, "n*")] {
            subscribers.add(kind, name.as_bytes());
            subscribers.carry(node(1), kind, name.as_bytes());
        }
        subscribers
    }

    fn answer(subscribers: &Subscribers, line: &str, replies: [&str; 2]) -> String {
        let (mut frame, mut scanner) = (Vec::new(), RequestScanner::default());
        write_request(&mut frame, line.split(' ').collect::<Vec<_>>());
        scanner.scan(&frame, crate::resp::Limits::USUAL).unwrap();
        let request = resp::Request::new(&frame, scanner.args());
        let request = Request::new(&request, subscribers, &[node(0), node(1)]);
        let mut out = Vec::new();
        let mut writer = ReplyWriter { out: &mut out, version: Version::Resp2 };
        merge(&request, &replies.map(str::as_bytes), &mut writer);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn clients_of_nodes_and_our_own_are_each_counted_once() {
        let subscribers = subscribers();
        let replies =
            ["*4\r\n$4\r\nnews\r\n:3\r\n$1\r\nx\r\n:1\r\n", "*4\r\n$4\r\nnews\r\n:2\r\n$1\r\nx\r\n:0\r\n"];
        assert_eq!(
            answer(&subscribers, "PUBSUB NUMSUB news x", replies),
            "*4\r\n$4\r\nnews\r\n:5\r\n$1\r\nx\r\n:1\r\n"
        );
        assert_eq!(answer(&subscribers, "PUBSUB NUMPAT", [":4\r\n", ":1\r\n"]), ":5\r\n");
    }

    #[test]
    fn a_channel_is_listed_once_and_only_while_somebody_listens() {
        let subscribers = subscribers();
        let replies = ["*2\r\n$4\r\nnews\r\n$1\r\nx\r\n", "*1\r\n$4\r\nnews\r\n"];
        let both = "*2\r\n$4\r\nnews\r\n$1\r\nx\r\n";
        assert_eq!(answer(&subscribers, "PUBSUB CHANNELS", replies), both);
        subscribers.remove(Kind::Channel, b"news");
        subscribers.remove(Kind::Channel, b"news");
        let of_us_alone = ["*1\r\n$1\r\nx\r\n", "*1\r\n$4\r\nnews\r\n"];
        assert_eq!(answer(&subscribers, "PUBSUB CHANNELS *", of_us_alone), "*1\r\n$1\r\nx\r\n");
        assert_eq!(answer(&subscribers, "PUBSUB CHANNELS *", replies), both);
    }

    #[test]
    fn channels_of_shards_are_those_of_the_nodes() {
        let replies = ["*2\r\n$4\r\nnews\r\n:3\r\n", "*2\r\n$4\r\nnews\r\n:0\r\n"];
        assert_eq!(answer(&subscribers(), "PUBSUB SHARDNUMSUB news", replies), "*2\r\n$4\r\nnews\r\n:3\r\n");
    }
}
