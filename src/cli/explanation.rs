//! What the gateway would do with a command and why, as data and as text. Pure.

use crate::command::{Access, Lookup, Table, extract};
use crate::proxy::{only_reads, router};
use crate::resp::{Request, Span};
use crate::topology::{Health, Slot, SlotRange, Snapshot, hash_tag};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// Everything that can be told of one command.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The command's name, with its subcommand as `container|subcommand`; as written when unknown.
    pub command: String,
    pub is_known: bool,
    pub group: Option<&'static str>,
    pub flags: Vec<&'static str>,
    pub keys: Vec<Key>,
    pub route: Route,
}

/// One key of the command.
#[derive(Debug, Serialize)]
pub struct Key {
    /// With bytes that do not print escaped.
    pub key: String,
    /// Which argument it is; the command's name is 0.
    pub argument: u32,
    pub access: Vec<&'static str>,
    /// The part that is hashed, when that is not the whole key.
    pub hash_tag: Option<String>,
    pub slot: u16,
    /// The shard that owns the slot; `null` without a topology or an owner.
    pub shard: Option<Shard>,
}

/// The shard that serves a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shard {
    pub slots: Vec<String>,
    pub primary_id: String,
    pub primary_addr: String,
    pub is_primary_failed: bool,
    pub replicas: usize,
}

/// Where the command goes, and why.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    pub kind: RouteKind,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// Answered by the gateway.
    Local,
    /// Whole to one node.
    One,
    /// In parts to the owners of its keys.
    Split,
    /// In several steps, as its keys are in several slots, where --cross-slot allows it.
    Errand,
    /// To all primaries.
    All,
    /// Over a node connection that this client has for itself.
    Pinned,
    /// Refused with an error.
    Refuse,
}

/// Explains the command with these words, its name first; `topology` is `None` when no node was asked.
pub fn explain(table: &Table, words: &[Vec<u8>], topology: Option<&Snapshot>) -> Explanation {
    let (frame, spans) = frame(words);
    let request = Request::new(&frame, &spans);
    let (ix, spec) = match table.lookup(&request) {
        Lookup::Found(ix, spec) => (ix, spec),
        Lookup::Unknown => {
            return unknown(
                &request,
                1,
                "the built-in table does not have it; a running gateway \
            also knows what the nodes' own COMMAND reply names, such as commands of modules",
            );
        }
        Lookup::UnknownSubcommand(_) => {
            return unknown(
                &request,
                2,
                "the command has no such subcommand; a \
            running gateway also knows what the nodes' own COMMAND reply names",
            );
        }
    };
    let mut refs = Vec::new();
    let is_told = extract(spec, &request, &mut refs).is_ok();
    let keys: Vec<Key> = refs
        .iter()
        .filter(|_| is_told)
        .filter_map(|key| {
            Some(describe_key(request.get(key.index as usize)?, key.index, key.access, topology))
        })
        .collect();
    let handling = router::traits(table)[usize::from(ix.0)].handling;
    let is_read = only_reads(spec, &refs);
    let route = describe(router::route(handling, spec, &request, &mut Vec::new()), &keys, is_read);
    Explanation {
        command: spec.name.to_string(),
        is_known: true,
        group: Some(spec.group.word()),
        flags: spec.flags.words().collect(),
        keys,
        route,
    }
}

/// The router's decision, in words.
fn describe(route: router::Route, keys: &[Key], is_read: bool) -> Route {
    let slots = keys.iter().map(|key| key.slot).collect::<BTreeSet<u16>>().len();
    let (kind, why) = match route {
        router::Route::Local(_) => (
            RouteKind::Local,
            "it concerns the client's connection, or its state, which the gateway keeps".to_string(),
        ),
        router::Route::One { .. } => {
            let why = if keys.len() == 1 { "it has one key" } else { "all its keys hash to one slot" };
            (RouteKind::One, format!("{why}: whole to the slot's owner, the reply untouched"))
        }
        router::Route::Any => {
            (RouteKind::One, "it has no key that counts, so any primary can answer".to_string())
        }
        router::Route::PinnedAny => {
            let why = "it runs without keys, and maybe long: at any primary, over a connection of its own";
            (RouteKind::Pinned, why.to_string())
        }
        router::Route::Split(_) => (
            RouteKind::Split,
            format!("its keys hash to {slots} slots: one part for each, the replies merged in order"),
        ),
        router::Route::Errand => {
            let option = if is_read { "emulate-reads (the default)" } else { "emulate" };
            let why = format!(
                "its keys are in several slots: served in several steps with --cross-slot {option}, else \
                 refused with CROSSSLOT"
            );
            (RouteKind::Errand, why)
        }
        router::Route::All(_) => {
            (RouteKind::All, "it concerns the whole cluster; the replies are merged into one".to_string())
        }
        router::Route::Pinned { .. } => {
            (RouteKind::Pinned, "it may wait, and must not make others wait behind it".to_string())
        }
        router::Route::Refuse(error) => (RouteKind::Refuse, error.to_string()),
    };
    Route { kind, why }
}

