//! Large requests and replies, slow clients, many clients: the gateway's memory stays bounded, nobody
//! waits for somebody else, and no byte goes where it does not belong.

use crate::support::client::{Client, request};
use crate::support::gateway::Gateway;
use crate::support::payload::Payload;
use crate::support::real_cluster::{RealCluster, shared};
use crate::support::slot_move::SlotMove;
use crate::support::wait_until;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const KB: usize = 1 << 10;
const MB: usize = 1 << 20;
/// What a large value may cost the gateway, in KB.
const BOUND_KB: u64 = 64 << 10;

/// Counts, on a connection of its own, until it is told to stop.
fn count_on(gateway: &Gateway, key: &str, is_over: &AtomicBool, count: &AtomicU64) {
    let mut client = gateway.client();
    while !is_over.load(Ordering::Relaxed) {
        let expected = count.load(Ordering::Relaxed) + 1;
        client.expect(&format!("INCR {key}"), &format!(":{expected}\r\n"));
        count.store(expected, Ordering::Relaxed);
    }
}

#[test]
fn a_512_mb_value_passes_both_ways_in_little_memory_while_others_go_on() {
    let cluster = RealCluster::start_without_replicas(&[("appendonly", "no")]);
    let gateway = Gateway::start_with(cluster.addrs(), &["--workers", "1"]);
    let payload = Payload::new(512 * MB, 1);
    let mut client = gateway.client();
    client.expect("SET small{big} x", "+OK\r\n");
    let before = gateway.memory_kb();
    let (is_over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        // The same shard, where it is hardest.
        scope.spawn(|| count_on(&gateway, "count{big}", &is_over, &count));
        wait_until("the other client counts", || count.load(Ordering::Relaxed) > 0);
        let at_start = count.load(Ordering::Relaxed);
        payload.send_set(&mut client, "large{big}");
        assert_eq!(client.read(), b"+OK\r\n");
        let at_half = count.load(Ordering::Relaxed);
        client.send(&["GET", "large{big}"]);
        payload.expect(&mut client);
        let at_end = count.load(Ordering::Relaxed);
        is_over.store(true, Ordering::Relaxed);
        assert!(at_half - at_start >= 20, "{} requests were served during the SET", at_half - at_start);
        assert!(at_end - at_half >= 20, "{} requests were served during the GET", at_end - at_half);
    });
    client.expect("GET small{big}", "$1\r\nx\r\n");
    let grown = gateway.peak_memory_kb() - before;
    assert!(grown < BOUND_KB, "the gateway grew by {grown} KB");
}

#[test]
fn a_client_that_stops_reading_a_large_reply_is_paused_then_cut_and_nobody_else_notices() {
    let gateway = Gateway::start_with(shared(), &["--workers", "1", "--write-timeout", "2s"]);
    let payload = Payload::new(100 * MB, 2);
    let mut client = gateway.client();
    payload.send_set(&mut client, "large_values:stuck");
    assert_eq!(client.read(), b"+OK\r\n");
    let before = gateway.memory_kb();
    let mut stuck = gateway.client();
    stuck.send(&["GET", "large_values:stuck"]);
    let (same, _) = payload.read_prefix(&mut stuck, MB);
    assert_eq!(same, MB);
    let cut = || gateway.metric("slotgate_clients_closed_total{reason=\"output\"}");
    let mut reads = 0;
    wait_until("the client is cut", || {
        for _ in 0..50 {
            client.expect("STRLEN large_values:stuck", &format!(":{}\r\n", payload.len()));
        }
        reads += 1;
        cut() > 0.0
    });
    assert!(reads > 1, "it was cut at once");
    let grown = gateway.peak_memory_kb() - before;
    assert!(grown < BOUND_KB / 2, "the gateway grew by {grown} KB");
    let (same, is_whole) = payload.read_on(&mut stuck, MB, payload.len());
    assert!(!is_whole && same < payload.len(), "the connection ends within the value");
    client.expect("DEL large_values:stuck", ":1\r\n");
}

#[test]
fn a_client_that_pauses_in_a_large_reply_gets_the_rest_when_it_reads_on() {
    let gateway = Gateway::start_with(shared(), &["--workers", "1"]);
    let payload = Payload::new(64 * MB, 3);
    let mut client = gateway.client();
    payload.send_set(&mut client, "large_values:pause");
    assert_eq!(client.read(), b"+OK\r\n");
    // The next command waits for its turn.
    client.send_raw(request(&["GET", "large_values:pause"]));
    client.send_raw(request(&["APPEND", "large_values:pause:next", "abc"]));
    let (same, _) = payload.read_prefix(&mut client, MB);
    assert_eq!(same, MB);
    let mut other = gateway.client();
    (0..500).for_each(|_| other.expect("EXISTS large_values:pause", ":1\r\n"));
    assert_eq!(payload.read_on(&mut client, MB, payload.len()), (payload.len(), true));
    assert_eq!(client.read(), b":3\r\n");
    other.expect("DEL large_values:pause large_values:pause:next", ":2\r\n");
}

