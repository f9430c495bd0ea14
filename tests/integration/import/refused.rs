//! What would not be safe is refused, and what cannot be done says why and harms nobody's keys.

use super::{FOLLOWS, Move, count, fill, say};
use crate::support::client::Client;
use crate::support::program::{expect, run};
use crate::support::real_cluster::{RealCluster, owner_of};
use crate::support::wait_until;

#[test]
fn what_would_not_be_safe_is_refused_and_what_cannot_be_done_says_why() {
    let all = Move::new(
        RealCluster::start_standalone_with(&[("requirepass", "hunter2")]),
        RealCluster::start_without_replicas(&[]),
    );
    let with_password = |more: &[&str]| {
        let mut command = all.command(more);
        command.env("SLOTGATE_FROM_PASSWORD", "hunter2");
        command.output().unwrap()
    };
    all.import(&["--yes"], 1, "NOAUTH");
    let mut wrong = all.command(&["--yes"]);
    expect(&wrong.env("SLOTGATE_FROM_PASSWORD", "no").output().unwrap(), 1, "WRONGPASS");
    all.import(&["--yes", "--from-user", "me"], 2, "--from-user needs a password");

    let mut source = all.source.client(0);
    source.expect("AUTH hunter2", "+OK\r\n");
    source.expect("SET same 1", "+OK\r\n");
    source.expect("SET other ours", "+OK\r\n");
    let owner = |key| Client::connect(owner_of(all.cluster.addrs(), key));
    owner("same").expect("SET same 1", "+OK\r\n");
    owner("other").expect("SET other theirs", "+OK\r\n");
    owner("alone").expect("SET alone 1", "+OK\r\n");
    let refused = with_password(&["--yes"]);
    expect(&refused, 3, "1 of the source's keys already, with other values: \"other\"");
    expect(&with_password(&["--dry-run"]), 3, "\"other\"");
    assert_eq!(all.ask("other", &["GET", "other"]), "$6\r\ntheirs\r\n");

    source.expect("SELECT 3", "+OK\r\n");
    source.expect("SET there 1", "+OK\r\n");
    expect(&with_password(&["--yes"]), 3, "several: 0 (2), 3 (1): choose one with --db");
    expect(&with_password(&["--yes", "--db", "3"]), 0, "Done");
    assert_eq!(all.ask("there", &["GET", "there"]), "$1\r\n1\r\n");
    expect(&with_password(&["--yes", "--db", "0", "--replace"]), 0, "Done");
    assert_eq!(all.ask("other", &["GET", "other"]), "$4\r\nours\r\n");
    assert_eq!(all.ask("alone", &["GET", "alone"]), "$1\r\n1\r\n", "keys of others stay");

    let (one, two) = (all.cluster.addrs()[0].to_string(), all.cluster.addrs()[1].to_string());
    expect(&run(&["import", "--from", &one, &two, "--yes"]), 3, "a node of the cluster itself");
    expect(&run(&["import", "--from", "127.0.0.1:1", &two, "--yes"]), 1, "is it running");
    std::fs::write(all.state(), "a person's file").unwrap();
    expect(&with_password(&["--yes", "--db", "0"]), 3, "not the file of an import");
}

#[test]
fn names_of_another_database_and_names_that_others_took_meanwhile_are_left_alone() {
    let all = Move::usual();
    let (mut zero, mut three) = (all.source.client(0), all.source.client(0));
    three.expect("SELECT 3", "+OK\r\n");
    three.expect("SET mine 1", "+OK\r\n");
    let owner = |key| Client::connect(owner_of(all.cluster.addrs(), key));
    owner("theirs").expect("SET theirs 1", "+OK\r\n");
    let import = all.begin(&["--yes", "--follow", "--db", "3"]);
    import.wait_for(FOLLOWS, 1);
    // Written in another database, where the copied one has no such key.
    zero.expect("SET theirs zero", "+OK\r\n");
    three.expect("SET mine 2", "+OK\r\n");
    wait_until("the writes are heard of", || all.ask("mine", &["GET", "mine"]) == "$1\r\n2\r\n");
    assert_eq!(all.ask("theirs", &["GET", "theirs"]), "$1\r\n1\r\n");
    three.expect("SET theirs 3", "+OK\r\n");
    expect(&import.end(), 3, "with other values: \"theirs\"");
    assert_eq!(all.ask("theirs", &["GET", "theirs"]), "$1\r\n1\r\n");
}

#[test]
fn a_cluster_that_is_too_small_for_the_keys_says_so() {
    let all = Move::usual();
    let mut source = all.source.client(0);
    let large = "x".repeat(2 << 20);
    say(&mut source, &["CONFIG", "SET", "rdbcompression", "no"], "+OK\r\n");
    say(&mut source, &["SET", "large", &large], "+OK\r\n");
    source.expect("SET small 1", "+OK\r\n");
    for ix in 0..3 {
        all.cluster.client(ix).expect("CONFIG SET proto-max-bulk-len 1048576", "+OK\r\n");
    }
    let output = all.import(&["--yes"], 1, "raise proto-max-bulk-len on all of them");
    expect(&output, 1, "\"large\" is missing in the cluster");
    for ix in 0..3 {
        all.cluster.client(ix).expect("CONFIG SET proto-max-bulk-len 10000000", "+OK\r\n");
        all.cluster.client(ix).expect("CONFIG SET maxmemory 1", "+OK\r\n");
    }
    all.import(&["--yes"], 1, "raise its maxmemory or add a shard");
    for ix in 0..3 {
        all.cluster.client(ix).expect("CONFIG SET maxmemory 0", "+OK\r\n");
    }
    all.import(&["--yes"], 0, "2 are the same");
}

#[test]
fn a_source_that_does_not_tell_what_is_written_is_copied_only_when_asked_to() {
    let all = Move::usual();
    let mut source = all.source.client(0);
    fill(&mut source, "key:", 100);
    let rules = ["ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+info", "+select", "+dump"];
    say(&mut source, &rules, "+OK\r\n");
    let file = all.dir.path().join("password");
    std::fs::write(&file, "pw\n").unwrap();
    let login = ["--yes", "--from-user", "reader", "--from-password-file", file.to_str().unwrap()];
    all.import(&login, 3, "import with --no-watch");
    assert_eq!(count(&all.cluster), 0);
    all.import(&[&login[..], &["--no-watch"]].concat(), 0, "100 are the same");
}
