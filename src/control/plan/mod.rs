//! plan: what to do, from what was asked for and what was observed. Pure; one rule a file.

pub mod failover;
pub mod fix;
pub mod form;
pub mod heal;
mod heal_addresses;
mod heal_delays;
pub mod heal_guard;
mod heal_leavers;
mod heal_links;
mod heal_newcomers;
pub mod heal_orphans;
pub mod placement;
pub mod rebalance;
pub mod rebalance_loads;
pub mod remove;
mod restart;
mod scale;
pub mod wish;
