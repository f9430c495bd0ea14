//! Which node gets which slots, and whom each replica follows. Pure.

use crate::control::view::Observation;
use crate::topology::{SLOTS, SlotRange};

/// Where a node is: what it is lost with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The machine's name, or the node's address where nobody named that: nodes of one address are on one host.
    pub host: String,
    /// `None` where nobody told it; then it is not known to be shared with anyone.
    pub zone: Option<String>,
}

/// What two nodes share: the later, the worse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Nearness {
    Apart,
    Zone,
    Host,
}

impl Place {
    pub fn of(node: &Observation) -> Place {
        let host = node.info.host.clone().unwrap_or_else(|| node.view.asked.ip().to_string());
        Place { host, zone: node.info.zone.clone() }
    }

    pub fn nearness(&self, other: &Place) -> Nearness {
        if self.host == other.host {
            Nearness::Host
        } else if self.zone.is_some() && self.zone == other.zone {
            Nearness::Zone
        } else {
            Nearness::Apart
        }
    }
}

/// Which `count` of these become primaries, in their order: the first ones, but for those whose zone or host
/// has more primaries than another's by then.
pub fn choose_primaries(places: &[Place], count: usize) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::with_capacity(count);
    for _ in 0..count.min(places.len()) {
        let rest = (0..places.len()).filter(|ix| !chosen.contains(ix));
        let sharing = |ix: usize, least| {
            chosen.iter().filter(|other| places[**other].nearness(&places[ix]) >= least).count()
        };
        chosen
            .extend(rest.min_by_key(|ix| (sharing(*ix, Nearness::Zone), sharing(*ix, Nearness::Host), *ix)));
    }
    chosen.sort_unstable();
    chosen
}

/// `count` ranges of all slots, as even as whole slots allow, cut where `redis-cli --cluster create`
/// cuts: 0-5460, 5461-10922, 10923-16383 for three. `count` must be 1 to 16384.
pub fn even_ranges(count: usize) -> Vec<SlotRange> {
    // The end of range i is (i + 1) * SLOTS / count, rounded to the nearest.
    let end = |ix: usize| ((ix * SLOTS * 2 + count) / (count * 2)) as u16;
    (0..count).filter_map(|ix| SlotRange::new(end(ix), end(ix + 1) - 1)).collect()
}

/// For each replica the place of its primary: in turn, then with pairs exchanged as long as that
/// takes more replicas away from their primary's host or zone, or from another replica of the same primary.
pub fn assign_replicas(primaries: &[Place], replicas: &[Place]) -> Vec<usize> {
    let mut of: Vec<usize> = (0..replicas.len()).map(|ix| ix % primaries.len()).collect();
    // Each exchange lowers the cost, so this ends; the number of steps is bounded by the cost.
    while let Some((one, other)) = better_exchange(primaries, replicas, &of) {
        of.swap(one, other);
    }
    of
}

/// How badly replica `ix` would stand with `primary`, if `but` did not count.
fn cost(
    primaries: &[Place],
    replicas: &[Place],
    of: &[usize],
    (ix, primary): (usize, usize),
    but: usize,
) -> usize {
    let weight = |one: &Place, other: &Place| one.nearness(other) as usize;
    let rivals = (0..replicas.len()).filter(|rival| *rival != ix && *rival != but && of[*rival] == primary);
    let crowd: usize = rivals.map(|rival| weight(&replicas[rival], &replicas[ix])).sum();
    // Losing a primary with its replica is worse than losing any number of replicas together.
    weight(&replicas[ix], &primaries[primary]) * 2 * replicas.len() + crowd
}

fn better_exchange(primaries: &[Place], replicas: &[Place], of: &[usize]) -> Option<(usize, usize)> {
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

    fn hosts(numbers: &[u8]) -> Vec<Place> {
        numbers.iter().map(|n| Place { host: format!("n{n}"), zone: None }).collect()
    }

    /// Hosts by their numbers, in the zones of these letters.
    fn zoned(places: &[(u8, &str)]) -> Vec<Place> {
        places.iter().map(|(n, zone)| Place { host: format!("n{n}"), zone: Some(zone.to_string()) }).collect()
    }

    #[test]
    fn the_first_nodes_become_primaries_unless_their_host_or_zone_has_more_than_another() {
        assert_eq!(choose_primaries(&hosts(&[1, 2, 3, 4, 5, 6]), 3), [0, 1, 2]);
        assert_eq!(choose_primaries(&hosts(&[1, 1, 1, 1, 1, 1]), 3), [0, 1, 2]);
        assert_eq!(choose_primaries(&hosts(&[1, 1, 2, 2, 3, 3]), 3), [0, 2, 4]);
        assert_eq!(choose_primaries(&hosts(&[1, 1, 1, 2, 2, 2]), 3), [0, 1, 3]);
        let places = zoned(&[(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "c")]);
        assert_eq!(choose_primaries(&places, 3), [0, 2, 4]);
    }

    #[test]
    fn replicas_stay_away_from_their_primarys_zone() {
        let primaries = zoned(&[(1, "a"), (2, "b"), (3, "c")]);
        let replicas = zoned(&[(4, "a"), (5, "b"), (6, "c")]);
        let of = assign_replicas(&primaries, &replicas);
        assert!((0..3).all(|ix| primaries[of[ix]].zone != replicas[ix].zone), "{of:?}");
        // Where zones cannot be kept apart, hosts are.
        let (primaries, replicas) = (zoned(&[(1, "a"), (2, "a")]), zoned(&[(1, "a"), (2, "a")]));
        assert_eq!(assign_replicas(&primaries, &replicas), [1, 0]);
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
        fn no_host_holds_a_majority_of_primaries_where_that_can_be_avoided(
            numbers in proptest::collection::vec(0u8..5, 3..14), share in 1usize..4,
        ) {
            let count = (numbers.len() / share).max(3);
            let places = hosts(&numbers);
            let chosen = choose_primaries(&places, count);
            prop_assert_eq!(chosen.len(), count);
            let on = |n: u8| numbers.iter().filter(|other| **other == n).count();
            let primaries_on = |n: u8| chosen.iter().filter(|ix| numbers[**ix] == n).count();
            for n in 0..5 {
                // It must hold what the others have no node for.
                let least = count.saturating_sub(numbers.len() - on(n));
                prop_assert!(primaries_on(n) * 2 <= count.max(least * 2) + 1, "{chosen:?}");
            }
        }

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
