//! Memory: what the manager must remember from look to look, because no node tells it. Pure: time is
//! handed in. Losing it is harmless: everything is learned again, only later.

use super::journal::Home;
use super::observe::{NodeLine, Role};
use super::plan::heal_guard;
use super::pods::Pods;
use super::survey::Survey;
use super::view::Observation;
use crate::topology::NodeId;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Since when things are as they are.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The ids of our members.
    ours: HashSet<NodeId>,
    /// Nodes that this manager brought in, which wait for their role.
    newcomers: HashSet<NodeId>,
    silent: Since<NodeId>,
    idle: Since<NodeId>,
    link_down: Since<NodeId>,
    guarded: Since<()>,
    relinked: HashMap<NodeId, Instant>,
    /// Which pod each node was last seen in.
    homes: BTreeMap<NodeId, Home>,
    /// Each primary's keys and uptime at the last look.
    held: HashMap<NodeId, (u64, Duration)>,
    /// Primaries that came back without their keys, and how many these were.
    lost_keys: HashMap<NodeId, u64>,
}

/// When each of several things began, as far as we saw.
#[derive(Clone, Debug)]
struct Since<K>(HashMap<K, Instant>);

impl<K> Default for Since<K> {
    fn default() -> Since<K> {
        Since(HashMap::new())
    }
}

impl<K: Eq + Hash + Copy> Since<K> {
    /// These are so now; all others are not any more.
    fn set(&mut self, now: Instant, so: impl IntoIterator<Item = K>) {
        let so: HashSet<K> = so.into_iter().collect();
        self.0.retain(|key, _| so.contains(key));
        for key in so {
            self.0.entry(key).or_insert(now);
        }
    }

    fn lasts(&self, key: K, now: Instant) -> Option<Duration> {
        self.0.get(&key).map(|since| now.saturating_duration_since(*since))
    }
}

impl Memory {
    /// What an earlier manager knew: our members, and those of them that wait for their role.
    pub fn of(ours: HashSet<NodeId>, newcomers: HashSet<NodeId>) -> Memory {
        Memory { ours, newcomers, ..Memory::default() }
    }

    /// What the leader before knew: whom it let in, and all members unless they were seen here already.
    pub fn take_over(&mut self, ours: HashSet<NodeId>, newcomers: HashSet<NodeId>) {
        if self.ours.is_empty() {
            self.ours = ours;
        }
        self.ours.extend(&newcomers);
        self.newcomers.extend(newcomers);
    }

    /// Which pods the manager before saw the nodes in; what was seen since then is newer.
    pub fn remember_homes(&mut self, homes: &BTreeMap<NodeId, Home>) {
        for (id, home) in homes {
            self.homes.entry(*id).or_insert_with(|| home.clone());
        }
    }

    /// Takes in which pod each node is in. While pods come and go, an address may be another pod's by now, and
    /// who has a home keeps it.
    pub fn settle(&mut self, survey: &Survey, pods: &Pods) {
        let is_alone = |addr| pods.pods.iter().filter(|pod| pod.addr == Some(addr)).count() == 1;
        for pod in pods.pods.iter().filter(|pod| pod.is_running) {
            let Some(addr) = pod.addr.filter(|addr| is_alone(*addr)) else { continue };
            let known = survey.view.nodes.iter().chain(&survey.newcomers);
            let found = known.map(|node| node.view.id()).find(|id| survey.is_reached(*id, addr));
            let home = Home { pod: pod.name.clone(), uid: pod.uid.clone() };
            if let Some(id) = found
                && self.homes.get(&id).is_none_or(|old| old.pod == home.pod || pods.is_complete())
            {
                self.homes.insert(id, home);
            }
        }
        let is_here =
            |id: &NodeId| self.ours.contains(id) || survey.newcomers.iter().any(|node| node.view.id() == *id);
        if !survey.view.nodes.is_empty() {
            self.homes.retain(|id, _| is_here(id));
        }
    }

    /// The pod that the node was last seen in.
    pub fn home(&self, id: NodeId) -> Option<&Home> {
        self.homes.get(&id)
    }

