//! A cluster with gateways, clients at work, faults, and an account of every write.
//!
//! Flow: `world` starts it all → `writers` ask and note → `fault` disturbs → `chapter` joins them and reads
//! what is left → `verdict` judges the `history`. Used by the tests in this folder, for a minute, and by
//! `make torture`, for as long as wished.

#![allow(dead_code)] // the long form and the short one use different parts

pub mod chapter;
#[allow(clippy::unwrap_used)] // it is of the tests' support, where a failed unwrap is a failed test
#[path = "../../integration/support/client.rs"]
mod client;
pub mod fault;
pub mod history;
mod register;
pub mod verdict;
pub mod world;
mod writers;

/// How long a client waits for a reply: longer than any request may be held.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(90);