#[test]
fn many_values_of_medium_size_pass_at_once_unchanged() {
    let gateway = Gateway::start(shared());
    thread::scope(|scope| {
        for number in 0..8_u64 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = gateway.client();
                let sizes = [300 * KB, 2 * MB, 256 * KB - 1, 256 * KB, 256 * KB + 1, MB + 17];
                for (step, size) in sizes.into_iter().enumerate() {
                    let key = format!("large_values:medium:{number}:{step}");
                    let payload = Payload::new(size, number * 100 + step as u64);
                    payload.send_set(&mut client, &key);
                    client.send(&["GET", &key]);
                    client.send(&["STRLEN", &key]);
                    client.send(&["APPEND", &key, "tail"]);
                    assert_eq!(client.read(), b"+OK\r\n", "{key}");
                    payload.expect(&mut client);
                    assert_eq!(client.read(), format!(":{size}\r\n").as_bytes(), "{key}");
                    assert_eq!(client.read(), format!(":{}\r\n", size + 4).as_bytes(), "{key}");
                    client.expect(&format!("GETRANGE {key} {size} -1"), "$4\r\ntail\r\n");
                    client.expect(&format!("DEL {key}"), ":1\r\n");
                }
            });
        }
    });
}

#[test]
fn large_values_of_several_slots_in_one_command_are_split_and_joined() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let values: Vec<Vec<u8>> = (0..6).map(|seed| Payload::new(400 * KB, seed).bytes()).collect();
    let keys: Vec<String> = (0..6).map(|number| format!("large_values:many:{number}")).collect();
    let mut set: Vec<&[u8]> = vec![b"MSET"];
    for (key, value) in keys.iter().zip(&values) {
        set.extend([key.as_bytes(), value]);
    }
    assert_eq!(client.call(&set), b"+OK\r\n");
    let get: Vec<&str> = ["MGET"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    let reply = client.call(&get);
    let expected =
        [b"*6\r\n".to_vec(), values.iter().flat_map(crate::support::client::bulk).collect()].concat();
    assert!(reply == expected, "the values come back in the order of their keys");
    let del: Vec<&str> = ["DEL"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    assert_eq!(client.call(&del), b":6\r\n");
}

#[test]
fn an_upload_that_its_client_cuts_is_not_stored_and_takes_nothing_along() {
    let gateway = Gateway::start(shared());
    let mut other = gateway.client();
    let payload = Payload::new(4 * MB, 4);
    for part in [0, 100 * KB, 3 * MB] {
        let mut client = gateway.client();
        client.expect("PING", "+PONG\r\n");
        payload.begin_set(&mut client, "large_values:cut", part);
        drop(client);
    }
    wait_until("the gateway has let go of them", || gateway.metric("slotgate_clients") == 1.0);
    other.expect("EXISTS large_values:cut", ":0\r\n");
    // The connections that broke uploads leave behind would corrupt this one.
    payload.send_set(&mut other, "large_values:cut");
    assert_eq!(other.read(), b"+OK\r\n");
    other.send(&["GET", "large_values:cut"]);
    payload.expect(&mut other);
    other.expect("DEL large_values:cut", ":1\r\n");
}

#[test]
fn a_node_that_dies_during_a_large_transfer_gives_a_clear_end_and_never_wrong_bytes() {
    let mut cluster = RealCluster::start_without_replicas(&[
        ("appendonly", "no"),
        ("cluster-node-timeout", "1000"),
        ("cluster-require-full-coverage", "no"),
    ]);
    let gateway = Gateway::start_with(cluster.addrs(), &["--workers", "1", "--hold", "1s"]);
    let payload = Payload::new(64 * MB, 5);
    let (mut reader, mut writer, mut late) = (gateway.client(), gateway.client(), gateway.client());
    payload.send_set(&mut reader, "large");
    assert_eq!(reader.read(), b"+OK\r\n");
    reader.send(&["GET", "large"]);
    let (same, _) = payload.read_prefix(&mut reader, 2 * MB);
    assert_eq!(same, 2 * MB);
    payload.begin_set(&mut writer, "up{large}", 2 * MB);
    let sent = || gateway.metric("slotgate_backend_sent_bytes_total");
    wait_until("what came so far is on its way", || sent() >= (payload.len() + 2 * MB) as f64);

    cluster.kill(cluster.owner_of_key("large"));

    let (same, is_whole) = payload.read_on(&mut reader, 2 * MB, payload.len());
    assert!(!is_whole && same < payload.len(), "a reply that cannot be completed ends the connection");
    payload.send_range(&mut writer, 2 * MB, payload.len());
    writer.send_raw("\r\n");
    let reply = String::from_utf8(writer.read()).unwrap();
    assert!(reply.starts_with("-TRYAGAIN not run: the slot moved, or its node was lost"), "{reply}");
    writer.expect("PING", "+PONG\r\n");

    // Nothing of a value that could not be sent is taken for commands.
    payload.send_set(&mut late, "late{large}");
    let reply = String::from_utf8(late.read()).unwrap();
    assert!(reply.starts_with("-CLUSTERDOWN not run"), "{reply}");
    late.expect("ECHO in-step", "$7\r\nin-step\r\n");
    // Nor when the client waits for the answer before it goes on.
    payload.begin_set(&mut late, "late{large}", MB);
    let reply = String::from_utf8(late.read()).unwrap();
    assert!(reply.starts_with("-CLUSTERDOWN not run"), "{reply}");
    payload.send_range(&mut late, MB, payload.len());
    late.send_raw("\r\n");
    late.expect("ECHO in-step", "$7\r\nin-step\r\n");
}

#[test]
fn the_end_of_a_large_value_is_never_taken_for_a_command_when_its_slot_moves() {
    let cluster = RealCluster::start_without_replicas(&[("appendonly", "no")]);
    let gateway = Gateway::start(cluster.addrs());
    let mut client = gateway.client();
    let to = (cluster.owner_of_key("{up}") + 1) % 3;
    let end = "\r\nSET evil{up} 1\r\n";
    let size = MB;
    let head = format!("*3\r\n$3\r\nSET\r\n$9\r\nvalue{{up}}\r\n${}\r\n", size + end.len());
    client.send_raw(&head);
    client.send_raw(vec![b'x'; size]);
    let sent = || gateway.metric("slotgate_backend_sent_bytes_total");
    wait_until("what came so far is on its way", || sent() >= size as f64);
    let mut moving = SlotMove::begin(&cluster, "{up}", to);
    moving.finish();
    client.send_raw(end);
    client.send_raw("\r\n");
    let reply = String::from_utf8(client.read()).unwrap();
    assert!(reply.starts_with("-TRYAGAIN not run: the slot moved"), "{reply}");
    client.expect("EXISTS evil{up} value{up}", ":0\r\n");
    client.send_raw(&head);
    client.send_raw(vec![b'x'; size]);
    client.send_raw(end);
    client.send_raw("\r\n");
    assert_eq!(client.read(), b"+OK\r\n");
    client.expect("STRLEN value{up}", &format!(":{}\r\n", size + end.len()));
}

#[test]
fn a_large_value_goes_to_its_own_node_also_while_the_client_watches_a_key_of_another() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let payload = Payload::new(MB, 6);
    // Keys of all three shards.
    for tag in ["a", "b", "c", "d", "e", "f"] {
        client.expect(&format!("WATCH large_values:watched:{{{tag}}}"), "+OK\r\n");
        for other in ["a", "b", "c"] {
            let key = format!("large_values:while_watching:{{{other}}}");
            payload.send_set(&mut client, &key);
            assert_eq!(client.read(), b"+OK\r\n");
            client.expect(&format!("STRLEN {key}"), &format!(":{MB}\r\n"));
            client.expect(&format!("DEL {key}"), ":1\r\n");
        }
        client.expect("MULTI", "+OK\r\n");
        client.expect("EXEC", "*0\r\n");
    }
}

