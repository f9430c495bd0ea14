//! Which keys we find in a request, and which a live server finds.

use slotgate::command::{Begin, Find, Flags, Spec, Table, parse_command_reply};
use slotgate::resp::Version;

use crate::command_table::{ask, is_known};
use crate::support::real_cluster::RealCluster;

#[test]
fn the_keys_found_are_those_that_the_server_finds() {
    let server = RealCluster::start_standalone();
    let mut client = server.client(0);
    let mut learned = Table::default();
    learned.extend(parse_command_reply(&client.call(&["COMMAND"])).unwrap());
    let table = Table::builtin();

    let odd = ODD.iter().map(|line| line.split(' ').map(|word| word.replace("\"\"", "")).collect());
    let mut requests: Vec<Vec<String>> = odd.collect();
    requests.extend(learned.iter().flat_map(|(_, spec)| plain_requests(spec)));
    assert!(requests.len() > 800, "{}", requests.len());
    let mut wrong = Vec::new();
    for request in requests {
        // The server finds no key where the second of two specs has none, though it runs the command.
        if request.len() == 2 && request[0] == "pfmerge" {
            continue;
        }
        let has_newer_flags = is_known("keys", &request[0].to_lowercase());
        for by in if has_newer_flags { &["GETKEYS"][..] } else { &["GETKEYS", "GETKEYSANDFLAGS"] } {
            let mut args = vec!["COMMAND", *by];
            args.extend(request.iter().map(String::as_str));
            let theirs = String::from_utf8(client.call(&args)).unwrap();
            let ours = String::from_utf8(ask(&table, &args, Version::Resp2)).unwrap();
            if ours != theirs {
                wrong.push(format!("{args:?}\n  ours   {ours:?}\n  server {theirs:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Requests whose keys are not where a simple rule puts them.
const ODD: &[&str] = &[
    "EVAL s 0",
    "EVAL s 0 x",
    "EVAL s 1 a",
    "EVALSHA_RO s 2 a b c",
    "FCALL f 3 a b c d",
    "FCALL_RO f 1 a",
    "EVAL s x a",
    "EVAL s -1 a",
    "EVAL s 2 a",
    "EVAL s 9999999999999999999 a",
    "XREAD STREAMS a 0",
    "XREAD COUNT 2 BLOCK 5 STREAMS a b 0 0",
    "XREAD STREAMS streams 0",
    "XREAD COUNT 2 streams streams streams 0 0",
    "XREADGROUP GROUP g c STREAMS a b > >",
    "XREADGROUP GROUP streams streams NOACK STREAMS a >",
    "XREADGROUP GROUP g c COUNT 1 BLOCK 1 STREAMS a 0",
    "SORT a",
    "SORT a BY w_* LIMIT 0 1 GET # GET d_* DESC ALPHA STORE d",
    "SORT a STORE b STORE c",
    "SORT a BY nosort GET store STORE d",
    "SORT_RO a BY w_* GET #",
    "SORT a limit 0 store store d",
    "GEORADIUS a 0 0 1 m",
    "GEORADIUS a 0 0 1 m STORE d",
    "GEORADIUS a 0 0 1 m COUNT 1 ANY ASC STOREDIST d",
    "GEORADIUSBYMEMBER a m 1 m WITHCOORD STORE d",
    "GEORADIUSBYMEMBER a store 1 m",
    "GEORADIUSBYMEMBER_RO a m 1 m",
    "GEOSEARCHSTORE d a FROMMEMBER m BYRADIUS 1 m",
    "MIGRATE h 1 a 0 10",
    "MIGRATE h 1 \"\" 0 10 KEYS a b c",
    "MIGRATE h 1 \"\" 0 10 COPY REPLACE KEYS a",
    "MIGRATE h 1 \"\" 0 10 AUTH2 u p KEYS a b",
    "ZUNIONSTORE d 2 a b WEIGHTS 1 2 AGGREGATE SUM",
    "ZINTERSTORE d 1 a",
    "ZDIFFSTORE d 3 a b c",
    "ZUNION 2 a b WITHSCORES",
    "ZINTER 1 a",
    "ZDIFF 2 a b",
    "ZINTERCARD 2 a b LIMIT 1",
    "SINTERCARD 2 a b",
    "ZUNION 0 a",
    "ZUNION x a",
    "ZUNION 3 a b",
    "ZUNIONSTORE d 0 a",
    "SINTERCARD -1 a",
    "LMPOP 2 a b LEFT COUNT 1",
    "ZMPOP 1 a MIN",
    "BLMPOP 0 2 a b RIGHT",
    "BZMPOP 1.5 1 a MAX COUNT 2",
    "BITOP AND d a b",
    "BITOP NOT d a",
    "OBJECT ENCODING a",
    "OBJECT HELP",
    "MEMORY USAGE a SAMPLES 5",
    "MEMORY STATS",
    "XINFO STREAM a FULL",
    "XINFO CONSUMERS a g",
    "XGROUP CREATE a g $ MKSTREAM",
    "XGROUP DESTROY a g",
    "DEBUG OBJECT a",
    "PFCOUNT a b",
    "PFMERGE d a b",
    "PFDEBUG GETREG a",
    "SET a v",
    "SET a v GET",
    "SET a v EX 5 get",
    "SET get v",
    "BITFIELD a GET u8 0",
    "BITFIELD a GET u8 0 GET u8 1",
    "BITFIELD a OVERFLOW SAT INCRBY u8 0 1",
    "BITFIELD a SET u8 0 1 GET u8 0",
    "BITFIELD a",
    "BITFIELD_RO a GET u8 0",
    "MSET a 1 b 2",
    "MSETNX a 1 b 2",
    "COPY a b DB 1 REPLACE",
    "LMOVE a b LEFT RIGHT",
    "BLMOVE a b LEFT RIGHT 0",
    "RPOPLPUSH a b",
    "SMOVE a b m",
    "RENAME a b",
    "RESTORE a 0 v REPLACE",
    "LCS a b LEN",
    "SPUBLISH c m",
    "SSUBSCRIBE a b",
    "WATCH a b",
    "DEL a b c",
    "BLPOP a b 0",
    "BRPOPLPUSH a b 0",
    "BZPOPMIN a b 0",
    "SINTERSTORE d a b",
    "SDIFFSTORE d a",
];

/// Requests of a command whose keys follow from its own specs, of several lengths.
fn plain_requests(spec: &Spec) -> Vec<Vec<String>> {
    let least = spec.arity.unsigned_abs() as usize;
    let lengths = if spec.arity < 0 { least..=least + 4 } else { least..=least };
    let counts = spec.keys.iter().filter_map(|key| match (&key.begin, key.find) {
        (Begin::Index(begin), Find::Keynum { at, .. }) => Some((begin + at) as usize),
        _ => None,
    });
    let counts: Vec<usize> = counts.collect();
    // A request of COMMAND GETKEYS must have one argument beside the name.
    let lengths = (*lengths.start()).max(2)..=*lengths.end();
    // Those that need words among their arguments are in the list of odd ones.
    let has_words = spec.keys.iter().any(|key| !matches!(key.begin, Begin::Index(_)));
    // A module that says -1 says nothing of its arity.
    let is_vague = spec.arity == -1 && spec.flags.contains(Flags::MODULE);
    if has_words || is_vague || spec.keys.is_empty() {
        return Vec::new();
    }
    let with_count = |length: usize, count: &str| {
        let mut args: Vec<String> = spec.name.split('|').map(str::to_owned).collect();
        args.extend((args.len()..length).map(|ix| format!("a{ix}")));
        counts.iter().filter(|&&at| at < length).for_each(|&at| args[at] = count.to_owned());
        args
    };
    let numbers: &[&str] = if counts.is_empty() { &[""] } else { &["1", "2", "7"] };
    lengths
        .flat_map(|length| numbers.iter().map(move |count| (length, *count)))
        .map(|(length, count)| with_count(length, count))
        .collect()
}
