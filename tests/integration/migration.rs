//! Slots on the move: a client sees its own order, whole transactions, and never a redirect.

use crate::support::client::{Client, bulk, request};
use crate::support::gateway::Gateway;
use crate::support::payload::Payload;
use crate::support::real_cluster::RealCluster;
use crate::support::shard_load::{Load, Tally, run_ordered_client};
use crate::support::slot_move::{SlotMove, node_id};
use crate::support::wait_until;
use slotgate::topology::Slot;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;

const MB: usize = 1 << 20;

/// Three primaries, with one gateway before them.
fn cluster_with_gateway() -> (RealCluster, Gateway) {
    let cluster = RealCluster::start_without_replicas(&[("appendonly", "no")]);
    let gateway = Gateway::start_with(cluster.addrs(), &["--workers", "1", "--refresh", "1h"]);
    (cluster, gateway)
}

/// A node that does not serve `key`.
fn other_node(cluster: &RealCluster, key: &str) -> usize {
    (cluster.owner_of_key(key) + 1) % 3
}

/// Moves slots from one node to another as an operator does, while everything goes on.
fn reshard(cluster: &RealCluster, from: usize, to: usize, slots: usize) {
    // It does not begin before all nodes have heard of the move before.
    wait_until("redis-cli moves slots", || {
        let output = Command::new("redis-cli")
            .args(["--cluster", "reshard", &cluster.addrs()[0].to_string(), "--cluster-yes"])
            .args(["--cluster-from", &node_id(&mut cluster.client(from))])
            .args(["--cluster-to", &node_id(&mut cluster.client(to))])
            .args(["--cluster-slots", &slots.to_string()])
            .stdin(Stdio::null())
            .output()
            .expect("redis-cli was not found (Debian, Ubuntu: apt-get install redis-tools)");
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            eprintln!("redis-cli: {}", said.trim_end().lines().last().unwrap_or_default());
        }
        output.status.success()
    });
}

#[test]
fn invariant_1_replies_keep_their_order_for_100_clients_while_slots_move_and_a_primary_fails() {
    const CLIENTS: usize = 100;
    const DEPTHS: [usize; 3] = [1, 4, 16];
    let mut cluster = RealCluster::start_with(&[("appendonly", "no"), ("cluster-node-timeout", "5000")]);
    let gateway = Gateway::start(cluster.addrs());
    let (load, tallies) = (Load::default(), Mutex::new(Vec::<Tally>::new()));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (gateway, load, tallies) = (&gateway, &load, &tallies);
            scope.spawn(move || {
                let depth = DEPTHS[number % DEPTHS.len()];
                let tally = run_ordered_client(gateway, &format!("order:{number}"), depth, load);
                tallies.lock().unwrap().push(tally);
            });
        }
        let _guard = load.guard();
        load.wait_for_progress(1000);
        for (from, to) in [(0, 1), (1, 0), (2, 0), (0, 2)] {
            reshard(&cluster, from, to, 100);
        }
        // How often one of the load's keys was met half-way there is chance; this one is.
        let redirects = |kind: &str| gateway.metric(&format!("slotgate_redirects_total{{kind=\"{kind}\"}}"));
        let key = "order:0:0";
        let mut moving = SlotMove::begin(&cluster, key, other_node(&cluster, key));
        moving.move_keys(&[key]);
        wait_until("a client met its key on the way", || redirects("ask") > 0.0);
        moving.finish();
        wait_until("the moves were noticed", || redirects("moved") > 0.0);
        load.wait_for_progress(1000);

        load.is_lossy.store(true, Ordering::Relaxed);
        cluster.kill_and_wait_for_failover(2);
        load.wait_for_progress(5000);
        load.is_over.store(true, Ordering::Relaxed);
    });
    let tallies = tallies.into_inner().unwrap();
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let (unknown, not_run) = (sum(|tally| tally.unknown), sum(|tally| tally.not_run));
    let under_way = (0..CLIENTS).map(|number| DEPTHS[number % DEPTHS.len()] as u64).sum::<u64>();
    assert!(unknown <= under_way, "{unknown} of unknown outcome, and {under_way} were under way");
    assert_eq!(not_run, 0, "nothing is given up: moves and failovers are waited for");
}

