//! CONFIG SET and ACL SETUSER over all primaries: what is the gateway's own is not sent, and when some nodes refuse what others
//! took, those get their old values back.

use super::core::Core;
use super::dispatch::Handled;
use super::error_reply::{ErrorReply, quoted};
use super::fanout::{Merge, Policy, pairs_of, text_of};
use super::flight::{Aim, Purpose, SessionKey};
use super::notice::Notice;
use super::pipeline::Place;
use super::session::Busy;
use super::settings::{self, Own};
use super::slow_log::OUR_CONFIG;
use crate::command::CommandIx;
use crate::resp::{ReplyWriter, Request, write_request};
use crate::telemetry::{Outcome, Reason};
use crate::topology::Slot;

/// A CONFIG SET under way. Each node is asked for every setting's value and then told the new ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// A slot of each node, in the order of the parts.
    nodes: Vec<Slot>,
    /// How many replies come from each node; the last one is that of CONFIG SET.
    replies: usize,
}

impl Change {
    /// Which nodes are to be told what, as others refused, from the replies in the order of the parts.
    fn undo(&self, replies: &[&[u8]]) -> Vec<(Slot, Vec<u8>)> {
        let nodes = || self.nodes.iter().zip(replies.chunks(self.replies));
        let took = |replies: &[&[u8]]| replies.last().is_some_and(|reply| !reply.starts_with(b"-"));
        if nodes().all(|(_, replies)| took(replies)) {
            return Vec::new();
        }
        let undo = |(slot, replies): (&Slot, &[&[u8]])| {
            let mut words: Vec<&[u8]> = vec![b"CONFIG", b"SET"];
            for reply in &replies[..self.replies - 1] {
                words.extend(pairs_of(reply).flat_map(|(name, value)| [text_of(name), text_of(value)]));
            }
            let mut frame = Vec::new();
            write_request(&mut frame, words);
            (*slot, frame)
        };
        nodes().filter(|(_, replies)| took(replies)).map(undo).collect()
    }

    /// The client's reply: that of a node that refused, if one did.
    pub fn write(&self, replies: &[&[u8]], out: &mut ReplyWriter) {
        let mut told = replies.iter().skip(self.replies - 1).step_by(self.replies);
        match told.find(|reply| reply.starts_with(b"-")) {
            Some(refusal) => out.out.extend_from_slice(refusal),
            None => out.simple("OK"),
        }
    }
}

/// What of a CONFIG SET is for the nodes: names and values in turn.
///
/// # Errors
/// The name of a setting that clients cannot change.
fn for_nodes<'a>(request: &Request<'a>, own: &Own) -> Result<Vec<&'a [u8]>, String> {
    let given: Vec<&[u8]> = request.args().skip(2).collect();
    let mut kept = Vec::with_capacity(given.len());
    for pair in given.chunks_exact(2) {
        let name = quoted(pair[0]).to_ascii_lowercase();
        if settings::substitute(&name, own).is_some_and(|value| value.as_bytes() == pair[1]) {
            continue;
        }
        if settings::is_of_nodes(&name) {
            return Err(name);
        }
        kept.extend_from_slice(pair);
    }
    Ok(kept)
}

impl Core {
    /// What the gateway has itself of the settings.
    pub fn own_settings(&self) -> Own {
        Own { listen: self.config.listen, max_clients: self.config.max_clients }
    }

    /// Why an ACL SETUSER or DELUSER is not for clients, if it is about the user that we are at the nodes.
    pub fn own_user_in(&self, request: &Request) -> Option<ErrorReply> {
        let own = self.config.node_user.as_deref().unwrap_or("default");
        // SETUSER has rules after the one name, of which none is a name alone.
        let mut named = request.args().skip(2);
        let name = named.find(|name| *name == own.as_bytes())?;
        Some(ErrorReply::OwnUser { name: quoted(name) })
    }

