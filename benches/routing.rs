//! How long it takes to decide where a request goes, and each step of that on its own.
//!
//! `cargo bench --bench routing`. From a scanned request to the owner's address; nothing is sent.

use criterion::{Criterion, criterion_group, criterion_main};
use slotgate::command::{Lookup, Spec, Table, extract};
use slotgate::proxy::router::{Route, route, traits};
use slotgate::resp::{Request, Span};
use slotgate::topology::{Health, Node, Shard, Slot, SlotRange, Snapshot};
use std::hint::black_box;

/// A request as the scanner leaves it.
struct Scanned {
    frame: Vec<u8>,
    spans: Vec<Span>,
}

impl Scanned {
    fn new(line: &str) -> Scanned {
        let (mut frame, mut spans) = (Vec::new(), Vec::new());
        for word in line.split(' ') {
            let start = frame.len() as u32;
            frame.extend_from_slice(word.as_bytes());
            spans.push(Span { start, end: frame.len() as u32 });
        }
        Scanned { frame, spans }
    }

    fn request(&self) -> Request<'_> {
        Request::new(&self.frame, &self.spans)
    }
}

fn spec_of<'a>(table: &'a Table, request: &Request) -> &'a Spec {
    match table.lookup(request) {
        Lookup::Found(_, spec) => spec,
        _ => panic!("the table has the command"),
    }
}

fn slots(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slot");
    for (name, key) in [("of a key", "key:000000000042"), ("of a key with a hash tag", "user:{42}:name")] {
        group.bench_function(name, |bencher| bencher.iter(|| Slot::of_key(black_box(key.as_bytes()))));
    }
    group.finish();
}

const MGET: &str = "MGET a b c d e f g h i j";
const MSET: &str = "MSET a 1 b 2 c 3 d 4 e 5 f 6 g 7 h 8 i 9 j 10";
const EVAL: &str = "EVAL return~1 2 {user}a {user}b argument";

fn commands(criterion: &mut Criterion) {
    let table = Table::builtin();
    let mut group = criterion.benchmark_group("lookup");
    for line in ["GET a", "get a", "CLIENT SETNAME me", "NOSUCH a"] {
        let scanned = Scanned::new(line);
        group.bench_function(line, |bencher| {
            bencher.iter(|| matches!(table.lookup(black_box(&scanned.request())), Lookup::Found(..)));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("keys");
    for line in ["GET a", MSET, EVAL] {
        let scanned = Scanned::new(line);
        let (request, mut keys) = (scanned.request(), Vec::new());
        let spec = spec_of(&table, &request);
        group.bench_function(line, |bencher| {
            bencher.iter(|| extract(spec, black_box(&request), &mut keys));
        });
        assert!(!keys.is_empty(), "{line}");
    }
    group.finish();
}

/// Six nodes: three primaries, a replica for each.
fn cluster() -> Snapshot {
    let node = |ix: u16| Node {
        id: format!("{ix:040x}").parse().expect("40 hex digits"),
        addr: ([10, 0, 0, 1], 7000 + ix).into(),
        hostname: None,
        health: Health::Ok,
    };
    let shards = [(0, 5460), (5461, 10922), (10923, 16383)].into_iter().zip(0..).map(|((start, end), ix)| {
        let range = SlotRange::new(start, end).expect("slots of a cluster");
        (Shard { primary: ix, replicas: vec![ix + 3] }, vec![range])
    });
    Snapshot::new((0..6).map(node).collect(), shards.collect()).expect("the parts fit together")
}

/// The whole way: command, its traits, route and, where one slot is meant, its owner.
fn routes(criterion: &mut Criterion) {
    let (table, snapshot) = (Table::builtin(), cluster());
    let traits = traits(&table);
    let mut group = criterion.benchmark_group("route");
    for line in ["GET key:000000000042", "SET user:{42}:name x", MGET, EVAL, "PING"] {
        let scanned = Scanned::new(line);
        let mut keys = Vec::new();
        group.bench_function(line, |bencher| {
            bencher.iter(|| {
                let request = black_box(scanned.request());
                let Lookup::Found(ix, spec) = table.lookup(&request) else { panic!("no such command") };
                match route(traits[usize::from(ix.0)].handling, spec, &request, &mut keys) {
                    Route::One { slot, .. } => snapshot.primary_of(slot).map(|node| node.addr),
                    other => {
                        black_box(other);
                        None
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, slots, commands, routes);
criterion_main!(benches);
