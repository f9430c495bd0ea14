//! Plans of small clusters, and nodes that must be refused. `model` carries actions out on views.

use super::*;
use crate::control::observe::{ClusterInfo, NodeInfo, parse_nodes};
use crate::control::view::NodeView;
use proptest::prelude::*;

fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7000 + n as u16))
}

fn id(n: usize) -> NodeId {
    format!("{n:040x}").parse().unwrap()
}

/// A node's own state, from which its view is written.
#[derive(Clone, Debug, Default)]
struct Model {
    epoch: u64,
    slots: Vec<SlotRange>,
    primary: Option<usize>,
    knows: HashSet<usize>,
    keys: u64,
}

fn observe(models: &[Model]) -> View {
    let observation = |me: usize| {
        let line = |n: usize| {
            let model = &models[n];
            let own = if n == me { "myself," } else { "" };
            let (role, primary) = match model.primary {
                Some(primary) => ("slave", id(primary).to_string()),
                None => ("master", "-".into()),
            };
            let slots = join(&model.slots, " ");
            let port = addr(n).port();
            format!(
                "{} 127.0.0.1:{port}@{} {own}{role} {primary} 0 0 {} connected {slots}\n",
                id(n),
                port + 10000,
                model.epoch
            )
        };
        let text: String =
            (0..models.len()).filter(|n| *n == me || models[me].knows.contains(n)).map(line).collect();
        let view = NodeView::new(addr(me), ClusterInfo::default(), parse_nodes(&text).unwrap()).unwrap();
        Observation {
            view,
            info: NodeInfo { keys: models[me].keys, is_cluster: true, ..NodeInfo::default() },
        }
    };
    View { nodes: (0..models.len()).map(observation).collect(), ..View::default() }
}

/// What an action does to real nodes.
fn apply(models: &mut [Model], action: &Action) {
    let place = |party: &Party| usize::from(party.addr.port() - 7000);
    match action {
        Action::SetConfigEpoch { node, epoch } => models[place(node)].epoch = *epoch,
        Action::AddSlots { node, ranges } => {
            let slots = &mut models[place(node)].slots;
            let mut all: Vec<_> = slots.iter().chain(ranges).flat_map(|range| range.slots()).collect();
            all.sort_unstable();
            *slots = SlotRange::cover(all);
        }
        Action::Meet { node, other, .. } => {
            let (one, two) = (place(node), place(other));
            let mut all = &models[one].knows | &models[two].knows;
            all.extend([one, two]);
            // Gossip tells everyone of everyone.
            for member in all.clone() {
                models[member].knows = all.clone();
            }
        }
        Action::Replicate { node, primary } => models[place(node)].primary = Some(place(primary)),
        other => panic!("forming a cluster never does this: {other}"),
    }
}

fn plan(models: &[Model], replicas: usize) -> Plan {
    match form(&observe(models), replicas) {
        Ok(Formation::Needed(plan)) => plan,
        other => panic!("{other:?}"),
    }
}

fn formed(count: usize, replicas: usize) -> Vec<Model> {
    let mut models = vec![Model::default(); count];
    for action in plan(&models, replicas).actions {
        apply(&mut models, &action);
    }
    models
}

