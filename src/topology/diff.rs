//! What changed between two snapshots, for logs and metrics. Pure.

use super::{NodeId, Slot, Snapshot};

/// What `new` has that `old` had not, and the other way round.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Diff {
    pub joined: Vec<NodeId>,
    pub left: Vec<NodeId>,
    /// Nodes whose address or judged health changed.
    pub changed: Vec<NodeId>,
    /// Slots whose primary is another node now (or became or ceased to be unowned).
    pub moved_slots: usize,
}

impl Diff {
    pub fn is_empty(&self) -> bool {
        *self == Diff::default()
    }
}

/// Compares two snapshots by node ids; versions and the order of nodes do not count.
pub fn diff(old: &Snapshot, new: &Snapshot) -> Diff {
    let mut diff = Diff::default();
    for node in new.nodes() {
        match old.node_by_id(&node.id) {
            None => diff.joined.push(node.id),
            Some(ix) if old.node(ix) != node => diff.changed.push(node.id),
            Some(_) => {}
        }
    }
    diff.left = old.nodes().iter().map(|node| node.id).filter(|id| new.node_by_id(id).is_none()).collect();
    let owner = |snapshot: &Snapshot, slot: Slot| snapshot.primary_of(slot).map(|node| node.id);
    diff.moved_slots = Slot::all().filter(|slot| owner(old, *slot) != owner(new, *slot)).count();
    diff
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::two_shards;
    use super::*;

    #[test]
    fn nothing_changed_is_empty() {
        assert!(diff(&two_shards(), &two_shards()).is_empty());
    }

    #[test]
    fn a_moved_slot_is_counted() {
        let new = two_shards().with_owner(Slot::new(7), 1);
        assert_eq!(diff(&two_shards(), &new), Diff { moved_slots: 1, ..Diff::default() });
    }

    #[test]
    fn nodes_that_come_are_named() {
        let new = diff(&Snapshot::empty(), &two_shards());
        assert_eq!((new.joined.len(), new.left.len(), new.moved_slots), (3, 0, super::super::SLOTS));
    }
}
