//! Which arguments of a request are keys: FRAME → KEYS. The server's own key specs are followed to the
//! letter; the few commands whose specs do not tell everything are in `odd`. Never allocates beyond
//! the list it fills, and that list never grows longer than the request.

use super::bits::{Access, Flags};
use super::odd::{self, Odd};
use super::spec::{Begin, Find, KeyShape, KeySpec, Spec};
use crate::resp::Request;

/// One key of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyRef {
    /// Which argument it is; the command's name is 0.
    pub index: u32,
    /// What the command does with it. [`Access::NOT_KEY`] marks a shard channel: it hashes to a slot
    /// like a key, but is none.
    pub access: Access,
}

/// Why the keys of a request cannot be told. Every node refuses such a request without running it, in
/// words of its own, so it may be sent to any node to get them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// The number of keys is no number.
    #[error("value is not an integer or out of range")]
    NotANumber,
    #[error("Number of keys can't be negative")]
    Negative,
    /// The command must have a key and says it has none.
    #[error("numkeys should be greater than 0")]
    NoKeys,
    #[error("Number of keys can't be greater than number of args")]
    TooMany,
    /// The request ends before a key that it must have.
    #[error("wrong number of arguments")]
    Missing,
    /// The words around the keys make no sense.
    #[error("syntax error")]
    Syntax,
    /// The specs of the command (one that a node reported) do not tell where its keys are. The only
    /// error here of a request that may be valid: ask a node with `COMMAND GETKEYS`.
    #[error("the key positions of this command are not known")]
    Unknown,
}

/// Finds the keys of `request`, a request of the command `spec`, in the order in which the server finds
/// them. `out` is emptied first, and is empty after an error. Check the arity before: a request that is
/// too short gives its keys as far as they go, or [`KeyError::Missing`].
#[inline]
pub fn extract(spec: &Spec, request: &Request, out: &mut Vec<KeyRef>) -> Result<(), KeyError> {
    out.clear();
    if let (Odd::None, KeyShape::One(index)) = (spec.odd, spec.shape) {
        request.get(index.into()).ok_or(KeyError::Missing)?;
        out.push(KeyRef { index: index.into(), access: spec.keys[0].access });
        return Ok(());
    }
    let found = match odd::extract(spec, request, out) {
        Some(found) => found,
        None => spec.keys.iter().try_for_each(|key| follow(key, spec, request, out)),
    };
    if found.is_err() {
        out.clear();
    }
    found
}

/// Adds the keys that one spec finds.
fn follow(key: &KeySpec, spec: &Spec, request: &Request, out: &mut Vec<KeyRef>) -> Result<(), KeyError> {
    let argc = request.len() as i64;
    let begin = match &key.begin {
        Begin::Index(index) => i64::from(*index),
        Begin::Keyword { word, from } => match seek(request, word, *from) {
            Some(at) => at + 1,
            None => return Ok(()),
        },
        Begin::Unknown => return Err(KeyError::Unknown),
    };
    let (first, last, step) = match key.find {
        Find::Range { last, step, limit } => {
            let last = i64::from(last);
            let end = match last {
                0.. => begin + last,
                _ if limit > 1 => begin + (argc - begin) / i64::from(limit) + last,
                _ => argc + last,
            };
            // No key at all is fine only where the number of keys is open: SUNSUBSCRIBE, PFMERGE.
            if end >= argc || (end < begin && last >= 0) {
                return Err(KeyError::Missing);
            }
            (begin, end, step)
        }
        Find::Keynum { at, first, step } => {
            let count = count(request, begin + i64::from(at), spec)?;
            let first = begin + i64::from(first);
            let step = i64::from(step.max(1));
            if count > 0 && count > (argc - first + step - 1) / step {
                return Err(KeyError::TooMany);
            }
            (first, first + (count - 1) * step, step as i16)
        }
        Find::Unknown => return Err(KeyError::Unknown),
    };
    // The name itself is no key; only a broken spec of a node says so.
    if key.access.contains(Access::INCOMPLETE) || first < 1 {
        return Err(KeyError::Unknown);
    }
    let indices = (first..=last).step_by(step.max(1) as usize);
    out.extend(indices.map(|index| KeyRef { index: index as u32, access: key.access }));
    Ok(())
}

/// Where `word` stands, in any letter case, sought from `from` on; backwards when it is negative.
fn seek(request: &Request, word: &str, from: i16) -> Option<i64> {
    let argc = request.len() as i64;
    let is_here = |&at: &i64| {
        request.get(at as usize).is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
    };
    match i64::from(from) {
        from @ 0.. => (from..argc).find(is_here),
        from => (1..=argc + from).rev().find(is_here),
    }
}

/// The number of keys that argument `at` states.
fn count(request: &Request, at: i64, spec: &Spec) -> Result<i64, KeyError> {
    let argument = usize::try_from(at).ok().and_then(|at| request.get(at)).ok_or(KeyError::Missing)?;
    match integer(argument).ok_or(KeyError::NotANumber)? {
        ..0 => Err(KeyError::Negative),
        0 if !spec.flags.contains(Flags::NO_MANDATORY_KEYS) => Err(KeyError::NoKeys),
        // Nothing past the request's own length matters, and so nothing overflows after this.
        count => Ok(count.min(u32::MAX.into())),
    }
}

/// A number in the one form that servers accept: no plus sign, no spaces, no leading zeros, 64 bits.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        b"0" => (digits.len() == text.len()).then_some(0),
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(text).ok()?.parse().ok()
        }
        _ => None,
    }
}
