//! The wire: limits and error texts as Redis has them, inline commands, requests in pieces.

use crate::support::both::Both;
use crate::support::client::{bulk, request};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, shared};
use std::io::Write as _;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// Breaches of the protocol; every one ends the connection.
const BREACHES: &[&[u8]] = &[
    b"*2147483648\r\n",
    b"*x\r\n",
    b"* 1\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$x\r\n",
    b"*1\r\n$\r\n",
    b"*1\r\n+PING\r\n",
    b"*1\r\n*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$4\r\nPING\r\n\r\n",
    b"SET a \"b\r\n",
    b"SET a \"b\"c\r\n",
    b"SET a 'b'c\r\n",
    b"SET a 'b\r\n",
];

#[test]
fn a_breach_of_the_protocol_is_answered_in_redis_own_words_and_ends_the_connection() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    for breach in BREACHES {
        let mut both = Both::connect(&gateway, &server);
        for client in [&mut both.ours, &mut both.model] {
            // What came before is still answered, what comes after is not.
            client.send_raw([PING, breach, b"\r\n", PING].concat());
        }
        let (ours, model) = (both.ours.read_to_end(), both.model.read_to_end());
        let shown = breach[..breach.len().min(40)].escape_ascii();
        assert_eq!(ours.escape_ascii().to_string(), model.escape_ascii().to_string(), "to {shown}");
        assert!(ours.starts_with(b"+PONG\r\n-ERR Protocol error"), "to {shown}");
    }
}

#[test]
fn a_line_without_end_is_refused_at_64_kilobytes() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    for (start, error) in [
        (&b""[..], "too big inline request"),
        // A server reads on to see that the line is too long; that it is no length shows before.
        (b"*", "invalid multibulk length"),
        (b"*1\r\n$", "invalid bulk length"),
    ] {
        let mut both = Both::connect(&gateway, &server);
        let [ours, model] = [&mut both.ours, &mut both.model].map(|client| {
            client.send_raw([start, &vec![b'1'; 70_000]].concat());
            String::from_utf8_lossy(&client.read_to_end()).into_owned()
        });
        assert_eq!(ours, format!("-ERR Protocol error: {error}\r\n"));
        assert!(model.starts_with("-ERR Protocol error: too big "), "{model}");
    }
}

/// Releases before 7.0 have the first limit, too, and none has the second: a server drops the two bytes
/// after a bulk unread. Here they would go on to a node that all clients share.
#[test]
fn what_could_harm_other_clients_is_refused_where_redis_is_lax() {
    let gateway = Gateway::start(shared());
    for (breach, error) in [
        (&b"*1048577\r\n"[..], &b"-ERR Protocol error: invalid multibulk length\r\n"[..]),
        (b"*2\r\n$4\r\nECHO\r\n$1\r\naXX", b"-ERR Protocol error: invalid bulk length\r\n"),
    ] {
        let mut client = gateway.client();
        client.send_raw(breach);
        assert_eq!(client.read_to_end(), error);
    }
}

#[test]
fn what_looks_odd_and_is_allowed_is_understood_as_by_redis() {
    let (gateway, server) = (Gateway::start(shared()), RealCluster::start_standalone());
    let odd: &[&[u8]] = &[
        b"\r\n\n\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*-10\r\n",
        b"   PING   \r\n",
        b"PING\n",
        b"ECHO \"\\x41\\n\\\"\"\r\n",
        b"ECHO 'it\\'s \\n'\r\n",
        b"ECHO \"\"\r\n",
        b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
        b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n",
        b"*+1\r\n$4\r\nPING\r\n",
        b"*1\r\n$+4\r\nPING\r\n",
        b"*01\r\n$04\r\nPING\r\n",
        b"*1\r\n$0\r\n\r\n",
        b"\"\"\r\n",
    ];
    for bytes in odd {
        Both::connect(&gateway, &server).same_end(&[PING, bytes, PING].concat());
    }
}

#[test]
fn a_request_may_come_in_any_pieces() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let bytes =
        [request(&["SET", "protocol:pieces", "a\r\n$1"]), b"get protocol:pieces\r\n".to_vec()].concat();
    for size in [1, 2, 3, 7] {
        for piece in bytes.chunks(size) {
            client.send_raw(piece);
        }
        assert_eq!(client.read(), b"+OK\r\n");
        assert_eq!(client.read(), bulk("a\r\n$1"));
    }
}

#[test]
fn a_request_with_very_many_arguments_in_pieces_is_one_request() {
    let gateway = Gateway::start(shared());
    let mut client = gateway.client();
    let mut args = vec!["DEL".to_string()];
    args.extend((0..50_000).map(|n| format!("protocol:many:{n}")));
    client.expect("SET protocol:many:49999 x", "+OK\r\n");
    for piece in request(&args).chunks(9973) {
        client.send_raw(piece);
    }
    assert_eq!(client.read(), b":1\r\n");
}

fn with_password() -> (tempfile::NamedTempFile, Gateway, RealCluster) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "sesame").unwrap();
    let gateway = Gateway::start_with(shared(), &["--require-password-file", file.path().to_str().unwrap()]);
    (file, gateway, RealCluster::start_standalone_with(&[("requirepass", "sesame")]))
}

#[test]
fn a_client_without_password_has_tighter_limits() {
    let (_file, gateway, server) = with_password();
    for breach in [&b"*11\r\n"[..], b"*1\r\n$16385\r\n"] {
        let said = Both::connect(&gateway, &server).same_end(breach);
        assert!(said.starts_with("-ERR Protocol error: "), "{said}");
    }
    let mut both = Both::connect(&gateway, &server);
    assert_eq!(both.same("AUTH sesame"), "+OK\r\n");
    both.same("DEL 1 2 3 4 5 6 7 8 9 10 11 12");
    both.same(&format!("ECHO {}", "x".repeat(20_000)));
}

#[test]
fn a_client_without_password_may_only_authenticate() {
    let (_file, gateway, server) = with_password();
    let mut both = Both::connect(&gateway, &server);
    for line in [
        "PING",
        "GET a",
        "MGET a b",
        "MULTI",
        "SUBSCRIBE c",
        "BLPOP a 0",
        "CLIENT SETNAME x",
        "INFO",
        "SCAN 0",
        "DBSIZE",
        "HELLO 3 AUTH default wrong",
        "HELLO 3 AUTH nobody sesame",
        "HELLO 4 AUTH default sesame",
        "AUTH wrong",
        "AUTH nobody sesame",
        "AUTH a b c",
        "AUTH",
        "RESET",
        "GET a",
        "AUTH default sesame",
        "PING",
        "GET a",
        "RESET",
        "GET a",
        "AUTH sesame",
        "GET a",
        "AUTH wrong",
        "GET a",
    ] {
        both.same(line);
    }
    // The wording changed between releases.
    let reply = gateway.client().call_text(&["HELLO", "3"]);
    assert!(
        reply.starts_with("-NOAUTH HELLO must be called with the client already authenticated"),
        "{reply}"
    );
    assert!(Both::connect(&gateway, &server).same_end(b"QUIT\r\n").starts_with("+OK"));
}
