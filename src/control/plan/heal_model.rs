//! A model of a cluster for the tests of healing: nodes that remember where they saw each other.

use super::*;
use crate::control::action::{Action, Party};
use crate::control::mark::GuardMark;
use crate::control::observe::{Answer, ClusterInfo, Facts, HealSettings, Link, NodeInfo, Role, parse_nodes};
use crate::control::plan::heal_guard::HASTY;
use crate::control::problem::join;
use crate::control::view::{NodeView, Observation};
use crate::topology::NodeId;
use std::time::Duration;

pub(super) const PRIMARIES: usize = 3;
pub(super) const NODE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn id(n: usize) -> NodeId {
    format!("{n:040x}").parse().unwrap()
}

pub(super) fn host(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 6379))
}

/// What one node has in mind.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) id: usize,
    pub(super) at: SocketAddr,
    pub(super) is_up: bool,
    /// It answers the manager nothing, and the other nodes all.
    pub(super) is_cut_off: bool,
    /// Its own address by its own word.
    pub(super) own: Option<SocketAddr>,
    /// The others as it knows them; `None`: noaddr.
    pub(super) others: Vec<(usize, Option<SocketAddr>)>,
    /// Whom it holds for failed, right or wrong.
    pub(super) accused: HashSet<usize>,
    pub(super) slots: String,
    pub(super) keys: u64,
    pub(super) uptime: Duration,
    pub(super) primary: Option<usize>,
    /// Where its replication dials.
    pub(super) dials: Option<SocketAddr>,
    pub(super) is_guarded: bool,
    pub(super) barrier: u64,
    pub(super) node_timeout: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) nodes: Vec<Model>,
    pub(super) memory: Memory,
    pub(super) now: Instant,
    pub(super) named: HashSet<SocketAddr>,
    pub(super) pods: Option<Pods>,
}

impl World {
    /// Three primaries, a replica each, in order.
    pub(super) fn new() -> World {
        let slots = ["0-5460", "5461-10922", "10923-16383", "", "", ""];
        let model = |n: usize| Model {
            id: n,
            at: host(n as u8),
            is_up: true,
            is_cut_off: false,
            own: Some(host(n as u8)),
            others: (0..6)
                .filter(|other| *other != n)
                .map(|other| (other, Some(host(other as u8))))
                .collect(),
            accused: HashSet::new(),
            slots: slots[n].into(),
            keys: 0,
            uptime: Duration::from_secs(1000),
            primary: (n >= PRIMARIES).then(|| n - PRIMARIES),
            dials: (n >= PRIMARIES).then(|| host((n - PRIMARIES) as u8)),
            is_guarded: false,
            barrier: 1,
            node_timeout: NODE_TIMEOUT,
        };
        World {
            nodes: (0..6).map(model).collect(),
            memory: Memory::default(),
            now: Instant::now(),
            named: HashSet::new(),
            pods: None,
        }
    }

    /// An empty node that knows nobody.
    pub(super) fn lone(n: usize, at: SocketAddr) -> Model {
        let empty = World::new().nodes[0].clone();
        Model {
            id: n,
            at,
            own: None,
            others: Vec::new(),
            slots: String::new(),
            primary: None,
            dials: None,
            ..empty
        }
    }

    pub(super) fn node(&self, n: usize) -> &Model {
        self.nodes.iter().find(|node| node.id == n).unwrap()
    }

    pub(super) fn node_mut(&mut self, n: usize) -> &mut Model {
        self.nodes.iter_mut().find(|node| node.id == n).unwrap()
    }

    pub(super) fn at(&self, addr: SocketAddr) -> Option<&Model> {
        self.nodes.iter().find(|node| node.is_up && node.at == addr)
    }

    /// Whether `viewer` is connected to `n`.
    pub(super) fn is_linked(&self, viewer: &Model, n: usize) -> bool {
        let addr = viewer.others.iter().find(|(other, _)| *other == n).and_then(|(_, addr)| *addr);
        addr.and_then(|addr| self.at(addr)).is_some_and(|node| node.id == n)
    }

    pub(super) fn is_link_up(&self, node: &Model) -> bool {
        node.dials.and_then(|addr| self.at(addr)).is_some_and(|found| Some(found.id) == node.primary)
    }

