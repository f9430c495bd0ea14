//! plan: what to do, from what was asked for and what was observed. Pure; one rule a file.

pub mod departures;
pub mod failover;
pub mod first_start;
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
pub mod heal_pods;
pub mod heal_rescue;
pub mod placement;
pub mod rebalance;
pub mod rebalance_loads;
#[cfg(test)]
mod rebalance_model;
pub mod remove;
mod replaced;
mod restart;
mod scale;
mod scaled_in;
pub mod wish;
