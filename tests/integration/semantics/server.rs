//! What is about the server and not about keys: asked of all nodes, answered as by one of them.

use crate::support::both::{Both, words};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, whole_keyspace};

/// Nodes that allow DEBUG, and a plain server that does.
fn with_debug() -> (RealCluster, Gateway, RealCluster) {
    let settings = [("enable-debug-command", "yes")];
    let cluster = RealCluster::start_without_replicas(&settings);
    let gateway = Gateway::start(cluster.addrs());
    (cluster, gateway, RealCluster::start_standalone_with(&settings))
}

#[test]
fn debug_says_what_one_server_with_all_keys_says() {
    let (_cluster, gateway, server) = with_debug();
    let mut both = Both::connect(&gateway, &server);
    both.same("DEBUG DIGEST");
    // With one, two and three nodes that have keys.
    for key in ["{a}1", "{b}1", "{c}1", "{d}1", "{a}2", "{e}1", "{f}1"] {
        both.same(&format!("RPUSH {key} x y {key}"));
        both.same("DEBUG DIGEST");
        both.same(&format!("DEBUG DIGEST-VALUE {key}"));
    }
    for line in [
        "DEBUG SET-ACTIVE-EXPIRE 0",
        "DEBUG SET-ACTIVE-EXPIRE 1",
        "DEBUG QUICKLIST-PACKED-THRESHOLD 100b",
        "DEBUG SLEEP 0",
        "DEBUG RELOAD",
        "DEBUG DIGEST",
        "DEBUG STRINGMATCH-LEN 100 *",
        "DEBUG NOSUCH",
        "DEBUG OBJECT",
        "DEBUG OBJECT nosuch",
        "OBJECT ENCODING {a}1",
        "MULTI",
        "DEBUG SLEEP 0",
        "EXEC",
    ] {
        both.same(line);
    }
    both.ours.expect(
        "DEBUG SEGFAULT",
        "-ERR 'debug segfault' is not served through slotgate: it harms the node that runs it; connect to that node \
         itself\r\n",
    );
}

#[test]
fn debug_is_for_the_nodes_to_allow() {
    let (cluster, server) = (whole_keyspace(), RealCluster::start_standalone());
    let gateway = Gateway::start(&cluster);
    let mut both = Both::connect(&gateway, &server);
    assert!(both.same("DEBUG SLEEP 0").starts_with("-ERR DEBUG command not allowed."));
    both.same("DEBUG OBJECT a");
}

