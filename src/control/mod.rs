//! CONTROL PLANE: discover → observe → View → plan → Action → act.
//!
//! Learns what the cluster is and publishes it as a topology for the data plane; forms and checks
//! clusters. Never on the way of a client's command, and never imports the data plane.

pub mod act;
pub mod act_heal;
mod act_remove;
mod act_rescue;
pub mod action;
pub mod add;
pub mod agree;
pub mod announce;
pub mod backup;
pub mod bootstrap;
pub mod discover;
pub mod doctor;
pub mod edit;
pub mod everywhere;
pub mod failover;
pub mod fix;
pub mod hand_over;
pub mod host;
pub mod import;
pub mod introduce;
pub mod journal;
pub mod kubernetes;
pub mod leadership;
pub mod loader;
pub mod mark;
pub mod memory;
pub mod migrate;
pub mod named;
pub mod node_client;
pub mod observe;
pub mod plan;
pub mod pods;
pub mod problem;
pub mod rdb;
pub mod reconcile;
pub mod refresh;
pub mod remove;
pub mod replication;
pub mod report;
pub mod resize;
pub mod restore;
pub mod run_error;
mod settle_slot;
pub mod status;
pub mod stray;
pub mod survey;
mod sync_delay;
pub mod table;
pub mod view;
