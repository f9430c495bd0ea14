//! Command → Route: decided once, from the command table, the request and nothing else. Pure.
//!
//! [`HANDLINGS`] says which commands are more than "go where the key is"; everything else follows from
//! the command's keys and flags.

use super::error_reply::{ErrorReply, quoted};
use super::settings;
use crate::command::{Flags, KeyError, KeyRef, KeyShape, Spec, Table, extract};
use crate::resp::Request;
use crate::telemetry::Family;
use crate::topology::{ANNOUNCEMENTS, Slot};
use std::collections::HashMap;

/// How a command is carried out through the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// Whole to the owner of its keys' slot; without keys, to any primary.
    Keys,
    /// Several keys, each of which can be served on its own.
    Split(Split),
    /// To all primaries, the replies merged.
    All(All),
    /// Answered here.
    Local(Local),
    /// To any one primary.
    Any,
    /// Waits for data; needs a connection of its own.
    Blocking(TimeoutAt),
    Refused(&'static str),
}

/// The commands that are split by slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// One value a key.
    Values,
    /// Key and value in turn; all must succeed.
    Pairs,
    /// A count of keys.
    Sum,
}

/// The commands that go to all primaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum All {
    Sum,
    AllSucceed,
    Concat,
    LogicalAnd,
    RandomKey,
    Info,
    /// Who listens to which channels.
    Listeners,
    /// Of one primary, without what is its own: CONFIG GET.
    Settings,
    /// One primary after the other, by cursor.
    Scan,
    Wait,
}

/// The commands that are answered here, or act on the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    Ping,
    Echo,
    Quit,
    Select,
    Auth,
    Hello,
    Reset,
    Client,
    Command,
    ClusterDisabled,
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    Subscribe,
    PSubscribe,
    Unsubscribe,
    PUnsubscribe,
    Publish,
    Role,
}

/// Where a blocking command says how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutAt {
    /// The last argument, in seconds.
    Last,
    /// The first argument after the name, in seconds.
    First,
    /// After the word BLOCK, in milliseconds; without it the command does not block.
    BlockOption,
}

const ASK_NODE: &str = "it concerns one node; connect to that node itself";
const ONE_REDIS: &str = "the gateway hides the cluster; use the slotgate commands to manage it";