#[test]
fn six_lone_nodes_become_the_cluster_of_the_tutorial() {
    let shown: Vec<String> =
        plan(&vec![Model::default(); 6], 1).actions.iter().map(ToString::to_string).collect();
    let expected = [
        "set config epoch 1 on 127.0.0.1:7000",
        "set config epoch 2 on 127.0.0.1:7001",
        "set config epoch 3 on 127.0.0.1:7002",
        "set config epoch 4 on 127.0.0.1:7003",
        "set config epoch 5 on 127.0.0.1:7004",
        "set config epoch 6 on 127.0.0.1:7005",
        "give slots 0-5460 to 127.0.0.1:7000",
        "give slots 5461-10922 to 127.0.0.1:7001",
        "give slots 10923-16383 to 127.0.0.1:7002",
        "let 127.0.0.1:7000 meet 127.0.0.1:7001",
        "let 127.0.0.1:7000 meet 127.0.0.1:7002",
        "let 127.0.0.1:7000 meet 127.0.0.1:7003",
        "let 127.0.0.1:7000 meet 127.0.0.1:7004",
        "let 127.0.0.1:7000 meet 127.0.0.1:7005",
        "make 127.0.0.1:7003 a replica of 127.0.0.1:7000",
        "make 127.0.0.1:7004 a replica of 127.0.0.1:7001",
        "make 127.0.0.1:7005 a replica of 127.0.0.1:7002",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_finished_cluster_needs_no_action_even_with_keys() {
    let mut models = formed(6, 1);
    models[0].keys = 10;
    models[3].keys = 10;
    assert_eq!(plan(&models, 1).actions, []);
}

#[test]
fn a_cluster_that_changed_roles_since_is_still_formed() {
    let mut models = formed(6, 1);
    models[3].slots = std::mem::take(&mut models[0].slots);
    models[3].primary = None;
    models[0].primary = Some(3);
    assert_eq!(form(&observe(&models), 1), Ok(Formation::Formed));
}

#[test]
fn too_few_nodes_are_refused_with_the_number_needed() {
    let error = form(&observe(&vec![Model::default(); 5]), 1).unwrap_err();
    assert_eq!(error, Refusal::TooFew { nodes: 5, replicas: 1, primaries: 2, needed: 6 });
    assert!(form(&observe(&vec![Model::default(); 3]), 0).is_ok());
}

#[test]
fn a_node_with_keys_is_refused_by_name() {
    let mut models = vec![Model::default(); 6];
    models[4].keys = 3;
    assert_eq!(form(&observe(&models), 1), Err(Refusal::Keys { addr: addr(4), keys: 3 }));
}

#[test]
fn a_node_of_another_cluster_is_refused_by_name() {
    let mut models = vec![Model::default(); 7];
    models[2].knows = HashSet::from([2, 6]);
    let mut view = observe(&models);
    view.nodes.pop();
    let refusal = form(&view, 1).unwrap_err();
    assert_eq!(refusal, Refusal::Foreign { addr: addr(2), others: addr(6).to_string(), count: 1 });
}

#[test]
fn another_order_than_in_the_run_that_was_cut_short_is_refused() {
    let mut models = vec![Model::default(); 6];
    for action in &plan(&models, 1).actions[..7] {
        apply(&mut models, action);
    }
    models.swap(0, 1);
    let refusal = form(&observe(&models), 1).unwrap_err();
    assert!(matches!(refusal, Refusal::OtherPart { addr, .. } if addr == self::addr(1)), "{refusal}");
    assert!(refusal.to_string().contains("owns the slots 0-5460"));
}

#[test]
fn one_node_under_two_addresses_is_refused() {
    let mut view = observe(&vec![Model::default(); 6]);
    view.nodes[5] = view.nodes[0].clone();
    view.nodes[5].view.asked = addr(9);
    assert_eq!(form(&view, 1), Err(Refusal::Twice(addr(0), addr(9))));
}

#[test]
fn a_first_contact_under_way_with_a_named_node_is_ours() {
    let mut view = observe(&vec![Model::default(); 6]);
    let text = format!(
        "{} 127.0.0.1:7000@17000 myself,master - 0 0 1 connected\n{} 127.0.0.1:7004@17004 handshake - 0 0 0 connected\n",
        id(0),
        id(99)
    );
    view.nodes[0].view = NodeView::new(addr(0), ClusterInfo::default(), parse_nodes(&text).unwrap()).unwrap();
    assert!(form(&view, 1).is_ok());
}

proptest! {
    #[test]
    fn a_plan_cut_short_anywhere_is_finished_by_the_next(
        replicas in 0usize..3, extra in 0usize..5, cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let count = 3 * (replicas + 1) + extra;
        let mut models = vec![Model::default(); count];
        for cut in cuts {
            let actions = plan(&models, replicas).actions;
            for action in &actions[..cut.index(actions.len() + 1)] {
                apply(&mut models, action);
            }
        }
        for action in plan(&models, replicas).actions {
            apply(&mut models, &action);
        }
        prop_assert_eq!(plan(&models, replicas).actions, []);
        let owned: usize = models.iter().flat_map(|model| &model.slots).map(|range| range.count()).sum();
        prop_assert_eq!(owned, SLOTS);
        prop_assert!(models.iter().all(|model| model.knows.len() == count));
        let mut epochs: Vec<u64> = models.iter().map(|model| model.epoch).collect();
        epochs.dedup();
        prop_assert_eq!(epochs.len(), count);
    }
}
