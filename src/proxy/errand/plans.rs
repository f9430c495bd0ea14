//! Which plan a command gets. Pure.

use super::Plan;
use super::bring::Bring;
use super::sort::Sort;
use super::streams::Streams;
use crate::command::{Access, Flags, KeyRef, Spec, extract};
use crate::resp::{Request, Version};

/// The commands whose errands are not what their keys' flags tell: asked in parts, or done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Special {
    /// Each stream by itself, the replies one after the other.
    Streams,
    /// Nodes of a cluster refuse to look up keys that are not named: they are looked up here.
    Sort,
}

const SPECIALS: &[(&str, Special)] = &[
    ("xread", Special::Streams),
    ("xreadgroup", Special::Streams),
    ("sort", Special::Sort),
    ("sort_ro", Special::Sort),
];

/// Whether a request of a command, with these keys, changes nothing.
pub fn only_reads(spec: &Spec, keys: &[KeyRef]) -> bool {
    // The flags of SORT say that it may STORE; then there is a second key.
    spec.flags.contains(Flags::READONLY) || (&*spec.name == "sort" && keys.len() == 1)
}

/// The errand of a request, which may bring `limit` bytes, and whether it only reads; `None` where its keys do not tell enough.
pub fn plan(
    spec: &Spec,
    request: &Request,
    version: Version,
    limit: usize,
    keys: &mut Vec<KeyRef>,
) -> Option<(Box<dyn Plan>, bool)> {
    extract(spec, request, keys).ok().filter(|()| !keys.is_empty())?;
    let special = SPECIALS.iter().find(|(name, _)| *name == &*spec.name).map(|(_, special)| *special);
    let is_read = only_reads(spec, keys);
    let plan: Box<dyn Plan> = match special {
        Some(Special::Streams) => Box::new(Streams::new(request, keys, version)),
        Some(Special::Sort) if super::sort_words::has_patterns(request) => {
            Box::new(Sort::new(request, version, limit))
        }
        _ if keys.iter().any(|key| key.access.intersects(Access::NOT_KEY.with(Access::INCOMPLETE))) => {
            return None;
        }
        _ => Box::new(Bring::new(&spec.name, request, keys, is_read)),
    };
    Some((plan, is_read))
}
