//! The commands whose key specs do not tell everything: options with values that look like other
//! options, "the last one wins", a key whose use depends on other arguments. Part of FRAME → KEYS; each
//! function follows what the command itself does with its arguments, as its page on redis.io says.

use super::bits::Access;
use super::keys::{KeyError, KeyRef};
use super::spec::Spec;
use crate::resp::Request;

/// Which special treatment a command needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Odd {
    /// None: its key specs say it all.
    None,
    Set,
    Bitfield,
    Delex,
    Sort,
    Georadius,
    Streams,
    Migrate,
    Debug,
}

const READ: Access = Access::RO.with(Access::ACCESS);
const CHANGE: Access = Access::RW.with(Access::ACCESS).with(Access::UPDATE);
const STORE: Access = Access::OW.with(Access::UPDATE);

impl Odd {
    /// The treatment that the command `name` (lower case) needs.
    pub(super) fn of(name: &str) -> Odd {
        match name {
            "set" => Odd::Set,
            "bitfield" => Odd::Bitfield,
            "delex" => Odd::Delex,
            "sort" | "sort_ro" => Odd::Sort,
            "georadius" | "georadiusbymember" => Odd::Georadius,
            "xread" | "xreadgroup" => Odd::Streams,
            "migrate" => Odd::Migrate,
            "debug" => Odd::Debug,
            _ => Odd::None,
        }
    }

    /// Whether it decides where the keys are, not only what happens to them.
    pub(super) fn moves_keys(self) -> bool {
        !matches!(self, Odd::None | Odd::Set | Odd::Bitfield | Odd::Delex)
    }
}

/// The keys of `request` if its command is an odd one; `None` if its specs are to be followed.
#[inline]
pub(super) fn extract(spec: &Spec, request: &Request, out: &mut Vec<KeyRef>) -> Option<Result<(), KeyError>> {
    Some(match spec.odd {
        Odd::None => return None,
        Odd::Set => one(request, 1, set_access(request), out),
        Odd::Bitfield => one(request, 1, bitfield_access(request), out),
        Odd::Delex => one(request, 1, delex_access(request), out),
        Odd::Sort => sort(request, out),
        Odd::Georadius => georadius(spec, request, out),
        Odd::Streams => streams(request, out),
        Odd::Migrate => migrate(request, out),
        Odd::Debug => debug(request, out),
    })
}

fn one(request: &Request, index: usize, access: Access, out: &mut Vec<KeyRef>) -> Result<(), KeyError> {
    request.get(index).ok_or(KeyError::Missing)?;
    out.push(KeyRef { index: index as u32, access });
    Ok(())
}

/// Steps over the options from argument `from` on: `values` tells how many values an option has, and
/// `None` ends the walk. Gives each option's index and word.
fn options<'a>(
    request: &'a Request,
    from: usize,
    values: impl Fn(&[u8]) -> Option<usize> + 'a,
) -> impl Iterator<Item = (usize, &'a [u8])> {
    let mut next = from;
    std::iter::from_fn(move || {
        let at = next;
        let word = request.get(at)?;
        next = at + 1 + values(word)?;
        Some((at, word))
    })
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

fn is_condition(word: &[u8]) -> bool {
    ["ifeq", "ifne", "ifdeq", "ifdne"].iter().any(|name| is(word, name))
}

/// SET only overwrites, unless it looks at the old value first or gives it back.
#[inline]
fn set_access(request: &Request) -> Access {
    let options = || request.args().skip(3);
    match request.len() {
        ..=3 => STORE,
        _ if options().any(|word| is(word, "get")) => CHANGE,
        _ if options().any(is_condition) => Access::RW.with(Access::UPDATE),
        _ => STORE,
    }
}

/// BITFIELD only reads as long as all its operations are GET.
fn bitfield_access(request: &Request) -> Access {
    let values = |word: &[u8]| match word {
        _ if is(word, "get") => Some(2),
        _ if is(word, "overflow") => Some(1),
        _ => Some(0),
    };
    let is_get = |(_, word): (usize, &[u8])| is(word, "get") || is(word, "overflow");
    if options(request, 2, values).all(is_get) { READ } else { CHANGE }
}

/// DELEX with a condition looks at the value first.
fn delex_access(request: &Request) -> Access {
    let has_condition = request.get(2).is_some_and(is_condition);
    if has_condition { Access::RW.with(Access::DELETE) } else { Access::RM.with(Access::DELETE) }
}

fn sort_values(word: &[u8]) -> Option<usize> {
    Some(match word {
        _ if is(word, "limit") => 2,
        _ if is(word, "by") || is(word, "get") || is(word, "store") => 1,
        _ => 0,
    })
}

/// SORT: its key, and the target of the last STORE.
fn sort(request: &Request, out: &mut Vec<KeyRef>) -> Result<(), KeyError> {
    one(request, 1, READ, out)?;
    let store = options(request, 2, sort_values).filter(|(_, word)| is(word, "store")).last();
    match store {
        Some((at, _)) => one(request, at + 1, STORE, out),
        None => Ok(()),
    }
}

/// The arguments of a SORT or SORT_RO that are patterns of further keys it reads (BY, GET). They are
/// not keys themselves; which keys they stand for depends on the data. `GET #` and a BY without `*`
/// read none and are left out.
pub fn sort_patterns<'a>(request: &'a Request) -> impl Iterator<Item = u32> + 'a {
    options(request, 2, sort_values).filter_map(move |(at, word)| {
        let pattern = request.get(at + 1)?;
        let is_pattern = match word {
            _ if is(word, "by") => pattern.contains(&b'*'),
            _ if is(word, "get") => pattern != b"#",
            _ => false,
        };
        is_pattern.then_some(at as u32 + 1)
    })
}

