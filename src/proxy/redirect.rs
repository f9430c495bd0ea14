//! What a node's error reply means for the request: is it the client's answer, or did the node not
//! run the request, and where or when should it be tried again?
//!
//! Pure. All verdicts but `Final` are about requests that were certainly not executed.

use crate::topology::{Slot, Snapshot};
use std::net::SocketAddr;
use std::time::Duration;

/// Where a MOVED or ASK points to.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Target<'a> {
    pub slot: Slot,
    /// An address, a host name, or empty: the host that answered.
    pub host: &'a str,
    pub port: u16,
}

/// What to do about an error reply.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Verdict<'a> {
    /// The client's answer, to be relayed as it is.
    Final,
    /// The slot lives elsewhere now; the topology is to be patched.
    Moved(Target<'a>),
    /// This key of a slot on the move is looked for elsewhere, this once; with ASKING.
    Ask(Target<'a>),
    /// The node cannot run it now, and soon it or another one may.
    Wait(Cause),
}

/// Why a request was not run where it was sent; also the label of the metric.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Cause {
    Moved,
    Ask,
    TryAgain,
    ClusterDown,
    Loading,
    MasterDown,
    ReadOnly,
    /// No connection to the slot's primary.
    Unreachable,
}

impl Cause {
    /// How long to wait before the first and at most before a later try.
    ///
    /// Keys of a slot on the move arrive within milliseconds; a failover takes seconds, and its end is
    /// told by the topology's change, so that polling needs not be quick.
    pub fn waits(self) -> (Duration, Duration) {
        match self {
            Cause::TryAgain => (Duration::from_millis(2), Duration::from_millis(50)),
            _ => (Duration::from_millis(10), Duration::from_millis(250)),
        }
    }
}

/// Judges an error reply, `-` and CRLF included.
pub fn verdict(reply: &[u8]) -> Verdict<'_> {
    let line = reply.strip_prefix(b"-").unwrap_or(reply).trim_ascii_end();
    let (code, rest) = match memchr::memchr(b' ', line) {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &b""[..]),
    };
    match code {
        b"MOVED" => parse_target(rest).map_or(Verdict::Wait(Cause::Moved), Verdict::Moved),
        b"ASK" => parse_target(rest).map_or(Verdict::Wait(Cause::Ask), Verdict::Ask),
        b"TRYAGAIN" => Verdict::Wait(Cause::TryAgain),
        b"CLUSTERDOWN" => Verdict::Wait(Cause::ClusterDown),
        b"LOADING" => Verdict::Wait(Cause::Loading),
        b"MASTERDOWN" => Verdict::Wait(Cause::MasterDown),
        // Not the READONLY that a script's own call meets ("-READONLY You can't write against a read
        // only replica. script: ..."): that script has begun to run.
        b"READONLY" if !contains(rest, b"script:") => Verdict::Wait(Cause::ReadOnly),
        // A blocked client's node was demoted; not an unblocking that another client asked for.
        b"UNBLOCKED" if contains(rest, b"force unblock") => Verdict::Wait(Cause::ReadOnly),
        _ => Verdict::Final,
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// Parses `<slot> <host>:<port>`; the host may be empty, `?`, a name, or an IPv6 address without
/// brackets (Redis cluster specification, "MOVED redirection").
fn parse_target(text: &[u8]) -> Option<Target<'_>> {
    let text = std::str::from_utf8(text).ok()?;
    let (slot, endpoint) = text.split_once(' ')?;
    let (host, port) = endpoint.trim().rsplit_once(':')?;
    let host = if host == "?" { "" } else { host };
    Some(Target { slot: Slot::new(slot.parse().ok()?)?, host, port: port.parse().ok()? })
}

impl Target<'_> {
    /// The address of the node that is meant, if the topology knows such a node. An address that no
    /// node of the cluster has is never used: it could lead anywhere.
    pub fn resolve(&self, answered_by: SocketAddr, topology: &Snapshot) -> Option<SocketAddr> {
        let by_ip = match self.host {
            "" => Some(SocketAddr::new(answered_by.ip(), self.port)),
            host => host.trim_matches(['[', ']']).parse().ok().map(|ip| SocketAddr::new(ip, self.port)),
        };
        match by_ip {
            Some(addr) => topology.node_by_addr(addr).map(|_| addr),
            None => topology.node_by_hostname(self.host, self.port).map(|ix| topology.node(ix).addr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Health, Node, Shard, SlotRange};

    fn topology() -> Snapshot {
        let node = Node {
            id: "0123456789012345678901234567890123456789".parse().unwrap(),
            addr: "10.0.0.7:6379".parse().unwrap(),
            hostname: Some("redis-0.redis-svc".into()),
            health: Health::Ok,
        };
        let shard = Shard { primary: 0, replicas: vec![] };
        Snapshot::new(vec![node], vec![(shard, vec![SlotRange::new(0, 16383).unwrap()])]).unwrap()
    }

    fn moved_to(reply: &str) -> Option<SocketAddr> {
        match verdict(reply.as_bytes()) {
            Verdict::Moved(target) => target.resolve("10.0.0.7:1".parse().unwrap(), &topology()),
            other => panic!("{reply}: {other:?}"),
        }
    }

    #[test]
    fn a_redirect_leads_to_known_nodes_only() {
        let known = Some("10.0.0.7:6379".parse().unwrap());
        assert_eq!(moved_to("-MOVED 3999 10.0.0.7:6379\r\n"), known);
        assert_eq!(moved_to("-MOVED 3999 redis-0.redis-svc:6379\r\n"), known);
        assert_eq!(moved_to("-MOVED 3999 :6379\r\n"), known);
        assert_eq!(moved_to("-MOVED 3999 ?:6379\r\n"), known);
        assert_eq!(moved_to("-MOVED 3999 169.254.169.254:80\r\n"), None);
    }

    #[test]
    fn replies_that_say_not_run_are_told_from_answers() {
        for (reply, expected) in [
            ("-TRYAGAIN Multiple keys request during rehashing of slot\r\n", Verdict::Wait(Cause::TryAgain)),
            ("-CLUSTERDOWN Hash slot not served\r\n", Verdict::Wait(Cause::ClusterDown)),
            ("-LOADING Redis is loading the dataset in memory\r\n", Verdict::Wait(Cause::Loading)),
            ("-MASTERDOWN Link with MASTER is down\r\n", Verdict::Wait(Cause::MasterDown)),
            ("-READONLY You can't write against a read only replica.\r\n", Verdict::Wait(Cause::ReadOnly)),
            (
                "-READONLY You can't write against a read only replica. script: 4f, on @user_script:1.\r\n",
                Verdict::Final,
            ),
            ("-ERR no such key\r\n", Verdict::Final),
            ("-OOM command not allowed\r\n", Verdict::Final),
            ("-MOVED 99999 a:1\r\n", Verdict::Wait(Cause::Moved)),
        ] {
            assert_eq!(verdict(reply.as_bytes()), expected, "{reply}");
        }
        assert!(matches!(
            verdict(b"-ASK 1 ::1:6379\r\n"),
            Verdict::Ask(Target { host: "::1", port: 6379, .. })
        ));
    }
}
