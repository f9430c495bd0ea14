//! Command → Route: decided once, from the command table, the request and nothing else. Pure.
//!
//! [`HANDLINGS`] says which commands are more than "go where the key is"; everything else follows from
//! the command's keys and flags.

use super::debug;
use super::error_reply::ErrorReply;
use super::key_slots::{KeySlots, find_block_option, slot_of_keys};
use super::reports::Report;
use crate::command::{KeyRef, Spec};
use crate::resp::Request;
use crate::topology::{ANNOUNCEMENTS, Slot};

pub use super::traits::{ScriptUse, Traits, traits};

/// How a command is carried out through the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// Whole to the owner of its keys' slot; without keys, to any primary.
    Keys,
    /// The same, while commands are looked at before they go (CLIENT PAUSE, MONITOR).
    Watched,
    /// Several keys, each of which can be served on its own.
    Split(Split),
    /// To all primaries, the replies merged.
    All(All),
    /// Answered here.
    Local(Local),
    /// To any one primary: always the same while it is there.
    Any,
    /// Runs for as long as it likes; without keys over a connection of its own.
    Script,
    /// By its subcommand.
    Debug,
    /// As [`Handling::Keys`], unless it has BY or GET: then the keys that these stand for may be anywhere.
    Sort,
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
    /// CONFIG SET.
    Configure,
    /// All must succeed, and our own user stays as it is: ACL SETUSER and DELUSER.
    Users,
    /// One primary after the other, by cursor.
    Scan,
    Wait,
    /// Ends what one of them runs.
    Kill,
    /// The least of all.
    Min,
    /// What they tell of themselves.
    Report(Report),
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
    SSubscribe,
    Unsubscribe,
    PUnsubscribe,
    SUnsubscribe,
    Publish,
    Role,
    WhoAmI,
    Monitor,
    Sync,
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

pub const ASK_NODE: &str = "it concerns one node; connect to that node itself";
const ONE_REDIS: &str = "the gateway hides the cluster; use the slotgate commands to manage it";

/// The commands whose handling does not follow from their keys and flags.
pub static HANDLINGS: &[(&str, Handling)] = {
    use Handling::{
        All as ToAll, Any, Blocking, Debug, Local as Here, Refused, Script, Sort, Split as Parts,
    };
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
        ("config|set", ToAll(All::Configure)),
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
        ("eval", Script),
        ("eval_ro", Script),
        ("evalsha", Script),
        ("evalsha_ro", Script),
        ("fcall", Script),
        ("fcall_ro", Script),
        ("script|kill", ToAll(All::Kill)),
        ("function|kill", ToAll(All::Kill)),
        ("time", Any),
        ("lastsave", ToAll(All::Min)),
        ("save", ToAll(All::AllSucceed)),
        ("bgsave", ToAll(All::AllSucceed)),
        ("bgrewriteaof", ToAll(All::AllSucceed)),
        ("slowlog|get", ToAll(All::Report(Report::SlowLog))),
        ("slowlog|len", ToAll(All::Report(Report::SlowLog))),
        ("slowlog|reset", ToAll(All::AllSucceed)),
        ("latency|latest", ToAll(All::Report(Report::Latest))),
        ("latency|history", ToAll(All::Report(Report::History))),
        ("latency|histogram", ToAll(All::Report(Report::Histogram))),
        ("latency|doctor", ToAll(All::Report(Report::Texts))),
        ("latency|graph", ToAll(All::Report(Report::Texts))),
        ("latency|reset", ToAll(All::Sum)),
        ("memory|stats", ToAll(All::Report(Report::Numbers))),
        ("memory|doctor", ToAll(All::Report(Report::Texts))),
        ("memory|malloc-stats", ToAll(All::Report(Report::Texts))),
        ("memory|purge", ToAll(All::AllSucceed)),
        ("acl|setuser", ToAll(All::Users)),
        ("acl|deluser", ToAll(All::Users)),
        ("acl|load", ToAll(All::AllSucceed)),
        ("acl|save", ToAll(All::AllSucceed)),
        ("acl|log", ToAll(All::Report(Report::Entries))),
        ("acl|getuser", Any),
        ("acl|list", Any),
        ("acl|users", Any),
        ("acl|dryrun", Any),
        ("acl|whoami", Here(Local::WhoAmI)),
        ("config|rewrite", ToAll(All::AllSucceed)),
        ("module|list", Any),
        ("pfselftest", Any),
        ("debug", Debug),
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
        ("ssubscribe", Here(Local::SSubscribe)),
        ("sunsubscribe", Here(Local::SUnsubscribe)),
        ("publish", Here(Local::Publish)),
        ("role", Here(Local::Role)),
        ("sort", Sort),
        ("sort_ro", Sort),
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
        ("monitor", Here(Local::Monitor)),
        ("sync", Here(Local::Sync)),
        ("shutdown", Refused(ASK_NODE)),
        ("script|debug", Refused(ASK_NODE)),
        ("migrate", Refused(ONE_REDIS)),
        ("replicaof", Refused(ONE_REDIS)),
        ("slaveof", Refused(ONE_REDIS)),
        ("failover", Refused(ONE_REDIS)),
        ("swapdb", Refused("a cluster has one database")),
        ("move", Refused("a cluster has one database")),
    ]
};

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
    /// In several steps: its keys are in several slots and it cannot be split.
    Errand,
    /// To any one primary.
    Any,
    /// To any one primary, over a connection of its own.
    PinnedAny,
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
        Handling::All(all) => Route::All(all),
        Handling::Debug => debug::route(request),
        Handling::Any => Route::Any,
        Handling::Refused(instead) => {
            Route::Refuse(ErrorReply::Refused { name: spec.name.replace('|', " "), instead })
        }
        Handling::Sort if super::errand::has_patterns(request) => Route::Errand,
        Handling::Keys | Handling::Watched | Handling::Sort | Handling::Script => {
            match slot_of_keys(spec, request, keys) {
                Ok(KeySlots::None) if handling == Handling::Script => Route::PinnedAny,
                Ok(KeySlots::None) => Route::Any,
                Ok(KeySlots::One { slot, has_many_keys }) => Route::One { slot, has_many_keys },
                Ok(KeySlots::Many) => Route::Errand,
                // Any node refuses it in words of its own, or tells by MOVED where it belongs.
                Err(_) => Route::Any,
            }
        }
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
            Ok(KeySlots::Many)
                if timeout == TimeoutAt::BlockOption && find_block_option(request).is_none() =>
            {
                Route::Errand
            }
            Ok(KeySlots::Many) => {
                Route::Refuse(ErrorReply::CrossSlot { name: spec.name.to_string(), option: None })
            }
            // Any node refuses it in words of its own, or tells by MOVED where it belongs.
            Err(_) => Route::Any,
        },
    }
}
