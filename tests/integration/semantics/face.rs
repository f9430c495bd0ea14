//! The face of one standalone server: nothing that a client is shown says that there is a cluster.

use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, shared, whole_keyspace};

#[test]
fn info_is_that_of_one_standalone_primary() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let mut client = gateway.client();
    for key in ["a", "b", "c", "d", "e"] {
        client.expect(&format!("SET {key} x"), "+OK\r\n");
    }
    client.expect("EXPIRE a 10000", ":1\r\n");
    let info = client.call_text(&["INFO"]);
    // Valkey calls it by another name.
    let mode = if info.contains("\nserver_name:valkey\r\n") { "server_mode" } else { "redis_mode" };
    let mode = format!("{mode}:standalone");
    for line in [&*mode, "cluster_enabled:0", "role:master", "connected_clients:1"] {
        assert!(info.contains(&format!("\n{line}\r\n")), "{line} in {info}");
    }
    assert!(info.contains(&format!("\ntcp_port:{}\r\n", gateway.addr().port())), "{info}");
    assert!(info.contains("\r\n# Keyspace\r\ndb0:keys=5,expires=1,avg_ttl="), "{info}");
    assert!(info.contains("# Slotgate\r\n") && info.contains("\nslotgate_shards:3\r\n"), "{info}");
    assert_eq!(info.matches("db0:").count(), 1, "{info}");
    client.expect("FLUSHALL", "+OK\r\n");
}

#[test]
fn info_answers_for_sections_as_asked() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let heads =
        |text: &str| text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(heads(&client.call_text(&["INFO", "server"])), ["# Server"]);
    assert_eq!(heads(&client.call_text(&["INFO", "slotgate"])), ["# Slotgate"]);
    assert_eq!(heads(&client.call_text(&["INFO", "server", "cluster"])), ["# Server", "# Cluster"]);
    let everything = client.call_text(&["INFO", "everything"]);
    assert!(
        everything.contains("# Slotgate\r\n") && everything.contains("# Commandstats\r\n"),
        "{everything}"
    );
    client.call(&["HELLO", "3"]);
    assert!(client.call_text(&["INFO", "server"]).starts_with('='), "RESP3 has it as a verbatim string");
}

#[test]
fn cluster_commands_are_answered_as_by_a_server_without_cluster_support() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    for line in [
        "CLUSTER SLOTS",
        "CLUSTER SHARDS",
        "CLUSTER NODES",
        "CLUSTER INFO",
        "CLUSTER MYID",
        "CLUSTER KEYSLOT a",
        "READONLY",
        "READWRITE",
        "ASKING",
    ] {
        client.expect(line, "-ERR This instance has cluster support disabled\r\n");
    }
    client.expect("ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
}

/// Everything a client may ask about the server, and errors of many kinds.
const CURIOUS: &[&str] = &[
    "INFO",
    "INFO everything",
    "INFO replication",
    "CLIENT LIST",
    "CLIENT INFO",
    "HELLO",
    "ROLE",
    "CONFIG GET *",
    "COMMAND COUNT",
    "COMMAND DOCS get",
    "CLUSTER SLOTS",
    "MSETNX a 1 b 2",
    "EVAL return~redis.call('GET','a')..redis.call('GET','b')..redis.call('GET','c') 0",
    "EVAL return~redis.call('SET','b',1) 1 a",
    "GET",
    "SUNION a b c",
    "NOSUCH a",
    "MIGRATE host 1 key 0 1",
    "REPLICAOF a 1",
    "DEBUG JMAP",
    "PUBSUB CHANNELS",
    "LATENCY DOCTOR",
    "MEMORY DOCTOR",
    "SLOWLOG GET",
    "SCAN 0",
    "WAIT 0 0",
    "LASTSAVE",
    "FUNCTION STATS",
    "OBJECT HELP",
    "SENTINEL MASTERS",
    "FAILOVER",
    "PSYNC x 1",
    "REPLCONF x y",
    "ACL LIST",
    "ACL WHOAMI",
    "MODULE LIST",
    "RESTORE-ASKING a 0 x",
    "SORT a BY x_* GET y_*",
];

#[test]
fn invariant_7_a_client_never_sees_a_redirect_or_a_nodes_address() {
    let gateway = Gateway::start(shared());
    for protocol in ["2", "3"] {
        let mut client = gateway.client();
        client.call(&["HELLO", protocol]);
        for line in CURIOUS {
            let words = crate::support::both::words(line);
            let reply = client.call_text(&words);
            for word in ["-MOVED", "MOVED ", "-ASK"] {
                assert!(!reply.contains(word), "{line}: {word} in {reply}");
            }
            for node in shared() {
                assert!(!reply.contains(&node.to_string()), "{line}: {node} in {reply}");
                assert!(!shows_number(&reply, node.port()), "{line}: {} in {reply}", node.port());
            }
        }
        for ix in 0..600 {
            let key = format!("face:{ix}");
            client.expect(&format!("SET {key} {ix}"), "+OK\r\n");
            client.expect(&format!("DEL {key}"), ":1\r\n");
        }
    }
}

/// Whether `number` stands in `text` between other things than digits.
fn shows_number(text: &str, number: u16) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits == number.to_string())
}

#[test]
fn settings_are_those_of_one_server_without_its_nodes_places_and_passwords() {
    let cluster = RealCluster::start_without_replicas(&[
        ("cluster-announce-ip", "127.0.0.1"),
        ("replica-announce-ip", "127.9.9.9"),
        ("masterauth", "secret"),
    ]);
    let gateway = Gateway::start(cluster.addrs());
    let mut client = gateway.client();
    let port = gateway.addr().port().to_string();
    let pair =
        |name: &str, value: &str| format!("${}\r\n{name}\r\n${}\r\n{value}\r\n", name.len(), value.len());
    for (name, value) in [
        ("port", &*port),
        ("bind", "127.0.0.1"),
        ("cluster-enabled", "no"),
        ("cluster-announce-ip", ""),
        ("replica-announce-ip", ""),
        ("masterauth", ""),
        ("appendonly", "yes"),
    ] {
        client.expect(&format!("CONFIG GET {name}"), &format!("*2\r\n{}", pair(name, value)));
    }
    client.expect("CONFIG GET nosuch", "*0\r\n");
    client.call(&["HELLO", "3"]);
    client.expect("CONFIG GET port", &format!("%1\r\n{}", pair("port", &port)));
    client.expect("CONFIG GET nosuch", "%0\r\n");
    let all = client.call_text(&["CONFIG", "GET", "*"]);
    assert!(
        !all.contains("127.9.9.9") && !all.contains("secret") && all.contains("maxmemory-policy"),
        "{all}"
    );
}
