//! heal: a survey → the steps that make a broken cluster whole again. Pure; the rules, one a file, in
//! the order in which they count.
//!
//! Nothing here may lose data: what might is a finding, with the command that a person may run.

use super::first_start::{self, Forming};
use super::{
    departures, heal_addresses, heal_delays, heal_guard, heal_leavers, heal_links, heal_newcomers,
    heal_orphans, heal_pods, heal_rescue, replaced, scaled_in,
};
use crate::control::action::Action;
use crate::control::memory::Memory;
use crate::control::pods::Pods;
use crate::control::survey::Survey;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

/// Everything that a plan rests on.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub survey: &'a Survey,
    pub memory: &'a Memory,
    pub now: Instant,
    /// The addresses of all nodes that should be, when the operator keeps such a list.
    pub listed: Option<&'a HashSet<SocketAddr>>,
    /// The nodes' pods, where Kubernetes tells of them.
    pub pods: Option<&'a Pods>,
}

/// One action and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    pub action: Action,
    /// A word for programs.
    pub reason: &'static str,
}

/// Something that is not repaired by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// A word for programs.
    pub kind: &'static str,
    pub text: String,
    /// What a person may run, after thinking about it.
    pub command: Option<String>,
    /// Whether the cluster is not in order because of it.
    pub is_wrong: bool,
}

/// What to do now. The rest may need another look: nodes tell each other what they learned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// In the order in which they must be done; a step that fails does not stop the others.
    pub steps: Vec<Step>,
    /// Before anything else, the cluster itself; then there are no other steps.
    pub forming: Option<Forming>,
    pub findings: Vec<Finding>,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_done(&self) -> bool {
        self.steps.is_empty() && self.forming.is_none()
    }

    pub(super) fn step(&mut self, reason: &'static str, action: Action) {
        self.steps.push(Step { action, reason });
    }

    pub fn find(&mut self, kind: &'static str, text: String, command: Option<String>) {
        self.findings.push(Finding { kind, text, command, is_wrong: true });
    }

    pub fn note(&mut self, kind: &'static str, text: String, command: Option<String>) {
        self.findings.push(Finding { kind, text, command, is_wrong: false });
    }
}

/// Plans what heals the cluster.
pub fn heal(case: Case<'_>) -> Plan {
    let mut plan = Plan::default();
    heal_pods::find(case, &mut plan);
    if first_start::heal(case, &mut plan) {
        return plan;
    }
    strangers(case, &mut plan);
    scaled_in::heal(case, &mut plan);
    replaced::heal(case, &mut plan);
    // These have seconds, whatever else is wrong.
    departures::heal(case, &mut plan);
    heal_rescue::heal(case, &mut plan);
    // Addresses next: every other step is told by a node that must find the others.
    let wrong = heal_addresses::Wrong::find(case.survey);
    heal_guard::raise(case, &mut plan);
    heal_addresses::heal(case, &wrong, &mut plan);
    heal_links::heal(case, &mut plan);
    heal_guard::lift(case, &mut plan);
    heal_delays::heal(case, &mut plan);
    if wrong.is_empty() && !heal_guard::is_held(case.survey) {
        heal_orphans::heal(case, &mut plan);
        heal_newcomers::heal(case, &mut plan);
        heal_leavers::heal(case, &mut plan);
    }
    plan
}

fn strangers(case: Case<'_>, plan: &mut Plan) {
    if case.survey.is_ambiguous {
        let text =
            "nodes of several clusters answer at the seeds, and nothing says which one is to be kept: \
            name only nodes of one cluster"
                .to_string();
        plan.find("several-clusters", text, None);
        return;
    }
    for stranger in &case.survey.strangers {
        let (addr, id) = (stranger.addr, stranger.id.short());
        if stranger.is_forgotten {
            let text = format!(
                "{addr} ({id}) takes itself for a member, but the members do not know it. If it is to come back, \
                 make it an empty node first: CLUSTER RESET discards its copy of the keys"
            );
            plan.note("forgotten-node", text, Some(redis_cli(addr, "CLUSTER RESET")));
        } else {
            let text = format!("{addr} is node {id}, which is not of this cluster; it is left alone");
            plan.note("stranger", text, None);
        }
    }
}

/// The command for a person.
pub(super) fn redis_cli(addr: SocketAddr, words: &str) -> String {
    format!("redis-cli -h {} -p {} {words}", addr.ip(), addr.port())
}

#[cfg(test)]
#[path = "heal_model.rs"]
mod model;
#[cfg(test)]
#[path = "heal_pods_model.rs"]
mod pods_model;
#[cfg(test)]
#[path = "heal_pods_tests.rs"]
mod pods_tests;
#[cfg(test)]
#[path = "heal_tests.rs"]
mod tests;
