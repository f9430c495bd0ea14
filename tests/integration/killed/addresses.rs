//! The manager, killed after each change of a late repair of addresses, and followed by another one.

use super::super::support::client::Client;
use super::super::support::digest::digest;
use super::super::support::gateway::Gateway;
use super::super::support::killer::{Changes, after_each};
use super::super::support::program::{bootstrap, expect, run, slotgate};
use super::super::support::real_cluster::RealCluster;
use super::super::support::wait_until;
use super::{expect_each, expect_whole, fill, in_turns, quiet, shape};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// The nodes' addresses on one of two networks for each turn.
fn addresses(ports: &[SocketAddr], turn: usize, is_other: bool) -> Vec<SocketAddr> {
    let net = 70 + 2 * turn as u8 + u8::from(is_other);
    let host = |ix: usize| Ipv4Addr::new(127, 0, net, 1 + ix as u8);
    ports.iter().enumerate().map(|(ix, addr)| SocketAddr::from((host(ix), addr.port()))).collect()
}

/// The cluster's shape by the nodes' places, as their addresses change.
fn by_place(addrs: &[SocketAddr]) -> Vec<(String, Option<usize>, Vec<String>)> {
    let shape = shape(addrs);
    let place = |addr: SocketAddr| addrs.iter().position(|other| *other == addr).unwrap();
    addrs
        .iter()
        .map(|addr| {
            let (slots, primary, settings) = shape[addr].clone();
            (slots, primary.map(place), settings)
        })
        .collect()
}

fn list(addrs: &[SocketAddr], file: &Path) {
    let text: String = addrs.iter().map(|addr| format!("{addr}\n")).collect();
    std::fs::write(file, text).unwrap();
}

#[test]
fn addresses_are_repaired_whichever_step_was_the_last_one_of_a_killed_manager() {
    let turns = 4;
    let hit = in_turns(turns, |turn| {
        // Long enough to be shortened, short enough not to wait for long.
        let settings = [("cluster-node-timeout", "2000"), ("enable-debug-command", "yes")];
        let mut cluster = RealCluster::start_like_pods_with(4, 70 + 2 * turn as u8, &settings);
        let mut addrs = cluster.addrs().to_vec();
        expect(&bootstrap(&addrs[..3], &["--yes", "--replicas", "0"]).output().unwrap(), 0, "Done");
        let names: Vec<String> = addrs.iter().map(SocketAddr::to_string).collect();
        expect(&run(&["add", &names[3], &names[0], "--yes", "--replica-of", &names[0]]), 0, "Added");
        fill(&addrs[..3], 300);
        let (keys, expected) = (digest(&addrs), by_place(&addrs));
        let files = tempfile::tempdir().unwrap();
        let (seeds, journal) = (files.path().join("nodes.txt"), files.path().join("journal.json"));
        let mut is_other = false;
        after_each(turn, turns, u64::MAX, |limit| {
            is_other = !is_other;
            let moved = addresses(&addrs, turn, is_other);
            let moves: Vec<(usize, SocketAddr)> = moved.iter().copied().enumerate().collect();
            cluster.move_to(&moves);
            addrs = moved;
            for addr in &addrs {
                let mut node = Client::connect(*addr);
                wait_until("every node misses all others", || {
                    node.call_text(&["CLUSTER", "NODES"]).matches("fail?").count() == 3
                });
            }
            list(&addrs, &seeds);
            let [seeds, journal] = [&seeds, &journal].map(|file| file.to_str().unwrap());
            let manage = ["--manage", "--seed-file", seeds, "--journal-file", journal];
            let serve = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
            let serve = quiet(slotgate(&[&serve[..], &manage[..]].concat()));
            let ended = Changes::of(&addrs).run_until_over(serve, limit, || {
                run(&["check", &addrs[0].to_string(), "--replicas", "0"]).status.success()
                    && by_place(&addrs) == expected
            });
            let gateway = Gateway::start_unready(&addrs, &manage);
            expect_whole(addrs[0], 0);
            wait_until("all is as it was", || by_place(&addrs) == expected);
            drop(gateway);
            assert_eq!(by_place(&addrs), expected, "killed after {limit} changes");
            assert_eq!(digest(&addrs), keys, "killed after {limit} changes");
            ended
        })
    });
    // Four guards, four times haste, at least three contacts, four times as before.
    expect_each(&hit, 15);
}
