//! doctor: what is wrong or will hurt → how bad, why, and the command that repairs it. Pure.
//!
//! Rules find facts ([`problems`](super::problem), addresses, placement, settings); what is known about
//! each kind of fact stands in one table, [`knowledge`].

mod addresses;
pub mod knowledge;
mod load;
mod placement;
mod problems;
mod settings;

pub use settings::SETTINGS;

use super::node_client::NodeError;
use super::observe::Settings;
use super::view::View;
use knowledge::{KNOWLEDGE, Knowledge};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Good to know; nothing is wrong.
    Hint,
    /// It serves, but the next fault hurts more than it should.
    Warning,
    /// Something does not work now, or data is at stake.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Hint => "hint",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// What a rule found: its kind, a sentence, and the words that the table's commands leave open.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Fact {
    kind: &'static str,
    text: String,
    words: Vec<(&'static str, String)>,
}

impl Fact {
    fn new(kind: &'static str, text: String) -> Fact {
        Fact { kind, text, words: Vec::new() }
    }

    #[must_use]
    fn with(mut self, name: &'static str, word: impl ToString) -> Fact {
        self.words.push((name, word.to_string()));
        self
    }

    /// The node at `addr`, as `redis-cli` wants it told.
    #[must_use]
    fn with_node(self, name: &'static str, addr: SocketAddr) -> Fact {
        self.with(name, format!("-h {} -p {}", addr.ip(), addr.port()))
    }
}

/// One finding, with all that a person needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// A word for programs.
    pub kind: &'static str,
    pub severity: Severity,
    pub text: String,
    pub cause: &'static str,
    /// Commands that repair it, in order.
    pub repair: Vec<String>,
}

/// Everything that is wrong or will hurt, the worst first. `settings`: what was read of each node's
/// ([`SETTINGS`]); empty when they were not asked for. `replicas` as for [`super::problem::problems`].
pub fn diagnose(
    view: &View,
    settings: &BTreeMap<SocketAddr, Result<Settings, NodeError>>,
    replicas: Option<usize>,
) -> Vec<Finding> {
    // First, as it explains most of what else is found then.
    let mut facts: Vec<Fact> = addresses::moved(view).into_iter().collect();
    facts.extend(problems::facts(view, replicas));
    facts.extend(addresses::facts(view));
    facts.extend(placement::facts(view));
    facts.extend(load::facts(view, settings));
    facts.extend(settings::facts(view, settings));
    let any = view.nodes.first().map(|node| node.view.asked);
    let mut findings: Vec<Finding> = facts
        .into_iter()
        .map(|fact| match any {
            Some(any) => fact.with("any", any),
            None => fact,
        })
        .map(|fact| explain(fact.clone(), known(fact.kind)))
        .collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// What is known about a kind; of one that the table lacks, that it is wrong.
fn known(kind: &'static str) -> Knowledge {
    let unknown = Knowledge { kind, severity: Severity::Warning, cause: "not known", repair: &[] };
    KNOWLEDGE.iter().find(|knowledge| knowledge.kind == kind).copied().unwrap_or(unknown)
}

/// Fills the commands' gaps. A command with a gap that the fact cannot fill is left out.
fn explain(fact: Fact, knowledge: Knowledge) -> Finding {
    let fill = |command: &&str| {
        let filled = fact
            .words
            .iter()
            .fold((*command).to_string(), |text, (name, word)| text.replace(&format!("{{{name}}}"), word));
        (!filled.contains('{')).then_some(filled)
    };
    let repair = knowledge.repair.iter().filter_map(fill).collect();
    let Knowledge { kind, severity, cause, .. } = knowledge;
    Finding { kind, severity, text: fact.text, cause, repair }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
