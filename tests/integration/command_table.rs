//! The command table against a live server's own words: what it says of its commands, and which keys it
//! finds in a request.

use std::collections::{BTreeMap, BTreeSet};

use slotgate::command::{Begin, Find, Spec, Table, answer, parse_command_reply};
use slotgate::resp::{ReplyWriter, Request, Span, Version};

use crate::support::client::Client;
use crate::support::real_cluster::RealCluster;

/// What a command's entry in the `COMMAND` reply consists of.
const FIELDS: [&str; 10] =
    ["name", "arity", "flags", "first", "last", "step", "categories", "tips", "keys", "subcommands"];

/// Where the table follows newer releases than Redis 7.0: all there is, checked to the letter.
const NEWER_THAN_7_0: &[(&str, &[&str])] = &[
    // Arguments were added; the table takes what any release takes.
    (
        "arity",
        &[
            "cluster|replicate",
            "command|getkeys",
            "command|getkeysandflags",
            "script|debug",
            "zrank",
            "zrevrank",
        ],
    ),
    ("categories", &["wait"]),
    (
        "flags",
        &[
            "blmove",
            "blpop",
            "brpop",
            "brpoplpush",
            "bzpopmax",
            "bzpopmin",
            "cluster|shards",
            "cluster|slots",
            "psubscribe",
            "ssubscribe",
            "subscribe",
            "wait",
        ],
    ),
    ("keys", &["sinterstore"]),
    (
        "tips",
        &[
            "acl|deluser",
            "acl|save",
            "acl|setuser",
            "client|setname",
            "config|resetstat",
            "config|rewrite",
            "latency|reset",
            "msetnx",
            "randomkey",
            "scan",
        ],
    ),
];

/// Where other releases differ from the table on top of that; for those who run the tests with one.
const ELSEWHERE: &[(&str, &[&str])] = &[];

