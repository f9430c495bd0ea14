//! What the refresh last learned, for operators. Cheap to read; never waits for a node.

use crate::control::discover::Seed;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How one endpoint answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointStatus {
    /// When it last gave a view.
    pub answered_at: Option<Instant>,
    /// Why it gave none when it was last asked; `None` when it did.
    pub error: Option<String>,
}

/// The state of the topology refresh, shared with the admin side.
#[derive(Debug, Default)]
pub struct RefreshStatus(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    endpoints: BTreeMap<SocketAddr, EndpointStatus>,
    seeds: BTreeMap<Seed, String>,
    trouble: Option<String>,
}

impl RefreshStatus {
    /// How each endpoint answered that is known or was asked lately.
    pub fn endpoints(&self) -> Vec<(SocketAddr, EndpointStatus)> {
        self.lock().endpoints.iter().map(|(addr, status)| (*addr, status.clone())).collect()
    }

    /// The seeds whose names could not be looked up when they were last needed, and why.
    pub fn seed_errors(&self) -> Vec<(Seed, String)> {
        self.lock().seeds.iter().map(|(seed, error)| (seed.clone(), error.clone())).collect()
    }

    /// Why the last look gave no topology, in words for people; `None` when it did.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    pub(super) fn answered(&self, addr: SocketAddr, error: Option<String>) {
        let mut inner = self.lock();
        let status = inner.endpoints.entry(addr).or_default();
        if error.is_none() {
            status.answered_at = Some(Instant::now());
        }
        status.error = error;
    }

    pub(super) fn resolved(&self, seed: &Seed, error: Option<String>) {
        match error {
            Some(error) => self.lock().seeds.insert(seed.clone(), error),
            None => self.lock().seeds.remove(seed),
        };
    }

    /// Forgets all endpoints but these.
    pub(super) fn keep(&self, endpoints: &BTreeSet<SocketAddr>) {
        self.lock().endpoints.retain(|addr, _| endpoints.contains(addr));
    }

    /// Returns whether there was trouble before.
    pub(super) fn set_trouble(&self, trouble: Option<String>) -> bool {
        std::mem::replace(&mut self.lock().trouble, trouble).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
