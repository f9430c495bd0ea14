//! `slotgate move-slots`, `rebalance` and `add` on bad days: killed, interrupted, out of memory, cut off.

use crate::move_slots::{SETTINGS, at, cluster_with_spares, count_slots, expect_whole, fill};
use crate::support::client::{Client, request};
use crate::support::digest::{digest, digest_of};
use crate::support::program::{bootstrap, expect, run, slotgate};
use crate::support::real_cluster::RealCluster;
use crate::support::wait_until;
use slotgate::topology::Slot;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// A run under way, whose lines can be waited for.
struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let pipes: [Box<dyn Read + Send>; 2] = [Box::new(out), Box::new(err)];
        for pipe in pipes {
            let sender = sender.clone();
            thread::spawn(move || {
                BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
            });
        }
        Running { child, lines, seen: Vec::new() }
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        while !self.seen.iter().any(|line| line.contains(text)) {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("{text:?} was not said ({error}), but {:#?}", self.seen),
            }
        }
    }

    fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: the call touches no memory, and the child has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    }

    /// How it ended, and all that it said.
    fn end(mut self) -> (ExitStatus, String) {
        self.seen.extend(self.lines.iter());
        (self.child.wait().unwrap(), self.seen.join("\n"))
    }
}

fn mover(cluster: &RealCluster, from: usize, to: usize, slots: &str) -> Command {
    let (from, to) = (at(cluster, from), at(cluster, to));
    slotgate(&["move-slots", "--from", &from, "--to", &to, "--slots", slots, "--yes", &from])
}

/// Writes keys `{tag}:0` and on, all of one slot, with values of so many bytes; gives the slot.
fn fill_slot(cluster: &RealCluster, tag: &str, count: usize, bytes: usize) -> Slot {
    let value = "v".repeat(bytes);
    let mut client = cluster.client(cluster.owner_of_key(&format!("{{{tag}}}")));
    for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
        let set = |ix: &usize| request(&["SET", &format!("{{{tag}}}:{ix}"), &format!("{value}{ix}")]);
        client.send_raw(chunk.iter().flat_map(set).collect::<Vec<u8>>());
        chunk.iter().for_each(|_| assert_eq!(client.read(), b"+OK\r\n"));
    }
    Slot::of_key(tag.as_bytes())
}

fn has_open_slots(cluster: &RealCluster) -> bool {
    (0..cluster.addrs().len()).any(|ix| cluster.client(ix).call_text(&["CLUSTER", "NODES"]).contains('['))
}

fn count_keys(node: &mut Client, slot: Slot) -> u64 {
    let reply = node.call_text(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
    reply.trim_end().trim_start_matches(':').parse().unwrap()
}

#[test]
fn a_target_that_hangs_in_the_middle_gets_every_key_once_it_goes_on() {
    let cluster = cluster_with_spares(0);
    // More keys than are copied: they go by MIGRATE, which the source gives up after some seconds.
    let slot = fill_slot(&cluster, "full", 30_000, 100);
    let before = digest(cluster.addrs());
    let from = cluster.owner_of_key("{full}");
    let to = (from + 1) % 3;
    let mut run = Running::start(mover(&cluster, from, to, &slot.to_string()));
    let mut target = cluster.client(to);
    wait_until("some keys have come", || count_keys(&mut target, slot) > 0);
    cluster.freeze(to);
    run.wait_for("lost its exchange");
    cluster.thaw(to);
    let (status, said) = run.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(digest(cluster.addrs()) == before, "keys were lost, changed or are twice");
    expect_whole(&cluster);
}

#[test]
fn a_target_that_dies_in_the_middle_stops_the_run_and_the_next_one_goes_on() {
    let settings =
        [("appendonly", "yes"), ("enable-debug-command", "yes"), ("cluster-node-timeout", "60000")];
    let mut cluster = RealCluster::start_unformed_with(3, &settings);
    expect(&bootstrap(cluster.addrs(), &["--yes", "--replicas", "0"]).output().unwrap(), 0, "Done");
    fill(&cluster, 20_000);
    let before = digest(cluster.addrs());
    let run = Running::start(mover(&cluster, 0, 1, "0-5460"));
    wait_until("some slots are moved", || count_slots(&cluster, 1) > 5500);
    cluster.kill(1);
    let (status, said) = run.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("To go on: slotgate move-slots"), "{said}");
    cluster.restart(1);
    expect(&mover(&cluster, 0, 1, "0-5460").output().unwrap(), 0, "");
    assert!(digest(cluster.addrs()) == before, "keys were lost, changed or are twice");
    expect_whole(&cluster);
    assert_eq!(count_slots(&cluster, 0), 0);
}