#[test]
fn invariant_7_a_client_never_sees_a_redirect_of_a_slot_on_the_move() {
    let (cluster, gateway) = cluster_with_gateway();
    let mut client = gateway.client();
    let key = |name: &str| format!("{name}{{mv}}");
    for name in ["moved", "stays"] {
        client.expect(&format!("SET {} old", key(name)), "+OK\r\n");
    }
    let mut moving = SlotMove::begin(&cluster, "{mv}", other_node(&cluster, "{mv}"));
    moving.move_keys(&["moved{mv}"]);
    for _ in 0..50 {
        client.expect("GET moved{mv}", "$3\r\nold\r\n");
        client.expect("GET stays{mv}", "$3\r\nold\r\n");
        client.expect("GET neither{mv}", "$-1\r\n");
    }
    client.expect("SET new{mv} 1", "+OK\r\n");
    client.expect("INCR new{mv}", ":2\r\n");
    client.expect("APPEND moved{mv} er", ":5\r\n");
    client.expect("HSET hash{mv} f v", ":1\r\n");
    client.expect("MGET moved{mv} new{mv} elsewhere", "*3\r\n$5\r\nolder\r\n$1\r\n2\r\n$-1\r\n");
    // Many clients, all kinds of keys at once: ASKING never belongs to somebody else's command.
    thread::scope(|scope| {
        for number in 0..8 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = gateway.client();
                let (moved, stays) = (request(&["GET", "moved{mv}"]), request(&["GET", "stays{mv}"]));
                let mine = format!("mine:{number}{{mv}}");
                for round in 1..100 {
                    let incr = request(&["INCR", &mine]);
                    client.send_raw([&moved[..], &stays, &incr, &stays, &moved].concat());
                    assert_eq!(client.read(), bulk("older"));
                    assert_eq!(client.read(), bulk("old"));
                    assert_eq!(client.read(), format!(":{round}\r\n").as_bytes());
                    assert_eq!(client.read(), bulk("old"));
                    assert_eq!(client.read(), bulk("older"));
                }
            });
        }
    });
    moving.move_keys(&["stays{mv}"]);
    moving.finish();
    for _ in 0..50 {
        client.expect("GET moved{mv}", "$5\r\nolder\r\n");
        client.expect("GET stays{mv}", "$3\r\nold\r\n");
        client.expect("GET new{mv}", "$1\r\n2\r\n");
    }
}

