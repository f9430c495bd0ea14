//! The replies of `COMMAND` and its subcommands, shaped as Redis 7.0 shapes them (redis.io: COMMAND).
//! Local work of the gateway, off the hot path. What needs more than a few words (summaries, argument
//! trees) is not in the table: `COMMAND DOCS` tells what the table knows and no more.

use super::bits::{Access, Categories, Flags};
use super::glob::glob_matches;
use super::keys::{KeyRef, extract};
use super::spec::{Begin, Find, KeySpec, Spec};
use super::table::{Lookup, Table};
use crate::resp::{ReplyWriter, Request, Span};

/// Answers `request`, which must name `command` or one of its subcommands and have the right arity.
pub fn answer(table: &Table, request: &Request, reply: &mut ReplyWriter) {
    let subcommand = request.get(1).unwrap_or_default().to_ascii_lowercase();
    match subcommand.as_slice() {
        b"" => infos(table, reply),
        b"info" if request.len() == 2 => infos(table, reply),
        b"info" => {
            reply.array(request.len() - 2);
            for name in request.args().skip(2) {
                match visible(table, name) {
                    Some(spec) => info(table, spec, reply),
                    None => reply.null(),
                }
            }
        }
        b"count" => reply.integer(top_level(table).count() as i64),
        b"list" => list(table, request, reply),
        b"docs" => {
            let mut named: Vec<&Spec> =
                request.args().skip(2).filter_map(|name| visible(table, name)).collect();
            if request.len() == 2 {
                named = top_level(table).collect();
            }
            docs(table, &named, reply);
        }
        b"getkeys" => get_keys(table, request, reply, false),
        b"getkeysandflags" => get_keys(table, request, reply, true),
        b"help" => {
            reply.array(HELP.len());
            HELP.iter().for_each(|line| reply.simple(line));
        }
        _ => reply.error("ERR unknown subcommand. Try COMMAND HELP."),
    }
}

const HELP: &[&str] = &[
    "COMMAND [<subcommand> [<arg> ...]]. Without a subcommand: details of all commands. Subcommands are:",
    "COUNT",
    "    How many commands there are.",
    "DOCS [<command> ...]",
    "    Group and first release of commands, of all when none is named.",
    "GETKEYS <command> [<arg> ...]",
    "    The keys in a whole command.",
    "GETKEYSANDFLAGS <command> [<arg> ...]",
    "    The keys in a whole command, and what it does with them.",
    "INFO [<command> ...]",
    "    Details of commands, of all when none is named.",
    "LIST [FILTERBY MODULE <name> | ACLCAT <category> | PATTERN <pattern>]",
    "    The names of commands.",
    "HELP",
    "    This text.",
];

fn top_level(table: &Table) -> impl Iterator<Item = &Spec> {
    table.visible().filter(|spec| spec.container().is_none())
}

fn visible<'a>(table: &'a Table, name: &[u8]) -> Option<&'a Spec> {
    table.by_name(name).filter(|(ix, _)| table.is_visible(*ix)).map(|(_, spec)| spec)
}

fn infos(table: &Table, reply: &mut ReplyWriter) {
    reply.array(top_level(table).count());
    for spec in top_level(table) {
        info(table, spec, reply);
    }
}

/// The ten fields of a command.
fn info(table: &Table, spec: &Spec, reply: &mut ReplyWriter) {
    reply.array(10);
    reply.bulk(&*spec.name);
    reply.integer(spec.arity.into());
    // Servers keep this one to themselves.
    words(spec.flags.without(Flags::MAY_REPLICATE).words(), reply);
    for number in [spec.range.first, spec.range.last, spec.range.step] {
        reply.integer(number.into());
    }
    reply.set(spec.categories.words().count());
    for category in spec.categories.words() {
        reply.simple(&format!("@{category}"));
    }
    reply.set(spec.tips.words().count());
    for (tip, value) in spec.tips.words() {
        match value {
            Some(value) => reply.bulk(format!("{tip}:{value}")),
            None => reply.bulk(tip),
        }
    }
    reply.set(spec.keys.len());
    spec.keys.iter().for_each(|key| key_spec(key, reply));
    let subcommands: Vec<&Spec> = table.subcommands(spec).collect();
    // The server's own inconsistency: a list of subcommands is an array, no subcommands are a set.
    if subcommands.is_empty() {
        reply.set(0)
    } else {
        reply.array(subcommands.len())
    }
    subcommands.iter().for_each(|subcommand| info(table, subcommand, reply));
}

fn words(words: impl Iterator<Item = &'static str> + Clone, reply: &mut ReplyWriter) {
    reply.set(words.clone().count());
    words.for_each(|word| reply.simple(word));
}

fn key_spec(key: &KeySpec, reply: &mut ReplyWriter) {
    reply.map(3);
    reply.bulk("flags");
    words(key.access.words(), reply);
    reply.bulk("begin_search");
    match &key.begin {
        Begin::Index(index) => part("index", &[("index", *index)], reply),
        Begin::Keyword { word, from } => {
            reply.map(2);
            reply.bulk("type");
            reply.bulk("keyword");
            reply.bulk("spec");
            reply.map(2);
            reply.bulk("keyword");
            reply.bulk(&**word);
            reply.bulk("startfrom");
            reply.integer((*from).into());
        }
        Begin::Unknown => part("unknown", &[], reply),
    }
    reply.bulk("find_keys");
    match key.find {
        Find::Range { last, step, limit } => {
            part("range", &[("lastkey", last), ("keystep", step), ("limit", limit)], reply);
        }
        Find::Keynum { at, first, step } => {
            part("keynum", &[("keynumidx", at), ("firstkey", first), ("keystep", step)], reply);
        }
        Find::Unknown => part("unknown", &[], reply),
    }
}

