//! Where nodes are asked, and how long each place is waited for.

use super::{Manager, told};
use crate::control::observe::{Answer, ask_all};
use crate::control::view::Silent;
use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// Members told of by nodes just found are asked in turn; one round finds all that know each other.
const ROUNDS: usize = 3;
/// The limit for a place that did not answer at the last look and that no pod has: nodes that all moved at once
/// are not to wait for the places where they were.
const DOUBTFUL: Duration = Duration::from_millis(250);

impl Manager {
    /// Asks everywhere where a member was or may be by now.
    pub(super) async fn ask(&mut self, named: &HashSet<SocketAddr>) -> (Vec<Answer>, Vec<Silent>) {
        let mut asked: BTreeSet<SocketAddr> = self.members.clone();
        asked.extend(named);
        asked.extend(self.shared.load().nodes().iter().map(|node| node.addr));
        let mut new: Vec<SocketAddr> = asked.iter().copied().collect();
        let (mut answers, mut silent): (Vec<Answer>, Vec<Silent>) = Default::default();
        let (credentials, limit) = (&self.config.credentials, self.config.limit);
        for _ in 0..ROUNDS {
            let is_doubtful = |addr: &SocketAddr| self.silent.contains(addr) && !named.contains(addr);
            let (doubtful, likely): (Vec<SocketAddr>, Vec<SocketAddr>) =
                new.into_iter().partition(is_doubtful);
            let found = tokio::join!(
                ask_all(&likely, credentials, limit),
                ask_all(&doubtful, credentials, limit.min(DOUBTFUL))
            );
            for (mut more, mut none) in [found.0, found.1] {
                answers.append(&mut more);
                silent.append(&mut none);
            }
            // Where a node took our connection, when that is not where we dialled.
            let untold = answers.iter().flat_map(|answer| told(&answer.seen.view).chain(answer.facts.local));
            let untold: BTreeSet<SocketAddr> = untold.collect();
            new = untold.into_iter().filter(|addr| asked.insert(*addr)).collect();
            if new.is_empty() {
                break;
            }
        }
        // Without pods nobody tells where else they may be.
        let is_told = self.named.pods().is_some();
        self.silent = silent.iter().map(|silent| silent.addr).filter(|_| is_told).collect();
        (answers, silent)
    }

    /// The addresses that the operator named.
    pub(super) async fn resolve(&self) -> HashSet<SocketAddr> {
        let mut resolving = JoinSet::new();
        let limit = self.config.limit * 2;
        for seed in self.named.seeds() {
            resolving.spawn(async move { seed.resolve(limit).await });
        }
        let mut named = HashSet::new();
        while let Some(resolved) = resolving.join_next().await {
            // The refresh tells of names that cannot be looked up.
            named.extend(resolved.ok().and_then(Result::ok).into_iter().flatten());
        }
        named
    }
}