#[test]
fn a_slow_subscriber_is_cut_alone() {
    let gateway = Gateway::start_with(shared(), &["--workers", "1", "--output-hard-limit", "1MB"]);
    let (mut quick, slow, mut publisher) = (gateway.client(), gateway.client(), gateway.client());
    let mut slow = slow;
    for client in [&mut quick, &mut slow] {
        client.expect(
            "SUBSCRIBE large_values:news",
            "*3\r\n$9\r\nsubscribe\r\n$17\r\nlarge_values:news\r\n:1\r\n",
        );
    }
    let message = "m".repeat(32 * KB);
    let expected =
        format!("*3\r\n$7\r\nmessage\r\n$17\r\nlarge_values:news\r\n${}\r\n{message}\r\n", message.len());
    let cut = || gateway.metric("slotgate_clients_closed_total{reason=\"output\"}");
    let mut count = 0;
    wait_until("the slow subscriber is cut", || {
        for _ in 0..50 {
            publisher.send(&["PUBLISH", "large_values:news", &message]);
            assert!(publisher.read().starts_with(b":"));
            assert!(quick.read() == expected.as_bytes(), "message {count} comes whole");
            count += 1;
        }
        cut() > 0.0
    });
    assert_eq!((cut(), gateway.metric("slotgate_clients")), (1.0, 2.0));
    publisher.expect("PUBLISH large_values:news last", ":1\r\n");
    assert!(quick.read().ends_with(b"$4\r\nlast\r\n"));
    // It has lost messages, and sees it by the end of its connection.
    assert!(slow.read_to_end().len() < count * expected.len());
}

