//! A model of a StatefulSet and the nodes in its pods, for the tests of wishes.

use super::{Case, Next, next};
use crate::control::action::{Action, Party};
use crate::control::edit::Edit;
use crate::control::observe::{ClusterInfo, NodeInfo, Role, parse_nodes};
use crate::control::plan::rebalance::{Holder, rebalance};
use crate::control::pods::{Pod, Pods, Size, StatefulSet};
use crate::control::view::{NodeView, Observation, View};
use crate::topology::{NodeId, SlotRange};
use std::net::SocketAddr;

pub fn id(n: usize) -> NodeId {
    format!("{n:040x}").parse().unwrap()
}

pub fn number(id: NodeId) -> usize {
    usize::from_str_radix(id.as_str(), 16).unwrap()
}

#[derive(Clone, Debug)]
pub struct Node {
    pub id: usize,
    pub is_member: bool,
    pub slots: Vec<SlotRange>,
    pub primary: Option<usize>,
}

/// What sits in one place of the StatefulSet; `node` is on its volume and stays when the pod goes.
#[derive(Clone, Debug)]
pub struct Place {
    pub pod: Option<Pod>,
    pub node: Node,
}

#[derive(Clone, Debug)]
pub struct World {
    pub places: Vec<Place>,
    pub set: StatefulSet,
    /// So many pods were made so far.
    pub made: usize,
    /// What was done, in words.
    pub done: Vec<String>,
}

impl World {
    /// Three primaries, a replica each, in pods `redis-0` to `redis-5` on as many machines.
    pub fn new() -> World {
        let slots = [(0, 5460), (5461, 10922), (10923, 16383)];
        let set = StatefulSet {
            name: "redis".into(),
            replicas: 6,
            update_revision: Some("v1".into()),
            is_rolling: true,
            ..StatefulSet::default()
        };
        let mut world = World { places: Vec::new(), set, made: 0, done: Vec::new() };
        for n in 0..6 {
            let slots =
                slots.get(n).map(|(start, end)| SlotRange::new(*start, *end).unwrap()).into_iter().collect();
            let primary = n.checked_sub(3);
            world.places.push(Place { pod: None, node: Node { id: n, is_member: true, slots, primary } });
            world.make(n);
        }
        world
    }

    /// The kubelet starts a pod.
    pub fn make(&mut self, n: usize) {
        self.made += 1;
        self.places[n].pod = Some(Pod {
            name: format!("redis-{n}"),
            uid: format!("uid-{}", self.made),
            ordinal: n as u32,
            addr: Some(SocketAddr::from(([10, 0, 0, n as u8], 6379))),
            host: Some(format!("n{n}")),
            is_ready: true,
            is_running: true,
            revision: self.set.update_revision.clone(),
            ..Pod::default()
        });
    }

    pub fn pod(&mut self, n: usize) -> &mut Pod {
        self.places[n].pod.as_mut().unwrap()
    }

    /// Kubernetes makes all pods that should be there.
    pub fn make_all(&mut self) {
        for n in 0..self.set.replicas as usize {
            if n == self.places.len() {
                let node = Node { id: 100 + self.made, is_member: false, slots: Vec::new(), primary: None };
                self.places.push(Place { pod: None, node });
            }
            if self.places[n].pod.is_none() {
                self.make(n);
            }
        }
        self.places.iter_mut().skip(self.set.replicas as usize).for_each(|place| place.pod = None);
    }

    pub fn node(&mut self, id: usize) -> &mut Node {
        self.places.iter_mut().map(|place| &mut place.node).find(|node| node.id == id).unwrap()
    }