    pub(super) fn answer(&self, node: &Model) -> Answer {
        let line = |n: usize, addr: Option<SocketAddr>, own: bool| {
            let known = self.node(n);
            let mut flags = vec![if known.primary.is_some() { "slave" } else { "master" }];
            if own {
                flags.push("myself");
            }
            if addr.is_none() && !own {
                flags.push("noaddr");
            }
            if node.accused.contains(&n) {
                flags.push("fail");
            }
            if known.is_guarded && own {
                flags.push("nofailover");
            }
            let addr = addr.map_or(":0@0".into(), |addr| format!("{}:6379@16379", addr.ip()));
            let primary = known.primary.map_or("-".into(), |primary| id(primary).to_string());
            let link = if own || self.is_linked(node, n) { "connected" } else { "disconnected" };
            format!("{} {addr} {} {primary} 0 0 {} {link} {}\n", id(n), flags.join(","), n, known.slots)
        };
        let mut text = line(node.id, node.own, true);
        text.extend(node.others.iter().map(|(n, addr)| line(*n, *addr, false)));
        let is_ok = node.accused.iter().all(|n| self.node(*n).slots.is_empty());
        let cluster = ClusterInfo { is_ok, ..ClusterInfo::default() };
        let role = match node.dials {
            None => Role::Primary,
            Some(dials) => Role::Replica {
                primary_host: dials.ip().to_string(),
                primary_port: dials.port(),
                is_link_up: self.is_link_up(node),
            },
        };
        Answer {
            seen: Observation {
                view: NodeView::new(node.at, cluster, parse_nodes(&text).unwrap()).unwrap(),
                info: NodeInfo {
                    is_cluster: true,
                    role,
                    keys: node.keys,
                    uptime: node.uptime,
                    ..NodeInfo::default()
                },
            },
            facts: Facts {
                local: Some(node.at),
                settings: Some(HealSettings {
                    is_announced: false,
                    node_timeout: node.node_timeout,
                    migration_barrier: node.barrier,
                    delay_mark: None,
                }),
                link: Link { down_for: Some(Duration::ZERO), is_syncing: false, offset: 7 },
            },
        }
    }

    pub(super) fn look(&mut self) -> Survey {
        self.now += Duration::from_secs(1);
        let answering = self.nodes.iter().filter(|node| node.is_up && !node.is_cut_off);
        let answers = answering.map(|node| self.answer(node)).collect();
        let mut named = self.named.clone();
        named.extend(self.pods.iter().flat_map(Pods::addrs));
        let mut survey = Survey::new(answers, Vec::new(), self.memory.ours(), &named);
        if let Some(pods) = &self.pods {
            survey.locate(pods);
        }
        self.memory.learn(&survey, self.now);
        if let Some(pods) = &self.pods {
            self.memory.settle(&survey, pods);
        }
        survey
    }

    pub(super) fn plan(&mut self) -> Plan {
        let survey = self.look();
        let named: HashSet<SocketAddr> = self.pods.as_ref().map_or_else(|| self.named.clone(), Pods::addrs);
        let is_listed = self.pods.as_ref().map_or(!self.named.is_empty(), Pods::is_complete);
        let (memory, now, pods) = (&self.memory, self.now, self.pods.as_ref());
        heal(Case { survey: &survey, memory, now, listed: is_listed.then_some(&named), pods })
    }

    /// What a step does to real nodes, without the help of any gossip.
    pub(super) fn apply(&mut self, step: &Step) {
        let place = |party: &Party| usize::from_str_radix(party.id.as_str(), 16).unwrap();
        let teller = place(&step.action.node());
        match &step.action {
            Action::Meet { other, .. } => {
                let met = self.at(other.addr).map(|node| node.id);
                assert_eq!(met, Some(place(other)), "met somebody else");
                assert!(place(other) < 10, "met a stranger");
                if step.reason == "newcomer" {
                    self.memory.invite(other.id);
                    self.join(place(other));
                    return;
                }
                if step.reason == "first-start" {
                    self.acquaint(teller, place(other));
                    return;
                }
                let node = self.node_mut(teller);
                node.accused.remove(&place(other));
                node.others.retain(|(n, _)| *n != place(other));
                node.others.push((place(other), Some(other.addr)));
                self.node_mut(place(other)).own = Some(other.addr);
            }
            Action::Guard { .. } => {
                let node = self.node_mut(teller);
                let mark = GuardMark { node_timeout: node.node_timeout, barrier: node.barrier };
                (node.is_guarded, node.barrier) = (true, mark.write().unwrap());
            }
            Action::Hasten { .. } => {
                let node = self.node_mut(teller);
                assert!(node.is_guarded && GuardMark::read(node.barrier).is_some(), "{node:?}");
                node.node_timeout = HASTY;
            }
            Action::Unguard { .. } => {
                let node = self.node_mut(teller);
                let mark = GuardMark::read(node.barrier).unwrap();
                (node.is_guarded, node.barrier) = (false, mark.barrier);
                node.node_timeout = mark.node_timeout;
            }
            Action::Relink { primary, .. } | Action::Replicate { primary, .. } => {
                let known = self.node(teller).others.iter().find(|(n, _)| *n == place(primary));
                let addr = known.unwrap().1;
                let node = self.node_mut(teller);
                (node.primary, node.dials) = (Some(place(primary)), addr);
                self.memory.relinked(id(teller), self.now);
            }
            Action::Elect { primary, .. } => {
                let lost = usize::from_str_radix(primary.as_str(), 16).unwrap();
                let slots = std::mem::take(&mut self.node_mut(lost).slots);
                let node = self.node_mut(teller);
                (node.slots, node.primary, node.dials) = (slots, None, None);
            }
            Action::Failover { primary, .. } | Action::Rescue { primary, .. } => {
                let slots = std::mem::take(&mut self.node_mut(place(primary)).slots);
                let addr = self.node(teller).at;
                let node = self.node_mut(teller);
                (node.slots, node.primary, node.dials) = (slots, None, None);
                let old = self.node_mut(place(primary));
                (old.primary, old.dials) = (Some(teller), Some(addr));
            }
            Action::Forget { leaver, .. } => {
                let gone = usize::from_str_radix(leaver.as_str(), 16).unwrap();
                self.node_mut(teller).others.retain(|(n, _)| *n != gone);
            }
            Action::SetConfigEpoch { .. } => {}
            Action::AddSlots { ranges, .. } => self.node_mut(teller).slots = join(ranges, " "),
            other => panic!("no step of this model: {other}"),
        }
    }

