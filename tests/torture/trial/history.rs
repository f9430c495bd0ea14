//! What was asked of a cluster and what came of it: the material of a verdict.
//!
//! Pure data. Every write carries a value of its own, so that each one can be found again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What a key holds, and so what can be said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// INCR: only how many is known, and each one's turn by its reply.
    Counter,
    /// RPUSH of values: each one's place.
    List,
    /// APPEND of values, each with its end: the same in one string.
    Text,
    /// SET and GET of values; one client writes, all read.
    Register,
}

/// A key, and the slot it lives in: losses come by slots.
#[derive(Clone, Debug)]
pub struct Key {
    pub name: String,
    pub kind: Kind,
    /// Keys of the same place have the same slot.
    pub place: usize,
}

/// Who wrote it, and as which of its requests: no two writes have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    pub client: u32,
    pub order: u32,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.client, self.order)
    }
}

impl FromStr for Value {
    type Err = String;

    fn from_str(text: &str) -> Result<Value, String> {
        let parsed = text
            .split_once('.')
            .and_then(|(client, order)| Some((client.parse().ok()?, order.parse().ok()?)));
        let (client, order) = parsed.ok_or_else(|| format!("{text:?} is no value of ours"))?;
        Ok(Value { client, order })
    }
}

/// What a request does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// INCR, RPUSH, APPEND.
    Add,
    Set,
    Get,
}

/// What the client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// +OK, of a SET.
    Stored,
    /// What a counter, list or text has grown to.
    Grown(u64),
    /// What a register held.
    Read(Option<Value>),
    /// An error that says that it was not run.
    Refused(String),
    /// An error that says that nobody knows.
    Unknown(String),
    /// The connection ended before the reply.
    Cut,
    /// Anything else: never right.
    Strange(String),
}

impl Outcome {
    pub fn is_done(&self) -> bool {
        matches!(self, Outcome::Stored | Outcome::Grown(_) | Outcome::Read(_))
    }

    /// Whether it may have been run, or may still be.
    pub fn may_have_run(&self) -> bool {
        !matches!(self, Outcome::Refused(_))
    }
}

/// One request, its time counted from the history's beginning.
#[derive(Clone, Debug)]
pub struct Op {
    /// Who sent it, and as which of its requests; also what it writes.
    pub value: Value,
    /// Which of the client's connections, counted on.
    pub session: u32,
    pub key: usize,
    pub deed: Deed,
    pub sent: Duration,
    pub ended: Duration,
    pub outcome: Outcome,
}

impl Op {
    /// Whether this one must have been run before the other: it had ended, or went ahead of it on the
    /// same connection.
    pub fn is_before(&self, other: &Op) -> bool {
        let is_same_session = (self.value.client, self.session) == (other.value.client, other.session);
        self.ended < other.sent || is_same_session && self.value.order < other.value.order
    }
}

/// What a key held when all was over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    Number(u64),
    Values(Vec<Value>),
    One(Option<Value>),
    Strange(String),
}

/// A primary was lost without notice: what it had not replicated by then may be gone.
#[derive(Clone, Debug)]
pub struct Disruption {
    /// Just before it was lost.
    pub from: Duration,
    /// When nobody could write to it any more.
    pub to: Duration,
    /// The places it served.
    pub places: Vec<usize>,
}

/// All that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub keys: Vec<Key>,
    pub ops: Vec<Op>,
    /// By key, in the order of the keys.
    pub held: Vec<Held>,
    pub disruptions: Vec<Disruption>,
}
