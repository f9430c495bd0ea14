//! Slots that an earlier run left open → what to do with each. Pure.
//!
//! A slot is open from the first SETSLOT on its target until the last one on its source. A run may have
//! been killed anywhere in between, by us or by `redis-cli`.

use crate::control::action::Party;
use crate::control::observe::Direction;
use crate::control::view::{Observation, View};
use crate::topology::{NodeId, Slot};
use std::collections::BTreeMap;
use std::fmt;

/// What one open slot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Its keys are on their way: the move goes on to its end.
    Finish { slot: Slot, source: Party, target: Party },
    /// The target waits for keys that the owner does not send: go on when it has some, otherwise close.
    FinishOrClose { slot: Slot, source: Party, target: Party },
    /// It has its owner, and only this node's mark is left.
    Close { slot: Slot, node: Party },
    /// Nobody may decide this but a person.
    Unclear { slot: Slot, why: String },
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remedy::Finish { slot, source, target } => {
                write!(f, "finish the move of slot {slot} from {source} to {target}")
            }
            Remedy::FinishOrClose { slot, source, target } => {
                write!(f, "finish or close the move of slot {slot} from {source} to {target}")
            }
            Remedy::Close { slot, node } => write!(f, "close slot {slot} on {node}"),
            Remedy::Unclear { slot, why } => write!(f, "slot {slot}: {why}"),
        }
    }
}

/// What the open slots of a cluster need, one remedy for each at a time: look again when all are done.
pub fn remedies(view: &View) -> Vec<Remedy> {
    let mut marks: BTreeMap<Slot, Vec<(&Observation, Direction, NodeId)>> = BTreeMap::new();
    for node in &view.nodes {
        for open in &node.view.myself().open_slots {
            marks.entry(open.slot).or_default().push((node, open.direction, open.peer));
        }
    }
    marks.into_iter().map(|(slot, marks)| remedy(view, slot, &marks)).collect()
}

fn remedy(view: &View, slot: Slot, marks: &[(&Observation, Direction, NodeId)]) -> Remedy {
    let Some(owner) = owner(view, slot) else {
        let why = "no node owns it; see 'slotgate check'".to_string();
        return Remedy::Unclear { slot, why };
    };
    let source = party(owner);
    // A mark on a node whose part is over.
    let is_over = |(node, direction, _): &&(&Observation, Direction, NodeId)| {
        let is_owner = node.view.id() == owner.view.id();
        node.view.myself().primary.is_some() || (*direction == Direction::Migrating) != is_owner
    };
    if let Some((node, ..)) = marks.iter().find(is_over) {
        return Remedy::Close { slot, node: party(node) };
    }
    if let Some((_, _, peer)) = marks.iter().find(|(_, direction, _)| *direction == Direction::Migrating) {
        return match view.of(*peer) {
            Some(target) if target.view.myself().primary.is_none() => {
                Remedy::Finish { slot, source, target: party(target) }
            }
            Some(target) => {
                let why = format!("{source} moves it to {}, which is a replica by now", target.view.asked);
                Remedy::Unclear { slot, why }
            }
            None => {
                let why = format!("{source} moves it to {}, which does not answer", peer.short());
                Remedy::Unclear { slot, why }
            }
        };
    }
    match marks.first() {
        Some((node, ..)) => Remedy::FinishOrClose { slot, source, target: party(node) },
        None => Remedy::Unclear { slot, why: "nobody says that it is open".to_string() },
    }
}

/// Who owns a slot by its own word; of several the one with the highest epoch, as among the nodes.
fn owner(view: &View, slot: Slot) -> Option<&Observation> {
    let owns = |node: &&Observation| {
        let me = node.view.myself();
        me.primary.is_none() && me.slots.iter().any(|range| range.start <= slot && slot <= range.end)
    };
    view.nodes.iter().filter(owns).max_by_key(|node| node.view.myself().epoch)
}

fn party(node: &Observation) -> Party {
    Party { id: node.view.id(), addr: node.view.asked }
}
