//! One line of `CLUSTER NODES`: what one node says of one member. Pure.
//!
//! `<id> <ip:port@cport[,hostname[,name=value]...]> <flags> <primary> <ping> <pong> <epoch> <link> <slot>...`
//! (<https://redis.io/docs/latest/commands/cluster-nodes/>); Redis 3 to 8 and Valkey.

use crate::topology::{NodeId, Slot, SlotRange};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// What the line says besides numbers, one bit each: the flags of `CLUSTER NODES`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u16);

impl Flags {
    pub const MYSELF: Flags = Flags(1);
    pub const PRIMARY: Flags = Flags(1 << 1);
    pub const REPLICA: Flags = Flags(1 << 2);
    /// `fail?`: the node that says so cannot reach the member.
    pub const SUSPECT: Flags = Flags(1 << 3);
    /// `fail`: the majority cannot.
    pub const FAILED: Flags = Flags(1 << 4);
    /// Not a member yet: the first contact is under way.
    pub const HANDSHAKE: Flags = Flags(1 << 5);
    pub const NO_ADDRESS: Flags = Flags(1 << 6);
    pub const NO_FAILOVER: Flags = Flags(1 << 7);

    /// The flags' words on the wire; words of later versions are skipped.
    const WORDS: [(&str, Flags); 8] = [
        ("myself", Flags::MYSELF),
        ("master", Flags::PRIMARY),
        ("slave", Flags::REPLICA),
        ("fail?", Flags::SUSPECT),
        ("fail", Flags::FAILED),
        ("handshake", Flags::HANDSHAKE),
        ("noaddr", Flags::NO_ADDRESS),
        ("nofailover", Flags::NO_FAILOVER),
    ];

    /// Whether all of `other` are set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    fn parse(words: &str) -> Flags {
        let known = |word: &str| Flags::WORDS.iter().find(|(known, _)| *known == word).map(|(_, flag)| *flag);
        words.split(',').filter_map(known).fold(Flags::default(), Flags::with)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> =
            Flags::WORDS.iter().filter(|(_, flag)| self.has(*flag)).map(|(word, _)| *word).collect();
        f.write_str(if words.is_empty() { "noflags".into() } else { words.join(",") }.as_str())
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A slot on its way between two primaries, as one of them says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenSlot {
    pub slot: Slot,
    pub direction: Direction,
    /// The primary on the other side.
    pub peer: NodeId,
}

/// Which way an open slot moves, seen from the node that says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Away from it: `[93->-id]`.
    Migrating,
    /// To it: `[93-<-id]`.
    Importing,
}

/// One member as one node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeLine {
    pub id: NodeId,
    /// `None` while unknown: a node that nobody has met yet does not know its own.
    pub ip: Option<IpAddr>,
    /// Where it takes client connections; 0 while unknown.
    pub port: u16,
    /// Where it takes the other nodes' connections; 0 while unknown.
    pub bus_port: u16,
    pub hostname: Option<String>,
    pub flags: Flags,
    /// Whom it replicates; `None` for primaries.
    pub primary: Option<NodeId>,
    /// Its config epoch; of a replica, its primary's.
    pub epoch: u64,
    /// Whether the node that says so has a connection to it.
    pub is_linked: bool,
    pub slots: Vec<SlotRange>,
    /// Only told of the node itself.
    pub open_slots: Vec<OpenSlot>,
}

impl NodeLine {
    /// Where clients reach it, when that is known; `asked` stands in for the unknown address of the
    /// node that was asked there.
    pub fn addr(&self, asked: SocketAddr) -> Option<SocketAddr> {
        let own = || self.flags.has(Flags::MYSELF).then(|| asked.ip());
        match self.ip.or_else(own) {
            Some(ip) if self.port != 0 && !self.flags.has(Flags::NO_ADDRESS) => {
                Some(SocketAddr::new(ip, self.port))
            }
            _ => None,
        }
    }
}

/// A line that cannot be read, with the part that is wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot read {what} in the CLUSTER NODES line {line:?}")]
pub struct NodeLineError {
    what: &'static str,
    line: String,
}

impl FromStr for NodeLine {
    type Err = NodeLineError;

