//! Whatever happens between clients and nodes, in whatever order: every command gets one reply in its
//! turn, commands of one client for one key run in their order, nothing runs twice that must not, and
//! nothing is left behind.

use super::cluster::{TAGS, slot_of};
use super::steps::{CLIENTS, Step, What, traffic, trouble};
use super::world::World;
use crate::proxy::config::{Config, CrossSlot};
use crate::resp::write_request;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// What a client may get for a command.
#[derive(Debug, Clone)]
enum Expect {
    Exactly(String),
    /// The command's own token, or that it was not run, or that nobody knows.
    Token {
        number: usize,
        is_repeatable: bool,
    },
    Read {
        number: usize,
    },
    Values {
        keys: Vec<String>,
    },
    Many,
    Exec {
        number: usize,
    },
    Integer,
    Joined,
    /// Of a command that writes keys of several slots.
    Spread,
}

#[derive(Default)]
struct Script {
    sent: Vec<Expect>,
    number: usize,
    has_left: bool,
}

const REFUSALS: [&str; 3] = [
    "CLUSTERDOWN The cluster is down",
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
];

fn key(tag: usize, which: usize) -> String {
    format!("{{{}}}{}", TAGS[tag % TAGS.len()], which % 2)
}

impl Script {
    /// The next command: its bytes, and what its replies may be.
    fn write(&mut self, client: usize, what: What, tag: usize, other: usize) -> Vec<u8> {
        let number = self.number;
        self.number += 1;
        let (first, second) = (key(tag, other), key(tag, other + 1));
        let token = match what {
            What::LargeSet | What::LargeAppend => format!("{client}:{number};{}", ".".repeat(300)),
            _ => format!("{client}:{number};"),
        };
        let mut out = Vec::new();
        let mut write = |line: &str, expect: Expect| {
            write_request(&mut out, line.split(' ').collect::<Vec<_>>());
            self.sent.push(expect);
        };
        let ok = Expect::Exactly("+OK\r\n".to_string());
        match what {
            What::Read => write(&format!("GETRANGE {first} {number} {client}"), Expect::Read { number }),
            What::Set | What::LargeSet => {
                write(&format!("SET {first} {token}"), Expect::Token { number, is_repeatable: true });
            }
            What::Append | What::LargeAppend => {
                write(&format!("APPEND {first} {token}"), Expect::Token { number, is_repeatable: false });
            }
            What::Pair => {
                write(
                    &format!("SMOVE {first} {second} {token}"),
                    Expect::Token { number, is_repeatable: false },
                );
            }
            What::SetMany => {
                let third = key(tag + 1, other);
                write(&format!("MSET {first} {token} {third} {token} {second} {token}"), Expect::Many);
            }
            What::GetMany => {
                let keys = vec![first, key(tag + 2, other), second, key(tag + 1, other)];
                write(&format!("MGET {}", keys.join(" ")), Expect::Values { keys });
            }
            What::Transaction | What::Watched => {
                if matches!(what, What::Watched) {
                    write(&format!("WATCH {first}"), Expect::Many);
                }
                write("MULTI", ok);
                write(&format!("APPEND {first} {token}"), Expect::Exactly("+QUEUED\r\n".to_string()));
                write("EXEC", Expect::Exec { number });
            }
            What::Ping => write("PING", Expect::Exactly("+PONG\r\n".to_string())),
            What::Size => write("DBSIZE", Expect::Integer),
            What::Join => write(&format!("LCS {first} {}", key(tag + 1, other)), Expect::Joined),
            What::Combine => {
                let third = key(tag + 1, other);
                write(&format!("BITOP OR {{x}}{client} {first} {third}"), Expect::Spread);
            }
            What::Rename => {
                write(&format!("RENAME {{x}}{client} {{y}}{client}"), Expect::Spread);
            }
        }
        out
    }
}

