//! The real gateway in front of real `redis-server` processes: bytes in, bytes out.
//!
//! One binary for all topics, one file per topic, so that the tests which can share a cluster do.
//! A test that needs a server and finds none fails and says how to get one; it never skips.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

mod admin;
mod announcements;
mod backup;
mod bad_days;
mod bare_cluster;
mod bootstrap;
mod command_keys;
mod command_table;
mod config;
mod cross_slot;
mod day_two;
mod demo;
mod drain;
mod failover;
mod fix;
mod import;
mod interrupted;
mod killed;
mod kubernetes;
mod large_values;
mod loader;
mod lost_nodes;
mod manage;
mod migration;
mod model;
mod move_copies;
mod move_loads;
mod move_slots;
mod moves_gone_wrong;
mod one_redis;
mod pods;
mod rdb_values;
mod redirects;
mod refresh;
mod remove;
mod semantics;
