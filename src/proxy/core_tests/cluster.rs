//! Nodes in memory: two shards of two nodes each, which answer as Redis does, tell of what they ran, and
//! can move slots, fail over, and refuse.

use crate::resp::{Limits, RequestScan, RequestScanner, write_bulk, write_head};
use crate::topology::{Health, Node, Shard, Slot, SlotRange, Snapshot};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

/// The hash tags in use: two of each shard at first.
pub const TAGS: [&str; 4] = ["b", "c", "a", "d"];

/// One command that a node ran, for one of its keys: whose it was, and its number there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub key: String,
    pub client: usize,
    pub number: usize,
}

/// One connection to a node, seen from the node.
#[derive(Debug, Default)]
pub struct Link {
    pub node: usize,
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    is_asking: bool,
    queued: Option<Vec<Vec<Vec<u8>>>>,
    is_tainted: bool,
    watched: Vec<(String, String)>,
    /// Waits in BLPOP for this key.
    pub blocked: Option<Vec<u8>>,
}

/// Who serves a slot, by shard, and where it is being moved to.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    pub shard: usize,
    pub target: Option<usize>,
}

impl Link {
    pub fn to(node: usize) -> Link {
        Link { node, ..Link::default() }
    }
}

#[derive(Debug)]
pub struct Cluster {
    pub owners: BTreeMap<Slot, Owner>,
    /// The primary of each shard; the other of node `shard` and `shard + 2` is its replica.
    pub primaries: [usize; 2],
    pub is_alive: [bool; 4],
    /// What a node answers to everything that has keys.
    pub refusals: [Option<&'static str>; 4],
    /// The channel that nodes let nobody hear.
    pub forbidden: Option<&'static str>,
    pub data: [HashMap<String, String>; 2],
    pub runs: Vec<Run>,
}

pub fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8 + 1], 6379))
}

pub fn slot_of(tag: &str) -> Slot {
    Slot::of_key(tag.as_bytes())
}

fn id(node: usize) -> String {
    format!("{:040x}", node + 1)
}

pub fn bulk(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_bulk(&mut out, text.as_bytes());
    out
}

impl Cluster {
    pub fn new() -> Cluster {
        let owners = TAGS.iter().map(|tag| {
            let slot = slot_of(tag);
            (slot, Owner { shard: usize::from(slot.number() >= 8192), target: None })
        });
        Cluster {
            owners: owners.collect(),
            primaries: [0, 1],
            is_alive: [true; 4],
            refusals: [None; 4],
            forbidden: None,
            data: Default::default(),
            runs: Vec::new(),
        }
    }

    fn owner(&self, slot: Slot) -> Owner {
        let shard = usize::from(slot.number() >= 8192);
        self.owners.get(&slot).copied().unwrap_or(Owner { shard, target: None })
    }

    /// What an observer would publish now.
    pub fn snapshot(&self) -> Snapshot {
        let nodes = (0..4).map(|node| Node {
            id: id(node).parse().unwrap(),
            addr: addr(node),
            hostname: None,
            health: if self.is_alive[node] { Health::Ok } else { Health::Failed },
        });
        let shards = (0..2).map(|shard| {
            let primary = self.primaries[shard] as u16;
            let replica = (self.primaries[shard] + 2) as u16 % 4;
            let slots = Slot::all().filter(|slot| self.owner(*slot).shard == shard);
            (Shard { primary, replicas: vec![replica] }, SlotRange::cover(slots))
        });
        Snapshot::new(nodes.collect(), shards.collect()).unwrap()
    }

    /// The slot's next key goes where the slot goes; false when there is none left.
    pub fn move_key(&mut self, slot: Slot) -> bool {
        let Owner { shard, target: Some(target) } = self.owner(slot) else { return false };
        let key = self.data[shard].keys().filter(|key| Slot::of_key(key.as_bytes()) == slot).min().cloned();
        let Some(key) = key else { return false };
        let value = self.data[shard].remove(&key).unwrap();
        self.data[target].insert(key, value);
        true
    }

    /// The slot belongs to where it was being moved to.
    pub fn finish_move(&mut self, slot: Slot) {
        if let Owner { target: Some(target), .. } = self.owner(slot) {
            while self.move_key(slot) {}
            self.owners.insert(slot, Owner { shard: target, target: None });
        }
    }

    /// Runs the next whole request that came on a connection; false when there is none.
    pub fn run_next(&mut self, link: &mut Link) -> bool {
        if let Some(key) = link.blocked.clone() {
            let Some(value) = self.pop(link.node, &key) else { return false };
            link.blocked = None;
            link.output.extend(value);
        }
        let mut scanner = RequestScanner::default();
        let Ok(RequestScan::Complete { len }) = scanner.scan(&link.input, Limits::USUAL) else {
            assert!(
                link.input.is_empty() || link.input[0] == b'*',
                "a node got no request: {:?}",
                text(&link.input)
            );
            return false;
        };
        let args: Vec<Vec<u8>> =
            scanner.args().iter().map(|s| link.input[s.start as usize..s.end as usize].to_vec()).collect();
        link.input.drain(..len);
        let reply = self.answer(link, &args);
        link.output.extend(reply);
        true
    }