fn play(steps: Vec<Step>) -> (World, Vec<Script>) {
    let mut world =
        World::new(Config { stream_threshold: 200, cross_slot: CrossSlot::Emulate, ..Config::default() });
    let mut scripts: Vec<Script> = (0..CLIENTS).map(|_| Script::default()).collect();
    for _ in 0..CLIENTS {
        world.connect();
    }
    for step in steps {
        let wire = |n: usize, world: &World| world.wires.keys().nth(n % world.wires.len().max(1)).copied();
        match step {
            Step::Send { client, what, tag, other } => {
                let bytes = scripts[client].write(client, what, tag, other);
                world.clients[client].transit.extend(bytes);
            }
            Step::Arrive { client, count } => world.arrive(client, count),
            Step::Take { client, room } => world.take(client, room),
            Step::Leave { client } => {
                scripts[client].has_left = true;
                world.leave(client);
            }
            Step::Run { wire: n, count } => drop(wire(n, &world).map(|ix| world.run(ix, count))),
            Step::Deliver { wire: n, count } => drop(wire(n, &world).map(|ix| world.deliver(ix, count))),
            Step::Clog { wire: n, room } => drop(wire(n, &world).map(|ix| world.clog(ix, room))),
            Step::Cut { wire: n } => drop(wire(n, &world).map(|ix| world.cut(ix))),
            Step::BeginMove { tag } => {
                let owner = world.cluster.owners.get_mut(&slot_of(TAGS[tag])).unwrap();
                owner.target = Some(1 - owner.shard);
            }
            Step::MoveKey { tag } => drop(world.cluster.move_key(slot_of(TAGS[tag]))),
            Step::FinishMove { tag } => world.cluster.finish_move(slot_of(TAGS[tag])),
            Step::Refuse { node, why } => world.cluster.refusals[node] = Some(REFUSALS[why % REFUSALS.len()]),
            Step::Accept { node } => world.cluster.refusals[node] = None,
            Step::FailOver { shard } => world.fail_over(shard),
            Step::AnnounceHandOver { shard, milliseconds } => {
                world.announce_hand_over(shard, Duration::from_millis(milliseconds))
            }
            Step::AnnounceEnd { shard } => world.announce_end(shard),
            Step::HandOver { shard, is_told } => world.hand_over(shard, is_told),
            Step::Publish => world.publish(),
            Step::Load => {
                world.core.load_topology();
                world.work();
            }
            Step::Advance { milliseconds } => world.advance(Duration::from_millis(milliseconds)),
            Step::Settle => world.settle(),
        }
    }
    (world, scripts)
}

/// How often a command ran, for each of its keys.
fn count_runs(world: &World) -> HashMap<(usize, usize), HashMap<&str, usize>> {
    let mut counts: HashMap<(usize, usize), HashMap<&str, usize>> = HashMap::new();
    for run in &world.cluster.runs {
        *counts.entry((run.client, run.number)).or_default().entry(&run.key).or_default() += 1;
    }
    counts
}

/// The last run of a command is the one that counts. A read whose reply was lost does not, and two reads
/// may change places.
fn check_order(world: &World, scripts: &[Script]) {
    let (mut reads, mut unread) = (HashSet::new(), HashSet::new());
    for (client, script) in scripts.iter().enumerate() {
        let replies = world.replies(client).into_iter().map(Some).chain(std::iter::repeat(None));
        for (expect, reply) in script.sent.iter().zip(replies) {
            let Expect::Read { number } = expect else { continue };
            reads.insert((client, *number));
            if reply.is_none_or(|reply| reply.starts_with('-')) {
                unread.insert((client, *number));
            }
        }
    }
    let mut last: BTreeMap<(usize, &str, usize), usize> = BTreeMap::new();
    for (at, run) in world.cluster.runs.iter().enumerate() {
        if !unread.contains(&(run.client, run.number)) {
            last.insert((run.client, &run.key, run.number), at);
        }
    }
    // The latest run so far of any command and of a write, by client and key.
    let mut latest: HashMap<(usize, &str), (usize, usize)> = HashMap::new();
    for ((client, key, number), at) in last {
        let (any, write) = latest.entry((client, key)).or_default();
        let is_read = reads.contains(&(client, number));
        let bound = if is_read { *write } else { *any };
        assert!(at >= bound, "client {client}: command {number} was overtaken for {key}");
        *any = at.max(*any);
        if !is_read {
            *write = at;
        }
    }
}

