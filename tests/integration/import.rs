//! `slotgate import` from real servers into real clusters: everything arrives, nothing of others is lost,
//! and a run that was cut short is gone on with.

use super::support::client::Client;
use super::support::program::{expect, run, slotgate};
use super::support::real_cluster::{RealCluster, owner_of};
use super::support::wait_until;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

/// What an import says once everything is copied and it waits for more.
const FOLLOWS: &str = "Following the source";

/// A source, a cluster, and a place for the notes.
struct Move {
    source: RealCluster,
    cluster: RealCluster,
    dir: TempDir,
}

impl Move {
    fn new(source: RealCluster, cluster: RealCluster) -> Move {
        Move { source, cluster, dir: tempfile::tempdir().unwrap() }
    }

    fn usual() -> Move {
        Move::new(RealCluster::start_standalone(), RealCluster::start_without_replicas(&[]))
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("import.state")
    }

    fn command(&self, more: &[&str]) -> Command {
        let (from, to) = (self.source.addrs()[0].to_string(), self.cluster.addrs()[1].to_string());
        let mut command = slotgate(&["import", "--from", &from, &to, "--state"]);
        command.arg(self.state()).args(more);
        command
    }

    #[track_caller]
    fn import(&self, more: &[&str], code: i32, text: &str) -> Output {
        let output = self.command(more).output().unwrap();
        expect(&output, code, text);
        output
    }

    /// Starts an import that goes on beside the test.
    fn begin(&self, more: &[&str]) -> Run {
        let mut child = self.command(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let said = [Said::hear(out), Said::hear(err)];
        Run { child, said }
    }

    /// Waits until an import that was begun has noted so many keys.
    fn wait_for_notes(&self, keys: u64) {
        wait_until("keys are brought", || {
            std::fs::metadata(self.state()).is_ok_and(|state| state.len() > 300 + 8 * keys)
        });
    }

    /// The answer of the cluster's owner of `key`.
    fn ask(&self, key: &str, words: &[&str]) -> String {
        ask(self.cluster.addrs(), key, words)
    }
}

/// What a program says, while it says it.
struct Said {
    text: Arc<Mutex<Vec<u8>>>,
    hearing: JoinHandle<()>,
}

impl Said {
    fn hear(mut from: impl Read + Send + 'static) -> Said {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let heard = text.clone();
        let hearing = thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(len @ 1..) = from.read(&mut piece) {
                heard.lock().unwrap().extend_from_slice(&piece[..len]);
            }
        });
        Said { text, hearing }
    }

    fn end(self) -> Vec<u8> {
        self.hearing.join().unwrap();
        std::mem::take(&mut self.text.lock().unwrap())
    }
}

/// An import under way.
struct Run {
    child: Child,
    said: [Said; 2],
}

impl Run {
    /// Waits until it has said `text` so often.
    fn wait_for(&self, text: &str, times: usize) {
        wait_until(text, || {
            let count =
                |said: &Said| String::from_utf8_lossy(&said.text.lock().unwrap()).matches(text).count();
            self.said.iter().map(count).sum::<usize>() >= times
        });
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.end();
    }

    fn terminate(self) -> Output {
        // SAFETY: plain call; the child is ours and not yet waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        self.end()
    }

    fn end(mut self) -> Output {
        let status = self.child.wait().unwrap();
        let [stdout, stderr] = self.said.map(Said::end);
        Output { status, stdout, stderr }
    }
}

fn ask(nodes: &[SocketAddr], key: &str, words: &[&str]) -> String {
    Client::connect(owner_of(nodes, key)).call_text(words)
}

fn count(cluster: &RealCluster) -> u64 {
    let sizes = cluster.addrs().iter().filter_map(|addr| Client::try_connect(*addr)).map(|mut client| {
        let is_primary = client.call_text(&["ROLE"]).contains("master");
        let size = client.call_text(&["DBSIZE"]).trim()[1..].parse::<u64>().unwrap();
        if is_primary { size } else { 0 }
    });
    sizes.sum()
}

fn fill(client: &mut Client, prefix: &str, keys: u32) {
    let script = "for i = 1, ARGV[2] do redis.call('SET', ARGV[1] .. i, string.rep('x', 50) .. i) end";
    assert_eq!(client.call_text(&["EVAL", script, "0", prefix, &keys.to_string()]), "$-1\r\n");
}

