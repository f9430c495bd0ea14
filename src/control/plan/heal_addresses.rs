//! heal, addresses: whoever looks for a member where it is not meets it where it is. Pure.
//!
//! The cluster bus dials stored addresses only. When all nodes got new ones, nobody finds anybody, and
//! that never ends by itself; when nodes exchanged theirs, some stay without an address in some views
//! although every node says that all is well. A `CLUSTER MEET` with a known node corrects its address
//! in the view of the one who sent it, and the receiver's own line.

use super::heal::{Case, Plan};
use crate::control::action::{Action, Party};
use crate::control::observe::{Flags, NodeLine};
use crate::control::survey::{Survey, is_accused};
use crate::control::view::Observation;
use crate::topology::NodeId;
use std::net::SocketAddr;

/// Contacts in one plan. Those of one hub mend most of what is wrong, so that a larger cluster needs
/// few more than it has nodes; the rest follows with the next look.
const MOST_MEETS: usize = 1024;

/// Who is looked for in the wrong place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wrong {
    /// Viewer, and the member whose address it has wrong or not at all.
    pub pairs: Vec<(NodeId, NodeId)>,
    /// Nodes that have their own address wrong, and tell clients so.
    pub own: Vec<NodeId>,
    /// Nodes whose setting `cluster-announce-ip` names an address that is not theirs any more.
    pub announced: Vec<(NodeId, SocketAddr)>,
}

impl Wrong {
    /// Compares all lines of all members that answered with where these were found.
    pub fn find(survey: &Survey) -> Wrong {
        let mut wrong = Wrong::default();
        for node in &survey.view.nodes {
            let id = node.view.id();
            if let Some(addr) = misannounced(survey, node) {
                wrong.announced.push((id, addr));
                continue;
            }
            let Some(home) = survey.home(id) else { continue };
            let me = node.view.myself();
            if me.ip.is_some()
                && me.addr(node.view.asked).is_some_and(|addr| !is_right(survey, id, home, addr))
            {
                wrong.own.push(id);
            }
            for viewer in &survey.view.nodes {
                if viewer.view.id() == id {
                    continue;
                }
                let line = viewer.view.line(id);
                if line.is_some_and(|line| is_wrong(survey, line, viewer.view.asked, home)) {
                    wrong.pairs.push((viewer.view.id(), id));
                }
            }
        }
        wrong
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.own.is_empty() && self.announced.is_empty()
    }

    fn seen_by(&self, viewer: NodeId) -> usize {
        self.pairs.iter().filter(|(by, _)| *by == viewer).count()
    }
}

/// Plans the contacts: those of one hub first, then every pair that is still wrong.
pub fn heal(case: Case<'_>, wrong: &Wrong, plan: &mut Plan) {
    let survey = case.survey;
    for (id, addr) in &wrong.announced {
        if let Some(node) = survey.view.of(*id) {
            plan.step("announced-address", Action::Announce { node: survey.party(node), ip: addr.ip() });
        }
    }
    // The one who sees best; of equals always the same one, or two managers would work against each other.
    let Some(hub) =
        survey.view.nodes.iter().map(|node| node.view.id()).min_by_key(|id| (wrong.seen_by(*id), *id))
    else {
        return;
    };
    let is_star = wrong.seen_by(hub) > 0;
    let pairs = wrong.pairs.iter().filter(|(viewer, _)| !is_star || *viewer == hub);
    for (viewer, target) in pairs.take(MOST_MEETS) {
        let is_lost = survey
            .view
            .of(*viewer)
            .and_then(|node| node.view.line(*target))
            .is_some_and(|line| line.flags.has(Flags::NO_ADDRESS));
        meet(survey, *viewer, *target, if is_lost { "address-lost" } else { "address-changed" }, plan);
    }
    for id in &wrong.own {
        // A contact that is made anyway corrects it as well.
        let is_met =
            |step: &super::heal::Step| matches!(&step.action, Action::Meet { other, .. } if other.id == *id);
        let others = survey.view.nodes.iter().map(|node| node.view.id()).filter(|other| other != id);
        if !plan.steps.iter().any(is_met)
            && let Some(viewer) = others.min_by_key(|other| (*other != hub, wrong.seen_by(*other), *other))
        {
            meet(survey, viewer, *id, "own-address-changed", plan);
        }
    }
}

fn meet(survey: &Survey, viewer: NodeId, target: NodeId, reason: &'static str, plan: &mut Plan) {
    let nodes = survey.view.of(viewer).zip(survey.view.of(target));
    if let (Some((viewer, target)), Some(home)) = (nodes, survey.home(target)) {
        let (node, other) = (survey.party(viewer), Party { id: target.view.id(), addr: home });
        plan.step(reason, Action::Meet { node, other, bus_port: target.view.myself().bus_port });
    }
}

/// Whether a node is at this address by anything that we know.
fn is_right(survey: &Survey, id: NodeId, home: SocketAddr, addr: SocketAddr) -> bool {
    addr == home || survey.is_reached(id, addr)
}

/// A connected address that we cannot reach may be one of a network that we are not in.
fn is_wrong(survey: &Survey, line: &NodeLine, asked: SocketAddr, home: SocketAddr) -> bool {
    match line.addr(asked) {
        None => true,
        Some(addr) if is_right(survey, line.id, home, addr) => false,
        Some(_) => !line.is_linked || is_accused(line.flags),
    }
}

/// Where the node really is, when it announces an address at which neither we nor any member finds it.
fn misannounced(survey: &Survey, node: &Observation) -> Option<SocketAddr> {
    let id = node.view.id();
    let facts = survey.facts(id)?;
    let announced =
        facts.settings.as_ref()?.is_announced.then(|| node.view.myself().addr(node.view.asked))??;
    let is_direct = facts.local == Some(node.view.asked);
    let is_found = survey.is_reached(id, announced) || survey.is_linked_at(id, announced);
    (is_direct && !is_found && announced.port() == node.view.asked.port()).then_some(node.view.asked)
}
