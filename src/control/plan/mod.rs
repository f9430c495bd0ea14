//! plan: what to do, from what was asked for and what was observed. Pure; one rule a file.

pub mod failover;
pub mod fix;
pub mod form;
mod placement;
pub mod rebalance;
