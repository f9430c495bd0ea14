//! Nodes that die, hang, restart or are replaced: nothing is counted twice, other shards go on, and what
//! can wait is served by the new primary.

use crate::support::client::{Client, request};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::RealCluster;
use crate::support::shard_load::{Load, Tally, run_ordered_client};
use crate::support::slot_move::node_id;
use crate::support::wait_until;
use slotgate::topology::Slot;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Six nodes that notice a loss within seconds.
fn quick_cluster() -> RealCluster {
    RealCluster::start_with(&[("appendonly", "no"), ("cluster-node-timeout", "1500")])
}

/// A key of the shard whose primary is node `node`.
fn key_of(cluster: &RealCluster, node: usize, name: &str) -> String {
    let mut tags = (0..).map(|number| format!("{name}:{number}"));
    tags.find(|key| cluster.owner_of_key(key) == node).unwrap()
}

fn served(gateway: &Gateway) -> f64 {
    gateway.metric("slotgate_slots_served")
}

/// The number of a primary's replica.
fn replica_of(cluster: &RealCluster, primary: usize) -> usize {
    let id = node_id(&mut cluster.client(primary));
    let is_its = |node: &usize| {
        let nodes = cluster.client(*node).call_text(&["CLUSTER", "NODES"]);
        nodes.lines().any(|line| line.contains("myself,slave") && line.contains(&id))
    };
    (0..cluster.addrs().len()).filter(|node| *node != primary).find(is_its).unwrap()
}