    /// All of them.
    pub fn homes(&self) -> &BTreeMap<NodeId, Home> {
        &self.homes
    }

    /// How many keys a primary lost that came back without any.
    pub fn lost_keys(&self, id: NodeId) -> Option<u64> {
        self.lost_keys.get(&id).copied()
    }

    /// Compares each primary's keys with those before it was started again.
    fn count_keys(&mut self, nodes: &[Observation]) {
        for node in nodes.iter().filter(|node| !node.info.is_loading) {
            let (id, keys, uptime) = (node.view.id(), node.info.keys, node.info.uptime);
            let before = self.held.insert(id, (keys, uptime));
            match before {
                Some((before, up)) if keys == 0 && before > 0 && uptime < up => {
                    self.lost_keys.insert(id, before);
                }
                _ if keys > 0 => drop(self.lost_keys.remove(&id)),
                _ => {}
            }
        }
    }

    /// Takes in what a look showed.
    pub fn learn(&mut self, survey: &Survey, now: Instant) {
        let Some(ours) = survey.ours() else { return };
        let nodes = &survey.view.nodes;
        self.count_keys(nodes);
        let is_idle = |me: &NodeLine| me.primary.is_none() && me.slots.is_empty();
        let has_role = |id: &NodeId| survey.view.of(*id).is_some_and(|node| !is_idle(node.view.myself()));
        self.newcomers.retain(|id| !has_role(id));
        // Those that we let in are ours before everybody has heard of them.
        self.ours = &ours | &self.newcomers;
        self.silent.set(now, self.ours.iter().copied().filter(|id| survey.view.of(*id).is_none()));
        let idle = nodes.iter().filter(|node| is_idle(node.view.myself()));
        self.idle.set(now, idle.map(|node| node.view.id()));
        let is_down = |role: &Role| matches!(role, Role::Replica { is_link_up: false, .. });
        let down = nodes.iter().filter(|node| is_down(&node.info.role));
        self.link_down.set(now, down.map(|node| node.view.id()));
        self.relinked.retain(|id, _| self.link_down.0.contains_key(id));
        let is_marked = nodes.iter().any(|node| heal_guard::is_marked(survey, node.view.id()));
        // A guard that took too long is not begun anew before all addresses were right once.
        let goes_on = is_marked || (self.guarded.0.contains_key(&()) && heal_guard::is_wanted(survey));
        self.guarded.set(now, goes_on.then_some(()));
    }

    /// The ids of our members; empty before the first look.
    pub fn ours(&self) -> &HashSet<NodeId> {
        &self.ours
    }

    /// Those of them that were let in and wait for their role.
    pub fn newcomers(&self) -> &HashSet<NodeId> {
        &self.newcomers
    }

    /// This manager lets the node join.
    pub fn invite(&mut self, id: NodeId) {
        self.ours.insert(id);
        self.newcomers.insert(id);
    }

    /// Whether this manager brought the node in.
    pub fn is_invited(&self, id: NodeId) -> bool {
        self.newcomers.contains(&id)
    }

    /// A replica was just pointed at its primary again.
    pub fn relinked(&mut self, id: NodeId, now: Instant) {
        self.relinked.insert(id, now);
    }

    /// How long ago that was.
    pub fn relinked_ago(&self, id: NodeId, now: Instant) -> Option<Duration> {
        self.relinked.get(&id).map(|at| now.saturating_duration_since(*at))
    }

    /// How long a member has answered nowhere.
    pub fn silent_for(&self, id: NodeId, now: Instant) -> Option<Duration> {
        self.silent.lasts(id, now)
    }

    /// How long a member has been a primary without slots.
    pub fn idle_for(&self, id: NodeId, now: Instant) -> Option<Duration> {
        self.idle.lasts(id, now)
    }

    /// How long a replica's link has been down.
    pub fn link_down_for(&self, id: NodeId, now: Instant) -> Option<Duration> {
        self.link_down.lasts(id, now)
    }

    /// How long elections have been held back.
    pub fn guarded_for(&self, now: Instant) -> Option<Duration> {
        self.guarded.lasts((), now)
    }
}
