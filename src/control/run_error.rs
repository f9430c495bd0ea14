//! Why a run of steps ended before its end: what the commands that carry plans out have in common.
//!
//! What was done stays done; the next run goes on from what the nodes say.

use super::act::StepError;
use super::migrate::Stop;
use super::problem::{Problem, join};
use std::time::Duration;

/// Why a run was not finished.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}. Run the same command again to go on from here")]
    Step(#[from] StepError),
    #[error("stopped; no step was left half-way. To go on from here, run the same command again")]
    Stopped,
    #[error("the nodes did not agree within {limit:?}: {}. Run the same command again to go on from here", join(.problems, "; "))]
    Unsettled { limit: Duration, problems: Vec<Problem> },
}

/// Between two steps.
///
/// # Errors
/// The run is to end here.
pub fn go_on(stop: &Stop) -> Result<(), RunError> {
    if stop.is_requested() { Err(RunError::Stopped) } else { Ok(()) }
}
