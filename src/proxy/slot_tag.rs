//! A hash tag for every slot: what keys of our own are called by, wherever they have to be. Pure.

use crate::topology::{SLOTS, Slot};
use std::sync::LazyLock;

/// A text without braces whose slot is `slot`: the least number there is.
pub fn tag_of(slot: Slot) -> u32 {
    static TAGS: LazyLock<Vec<u32>> = LazyLock::new(|| {
        let (mut tags, mut missing) = (vec![u32::MAX; SLOTS], SLOTS);
        for tag in 0.. {
            let place = &mut tags[Slot::of_key(tag.to_string().as_bytes()).index()];
            if *place == u32::MAX {
                *place = tag;
                missing -= 1;
            }
            if missing == 0 {
                break;
            }
        }
        tags
    });
    TAGS[slot.index()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_tag_for_every_slot() {
        for slot in Slot::all() {
            assert_eq!(Slot::of_key(format!("x{{{}}}y", tag_of(slot)).as_bytes()), slot);
        }
    }
}
