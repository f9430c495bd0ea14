//! What changes while an import follows its source, on either side.

use super::{FOLLOWS, Move, count, fill, json};
use crate::support::client::Client;
use crate::support::program::expect;
use crate::support::real_cluster::owner_of;
use crate::support::wait_until;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self};

/// Writers that count what was acknowledged, until told to stop.
fn write(addr: SocketAddr, writer: usize, stop: &AtomicBool) -> u64 {
    let mut client = Client::connect(addr);
    let mut acknowledged = 0;
    while !stop.load(Ordering::Relaxed) {
        let n = acknowledged + 1;
        let (w, text) = (writer.to_string(), n.to_string());
        let key = format!("writer:{w}:{n}");
        let words: [&[&str]; 6] = [
            &["SET", &key, &text],
            &["INCR", &format!("counter:{w}")],
            &["RPUSH", &format!("list:{w}"), &text],
            &["XADD", &format!("stream:{w}"), "*", "n", &text],
            &["XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", &format!("stream:{w}"), ">"],
            &[
                "EVAL",
                "redis.call('SET', 'script:' .. ARGV[1], ARGV[2]) redis.call('DEL', 'old:' .. ARGV[1] .. ':' .. ARGV[2])",
                "0",
                &w,
                &text,
            ],
        ];
        for words in words {
            let reply = client.try_call(words);
            let is_taken = reply.as_ref().is_ok_and(|reply| !reply.starts_with(b"-"));
            assert!(is_taken, "{words:?}: {reply:?}");
        }
        acknowledged = n;
    }
    acknowledged
}

#[test]
fn what_is_written_until_the_switch_over_arrives_all_of_it() {
    const WRITERS: usize = 3;
    let all = Move::usual();
    let mut source = all.source.client(0);
    fill(&mut source, "still:", 20_000);
    for writer in 0..WRITERS {
        fill(&mut source, &format!("old:{writer}:"), 500);
        source.expect(&format!("XGROUP CREATE stream:{writer} g 0 MKSTREAM"), "+OK\r\n");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (addr, stop) = (all.source.addrs()[0], stop.clone());
            thread::spawn(move || write(addr, writer, &stop))
        })
        .collect();
    let import = all.begin(&["--yes", "--follow", "--output", "json"]);
    import.wait_for(FOLLOWS, 1);
    // Some hundred writes more while it follows.
    let written = |client: &mut Client| client.call_text(&["GET", "counter:0"]);
    let before = written(&mut source);
    wait_until("writers went on", || {
        written(&mut source).len() > before.len() || written(&mut source) > before
    });
    stop.store(true, Ordering::Relaxed);
    let acknowledged: Vec<u64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    let output = import.terminate();
    expect(&output, 0, "imported");
    let answer = json(&output);
    assert_eq!(answer["differing"], 0, "{answer}");
    for (writer, acknowledged) in acknowledged.iter().enumerate() {
        assert!(*acknowledged > 0);
        let counter = format!("counter:{writer}");
        let expected = format!("${}\r\n{acknowledged}\r\n", acknowledged.to_string().len());
        assert_eq!(all.ask(&counter, &["GET", &counter]), expected);
        let (list, stream, script) =
            (format!("list:{writer}"), format!("stream:{writer}"), format!("script:{writer}"));
        assert_eq!(all.ask(&list, &["LLEN", &list]), format!(":{acknowledged}\r\n"));
        assert_eq!(all.ask(&stream, &["XLEN", &stream]), format!(":{acknowledged}\r\n"));
        let pending = all.ask(&stream, &["XPENDING", &stream, "g"]);
        assert_eq!(pending, source.call_text(&["XPENDING", &stream, "g"]), "consumer groups, too");
        assert_eq!(all.ask(&script, &["GET", &script]), expected);
    }
    let total = source.call_text(&["DBSIZE"]);
    assert_eq!(format!(":{}\r\n", count(&all.cluster)), total, "and nothing is there that was deleted");
}

#[test]
fn the_source_can_be_paused_emptied_and_swapped_while_it_is_followed() {
    let all = Move::usual();
    let mut source = all.source.client(0);
    fill(&mut source, "before:", 2_000);
    let follow = all.begin(&["--yes", "--follow", "--pause-source", "10m"]);
    follow.wait_for(FOLLOWS, 1);
    source.expect("FLUSHALL", "+OK\r\n");
    fill(&mut source, "after:", 10);
    wait_until("what was flushed is gone", || count(&all.cluster) == 10);
    source.expect("SELECT 1", "+OK\r\n");
    fill(&mut source, "swapped:", 20);
    source.expect("SWAPDB 0 1", "+OK\r\n");
    wait_until("what was swapped in is there", || count(&all.cluster) == 20);
    expect(&follow.terminate(), 0, "Point your app at slotgate now");
    // Whoever writes waits until the pause ends.
    let mut late = all.source.client(0);
    late.send(&["SET", "late", "1"]);
    assert_eq!(source.call_text(&["EXISTS", "late"]), ":0\r\n");
    source.expect("CLIENT UNPAUSE", "+OK\r\n");
    assert_eq!(late.read(), b"+OK\r\n");
}

#[test]
fn what_somebody_else_changes_in_the_cluster_is_found_and_mended_by_the_next_run() {
    let all = Move::usual();
    fill(&mut all.source.client(0), "key:", 500);
    let import = all.begin(&["--yes", "--follow"]);
    import.wait_for(FOLLOWS, 1);
    let owner = |key| Client::connect(owner_of(all.cluster.addrs(), key));
    owner("key:7").expect("SET key:7 changed", "+OK\r\n");
    owner("key:8").expect("DEL key:8", ":1\r\n");
    owner("key:9").expect("EXPIRE key:9 1000", ":1\r\n");
    let output = import.terminate();
    expect(&output, 1, "\"key:7\" has another value");
    expect(&output, 1, "\"key:8\" is missing in the cluster");
    expect(&output, 1, "\"key:9\" expires at another time");
    all.import(&["--yes"], 0, "500 are the same");
    assert_eq!(all.ask("key:8", &["EXISTS", "key:8"]), ":1\r\n");
}
