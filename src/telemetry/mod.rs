//! What operators see: every metric in one table, the workers' recorders, and the log.
//!
//! The hot path counts into a [`Recorder`], plain numbers of one worker; once a second these are
//! added to the shared [`Metrics`], which the admin server renders. Nothing here imports another
//! module of ours, and nothing on the hot path looks up, locks or shares.

mod histogram;
mod labels;
pub mod logging;
mod metrics;
mod recorder;
pub mod table;
mod text;

pub use labels::{Close, ErrandResult, Family, Outcome, Reason, RedirectKind};
pub use metrics::{Metrics, Sample};
pub use recorder::Recorder;
