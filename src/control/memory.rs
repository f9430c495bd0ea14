//! Memory: what the manager must remember from look to look, because no node tells it. Pure: time is
//! handed in. Losing it is harmless: everything is learned again, only later.

use super::observe::{NodeLine, Role};
use super::plan::heal_guard;
use super::survey::Survey;
use crate::topology::NodeId;
use std::collections::{HashMap, HashSet};
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

    /// Takes in what a look showed.
    pub fn learn(&mut self, survey: &Survey, now: Instant) {
        let Some(ours) = survey.ours() else { return };
        let nodes = &survey.view.nodes;
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