    /// CONFIG SET; nothing else of the client is under way.
    pub fn send_configure(
        &mut self,
        ix: usize,
        command: CommandIx,
        nodes: Vec<Slot>,
        request: &Request,
    ) -> Handled {
        let family = self.traits[usize::from(command.0)].family;
        let pairs = match for_nodes(request, &self.own_settings()) {
            // Nodes say themselves what is wrong with half a pair.
            _ if !request.len().is_multiple_of(2) => return self.send_any(ix, command, request),
            Ok(pairs) => pairs,
            Err(name) => {
                self.refuse(ix, family, Reason::Unsupported, &ErrorReply::SettingOfNodes { name });
                return Handled::Done;
            }
        };
        if pairs.is_empty() {
            self.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("OK"));
            return Handled::Done;
        }
        let ask = |words: &[&[u8]]| {
            let mut frame = Vec::new();
            write_request(&mut frame, words);
            frame
        };
        let mut frames: Vec<Vec<u8>> =
            pairs.iter().step_by(2).map(|name| ask(&[OUR_CONFIG.as_bytes(), b"GET", name])).collect();
        frames.push(ask(&[&[&b"CONFIG"[..], b"SET"], &pairs[..]].concat()));
        let change = Change { nodes: nodes.clone(), replies: frames.len() };
        let parts = nodes.len() * frames.len();
        let policy = Policy::Configure(Box::new(change));
        let merge = Merge::new(policy, self.sessions[ix].state.version, parts, true);
        let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
        self.sessions[ix].busy = Some(Busy::Alone);
        let mut part = 0;
        for slot in nodes {
            for frame in &frames {
                let mut tag = self.tag(ix, ticket, command, Aim::Owner(slot));
                tag.part = part;
                part += 1;
                self.forward(tag, &[frame]);
            }
        }
        Handled::Done
    }

    /// All nodes have answered a CONFIG SET: has those that took it take it back, if others did not.
    pub fn end_configure(&mut self, key: SessionKey, change: &Change, merge: &Merge) {
        self.stats.peers.tell_others(self.worker, &Notice::Settings);
        self.ask_limits();
        let undo = change.undo(&merge.replies());
        for (slot, frame) in undo {
            let Some(command) = self.table.by_name(b"config|set").map(|(command, _)| command) else { return };
            let mut tag = self.tag(key.ix as usize, 0, command, Aim::Owner(slot));
            tag.purpose = Purpose::Discard;
            self.forward(tag, &[&frame]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Limits, RequestScanner, Version};

    const OWN: Own = Own {
        listen: std::net::SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 6379)),
        max_clients: 9,
    };

    fn sent(line: &str) -> Result<String, String> {
        let (mut frame, mut scanner) = (Vec::new(), RequestScanner::default());
        write_request(&mut frame, line.split(' ').collect::<Vec<_>>());
        scanner.scan(&frame, Limits::USUAL).unwrap();
        let kept = for_nodes(&Request::new(&frame, scanner.args()), &OWN)?;
        Ok(kept.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_the_gateway_has_itself_may_be_set_to_what_it_is() {
        assert_eq!(sent("CONFIG SET maxmemory 1 PORT 6379 save x"), Ok("maxmemory 1 save x".to_string()));
        assert_eq!(sent("CONFIG SET bind 127.0.0.1 cluster-enabled no"), Ok(String::new()));
        for (line, name) in [
            ("CONFIG SET maxmemory 1 PORT 7000", "port"),
            ("CONFIG SET requirepass x", "requirepass"),
            ("CONFIG SET cluster-announce-ip x", "cluster-announce-ip"),
        ] {
            assert_eq!(sent(line), Err(name.to_string()));
        }
        assert_eq!(sent("CONFIG SET maxmemory-policy port"), Ok("maxmemory-policy port".to_string()));
    }

    #[test]
    fn nodes_that_took_what_others_refused_get_their_old_values_back() {
        let nodes = vec![Slot::of_key(b"a"), Slot::of_key(b"b")];
        let change = Change { nodes: nodes.clone(), replies: 2 };
        let old = b"*2\r\n$4\r\nsave\r\n$3\r\n3 1\r\n";
        let refused = b"-ERR CONFIG SET failed\r\n";
        let replies: [&[u8]; 4] = [old, b"+OK\r\n", old, refused];
        let undo = b"*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$4\r\nsave\r\n$3\r\n3 1\r\n";
        assert_eq!(change.undo(&replies), [(nodes[0], undo.to_vec())]);
        let mut out = Vec::new();
        change.write(&replies, &mut ReplyWriter { out: &mut out, version: Version::Resp2 });
        assert_eq!(out, refused);
        assert_eq!(change.undo(&[old, b"+OK\r\n", old, b"+OK\r\n"]), []);
        assert_eq!(change.undo(&[old, refused, old, refused]), []);
    }
}