    fn answers(&self) -> (Vec<Observation>, Vec<Observation>) {
        let there: Vec<&Place> =
            self.places.iter().filter(|p| p.pod.as_ref().is_some_and(|pod| pod.is_running)).collect();
        let seen = |place: &&Place| {
            let asked = place.pod.as_ref().unwrap().addr.unwrap();
            let knows = |other: &&&Place| {
                other.node.id == place.node.id || (place.node.is_member && other.node.is_member)
            };
            let lines = there.iter().filter(knows).map(|other| {
                let Node { id: n, slots, primary, .. } = &other.node;
                let addr = other.pod.as_ref().unwrap().addr.unwrap();
                let own = if *n == place.node.id { "myself," } else { "" };
                let role = if primary.is_some() { "slave" } else { "master" };
                let primary = primary.map_or("-".into(), |n| id(n).to_string());
                let slots: Vec<String> = slots.iter().map(ToString::to_string).collect();
                let slots = slots.join(" ");
                format!("{} {addr}@16379 {own}{role} {primary} 0 0 {n} connected {slots}\n", id(*n))
            });
            let lines = parse_nodes(&lines.collect::<String>()).unwrap();
            let role = match place.node.primary {
                None => Role::Primary,
                Some(_) => {
                    Role::Replica { primary_host: "10.0.0.1".into(), primary_port: 6379, is_link_up: true }
                }
            };
            let cluster = ClusterInfo { is_ok: true, ..ClusterInfo::default() };
            let info = NodeInfo { is_cluster: true, role, ..NodeInfo::default() };
            Observation { view: NodeView::new(asked, cluster, lines).unwrap(), info }
        };
        let (members, others): (Vec<&&Place>, Vec<_>) = there.iter().partition(|place| place.node.is_member);
        (members.into_iter().map(seen).collect(), others.into_iter().map(seen).collect())
    }

    pub fn next(&self) -> Next {
        let (nodes, newcomers) = self.answers();
        let view = View { nodes, silent: Vec::new(), strays: Vec::new() };
        // Who is in no cluster is not ready.
        let seen = |place: &Place| {
            let pod = place.pod.clone()?;
            Some(Pod { is_ready: pod.is_ready && place.node.is_member, ..pod })
        };
        let pods = self.places.iter().filter_map(seen).collect();
        let pods = Pods { pods, set: Some(self.set.clone()) };
        let is_member_away = self.places.iter().any(|p| {
            p.node.is_member && p.pod.as_ref().is_none_or(|pod| !pod.is_running) && !p.node.slots.is_empty()
        });
        let wrong = is_member_away.then_some("a primary is away");
        let newcomers = newcomers.as_slice();
        next(Case { pods: &pods, view: &view, newcomers, strangers: &[], has_open_slots: false, wrong })
    }

    /// What Kubernetes and nodes make of it.
    pub fn apply(&mut self, next: &Next) {
        match next {
            Next::Edit(edit) => self.edit(edit),
            Next::Act { actions, .. } => actions.iter().for_each(|action| self.act(action)),
            Next::Move { to } => self.move_slots(&to.iter().map(|id| number(*id)).collect::<Vec<_>>()),
            Next::Remove(node) => {
                self.done.push(format!("remove {}", number(node.id)));
                assert!(!self.places.iter().any(|place| place.node.primary == Some(number(node.id))));
                let new = 1000 + number(node.id);
                let node = self.node(number(node.id));
                assert!(node.slots.is_empty() && node.is_member);
                *node = Node { id: new, is_member: false, slots: Vec::new(), primary: None };
            }
            Next::Nothing | Next::Wait { .. } => panic!("nothing to be done: {next:?}"),
        }
    }

