//! Runs that end in the middle leave nothing behind, or can be gone on with.

use super::{all_keys, backup, one_shard, place, primaries, restore, shards, text};
use crate::support::program::{expect, slotgate};
use crate::support::real_cluster::RealCluster;
use crate::support::wait_until;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

#[test]
fn a_full_disk_leaves_no_backup_behind() {
    let cluster = one_shard(&[]);
    cluster.client(0).expect("DEBUG POPULATE 2000 key 1000", "+OK\r\n");
    // Without compression, the file has the two million bytes of the values.
    cluster.client(0).expect("CONFIG SET rdbcompression no", "+OK\r\n");
    let (_dir, path) = place();
    let mut command = slotgate(&["backup", text(&path), &cluster.addrs()[0].to_string()]);
    // SAFETY: both calls are async-signal-safe and touch no memory of ours but `limit`.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
            // Without its signal, a file that may grow no more is an error like a full disk.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
            Ok(())
        });
    }
    let output = command.output().unwrap();
    expect(&output, 1, "There is no backup; what was written of it has been removed");
    assert!(!path.exists());
    expect(&backup(&path, cluster.addrs()[0], &[]), 0, "Saved 2000 keys");
}

fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "part")
}

/// A backup whose files are begun, of a node that is slow.
fn waiting_backup(cluster: &RealCluster, path: &Path) -> Child {
    let mut command = slotgate(&["backup", text(path), &cluster.addrs()[0].to_string()]);
    let running = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_until("its files are begun", || {
        fs::read_dir(path).is_ok_and(|mut files| files.any(|file| is_part(&file.unwrap().path())))
    });
    running
}

/// A node that takes half a minute to send its data.
fn slow_shard() -> RealCluster {
    let cluster = one_shard(&[]);
    cluster.client(0).expect("DEBUG POPULATE 60 key 10", "+OK\r\n");
    cluster.client(0).expect("CONFIG SET rdb-key-save-delay 500000", "+OK\r\n");
    cluster
}

#[test]
fn a_backup_that_is_interrupted_leaves_nothing_behind() {
    let cluster = slow_shard();
    let (_dir, path) = place();
    let running = waiting_backup(&cluster, &path);
    // SAFETY: a process of ours that has not been waited for.
    unsafe { libc::kill(running.id() as i32, libc::SIGINT) };
    expect(&running.wait_with_output().unwrap(), 1, "stopped: there is no backup");
    assert!(!path.exists());
}

#[test]
fn a_node_that_dies_meanwhile_leaves_nothing_behind() {
    let mut cluster = slow_shard();
    let (_dir, path) = place();
    let running = waiting_backup(&cluster, &path);
    cluster.kill(0);
    let output = running.wait_with_output().unwrap();
    expect(&output, 1, &cluster.addrs()[0].to_string());
    assert!(!path.exists(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_restore_that_was_killed_is_continued_with_replace() {
    let (source, target) = (one_shard(&[]), shards(3));
    source.client(0).expect("DEBUG POPULATE 200000 key 100", "+OK\r\n");
    let (_dir, path) = place();
    expect(&backup(&path, source.addrs()[0], &[]), 0, "Saved 200000 keys");
    let mut running = slotgate(&["restore", text(&path), &target.addrs()[0].to_string(), "--yes"]);
    let mut running = running.stdout(Stdio::null()).spawn().unwrap();
    let count = || -> usize {
        let sizes = primaries(target.addrs()).into_iter().map(|mut client| client.call_text(&["DBSIZE"]));
        sizes.map(|size| size[1..].trim_end().parse::<usize>().unwrap()).sum()
    };
    wait_until("some keys are there", || count() > 0);
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(count() < 200_000, "it was killed too late to show anything");
    expect(&restore(&path, target.addrs()[0], &["--yes"]), 3, "add --replace");
    expect(&restore(&path, target.addrs()[1], &["--yes", "--replace"]), 0, "Restored 200000 keys");
    assert_eq!(all_keys(target.addrs()), all_keys(source.addrs()));
}