fn part(kind: &str, fields: &[(&str, i16)], reply: &mut ReplyWriter) {
    reply.map(2);
    reply.bulk("type");
    reply.bulk(kind);
    reply.bulk("spec");
    reply.map(fields.len());
    for (name, number) in fields {
        reply.bulk(name);
        reply.integer((*number).into());
    }
}

/// `LIST`: names, subcommands included, all or those that a filter lets through.
fn list(table: &Table, request: &Request, reply: &mut ReplyWriter) {
    let filter = (request.get(2), request.get(3), request.get(4), request.len());
    let names: Vec<&str> = match filter {
        (None, ..) => table.visible().map(|spec| &*spec.name).collect(),
        (Some(by), Some(kind), Some(value), 5) if by.eq_ignore_ascii_case(b"filterby") => {
            let text = String::from_utf8_lossy(value);
            let is_wanted: Box<dyn Fn(&Spec) -> bool> = match kind.to_ascii_lowercase().as_slice() {
                b"module" => Box::new(|spec| spec.group.module() == Some(&*text)),
                b"pattern" => {
                    let pattern = value.to_ascii_lowercase();
                    Box::new(move |spec| glob_matches(&pattern, spec.name.as_bytes()))
                }
                b"aclcat" => match Categories::from_word(&text) {
                    Some(category) => Box::new(move |spec| spec.categories.contains(category)),
                    None => Box::new(|_| false),
                },
                _ => return reply.error("ERR syntax error"),
            };
            table.visible().filter(|spec| is_wanted(spec)).map(|spec| &*spec.name).collect()
        }
        _ => return reply.error("ERR syntax error"),
    };
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name));
}

fn docs(table: &Table, specs: &[&Spec], reply: &mut ReplyWriter) {
    reply.map(specs.len());
    for spec in specs {
        let subcommands: Vec<&Spec> = table.subcommands(spec).collect();
        let since = spec.since.split(',').next().and_then(|first| first.rsplit(':').next());
        let since = since.filter(|version| !version.is_empty());
        let fields = [
            Some((
                "summary",
                format!("Of the {} group; see the documentation of the server.", spec.group.word()),
            )),
            since.map(|version| ("since", version.to_owned())),
            Some(("group", spec.group.word().to_owned())),
            spec.group.module().map(|module| ("module", module.to_owned())),
        ];
        reply.bulk(&*spec.name);
        reply.map(fields.iter().flatten().count() + usize::from(!subcommands.is_empty()));
        for (name, value) in fields.iter().flatten() {
            reply.bulk(name);
            reply.bulk(value);
        }
        if !subcommands.is_empty() {
            reply.bulk("subcommands");
            docs(table, &subcommands, reply);
        }
    }
}

/// `GETKEYS` and `GETKEYSANDFLAGS`: the request from its third argument on is looked at as a request.
fn get_keys(table: &Table, request: &Request, reply: &mut ReplyWriter, has_flags: bool) {
    let mut frame = Vec::new();
    let mut spans = Vec::new();
    for arg in request.args().skip(2) {
        let start = frame.len() as u32;
        frame.extend_from_slice(arg);
        spans.push(Span { start, end: frame.len() as u32 });
    }
    let inner = Request::new(&frame, &spans);
    let Lookup::Found(_, spec) = table.lookup(&inner) else {
        return reply.error("ERR Invalid command specified");
    };
    let is_key = |access: Access| !access.contains(Access::NOT_KEY);
    if !spec.keys.iter().any(|key| is_key(key.access)) {
        return reply.error("ERR The command has no key arguments");
    }
    if !spec.takes(inner.len()) {
        return reply.error("ERR Invalid number of arguments specified for command");
    }
    let mut keys: Vec<KeyRef> = Vec::new();
    let found = extract(spec, &inner, &mut keys);
    keys.retain(|key| is_key(key.access));
    if (found.is_err() || keys.is_empty()) && !spec.flags.contains(Flags::NO_MANDATORY_KEYS) {
        return reply.error("ERR Invalid arguments specified for command");
    }
    reply.array(keys.len());
    for key in keys {
        if has_flags {
            reply.array(2);
        }
        reply.bulk(inner.arg(key.index as usize));
        if has_flags {
            words(key.access.words(), reply);
        }
    }
}

impl Table {
    /// The commands that clients are told of: all, or, once nodes reported theirs, those.
    pub fn visible(&self) -> impl Iterator<Item = &Spec> {
        self.iter().filter(|(ix, _)| self.is_visible(*ix)).map(|(_, spec)| spec)
    }

    /// The visible subcommands of the container `spec`.
    fn subcommands<'a>(&'a self, spec: &'a Spec) -> impl Iterator<Item = &'a Spec> {
        self.visible().filter(|other| spec.is_container && other.container() == Some(&spec.name))
    }
}