#[test]
fn a_command_of_several_keys_waits_until_its_half_moved_slot_is_whole_again() {
    let (cluster, gateway) = cluster_with_gateway();
    let mut client = gateway.client();
    client.expect("MSET a{half} 1 b{half} 2", "+OK\r\n");
    let mut moving = SlotMove::begin(&cluster, "{half}", other_node(&cluster, "{half}"));
    moving.move_keys(&["a{half}"]);
    client.send(&["MGET", "a{half}", "b{half}"]);
    client.send(&["SET", "a{half}", "3"]);
    client.send(&["SUNIONSTORE", "c{half}", "d{half}", "e{half}"]);
    client.send(&["GET", "a{half}"]);
    wait_until("it was told to try again", || {
        gateway.metric("slotgate_redirects_total{kind=\"tryagain\"}") > 2.0
    });
    // Another client's requests for single keys of the slot, and all for other slots, do not wait.
    let mut other = gateway.client();
    other.expect("GET a{half}", "$1\r\n1\r\n");
    other.expect("GET b{half}", "$1\r\n2\r\n");
    other.expect("MSET a{whole} 1 b{whole} 2", "+OK\r\n");
    moving.move_keys(&["b{half}"]);
    assert_eq!(client.read(), b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    moving.finish();
    assert_eq!(client.read(), b"+OK\r\n");
    assert_eq!(client.read(), b":0\r\n");
    assert_eq!(client.read(), b"$1\r\n3\r\n");
}

#[test]
fn a_half_moved_slot_that_stays_so_ends_in_a_clear_error() {
    let cluster = RealCluster::start_without_replicas(&[("appendonly", "no")]);
    let gateway = Gateway::start_with(cluster.addrs(), &["--hold", "1s"]);
    let mut client = gateway.client();
    client.expect("MSET a{half} 1 b{half} 2", "+OK\r\n");
    let mut moving = SlotMove::begin(&cluster, "{half}", other_node(&cluster, "{half}"));
    moving.move_keys(&["a{half}"]);
    let reply = client.call_text(&["MGET", "a{half}", "b{half}"]);
    assert!(reply.starts_with("-TRYAGAIN not run: the keys are being moved"), "{reply}");
    client.expect("GET a{half}", "$1\r\n1\r\n");
}

#[test]
fn a_transaction_runs_whole_on_one_side_of_a_move() {
    let (cluster, gateway) = cluster_with_gateway();
    let mut client = gateway.client();
    client.expect("SET a{tx} 1", "+OK\r\n");
    let mut moving = SlotMove::begin(&cluster, "{tx}", other_node(&cluster, "{tx}"));
    let transaction = |client: &mut Client, value: &str| {
        client.expect("MULTI", "+OK\r\n");
        client.expect("INCR a{tx}", "+QUEUED\r\n");
        client.expect("PING", "+QUEUED\r\n");
        client.expect("INCR a{tx}", "+QUEUED\r\n");
        let first: i64 = value.parse().unwrap();
        client.expect("EXEC", &format!("*3\r\n:{first}\r\n+PONG\r\n:{}\r\n", first + 1));
    };
    transaction(&mut client, "2");
    moving.move_keys(&["a{tx}"]);
    transaction(&mut client, "4");
    // Begun before the slot is given away, ended after it.
    client.expect("MULTI", "+OK\r\n");
    client.expect("INCR a{tx}", "+QUEUED\r\n");
    moving.finish();
    client.expect("EXEC", "*1\r\n:6\r\n");
    transaction(&mut client, "7");
}

#[test]
fn a_watch_whose_slot_moves_fails_and_its_transaction_does_not_run() {
    let (cluster, gateway) = cluster_with_gateway();
    let mut client = gateway.client();
    let begin = |client: &mut Client| {
        client.expect("WATCH a{w}", "+OK\r\n");
        client.expect("GET a{w}", "$1\r\n1\r\n");
    };
    let end = |client: &mut Client, reply: &str| {
        client.expect("MULTI", "+OK\r\n");
        client.expect("SET b{w} 1", "+QUEUED\r\n");
        client.expect("EXEC", reply);
    };
    client.expect("SET a{w} 1", "+OK\r\n");
    // The key leaves, and then the slot.
    begin(&mut client);
    let mut moving = SlotMove::begin(&cluster, "{w}", other_node(&cluster, "{w}"));
    moving.move_keys(&["a{w}"]);
    end(&mut client, "*-1\r\n");
    // Watched where it is only on its way to; what the node refuses must not be taken for a watch.
    client.expect("WATCH a{w}", "+OK\r\n");
    moving.finish();
    client.expect("MULTI", "+OK\r\n");
    client.expect("SET b{w} 1", "+QUEUED\r\n");
    let reply = client.call_text(&["EXEC"]);
    assert!(matches!(reply.as_str(), "*-1\r\n" | "*1\r\n+OK\r\n"), "{reply}");
    client.expect("DEL b{w}", if reply == "*-1\r\n" { ":0\r\n" } else { ":1\r\n" });
    // The slot leaves between WATCH and EXEC, with nothing said to anybody.
    begin(&mut client);
    let mut moving = SlotMove::begin(&cluster, "{w}", other_node(&cluster, "{w}"));
    moving.move_keys(&["a{w}"]);
    moving.finish();
    end(&mut client, "*-1\r\n");
    client.expect("EXISTS b{w}", ":0\r\n");
    // And a watch that nothing happens to works.
    begin(&mut client);
    end(&mut client, "*1\r\n+OK\r\n");
    client.expect("GET b{w}", "$1\r\n1\r\n");
}

#[test]
fn a_blocked_client_goes_on_waiting_at_the_new_node_for_what_is_left_of_its_time() {
    let (cluster, gateway) = cluster_with_gateway();
    let (mut waiting, mut short, mut other) = (gateway.client(), gateway.client(), gateway.client());
    waiting.send(&["BLPOP", "list{bl}", "0"]);
    short.send(&["BLPOP", "never{bl}", "4"]);
    let blocked = |node: usize| -> u64 {
        let info = cluster.client(node).call_text(&["INFO", "clients"]);
        let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).unwrap();
        line.parse().unwrap()
    };
    let (from, to) = (cluster.owner_of_key("{bl}"), other_node(&cluster, "{bl}"));
    wait_until("both block", || blocked(from) == 2);
    let mut moving = SlotMove::begin(&cluster, "{bl}", to);
    moving.finish();
    wait_until("both block at the new node", || blocked(to) == 2);
    assert_eq!(blocked(from), 0);
    let began = std::time::Instant::now();
    assert_eq!(short.read(), b"*-1\r\n");
    assert!(began.elapsed().as_secs() < 60, "the time began anew without end");
    other.expect("RPUSH list{bl} x", ":1\r\n");
    assert_eq!(waiting.read(), b"*2\r\n$8\r\nlist{bl}\r\n$1\r\nx\r\n");
    waiting.expect("PING", "+PONG\r\n");
}

