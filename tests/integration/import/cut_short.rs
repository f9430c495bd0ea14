//! Runs that were cut short, by whatever died, are gone on with.

use super::{FOLLOWS, Move, count, fill, say};
use crate::support::client::Client;
use crate::support::program::expect;
use crate::support::real_cluster::{RealCluster, owner_of};
use crate::support::wait_until;
use std::time::Duration;

#[test]
fn a_run_that_was_killed_is_gone_on_with() {
    let all = Move::usual();
    let mut source = all.source.client(0);
    fill(&mut source, "key:", 100_000);
    Client::connect(owner_of(all.cluster.addrs(), "alone")).expect("SET alone 1", "+OK\r\n");
    let first = all.begin(&["--yes"]);
    all.wait_for_notes(20_000);
    first.kill();
    let brought = count(&all.cluster);
    assert!(brought > 1 && brought < 100_000, "it was killed in the middle: {brought}");
    // Meanwhile keys change and go.
    let script = "for i = 1, 100000, 2 do redis.call('DEL', 'key:' .. i) end
        for i = 2, 100000, 2 do redis.call('SET', 'key:' .. i, 'new') end";
    source.set_patience(Duration::from_secs(60));
    say(&mut source, &["EVAL", script, "0"], "$-1\r\n");
    all.import(&["--yes"], 0, "An earlier run was cut short");
    assert_eq!(count(&all.cluster), 50_000 + 1, "nothing is left of what was deleted; others' keys are");
    assert_eq!(all.ask("key:500", &["GET", "key:500"]), "$3\r\nnew\r\n");
    assert_eq!(all.ask("alone", &["GET", "alone"]), "$1\r\n1\r\n");
}

#[test]
fn a_primary_of_the_cluster_may_fail_over_in_the_middle() {
    let mut all = Move::new(
        RealCluster::start_standalone(),
        RealCluster::start_with(&[("cluster-node-timeout", "2000"), ("appendfsync", "always")]),
    );
    fill(&mut all.source.client(0), "key:", 60_000);
    let import = all.begin(&["--yes"]);
    all.wait_for_notes(10_000);
    all.cluster.kill(1);
    let output = import.end();
    // What a replica had not got yet is found in the end, and mended by the next run.
    if output.status.code() != Some(0) {
        expect(&output, 1, "Run the same command again");
        all.import(&["--yes"], 0, "Done");
    }
    assert_eq!(count(&all.cluster), 60_000);
}

#[test]
fn a_source_that_dies_and_comes_back_is_gone_on_with() {
    let mut all = Move::usual();
    fill(&mut all.source.client(0), "key:", 60_000);
    let import = all.begin(&["--yes", "--timeout", "1s"]);
    all.wait_for_notes(10_000);
    all.source.kill(0);
    let output = import.end();
    expect(&output, 1, "run the same command again to go on");
    all.import(&["--yes"], 1, "is it running");

    all.source.restart(0);
    let import = all.begin(&["--yes", "--follow"]);
    import.wait_for(FOLLOWS, 1);
    all.source.kill(0);
    all.source.restart(0);
    all.source.client(0).expect("SET later 1", "+OK\r\n");
    import.wait_for(FOLLOWS, 2);
    wait_until("it follows again by itself", || count(&all.cluster) == 60_001);
    expect(&import.terminate(), 0, "Done");
}