    fn edit(&mut self, edit: &Edit) {
        self.done.push(edit.kind().to_string());
        let progress = &mut self.set.progress;
        match edit {
            Edit::BeginRestart { wish } => {
                progress.stamp = Some(wish.clone());
                progress.kept_strategy.get_or_insert("{}".into());
                self.set.is_rolling = false;
                self.set.update_revision = Some(format!("restart-{wish}"));
            }
            Edit::EndRestart => {
                progress.kept_strategy = None;
                self.set.is_rolling = true;
            }
            Edit::DeletePod { name, uid } => {
                let n: usize = name.strip_prefix("redis-").unwrap().parse().unwrap();
                assert_eq!(&self.pod(n).uid, uid);
                assert!(self.places[n].node.slots.is_empty(), "{name} owns slots");
                let others = self.places.iter().enumerate().filter(|(ix, _)| *ix != n);
                assert!(
                    others.filter_map(|(_, place)| place.pod.as_ref()).all(Pod::is_whole),
                    "two are away"
                );
                *self.done.last_mut().unwrap() = name.clone();
                self.places[n].pod = None;
            }
            Edit::BeginScaling { size, raise_to } => {
                progress.scaling = Some(*size);
                self.set.replicas = self.set.replicas.max(raise_to.unwrap_or_default());
            }
            Edit::EndScaling { size } => {
                (progress.scaling, progress.scaled) = (None, Some(*size));
                self.set.replicas = size.pods();
            }
            Edit::WishRestart(_) | Edit::WishSize(_) => panic!("wishes are the operator's: {edit}"),
        }
    }

    fn act(&mut self, action: &Action) {
        let teller = number(action.node().id);
        self.done.push(format!("{} {teller}", action.kind()));
        match action {
            Action::Failover { primary, .. } => {
                let old = number(primary.id);
                let slots = std::mem::take(&mut self.node(old).slots);
                assert_eq!(self.node(teller).primary, Some(old));
                self.node(teller).slots = slots;
                self.places.iter_mut().map(|place| &mut place.node).for_each(|node| {
                    if node.primary == Some(old) || node.id == old {
                        node.primary = Some(teller);
                    }
                });
                self.node(teller).primary = None;
            }
            Action::Meet { other, .. } => self.node(number(other.id)).is_member = true,
            Action::Replicate { primary, .. } => {
                assert!(self.node(teller).slots.is_empty(), "{teller} owns slots");
                let primary = number(primary.id);
                assert_eq!(self.node(primary).primary, None, "a replica of a replica");
                self.node(teller).primary = Some(primary);
            }
            other => panic!("no action of this model: {other}"),
        }
    }

    /// What is drained follows the new owner, as servers have it by default.
    fn move_slots(&mut self, to: &[usize]) {
        self.done.push("move".into());
        let had: Vec<usize> = self.owners();
        let party = |n: usize| Party { id: id(n), addr: SocketAddr::from(([10, 0, 0, 0], 1)) };
        let primaries = self.places.iter().map(|place| &place.node).filter(|node| node.primary.is_none());
        let holders: Vec<Holder> = primaries
            .map(|node| {
                let weight = u32::from(to.contains(&node.id));
                Holder { node: party(node.id), slots: node.slots.clone(), weight }
            })
            .collect();
        for step in rebalance(&holders, 0).unwrap() {
            let moved: Vec<_> = step.ranges.iter().flat_map(|range| range.slots()).collect();
            let (source, target) = (number(step.source.id), number(step.target.id));
            let left = self.node(source).slots.iter().flat_map(|range| range.slots());
            let left = left.filter(|slot| !moved.contains(slot)).collect::<Vec<_>>();
            self.node(source).slots = SlotRange::cover(left);
            let mut has: Vec<_> = self.node(target).slots.iter().flat_map(|range| range.slots()).collect();
            has.extend(moved);
            has.sort_unstable();
            self.node(target).slots = SlotRange::cover(has);
        }
        let new_owner = to[0];
        let now = self.owners();
        for old in had.into_iter().filter(|n| !now.contains(n)) {
            for node in self.places.iter_mut().map(|place| &mut place.node) {
                if node.id == old || node.primary == Some(old) {
                    node.primary = Some(new_owner);
                }
            }
        }
    }

    pub fn owners(&self) -> Vec<usize> {
        let owners = self.places.iter().filter(|place| !place.node.slots.is_empty());
        owners.map(|place| place.node.id).collect()
    }

    pub fn wish_size(&mut self, size: Size) {
        (self.set.wishes.shards, self.set.wishes.replicas) = (Some(size.shards), Some(size.replicas));
    }
}