fn unknown(request: &Request<'_>, words: usize, why: &str) -> Explanation {
    let words: Vec<String> = request.args().take(words).map(printable).collect();
    Explanation {
        command: words.join("|").to_ascii_lowercase(),
        is_known: false,
        group: None,
        flags: Vec::new(),
        keys: Vec::new(),
        route: Route { kind: RouteKind::Refuse, why: why.to_string() },
    }
}

fn describe_key(key: &[u8], argument: u32, access: Access, topology: Option<&Snapshot>) -> Key {
    let (slot, tag) = (Slot::of_key(key), hash_tag(key));
    Key {
        key: printable(key),
        argument,
        access: access.words().collect(),
        hash_tag: (tag.len() < key.len()).then(|| printable(tag)),
        slot: slot.number(),
        shard: topology.and_then(|topology| describe_shard(topology, slot)),
    }
}

fn describe_shard(topology: &Snapshot, slot: Slot) -> Option<Shard> {
    let ix = topology.shard_of(slot)?;
    let shard = topology.shard(ix);
    let primary = topology.node(shard.primary);
    Some(Shard {
        slots: topology.ranges_of(ix).iter().map(SlotRange::to_string).collect(),
        primary_id: primary.id.to_string(),
        primary_addr: primary.addr.to_string(),
        is_primary_failed: primary.health == Health::Failed,
        replicas: shard.replicas.len(),
    })
}

fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_string(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// The words one after the other, and where each lies.
fn frame(words: &[Vec<u8>]) -> (Vec<u8>, Vec<Span>) {
    let mut frame = Vec::new();
    let spans = words.iter().map(|word| {
        let start = frame.len() as u32;
        frame.extend_from_slice(word);
        Span { start, end: frame.len() as u32 }
    });
    let spans = spans.collect();
    (frame, spans)
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            Some(group) => writeln!(f, "command  {} ({group}; {})", self.command, self.flags.join(", "))?,
            None => writeln!(f, "command  {} (unknown)", self.command)?,
        }
        for key in &self.keys {
            let Key { key, argument, access, hash_tag, slot, shard } = key;
            writeln!(f, "key      {key} (argument {argument}; {})", access.join(", "))?;
            match hash_tag {
                Some(tag) => writeln!(f, "  slot   {slot}, of the part in braces: {tag}")?,
                None => writeln!(f, "  slot   {slot}")?,
            }
            if let Some(shard) = shard {
                let health = if shard.is_primary_failed { ", held for failed" } else { "" };
                writeln!(f, "  shard  slots {}, {} replicas", shard.slots.join(","), shard.replicas)?;
                writeln!(f, "  node   {} at {}{health}", shard.primary_id, shard.primary_addr)?;
            }
        }
        let kind = serde_json::to_value(self.route.kind).ok();
        let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
        writeln!(f, "route    {kind}")?;
        writeln!(f, "why      {}", self.route.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Node;

    fn explained(line: &str, topology: Option<&Snapshot>) -> Explanation {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        explain(&Table::builtin(), &words, topology)
    }

    fn one_node() -> Snapshot {
        let node = Node {
            id: "a".repeat(40).parse().unwrap(),
            addr: "127.0.0.1:7000".parse().unwrap(),
            hostname: None,
            health: Health::Ok,
        };
        let shard = crate::topology::Shard { primary: 0, replicas: vec![] };
        Snapshot::new(vec![node], vec![(shard, vec![SlotRange::new(0, 16000).unwrap()])]).unwrap()
    }

    #[test]
    fn a_key_is_shown_with_its_slot_its_shard_and_its_node() {
        let text = explained("SET user:{42}:name x", Some(&one_node())).to_string();
        for part in [
            "command  set (string; write, denyoom",
            "key      user:{42}:name (argument 1;",
            "slot   8000, of the part in braces: 42",
            "shard  slots 0-16000, 0 replicas",
            "node   aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa at 127.0.0.1:7000",
            "route    one",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn without_a_topology_the_slot_is_still_known() {
        let explanation = explained("get foo", None);
        assert_eq!((explanation.keys[0].slot, &explanation.keys[0].shard), (12182, &None));
    }

    #[test]
    fn the_route_follows_from_the_command_and_the_slots_of_its_keys() {
        for (line, kind) in [
            ("get a", RouteKind::One),
            ("mget a b", RouteKind::Split),
            ("mget {a}1 {a}2", RouteKind::One),
            ("sinter a b", RouteKind::Errand),
            ("sort a by b*", RouteKind::Errand),
            ("blpop a b 0", RouteKind::Refuse),
            ("sinter {a}1 {a}2", RouteKind::One),
            ("blpop a 0", RouteKind::Pinned),
            ("dbsize", RouteKind::All),
            ("ping", RouteKind::Local),
            ("multi", RouteKind::Local),
            ("get", RouteKind::Refuse),
            ("no-such-command a", RouteKind::Refuse),
            ("client no-such", RouteKind::Refuse),
        ] {
            let explanation = explained(line, None);
            assert_eq!(explanation.route.kind, kind, "{line}: {}", explanation.route.why);
        }
    }

    #[test]
    fn a_refusal_says_what_can_be_done() {
        assert!(explained("blpop a b 0", None).route.why.contains("hash tag"));
        assert!(explained("get", None).route.why.contains("wrong number of arguments"));
    }
}
