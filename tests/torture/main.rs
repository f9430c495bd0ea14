//! Clients at work on a real cluster that is changed, restarted and broken meanwhile: every write that was
//! acknowledged is accounted for. The short form; `make torture` is the long one.
//!
//! A binary of its own, so that frozen and killed nodes meet no other test's patience.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod trial;
mod verdict_tests;