fn check_replies(world: &World, client: usize, script: &Script, may_fail: bool) {
    let counts = count_runs(world);
    let replies = world.replies(client);
    assert_eq!(replies.len(), script.sent.len(), "client {client}: {replies:?}");
    for (reply, expect) in replies.iter().zip(&script.sent) {
        let shown = format!("client {client}: {reply:?} for {expect:?}");
        let is_error = reply.starts_with('-');
        let (is_not_run, is_unknown) = (reply.contains("not run"), reply.contains("outcome unknown"));
        let is_spread = matches!(expect, Expect::Spread);
        assert!(!is_error || is_spread || (may_fail && (is_not_run || is_unknown)), "{shown}");
        let runs_of =
            |number: usize| counts.get(&(client, number)).map_or(0, |keys| *keys.values().max().unwrap());
        match expect {
            Expect::Exactly(exactly) => assert_eq!(reply, exactly),
            Expect::Token { number, is_repeatable } => {
                let runs = runs_of(*number);
                assert!(is_error || reply.starts_with(&format!("+{client}:{number};")), "{shown}");
                assert!(runs <= 1 || *is_repeatable, "ran {runs} times, {shown}");
                assert!(is_error || runs > 0, "never ran, {shown}");
                assert!(!is_not_run || runs == 0, "ran, {shown}");
            }
            Expect::Read { number } => {
                assert!(is_error || reply.contains(&format!("\r\n{client}:{number}=")), "{shown}");
            }
            Expect::Values { keys } => {
                let mut rest = &reply[..];
                for key in keys.iter().filter(|_| !is_error) {
                    let at = rest.find(&format!("\r\n{key}=")).unwrap_or_else(|| panic!("{shown}"));
                    rest = &rest[at + 2..];
                }
            }
            Expect::Many => assert!(is_error || reply == "+OK\r\n", "{shown}"),
            Expect::Exec { number } => {
                let runs = runs_of(*number);
                let is_nil = reply == "*-1\r\n";
                assert!(is_error || is_nil || reply.contains(&format!("+{client}:{number};")), "{shown}");
                assert!(runs <= 1, "ran {runs} times, {shown}");
                assert!(is_error || is_nil == (runs == 0), "{shown}");
                assert!(!is_not_run || runs == 0, "{shown}");
            }
            Expect::Integer => assert!(is_error || reply.starts_with(':'), "{shown}"),
            Expect::Joined => assert!(is_error || reply.contains('|'), "{shown}"),
            Expect::Spread => assert!(!is_error || may_fail || reply == "-ERR no such key\r\n", "{shown}"),
        }
    }
}

fn check(steps: Vec<Step>, may_fail: bool) {
    let (mut world, scripts) = play(steps);
    world.heal();
    check_order(&world, &scripts);
    for (client, script) in scripts.iter().enumerate().filter(|(_, script)| !script.has_left) {
        check_replies(&world, client, script, may_fail);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn invariants_1_and_2_hold_in_any_order_of_events(
        steps in proptest::collection::vec(prop_oneof![6 => traffic(), 1 => trouble()], 1..200),
    ) {
        check(steps, true);
    }

    #[test]
    fn slots_that_move_cost_no_client_an_error(
        before in proptest::collection::vec(traffic(), 1..60),
        moving in proptest::collection::vec(traffic(), 1..60),
        after in proptest::collection::vec(traffic(), 1..60),
        tag in 1..3usize,
    ) {
        let is_quick = |step: &Step| !matches!(step, Step::Send { what: What::LargeSet | What::LargeAppend | What::Watched, .. });
        let steps = [before, vec![Step::BeginMove { tag }], moving, vec![Step::FinishMove { tag }], after].concat();
        check(steps.into_iter().filter(is_quick).collect(), false);
    }

    #[test]
    fn shards_that_change_hands_cost_no_client_an_error(
        before in proptest::collection::vec(traffic(), 1..60),
        held in proptest::collection::vec(traffic(), 1..60),
        after in proptest::collection::vec(traffic(), 1..60),
        shard in 0..2usize,
        is_told: bool,
    ) {
        let is_quick = |step: &Step| !matches!(step, Step::Send { what: What::LargeSet | What::LargeAppend | What::Watched, .. });
        let announced = vec![Step::AnnounceHandOver { shard, milliseconds: 2000 }];
        let steps = [before, announced, held, vec![Step::HandOver { shard, is_told }], after].concat();
        check(steps.into_iter().filter(is_quick).collect(), false);
    }
}
