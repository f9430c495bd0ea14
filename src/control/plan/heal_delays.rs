//! heal, delays: first copies wait again as the operator wishes, when a run that formed the cluster was
//! killed before it put that back. Pure.

use super::heal::{Case, Plan};
use crate::control::action::Action;

/// Harmful to nobody while another run is at it: its first copies begin some seconds later.
pub fn heal(case: Case<'_>, plan: &mut Plan) {
    for node in &case.survey.view.nodes {
        let settings = case.survey.facts(node.view.id()).and_then(|facts| facts.settings.as_ref());
        if settings.is_some_and(|settings| settings.delay_mark.is_some()) {
            plan.step("left-changed", Action::RestoreDelay { node: case.survey.party(node) });
        }
    }
}