#[test]
fn slow_commands_of_all_nodes_are_one_log() {
    let (_cluster, gateway, server) = with_debug();
    let mut both = Both::connect(&gateway, &server);
    // Every entry's number, time and duration are its own.
    let commands = |both: &mut Both, line: &str| {
        let [ours, model] = [&mut both.ours, &mut both.model].map(|client| {
            let reply = client.call_text(&words(line));
            let lines: Vec<String> =
                reply.lines().filter(|line| !line.starts_with([':', '*', '$'])).map(str::to_owned).collect();
            (reply.split("\r\n").next().unwrap().to_owned(), lines.join(" "))
        });
        assert_eq!(ours.0, model.0, "{line}");
        let without_addresses = |text: String| {
            text.split(' ').filter(|word| !word.starts_with("127.0.0.1:")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(without_addresses(ours.1), without_addresses(model.1), "{line}");
    };
    both.same("CONFIG SET slowlog-log-slower-than 0");
    both.same("SLOWLOG RESET");
    for key in ["{a}1", "{b}1", "{c}1"] {
        both.same(&format!("SET {key} x"));
        both.same("FLUSHALL");
        both.same(&format!("GET {key}"));
        // Of two nodes' commands within a second, only what both were sent tells which was first.
        both.same("FLUSHALL");
    }
    both.same("CONFIG SET slowlog-log-slower-than -1");
    both.same("SLOWLOG LEN");
    for line in ["SLOWLOG GET", "SLOWLOG GET 2", "SLOWLOG GET -1", "SLOWLOG GET 0"] {
        commands(&mut both, line);
    }
    both.same("CONFIG SET slowlog-max-len 4");
    both.same("SLOWLOG GET -2");
    both.same("SLOWLOG GET many");
    both.same("SLOWLOG RESET");
    both.same("SLOWLOG LEN");
}

#[test]
fn a_setting_that_one_node_refuses_is_taken_back_from_the_others() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let gateway = Gateway::start(cluster.addrs());
    let mut client = gateway.client();
    client.expect("CONFIG SET maxmemory 1000000000", "+OK\r\n");
    let before = "*2\r\n$9\r\nmaxmemory\r\n$10\r\n1000000000\r\n";
    // Of a node that has no such user's right any more, the others' new value would stay.
    cluster.client(1).expect("ACL SETUSER default -config|set", "+OK\r\n");
    let refused = client.call_text(&words("CONFIG SET maxmemory 2000000000"));
    assert!(refused.starts_with("-NOPERM "), "{refused}");
    for node in 0..3 {
        // The end of what is under way at the node.
        client.expect("DBSIZE", ":0\r\n");
        cluster.client(node).expect("CONFIG GET maxmemory", before);
    }
    cluster.client(1).expect("ACL SETUSER default +config|set", "+OK\r\n");
    client.expect(
        "CONFIG SET maxmemory 2000000000 port 1",
        "-ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port: slotgate's own \
         is given by its --listen, and the nodes' ports are their own\r\n",
    );
    client.expect("CONFIG GET maxmemory", before);
    client.expect(&format!("CONFIG SET port {} maxmemory 5000000000", gateway.addr().port()), "+OK\r\n");
    client.expect("CONFIG GET maxmemory", "*2\r\n$9\r\nmaxmemory\r\n$10\r\n5000000000\r\n");
}

#[test]
fn every_setting_can_be_set_to_what_it_is() {
    let (cluster, server) = (RealCluster::start_without_replicas(&[]), RealCluster::start_standalone());
    let gateway = Gateway::start(cluster.addrs());
    let mut both = Both::connect(&gateway, &server);
    for name in ["port", "bind", "maxclients", "cluster-announce-ip", "masterauth", "maxmemory", "hz", "save"]
    {
        let reply = both.ours.call_text(&["CONFIG", "GET", name]);
        let value = reply.split("\r\n").nth(4).unwrap().to_owned();
        assert_eq!(both.ours.call_text(&["CONFIG", "SET", name, &value]), "+OK\r\n", "{name} {value}");
    }
    both.same("CONFIG SET nosuch 1");
    both.same("CONFIG SET maxmemory 1 maxmemory-clients 200%");
    both.same("CONFIG SET maxmemory");
}

#[test]
fn commands_and_errors_are_counted_over_all_nodes() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let gateway = Gateway::start(cluster.addrs());
    let mut client = gateway.client();
    client.expect("CONFIG RESETSTAT", "+OK\r\n");
    for key in ["{a}1", "{b}1", "{c}1"] {
        client.expect(&format!("SET {key} x"), "+OK\r\n");
        client.call(&["LPUSH", key, "x"]);
    }
    let info = client.call_text(&["INFO", "everything"]);
    for part in [
        "\ncmdstat_set:calls=3,usec=",
        "\ncmdstat_lpush:calls=3,usec=",
        ",rejected_calls=0,failed_calls=3\r\n",
        "\nerrorstat_WRONGTYPE:count=3\r\n",
    ] {
        assert!(info.contains(part), "{part} in {info}");
    }
    assert_eq!(info.matches("cmdstat_set:").count(), 1, "{info}");
}

#[test]
fn users_are_those_of_all_nodes() {
    let cluster = RealCluster::start_without_replicas(&[]);
    let gateway = Gateway::start(cluster.addrs());
    let mut client = gateway.client();
    client.expect("ACL SETUSER alice on +get ~*", "+OK\r\n");
    for node in 0..3 {
        assert!(cluster.client(node).call_text(&["ACL", "USERS"]).contains("alice"));
    }
    client.expect("ACL USERS", "*2\r\n$5\r\nalice\r\n$7\r\ndefault\r\n");
    client.expect("ACL WHOAMI", "$7\r\ndefault\r\n");
    client.expect("ACL DELUSER alice", ":1\r\n");
    client.expect("ACL USERS", "*1\r\n$7\r\ndefault\r\n");
    let own = "-ERR 'default' is the user that slotgate itself is at the nodes, which would not let it in any more; change \
               it at each node, and slotgate's password with it\r\n";
    client.expect("ACL SETUSER default on >secret", own);
    client.expect("ACL DELUSER alice default", own);
    client.expect("ACL LOG", "*0\r\n");
    client.expect("ACL LOG RESET", "+OK\r\n");
}

#[test]
fn what_nodes_tell_of_themselves_is_told_once() {
    let (cluster, server) = (whole_keyspace(), RealCluster::start_standalone());
    let gateway = Gateway::start(&cluster);
    let mut both = Both::connect(&gateway, &server);
    for line in [
        "LATENCY LATEST",
        "LATENCY HISTORY command",
        "LATENCY RESET",
        "LATENCY DOCTOR",
        "MEMORY PURGE",
        "MEMORY USAGE nosuch",
        "SWAPDB",
        "LASTSAVE nonsense",
    ] {
        both.same(line);
    }
    assert!(both.ours.call_text(&["LASTSAVE"]).starts_with(':'));
    assert!(both.ours.call_text(&["MEMORY", "STATS"]).contains("peak.allocated"));
    both.ours.call(&["HELLO", "3"]);
    assert!(both.ours.call_text(&["MEMORY", "STATS"]).starts_with('%'));
    assert!(both.ours.call_text(&["MEMORY", "DOCTOR"]).starts_with('='));
}
