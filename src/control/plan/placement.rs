//! Which node gets which slots, and whom each replica follows. Pure.

use crate::topology::{SLOTS, SlotRange};
use std::net::IpAddr;

/// What is lost together: nodes of one address.
pub type Host = IpAddr;

/// `count` ranges of all slots, as even as whole slots allow, cut where `redis-cli --cluster create`
/// cuts: 0-5460, 5461-10922, 10923-16383 for three. `count` must be 1 to 16384.
pub fn even_ranges(count: usize) -> Vec<SlotRange> {
    // The end of range i is (i + 1) * SLOTS / count, rounded to the nearest.
    let end = |ix: usize| ((ix * SLOTS * 2 + count) / (count * 2)) as u16;
    (0..count).filter_map(|ix| SlotRange::new(end(ix), end(ix + 1) - 1)).collect()
}

/// For each replica the place of its primary: in turn, then with pairs exchanged as long as that
/// takes more replicas away from their primary's host, or from another replica of the same primary.
pub fn assign_replicas(primaries: &[Host], replicas: &[Host]) -> Vec<usize> {
    let mut of: Vec<usize> = (0..replicas.len()).map(|ix| ix % primaries.len()).collect();
    // Each exchange lowers the cost, so this ends; the number of steps is bounded by the cost.
    while let Some((one, other)) = better_exchange(primaries, replicas, &of) {
        of.swap(one, other);
    }
    of
}

/// How badly replica `ix` would stand with `primary`, if `but` did not count.
fn cost(
    primaries: &[Host],
    replicas: &[Host],
    of: &[usize],
    (ix, primary): (usize, usize),
    but: usize,
) -> usize {
    let rivals = (0..replicas.len()).filter(|rival| {
        *rival != ix && *rival != but && of[*rival] == primary && replicas[*rival] == replicas[ix]
    });
    // Losing a primary with its replica is worse than losing any number of replicas together.
    usize::from(replicas[ix] == primaries[primary]) * replicas.len() + rivals.count()
}

fn better_exchange(primaries: &[Host], replicas: &[Host], of: &[usize]) -> Option<(usize, usize)> {
    let standing = |ix, primary, but| cost(primaries, replicas, of, (ix, primary), but);
    for one in 0..replicas.len() {
        for other in one + 1..replicas.len() {
            if of[one] == of[other] || replicas[one] == replicas[other] {
                continue;
            }
            let now = standing(one, of[one], other) + standing(other, of[other], one);
            let then = standing(one, of[other], other) + standing(other, of[one], one);
            if then < now {
                return Some((one, other));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts(numbers: &[u8]) -> Vec<Host> {
        numbers.iter().map(|n| IpAddr::from([10, 0, 0, *n])).collect()
    }

    #[test]
    fn three_primaries_get_the_ranges_of_the_tutorial() {
        let shown: Vec<String> = even_ranges(3).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["0-5460", "5461-10922", "10923-16383"]);
    }

    #[test]
    fn on_one_host_replicas_follow_in_turn() {
        assert_eq!(assign_replicas(&hosts(&[1, 1, 1]), &hosts(&[1, 1, 1, 1])), [0, 1, 2, 0]);
    }

    #[test]
    fn replicas_stay_away_from_their_primarys_host() {
        let (primaries, replicas) = (hosts(&[1, 2, 3]), hosts(&[1, 2, 3]));
        let of = assign_replicas(&primaries, &replicas);
        assert!((0..3).all(|ix| primaries[of[ix]] != replicas[ix]), "{of:?}");
    }

    proptest! {
        #[test]
        fn ranges_are_even_and_cover_every_slot_once(count in 1usize..2000) {
            let ranges = even_ranges(count);
            prop_assert_eq!(ranges.len(), count);
            prop_assert_eq!(SlotRange::cover(ranges.iter().flat_map(|range| range.slots())).len(), 1);
            prop_assert_eq!(ranges.iter().map(|range| range.count()).sum::<usize>(), SLOTS);
            let sizes = ranges.iter().map(|range| range.count());
            prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
        }

        #[test]
        fn every_primary_gets_its_share_of_replicas(
            primaries in proptest::collection::vec(0u8..4, 1..6), replicas in proptest::collection::vec(0u8..4, 0..12),
        ) {
            let of = assign_replicas(&hosts(&primaries), &hosts(&replicas));
            for primary in 0..primaries.len() {
                let has = of.iter().filter(|of| **of == primary).count();
                prop_assert!(has >= replicas.len() / primaries.len() && has <= replicas.len().div_ceil(primaries.len()));
            }
        }
    }
}
