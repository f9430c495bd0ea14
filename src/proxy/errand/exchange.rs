//! The requests of errands and what their replies hold: transactions, dumps, error lines. Pure.

use super::{Answer, Ask, Manner, Step};
use crate::proxy::answer::error_line;
use crate::proxy::error_reply::ErrorReply;
use crate::proxy::fanout::{array, element, integer, text_of};
use crate::proxy::pinned::{EXEC, MULTI};
use crate::resp::write_request;
use crate::telemetry::ErrandResult;
use crate::topology::Slot;
use std::time::Duration;

/// Requests for keys of one slot that a node runs without anything between them.
pub struct Transaction {
    frames: Vec<u8>,
    count: u32,
}

impl Transaction {
    pub fn new() -> Transaction {
        Transaction { frames: MULTI.to_vec(), count: 0 }
    }

    pub fn add<T: AsRef<[u8]>>(&mut self, args: &[T]) {
        write_request(&mut self.frames, args);
        self.count += 1;
    }

    pub fn ask(mut self, manner: Manner, slot: Slot) -> Ask {
        self.frames.extend_from_slice(EXEC);
        Ask { manner, slot, frames: self.frames, skip: self.count + 1, delay: Duration::ZERO }
    }
}

/// One request by itself.
pub fn single<T: AsRef<[u8]>>(manner: Manner, slot: Slot, args: &[T]) -> Ask {
    let mut frames = Vec::new();
    write_request(&mut frames, args);
    Ask { manner, slot, frames, skip: 0, delay: Duration::ZERO }
}

/// The replies of a transaction's requests.
///
/// # Errors
/// Why it was not run.
pub fn replies_of(executed: &[u8], count: usize) -> Result<Vec<&[u8]>, &[u8]> {
    if executed.starts_with(b"-") {
        return Err(executed);
    }
    let (_, mut rest) = array(executed);
    let mut replies = Vec::with_capacity(count);
    while let Some((reply, after)) = element(rest) {
        replies.push(reply);
        rest = after;
    }
    if replies.len() == count {
        Ok(replies)
    } else {
        Err(b"-ERR a node answered EXEC in a way of its own\r\n")
    }
}

pub fn is_error(reply: &[u8]) -> bool {
    reply.starts_with(b"-")
}

/// Whether nobody knows if the request was run.
pub fn is_unknown(reply: &[u8]) -> bool {
    reply.starts_with(b"-IOERR")
}

/// Whether it was not run because the slot is being moved and has some of its keys here, some there.
pub fn is_in_between(reply: &[u8]) -> bool {
    reply.starts_with(b"-TRYAGAIN")
}

/// The body of a bulk; `None` where there is no value.
pub fn bulk(reply: &[u8]) -> Option<&[u8]> {
    (reply.starts_with(b"$") && !reply.starts_with(b"$-1")).then(|| text_of(reply))
}

/// A value on its way from one node to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// As DUMP gives it.
    pub payload: Vec<u8>,
    /// Milliseconds to live, as PTTL tells them; negative: for ever.
    pub ttl: i64,
}

impl Value {
    /// What DUMP and PTTL say of a key; `None`: there is no such key.
    pub fn of(dump: &[u8], ttl: &[u8]) -> Option<Value> {
        Some(Value { payload: bulk(dump)?.to_vec(), ttl: integer(ttl) })
    }

    /// The time to live as RESTORE takes it: 0 is for ever.
    pub fn restored_ttl(&self) -> String {
        if self.ttl < 0 { 0 } else { self.ttl.max(1) }.to_string()
    }
}

/// The end of an errand that worked, as far as the node's reply says.
pub fn answered(reply: Vec<u8>) -> Step {
    let result = if is_error(&reply) { ErrandResult::Error } else { ErrandResult::Done };
    Step::Answer(Answer { reply, result, tidying: None })
}

/// The end of an errand that something kept from being done; nothing was changed.
pub fn given_up(error: &[u8]) -> Step {
    Step::Answer(Answer { reply: error.to_vec(), result: ErrandResult::Error, tidying: None })
}

/// The end of an errand that stopped half-way.
pub fn half_way(name: &str, why: &[u8]) -> Step {
    let why = String::from_utf8_lossy(why.strip_prefix(b"-").unwrap_or(why)).trim_end().to_string();
    let reply = error_line(&ErrorReply::HalfWay { name: name.to_string(), why });
    Step::Answer(Answer { reply, result: ErrandResult::HalfWay, tidying: None })
}
