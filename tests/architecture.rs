//! The import rules of the architecture, read off the sources: who may use whom, as data.
//!
//! Both planes meet only in `topology`, pure modules stay pure, and settings flow one way. A break of
//! these rules shows here and not in a review. Also: every file says at its top what it is for.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may import of ours, as beginnings of paths. A module that is not here is an error:
/// add it with its rule.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // The ground: nothing of ours.
    ("secret", &[]),
    ("telemetry", &[]),
    ("shutdown", &[]),
    ("tls", &[]),
    ("resp", &[]),
    ("topology", &[]),
    ("local_nodes", &[]),
    // The data plane, from the bottom up. Never control.
    ("command", &["resp"]),
    ("backend", &["resp", "topology", "tls", "telemetry", "shutdown", "secret"]),
    ("proxy", &["resp", "command", "topology", "backend", "tls", "telemetry", "shutdown", "secret"]),
    // The control plane. Never proxy.
    ("control", &["resp", "topology", "backend", "telemetry", "shutdown", "secret"]),
    // Looks at both planes' results; of control only what the refresh last learned and the manager did.
    (
        "admin",
        &[
            "topology",
            "control::kubernetes::WatchStatus",
            "control::leadership",
            "control::reconcile",
            "control::refresh",
            "telemetry",
            "shutdown",
        ],
    ),
    // Assembles each module's own Config, so it must name these types; nobody imports config.
    (
        "config",
        &[
            "admin",
            "proxy",
            "secret",
            "telemetry::logging",
            "control::discover::Seed",
            "control::kubernetes",
            "backend::Credentials",
            "control::reconcile",
            "control::refresh",
        ],
    ),
    // These only wire.
    ("app", &[""]),
    ("cli", &[""]),
    ("main", &[""]),
    ("lib", &[""]),
];

#[test]
fn modules_import_only_what_the_architecture_allows() {
    let mut breaks = Vec::new();
    for file in sources() {
        let module = module_of(&file);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            breaks.push(format!("{}: module {module} has no rule in MAY_IMPORT", file.display()));
            continue;
        };
        for path in imports(&fs::read_to_string(&file).unwrap()) {
            let is_own = path.split("::").next() == Some(&module);
            if !is_own && !allowed.iter().any(|beginning| begins_with(&path, beginning)) {
                breaks.push(format!("{}: {module} must not use crate::{path}", file.display()));
            }
        }
    }
    assert!(breaks.is_empty(), "\n{}", breaks.join("\n"));
}

#[test]
fn every_module_is_declared_in_lib() {
    let lib = fs::read_to_string(root().join("lib.rs")).unwrap();
    let modules: BTreeSet<String> = sources().iter().map(|file| module_of(file)).collect();
    for module in modules.iter().filter(|module| !["lib", "main"].contains(&module.as_str())) {
        assert!(lib.contains(&format!("pub mod {module};")), "src/{module} is compiled by nobody");
    }
}

#[test]
fn one_module_alone_speaks_to_the_api_server() {
    let home = root().join("control/kubernetes");
    let uses = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        let mut code = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
        code.any(|line| {
            line.contains("k8s_openapi::") || line.contains("use kube::") || line.contains(" kube::")
        })
    };
    let (at_home, elsewhere): (Vec<_>, Vec<_>) =
        sources().into_iter().filter(uses).partition(|file| file.starts_with(&home));
    assert!(!at_home.is_empty(), "nobody speaks to it");
    assert!(elsewhere.is_empty(), "these use kube, which is for {}: {elsewhere:?}", home.display());
}

#[test]
fn every_file_says_at_its_top_what_it_is_for() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            let first = text.lines().next().unwrap_or_default();
            first.strip_prefix("//! ").is_none_or(|says| says.len() <= 10)
        })
        .map(|file| file.display().to_string())
        .collect();
    assert!(silent.is_empty(), "these do not open with //!: {silent:?}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All Rust files below `src`.
fn sources() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    assert!(found.len() > 20, "only {} sources found in {}", found.len(), root().display());
    found
}

/// The top module that a file belongs to.
fn module_of(file: &Path) -> String {
    let path = file.strip_prefix(root()).unwrap();
    let first = Path::new(path.components().next().unwrap().as_os_str());
    first.file_stem().unwrap().to_str().unwrap().to_string()
}

fn begins_with(path: &str, beginning: &str) -> bool {
    beginning.is_empty()
        || path.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path that the text names from the crate's root, in a `use` or in place; comments do not count.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.find("//").map_or(line, |comment| &line[..comment]))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut paths = BTreeSet::new();
    for (at, word) in code.match_indices("crate::") {
        let is_whole_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if is_whole_word {
            expand("", &code[at + word.len()..], &mut paths);
        }
    }
    paths
}

/// Reads one path, or a group in braces, and returns what follows it.
fn expand<'a>(prefix: &str, text: &'a str, paths: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(prefix, rest, paths).trim_start();
            // After `as name`, or a group's end, comes a comma or the brace.
            rest = rest.trim_start_matches(|c: char| c != ',' && c != '}');
            match rest.strip_prefix(',') {
                Some(next) if next.trim_start().starts_with('}') => return &next.trim_start()[1..],
                Some(next) => rest = next,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = match (prefix, name) {
        (_, "" | "self") => prefix.to_string(),
        ("", name) => name.to_string(),
        (prefix, name) => format!("{prefix}::{name}"),
    };
    match rest.strip_prefix("::") {
        Some(next) => expand(&path, next, paths),
        None => {
            if !path.is_empty() {
                paths.insert(path);
            }
            rest
        }
    }
}

#[test]
fn paths_are_read_out_of_uses_groups_and_expressions() {
    let text = "
        use crate::proxy::Config; // crate::not::this
        //! [`crate::nor::that`]
        use crate::{admin, telemetry::{self, logging::Level as L},
            topology::*,};
        let x = crate::resp::scan(mycrate::y);
        pub(crate) fn f() {}
    ";
    let found: Vec<String> = imports(text).into_iter().collect();
    let expected =
        ["admin", "proxy::Config", "resp::scan", "telemetry", "telemetry::logging::Level", "topology"];
    assert_eq!(found, expected);
}

#[test]
fn a_rule_covers_whole_names_only() {
    assert!(begins_with("control::refresh::Config", "control::refresh"));
    assert!(!begins_with("control::refresher", "control::refresh"));
    assert!(!begins_with("control", "control::refresh"));
}