/// The commands whose handling does not follow from their keys and flags.
pub static HANDLINGS: &[(&str, Handling)] = {
    use Handling::{All as ToAll, Any, Blocking, Local as Here, Refused, Split as Parts};
    &[
        ("mget", Parts(Split::Values)),
        ("mset", Parts(Split::Pairs)),
        ("del", Parts(Split::Sum)),
        ("unlink", Parts(Split::Sum)),
        ("exists", Parts(Split::Sum)),
        ("touch", Parts(Split::Sum)),
        ("dbsize", ToAll(All::Sum)),
        ("keys", ToAll(All::Concat)),
        ("randomkey", ToAll(All::RandomKey)),
        ("scan", ToAll(All::Scan)),
        ("info", ToAll(All::Info)),
        ("flushall", ToAll(All::AllSucceed)),
        ("flushdb", ToAll(All::AllSucceed)),
        ("script|load", ToAll(All::AllSucceed)),
        ("script|flush", ToAll(All::AllSucceed)),
        ("script|exists", ToAll(All::LogicalAnd)),
        ("function|load", ToAll(All::AllSucceed)),
        ("function|delete", ToAll(All::AllSucceed)),
        ("function|flush", ToAll(All::AllSucceed)),
        ("function|restore", ToAll(All::AllSucceed)),
        ("config|set", ToAll(All::AllSucceed)),
        ("config|resetstat", ToAll(All::AllSucceed)),
        ("wait", ToAll(All::Wait)),
        ("pubsub|channels", ToAll(All::Listeners)),
        ("pubsub|numsub", ToAll(All::Listeners)),
        ("pubsub|numpat", ToAll(All::Listeners)),
        ("pubsub|shardchannels", ToAll(All::Listeners)),
        ("pubsub|shardnumsub", ToAll(All::Listeners)),
        ("config|get", ToAll(All::Settings)),
        ("config|help", Any),
        ("function|list", Any),
        ("function|dump", Any),
        ("function|stats", Any),
        ("time", Any),
        ("lastsave", Any),
        ("ping", Here(Local::Ping)),
        ("echo", Here(Local::Echo)),
        ("quit", Here(Local::Quit)),
        ("select", Here(Local::Select)),
        ("auth", Here(Local::Auth)),
        ("hello", Here(Local::Hello)),
        ("reset", Here(Local::Reset)),
        ("client", Here(Local::Client)),
        ("command", Here(Local::Command)),
        ("cluster", Here(Local::ClusterDisabled)),
        ("asking", Here(Local::ClusterDisabled)),
        ("readonly", Here(Local::ClusterDisabled)),
        ("readwrite", Here(Local::ClusterDisabled)),
        ("multi", Here(Local::Multi)),
        ("exec", Here(Local::Exec)),
        ("discard", Here(Local::Discard)),
        ("watch", Here(Local::Watch)),
        ("unwatch", Here(Local::Unwatch)),
        ("subscribe", Here(Local::Subscribe)),
        ("psubscribe", Here(Local::PSubscribe)),
        ("unsubscribe", Here(Local::Unsubscribe)),
        ("punsubscribe", Here(Local::PUnsubscribe)),
        ("publish", Here(Local::Publish)),
        ("role", Here(Local::Role)),
        ("blpop", Blocking(TimeoutAt::Last)),
        ("brpop", Blocking(TimeoutAt::Last)),
        ("brpoplpush", Blocking(TimeoutAt::Last)),
        ("blmove", Blocking(TimeoutAt::Last)),
        ("bzpopmin", Blocking(TimeoutAt::Last)),
        ("bzpopmax", Blocking(TimeoutAt::Last)),
        ("blmpop", Blocking(TimeoutAt::First)),
        ("bzmpop", Blocking(TimeoutAt::First)),
        ("xread", Blocking(TimeoutAt::BlockOption)),
        ("xreadgroup", Blocking(TimeoutAt::BlockOption)),
        ("ssubscribe", Refused("use SUBSCRIBE, which reaches the whole cluster")),
        ("sunsubscribe", Refused("use UNSUBSCRIBE")),
        ("monitor", Refused(ASK_NODE)),
        ("slowlog", Refused(ASK_NODE)),
        ("latency", Refused(ASK_NODE)),
        ("memory", Refused(ASK_NODE)),
        ("debug", Refused(ASK_NODE)),
        ("shutdown", Refused(ASK_NODE)),
        ("script|kill", Refused(ASK_NODE)),
        ("function|kill", Refused(ASK_NODE)),
        ("script|debug", Refused(ASK_NODE)),
        ("migrate", Refused(ONE_REDIS)),
        ("replicaof", Refused(ONE_REDIS)),
        ("slaveof", Refused(ONE_REDIS)),
        ("failover", Refused(ONE_REDIS)),
        ("swapdb", Refused("a cluster has one database")),
        ("move", Refused("a cluster has one database")),
    ]
};

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

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// Answered here.
    Local(Local),
    /// Whole to the owner of the slot. With several keys, later requests for the slot wait for it.
    One {
        slot: Slot,
        has_many_keys: bool,
    },
    /// In parts to the owners of its keys.
    Split(Split),
    /// To all primaries.
    All(All),
    /// To any one primary.
    Any,
    /// To the owner of the slot, over a connection of its own.
    Pinned {
        slot: Slot,
        timeout: TimeoutAt,
    },
    Refuse(ErrorReply),
}

