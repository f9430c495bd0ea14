//! CLIENT TRACKING: a client that caches what it read hears of every change, from whichever node.

use crate::support::both::{Both, words};
use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, shared, whole_keyspace};
use crate::support::wait_until;

fn with_threads() -> Gateway {
    Gateway::start_with(shared(), &["--workers", "2"])
}

fn resp3(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    client.call(&["HELLO", "3"]);
    client
}

fn id_of(client: &mut Client) -> String {
    client.call_text(&["CLIENT", "ID"]).trim_start_matches(':').trim().to_owned()
}

/// The push about one key.
fn changed(key: &str) -> String {
    format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n${}\r\n{key}\r\n", key.len())
}

#[track_caller]
fn hears(client: &mut Client, push: &str) {
    assert_eq!(String::from_utf8_lossy(&client.read()), push);
}

#[test]
fn a_client_hears_once_of_each_change_of_what_it_read_on_any_node() {
    let gateway = with_threads();
    let (mut reader, mut writer) = (resp3(&gateway), gateway.client());
    reader.expect("CLIENT TRACKING ON", "+OK\r\n");
    for node in ["{a}", "{b}", "{c}", "{d}"] {
        let (key, other) = (format!("tracking:{node}1"), format!("tracking:{node}2"));
        writer.expect(&format!("MSET {key} 1 {other} 1"), "+OK\r\n");
        reader.expect(&format!("GET {key}"), "$1\r\n1\r\n");
        // Nobody has read it.
        writer.expect(&format!("SET {other} 2"), "+OK\r\n");
        writer.expect(&format!("SET {key} 2"), "+OK\r\n");
        hears(&mut reader, &changed(&key));
        writer.expect(&format!("SET {key} 3"), "+OK\r\n");
        reader.expect(&format!("GET {key}"), "$1\r\n3\r\n");
        writer.expect(&format!("DEL {key}"), ":1\r\n");
        hears(&mut reader, &changed(&key));
    }
    // In a transaction, by a script, of several keys, and by its own change after its reply.
    writer.expect("MSET tracking:x 1 tracking:y 1", "+OK\r\n");
    reader.expect("MULTI", "+OK\r\n");
    reader.expect("GET tracking:x", "+QUEUED\r\n");
    writer.expect("SET tracking:x 2", "+OK\r\n");
    reader.expect("EXEC", "*1\r\n$1\r\n2\r\n");
    writer.expect("SET tracking:x 3", "+OK\r\n");
    hears(&mut reader, &changed("tracking:x"));
    reader.expect("MGET tracking:x tracking:y", "*2\r\n$1\r\n3\r\n$1\r\n1\r\n");
    reader.expect("SET tracking:y 5", "+OK\r\n");
    hears(&mut reader, &changed("tracking:y"));
    writer.expect("DEL tracking:x", ":1\r\n");
    hears(&mut reader, &changed("tracking:x"));
    reader.expect("CLIENT TRACKING OFF", "+OK\r\n");
    reader.expect("GET tracking:y", "$1\r\n5\r\n");
    writer.expect("DEL tracking:y", ":1\r\n");
    reader.expect("PING", "+PONG\r\n");
}

#[test]
fn a_change_is_never_told_before_the_reply_that_is_older() {
    let gateway = with_threads();
    let (mut reader, mut writer) = (resp3(&gateway), gateway.client());
    reader.expect("CLIENT TRACKING ON", "+OK\r\n");
    let mut requests = Vec::new();
    for round in 0..500 {
        requests.extend(crate::support::client::request(&["GET", "tracking:race"]));
        if round % 10 == 0 {
            writer.send(&["SET", "tracking:race", &round.to_string()]);
        }
    }
    reader.send_raw(requests);
    writer.send(&["SET", "tracking:race", "last"]);
    // What the reader believes: the value of its last read, unless it heard of a change since.
    let (mut replies, mut cached) = (0, None);
    while replies < 500 || cached.as_deref().is_some_and(|value| value != "$4\r\nlast\r\n") {
        let message = String::from_utf8(reader.read()).unwrap();
        if message.starts_with('>') {
            assert_eq!(message, changed("tracking:race"));
            cached = None;
        } else {
            replies += 1;
            cached = Some(message);
        }
    }
}

#[test]
fn prefixes_tell_of_all_keys_that_begin_so() {
    let gateway = with_threads();
    let (mut listener, mut writer) = (resp3(&gateway), gateway.client());
    listener.expect("CLIENT TRACKING ON BCAST PREFIX tracking:p: PREFIX tracking:q:", "+OK\r\n");
    for key in ["tracking:p:1", "tracking:r:1", "tracking:q:2", "tracking:p:3"] {
        writer.expect(&format!("SET {key} 1"), "+OK\r\n");
        if !key.contains(":r:") {
            hears(&mut listener, &changed(key));
        }
    }
    listener.expect("PING", "+PONG\r\n");
}