#[test]
fn a_target_that_runs_out_of_memory_stops_the_run_and_keys_stay_where_they_are() {
    let cluster = cluster_with_spares(0);
    // What is copied, and what goes by MIGRATE; each more than there will be room for.
    for (tag, count, bytes) in [("few", 400, 3000), ("many", 10_000, 300)] {
        let slot = fill_slot(&cluster, tag, count, bytes);
        let before = digest(cluster.addrs());
        let from = cluster.owner_of_key(&format!("{{{tag}}}"));
        let to = (from + 1) % 3;
        let mut target = cluster.client(to);
        let info = target.call_text(&["INFO", "memory"]);
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        let limit = used.trim().parse::<u64>().unwrap() + 500_000;
        target.expect(&format!("CONFIG SET maxmemory {limit}"), "+OK\r\n");
        let output = mover(&cluster, from, to, &slot.to_string()).output().unwrap();
        expect(&output, 1, "raise its maxmemory");
        assert!(digest(cluster.addrs()) == before, "keys were lost, changed or are twice");
        target.expect("CONFIG SET maxmemory 0", "+OK\r\n");
        expect(&mover(&cluster, from, to, &slot.to_string()).output().unwrap(), 0, "finish the move");
        assert!(digest(cluster.addrs()) == before, "keys were lost, changed or are twice");
        expect_whole(&cluster);
    }
}

#[test]
fn ctrl_c_finishes_the_slots_under_way_and_says_how_to_go_on() {
    let cluster = cluster_with_spares(0);
    fill(&cluster, 20_000);
    let before = digest(cluster.addrs());
    let mut run = Running::start(mover(&cluster, 0, 1, "0-5460"));
    wait_until("some slots are moved", || count_slots(&cluster, 1) > 5500);
    // Held, so that it is interrupted in the middle however fast it is.
    cluster.freeze(1);
    run.interrupt();
    run.wait_for("Finishing what is under way");
    cluster.thaw(1);
    let (status, said) = run.end();
    assert_eq!(status.code(), Some(1), "{said}");
    let how = said.lines().find_map(|line| line.split_once("To go on: slotgate ")).expect(&said).1;
    assert!(!has_open_slots(&cluster), "{said}");
    let words: Vec<&str> = how.split(' ').collect();
    expect(&run_words(&words), 0, "");
    assert_eq!(count_slots(&cluster, 0), 0);
    assert!(digest(cluster.addrs()) == before, "keys were lost, changed or are twice");
}

fn run_words(words: &[&str]) -> std::process::Output {
    run(&[words, &["--yes"]].concat())
}

#[test]
fn a_user_with_a_password_moves_slots_there_and_back() {
    let users = [("user", "default off"), ("user", "mover on >hunter2 ~* &* +@all")];
    let cluster = RealCluster::start_unformed_with(3, &[&SETTINGS[..], &users].concat());
    let login = |mut command: Command, user: &str| {
        command.env("SLOTGATE_USER", user).env("SLOTGATE_PASSWORD", "hunter2").output().unwrap()
    };
    expect(&login(bootstrap(cluster.addrs(), &["--yes", "--replicas", "0"]), "mover"), 0, "Done");
    let [mut source, mut target] = [0, 1].map(|ix| {
        let mut client = cluster.client(ix);
        client.expect("AUTH mover hunter2", "+OK\r\n");
        client
    });
    // Slot 5061 with many keys, slot 3300 with one.
    let (many, few) = (Slot::of_key(b"bar"), Slot::of_key(b"b"));
    assert_eq!((many.number(), few.number()), (5061, 3300));
    for ix in 0..1000 {
        source.expect(&format!("SET {{bar}}{ix} {ix}"), "+OK\r\n");
    }
    source.expect("SET b 1", "+OK\r\n");
    expect(&login(mover(&cluster, 0, 1, "3300,5061"), "mover"), 0, "Moved 2 slots with 1001 keys");
    assert_eq!((count_keys(&mut target, many), count_keys(&mut target, few)), (1000, 1));
    expect(&login(mover(&cluster, 1, 0, "3300,5061"), "mover"), 0, "Moved 2 slots with 1001 keys");
    assert_eq!((count_keys(&mut source, many), count_keys(&mut source, few)), (1000, 1));
    let mut nobody = mover(&cluster, 0, 1, "1");
    nobody.args(["--timeout", "1s"]);
    expect(&login(nobody, "nobody"), 1, "WRONGPASS");
}