#[test]
fn a_client_that_stalls_in_the_middle_of_a_frame_delays_nobody_and_may_go_on() {
    let gateway = Gateway::start_with(shared(), &["--workers", "1"]);
    let mut stalled = gateway.client();
    stalled.expect("SET large_values:stall a", "+OK\r\n");
    stalled.send_raw("*3\r\n$6\r\nAPPEND\r\n$18\r\nlarge_values:stall\r\n$2\r\nb");
    let mut other = gateway.client();
    for _ in 0..200 {
        other.expect("GET large_values:stall", "$1\r\na\r\n");
    }
    stalled.send_raw("c\r\n*2\r\n$3\r\nGET\r\n$18\r\nlarge_values:stall\r");
    assert_eq!(stalled.read(), b":3\r\n");
    stalled.send_raw("\n");
    assert_eq!(stalled.read(), b"$3\r\nabc\r\n");
    other.expect("DEL large_values:stall", ":1\r\n");
}

#[test]
fn a_client_that_ends_its_side_gets_all_replies_and_then_the_end() {
    let gateway = Gateway::start_with(shared(), &["--workers", "1"]);
    for count in [1, 100, 5000] {
        let mut client = gateway.client();
        let requests: Vec<u8> = (0..count).flat_map(|n| request(&["ECHO", &n.to_string()])).collect();
        client.send_raw(requests);
        client.shutdown_write();
        let expected: Vec<u8> =
            (0..count).flat_map(|n: u32| crate::support::client::bulk(n.to_string())).collect();
        assert!(client.read_to_end() == expected, "{count} replies");
    }
}

#[test]
fn nothing_after_quit_is_looked_at() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    client.send_raw("QUIT\r\nSET large_values:quit x\r\nECHO");
    assert_eq!(client.read_to_end(), b"+OK\r\n");
    gateway.client().expect("EXISTS large_values:quit", ":0\r\n");
}

#[test]
fn thousands_of_idle_clients_and_half_frames_cost_a_few_kb_each() {
    const CLIENTS: usize = 2000;
    let gateway = Gateway::start_with(shared(), &["--workers", "1"]);
    let mut client = gateway.client();
    client.expect("SET large_values:idle x", "+OK\r\n");
    let before = gateway.memory_kb();
    let idle: Vec<Client> = (0..CLIENTS)
        .map(|number| {
            let mut idle = gateway.client();
            idle.expect("GET large_values:idle", "$1\r\nx\r\n");
            if number % 2 == 0 {
                idle.send_raw("*3\r\n$3\r\nSET\r\n$17\r\nlarge_values:idle\r\n$9\r\n123");
            }
            idle
        })
        .collect();
    let mut each = 0;
    wait_until("the memory of what is over is given back", || {
        each = (gateway.memory_kb().saturating_sub(before)) * 1024 / CLIENTS as u64;
        each < 4096
    });
    client.expect("GET large_values:idle", "$1\r\nx\r\n");
    drop(idle);
    wait_until("they are forgotten", || gateway.metric("slotgate_clients") == 1.0);
    client.expect("DEL large_values:idle", ":1\r\n");
}

#[test]
fn clients_beyond_the_limit_are_turned_away_as_a_server_does() {
    let gateway = Gateway::start_with(shared(), &["--max-clients", "2"]);
    let (mut first, mut second) = (gateway.client(), gateway.client());
    first.expect("PING", "+PONG\r\n");
    second.expect("PING", "+PONG\r\n");
    let mut third = gateway.client();
    assert_eq!(third.read_to_end(), b"-ERR max number of clients reached\r\n");
    drop(second);
    wait_until("there is room again", || {
        Client::try_connect(gateway.addr())
            .is_some_and(|mut client| client.try_call(&["PING"]).is_ok_and(|reply| reply == b"+PONG\r\n"))
    });
    first.expect("PING", "+PONG\r\n");
}

#[test]
fn transactions_with_watch_give_their_connections_back() {
    let gateway = Gateway::start_with(shared(), &["--workers", "1", "--exclusive-connections", "4"]);
    let mut client = gateway.client();
    for number in 0..20 {
        let key = format!("large_values:watch:{number}");
        client.expect(&format!("WATCH {key}"), "+OK\r\n");
        client.expect("MULTI", "+OK\r\n");
        client.expect(&format!("SET {key} {number}"), "+QUEUED\r\n");
        client.expect("EXEC", "*1\r\n+OK\r\n");
        client.expect(&format!("DEL {key}"), ":1\r\n");
    }
}