#[test]
fn another_client_can_be_told_instead_in_either_protocol() {
    let gateway = with_threads();
    // On one thread and the other.
    let mut others: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    let (mut reader, mut writer) = (gateway.client(), gateway.client());
    writer.expect("SET tracking:redirect 1", "+OK\r\n");
    for (ix, other) in others.iter_mut().enumerate() {
        let id = id_of(other);
        let is_resp3 = ix % 2 == 1;
        if is_resp3 {
            other.call(&["HELLO", "3"]);
        } else {
            other.call(&["SUBSCRIBE", "__redis__:invalidate"]);
        }
        reader.expect(&format!("CLIENT TRACKING ON REDIRECT {id}"), "+OK\r\n");
        reader.expect("CLIENT GETREDIR", &format!(":{id}\r\n"));
        reader.expect("GET tracking:redirect", "$1\r\n1\r\n");
        writer.expect("SET tracking:redirect 1", "+OK\r\n");
        let message =
            "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$17\r\ntracking:redirect\r\n";
        hears(
            other,
            if is_resp3 { ">2\r\n$10\r\ninvalidate\r\n*1\r\n$17\r\ntracking:redirect\r\n" } else { message },
        );
    }
    drop(others);
    wait_until("the others are gone", || writer.call_text(&["CLIENT", "LIST"]).matches("addr=").count() == 4);
    reader.call(&["HELLO", "3"]);
    reader.expect("GET tracking:redirect", "$1\r\n1\r\n");
    writer.expect("DEL tracking:redirect", ":1\r\n");
    let broken = String::from_utf8(reader.read()).unwrap();
    assert!(broken.starts_with(">2\r\n$21\r\ntracking-redir-broken\r\n:"), "{broken}");
    assert!(reader.call_text(&["CLIENT", "TRACKINGINFO"]).contains("broken_redirect"));
}

#[test]
fn reads_are_remembered_as_the_client_chose() {
    let gateway = with_threads();
    let (mut reader, mut writer) = (resp3(&gateway), gateway.client());
    writer.expect("MSET tracking:in 1 tracking:out 1", "+OK\r\n");
    reader.expect("CLIENT TRACKING ON OPTIN", "+OK\r\n");
    reader.expect("GET tracking:out", "$1\r\n1\r\n");
    reader.expect("CLIENT CACHING YES", "+OK\r\n");
    reader.expect("GET tracking:in", "$1\r\n1\r\n");
    writer.expect("SET tracking:out 2", "+OK\r\n");
    writer.expect("SET tracking:in 2", "+OK\r\n");
    hears(&mut reader, &changed("tracking:in"));
    reader.expect("CLIENT TRACKING OFF", "+OK\r\n");
    reader.expect("CLIENT TRACKING ON OPTOUT", "+OK\r\n");
    reader.expect("CLIENT CACHING NO", "+OK\r\n");
    reader.expect("GET tracking:out", "$1\r\n2\r\n");
    reader.expect("GET tracking:in", "$1\r\n2\r\n");
    writer.expect("DEL tracking:out", ":1\r\n");
    writer.expect("DEL tracking:in", ":1\r\n");
    hears(&mut reader, &changed("tracking:in"));
}

#[test]
fn wishes_are_refused_and_shown_as_by_one_server() {
    let (gateway, server) = (with_threads(), RealCluster::start_standalone());
    let mut both = Both::connect(&gateway, &server);
    for line in [
        "CLIENT TRACKINGINFO",
        "CLIENT GETREDIR",
        "CLIENT CACHING YES",
        "CLIENT TRACKING",
        "CLIENT TRACKING maybe",
        "CLIENT TRACKING ON PREFIX a",
        "CLIENT TRACKING ON BCAST OPTIN",
        "CLIENT TRACKING ON OPTIN OPTOUT",
        "CLIENT TRACKING ON REDIRECT 99999",
        "CLIENT TRACKING ON REDIRECT x",
        "CLIENT TRACKING ON REDIRECT",
        "CLIENT TRACKING ON BCAST PREFIX FOOBAR PREFIX FOO",
        "CLIENT TRACKING ON BCAST PREFIX FOO PREFIX BAR",
        "CLIENT TRACKINGINFO",
        "CLIENT TRACKING ON BCAST PREFIX FO",
        "CLIENT TRACKING ON",
        "CLIENT TRACKING OFF",
        "CLIENT TRACKING ON OPTIN NOLOOP",
        "CLIENT CACHING NO",
        "CLIENT CACHING YES",
        "CLIENT TRACKINGINFO",
        "CLIENT TRACKING ON OPTOUT",
        "CLIENT GETREDIR",
        "RESET",
        "CLIENT TRACKINGINFO",
        "HELLO~3",
    ] {
        if line == "HELLO~3" {
            for client in [&mut both.ours, &mut both.model] {
                client.call(&["HELLO", "3"]);
            }
            both.same("CLIENT TRACKINGINFO");
        } else {
            both.same(line);
        }
    }
}

#[test]
fn all_is_forgotten_when_all_keys_go_or_a_node_is_not_heard() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let (mut reader, mut writer) = (resp3(&gateway), gateway.client());
    reader.expect("CLIENT TRACKING ON", "+OK\r\n");
    writer.expect("SET tracking:flush 1", "+OK\r\n");
    reader.expect("GET tracking:flush", "$1\r\n1\r\n");
    let info = writer.call_text(&["INFO"]);
    for line in ["tracking_clients:1", "tracking_total_keys:1", "tracking_total_items:1"] {
        assert!(info.contains(&format!("\n{line}\r\n")), "{line} in {info}");
    }
    writer.expect("FLUSHALL", "+OK\r\n");
    hears(&mut reader, ">2\r\n$10\r\ninvalidate\r\n_\r\n");
    // A node ends our connections: what changes until we are back is not heard of.
    let mut reader = resp3(&gateway);
    reader.expect("CLIENT TRACKING ON", "+OK\r\n");
    reader.expect("GET tracking:flush", "_\r\n");
    Client::connect(cluster[0]).call(&words("CLIENT KILL TYPE normal SKIPME yes"));
    hears(&mut reader, ">2\r\n$10\r\ninvalidate\r\n_\r\n");
    writer.expect("SET tracking:flush 2", "+OK\r\n");
    reader.expect("GET tracking:flush", "$1\r\n2\r\n");
    writer.expect("FLUSHALL", "+OK\r\n");
    hears(&mut reader, ">2\r\n$10\r\ninvalidate\r\n_\r\n");
}
