//! Commands whose keys lie in several slots, by each value of --cross-slot.

use crate::support::both::{Both, words};
use crate::support::gateway::Gateway;
use crate::support::real_cluster::{RealCluster, whole_keyspace};
use crate::support::wait_until;
use std::thread;

const READS: &[&str] = &[
    "SINTER s1 s2 s3",
    "SINTER s1 none s2",
    "SINTERCARD 2 s1 s2 LIMIT 1",
    "ZUNION 2 z1 z2 WITHSCORES",
    "ZINTER 2 z1 z2",
    "ZDIFF 2 z1 z2 WITHSCORES",
    "ZINTERCARD 2 z1 z2",
    "PFCOUNT h1 h2",
    "LCS t1 t2",
    "XREAD COUNT 1 STREAMS x1 none x2 0 0 0",
    "XREAD STREAMS x1 x2 $ 9-9",
    "XREAD STREAMS x1 t1 0 0",
    "SINTER s1 t1",
    "ZUNION 3 z1 s1 t1",
    "ZUNION 2 z1 z2 NONSENSE",
    "SORT l1 BY w_* GET # GET o_* GET n_*->f",
    "SORT l1 BY w_* DESC LIMIT 1 5",
    "SORT l1 BY nosort GET o_*",
    "SORT l1 GET o_* DESC",
    "SORT l1 BY o_* ALPHA",
    "SORT_RO l1 BY w_* GET #",
    "SORT l1 BY o_* GET #",
    "SORT t1 BY w_*",
    "SORT none BY w_* GET #",
    "EVAL_RO return~{KEYS[1],redis.call('GET',KEYS[2]),redis.call('SCARD',KEYS[3])} 3 s1 t1 s2",
];

const WRITES: &[&str] = &[
    "SUNIONSTORE d s1 s2",
    "SINTERSTORE d s1 s2",
    "SDIFFSTORE s1 s1 s2",
    "ZUNIONSTORE d 2 z1 z2 WEIGHTS 2 3",
    "ZRANGESTORE d z1 0 -1",
    "SORT l1 STORE d",
    "SORT l1 BY w_* GET o_* STORE d",
    "GEOSEARCHSTORE d g1 FROMLONLAT 15 37 BYRADIUS 900 km",
    "GEORADIUS g1 15 37 900 km STORE d",
    "BITOP XOR d t1 t2",
    "PFMERGE h3 h1 h2",
    "COPY t1 d",
    "COPY t1 t2",
    "COPY t1 t2 REPLACE",
    "COPY e1 d",
    "RENAME t1 t2",
    "RENAME e1 d",
    "RENAME none d",
    "RENAMENX t1 t2",
    "RENAMENX t1 d",
    "SMOVE s1 s2 c",
    "SMOVE s1 d a",
    "SMOVE s1 s2 none",
    "SMOVE s1 l1 a",
    "LMOVE l1 l2 LEFT RIGHT",
    "RPOPLPUSH l3 l2",
    "RPOPLPUSH l1 t1",
    "LMPOP 3 none l1 l2 RIGHT COUNT 2",
    "ZMPOP 2 none z1 MAX",
    "MSETNX d 1 e 2",
    "MSETNX d 1 t1 2",
    "MSETNX d 1 d2 2 d 3",
    "XREADGROUP GROUP g c COUNT 1 STREAMS x1 x2 > >",
    "EVAL redis.call('APPEND',KEYS[1],'x');redis.call('DEL',KEYS[2]);return~{KEYS[1],KEYS[2]} 2 t1 t2",
    "EVAL return~redis.call('PEXPIRE',KEYS[1],100000)+redis.call('PERSIST',KEYS[2]) 2 t1 e1",
    "EVAL return~redis.call('GET',KEYS[1]) 2 t1 s1",
    "EVAL redis.call('INCR',KEYS[1]) 2 s1 t1",
];

