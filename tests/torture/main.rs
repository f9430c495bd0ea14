//! Clients at work on a real cluster that is changed, restarted and broken meanwhile: every write that was
//! acknowledged is accounted for. The short form; `make torture` is the long one.
//!
//! A binary of its own, so that frozen and killed nodes meet no other test's patience.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod trial;
mod verdict_tests;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use trial::chapter::Trial;
use trial::fault::Fault;
use trial::world::Setup;

/// One cluster at a time: what is measured here is not how busy a machine can be.
static TURN: Mutex<()> = Mutex::new(());

/// Tells the chapters of a trial, and fails with all that is wrong with one.
#[track_caller]
fn tell(node_timeout: Duration, has_manager: bool, chapters: &[&[Fault]]) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let slotgate = env!("CARGO_BIN_EXE_slotgate").into();
    let setup = Setup { slotgate, node_timeout, gateways: 2, has_manager };
    // The same every time; the long form tries others.
    let mut trial = Trial::start(setup, 1).unwrap_or_else(|error| panic!("{error:#}"));
    for faults in chapters {
        // A machine that froze nodes of its own accord has done more than was asked for.
        let mut tries = 0;
        let account = loop {
            let account = trial.tell(faults).unwrap_or_else(|error| panic!("{error:#}"));
            println!("{}", account.line());
            tries += 1;
            if !account.is_unsure || account.broken.is_empty() || tries == 3 {
                break account;
            }
        };
        assert!(account.broken.is_empty(), "{}", account.line());
    }
}

#[test]
fn planned_changes_show_in_no_reply_and_lose_double_and_reorder_nothing() {
    // Nodes that nobody ends should not be taken for lost because the machine is busy.
    tell(
        Duration::from_secs(30),
        false,
        &[
            &[Fault::FailoverAll, Fault::MoveSlots, Fault::CutReplication, Fault::CutBus, Fault::Rebalance],
            &[Fault::KillReplica, Fault::FreezeReplica, Fault::FreezeBriefly],
            &[Fault::RollingRestart],
            &[Fault::DrainGateway, Fault::HangUp, Fault::KillGateway],
        ],
    );
}

#[test]
fn the_loss_of_a_primary_costs_only_the_end_of_what_it_had_not_replicated() {
    tell(
        Duration::from_secs(3),
        false,
        &[
            &[Fault::CutClients],
            &[Fault::KillPrimary],
            &[Fault::KillPrimaryOfLateReplica],
            &[Fault::FreezePrimary],
        ],
    );
}

#[test]
fn new_addresses_of_one_node_and_of_all_lose_nothing() {
    tell(Duration::from_secs(5), true, &[&[Fault::MoveOneAddress], &[Fault::MoveAllAddresses]]);
}