    /// Gossip tells everyone of a new member, and that one of everyone.
    pub(super) fn join(&mut self, new: usize) {
        let is_member = |node: &&Model| node.id == new || (node.is_up && !node.others.is_empty());
        let addrs: Vec<(usize, SocketAddr)> =
            self.nodes.iter().filter(is_member).map(|node| (node.id, node.at)).collect();
        let accused = self.nodes.iter().find(|node| node.is_up).map(|node| node.accused.clone());
        for node in self.nodes.iter_mut().filter(|node| addrs.iter().any(|(n, _)| *n == node.id)) {
            if node.id == new {
                (node.own, node.accused) = (Some(node.at), accused.clone().unwrap_or_default());
            }
            for (n, addr) in addrs.iter().filter(|(n, _)| *n != node.id) {
                if !node.others.iter().any(|(known, _)| known == n) {
                    node.others.push((*n, Some(*addr)));
                }
            }
        }
    }

    /// Two nodes meet, and with them all whom either knows.
    fn acquaint(&mut self, one: usize, other: usize) {
        let mut circle: Vec<usize> = vec![one, other];
        for n in [one, other] {
            circle.extend(self.node(n).others.iter().map(|(known, _)| *known));
        }
        circle.sort_unstable();
        circle.dedup();
        let places: Vec<(usize, SocketAddr)> = circle.iter().map(|n| (*n, self.node(*n).at)).collect();
        for n in circle {
            let node = self.node_mut(n);
            node.own = Some(node.at);
            let others = places.iter().filter(|(known, _)| *known != n);
            node.others = others.map(|(known, at)| (*known, Some(*at))).collect();
        }
    }

    /// One node holds another for failed.
    pub(super) fn accuse(&mut self, viewer: usize, lost: usize) {
        self.node_mut(viewer).accused.insert(lost);
    }

    /// As many of the steps as are carried out before the manager is ended.
    pub(super) fn carry_out(&mut self, plan: &Plan, most: usize) {
        let first = plan.forming.iter().flat_map(|forming| &forming.plan.actions).cloned();
        let first = first.map(|action| Step { action, reason: "first-start" });
        first.chain(plan.steps.iter().cloned()).take(most).for_each(|step| self.apply(&step));
    }

    /// Plans and acts until nothing is left to do; the number of plans.
    pub(super) fn heal(&mut self) -> usize {
        for round in 0..30 {
            let plan = self.plan();
            if plan.is_done() {
                return round;
            }
            self.carry_out(&plan, usize::MAX);
        }
        panic!("still not whole: {:?}", self.plan());
    }

    pub(super) fn expect_whole(&mut self) {
        let nodes = self.nodes.clone();
        for node in nodes.iter().filter(|node| node.is_up && node.id < 10) {
            assert!(node.own.is_none_or(|own| own == node.at), "{node:?}");
            for (n, addr) in &node.others {
                let other = self.node(*n);
                assert!(!other.is_up || *addr == Some(other.at), "{node:?}");
            }
            let follows_living = node.primary.is_some_and(|primary| self.node(primary).is_up);
            assert!(!follows_living || self.is_link_up(node), "{node:?}");
            assert_eq!(
                (node.is_guarded, node.barrier, node.node_timeout),
                (false, 1, NODE_TIMEOUT),
                "{node:?}"
            );
        }
        assert_eq!(self.plan().steps, [], "a second plan");
    }

    /// One plan, and time in which nodes that are connected again forgive each other.
    pub(super) fn heal_once(&mut self) {
        let plan = self.plan();
        plan.steps.iter().for_each(|step| self.apply(step));
        let snapshot = self.clone();
        for node in &mut self.nodes {
            let viewer = snapshot.node(node.id);
            node.accused.retain(|n| !snapshot.is_linked(viewer, *n));
        }
        self.now += Duration::from_secs(20);
    }
}
