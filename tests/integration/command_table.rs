//! The command table against a live server's own words: what it says of its commands.

use std::collections::{BTreeMap, BTreeSet};

use slotgate::command::{Flags, Table, answer, parse_command_reply};
use slotgate::resp::{ReplyWriter, Request, Span, Version};

use crate::support::client::Client;
use crate::support::real_cluster::RealCluster;
use crate::support::value::Value;

/// What a command's entry in the `COMMAND` reply consists of.
const FIELDS: [&str; 10] =
    ["name", "arity", "flags", "first", "last", "step", "categories", "tips", "keys", "subcommands"];

/// Where the table follows newer releases than Redis 7.0, by field: all there is, checked to the letter.
/// An arity is then the loosest of all releases.
const NEWER_THAN_7_0: &[(&str, &str)] = &[
    ("arity", "cluster|replicate command|getkeys command|getkeysandflags script|debug zrank zrevrank"),
    ("categories", "wait"),
    ("flags", "blmove blpop brpop brpoplpush bzpopmax bzpopmin cluster|shards cluster|slots wait"),
    ("flags", "psubscribe ssubscribe subscribe"),
    ("keys", "sinterstore"),
    ("tips", "acl|deluser acl|save acl|setuser client|setname config|resetstat config|rewrite"),
    ("tips", "latency|reset msetnx randomkey scan"),
];

/// Where Valkey 8.0 to 9.1 differs from the table, which follows Redis, on top of that; for those who
/// run the tests with one.
const VALKEY: &[(&str, &str)] = &[
    ("flags", "client|caching client|capa client|getname client|getredir client|id client|no-evict"),
    ("flags", "client|no-touch client|reply client|setinfo client|setname cluster|info cluster|myid"),
    ("flags", "cluster|myshardid cluster|nodes exec memory|malloc-stats memory|purge multi"),
    ("flags", "script|exists script|flush script|show select watch"),
    ("keys", "georadius georadiusbymember hsetex"),
    ("tips", "cluster|syncslots hpttl httl"),
];

#[test]
fn the_table_says_of_each_command_what_the_server_says() {
    let server = RealCluster::start_standalone();
    let mut client = server.client(0);
    client.call(&["HELLO", "3"]);
    let theirs = entries(&Value::of(&client.call(&["COMMAND"])));
    let ours = entries(&Value::of(&ask(&Table::builtin(), &["COMMAND"], Version::Resp3)));

    let found = differences(&ours, &theirs);
    let known = |list: &[(&'static str, &'static str)]| -> BTreeSet<(&'static str, String)> {
        list.iter()
            .flat_map(|(field, names)| names.split(' ').map(|name| (*field, name.to_owned())))
            .collect()
    };
    let mut expected = known(NEWER_THAN_7_0);
    if version(&mut client).starts_with("7.0.") {
        assert_eq!(found, expected);
    } else {
        expected.extend(known(VALKEY));
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
        let (theirs, ours) = (Value::of(&theirs), Value::of(&ours));
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
    let (theirs, ours) = (Value::of(&theirs), Value::of(&ours));
    assert_eq!(ours.map().len(), theirs.map().len());
    for (name, doc) in theirs.map() {
        let (_, spec) = table.by_name(name.text().as_bytes()).unwrap();
        for field in ["group", "since"] {
            // A module's group is finer here, and one server counts releases otherwise than the other.
            let is_special = spec.flags.contains(Flags::MODULE) || spec.since.contains(':');
            let field_name = Value::Text(field.into());
            let (ours, theirs) = (ours.map()[name].map().get(&field_name), doc.map().get(&field_name));
            assert!(ours == theirs || is_special, "{name:?}: {field} {ours:?}, server {theirs:?}");
        }
    }
}

/// Whether the table is known to differ in this field of this command.
pub fn is_known(field: &str, name: &str) -> bool {
    let lists = NEWER_THAN_7_0.iter().chain(VALKEY);
    lists.filter(|(known, _)| *known == field).any(|(_, names)| names.split(' ').any(|known| known == name))
}

/// What the table answers to a request of `COMMAND`.
pub fn ask(table: &Table, args: &[&str], version: Version) -> Vec<u8> {
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

/// All commands of a `COMMAND` reply, subcommands too, by name.
fn entries(reply: &Value) -> BTreeMap<String, Vec<Value>> {
    let mut entries = BTreeMap::new();
    for entry in reply.items() {
        let Value::List(fields) = entry else { panic!("{entry:?} is no command") };
        assert_eq!(fields.len(), FIELDS.len());
        let subcommands = fields[9].clone();
        entries.extend(self::entries(&subcommands));
        entries.insert(fields[0].text().to_owned(), fields.clone());
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
        // Modules of some releases say nothing of arity and categories. Subcommands are entries of
        // their own.
        let is_module = fields[2].items().contains(&&Value::Text("module".into()));
        for ix in 0..9 {
            let is_vague = is_module && ["arity", "categories"].contains(&FIELDS[ix]);
            if known[ix] != fields[ix] && !is_vague {
                found.insert((FIELDS[ix], name.clone()));
            }
        }
    }
    found
}
