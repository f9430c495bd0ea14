//! Who may leave small clusters, and what it takes.

use super::*;
use crate::control::observe::{ClusterInfo, NodeInfo, parse_nodes};
use crate::control::problem::problems;
use crate::control::view::NodeView;
use proptest::prelude::*;

/// A node `n` is on host 127.0.0.`host`.
#[derive(Clone, Copy)]
struct Member {
    n: u8,
    host: u8,
    primary: Option<u8>,
    slots: Option<(u16, u16)>,
}

const fn owner(n: u8, host: u8, first: u16, last: u16) -> Member {
    Member { n, host, primary: None, slots: Some((first, last)) }
}

const fn replica(n: u8, host: u8, of: u8) -> Member {
    Member { n, host, primary: Some(of), slots: None }
}

/// Four shards on four hosts, each replica on the next one.
const FOUR: [Member; 8] = [
    owner(1, 1, 0, 4095),
    owner(2, 2, 4096, 8191),
    owner(3, 3, 8192, 12287),
    owner(4, 4, 12288, 16383),
    replica(5, 2, 1),
    replica(6, 3, 2),
    replica(7, 4, 3),
    replica(8, 1, 4),
];

fn id(n: u8) -> NodeId {
    format!("{n:040x}").parse().unwrap()
}

fn addr(member: &Member) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, member.host], 7000 + u16::from(member.n)))
}

fn line(member: &Member, flag: &str) -> String {
    let (role, primary) = match member.primary {
        None => ("master", "-".to_string()),
        Some(primary) => ("slave", id(primary).to_string()),
    };
    let slots = member.slots.map(|(first, last)| format!(" {first}-{last}")).unwrap_or_default();
    let (addr, port) = (addr(member), addr(member).port() + 10000);
    format!("{} {addr}@{port} {flag}{role} {primary} 0 0 {} connected{slots}\n", id(member.n), member.n)
}

/// What node `me` sees of these members, of which it holds `failed` for failed.
fn observation(me: &Member, members: &[Member], failed: &[u8], keys: u64) -> Observation {
    let flag = |member: &Member| match member.n {
        n if n == me.n => "myself,",
        n if failed.contains(&n) => "fail,",
        _ => "",
    };
    let text: String = members.iter().map(|member| line(member, flag(member))).collect();
    let cluster = ClusterInfo { is_ok: true, known_nodes: members.len(), current_epoch: 9 };
    let view = NodeView::new(addr(me), cluster, parse_nodes(&text).unwrap()).unwrap();
    let role = match me.primary {
        None => Role::Primary,
        Some(_) => Role::Replica { primary_host: "127.0.0.1".into(), primary_port: 7000, is_link_up: true },
    };
    Observation { view, info: NodeInfo { keys, role, ..NodeInfo::default() } }
}

/// All members that answer, of which those in `silent` do not and are held for failed.
fn view(members: &[Member], silent: &[u8]) -> View {
    let answering = members.iter().filter(|member| !silent.contains(&member.n));
    let nodes = answering.map(|member| observation(member, members, silent, 0)).collect();
    View { nodes, ..View::default() }
}

fn removal(view: &View, n: u8, allowed: Allowed) -> Result<Plan, Refusal> {
    let hindrances = match crate::control::migrate::ready_holders(view) {
        Err(crate::control::migrate::JourneyError::NotInOrder(problems)) => problems,
        _ => Vec::new(),
    };
    plan(view, id(n), &hindrances, allowed)
}

fn shown(plan: &Plan) -> Vec<String> {
    plan.stages.iter().map(ToString::to_string).collect()
}

const NOTHING: Allowed = Allowed { no_replica: false, few_primaries: false };
const ALL: Allowed = Allowed { no_replica: true, few_primaries: true };

#[test]
fn a_primary_gives_away_its_slots_and_its_replica_before_it_is_forgotten() {
    let planned = removal(&view(&FOUR, &[]), 4, NOTHING).unwrap();
    // 127.0.0.1 is the replica's own host; of the others all have one replica.
    let expected = [
        "move all 4096 slots of 127.0.0.4:7004 to 3 other primaries",
        "make 127.0.0.1:7008 a replica of 127.0.0.2:7002",
        "let 7 nodes forget 00000000",
        "reset and empty 127.0.0.4:7004",
    ];
    assert_eq!(shown(&planned), expected);
    assert_eq!(planned.warnings, [""; 0]);
}

