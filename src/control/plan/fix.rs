//! Which node gets a slot that is open or that nobody owns. Pure.
//!
//! Keys are never thrown away for order's sake: where it is not certain that every key of a slot is seen,
//! or which of two copies counts, the slot is left alone unless it was named.

use crate::control::action::{Action, Party};
use crate::control::observe::{Direction, Flags, OpenSlot, SlotKeys};
use crate::control::view::{NodeView, View};
use crate::topology::{NodeId, SLOTS, Slot, SlotRange};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What to do, and what not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fix {
    /// Slots that nobody owns first: with them missing, nodes refuse to move keys.
    pub actions: Vec<Action>,
    pub refused: Vec<Refused>,
}

/// Slots that are left as they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub slots: Vec<SlotRange>,
    pub reason: Reason,
}

/// Why slots are left as they are, and what to do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Reason {
    #[error("no node owns any slot: this is no cluster yet; form one with 'slotgate bootstrap'")]
    NoCluster,
    #[error("{0} cannot be asked and may hold their keys; start it, or forget it if it is gone for good")]
    Silent(String),
    #[error("several nodes hold keys of them ({0}), of which some may be old")]
    Scattered(String),
    #[error(
        "only the replica {0} holds keys of them; 'redis-cli -h {ip} -p {port} CLUSTER FAILOVER TAKEOVER' makes it a \
         primary, if you trust its copy",
        ip = .0.ip(), port = .0.port()
    )]
    OnReplica(SocketAddr),
    #[error("{0} claim them; nodes settle that among themselves within seconds: run the same command again")]
    Claimed(String),
}

impl Reason {
    /// Naming the slots allows it.
    pub fn can_be_allowed(&self) -> bool {
        matches!(self, Reason::Silent(_) | Reason::Scattered(_))
    }
}

/// The slots whose keys must be counted before [`fix`] can decide.
pub fn doubtful(view: &View) -> Vec<Slot> {
    let mut slots = uncovered(view);
    slots.extend(open_slots(view).map(|(_, open)| open.slot));
    slots.extend(view.strays.iter().flat_map(|stray| &stray.slots).flat_map(|range| range.slots()));
    slots.into_iter().collect()
}

fn uncovered(view: &View) -> BTreeSet<Slot> {
    let coverages: Vec<Vec<bool>> = view.nodes.iter().map(|node| node.view.coverage()).collect();
    Slot::all().filter(|slot| !coverages.iter().any(|covered| covered[slot.index()])).collect()
}

fn open_slots(view: &View) -> impl Iterator<Item = (&NodeView, &OpenSlot)> {
    let views = view.nodes.iter().map(|node| &node.view);
    views.flat_map(|view| view.myself().open_slots.iter().map(move |open| (view, open)))
}

/// What is decided for one slot.
enum Verdict {
    Give(NodeId),
    Settle { on: NodeId, from: BTreeSet<NodeId>, may_lose: bool },
    Leave(Reason),
}

/// Decides for every slot that is open, uncovered or has stray keys; slots in `allowed` may lose keys.
pub fn fix(view: &View, keys: &SlotKeys, allowed: &[SlotRange]) -> Fix {
    let uncovered = uncovered(view);
    let mut fix = Fix::default();
    if uncovered.len() == SLOTS {
        let slots = SlotRange::cover(uncovered);
        fix.refused.push(Refused { slots, reason: Reason::NoCluster });
        return fix;
    }
    let (mut given, mut left) = (BTreeMap::<NodeId, Vec<Slot>>::new(), BTreeMap::<Reason, Vec<Slot>>::new());
    let mut settled = Vec::new();
    for slot in doubtful(view) {
        let is_allowed = allowed.iter().any(|range| (range.start..=range.end).contains(&slot));
        let judged = Judged { view, keys, slot, is_allowed };
        match judged.judge(uncovered.contains(&slot)) {
            Verdict::Give(node) => given.entry(node).or_default().push(slot),
            Verdict::Settle { on, from, may_lose } => {
                if uncovered.contains(&slot) {
                    given.entry(on).or_default().push(slot);
                }
                settled.extend(settle(view, slot, on, &from, may_lose));
            }
            Verdict::Leave(reason) => left.entry(reason).or_default().push(slot),
        }
    }
    for (node, slots) in given {
        let ranges = SlotRange::cover(slots);
        fix.actions.extend(party(view, node).map(|node| Action::AddSlots { node, ranges }));
    }
    fix.actions.extend(settled);
    let refused = left.into_iter().map(|(reason, slots)| Refused { slots: SlotRange::cover(slots), reason });
    fix.refused.extend(refused);
    fix
}

fn party(view: &View, id: NodeId) -> Option<Party> {
    view.of(id).map(|node| Party { id, addr: node.view.asked })
}

fn is_primary(view: &NodeView) -> bool {
    view.myself().primary.is_none()
}

fn settle(view: &View, slot: Slot, on: NodeId, from: &BTreeSet<NodeId>, may_lose: bool) -> Option<Action> {
    let primaries =
        view.nodes.iter().map(|node| &node.view).filter(|view| is_primary(view) && view.id() != on);
    let parties = primaries.map(|view| Party { id: view.id(), addr: view.asked });
    let (from, others) = parties.partition(|party| from.contains(&party.id));
    Some(Action::SettleSlot { node: party(view, on)?, slot, from, others, may_lose })
}

/// One slot in doubt.
struct Judged<'a> {
    view: &'a View,
    keys: &'a SlotKeys,
    slot: Slot,
    is_allowed: bool,
}

