//! A cluster with gateways, clients at work, faults, and an account of every write.
//!
//! Flow: `world` starts it all → `writers` ask and note → `fault` disturbs → `chapter` joins them and reads
//! what is left → `verdict` judges the `history`. Used by the tests in this folder, for a minute, and by
//! `make torture`, for as long as wished.

#![allow(dead_code)] // the long form and the short one use different parts

pub mod history;
mod register;
pub mod verdict;