#[test]
fn invariant_2_no_increment_is_counted_twice_when_a_primary_is_killed() {
    const CLIENTS: usize = 24;
    const DEPTH: usize = 8;
    let mut cluster = quick_cluster();
    let gateway = Gateway::start(cluster.addrs());
    let (load, tallies) = (Load::default(), Mutex::new(Vec::<Tally>::new()));
    let shared_key = key_of(&cluster, 0, "shared");
    let (acknowledged, unknown) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (gateway, load, tallies) = (&gateway, &load, &tallies);
            scope.spawn(move || {
                let tally = run_ordered_client(gateway, &format!("count:{number}"), DEPTH, load);
                tallies.lock().unwrap().push(tally);
            });
        }
        // All of them on one key: what it holds in the end is what was acknowledged and what nobody knows.
        for _ in 0..4 {
            scope.spawn(|| {
                let _guard = load.guard();
                let mut client = gateway.client();
                while !load.is_over.load(Ordering::Relaxed) {
                    let reply = client.call_text(&["INCR", &shared_key]);
                    let count = if reply.starts_with(':') { &acknowledged } else { &unknown };
                    assert!(reply.starts_with(':') || reply.starts_with("-IOERR outcome unknown"), "{reply}");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _guard = load.guard();
        load.wait_for_progress(1000);
        load.is_lossy.store(true, Ordering::Relaxed);
        cluster.kill_and_wait_for_failover(0);
        wait_until("the gateway has noticed", || served(&gateway) == 16384.0);
        load.wait_for_progress(3000);
        load.is_over.store(true, Ordering::Relaxed);
    });
    let tallies = tallies.into_inner().unwrap();
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    assert!(sum(|tally| tally.right) > 4000);
    assert_eq!(sum(|tally| tally.not_run), 0, "what was not sent yet is held and then served");
    let unknowns = sum(|tally| tally.unknown);
    assert!(
        unknowns <= (CLIENTS * DEPTH) as u64,
        "{unknowns} of unknown outcome are more than were under way"
    );

    let (acknowledged, unknown) = (acknowledged.into_inner(), unknown.into_inner());
    let reply = gateway.client().call_text(&["GET", &shared_key]);
    let number: u64 = reply.lines().nth(1).unwrap().parse().unwrap();
    assert!(unknown <= 4, "{unknown} of unknown outcome, and four were under way");
    assert!(
        number <= acknowledged + unknown,
        "{number} were counted, and {acknowledged} + {unknown} asked for"
    );
}

#[test]
fn an_increment_that_a_replica_has_confirmed_survives_the_failover_exactly_once() {
    let mut cluster = quick_cluster();
    let gateway = Gateway::start(cluster.addrs());
    let mut client = gateway.client();
    let key = key_of(&cluster, 1, "confirmed");
    for number in 1..=50 {
        client.expect(&format!("INCR {key}"), &format!(":{number}\r\n"));
    }
    // Each shard has one replica; the least of what they say counts.
    client.expect("WAIT 1 0", ":1\r\n");
    cluster.kill(1);
    client.expect(&format!("GET {key}"), "$2\r\n50\r\n");
    wait_until("the new primary takes writes", || {
        let reply = client.call_text(&["INCR", &key]);
        assert!(reply == ":51\r\n" || reply.starts_with("-IOERR outcome unknown"), "{reply}");
        reply == ":51\r\n"
    });
}

#[test]
fn invariant_6_requests_for_live_shards_do_not_wait_while_one_shard_has_no_primary() {
    // No replica takes over: the shard stays dead for as long as the test lasts.
    let mut cluster = RealCluster::start_without_replicas(&[
        ("appendonly", "no"),
        ("cluster-node-timeout", "1500"),
        ("cluster-require-full-coverage", "no"),
    ]);
    let args = ["--workers", "1", "--hold", "600s"];
    let gateway = Gateway::start_with(cluster.addrs(), &args);
    let dead = key_of(&cluster, 0, "dead");
    let live: Vec<String> = (1..3).map(|node| key_of(&cluster, node, "live")).collect();
    let mut client = gateway.client();
    client.expect(&format!("SET {dead} 1"), "+OK\r\n");
    cluster.kill(0);
    // From the first moment on, and with many that wait: pipelines full of them.
    let mut waiting: Vec<Client> = (0..20).map(|_| gateway.client()).collect();
    // The first of three nodes has the first third of the slots.
    let is_dead = |key: &String| Slot::of_key(key.as_bytes()).index() < 5400;
    let keys = (0..).map(|number| format!("many:{number}")).filter(is_dead).take(500);
    let many: Vec<u8> = keys.flat_map(|key| request(&["GET", &key])).collect();
    for client in &mut waiting {
        client.send_raw(&many);
    }
    for round in 0..1000 {
        for key in &live {
            client.expect(&format!("SET {key} {round}"), "+OK\r\n");
            client.expect(&format!("GET {key}"), &format!("${}\r\n{round}\r\n", round.to_string().len()));
        }
    }
    client.expect(&format!("MGET {} {}", live[0], live[1]), "*2\r\n$3\r\n999\r\n$3\r\n999\r\n");
    wait_until("what is for the dead shard waits", || gateway.metric("slotgate_held") >= 1000.0);
    wait_until("its death is known", || served(&gateway) < 16384.0);
    for _ in 0..1000 {
        client.expect(&format!("GET {}", live[0]), "$3\r\n999\r\n");
    }
    // And it is not given up, but served when the node is back.
    cluster.restart(0);
    for client in &mut waiting {
        for _ in 0..500 {
            assert_eq!(client.read(), b"$-1\r\n");
        }
    }
}

#[test]
fn what_was_not_sent_is_held_and_served_by_the_new_primary() {
    let mut cluster = quick_cluster();
    let gateway = Gateway::start_with(cluster.addrs(), &["--hold", "60s"]);
    let key = key_of(&cluster, 2, "held");
    gateway.client().expect(&format!("SET {key} 1"), "+OK\r\n");
    gateway.client().expect("WAIT 1 0", ":1\r\n");
    cluster.kill(2);
    wait_until("the connection is lost", || gateway.metric("slotgate_backends_lost_total") > 0.0);
    // Of every kind: none of it was sent, so all of it is safe.
    let (mut one, mut two, mut three) = (gateway.client(), gateway.client(), gateway.client());
    one.send(&["INCR", &key]);
    two.send_raw(
        [request(&["MULTI"]), request(&["RPUSH", &format!("{{{key}}}l"), "x"]), request(&["EXEC"])].concat(),
    );
    three.send(&["BLPOP", &format!("{{{key}}}l"), "0"]);
    assert_eq!(one.read(), b":2\r\n");
    assert_eq!(
        (two.read(), two.read(), two.read()),
        (b"+OK\r\n".into(), b"+QUEUED\r\n".into(), b"*1\r\n:1\r\n".into())
    );
    assert!(three.read().ends_with(b"$1\r\nx\r\n"));
    assert!(gateway.metric("slotgate_held_total") >= 3.0);
}

#[test]
fn a_shard_without_a_replica_ends_in_a_clear_error_after_the_time_to_hold() {
    let mut cluster =
        RealCluster::start_without_replicas(&[("appendonly", "no"), ("cluster-node-timeout", "1500")]);
    let gateway = Gateway::start_with(cluster.addrs(), &["--hold", "1s"]);
    let (dead, live) = (key_of(&cluster, 0, "dead"), key_of(&cluster, 1, "live"));
    let mut client = gateway.client();
    client.expect(&format!("SET {dead} 1"), "+OK\r\n");
    client.expect(&format!("SET {live} 1"), "+OK\r\n");
    cluster.kill(0);
    let reply = client.call_text(&["GET", &dead]);
    assert!(reply.starts_with("-CLUSTERDOWN not run: its shard has no reachable primary"), "{reply}");
    // With full coverage asked for, the whole cluster refuses once it has noticed; in its own words.
    let mut seen = String::new();
    wait_until("the cluster refuses", || {
        seen = client.call_text(&["GET", &live]);
        assert!(seen == "$1\r\n1\r\n" || seen.starts_with("-CLUSTERDOWN "), "{seen}");
        seen.starts_with("-CLUSTERDOWN ")
    });
    assert!(!seen.contains("127.0.0.1"), "{seen}");
    assert_eq!(gateway.admin_get("/readyz").0, 503);
}

#[test]
fn a_planned_failover_under_load_shows_in_no_reply() {
    let cluster = quick_cluster();
    let gateway = Gateway::start(cluster.addrs());
    let (load, tallies) = (Load::default(), Mutex::new(Vec::<Tally>::new()));
    thread::scope(|scope| {
        for number in 0..16 {
            let (gateway, load, tallies) = (&gateway, &load, &tallies);
            scope.spawn(move || {
                let tally = run_ordered_client(gateway, &format!("planned:{number}"), 8, load);
                tallies.lock().unwrap().push(tally);
            });
        }
        let _guard = load.guard();
        load.wait_for_progress(500);
        for primary in 0..3 {
            let replica = replica_of(&cluster, primary);
            cluster.client(replica).expect("CLUSTER FAILOVER", "+OK\r\n");
            wait_until("the roles have changed", || {
                cluster.client(replica).call_text(&["INFO", "replication"]).contains("role:master")
                    && cluster.client(primary).call_text(&["INFO", "replication"]).contains("role:slave")
            });
            load.wait_for_progress(1000);
        }
        load.is_over.store(true, Ordering::Relaxed);
    });
    for tally in tallies.into_inner().unwrap() {
        assert_eq!((tally.unknown, tally.not_run, tally.fallen_back), (0, 0, 0), "{tally:?}");
    }
}

#[test]
fn a_primary_that_hangs_is_replaced_and_its_requests_end_one_way_or_the_other() {
    let cluster = quick_cluster();
    let gateway = Gateway::start_with(cluster.addrs(), &["--workers", "1", "--hold", "60s"]);
    let (hung, live) = (key_of(&cluster, 0, "hung"), key_of(&cluster, 1, "live"));
    let (mut reader, mut writer, mut other) = (gateway.client(), gateway.client(), gateway.client());
    other.expect(&format!("SET {hung} 7"), "+OK\r\n");
    other.expect("WAIT 1 0", ":1\r\n");
    cluster.freeze(0);
    reader.send(&["GET", &hung]);
    writer.send(&["INCR", &hung]);
    for round in 1..=500 {
        other.expect(&format!("INCR {live}"), &format!(":{round}\r\n"));
    }
    // A read is repeated at the new primary; nobody knows what became of the increment.
    assert_eq!(reader.read(), b"$1\r\n7\r\n");
    let reply = String::from_utf8(writer.read()).unwrap();
    assert!(reply.starts_with("-IOERR outcome unknown"), "{reply}");
    writer.expect(&format!("INCR {hung}"), ":8\r\n");
    // It comes back as a replica, with the increment still in its socket.
    cluster.thaw(0);
    wait_until("it has found its place", || {
        cluster.client(0).call_text(&["INFO", "replication"]).contains("role:slave")
    });
    for number in 9..100 {
        writer.expect(&format!("INCR {hung}"), &format!(":{number}\r\n"));
    }
}

#[test]
fn replies_ahead_of_a_node_that_hangs_are_not_kept_for_it() {
    let cluster = RealCluster::start_without_replicas(&[("appendonly", "no")]);
    let gateway = Gateway::start_with(cluster.addrs(), &["--workers", "1", "--hold", "60s"]);
    let (hung, live) = (key_of(&cluster, 0, "hung"), key_of(&cluster, 1, "live"));
    let mut client = gateway.client();
    client.expect(&format!("SET {hung} 7"), "+OK\r\n");
    cluster.freeze(0);
    client.send_raw([request(&["SET", &live, "1"]), request(&["GET", &hung])].concat());
    // Nobody takes the hung one's place, so this does not come together with the other.
    assert_eq!(client.read(), b"+OK\r\n");
    cluster.thaw(0);
    assert_eq!(client.read(), b"$1\r\n7\r\n");
}

#[test]
fn a_gateway_that_starts_before_its_cluster_serves_once_there_is_one() {
    let cluster = RealCluster::start_unformed(3);
    let gateway = Gateway::start_unready(cluster.addrs(), &["--hold", "60s"]);
    assert_eq!(gateway.admin_get("/readyz").0, 503);
    let mut client = gateway.client();
    client.expect("PING", "+PONG\r\n");
    client.send_raw([request(&["SET", "early", "1"]), request(&["INCR", "early"])].concat());
    cluster.form(0);
    assert_eq!((client.read(), client.read()), (b"+OK\r\n".into(), b":2\r\n".into()));
    wait_until("it is ready", || gateway.admin_get("/readyz").0 == 200);
    for number in 0..100 {
        client.expect(&format!("SET key:{number} x"), "+OK\r\n");
    }
}

#[test]
fn invariant_4_the_topology_outlives_all_seeds() {
    let mut cluster = quick_cluster();
    let seed = replica_of(&cluster, 0);
    let gateway = Gateway::start_with(&[cluster.addrs()[seed]], &["--refresh", "200ms"]);
    let mut client = gateway.client();
    cluster.kill(seed);
    let version = gateway.metric("slotgate_topology_version");
    wait_until("the others' view of the loss", || gateway.metric("slotgate_topology_version") > version);
    for node in 0..3 {
        client.expect(&format!("SET {} x", key_of(&cluster, node, "k")), "+OK\r\n");
    }
    // A failover, too, is learnt from the others.
    let key = key_of(&cluster, 1, "later");
    client.expect(&format!("SET {key} x"), "+OK\r\n");
    client.expect("WAIT 0 0", ":0\r\n");
    cluster.kill_and_wait_for_failover(1);
    client.expect(&format!("EXISTS {key}x"), ":0\r\n");
    assert_eq!(gateway.metric("slotgate_slots_covered"), 16384.0);
}

#[test]
fn a_node_of_another_cluster_at_a_known_address_gets_no_request() {
    let mut cluster = RealCluster::start_without_replicas(&[
        ("appendonly", "no"),
        ("cluster-node-timeout", "1500"),
        ("cluster-require-full-coverage", "no"),
    ]);
    let gateway = Gateway::start_with(cluster.addrs(), &["--hold", "1s"]);
    let (gone, live) = (key_of(&cluster, 0, "gone"), key_of(&cluster, 1, "live"));
    let mut client = gateway.client();
    client.expect(&format!("SET {gone} 1"), "+OK\r\n");
    // Its address now belongs to a cluster of one node, which serves all slots.
    cluster.replace_by_stranger(0);
    let mut stranger = cluster.client(0);
    stranger.expect("CLUSTER ADDSLOTSRANGE 0 16383", "+OK\r\n");
    wait_until("the stranger serves", || {
        stranger.call_text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    });
    let refused = || gateway.log().matches("another node").count();
    wait_until("the gateway has met it", || refused() > 0);
    for _ in 0..3 {
        let reply = client.call_text(&["SET", &gone, "2"]);
        assert!(reply.starts_with("-CLUSTERDOWN not run"), "{reply}");
        client.expect(&format!("SET {live} 2"), "+OK\r\n");
    }
    stranger.expect("DBSIZE", ":0\r\n");
    let calls = stranger.call_text(&["INFO", "commandstats"]);
    assert!(!calls.contains("cmdstat_set:"), "{calls}");
}
