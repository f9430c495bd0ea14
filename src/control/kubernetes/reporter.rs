//! Reporter: tells Kubernetes' users what the manager sees and does: by Events, and by a ConfigMap with the
//! status. Only the leader's word is told.

use super::trouble::Troubles;
use super::{Place, events, status};
use crate::control::discover::PodsWatch;
use crate::control::leadership::Leadership;
use crate::control::reconcile::ManageStatus;
use std::sync::Arc;

/// What is told of, and to whom.
pub struct Reporter {
    pub place: Place,
    pub manage: Arc<ManageStatus>,
    pub pods: PodsWatch,
    pub leads: Leadership,
    /// What cannot be told.
    pub troubles: Arc<Troubles>,
}

impl Reporter {
    /// Tells until `cancelled` completes.
    pub async fn run(self, cancelled: impl Future<Output = ()>) {
        tokio::select! {
            () = cancelled => {}
            () = events::tell(&self) => {}
            () = status::keep(&self) => {}
        }
    }

    pub(super) fn is_leading(&self) -> bool {
        self.leads.is_leader()
    }
}
