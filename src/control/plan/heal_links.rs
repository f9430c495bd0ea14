//! heal, links: a replica that looks for its primary in the wrong place is told whom it follows again. Pure.
//!
//! An address that a node learns by gossip is not handed on to its replication: the replica keeps dialling
//! the old one, while every node's view and `cluster_state` look right.

use super::heal::{Case, Plan};
use crate::control::action::{Action, Party};
use crate::control::observe::Role;
use crate::control::view::Observation;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A link that comes up by itself does so within seconds.
const PATIENCE: Duration = Duration::from_secs(15);
/// After that the replica had the time to find out by itself that its link is dead (`repl-timeout`).
const AGAIN: Duration = Duration::from_secs(60);

pub fn heal(case: Case<'_>, plan: &mut Plan) {
    for node in &case.survey.view.nodes {
        if let Some((reason, primary)) = needed(case, node) {
            plan.step(reason, Action::Relink { node: case.survey.party(node), primary });
        }
    }
}

fn needed(case: Case<'_>, node: &Observation) -> Option<(&'static str, Party)> {
    let (survey, id) = (case.survey, node.view.id());
    let Role::Replica { primary_host, primary_port, is_link_up: false } = &node.info.role else {
        return None;
    };
    let primary = survey.view.of(node.view.myself().primary?)?;
    if primary.view.myself().primary.is_some() || survey.facts(id)?.link.is_syncing {
        return None;
    }
    // What it is told to follow is an id; where that is, it must know by then.
    let addr = node.view.line(primary.view.id())?.addr(node.view.asked)?;
    if !survey.is_reached(primary.view.id(), addr) && survey.home(primary.view.id()) != Some(addr) {
        return None;
    }
    let party = Party { id: primary.view.id(), addr };
    // A name is looked up by the server itself.
    let followed = primary_host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, *primary_port));
    let is_recent = |limit| case.memory.relinked_ago(id, case.now).is_some_and(|ago| ago < limit);
    if followed.is_some_and(|followed| followed != addr) {
        return (!is_recent(PATIENCE)).then_some(("link-to-old-address", party));
    }
    let is_long_down = case.memory.link_down_for(id, case.now).is_some_and(|down| down >= PATIENCE);
    (is_long_down && !is_recent(AGAIN)).then_some(("link-down", party))
}
