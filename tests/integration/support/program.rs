//! The real `slotgate` binary as a command that ends, and what its commands do to nodes.

use super::client::Client;
use super::end_with_us;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

/// The binary with these words, nothing to read, and nothing of ours in its environment.
pub fn slotgate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slotgate"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SLOTGATE_")) {
        command.env_remove(name);
    }
    end_with_us(&mut command);
    command
}

/// Runs it to its end.
pub fn run(args: &[&str]) -> Output {
    slotgate(args).output().unwrap()
}

/// `slotgate bootstrap` for these nodes.
pub fn bootstrap(addrs: &[SocketAddr], more: &[&str]) -> Command {
    let mut command = slotgate(&["bootstrap"]);
    command.args(addrs.iter().map(SocketAddr::to_string)).args(more);
    command
}

/// Checks the exit code and that `text` was printed somewhere.
#[track_caller]
pub fn expect(output: &Output, code: i32, text: &str) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout:\n{out}\nstderr:\n{err}");
    assert!(out.contains(text) || err.contains(text), "{text:?} is missing in\n{out}\n{err}");
}

/// Everything that a node knows of its cluster, but for times and links, in a fixed order.
pub fn state(addr: SocketAddr) -> Vec<String> {
    let nodes = Client::connect(addr).call_text(&["CLUSTER", "NODES"]);
    let mut lines: Vec<String> = nodes
        .lines()
        .filter(|line| line.contains('@'))
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            [&words[..4], &words[6..7], &words[8..]].concat().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

/// [`state`] of each node.
pub fn states(addrs: &[SocketAddr]) -> Vec<Vec<String>> {
    addrs.iter().map(|addr| state(*addr)).collect()
}