const DATA: &[&str] = &[
    "SADD s1 a b c",
    "SADD s2 b c d",
    "SADD s3 c",
    "ZADD z1 1 a 2 b",
    "ZADD z2 3 b 4 c",
    "PFADD h1 a b c",
    "PFADD h2 c d",
    "SET t1 ohmytext",
    "SET t2 mynewtext",
    "SET e1 v PX 500000",
    "XADD x1 1-1 f v",
    "XADD x1 1-2 f v",
    "XADD x2 2-1 g w",
    "XGROUP CREATE x1 g 0",
    "XGROUP CREATE x2 g 0",
    "RPUSH l1 3 1 2",
    "RPUSH l3 x",
    "MSET w_1 30 w_2 20 w_3 10 o_1 one o_2 two",
    "HSET n_1 f first",
    "GEOADD g1 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
];

/// The keys that DATA and WRITES make, and what shows a value of each type.
const SHOWS: &[&str] = &[
    "EXISTS s1 s2 s3 z1 z2 h1 h2 h3 t1 t2 e1 x1 x2 l1 l2 l3 d d2 e",
    "SORT s1 ALPHA",
    "SORT s2 ALPHA",
    "ZRANGE z1 0 -1 WITHSCORES",
    "PFCOUNT h3",
    "GET t1",
    "GET t2",
    "LRANGE l1 0 -1",
    "LRANGE l2 0 -1",
    "LRANGE l3 0 -1",
    "TYPE d",
    "GET d",
    "SORT d ALPHA",
    "ZRANGE d 0 -1 WITHSCORES",
    "LRANGE d 0 -1",
    "XPENDING x1 g",
    "XPENDING x2 g",
];

fn fill(both: &mut Both) {
    both.same("FLUSHALL");
    DATA.iter().for_each(|line| drop(both.same(line)));
}

#[test]
fn what_reads_keys_of_several_slots_is_answered_as_by_one_server() {
    let cluster = whole_keyspace();
    let (gateway, server) = (Gateway::start(&cluster), RealCluster::start_standalone());
    for protocol in ["HELLO 2", "HELLO 3"] {
        let mut both = Both::connect(&gateway, &server);
        for client in [&mut both.ours, &mut both.model] {
            client.call(&words(protocol));
        }
        fill(&mut both);
        READS.iter().for_each(|line| drop(both.same(line)));
        for line in ["SUNION s1 s2 s3", "SDIFF s1 s2"] {
            let sorted = |reply: String| {
                let mut lines: Vec<String> = reply.lines().map(str::to_string).collect();
                lines.sort();
                lines
            };
            let [ours, model] =
                [&mut both.ours, &mut both.model].map(|client| client.call_text(&words(line)));
            assert_eq!(sorted(ours), sorted(model), "{line}");
        }
        assert!(both.ours.call_text(&["KEYS", "slotgate:*"]).ends_with("*0\r\n"));
    }
    wait_until("they are counted", || {
        gateway.metric("slotgate_cross_slot_total{family=\"set\",result=\"done\"}") > 0.0
    });
}

#[test]
fn what_writes_keys_of_several_slots_does_the_same_as_on_one_server() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start_with(&cluster, &["--cross-slot", "emulate"]);
    let server = RealCluster::start_standalone();
    let mut both = Both::connect(&gateway, &server);
    for line in WRITES {
        fill(&mut both);
        let reply = both.same(line);
        println!("{line}: {reply:?}");
        SHOWS.iter().for_each(|show| drop(both.same(show)));
        for key in ["t1", "t2", "e1", "d"] {
            let [ours, model] = [&mut both.ours, &mut both.model].map(|client| {
                let reply = client.call_text(&["PTTL", key]);
                reply[1..].trim_end().parse::<i64>().unwrap()
            });
            assert_eq!(ours < 0, model < 0, "how long {key} lives after {line}: {ours}, {model}");
            assert!((ours - model).abs() < 60_000, "how long {key} lives after {line}: {ours}, {model}");
        }
        assert_eq!(both.ours.call_text(&["KEYS", "slotgate:*"]), "*0\r\n", "{line}");
    }
}

