//! Facts of what [`check`](crate::control::problem) finds: each problem, and the nodes that its repair
//! names. Pure.

use super::Fact;
use crate::control::problem::{Problem, problems};
use crate::control::view::View;
use crate::topology::NodeId;
use std::net::SocketAddr;

pub(super) fn facts(view: &View, replicas: Option<usize>) -> Vec<Fact> {
    problems(view, replicas).iter().map(|problem| fact(view, problem)).collect()
}

fn fact(view: &View, problem: &Problem) -> Fact {
    let fact = Fact::new(problem.kind(), problem.to_string());
    match problem {
        Problem::Silent { addr, .. }
        | Problem::NotServing { addr }
        | Problem::SplitShard { viewer: addr } => fact.with_node("node", *addr),
        Problem::Uncovered { .. }
        | Problem::StrayKeys(_)
        | Problem::Disagreement { .. }
        | Problem::Open { .. } => fact,
        Problem::Unknown { viewer, member, .. } | Problem::OtherRole { viewer, member, .. } => {
            meet(fact, *viewer, Some(*member))
        }
        Problem::Handshake { viewer, with } => meet(fact, *viewer, *with),
        Problem::NoAddress { viewer, member } => {
            meet(fact, *viewer, view.of(*member).map(|node| node.view.asked))
        }
        Problem::Failed { member, addr, .. } | Problem::Suspected { member, addr, .. } => {
            let fact = fact.with("id", member);
            // Only for who does not answer: a node that does has its vote heard soon.
            match addr {
                Some(addr) => fact.with_node("node", *addr),
                None => fact,
            }
        }
        Problem::Unlinked { member, bus_port, .. } => fact.with("ip", member.ip()).with("bus_port", bus_port),
        Problem::LinkDown { replica, .. } => {
            let primary = view.at(*replica).and_then(|node| node.view.myself().primary);
            primary
                .into_iter()
                .fold(fact.with_node("node", *replica), |fact, id: NodeId| fact.with("primary_id", id))
        }
        Problem::SameEpoch { primaries, .. } => {
            primaries.iter().take(1).fold(fact, |fact, addr| fact.with_node("node", *addr))
        }
        Problem::FewReplicas { primary, .. } => {
            view.at(*primary).into_iter().fold(fact, |fact, node| fact.with("id", node.view.id()))
        }
    }
}

/// A meeting is repaired by a `MEET` from the one that knows less; of a member that answers only, as
/// somebody else may have its address by now.
fn meet(fact: Fact, viewer: SocketAddr, member: Option<SocketAddr>) -> Fact {
    let fact = fact.with_node("viewer", viewer);
    match member {
        Some(member) => fact.with("ip", member.ip()).with("port", member.port()),
        None => fact,
    }
}
