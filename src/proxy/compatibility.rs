//! `docs/compatibility.md`, made from the command table, the router and the tests that are known to fail.
//! In tests only: one of them compares the page with the file.

use super::config::Config;
use super::core_tests::World;
use super::router::{All, Handling, Local, Split, traits};
use crate::command::{Flags, KeyShape, Spec, Table};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// How a command is served, compared with one Redis.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Service {
    Same,
    Note(String),
    Refused(String),
}

const INTRO: &str = "\
# What is the same as with one Redis

Made from the command table and the expected failures of the tests; do not edit it. `SLOTGATE_WRITE_DOCS=1 cargo \
test --lib compatibility` writes it anew.

`make conformance` runs the tests of Redis 7.0 itself, those that one Redis passes, through slotgate in front of a \
cluster of three shards: `slotgate demo --node-config enable-debug-command=yes --cross-slot emulate`. It compares \
test by test and fails when one fails that is not listed below.

## Commands

Those that are not listed, of modules or newer releases, are served by what a node's own `COMMAND` says of them.
";

/// What holds for keys in several slots.
fn several_slots(spec: &Spec) -> String {
    let is_read = spec.flags.contains(Flags::READONLY);
    match is_read {
        true => {
            "Keys in several slots are brought together first (not with `--cross-slot refuse`)".to_string()
        }
        false => {
            "Keys in several slots only with `--cross-slot emulate`, not at one moment for others".to_string()
        }
    }
}

fn note(text: &str) -> Service {
    Service::Note(text.to_string())
}

fn of_all(all: All) -> Service {
    match all {
        All::Sum | All::Concat | All::LogicalAnd | All::Min => note("Over all primaries"),
        All::AllSucceed => note("At all primaries; the error says when only some have done it"),
        All::Users => note("At all primaries; not for the user that slotgate itself is there"),
        All::RandomKey => note("Of a primary that is chosen by how many keys it has"),
        All::Info => note("One server's report, with the numbers of all primaries"),
        All::Listeners => note("The clients of this gateway, and those of the nodes themselves"),
        All::Settings => note("Of one primary, without what is about nodes"),
        All::Configure => {
            note("At all primaries, and undone where only some take it; not what nodes are found by")
        }
        All::Scan => note("One primary after the other, with cursors that outlive a change of the topology"),
        All::Wait => note("The least number of all shards, for what any client wrote before"),
        All::Kill => note("At the primary that runs something"),
        All::Report(_) => note("Put together from all primaries"),
    }
}

fn of_local(local: Local) -> Service {
    use Local::*;
    match local {
        Ping | Echo | Quit | Hello | Reset | Command | Unwatch | Discard | Subscribe | PSubscribe
        | SSubscribe | Unsubscribe | PUnsubscribe | SUnsubscribe | Publish => Service::Same,
        Select => note("Database 0"),
        Sync => note("One file of all primaries' keys, then one stream of their changes; no PSYNC"),
        Auth => note("The gateway's own password"),
        Client => note("About the gateway's clients"),
        ClusterDisabled => Service::Refused("Answered as by a server without cluster mode".to_string()),
        Multi | Exec => note(
            "Keys in one slot; those in several, with `--cross-slot emulate`, and commands for all nodes are carried \
             out piece by piece, each slot's pieces as a transaction",
        ),
        Watch => note("Keys in one slot, or in several with `--cross-slot emulate`"),
        Role => note("Always that of a primary"),
        WhoAmI => note("The gateway's own user"),
        Monitor => note("What the gateway's clients send"),
    }
}

fn service(spec: &Spec, handling: Handling) -> Service {
    match handling {
        Handling::Keys | Handling::Watched => match spec.shape {
            KeyShape::One(_) => Service::Same,
            KeyShape::None => note("Asked of one primary"),
            _ => Service::Note(several_slots(spec)),
        },
        Handling::Sort => note("BY and GET read keys wherever they are (not with `--cross-slot refuse`)"),
        Handling::Split(Split::Values) => note("Keys in several slots are read in parts, not at one moment"),
        Handling::Split(_) => {
            note("Keys in several slots are served in parts; the error says when only some are done")
        }
        Handling::All(all) => of_all(all),
        Handling::Local(local) => of_local(local),
        Handling::Any => note("Asked of one primary"),
        Handling::Script => note(
            "Keys must be declared. Without any, it runs at one primary, and that refuses keys which it does not hold",
        ),
        Handling::Debug => {
            note("Where the key is, or at all primaries, if the nodes allow it; not what kills them")
        }
        Handling::Blocking(_) => note("Waits for keys of one slot"),
        Handling::Refused(instead) => Service::Refused(capitalized(instead)),
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Whether the gateway refuses a command that it answers itself.
fn is_refused_here(spec: &Spec) -> bool {
    let mut world = World::new(Config::default());
    let client = world.connect();
    let arity = usize::from(spec.arity.unsigned_abs());
    let words = spec.name.split('|').map(str::to_string).chain(std::iter::repeat("1".to_string()));
    world.send(client, &words.take(arity.max(2)).collect::<Vec<_>>().join(" "));
    world.last(client).contains("is not served through slotgate")
}

fn commands() -> String {
    let table = Table::builtin();
    let traits = traits(&table);
    let mut groups: BTreeMap<&str, BTreeMap<Service, Vec<String>>> = BTreeMap::new();
    for (ix, spec) in table.iter() {
        if spec.is_container && table.iter().any(|(_, sub)| sub.name.starts_with(&format!("{}|", spec.name)))
        {
            continue;
        }
        let handling = traits[usize::from(ix.0)].handling;
        let service = match handling {
            Handling::Local(Local::Client) if is_refused_here(spec) => {
                Service::Refused("Not yet served".to_string())
            }
            handling => service(spec, handling),
        };
        let name = spec.name.replace('|', " ").to_ascii_uppercase();
        groups.entry(spec.group.word()).or_default().entry(service).or_default().push(name);
    }
    let mut out = String::new();
    for (group, services) in groups {
        let _ = write!(out, "\n### {}\n\n| Commands | |\n| --- | --- |\n", capitalized(group));
        for (service, mut names) in services {
            names.sort();
            let text = match service {
                Service::Same => "Same".to_string(),
                Service::Note(note) => format!("Same. {note}"),
                Service::Refused(instead) => format!("**Refused.** {instead}"),
            };
            let _ = writeln!(out, "| {} | {text} |", names.join(", "));
        }
    }
    out
}

fn failures() -> String {
    let expected = std::fs::read_to_string(root().join("tests/conformance/expected.txt")).unwrap();
    let mut out = String::from("\n## Tests of Redis that fail\n");
    for line in expected.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match (line.strip_prefix("= "), line.strip_prefix("~ ")) {
            (Some(reason), _) => {
                let _ = write!(out, "\n{reason}\n\n");
            }
            (_, Some(reason)) => {
                let _ = write!(out, "\nNot always: {reason}\n\n");
            }
            _ => {
                let _ = writeln!(out, "- {}", line.replace('*', "\\*").replace('<', "\\<"));
            }
        }
    }
    out
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

#[test]
fn the_page_says_how_each_command_is_served_and_which_tests_fail() {
    let page = format!("{INTRO}{}{}", commands(), failures());
    let file = root().join("docs/compatibility.md");
    if std::env::var_os("SLOTGATE_WRITE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let first = page.lines().zip(written.lines()).find(|(made, written)| made != written);
    assert!(
        page == written,
        "docs/compatibility.md is not up to date ({first:?}); write it with SLOTGATE_WRITE_DOCS=1 cargo test --lib \
         compatibility"
    );
}