impl Judged<'_> {
    fn judge(&self, is_uncovered: bool) -> Verdict {
        let open: Vec<(&NodeView, &OpenSlot)> =
            open_slots(self.view).filter(|(node, open)| open.slot == self.slot && is_primary(node)).collect();
        let owners: Vec<&NodeView> = self.views().filter(|view| self.is_owned_by(view)).collect();
        match owners.as_slice() {
            _ if is_uncovered => self.judge_uncovered(&open),
            [owner] => self.judge_open(owner, &open),
            // Others believe that a node owns it which does not answer, or says that it does not.
            [] => Verdict::Leave(match self.silent() {
                Some(silent) => Reason::Silent(silent),
                None => Reason::Claimed("no node, by its own word, but others say that one does,".into()),
            }),
            several => {
                let addrs: Vec<String> = several.iter().map(|view| view.asked.to_string()).collect();
                Verdict::Leave(Reason::Claimed(addrs.join(" and ")))
            }
        }
    }

    fn views(&self) -> impl Iterator<Item = &NodeView> {
        self.view.nodes.iter().map(|node| &node.view)
    }

    fn is_owned_by(&self, view: &NodeView) -> bool {
        let me = view.myself();
        me.primary.is_none() && me.slots.iter().any(|range| (range.start..=range.end).contains(&self.slot))
    }

    fn count(&self, id: NodeId) -> u64 {
        self.keys.get(&id).and_then(|counts| counts.get(&self.slot)).copied().unwrap_or(0)
    }

    /// Primaries that hold keys of the slot, those with most first.
    fn holders(&self) -> Vec<&NodeView> {
        let mut holders: Vec<&NodeView> =
            self.views().filter(|view| is_primary(view) && self.count(view.id()) > 0).collect();
        holders.sort_by_key(|view| (std::cmp::Reverse(self.count(view.id())), view.asked));
        holders
    }

    /// The node itself while it is a primary, or else the one that has its keys now.
    fn heir(&self, id: NodeId) -> NodeId {
        self.view.of(id).and_then(|node| node.view.myself().primary).unwrap_or(id)
    }

    /// A member that may hold keys and does not answer.
    fn silent(&self) -> Option<String> {
        let lines = self.views().flat_map(|view| view.members().map(move |line| (line, view.asked)));
        let mut silent = lines.filter(|(line, _)| self.view.of(line.id).is_none());
        // A replica has nothing that its primary, which answers, has not.
        let is_spare = |primary: Option<NodeId>| primary.is_some_and(|id| self.view.of(id).is_some());
        silent
            .find(|(line, _)| !(line.flags.has(Flags::REPLICA) && is_spare(line.primary)))
            .map(|(line, asked)| line.addr(asked).map_or(line.id.to_string(), |addr| addr.to_string()))
    }

    fn judge_open(&self, owner: &NodeView, open: &[(&NodeView, &OpenSlot)]) -> Verdict {
        let peers = open.iter().map(|(_, open)| open.peer);
        if let Some(peer) = peers.into_iter().find(|peer| self.view.of(*peer).is_none())
            && !self.is_allowed
        {
            return Verdict::Leave(Reason::Silent(peer.short().to_string()));
        }
        // A move with both its ends open is finished, and so is one whose end has keys already, though it knows
        // of no move: whoever took a primary's place did not. Anything else goes back to the owner.
        let imports = |node: NodeId| {
            let from_owner =
                |open: &OpenSlot| open.direction == Direction::Importing && open.peer == owner.id();
            open.iter().any(|(view, open)| view.id() == node && from_owner(open))
        };
        let begun = open
            .iter()
            .filter(|(view, open)| view.id() == owner.id() && open.direction == Direction::Migrating);
        let ends = begun.map(|(_, open)| self.heir(open.peer));
        let target =
            ends.into_iter().find(|end| *end != owner.id() && (imports(*end) || self.count(*end) > 0));
        let on = target.unwrap_or(owner.id());
        let mut from: BTreeSet<NodeId> = open.iter().map(|(view, _)| view.id()).collect();
        from.extend(self.holders().iter().map(|view| view.id()));
        from.insert(owner.id());
        from.remove(&on);
        Verdict::Settle { on, from, may_lose: self.is_allowed }
    }

    fn judge_uncovered(&self, open: &[(&NodeView, &OpenSlot)]) -> Verdict {
        if let Some(silent) = self.silent().filter(|_| !self.is_allowed) {
            return Verdict::Leave(Reason::Silent(silent));
        }
        let mut from: BTreeSet<NodeId> = open.iter().map(|(view, _)| view.id()).collect();
        let holders = self.holders();
        let on = match holders.as_slice() {
            [] => {
                let lone = self.views().find(|view| !is_primary(view) && self.count(view.id()) > 0);
                if let Some(lone) = lone {
                    return Verdict::Leave(Reason::OnReplica(lone.asked));
                }
                let primaries =
                    self.views().filter(|view| is_primary(view) && !view.myself().slots.is_empty());
                let slots =
                    |view: &NodeView| view.myself().slots.iter().map(|range| range.count()).sum::<usize>();
                match primaries.min_by_key(|view| (slots(view), view.asked)) {
                    Some(view) => view.id(),
                    None => return Verdict::Leave(Reason::NoCluster),
                }
            }
            [holder] => holder.id(),
            several if !self.is_allowed => {
                let each = several.iter().map(|view| format!("{}: {}", view.asked, self.count(view.id())));
                return Verdict::Leave(Reason::Scattered(each.collect::<Vec<_>>().join(", ")));
            }
            [most, ..] => most.id(),
        };
        from.extend(holders.iter().map(|view| view.id()));
        from.remove(&on);
        match open.is_empty() && from.is_empty() {
            true => Verdict::Give(on),
            false => Verdict::Settle { on, from, may_lose: self.is_allowed },
        }
    }
}

#[cfg(test)]
#[path = "fix_tests.rs"]
mod tests;
