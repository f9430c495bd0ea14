//! SYNC: a client that follows one server gets all keys, and then every change.

use crate::support::client::{Client, request};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, whole_keyspace};
use std::io::{BufRead as _, Read as _};

/// Asks for everything; gives the file that comes first.
fn sync(client: &mut Client) -> Vec<u8> {
    client.send(&["SYNC"]);
    let mut line = String::new();
    while line.trim().is_empty() {
        line.clear();
        client.reader().read_line(&mut line).unwrap();
    }
    let size: usize =
        line.trim().strip_prefix('$').unwrap_or_else(|| panic!("a length: {line}")).parse().unwrap();
    let mut file = vec![0; size];
    client.reader().read_exact(&mut file).unwrap();
    file
}

#[test]
fn one_file_has_the_keys_of_all_nodes_and_changes_follow_in_order() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start(&cluster);
    let mut writer = gateway.client();
    for ix in 0..500 {
        writer.call(&["SET", &format!("feed:{ix}"), &"v".repeat(ix)]);
    }
    writer.call(&["SADD", "feed:set", "1", "2", "3"]);
    let mut follower = gateway.client();
    let file = sync(&mut follower);

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("dump.rdb"), &file).unwrap();
    let dir_name = dir.path().to_str().unwrap();
    let server = RealCluster::start_standalone_with(&[
        ("appendonly", "no"),
        ("dir", dir_name),
        ("dbfilename", "dump.rdb"),
    ]);
    let mut model = server.client(0);
    model.expect("DBSIZE", ":501\r\n");
    model.expect("STRLEN feed:499", ":499\r\n");
    model.expect("SCARD feed:set", ":3\r\n");

    for ix in 0..50 {
        writer.expect(&format!("APPEND feed:{ix} x"), &format!(":{}\r\n", ix + 1));
    }
    writer.expect("MULTI", "+OK\r\n");
    writer.expect("INCR feed:{t}a", "+QUEUED\r\n");
    writer.expect("INCR feed:{t}b", "+QUEUED\r\n");
    writer.expect("EXEC", "*2\r\n:1\r\n:1\r\n");
    let mut got = Vec::new();
    let last = request(&["EXEC"]).to_ascii_lowercase();
    while got.last().is_none_or(|frame: &Vec<u8>| frame.to_ascii_lowercase() != last) {
        let frame = follower.read();
        // A sign of life.
        if !frame.to_ascii_lowercase().ends_with(b"$4\r\nping\r\n") {
            got.push(frame);
        }
    }
    let is = |frame: &[u8], words: &[&str]| frame.eq_ignore_ascii_case(&request(words));
    assert!(is(&got[0], &["SELECT", "0"]), "{:?}", String::from_utf8_lossy(&got[0]));
    assert_eq!(got.iter().filter(|frame| is(frame, &["SELECT", "0"])).count(), 1);
    for ix in 0..50 {
        let key = format!("feed:{ix}");
        assert!(got.iter().any(|frame| is(frame, &["APPEND", &key, "x"])), "{key}");
    }
    let block = &got[got.len() - 4..];
    for (frame, words) in
        block.iter().zip([&["MULTI"][..], &["INCR", "feed:{t}a"], &["INCR", "feed:{t}b"], &["EXEC"]])
    {
        assert!(is(frame, words), "{words:?}: {:?}", String::from_utf8_lossy(frame));
    }
    drop(follower);
    writer.expect("FLUSHALL", "+OK\r\n");
}

#[test]
fn a_follower_whose_node_is_lost_must_ask_anew() {
    let mut cluster = RealCluster::start();
    let gateway = Gateway::start(cluster.addrs());
    let mut follower = gateway.client();
    assert!(sync(&mut follower).starts_with(b"REDIS"));
    cluster.kill(0);
    follower.read_to_end();
    cluster.restart(0);
}
