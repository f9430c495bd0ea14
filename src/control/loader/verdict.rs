//! What a node's answer to a `RESTORE` or `DEL` means for the load. Pure; the words are Redis' own
//! (`src/cluster.c`, `src/server.c`).

use super::LoadError;
use std::fmt;
use std::net::SocketAddr;

/// Why one key was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The cluster has it already.
    Busy,
    /// Its value has more bytes than the nodes take in one piece.
    TooLarge { bytes: u64, limit: u64 },
    /// The node's own words.
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Busy => f.write_str("the cluster has this key already"),
            Refusal::TooLarge { bytes, limit } => write!(
                f,
                "its value has {bytes} bytes, more than the nodes take ({limit}): raise proto-max-bulk-len on all of them"
            ),
            Refusal::Other(text) => f.write_str(text),
        }
    }
}

/// What to do about an error reply.
#[derive(Debug)]
pub(super) enum Verdict {
    Moved(SocketAddr),
    Ask(SocketAddr),
    /// Nobody serves the slot now; somebody will.
    Unserved,
    Refused(Refusal),
    /// Every other key would meet the same.
    End(LoadError),
}

/// Reads the error reply `text` of the node at `addr`.
pub(super) fn judge(addr: SocketAddr, text: &str) -> Verdict {
    let mut words = text.split(' ');
    let code = words.next().unwrap_or_default();
    let to = || words.clone().nth(1).and_then(|to| redirect(addr, to));
    let text = || text.to_string();
    match code {
        "MOVED" => to().map_or(Verdict::Unserved, Verdict::Moved),
        "ASK" => to().map_or(Verdict::Unserved, Verdict::Ask),
        "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "READONLY" | "MASTERDOWN" | "BUSY" | "UNBLOCKED" => {
            Verdict::Unserved
        }
        "BUSYKEY" => Verdict::Refused(Refusal::Busy),
        "OOM" => Verdict::End(LoadError::Full { addr, text: text() }),
        "MISCONF" | "NOREPLICAS" | "NOPERM" | "NOAUTH" => {
            Verdict::End(LoadError::NoWrites { addr, text: text() })
        }
        _ if text().contains("payload version or checksum") => {
            Verdict::End(LoadError::TooNew { addr, text: text() })
        }
        _ => Verdict::Refused(Refusal::Other(text())),
    }
}

/// The address of a redirect; without a host it is the answering node's own.
fn redirect(from: SocketAddr, to: &str) -> Option<SocketAddr> {
    let (host, port) = to.rsplit_once(':')?;
    let host = if host.is_empty() { from.ip() } else { host.trim_matches(['[', ']']).parse().ok()? };
    Some(SocketAddr::new(host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> String {
        format!("{:?}", judge("10.0.0.1:6379".parse().unwrap(), text))
    }

    #[test]
    fn redirects_are_followed_and_a_slot_without_an_owner_is_waited_for() {
        assert_eq!(verdict("MOVED 42 10.0.0.2:7000"), "Moved(10.0.0.2:7000)");
        assert_eq!(verdict("ASK 42 fd00::2:7000"), "Ask([fd00::2]:7000)");
        assert_eq!(verdict("MOVED 42 :7001"), "Moved(10.0.0.1:7001)");
        for text in
            ["MOVED 42 redis-2:7000", "CLUSTERDOWN The cluster is down", "READONLY You can't", "TRYAGAIN"]
        {
            assert_eq!(verdict(text), "Unserved", "{text}");
        }
    }

    #[test]
    fn what_concerns_one_key_is_told_from_what_concerns_all() {
        assert_eq!(verdict("BUSYKEY Target key name already exists."), "Refused(Busy)");
        assert!(verdict("ERR Bad data format").starts_with("Refused(Other"));
        assert!(verdict("OOM command not allowed when used memory > 'maxmemory'.").starts_with("End(Full"));
        assert!(verdict("ERR DUMP payload version or checksum are wrong").starts_with("End(TooNew"));
        assert!(verdict("NOPERM User x has no permissions to run 'restore'").starts_with("End(NoWrites"));
    }
}