#[test]
fn a_replica_goes_to_the_primary_with_the_fewest_of_those_on_other_hosts() {
    let mut members = FOUR.to_vec();
    members.push(replica(9, 4, 2));
    let planned = removal(&view(&members, &[]), 4, NOTHING).unwrap();
    assert!(shown(&planned).contains(&"make 127.0.0.1:7008 a replica of 127.0.0.3:7003".to_string()));
    // Two of them do not go to one.
    let members = [&FOUR[..], &[replica(9, 5, 4)]].concat();
    let planned = removal(&view(&members, &[]), 4, NOTHING).unwrap();
    let hand_ons: Vec<String> = shown(&planned).into_iter().filter(|step| step.starts_with("make")).collect();
    let expected = [
        "make 127.0.0.1:7008 a replica of 127.0.0.2:7002",
        "make 127.0.0.5:7009 a replica of 127.0.0.1:7001",
    ];
    assert_eq!(hand_ons, expected);
}

#[test]
fn a_removal_that_was_cut_short_gives_everyone_as_much_as_one_that_was_not() {
    let mut members = FOUR;
    // All that was moved so far went to one.
    members[0].slots = Some((0, 5000));
    members[1].slots = Some((5001, 8191));
    members[3].slots = Some((13000, 16383));
    members[2].slots = Some((8192, 12999));
    let planned = removal(&view(&members, &[]), 4, NOTHING).unwrap();
    let Stage::Drain(moves) = &planned.stages[0] else { panic!("{planned:?}") };
    let gets = |n: u8| moves.iter().filter(|step| step.target.id == id(n)).map(Move::count).sum::<usize>();
    assert_eq!([gets(1) + 5001, gets(2) + 3191, gets(3) + 4808].map(|count| count / 10), [546; 3]);
}

#[test]
fn two_primaries_or_none_are_left_with_permission_only() {
    let members = [owner(1, 1, 0, 5460), owner(2, 2, 5461, 10922), owner(3, 3, 10923, 16383)];
    let seen = view(&members, &[]);
    assert_eq!(removal(&seen, 1, NOTHING), Err(Refusal::FewPrimaries { left: 2 }));
    assert!(removal(&seen, 1, ALL).is_ok());
    let last = [owner(1, 1, 0, 16383)];
    assert_eq!(removal(&view(&last, &[]), 1, ALL), Err(Refusal::NobodyElse(addr(&last[0]))));
    // One without slots votes for nobody.
    let spare = Member { n: 4, host: 4, primary: None, slots: None };
    let planned = removal(&view(&[&members[..], &[spare]].concat(), &[]), 4, NOTHING).unwrap();
    assert_eq!(shown(&planned), ["let 3 nodes forget 00000000", "reset and empty 127.0.0.4:7004"]);
}

#[test]
fn the_last_replica_goes_with_permission_only() {
    let refused = removal(&view(&FOUR, &[]), 8, NOTHING);
    assert_eq!(refused, Err(Refusal::LastReplica { replica: addr(&FOUR[7]), primary: addr(&FOUR[3]) }));
    assert_eq!(removal(&view(&FOUR, &[]), 8, ALL).unwrap().warnings.len(), 1);
    let two = [&FOUR[..], &[replica(9, 3, 4)]].concat();
    let mut seen = view(&two, &[]);
    assert_eq!(removal(&seen, 8, NOTHING).unwrap().warnings, [""; 0]);
    // One that follows from afar is no copy.
    let Role::Replica { is_link_up, .. } = &mut seen.nodes[8].info.role else { panic!("a replica") };
    *is_link_up = false;
    assert!(matches!(removal(&seen, 8, NOTHING), Err(Refusal::LastReplica { .. })));
}

#[test]
fn a_replica_whose_primary_is_lost_stays() {
    let mut seen = view(&FOUR, &[4]);
    assert!(matches!(removal(&seen, 8, ALL), Err(Refusal::SilentMember(_))));
    seen.nodes.retain(|node| node.view.id() == id(8));
    // Nobody else is there to be asked whether it is still known.
    assert!(matches!(removal(&seen, 8, ALL), Err(Refusal::SilentMember(_))));
}