#[test]
fn what_is_refused_says_which_option_would_serve_it() {
    let cluster = whole_keyspace();
    let refusing = Gateway::start_with(&cluster, &["--cross-slot", "refuse"]);
    let usual = Gateway::start(&cluster);
    for (gateway, line, option) in [
        (&refusing, "SUNION a b", Some("emulate-reads")),
        (&refusing, "SORT a BY w_*", Some("emulate-reads")),
        (&refusing, "RENAME a b", Some("emulate")),
        (&usual, "RENAME a b", Some("emulate")),
        (&usual, "EVAL return~1 2 a b", Some("emulate")),
        (&usual, "BLPOP a b 0", None),
        (&usual, "WATCH a b", Some("emulate")),
    ] {
        let name = line.split(' ').next().unwrap().to_lowercase();
        let end =
            option.map_or(String::new(), |option| format!(", or start slotgate with --cross-slot {option}"));
        let expected = format!(
            "-CROSSSLOT Keys in request don't hash to the same slot; '{name}' needs all its keys in one: give them \
             a common hash tag such as {{user:1}}:a and {{user:1}}:b{end}\r\n"
        );
        assert_eq!(gateway.client().call_text(&words(line)), expected, "{line}");
    }
}

#[test]
fn values_that_are_too_large_are_refused() {
    let cluster = whole_keyspace();
    let gateway = Gateway::start_with(&cluster, &["--cross-slot", "emulate", "--cross-slot-bytes", "100kb"]);
    let mut client = gateway.client();
    // Nodes compress what they dump.
    let mut random = |key: &str, len: usize| {
        let value: Vec<u8> = (0..len).map(|_| fastrand::u8(..)).collect();
        assert_eq!(client.call(&[&b"SET"[..], key.as_bytes(), &value[..]]), b"+OK\r\n");
    };
    random("a", 90_000);
    random("b", 900_000);
    random("c", 2_000_000);
    for line in ["LCS b c", "SINTER a b c", "RENAME b d", "BITOP OR d b c"] {
        let reply = client.call_text(&words(line));
        assert!(
            reply.starts_with("-ERR not run: ") && reply.contains("--cross-slot-bytes"),
            "{line}: {reply}"
        );
    }
    client.expect("EXISTS a b c d", ":3\r\n");
    client.expect("KEYS slotgate:*", "*0\r\n");
}

#[test]
fn the_log_tells_which_commands_need_it() {
    let cluster = whole_keyspace();
    let gateway =
        Gateway::start_with(&cluster, &["--cross-slot", "refuse", "--report-cross-slot", "--workers", "1"]);
    let mut client = gateway.client();
    for line in
        ["SUNION a b", "SUNION a b", "RENAME a b", "BLPOP a b 0", "SUNION {a} {a}", "MGET a b", "WATCH a b"]
    {
        client.call(&words(line));
    }
    for line in ["MULTI", "LMOVE a b LEFT LEFT", "DISCARD"] {
        client.call(&words(line));
    }
    wait_until("all of them are told of", || {
        ["SUNION", "RENAME", "BLPOP", "WATCH", "LMOVE"]
            .iter()
            .all(|name| gateway.log().contains(&format!("\"command\":\"{name}\"")))
    });
    let told = gateway.log().lines().filter(|line| line.contains("keys in several slots")).count();
    assert_eq!(told, 5, "{}", gateway.log());
}

#[test]
fn elements_that_many_clients_move_are_neither_lost_nor_doubled() {
    const ELEMENTS: usize = 200;
    let cluster = whole_keyspace();
    let gateway = Gateway::start_with(&cluster, &["--cross-slot", "emulate"]);
    let mut client = gateway.client();
    let elements: Vec<String> = (0..ELEMENTS).map(|number| number.to_string()).collect();
    client.call(&[&["RPUSH".to_string(), "from".to_string()], &elements[..]].concat());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut mover = gateway.client();
                loop {
                    let reply = mover.call_text(&["LMOVE", "from", "to", "LEFT", "RIGHT"]);
                    if reply == "$-1\r\n" {
                        return;
                    }
                    assert!(reply.starts_with('$') || reply.starts_with("-TRYAGAIN not run"), "{reply}");
                }
            });
        }
    });
    client.expect("LLEN to", &format!(":{ELEMENTS}\r\n"));
    client.expect("EXISTS from", ":0\r\n");
}