    fn pop(&mut self, node: usize, key: &[u8]) -> Option<Vec<u8>> {
        let value = self.data[node % 2].remove(&text(key))?;
        Some([b"*2\r\n".to_vec(), bulk(&text(key)), bulk(&value)].concat())
    }

    fn answer(&mut self, link: &mut Link, args: &[Vec<u8>]) -> Vec<u8> {
        let name = text(&args[0]).to_ascii_uppercase();
        let ok = b"+OK\r\n".to_vec();
        match &*name {
            "CLUSTER" => return bulk(&id(link.node)),
            "HELLO" => return b"%0\r\n".to_vec(),
            "PING" if link.queued.is_none() => return b"+PONG\r\n".to_vec(),
            // With keys it is one that an errand sends.
            "EVAL" if args.get(2).is_some_and(|count| count == b"0") => {
                return self.eval(link.node, &text(&args[1]));
            }
            "SCRIPT" if link.node == 0 => return ok,
            "SCRIPT" => return b"-NOTBUSY No scripts in execution right now.\r\n".to_vec(),
            "ASKING" => {
                link.is_asking = true;
                return ok;
            }
            "MULTI" => {
                link.queued = Some(Vec::new());
                link.is_tainted = false;
                return ok;
            }
            "UNWATCH" => {
                link.watched.clear();
                return ok;
            }
            "EXEC" => return self.exec(link),
            "DISCARD" => {
                link.queued = None;
                return ok;
            }
            "SSUBSCRIBE" if self.owner(Slot::of_key(&args[1])).shard != link.node % 2 => {
                let slot = Slot::of_key(&args[1]);
                return format!("-MOVED {slot} {}\r\n", addr(self.primaries[self.owner(slot).shard])).into();
            }
            _ if name.ends_with("SUBSCRIBE") => {
                let is_forbidden = |channel: &Vec<u8>| self.forbidden == Some(&*text(channel));
                if name == "SUBSCRIBE" && args[1..].iter().any(is_forbidden) {
                    return b"-NOPERM no such channel for you\r\n".to_vec();
                }
                let kind = name.to_ascii_lowercase();
                let each = |channel: &Vec<u8>| {
                    [&b"*3\r\n"[..], &bulk(&kind), &bulk(&text(channel)), b":1\r\n"].concat()
                };
                return args[1..].iter().flat_map(each).collect();
            }
            _ => {}
        }
        let keys = keys_of(&name, args);
        let refusal = self.refusal(link.node, link.is_asking, &keys);
        if link.queued.is_none() {
            link.is_asking = false;
        }
        if let Some(refusal) = refusal {
            link.is_tainted = true;
            return refusal.into_bytes();
        }
        if let Some(queued) = &mut link.queued {
            queued.push(args.to_vec());
            return b"+QUEUED\r\n".to_vec();
        }
        if name == "WATCH" {
            let data = &self.data[link.node % 2];
            link.watched.extend(
                keys.into_iter().map(|key| (key.clone(), data.get(&key).cloned().unwrap_or_default())),
            );
            return ok;
        }
        if name == "BLPOP" {
            return self.pop(link.node, &args[1]).unwrap_or_else(|| {
                link.blocked = Some(args[1].clone());
                Vec::new()
            });
        }
        self.execute(link.node, &name, args)
    }

    fn exec(&mut self, link: &mut Link) -> Vec<u8> {
        let queued = link.queued.take().unwrap_or_default();
        let (is_asking, watched) = (std::mem::take(&mut link.is_asking), std::mem::take(&mut link.watched));
        if link.is_tainted {
            return b"-EXECABORT Transaction discarded because of previous errors.\r\n".to_vec();
        }
        let keys: Vec<String> =
            queued.iter().flat_map(|args| keys_of(&text(&args[0]).to_ascii_uppercase(), args)).collect();
        if let Some(refusal) = self.refusal(link.node, is_asking, &keys) {
            return refusal.into_bytes();
        }
        let data = &self.data[link.node % 2];
        if watched.iter().any(|(key, value)| data.get(key).map_or("", String::as_str) != value) {
            return b"*-1\r\n".to_vec();
        }
        let mut out = Vec::new();
        write_head(&mut out, b'*', queued.len());
        for args in queued {
            out.extend(self.execute(link.node, &text(&args[0]).to_ascii_uppercase(), &args));
        }
        out
    }

