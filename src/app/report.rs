//! Wires the manager to Kubernetes: where its journal is kept, and who tells what it does.

use crate::control::kubernetes::{Journal, Place, Reporter, Troubles, WatchStatus};
use crate::control::reconcile::{Config, ManageStatus};
use std::sync::Arc;
use tokio::sync::watch;

/// Gives the manager what Kubernetes keeps for it, and makes the one who tells Kubernetes of it.
///
/// Comes after `config.pods` and `config.leads` are set.
pub(super) fn through(
    config: &mut Config,
    place: Place,
    manage: Arc<ManageStatus>,
    status: Arc<WatchStatus>,
) -> Reporter {
    config.journal = Some(Arc::new(Journal::new(&place)));
    let troubles = Arc::new(Troubles::default());
    config.kubernetes = Some((status, troubles.clone()));
    let pods = config.pods.clone().unwrap_or_else(|| watch::channel(Arc::default()).1);
    Reporter { place, manage, pods, leads: config.leads.clone(), troubles }
}
