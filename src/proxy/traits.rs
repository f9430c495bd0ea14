//! What the data plane knows of every command beforehand: worked out of the table and the handlings once. Pure.

use super::router::{ASK_NODE, HANDLINGS, Handling};
use crate::command::{Flags, KeyShape, Spec, Table};
use crate::telemetry::Family;
use std::collections::HashMap;

/// What the data plane needs to know of a command for every request, in a few bytes.
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    pub handling: Handling,
    pub family: Family,
    pub is_write: bool,
    /// What it has to do with scripts, if anything.
    pub script: Option<ScriptUse>,
}

/// What a command does to scripts that are called by their digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptUse {
    /// The argument at this place is a script's body.
    Shows(u8),
    /// The first argument is a script's digest, or (EXEC) what comes with it may call some.
    Calls,
    Flushes,
}

fn script_use(name: &str) -> Option<ScriptUse> {
    match name {
        "eval" | "eval_ro" => Some(ScriptUse::Shows(1)),
        "script|load" => Some(ScriptUse::Shows(2)),
        "evalsha" | "evalsha_ro" | "exec" => Some(ScriptUse::Calls),
        "script|flush" => Some(ScriptUse::Flushes),
        _ => None,
    }
}

/// The traits of every command of a table, by its index.
pub fn traits(table: &Table) -> Vec<Traits> {
    let named: HashMap<&str, Handling> = HANDLINGS.iter().copied().collect();
    let traits_of = |spec: &Spec| Traits {
        handling: handling_of(spec, &named),
        family: Family::from_group(spec.group.word()),
        is_write: spec.flags.contains(Flags::WRITE),
        script: script_use(&spec.name),
    };
    table.iter().map(|(_, spec)| traits_of(spec)).collect()
}

fn handling_of(spec: &Spec, named: &HashMap<&str, Handling>) -> Handling {
    let container = spec.name.split('|').next().unwrap_or_default();
    if let Some(handling) = named.get(&*spec.name) {
        *handling
    } else if let Some(Handling::Local(local)) = named.get(container) {
        Handling::Local(*local)
    } else if spec.flags.contains(Flags::BLOCKING) {
        Handling::Refused(
            "it may wait, and the gateway does not know yet how long; use the form that does not",
        )
    } else if spec.shape != KeyShape::None {
        Handling::Keys
    } else if let Some(handling) = named.get(container) {
        *handling
    } else if spec.flags.contains(Flags::ADMIN) {
        Handling::Refused(ASK_NODE)
    } else {
        Handling::Any
    }
}
