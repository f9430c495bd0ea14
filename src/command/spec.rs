//! What is known of one command: its arity, what it is, where its keys are, how a cluster-wide call is
//! spread and merged. Part of FRAME → NAME, KEYS; made from a row of the table or from a node's own
//! `COMMAND` reply, never changed afterwards.

use super::bits::{Access, Categories, Flags};
use super::odd::Odd;
use super::tips::{Group, Tips};

/// One command or subcommand.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Lower case; a subcommand is `container|subcommand`.
    pub name: Box<str>,
    /// How many arguments, the name included; negative: at least so many.
    pub arity: i16,
    pub group: Group,
    /// The first release that has it; `redis:8.4.0,valkey:9.1.0` where the two count differently;
    /// empty when a node reported the command.
    pub since: Box<str>,
    pub flags: Flags,
    pub categories: Categories,
    /// Where the keys are, as the server tells it.
    pub keys: Box<[KeySpec]>,
    pub tips: Tips,
    /// The old form of `keys`, as `COMMAND` reports it beside them.
    pub range: Range,
    /// The short form of `keys` for the hot path.
    pub shape: KeyShape,
    /// Whether the second argument names a subcommand with a spec of its own.
    pub is_container: bool,
    pub(super) odd: Odd,
}

/// First, last and step of the keys; a negative `last` counts from the end of the request, -1 being
/// the last argument. All zero: no such range.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Range {
    pub first: i16,
    pub last: i16,
    pub step: i16,
}

/// Where the keys of a command are, in a word: what the router matches on before anything else. Shard
/// channels count as keys here, as they hash to a slot alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyShape {
    /// No request of this command has a key.
    None,
    /// Exactly one key, always at this index.
    One(u8),
    /// All keys lie in this range, and it holds nothing else.
    Range(Range),
    /// Ask [`extract`](super::extract).
    Special,
}

/// One rule that finds keys (redis.io: "Command key specifications"): where to begin, and how to go on
/// from there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeySpec {
    pub access: Access,
    pub begin: Begin,
    pub find: Find,
}

/// Where a key spec begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Begin {
    /// At this argument.
    Index(i16),
    /// After the first `word`, in any letter case, sought from `from`; a negative `from` counts from
    /// the end and seeks backwards.
    Keyword { word: Box<str>, from: i16 },
    /// No spec can say it.
    Unknown,
}

/// How a key spec goes on from its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Find {
    /// Up to `last`: relative to the beginning, or from the end when negative. `limit` divides what is
    /// left: 2 means the first half.
    Range { last: i16, step: i16, limit: i16 },
    /// As many as the number `at` arguments after the beginning says, from `first` after the beginning.
    Keynum { at: i16, first: i16, step: i16 },
    /// No spec can say it.
    Unknown,
}

impl KeySpec {
    /// One key at argument `index`.
    pub fn one(access: Access, index: i16) -> KeySpec {
        KeySpec { access, begin: Begin::Index(index), find: Find::Range { last: 0, step: 1, limit: 0 } }
    }

    /// First, last (relative or negative) and step, when the spec is as simple as that.
    fn plain(&self) -> Option<(i16, i16, i16)> {
        match (&self.begin, self.find) {
            (&Begin::Index(first @ 1..), Find::Range { last, step: step @ 1.., limit: 0 | 1 }) => {
                Some((first, last, step))
            }
            _ => None,
        }
    }
}

impl Spec {
    /// A spec whose dependent parts (`range`, `shape`, the MOVABLEKEYS flag, implied categories) are
    /// worked out from the rest.
    pub fn new(
        name: &str,
        arity: i16,
        flags: Flags,
        categories: Categories,
        keys: Vec<KeySpec>,
        tips: Tips,
    ) -> Spec {
        let (range, is_movable) = range_of(&keys);
        let flags = if is_movable { flags.with(Flags::MOVABLEKEYS) } else { flags };
        let odd = Odd::of(name);
        let shape = shape_of(&keys, range, flags, odd);
        Spec {
            name: name.into(),
            arity,
            group: Group::Module,
            since: "".into(),
            flags,
            categories: categories.with(Categories::implied(flags, categories)),
            keys: keys.into(),
            tips,
            range,
            shape,
            is_container: false,
            odd,
        }
    }

