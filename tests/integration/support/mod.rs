//! What the tests stand on: real clusters, the real gateway, and a client that shows raw bytes.

#![allow(dead_code)] // not every helper has a test in every build

pub mod both;
pub mod client;
pub mod digest;
pub mod fake_kube;
pub mod fake_node;
pub mod gateway;
pub mod keys;
pub mod killer;
pub mod kubelet;
pub mod one_line;
pub mod payload;
pub mod program;
pub mod real_cluster;
pub mod shard_load;
pub mod slot_move;
pub mod value;

use std::time::{Duration, Instant};

/// Nothing that works takes this long, not even on a busy machine with two cores.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Looks again and again until `condition` holds; fails after [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends the process that `command` is going to start when the thread that starts it ends, so that a
/// killed test run leaves nothing behind.
pub fn end_with_us(command: &mut std::process::Command) -> &mut std::process::Command {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        })
    }
}
