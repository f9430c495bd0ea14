//! WAIT: how many replicas have what this client wrote, asked of every primary; the least number counts.
//!
//! A node's WAIT is about what its own connection did before, and clients write over shared
//! connections. So WAIT goes over an exclusive one, behind a request that brings that connection up to
//! the node's whole replication stream. Before Redis 7.2 any command does; since then, and in Valkey,
//! only a write does: a key of our own is set and deleted in one transaction, so that nobody ever
//! sees it. When that is refused, so is the WAIT: it would count nothing.

use super::core::Core;
use super::dispatch::Handled;
use super::fanout::{Merge, Policy};
use super::flight::{Aim, Lane, Tag};
use super::pinned::{EXEC, MULTI};
use super::pipeline::Place;
use super::router::{All, Handling};
use super::scripts::each_request;
use super::session::Busy;
use super::slot_tag::tag_of;
use crate::backend::Release;
use crate::command::CommandIx;
use crate::resp::{Request, write_request};
use crate::topology::Slot;

/// What the names of the keys that precede WAIT begin with.
const KEY_PREFIX: &str = "slotgate:wait:";
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// What EXEC answers when the key was set and deleted.
const EXECUTED: &[u8] = b"*2\r\n+OK\r\n:1\r\n";

/// A key of our own in `slot`.
fn key_in(slot: Slot) -> String {
    format!("{KEY_PREFIX}{{{}}}", tag_of(slot))
}

/// What goes before WAIT at a node, and how many replies it has.
fn preamble(release: Option<Release>, slot: Slot) -> (Vec<u8>, u32) {
    let counts_any_command =
        release.is_some_and(|release| release.is_redis && (release.major, release.minor) < (7, 2));
    if counts_any_command {
        return (PING.to_vec(), 1);
    }
    let key = key_in(slot);
    let mut out = MULTI.to_vec();
    write_request(&mut out, ["SET", &key, "1"]);
    write_request(&mut out, ["DEL", &key]);
    out.extend_from_slice(EXEC);
    (out, 4)
}

/// The error in a reply to the preamble, if it says that the preamble was not run.
fn refusal(reply: &[u8]) -> Option<Vec<u8>> {
    match reply.first()? {
        b'-' => Some(reply.to_vec()),
        b'*' if reply != EXECUTED => {
            let error = reply.split_inclusive(|byte| *byte == b'\n').find(|line| line[0] == b'-');
            Some(error.unwrap_or(b"-ERR WAIT cannot be asked of a node\r\n").to_vec())
        }
        _ => None,
    }
}

/// The last of several requests that travel as one.
fn last_request(requests: &[u8]) -> &[u8] {
    let mut start = 0;
    let mut len = 0;
    each_request(requests, |request| {
        start += len;
        len = request.frame.len();
    });
    &requests[start..]
}

impl Core {
    /// Asks every primary.
    pub fn send_wait(
        &mut self,
        ix: usize,
        command: CommandIx,
        firsts: Vec<Slot>,
        request: &Request,
    ) -> Handled {
        let version = self.sessions[ix].state.version;
        let merge = Merge::new(Policy::Min, version, firsts.len(), false);
        let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
        self.sessions[ix].busy = Some(Busy::Blocked);
        for (part, slot) in firsts.into_iter().enumerate() {
            let mut tag = self.tag(ix, ticket, command, Aim::Owner(slot));
            tag.part = part as u32;
            tag.lane = Lane::Exclusive;
            self.forward(tag, &[request.frame]);
        }
        Handled::Done
    }

    pub fn is_wait(&self, tag: &Tag) -> bool {
        tag.lane == Lane::Exclusive
            && self.traits[usize::from(tag.command.0)].handling == Handling::All(All::Wait)
    }

    /// Puts a part of a WAIT on the exclusive connection that it got.
    pub fn push_wait(&mut self, backend: usize, tag: Tag, frame: &[u8]) {
        let wire = &self.backends[backend].wire;
        // A connection that is still being made has not said yet what its node is.
        let known_by = [Some(&backend), self.by_node.get(&(wire.addr, wire.node, wire.version))];
        let release = known_by.into_iter().flatten().find_map(|ix| self.backends.get(*ix)?.wire.release);
        let node = wire.node;
        let is_its = |slot: &Slot| self.topology.primary_of(*slot).is_some_and(|owner| owner.id == node);
        // Any of its slots: one that is being moved away takes no new key.
        let slot = fastrand::choice(Slot::all().filter(is_its).collect::<Vec<_>>()).or(tag.aim.slot());
        let (before, skip) = preamble(release, slot.unwrap_or(Slot::of_key(b"")));
        self.backends[backend].wire.push(&[&before, frame], skip, tag);
    }

    /// A part of a WAIT has come back, because its node does not serve the key before it (any more).
    /// Gives the WAIT alone, and where to ask now: the same node while it is a primary, whichever slot
    /// it lost.
    pub fn unpush_wait(&self, backend: usize, tag: &Tag, aim: Aim, sent: &[u8]) -> (Vec<u8>, Aim) {
        let node = self.backends[backend].wire.node;
        let topology = self.shared.load();
        let its = Slot::all().find(|slot| topology.primary_of(*slot).is_some_and(|owner| owner.id == node));
        let aim = match (its, aim) {
            (Some(slot), _) => Aim::Owner(slot),
            (None, Aim::Asked { .. }) => tag.aim,
            (None, aim) => aim,
        };
        (last_request(sent).to_vec(), aim)
    }

    /// The WAIT in what was sent for a part of one.
    pub fn own_request<'a>(&self, tag: &Tag, sent: &'a [u8]) -> &'a [u8] {
        if self.is_wait(tag) { last_request(sent) } else { sent }
    }

    /// What a reply to something before a WAIT says against the WAIT.
    pub fn refusal_of_wait(&self, tag: &Tag, reply: &[u8]) -> Option<Vec<u8>> {
        if self.is_wait(tag) { refusal(reply) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_only_where_other_commands_do_not_count() {
        let release = |is_redis, major, minor| Some(Release { is_redis, major, minor });
        let slot = Slot::of_key(b"a");
        for release in [release(true, 7, 0), release(true, 6, 2)] {
            assert_eq!(preamble(release, slot), (PING.to_vec(), 1));
        }
        for release in [None, release(true, 7, 2), release(true, 8, 0), release(false, 7, 2)] {
            let (before, skip) = preamble(release, slot);
            assert!(before.starts_with(MULTI) && before.ends_with(EXEC) && skip == 4);
            let frame = [&before, &b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n"[..]].concat();
            assert_eq!(last_request(&frame), &frame[before.len()..]);
        }
    }

    #[test]
    fn whatever_is_refused_before_a_wait_is_told_from_what_was_run() {
        for reply in ["+OK\r\n", "+QUEUED\r\n", "+PONG\r\n", "*2\r\n+OK\r\n:1\r\n"] {
            assert_eq!(refusal(reply.as_bytes()), None, "{reply}");
        }
        for reply in ["-OOM no\r\n", "-ASK 1 a:1\r\n", "*2\r\n-NOPERM no\r\n:0\r\n", "*-1\r\n"] {
            let error = refusal(reply.as_bytes()).unwrap();
            assert!(error.starts_with(b"-") && error.ends_with(b"\r\n"), "{reply}");
        }
    }
}