#[track_caller]
fn say(client: &mut Client, words: &[&str], reply: &str) {
    assert_eq!(client.call_text(words), reply, "{words:?}");
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

#[test]
fn every_type_expiry_and_name_arrives_and_nothing_is_left_to_do() {
    let all = Move::usual();
    let mut source = all.source.client(0);
    for line in [
        "SET string value",
        "SET number 12345",
        "SET expiring soon PXAT 4000000000000",
        "RPUSH list a b c",
        "SADD set 1 2 3",
        "SADD words a b c",
        "ZADD zset 1.5 a 2 b",
        "HSET hash f1 v1 f2 v2",
        "PFADD hll a b c",
        "SETBIT bits 1000 1",
        "GEOADD geo 13.361389 38.115556 Palermo",
        "XADD stream 1-1 f v",
        "XADD stream 2-1 f v",
        "XGROUP CREATE stream group 0",
        "XREADGROUP GROUP group one COUNT 1 STREAMS stream >",
    ] {
        let reply = source.call_text(&line.split(' ').collect::<Vec<_>>());
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    }
    let tables =
        "for i = 1, 3000 do redis.call('SADD', 'bigset', 'm' .. i) redis.call('HSET', 'bighash', 'f' .. i, i)
        redis.call('ZADD', 'bigzset', i / 7, 'm' .. i) redis.call('RPUSH', 'biglist', i) end";
    say(&mut source, &["EVAL", tables, "0"], "$-1\r\n");
    say(&mut source, &["SET", "binary \r\n\0\u{7f}é", "v\0\r\n"], "+OK\r\n");
    say(&mut source, &["SET", "", "the empty name"], "+OK\r\n");
    let large = vec![b'x'; 64 << 20];
    source.set_patience(Duration::from_secs(120));
    assert_eq!(source.call(&[&b"SET"[..], b"large", &large]), b"+OK\r\n");
    let library = "#!lua name=lib\nredis.register_function('f', function() return 7 end)";
    say(&mut source, &["FUNCTION", "LOAD", library], "$3\r\nlib\r\n");
    let keys = source.call_text(&["DBSIZE"]);

    all.import(&["--dry-run"], 0, "database 0");
    assert_eq!(count(&all.cluster), 0);
    let output = all.import(&["--yes", "--output", "json"], 0, "");
    let answer = json(&output);
    assert_eq!(answer["result"], "imported", "{answer}");
    assert_eq!(format!(":{}\r\n", answer["compared"]), keys);
    assert_eq!(answer["same"], answer["compared"], "{answer}");
    assert!(!all.state().exists(), "nothing is left to go on with");

    for (key, words) in [
        ("string", &["GET", "string"][..]),
        ("expiring", &["PEXPIRETIME", "expiring"]),
        ("list", &["LRANGE", "list", "0", "-1"]),
        ("zset", &["ZRANGE", "zset", "0", "-1", "WITHSCORES"]),
        ("hash", &["HGETALL", "hash"]),
        ("hll", &["PFCOUNT", "hll"]),
        ("bits", &["BITCOUNT", "bits"]),
        ("geo", &["GEOPOS", "geo", "Palermo"]),
        ("stream", &["XRANGE", "stream", "-", "+"]),
        ("stream", &["XPENDING", "stream", "group"]),
        ("bigset", &["SCARD", "bigset"]),
        ("bighash", &["HGET", "bighash", "f2999"]),
        ("bigzset", &["ZSCORE", "bigzset", "m2999"]),
        ("biglist", &["LINDEX", "biglist", "2999"]),
        ("binary \r\n\0\u{7f}é", &["GET", "binary \r\n\0\u{7f}é"]),
        ("", &["GET", ""]),
        ("large", &["STRLEN", "large"]),
    ] {
        assert_eq!(all.ask(key, words), source.call_text(words), "{words:?}");
    }
    for ix in 0..3 {
        assert_eq!(all.cluster.client(ix).call_text(&["FCALL", "f", "0"]), ":7\r\n");
    }
    all.import(&["--yes"], 0, "Done. Point your app at slotgate now");
}

#[test]
fn what_would_not_be_safe_is_refused_and_what_cannot_be_done_says_why() {
    let all = Move::new(
        RealCluster::start_standalone_with(&[("requirepass", "hunter2")]),
        RealCluster::start_without_replicas(&[]),
    );
    let with_password = |more: &[&str]| {
        let mut command = all.command(more);
        command.env("SLOTGATE_FROM_PASSWORD", "hunter2");
        command.output().unwrap()
    };
    all.import(&["--yes"], 1, "NOAUTH");
    let mut wrong = all.command(&["--yes"]);
    expect(&wrong.env("SLOTGATE_FROM_PASSWORD", "no").output().unwrap(), 1, "WRONGPASS");
    all.import(&["--yes", "--from-user", "me"], 2, "--from-user needs a password");

    let mut source = all.source.client(0);
    source.expect("AUTH hunter2", "+OK\r\n");
    source.expect("SET same 1", "+OK\r\n");
    source.expect("SET other ours", "+OK\r\n");
    let owner = |key| Client::connect(owner_of(all.cluster.addrs(), key));
    owner("same").expect("SET same 1", "+OK\r\n");
    owner("other").expect("SET other theirs", "+OK\r\n");
    owner("alone").expect("SET alone 1", "+OK\r\n");
    let refused = with_password(&["--yes"]);
    expect(&refused, 3, "1 of the source's keys already, with other values: \"other\"");
    expect(&with_password(&["--dry-run"]), 3, "\"other\"");
    assert_eq!(all.ask("other", &["GET", "other"]), "$6\r\ntheirs\r\n");

    source.expect("SELECT 3", "+OK\r\n");
    source.expect("SET there 1", "+OK\r\n");
    expect(&with_password(&["--yes"]), 3, "several: 0 (2), 3 (1): choose one with --db");
    expect(&with_password(&["--yes", "--db", "3"]), 0, "Done");
    assert_eq!(all.ask("there", &["GET", "there"]), "$1\r\n1\r\n");
    expect(&with_password(&["--yes", "--db", "0", "--replace"]), 0, "Done");
    assert_eq!(all.ask("other", &["GET", "other"]), "$4\r\nours\r\n");
    assert_eq!(all.ask("alone", &["GET", "alone"]), "$1\r\n1\r\n", "keys of others stay");

    let (one, two) = (all.cluster.addrs()[0].to_string(), all.cluster.addrs()[1].to_string());
    expect(&run(&["import", "--from", &one, &two, "--yes"]), 3, "a node of the cluster itself");
    expect(&run(&["import", "--from", "127.0.0.1:1", &two, "--yes"]), 1, "is it running");
    std::fs::write(all.state(), "a person's file").unwrap();
    expect(&with_password(&["--yes", "--db", "0"]), 3, "not the file of an import");
}

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
fn a_run_that_was_killed_is_gone_on_with() {
    let all = Move::usual();
    let mut source = all.source.client(0);
    fill(&mut source, "key:", 100_000);
    Client::connect(owner_of(all.cluster.addrs(), "alone")).expect("SET alone 1", "+OK\r\n");
    let first = all.begin(&["--yes"]);
    all.wait_for_notes(20_000);
    first.kill();
    let brought = count(&all.cluster);
    assert!(brought > 1 && brought < 100_000, "it was killed in the middle: {brought}");
    // Meanwhile keys change and go.
    let script = "for i = 1, 100000, 2 do redis.call('DEL', 'key:' .. i) end
        for i = 2, 100000, 2 do redis.call('SET', 'key:' .. i, 'new') end";
    source.set_patience(Duration::from_secs(60));
    say(&mut source, &["EVAL", script, "0"], "$-1\r\n");
    all.import(&["--yes"], 0, "An earlier run was cut short");
    assert_eq!(count(&all.cluster), 50_000 + 1, "nothing is left of what was deleted; others' keys are");
    assert_eq!(all.ask("key:500", &["GET", "key:500"]), "$3\r\nnew\r\n");
    assert_eq!(all.ask("alone", &["GET", "alone"]), "$1\r\n1\r\n");
}

#[test]
fn a_primary_of_the_cluster_may_fail_over_in_the_middle() {
    let mut all = Move::new(
        RealCluster::start_standalone(),
        RealCluster::start_with(&[("cluster-node-timeout", "2000"), ("appendfsync", "always")]),
    );
    fill(&mut all.source.client(0), "key:", 60_000);
    let import = all.begin(&["--yes"]);
    all.wait_for_notes(10_000);
    all.cluster.kill(1);
    let output = import.end();
    // What a replica had not got yet is found in the end, and mended by the next run.
    if output.status.code() != Some(0) {
        expect(&output, 1, "Run the same command again");
        all.import(&["--yes"], 0, "Done");
    }
    assert_eq!(count(&all.cluster), 60_000);
}

#[test]
fn a_source_that_dies_and_comes_back_is_gone_on_with() {
    let mut all = Move::usual();
    fill(&mut all.source.client(0), "key:", 60_000);
    let import = all.begin(&["--yes", "--timeout", "1s"]);
    all.wait_for_notes(10_000);
    all.source.kill(0);
    let output = import.end();
    expect(&output, 1, "run the same command again to go on");
    all.import(&["--yes"], 1, "is it running");

    all.source.restart(0);
    let import = all.begin(&["--yes", "--follow"]);
    import.wait_for(FOLLOWS, 1);
    all.source.kill(0);
    all.source.restart(0);
    all.source.client(0).expect("SET later 1", "+OK\r\n");
    import.wait_for(FOLLOWS, 2);
    wait_until("it follows again by itself", || count(&all.cluster) == 60_001);
    expect(&import.terminate(), 0, "Done");
}

#[test]
fn another_cluster_is_read_whole() {
    let all = Move::new(RealCluster::start_without_replicas(&[]), RealCluster::start_without_replicas(&[]));
    for n in 0..200 {
        let key = format!("key:{n}");
        let mut owner = Client::connect(owner_of(all.source.addrs(), &key));
        say(&mut owner, &["SET", &key, "value"], "+OK\r\n");
    }
    all.import(&["--yes"], 0, "Compared 200 keys: 200 are the same");
    assert_eq!(count(&all.cluster), 200);
    assert!(!Path::new(&all.state()).exists());
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

#[test]
fn names_of_another_database_and_names_that_others_took_meanwhile_are_left_alone() {
    let all = Move::usual();
    let (mut zero, mut three) = (all.source.client(0), all.source.client(0));
    three.expect("SELECT 3", "+OK\r\n");
    three.expect("SET mine 1", "+OK\r\n");
    let owner = |key| Client::connect(owner_of(all.cluster.addrs(), key));
    owner("theirs").expect("SET theirs 1", "+OK\r\n");
    let import = all.begin(&["--yes", "--follow", "--db", "3"]);
    import.wait_for(FOLLOWS, 1);
    // Written in another database, where the copied one has no such key.
    zero.expect("SET theirs zero", "+OK\r\n");
    three.expect("SET mine 2", "+OK\r\n");
    wait_until("the writes are heard of", || all.ask("mine", &["GET", "mine"]) == "$1\r\n2\r\n");
    assert_eq!(all.ask("theirs", &["GET", "theirs"]), "$1\r\n1\r\n");
    three.expect("SET theirs 3", "+OK\r\n");
    expect(&import.end(), 3, "with other values: \"theirs\"");
    assert_eq!(all.ask("theirs", &["GET", "theirs"]), "$1\r\n1\r\n");
}

#[test]
fn a_cluster_that_is_too_small_for_the_keys_says_so() {
    let all = Move::usual();
    let mut source = all.source.client(0);
    let large = "x".repeat(2 << 20);
    say(&mut source, &["CONFIG", "SET", "rdbcompression", "no"], "+OK\r\n");
    say(&mut source, &["SET", "large", &large], "+OK\r\n");
    source.expect("SET small 1", "+OK\r\n");
    for ix in 0..3 {
        all.cluster.client(ix).expect("CONFIG SET proto-max-bulk-len 1048576", "+OK\r\n");
    }
    let output = all.import(&["--yes"], 1, "raise proto-max-bulk-len on all of them");
    expect(&output, 1, "\"large\" is missing in the cluster");
    for ix in 0..3 {
        all.cluster.client(ix).expect("CONFIG SET proto-max-bulk-len 10000000", "+OK\r\n");
        all.cluster.client(ix).expect("CONFIG SET maxmemory 1", "+OK\r\n");
    }
    all.import(&["--yes"], 1, "raise its maxmemory or add a shard");
    for ix in 0..3 {
        all.cluster.client(ix).expect("CONFIG SET maxmemory 0", "+OK\r\n");
    }
    all.import(&["--yes"], 0, "2 are the same");
}

#[test]
fn a_source_that_does_not_tell_what_is_written_is_copied_only_when_asked_to() {
    let all = Move::usual();
    let mut source = all.source.client(0);
    fill(&mut source, "key:", 100);
    let rules = ["ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+info", "+select", "+dump"];
    say(&mut source, &rules, "+OK\r\n");
    let file = all.dir.path().join("password");
    std::fs::write(&file, "pw\n").unwrap();
    let login = ["--yes", "--from-user", "reader", "--from-password-file", file.to_str().unwrap()];
    all.import(&login, 3, "import with --no-watch");
    assert_eq!(count(&all.cluster), 0);
    all.import(&[&login[..], &["--no-watch"]].concat(), 0, "100 are the same");
}