/// GEORADIUS and GEORADIUSBYMEMBER: their key, and the target of the last STORE or STOREDIST.
fn georadius(spec: &Spec, request: &Request, out: &mut Vec<KeyRef>) -> Result<(), KeyError> {
    one(request, 1, READ, out)?;
    let stores = |word: &[u8]| is(word, "store") || is(word, "storedist");
    let values = move |word: &[u8]| Some(if stores(word) || is(word, "count") { 1 } else { 0 });
    let from = spec.arity.unsigned_abs() as usize;
    match options(request, from, values).filter(|(_, word)| stores(word)).last() {
        Some((at, _)) => one(request, at + 1, STORE, out),
        None => Ok(()),
    }
}

/// XREAD and XREADGROUP: after STREAMS first all keys, then as many ids. A group, a consumer or a key
/// may itself be called "streams".
fn streams(request: &Request, out: &mut Vec<KeyRef>) -> Result<(), KeyError> {
    let values = |word: &[u8]| match word {
        _ if is(word, "group") => Some(2),
        _ if is(word, "noack") => Some(0),
        _ if ["block", "count", "claim", "maxcount", "maxsize"].iter().any(|name| is(word, name)) => Some(1),
        _ if is(word, "streams") => Some(0),
        _ => None,
    };
    let (at, _) =
        options(request, 1, values).find(|(_, word)| is(word, "streams")).ok_or(KeyError::Syntax)?;
    let rest = request.len() - at - 1;
    if rest == 0 || !rest.is_multiple_of(2) {
        return Err(KeyError::Syntax);
    }
    out.extend((at + 1..=at + rest / 2).map(|index| KeyRef { index: index as u32, access: READ }));
    Ok(())
}

/// MIGRATE: the key at 3, or, where that one is empty, all arguments after KEYS.
fn migrate(request: &Request, out: &mut Vec<KeyRef>) -> Result<(), KeyError> {
    let access = Access::RW.with(Access::ACCESS).with(Access::DELETE);
    let values = |word: &[u8]| match word {
        _ if is(word, "auth") => Some(1),
        _ if is(word, "auth2") => Some(2),
        _ => Some(0),
    };
    let keys = options(request, 6, values).find(|(_, word)| is(word, "keys"));
    match (request.get(3).ok_or(KeyError::Missing)?.is_empty(), keys) {
        (_, None) => one(request, 3, access, out),
        (false, Some(_)) => Err(KeyError::Syntax),
        (true, Some((at, _))) if at + 1 == request.len() => Err(KeyError::Syntax),
        (true, Some((at, _))) => {
            out.extend((at + 1..request.len()).map(|index| KeyRef { index: index as u32, access }));
            Ok(())
        }
    }
}

/// DEBUG: servers tell no keys of it, but some of its subcommands look at one, which must be sought
/// where it lives.
fn debug(request: &Request, out: &mut Vec<KeyRef>) -> Result<(), KeyError> {
    let Some(word) = request.get(1) else { return Ok(()) };
    let has_one = ["object", "sdslen", "ziplist", "listpack", "quicklist", "htstats-key"];
    if is(word, "digest-value") {
        out.extend((2..request.len()).map(|index| KeyRef { index: index as u32, access: READ }));
        Ok(())
    } else if has_one.iter().any(|name| is(word, name)) {
        one(request, 2, READ, out)
    } else {
        Ok(())
    }
}
