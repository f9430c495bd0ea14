//! Where a request's keys lie, and where it says how long it waits. Pure.

use crate::command::{KeyError, KeyRef, KeyShape, Spec, extract};
use crate::resp::Request;
use crate::topology::Slot;

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
