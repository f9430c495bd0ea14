//! Which keys a command reads and writes, as far as it matters for who is told of changes.

use crate::command::{Flags, KeyRef, Lookup, Spec, Table, extract};
use crate::proxy::core::Core;
use crate::proxy::scripts::each_request;
use crate::resp::Request;

type Key = Box<[u8]>;

/// The keys of one command, or of all in a transaction.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub read: Vec<Key>,
    pub written: Vec<Key>,
    /// Read after it was written in the same transaction, and not written any more: its change is older.
    pub settled: Vec<Key>,
}

impl Touched {
    fn add(&mut self, keys: &[Key], is_read: bool, is_written: bool) {
        if is_written {
            self.settled.retain(|key| !keys.contains(key));
            self.written.extend_from_slice(keys);
        }
        if is_read {
            self.settled.extend(keys.iter().filter(|key| !is_written && self.written.contains(key)).cloned());
            self.read.extend_from_slice(keys);
        }
    }
}

impl Core {
    /// The keys that a command of a client that tracks is about to touch.
    pub fn touched(&self, ix: usize, spec: &Spec, request: &Request) -> Touched {
        let mut touched = Touched::default();
        let state = &self.sessions[ix].state;
        if state.tracking.is_none() {
            return touched;
        }
        match &state.transaction {
            // What was queued is carried out now.
            Some(transaction) if &*spec.name == "exec" => {
                each_request(&transaction.frames, |queued| {
                    if let Lookup::Found(_, spec) = self.table.lookup(queued) {
                        self.touch(spec, queued, &mut touched);
                    }
                });
            }
            Some(_) => {}
            None => self.touch(spec, request, &mut touched),
        }
        touched
    }

    fn touch(&self, spec: &Spec, request: &Request, touched: &mut Touched) {
        let is_script = ["eval", "evalsha", "fcall"].iter().any(|name| spec.name.starts_with(name));
        let (is_read, is_written) = if is_script {
            let known = match &*spec.name {
                "eval" | "eval_ro" => Some(request.arg(1).into()),
                "evalsha" | "evalsha_ro" => self.known_body(request.arg(1)),
                _ => None,
            };
            (known.is_none_or(|body| may_read(&self.table, &body)), !spec.name.ends_with("_ro"))
        } else {
            (spec.flags.contains(Flags::READONLY), spec.flags.contains(Flags::WRITE))
        };
        let mut found: Vec<KeyRef> = Vec::new();
        if (is_read || is_written) && extract(spec, request, &mut found).is_ok() {
            let keys: Vec<Key> = found.iter().map(|key| Box::from(request.arg(key.index as usize))).collect();
            touched.add(&keys, is_read, is_written);
        }
    }
}

/// Whether a script may run a command that reads: not if all that it calls by name do not, and nothing is
/// called in another way.
fn may_read(table: &Table, body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let calls = text.split("call").skip(1);
    let mut count = 0;
    for after in calls {
        count += 1;
        let Some(args) = after.trim_start().strip_prefix('(') else { return true };
        let args = args.trim_start();
        let Some(quote) = args.chars().next().filter(|quote| matches!(quote, '\'' | '"')) else {
            return true;
        };
        let Some((name, _)) = args[1..].split_once(quote) else { return true };
        let reads = |spec: &Spec| spec.flags.contains(Flags::READONLY) || spec.is_container;
        if table.by_name(name.to_ascii_lowercase().as_bytes()).is_none_or(|(_, spec)| reads(spec)) {
            return true;
        }
    }
    // Something that is named otherwise may call as well.
    let others = text.matches("redis").count() + text.matches("server").count();
    others > count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_reads_unless_all_that_it_calls_is_known_not_to() {
        let table = Table::builtin();
        for (body, expected) in [
            ("redis.call('set', 'k', 'v')", false),
            ("redis.call('ping'); return redis.pcall(\"SET\", KEYS[1], 1)", false),
            ("return 1", false),
            ("return redis.call('get', KEYS[1])", true),
            ("redis.call(ARGV[1], KEYS[1])", true),
            ("local c = redis.call; c('get', KEYS[1])", true),
            ("local r = redis; r['ca' .. 'll']('get', KEYS[1])", true),
            ("redis.call('object', 'encoding', KEYS[1])", true),
        ] {
            assert_eq!(may_read(&table, body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn a_key_that_is_read_after_it_was_written_in_one_transaction_is_settled() {
        let key = |name: &str| Key::from(name.as_bytes());
        let mut touched = Touched::default();
        touched.add(&[key("a"), key("b")], false, true);
        touched.add(&[key("a"), key("c")], true, false);
        assert_eq!(touched.settled, [key("a")]);
        assert_eq!(touched.read, [key("a"), key("c")]);
        touched.add(&[key("a")], false, true);
        assert_eq!(touched.settled, []);
    }
}