    fn from_str(line: &str) -> Result<NodeLine, NodeLineError> {
        let wrong = |what| move || NodeLineError { what, line: line.chars().take(200).collect() };
        let mut words = line.split_ascii_whitespace();
        let mut word = |what| words.next().ok_or_else(wrong(what));
        let id = word("the id")?.parse().map_err(|_| wrong("the id")())?;
        let endpoint = word("the address")?;
        let flags = Flags::parse(word("the flags")?);
        let primary = match word("the primary")? {
            "-" => None,
            id => Some(id.parse().map_err(|_| wrong("the primary")())?),
        };
        let (_ping, _pong) = (word("the ping time")?, word("the pong time")?);
        let epoch = word("the epoch")?.parse().map_err(|_| wrong("the epoch")())?;
        let is_linked = word("the link state")? == "connected";
        let (ip, port, bus_port, hostname) = parse_endpoint(endpoint).ok_or_else(wrong("the address"))?;
        let (mut slots, mut open_slots) = (Vec::new(), Vec::new());
        for word in words {
            match word.strip_prefix('[') {
                Some(open) => open_slots.push(parse_open_slot(open).ok_or_else(wrong("an open slot"))?),
                None => slots.push(parse_range(word).ok_or_else(wrong("a slot range"))?),
            }
        }
        Ok(NodeLine { id, ip, port, bus_port, hostname, flags, primary, epoch, is_linked, slots, open_slots })
    }
}

/// Reads all lines of a `CLUSTER NODES` reply.
///
/// # Errors
/// The first line that cannot be read.
pub fn parse_nodes(text: &str) -> Result<Vec<NodeLine>, NodeLineError> {
    text.lines().filter(|line| !line.trim().is_empty()).map(str::parse).collect()
}

fn parse_endpoint(text: &str) -> Option<(Option<IpAddr>, u16, u16, Option<String>)> {
    let mut parts = text.split(',');
    let addr = parts.next()?;
    // What follows the host name is `name=value` (shard-id, tls-port, ...): not needed here.
    let hostname = parts.next().filter(|name| !name.is_empty() && !name.contains('=')).map(String::from);
    let (addr, bus_port) = match addr.rsplit_once('@') {
        Some((addr, bus_port)) => (addr, Some(bus_port.parse().ok()?)),
        None => (addr, None),
    };
    // An IPv6 address stands without brackets: the port follows the last colon.
    let (ip, port) = addr.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let ip = match ip {
        "" | "?" => None,
        ip => Some(ip.parse().ok()?),
    };
    // Before Redis 4 the bus port was always the port plus 10000, and not told.
    let bus_port = bus_port.unwrap_or(if port == 0 { 0 } else { port.saturating_add(10000) });
    Some((ip, port, bus_port, hostname))
}

fn parse_range(text: &str) -> Option<SlotRange> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    SlotRange::new(start.parse().ok()?, end.parse().ok()?)
}

fn parse_open_slot(text: &str) -> Option<OpenSlot> {
    let text = text.strip_suffix(']')?;
    let (slot, direction, peer) = match text.split_once("->-") {
        Some((slot, peer)) => (slot, Direction::Migrating, peer),
        None => text.split_once("-<-").map(|(slot, peer)| (slot, Direction::Importing, peer))?,
    };
    Some(OpenSlot { slot: Slot::new(slot.parse().ok()?)?, direction, peer: peer.parse().ok()? })
}

impl fmt::Display for NodeLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.ip.map(|ip| ip.to_string()).unwrap_or_default();
        write!(f, "{} {}:{}@{}", self.id, ip, self.port, self.bus_port)?;
        if let Some(hostname) = &self.hostname {
            write!(f, ",{hostname}")?;
        }
        let primary = self.primary.map_or("-".into(), |id| id.to_string());
        let link = if self.is_linked { "connected" } else { "disconnected" };
        write!(f, " {} {primary} 0 0 {} {link}", self.flags, self.epoch)?;
        for range in &self.slots {
            write!(f, " {range}")?;
        }
        for OpenSlot { slot, direction, peer } in &self.open_slots {
            let arrow = if *direction == Direction::Migrating { "->-" } else { "-<-" };
            write!(f, " [{slot}{arrow}{peer}]")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "node_line_tests.rs"]
mod tests;
