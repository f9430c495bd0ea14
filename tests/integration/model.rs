//! The model: one plain `redis-server`. Random commands go to it and through the gateway, and both must
//! say the same, byte for byte.
//!
//! `SLOTGATE_MODEL_SEED` repeats a run, `SLOTGATE_MODEL_COMMANDS` makes it longer.

mod commands;
mod differences;

use crate::support::client::{Client, request};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, whole_keyspace};
use commands::{Command, Commands};
use std::fmt::Write as _;

/// Commands whose replies have no order of their own.
const UNORDERED: &[&str] = &[
    "SMEMBERS",
    "SINTER",
    "SUNION",
    "SDIFF",
    "SPOP",
    "SRANDMEMBER",
    "HGETALL",
    "HKEYS",
    "HVALS",
    "HRANDFIELD",
    "ZRANDMEMBER",
    "HSCAN",
    "SSCAN",
    "ZSCAN",
    "KEYS",
    "EVAL",
];
const COMMANDS: usize = 6000;
const DEEPEST_PIPELINE: usize = 60;

/// The same client of both sides.
struct Pair {
    ours: Client,
    model: Client,
}

impl Pair {
    fn send(&mut self, bytes: &[u8], cuts: &[usize]) {
        let mut from = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            self.ours.send_raw(&bytes[from..cut]);
            from = cut;
        }
        self.model.send_raw(bytes);
    }
}

#[test]
fn random_commands_are_answered_as_by_one_plain_server() {
    compare(&[], false);
}

#[test]
fn random_commands_with_keys_in_several_slots_are_answered_as_by_one_plain_server() {
    compare(&["--cross-slot", "emulate"], true);
}

/// `is_spread`: commands with several keys have them in several slots.
fn compare(args: &[&str], is_spread: bool) {
    let seed = env_number("SLOTGATE_MODEL_SEED").unwrap_or_else(|| fastrand::u64(..));
    let count = env_number("SLOTGATE_MODEL_COMMANDS").map_or(COMMANDS, |count| count as usize);
    println!("SLOTGATE_MODEL_SEED={seed}");
    let cluster = whole_keyspace();
    let gateway = Gateway::start_with(&cluster, args);
    let server = RealCluster::start_standalone();
    let mut pairs: Vec<Pair> =
        (0..2).map(|_| Pair { ours: gateway.client(), model: server.client(0) }).collect();
    pairs[1].ours.call(&["HELLO", "3"]);
    pairs[1].model.call(&["HELLO", "3"]);
    pairs[0].ours.expect("FLUSHALL", "+OK\r\n");

    let (dump, is_nesting_survived) =
        (dump_of_a_string(&mut pairs[0].model), survives_nesting(&mut pairs[0].model));
    let mut commands = Commands::new(seed, dump, is_nesting_survived, is_spread);
    let mut done: Vec<Command> = Vec::new();
    while done.len() < count {
        let depth = if commands.rng().bool() { 1 } else { commands.rng().usize(1..DEEPEST_PIPELINE) };
        let mut batch = Vec::new();
        while batch.len() < depth {
            batch.extend(commands.next());
        }
        let rng = commands.rng();
        let bytes: Vec<u8> = batch.iter().flat_map(|command| frame(command, rng)).collect();
        let mut cuts: Vec<usize> = (0..rng.usize(..4)).map(|_| rng.usize(..=bytes.len())).collect();
        cuts.sort_unstable();
        let at = rng.usize(..pairs.len());
        let pair = &mut pairs[at];
        pair.send(&bytes, &cuts);
        for command in batch {
            done.push(command);
            let (ours, model) = (pair.ours.read(), pair.model.read());
            let command = done.last().unwrap();
            if !is_same(command, &ours, &model) && !differences::is_expected(command, &ours, &model) {
                panic!("{}", story(seed, &done, &ours, &model));
            }
        }
    }
    let mut keys = pairs.remove(0);
    let (ours, model) = (keys.ours.call(&["KEYS", "*"]), keys.model.call(&["KEYS", "*"]));
    assert_eq!(leaves(&ours), leaves(&model), "the keys that are left, seed {seed}");
}

fn env_number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn dump_of_a_string(client: &mut Client) -> Vec<u8> {
    client.expect("SET x restored", "+OK\r\n");
    let reply = client.call(&["DUMP", "x"]);
    client.expect("DEL x", ":1\r\n");
    let head = reply.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    reply[head..reply.len() - 2].to_vec()
}

/// Whether a transaction goes on after a MULTI inside of it.
fn survives_nesting(client: &mut Client) -> bool {
    client.expect("MULTI", "+OK\r\n");
    client.call(&["MULTI"]);
    client.call_text(&["EXEC"]) == "*0\r\n"
}

/// A command as a client may write it: mostly an array, sometimes inline.
fn frame(command: &Command, rng: &mut fastrand::Rng) -> Vec<u8> {
    let is_short = command.iter().map(Vec::len).sum::<usize>() < 200;
    if !is_short || command[0].is_empty() || rng.u8(..16) > 0 {
        return request(command);
    }
    let mut line = String::new();
    for word in command {
        let is_plain = !word.is_empty() && word.iter().all(|b| b.is_ascii_alphanumeric());
        if is_plain {
            line.push_str(&String::from_utf8_lossy(word));
        } else {
            line.push('"');
            word.iter().for_each(|byte| write!(line, "\\x{byte:02x}").unwrap());
            line.push('"');
        }
        line.push(' ');
    }
    line.push_str(if rng.bool() { "\r\n" } else { "\n" });
    line.into_bytes()
}

fn is_same(command: &Command, ours: &[u8], model: &[u8]) -> bool {
    let name = String::from_utf8_lossy(&command[0]).to_ascii_uppercase();
    ours == model
        || (UNORDERED.contains(&&*name) && ours.first() == model.first() && leaves(ours) == leaves(model))
}

/// All texts and numbers of a reply, sorted.
fn leaves(reply: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut found) = (reply, Vec::new());
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..=end];
        let body = match line[0] {
            b'$' => std::str::from_utf8(line[1..].trim_ascii()).unwrap().parse::<i64>().unwrap(),
            _ => -1,
        };
        let len = if body < 0 { end + 1 } else { end + 1 + body as usize + 2 };
        found.push(rest[..len].to_vec());
        rest = &rest[len..];
    }
    found.sort();
    found
}

/// What led to a difference: the commands before it that share a word with it.
fn story(seed: u64, done: &[Command], ours: &[u8], model: &[u8]) -> String {
    let (last, before) = done.split_last().unwrap();
    let shares_key = |command: &&Command| {
        command.iter().skip(1).any(|word| last.iter().skip(1).any(|key| word == key && word.len() > 2))
    };
    let related: Vec<String> = before.iter().filter(shares_key).map(show).collect();
    format!(
        "SLOTGATE_MODEL_SEED={seed}, command {}:\n{}\n> {}\nslotgate: {}\nmodel:    {}",
        done.len(),
        related[related.len().saturating_sub(30)..].join("\n"),
        show(last),
        short(ours),
        short(model),
    )
}

fn show(command: &Command) -> String {
    let words: Vec<String> = command.iter().map(|word| format!("\"{}\"", short(word))).collect();
    words.join(" ")
}

fn short(bytes: &[u8]) -> String {
    let text = bytes[..bytes.len().min(600)].escape_ascii();
    if bytes.len() > 600 { format!("{text}... ({} bytes)", bytes.len()) } else { text.to_string() }
}