    /// `for-ever`, or a key that the script writes without naming it.
    fn eval(&mut self, node: usize, script: &str) -> Vec<u8> {
        let is_here = self.owner(Slot::of_key(script.as_bytes())).shard == node % 2;
        match script {
            "for-ever" => Vec::new(),
            key if is_here => {
                self.data[node % 2].insert(key.to_string(), "v".to_string());
                b"+OK\r\n".to_vec()
            }
            _ => b"-ERR Script attempted to access a non local key in a cluster node\r\n".to_vec(),
        }
    }

    /// Why the node does not serve these keys (Redis, `src/cluster.c`, `getNodeByQuery`).
    fn refusal(&self, node: usize, is_asking: bool, keys: &[String]) -> Option<String> {
        let slot = Slot::of_key(keys.first()?.as_bytes());
        assert!(keys.iter().all(|key| Slot::of_key(key.as_bytes()) == slot), "keys of two slots: {keys:?}");
        if let Some(refusal) = self.refusals[node] {
            return Some(format!("-{refusal}\r\n"));
        }
        let Owner { shard, target } = self.owner(slot);
        let is_primary = self.primaries[node % 2] == node;
        let missing = keys.iter().filter(|key| !self.data[node % 2].contains_key(*key)).count();
        if is_primary && shard == node % 2 {
            let target = target.filter(|_| missing > 0)?;
            return Some(match missing == keys.len() {
                true => format!("-ASK {slot} {}\r\n", addr(self.primaries[target])),
                false => "-TRYAGAIN Multiple keys request during rehashing of slot\r\n".to_string(),
            });
        }
        if is_primary && is_asking && target == Some(node % 2) {
            let has_several = keys.iter().any(|key| *key != keys[0]);
            return (missing > 0 && has_several)
                .then(|| "-TRYAGAIN Multiple keys request during rehashing of slot\r\n".to_string());
        }
        Some(format!("-MOVED {slot} {}\r\n", addr(self.primaries[shard])))
    }

    fn execute(&mut self, node: usize, name: &str, args: &[Vec<u8>]) -> Vec<u8> {
        let arg = |n: usize| text(&args[n]);
        if let Some(reply) = self.execute_on_values(node, name, args) {
            return reply;
        }
        let data = &mut self.data[node % 2];
        let mut runs = Vec::new();
        let reply = match name {
            // Its numbers tell whose it is: GETRANGE key number client.
            "GETRANGE" => {
                let (number, client) = (arg(2).parse().unwrap(), arg(3).parse().unwrap());
                runs.push((arg(1), client, number));
                let value = data.get(&arg(1)).cloned().unwrap_or_default();
                bulk(&format!("{client}:{number}={value}"))
            }
            "SET" | "APPEND" | "SMOVE" | "MSET" => {
                let token = args.last().map(|token| text(token)).unwrap();
                for key in keys_of(name, args) {
                    let value = data.entry(key.clone()).or_default();
                    if !matches!(name, "APPEND" | "SMOVE") {
                        value.clear();
                    }
                    value.push_str(&token);
                    if let Some((client, number)) =
                        token.split(';').next().and_then(|token| token.split_once(':'))
                    {
                        runs.push((key, client.parse().unwrap(), number.parse().unwrap()));
                    }
                }
                if name == "MSET" { b"+OK\r\n".to_vec() } else { format!("+{token}\r\n").into_bytes() }
            }
            "GET" => data.get(&arg(1)).map_or(b"$-1\r\n".to_vec(), |value| bulk(value)),
            "MGET" => {
                let mut out = Vec::new();
                write_head(&mut out, b'*', args.len() - 1);
                for key in &args[1..] {
                    let value = data.get(&text(key)).cloned().unwrap_or_default();
                    out.extend(bulk(&format!("{}={value}", text(key))));
                }
                out
            }
            "EXISTS" => {
                format!(":{}\r\n", args[1..].iter().filter(|key| data.contains_key(&text(key))).count())
                    .into_bytes()
            }
            "FLUSHALL" => {
                data.clear();
                b"+OK\r\n".to_vec()
            }
            "PING" => b"+PONG\r\n".to_vec(),
            "DBSIZE" => format!(":{}\r\n", data.len()).into_bytes(),
            "TYPE" => b"-WRONGTYPE no\r\n".to_vec(),
            _ => panic!("a node got {name}"),
        };
        self.runs.extend(runs.into_iter().map(|(key, client, number)| Run { key, client, number }));
        reply
    }
}

fn keys_of(name: &str, args: &[Vec<u8>]) -> Vec<String> {
    if let Some(keys) = super::values::keys_of(name, args) {
        return keys;
    }
    let keys: Vec<String> = args[1..].iter().map(|arg| text(arg)).collect();
    match name {
        "DBSIZE" | "FLUSHALL" | "PING" => Vec::new(),
        "MGET" | "EXISTS" | "WATCH" => keys,
        "MSET" => keys.into_iter().step_by(2).collect(),
        "SMOVE" => keys[..2].to_vec(),
        _ => keys[..1].to_vec(),
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
