//! Kubernetes through kube's real client and a fake API server: what its bad days do to slotgate.

mod gateways;
mod journal;
mod lease;
mod pods;
mod report;
mod rights;
mod wishes;

use super::support::fake_kube::{FakeKube, NAMESPACE};
use slotgate::control::kubernetes::{Config, Place};

/// The StatefulSet `redis` at this API server; to be called within a runtime.
fn place(kube: &FakeKube) -> Place {
    let config = Config { namespace: None, stateful_set: "redis".into(), port: 6379 };
    Place::new(kube.client(), NAMESPACE, &config)
}