#[test]
fn a_target_s_replica_has_what_was_moved_when_the_target_dies() {
    let mut cluster = RealCluster::start_with(&[("enable-debug-command", "yes")]);
    fill(&cluster, 5000);
    let before = digest(cluster.addrs());
    expect(&mover(&cluster, 0, 1, "0-2999").output().unwrap(), 0, "Moved 3000 slots");
    cluster.kill_and_wait_for_failover(1);
    wait_until("the others have heard of it", || {
        let state = |ix| cluster.client(ix).call_text(&["CLUSTER", "INFO"]);
        [0, 2, 3, 4, 5].into_iter().all(|ix| state(ix).contains("cluster_state:ok"))
    });
    let digests = [0, 2, 3, 4, 5].into_iter().flat_map(|ix| digest_of(&mut cluster.client(ix)));
    assert!(digests.collect::<BTreeMap<_, _>>() == before, "keys were lost or changed");
}

#[test]
fn an_addition_that_is_killed_is_ended_by_the_next_run() {
    const SPARES: usize = 4;
    let cluster = RealCluster::start_unformed_with(3 + SPARES, &SETTINGS);
    expect(&bootstrap(&cluster.addrs()[..3], &["--yes", "--replicas", "0"]).output().unwrap(), 0, "Done");
    let first = at(&cluster, 0);
    for spare in 0..SPARES {
        let newcomer = at(&cluster, 3 + spare);
        let mut child = slotgate(&["add", &newcomer, &first, "--yes"]).stdout(Stdio::null()).spawn().unwrap();
        // Ever later, so that it is met in several of its steps.
        thread::sleep(Duration::from_millis([5, 25, 80, 300][spare]));
        let _ = child.kill();
        child.wait().unwrap();
        expect(&run(&["add", &newcomer, &first, "--yes"]), 0, "");
        expect_whole(&cluster);
        let known = cluster.client(3 + spare).call_text(&["CLUSTER", "NODES"]);
        assert_eq!(known.matches(" connected").count(), 4 + spare, "{known}");
    }
}

#[test]
fn keys_of_a_slot_that_moves_again_and_again_stay_right_while_they_are_written() {
    let cluster = cluster_with_spares(0);
    let from = cluster.owner_of_key("{hot}");
    let slot = fill_slot(&cluster, "hot", 400, 100);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let counted = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let gateway = crate::support::gateway::Gateway::start(cluster.addrs());
            let mut client = gateway.client();
            let mut count = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                count += 1;
                client.expect("INCR counter{hot}", &format!(":{count}\r\n"));
                client.expect(&format!("SET {{hot}}:{} x", count % 400), "+OK\r\n");
                client.expect(&format!("DEL {{hot}}:{}", count % 400), ":1\r\n");
                client.expect(&format!("GET {{hot}}:{}", count % 400), "$-1\r\n");
            }
            count
        });
        let mut place = from;
        for _ in 0..10 {
            let next = (place + 1) % 3;
            expect(&mover(&cluster, place, next, &slot.to_string()).output().unwrap(), 0, "Moved 1 slots");
            place = next;
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap()
    });
    let mut owner = cluster.client(cluster.owner_of_key("{hot}"));
    let value = counted.to_string();
    owner.expect("GET counter{hot}", &format!("${}\r\n{value}\r\n", value.len()));
    expect_whole(&cluster);
}