/// Decides a request's route; `keys` is scratch space.
pub fn route(handling: Handling, spec: &Spec, request: &Request, keys: &mut Vec<KeyRef>) -> Route {
    if !spec.takes(request.len()) {
        return Route::Refuse(ErrorReply::Arity { name: spec.name.to_string() });
    }
    match handling {
        Handling::Local(Local::Publish) if request.arg(1) == ANNOUNCEMENTS => {
            Route::Refuse(ErrorReply::OwnChannel)
        }
        Handling::Local(local) => Route::Local(local),
        Handling::All(_)
            if &*spec.name == "config|set"
                && let Some(name) = settings::of_nodes(request) =>
        {
            Route::Refuse(ErrorReply::SettingOfNodes { name: quoted(name) })
        }
        Handling::All(all) => Route::All(all),
        Handling::Any => Route::Any,
        Handling::Refused(instead) => {
            Route::Refuse(ErrorReply::Refused { name: spec.name.replace('|', " "), instead })
        }
        Handling::Keys => match slot_of_keys(spec, request, keys) {
            Ok(KeySlots::None) => Route::Any,
            Ok(KeySlots::One { slot, has_many_keys }) => Route::One { slot, has_many_keys },
            Ok(KeySlots::Many) => Route::Refuse(ErrorReply::CrossSlot { name: spec.name.to_string() }),
            // Any node refuses it in words of its own, or tells by MOVED where it belongs.
            Err(_) => Route::Any,
        },
        Handling::Split(split) => {
            if split == Split::Pairs && request.len().is_multiple_of(2) {
                return Route::Refuse(ErrorReply::Arity { name: spec.name.to_string() });
            }
            match slot_of_keys(spec, request, keys) {
                Ok(KeySlots::One { slot, has_many_keys }) => Route::One { slot, has_many_keys },
                Ok(_) => Route::Split(split),
                // Any node refuses it in words of its own, or tells by MOVED where it belongs.
                Err(_) => Route::Any,
            }
        }
        Handling::Blocking(timeout) => match slot_of_keys(spec, request, keys) {
            Ok(KeySlots::One { slot, has_many_keys }) => {
                let blocks = timeout != TimeoutAt::BlockOption || find_block_option(request).is_some();
                if blocks { Route::Pinned { slot, timeout } } else { Route::One { slot, has_many_keys } }
            }
            Ok(KeySlots::None) => Route::Any,
            Ok(KeySlots::Many) => Route::Refuse(ErrorReply::CrossSlot { name: spec.name.to_string() }),
            // Any node refuses it in words of its own, or tells by MOVED where it belongs.
            Err(_) => Route::Any,
        },
    }
}

/// Which slots a request's keys are in.
#[derive(Debug, PartialEq, Eq)]
pub enum KeySlots {
    None,
    One { slot: Slot, has_many_keys: bool },
    Many,
}

/// Finds the slots of a request's keys.
///
/// # Errors
/// The request does not say where its keys are.
pub fn slot_of_keys(spec: &Spec, request: &Request, keys: &mut Vec<KeyRef>) -> Result<KeySlots, KeyError> {
    if let KeyShape::One(at) = spec.shape {
        return Ok(match request.get(usize::from(at)) {
            Some(key) => KeySlots::One { slot: Slot::of_key(key), has_many_keys: false },
            None => KeySlots::None,
        });
    }
    keys.clear();
    extract(spec, request, keys)?;
    let mut slots = keys.iter().map(|key| Slot::of_key(request.arg(key.index as usize)));
    let Some(first) = slots.next() else { return Ok(KeySlots::None) };
    let mut count = 1;
    for slot in slots {
        if slot != first {
            return Ok(KeySlots::Many);
        }
        count += 1;
    }
    Ok(KeySlots::One { slot: first, has_many_keys: count > 1 })
}

/// The place of the milliseconds after BLOCK in XREAD and XREADGROUP, whose options end at STREAMS.
pub fn find_block_option(request: &Request) -> Option<usize> {
    let streams = request.args().position(|arg| arg.eq_ignore_ascii_case(b"STREAMS"))?;
    (1..streams.saturating_sub(1)).find(|at| request.arg(*at).eq_ignore_ascii_case(b"BLOCK")).map(|at| at + 1)
}

/// Whether a request that may have been executed can be executed again without a difference to
/// anybody but its sender, who has no reply yet: reads, and writes that set a fixed value whatever was
/// there before.
pub fn is_harmless_to_repeat(spec: &Spec, request: &Request) -> bool {
    const NOT_IF_OPTIONS: &[(&str, usize)] = &[("set", 3), ("expireat", 3), ("pexpireat", 3)];
    if spec.flags.contains(Flags::READONLY) {
        return true;
    }
    matches!(&*spec.name, "mset" | "hmset" | "ping" | "echo" | "time")
        || NOT_IF_OPTIONS.iter().any(|(name, len)| *name == &*spec.name && request.len() == *len)
}

/// The refusal of a command that no table knows, in the words of `src/server.c`: arguments until they
/// make 128 bytes, the last one cut.
pub fn unknown_command(request: &Request) -> ErrorReply {
    let mut args = String::new();
    for arg in request.args().skip(1) {
        let Some(room) = 128usize.checked_sub(args.len()).filter(|room| *room > 0) else { break };
        args.push_str(&format!("'{}' ", quoted(&arg[..arg.len().min(room)])));
    }
    ErrorReply::UnknownCommand { name: quoted(request.arg(0)), args }
}