#[test]
fn the_dead_are_forgotten_when_they_own_nothing() {
    let planned = removal(&view(&FOUR, &[8]), 8, NOTHING).unwrap();
    assert_eq!(shown(&planned), ["let 7 nodes forget 00000000"]);
    assert!(planned.warnings[0].contains("cannot be reset"), "{:?}", planned.warnings);
    let owner = removal(&view(&FOUR, &[4]), 4, ALL);
    assert!(matches!(&owner, Err(Refusal::DeadOwner { slots, .. }) if slots.len() == 1), "{owner:?}");
    // Two of them, one after the other.
    let planned = removal(&view(&FOUR, &[7, 8]), 8, NOTHING).unwrap();
    assert!(planned.warnings[0].contains("127.0.0.4:7007"), "{:?}", planned.warnings);
}

#[test]
fn a_silent_member_that_may_be_alive_keeps_all_others() {
    let mut seen = view(&FOUR, &[]);
    seen.nodes.retain(|node| node.view.id() != id(7));
    assert!(matches!(removal(&seen, 4, ALL), Err(Refusal::SilentMember(_) | Refusal::NotInOrder(_))));
    let spare = [&FOUR[..], &[replica(9, 3, 4)]].concat();
    let mut seen = view(&spare, &[]);
    seen.nodes.retain(|node| node.view.id() != id(7));
    assert!(matches!(removal(&seen, 9, ALL), Err(Refusal::SilentMember(name)) if name.contains(":7007")));
}

#[test]
fn who_was_forgotten_by_some_or_all_is_forgotten_by_the_others_and_reset() {
    let leaver = replica(9, 3, 4);
    let all = [&FOUR[..], &[leaver]].concat();
    let sees = |member: &Member, knows: bool| observation(member, if knows { &all } else { &FOUR }, &[], 0);
    let mut nodes: Vec<Observation> = FOUR.iter().map(|member| sees(member, member.n > 6)).collect();
    nodes.push(observation(&leaver, &all, &[], 70));
    let planned = removal(&View { nodes: nodes.clone(), ..View::default() }, 9, NOTHING).unwrap();
    assert_eq!(shown(&planned), ["let 2 nodes forget 00000000", "reset and empty 127.0.0.3:7009"]);
    for (node, member) in nodes.iter_mut().zip(&FOUR) {
        *node = sees(member, false);
    }
    let seen = View { nodes: nodes.clone(), ..View::default() };
    assert!(!problems(&seen, None).is_empty());
    let planned = removal(&seen, 9, NOTHING).unwrap();
    assert_eq!(shown(&planned), ["reset and empty 127.0.0.3:7009"]);
    // The copy of a primary that is gone.
    nodes[8] = observation(&replica(9, 3, 77), &[replica(9, 3, 77)], &[], 70);
    let seen = View { nodes, ..View::default() };
    assert_eq!(removal(&seen, 9, NOTHING), Err(Refusal::LostPrimary(addr(&leaver))));
    assert!(removal(&seen, 9, ALL).is_ok());
}

#[test]
fn keys_that_nobody_else_has_keep_a_primary_without_slots() {
    let spare = Member { n: 9, host: 4, primary: None, slots: None };
    let all = [&FOUR[..], &[spare]].concat();
    let mut seen = view(&all, &[]);
    seen.nodes[8] = observation(&spare, &all, &[], 3);
    assert_eq!(removal(&seen, 9, ALL), Err(Refusal::Keys { addr: addr(&spare), keys: 3 }));
}

proptest! {
    #[test]
    fn a_drained_node_owns_nothing_and_nobody_else_gives_anything(
        cuts in proptest::collection::btree_set(1u16..16384, 3..8), leaver in 0usize..4,
    ) {
        let bounds: Vec<u16> = [0].into_iter().chain(cuts).collect();
        let members: Vec<Member> = bounds
            .iter()
            .enumerate()
            .map(|(ix, first)| {
                let last = bounds.get(ix + 1).map_or(16383, |next| next - 1);
                owner(ix as u8 + 1, ix as u8 + 1, *first, last)
            })
            .collect();
        let planned = removal(&view(&members, &[]), members[leaver].n, ALL).unwrap();
        let Stage::Drain(moves) = &planned.stages[0] else { panic!("{planned:?}") };
        let (first, last) = members[leaver].slots.unwrap();
        prop_assert!(moves.iter().all(|step| step.source.id == id(members[leaver].n)));
        let mut moved: Vec<_> = moves.iter().flat_map(|step| step.ranges.iter().flat_map(|range| range.slots())).collect();
        moved.sort_unstable();
        prop_assert_eq!(SlotRange::cover(moved), vec![SlotRange::new(first, last).unwrap()]);
    }
}