#[test]
fn large_values_pass_whole_while_their_slot_moves() {
    let (cluster, gateway) = cluster_with_gateway();
    let payload = Payload::new(32 * MB, 7);
    let (mut client, mut reader) = (gateway.client(), gateway.client());
    payload.send_set(&mut client, "old{large}");
    assert_eq!(client.read(), b"+OK\r\n");
    let mut moving = SlotMove::begin(&cluster, "{large}", other_node(&cluster, "{large}"));
    // A key that is new goes to the importing node.
    payload.send_set(&mut client, "new{large}");
    assert_eq!(client.read(), b"+OK\r\n");
    client.send(&["GET", "new{large}"]);
    payload.expect(&mut client);
    // A reply that has begun at the old node ends there, although the key leaves meanwhile.
    reader.send(&["GET", "old{large}"]);
    assert_eq!(payload.read_prefix(&mut reader, MB).0, MB);
    moving.move_keys(&["old{large}"]);
    client.send(&["GET", "old{large}"]);
    payload.expect(&mut client);
    moving.finish();
    assert_eq!(payload.read_on(&mut reader, MB, payload.len()), (payload.len(), true));
    for key in ["old{large}", "new{large}"] {
        client.send(&["GET", key]);
        payload.expect(&mut client);
    }
}

#[test]
fn a_redirect_to_a_host_name_or_to_no_host_at_all_is_followed() {
    let cluster = RealCluster::start_without_replicas(&[
        ("appendonly", "no"),
        ("cluster-announce-hostname", "node.invalid"),
        ("cluster-preferred-endpoint-type", "hostname"),
    ]);
    wait_until("all nodes know all names", || {
        (0..3).all(|node| {
            cluster.client(node).call_text(&["CLUSTER", "NODES"]).matches("node.invalid").count() == 3
        })
    });
    let gateway = Gateway::start_with(cluster.addrs(), &["--refresh", "1h"]);
    let mut client = gateway.client();
    for (tag, endpoint) in [("{h1}", "hostname"), ("{h2}", "unknown-endpoint")] {
        for node in 0..3 {
            cluster
                .client(node)
                .expect(&format!("CONFIG SET cluster-preferred-endpoint-type {endpoint}"), "+OK\r\n");
        }
        client.expect(&format!("SET key{tag} 1"), "+OK\r\n");
        let to = other_node(&cluster, tag);
        let from = cluster.owner_of_key(tag);
        let mut moving = SlotMove::begin(&cluster, tag, to);
        moving.move_keys(&[&format!("key{tag}")]);
        let slot = Slot::of_key(tag.as_bytes());
        let host = if endpoint == "hostname" { "node.invalid" } else { "" };
        let redirect = format!("-ASK {slot} {host}:{}\r\n", cluster.addrs()[to].port());
        cluster.client(from).expect(&format!("GET key{tag}"), &redirect);
        client.expect(&format!("GET key{tag}"), "$1\r\n1\r\n");
        moving.finish();
        client.expect(&format!("INCR key{tag}"), ":2\r\n");
    }
}