#[test]
fn the_table_says_of_each_command_what_the_server_says() {
    let server = RealCluster::start_standalone();
    let mut client = server.client(0);
    client.call(&["HELLO", "3"]);
    let theirs = entries(&value(&client.call(&["COMMAND"])));
    let ours = entries(&value(&ask(&Table::builtin(), &["COMMAND"], Version::Resp3)));

    let found = differences(&ours, &theirs);
    let known = |list: &[(&'static str, &[&str])]| -> BTreeSet<(&'static str, String)> {
        list.iter()
            .flat_map(|(field, names)| names.iter().map(move |name| (*field, name.to_string())))
            .collect()
    };
    let mut expected = known(NEWER_THAN_7_0);
    if version(&mut client).starts_with("7.0.") {
        assert_eq!(found, expected);
    } else {
        expected.extend(known(ELSEWHERE));
        let unknown: Vec<_> = found.difference(&expected).collect();
        assert!(unknown.is_empty(), "{unknown:#?}");
    }
    for (field, name) in found {
        if field == "arity" {
            let (ours, theirs) = (ours[&name][1].number(), theirs[&name][1].number());
            assert!(ours < 0 && -ours <= theirs.abs(), "{name}: {ours} refuses what {theirs} takes");
        }
    }
}

#[test]
fn what_is_learned_from_the_server_is_what_the_table_holds() {
    let server = RealCluster::start_standalone();
    let mut client = server.client(0);
    let reply = client.call(&["COMMAND"]);
    let mut learned = Table::default();
    learned.extend(parse_command_reply(&reply).unwrap());
    let mut builtin = Table::builtin();
    let new = builtin.extend(parse_command_reply(&reply).unwrap());
    assert_eq!(new, 0, "the server has commands that the table lacks");

    assert!(learned.len() > 350, "{}", learned.len());
    for (_, theirs) in learned.iter() {
        let (_, ours) = builtin.by_name(theirs.name.as_bytes()).unwrap();
        let is_newer = |field| is_known(field, &ours.name);
        assert_eq!(ours.range, theirs.range, "{}", ours.name);
        assert_eq!(ours.is_container, theirs.is_container, "{}", ours.name);
        assert!(ours.keys == theirs.keys || is_newer("keys"), "{ours:?} {theirs:?}");
        assert!(ours.tips == theirs.tips || is_newer("tips"), "{ours:?} {theirs:?}");
        assert!(ours.shape == theirs.shape, "{ours:?} {theirs:?}");
    }
    // Clients are told of what the nodes have, no more and no less.
    let count = client.call(&["COMMAND", "COUNT"]);
    assert_eq!(ask(&builtin, &["COMMAND", "COUNT"], Version::Resp2), count);
    assert_ne!(ask(&Table::builtin(), &["COMMAND", "COUNT"], Version::Resp2), count);
}

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

#[test]
fn the_subcommands_of_command_answer_as_the_server_does() {
    let server = RealCluster::start_standalone();
    let mut client = server.client(0);
    let mut table = Table::builtin();
    table.extend(parse_command_reply(&client.call(&["COMMAND"])).unwrap());
    for (line, version) in [
        "COMMAND COUNT",
        "COMMAND INFO get nosuch config|get OBJECT",
        "COMMAND INFO mset xinfo|stream copy",
        "COMMAND LIST",
        "COMMAND LIST FILTERBY PATTERN *config*",
        "command list filterby pattern [^a-s]?[OT]*",
        "COMMAND LIST FILTERBY ACLCAT hyperloglog",
        "COMMAND LIST FILTERBY ACLCAT dangerous",
        "COMMAND LIST FILTERBY ACLCAT nosuch",
        "COMMAND LIST FILTERBY MODULE nosuch",
        "COMMAND LIST FILTERBY",
        "COMMAND LIST FILTERBY NOSUCH x",
        "COMMAND LIST x",
        "COMMAND DOCS nosuch",
        "COMMAND GETKEYS nosuch x",
        "COMMAND GETKEYS config nosuch",
        "COMMAND GETKEYS ping x",
    ]
    .into_iter()
    .flat_map(|line| [(line, Version::Resp2), (line, Version::Resp3)])
    {
        client.call(&["HELLO", if version == Version::Resp3 { "3" } else { "2" }]);
        let args: Vec<&str> = line.split(' ').collect();
        let (theirs, ours) = (client.call(&args), ask(&table, &args, version));
        let (theirs, ours) = (value(&theirs), value(&ours));
        // The order of a server's hash table means nothing; that of the request does, and RESP3 tells
        // the two apart.
        let is_same = if line.contains("INFO") && version == Version::Resp3 {
            let unordered =
                |value: &Value| value.items().into_iter().map(Value::unordered).collect::<Vec<_>>();
            unordered(&ours) == unordered(&theirs)
        } else {
            ours.unordered() == theirs.unordered()
        };
        assert!(is_same, "{line} {version:?}\n  ours   {ours:?}\n  server {theirs:?}");
    }
}

#[test]
fn the_docs_name_every_command_with_its_group_and_first_release() {
    let server = RealCluster::start_standalone();
    let mut client = server.client(0);
    client.call(&["HELLO", "3"]);
    let mut learner = server.client(0);
    let mut table = Table::builtin();
    table.extend(parse_command_reply(&learner.call(&["COMMAND"])).unwrap());
    let (theirs, ours) =
        (client.call(&["COMMAND", "DOCS"]), ask(&table, &["COMMAND", "DOCS"], Version::Resp3));
    let (theirs, ours) = (value(&theirs), value(&ours));
    assert_eq!(ours.map().len(), theirs.map().len());
    for (name, doc) in theirs.map() {
        for field in ["group", "since"].map(|field| Value::Text(field.into())) {
            assert_eq!(ours.map()[name].map()[&field], doc.map()[&field], "{name:?}");
        }
    }
}

/// Whether the table is known to differ in this field of this command.
fn is_known(field: &str, name: &str) -> bool {
    let lists = NEWER_THAN_7_0.iter().chain(ELSEWHERE);
    lists.filter(|(known, _)| *known == field).any(|(_, names)| names.contains(&name))
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
    if has_words || spec.keys.is_empty() {
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

/// What the table answers to a request of `COMMAND`.
fn ask(table: &Table, args: &[&str], version: Version) -> Vec<u8> {
    let mut spans = Vec::new();
    let mut end = 0;
    for arg in args {
        spans.push(Span { start: end, end: end + arg.len() as u32 });
        end += arg.len() as u32;
    }
    let frame = args.concat();
    let mut out = Vec::new();
    answer(table, &Request::new(frame.as_bytes(), &spans), &mut ReplyWriter { out: &mut out, version });
    out
}

fn version(client: &mut Client) -> String {
    let info = client.call_text(&["INFO", "server"]);
    info.split("redis_version:").nth(1).unwrap().lines().next().unwrap().trim().to_owned()
}

/// A reply as a tree in which the order of sets and maps does not count. Texts that a key spec comes
/// with for people are left out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Value {
    Null,
    Number(i64),
    Text(String),
    Error(String),
    List(Vec<Value>),
    Set(BTreeSet<Value>),
    Map(BTreeMap<Value, Value>),
}

impl Value {
    fn number(&self) -> i64 {
        if let Value::Number(number) = self { *number } else { panic!("{self:?} is no number") }
    }

    fn text(&self) -> &str {
        if let Value::Text(text) = self { text } else { panic!("{self:?} is no text") }
    }

    fn items(&self) -> Vec<&Value> {
        match self {
            Value::List(items) => items.iter().collect(),
            Value::Set(items) => items.iter().collect(),
            other => panic!("{other:?} has no items"),
        }
    }

    fn map(&self) -> &BTreeMap<Value, Value> {
        if let Value::Map(map) = self { map } else { panic!("{self:?} is no map") }
    }

    /// The same with all lists sorted.
    fn unordered(&self) -> Value {
        let Value::List(items) = self else { return self.clone() };
        let mut items: Vec<Value> = items.iter().map(Value::unordered).collect();
        items.sort();
        Value::List(items)
    }
}

fn value(reply: &[u8]) -> Value {
    let mut rest = std::str::from_utf8(reply).unwrap();
    let value = read(&mut rest);
    assert!(rest.is_empty(), "{rest:?} after the reply");
    value
}

fn read(rest: &mut &str) -> Value {
    let (line, tail) = rest.split_once("\r\n").expect("a whole line");
    *rest = tail;
    let (kind, text) = line.split_at(1);
    let length = || text.parse::<usize>().unwrap_or_else(|_| panic!("{line:?} has no length"));
    match kind {
        "_" => Value::Null,
        "$" | "*" if text == "-1" => Value::Null,
        ":" => Value::Number(text.parse().unwrap()),
        "+" => Value::Text(text.to_owned()),
        "-" => Value::Error(text.to_owned()),
        "$" => {
            let (body, tail) = rest.split_at(length());
            *rest = tail.strip_prefix("\r\n").expect("a bulk ends with a line break");
            Value::Text(body.to_owned())
        }
        "*" => Value::List((0..length()).map(|_| read(rest)).collect()),
        "~" => {
            let items: Vec<Value> = (0..length()).map(|_| read(rest)).collect();
            let set: BTreeSet<Value> = items.iter().cloned().collect();
            assert_eq!(set.len(), items.len(), "the same twice in a set");
            Value::Set(set)
        }
        "%" => {
            let pairs = (0..length()).map(|_| (read(rest), read(rest)));
            Value::Map(pairs.filter(|(key, _)| *key != Value::Text("notes".into())).collect())
        }
        _ => panic!("{line:?} is no reply"),
    }
}

/// All commands of a `COMMAND` reply, subcommands too, by name.
fn entries(reply: &Value) -> BTreeMap<String, Vec<Value>> {
    let mut entries = BTreeMap::new();
    for entry in reply.items() {
        let Value::List(fields) = entry else { panic!("{entry:?} is no command") };
        assert_eq!(fields.len(), FIELDS.len());
        let subcommands = fields[9].clone();
        entries.extend(self::entries(&subcommands));
        entries.insert(fields[0].text().to_lowercase(), fields.clone());
    }
    entries
}

/// In which fields of which commands that the server has the table says something else.
fn differences(
    ours: &BTreeMap<String, Vec<Value>>,
    theirs: &BTreeMap<String, Vec<Value>>,
) -> BTreeSet<(&'static str, String)> {
    let mut found = BTreeSet::new();
    for (name, fields) in theirs {
        let Some(known) = ours.get(name) else {
            found.insert(("name", name.clone()));
            continue;
        };
        // Subcommands are entries of their own.
        for ix in 0..9 {
            if known[ix] != fields[ix] {
                found.insert((FIELDS[ix], name.clone()));
            }
        }
    }
    found
}