    /// Whether a request of `argc` arguments, the name included, has as many as the command takes.
    #[inline]
    pub fn takes(&self, argc: usize) -> bool {
        if self.arity >= 0 { argc == self.arity as usize } else { argc >= self.arity.unsigned_abs() as usize }
    }
}

/// Whether a request of `argc` arguments, the name included, has as many as `spec` takes.
#[inline]
pub fn check_arity(spec: &Spec, argc: usize) -> bool {
    spec.takes(argc)
}

/// The range that covers the plain specs, and whether it misses keys. Servers work it out alike for
/// clients that know no key specs (redis.io: COMMAND, "First key").
fn range_of(keys: &[KeySpec]) -> (Range, bool) {
    let mut range: Option<Range> = None;
    let mut is_movable = false;
    for key in keys {
        is_movable |= key.access.contains(Access::INCOMPLETE);
        let next = key.plain().filter(|&(first, _, step)| match range {
            None => keys.len() == 1 || step == 1,
            Some(so_far) => step == 1 && so_far.last == first - 1,
        });
        let Some((first, last, step)) = next else {
            is_movable = true;
            continue;
        };
        let last = if last >= 0 { first.saturating_add(last) } else { last };
        range = Some(Range { first: range.map_or(first, |so_far| so_far.first), last, step });
    }
    (range.unwrap_or_default(), is_movable)
}

fn shape_of(keys: &[KeySpec], range: Range, flags: Flags, odd: Odd) -> KeyShape {
    if odd.moves_keys() || flags.contains(Flags::MOVABLEKEYS) {
        return KeyShape::Special;
    }
    match range {
        _ if keys.is_empty() => KeyShape::None,
        Range { first, last, .. } if first == last && first <= u8::MAX as i16 => KeyShape::One(first as u8),
        range => KeyShape::Range(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(keys: Vec<KeySpec>) -> Spec {
        Spec::new("x", -2, Flags::WRITE, Categories::NONE, keys, Tips::default())
    }

    fn range(first: i16, last: i16, step: i16) -> KeySpec {
        KeySpec { access: Access::RO, begin: Begin::Index(first), find: Find::Range { last, step, limit: 0 } }
    }

    #[test]
    fn neighbouring_plain_specs_make_one_range() {
        let keys = vec![range(1, 0, 1), range(2, -1, 1)];
        assert_eq!(spec(keys).shape, KeyShape::Range(Range { first: 1, last: -1, step: 1 }));
        let keys = vec![range(1, 0, 1), range(2, 0, 1)];
        assert_eq!(spec(keys).range, Range { first: 1, last: 2, step: 1 });
    }

    #[test]
    fn specs_with_a_gap_between_them_are_special() {
        let gapped = spec(vec![range(1, 0, 1), range(3, 0, 1)]);
        assert_eq!(gapped.shape, KeyShape::Special);
        assert_eq!(gapped.range, Range { first: 1, last: 1, step: 1 });
        assert!(gapped.flags.contains(Flags::MOVABLEKEYS));
    }

    #[test]
    fn a_single_range_may_have_any_step() {
        let pairs = Range { first: 1, last: -1, step: 2 };
        assert_eq!(spec(vec![range(1, -1, 2)]).shape, KeyShape::Range(pairs));
    }

    #[test]
    fn arity_is_exact_or_a_minimum() {
        let mut spec = spec(Vec::new());
        assert!(!spec.takes(1) && spec.takes(2) && spec.takes(3));
        spec.arity = 2;
        assert!(!spec.takes(1) && spec.takes(2) && !spec.takes(3));
    }
}
