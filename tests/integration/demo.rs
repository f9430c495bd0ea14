//! `slotgate demo`: starts, serves, and leaves nothing behind.

use super::support::program::{expect, slotgate, states};
use super::support::real_cluster::server;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};

/// A demo on a free port; its lines are read until it serves.
struct Demo {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    told: String,
}

impl Demo {
    fn start(port: u16, more: &[&str]) -> Demo {
        let mut command = slotgate(&["demo", "--server", &server(), "--port", &port.to_string()]);
        let mut child = command.args(more).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut told = String::new();
        while !told.contains("Ctrl-C ends everything") {
            assert!(out.read_line(&mut told).unwrap() > 0, "the demo ended early:\n{told}");
        }
        Demo { child, out, told }
    }

    /// The addresses of its nodes.
    fn nodes(&self) -> Vec<SocketAddr> {
        let line = self.told.lines().find_map(|line| line.strip_prefix("The nodes: ")).unwrap();
        line.split(' ').map(|addr| addr.parse().unwrap()).collect()
    }

    /// Where the nodes' data is.
    fn dir(&self) -> &str {
        self.told.lines().find_map(|line| line.strip_prefix("Forming a cluster of them in ")).unwrap()
    }

    fn interrupt(mut self) {
        // SAFETY: `kill` touches no memory; the child is not waited for yet, so its id is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGINT) };
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
        for addr in self.nodes() {
            assert!(std::net::TcpStream::connect(addr).is_err(), "{addr} still runs");
        }
    }
}

/// A port that is free, as is the next one.
fn free_port() -> u16 {
    loop {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

#[test]
fn a_demo_leaves_nothing_behind_but_a_folder_that_is_to_be_kept() {
    let port = free_port();
    let demo = Demo::start(port, &["--nodes", "3", "--replicas", "0"]);
    let mut in_use = slotgate(&["demo", "--port", &port.to_string()]);
    expect(&in_use.output().unwrap(), 1, &format!("cannot listen at 127.0.0.1:{port}"));
    let dir = demo.dir().to_string();
    assert!(Path::new(&dir).exists());
    demo.interrupt();
    assert!(!Path::new(&dir).exists(), "{dir} is still there");

    let kept = tempfile::tempdir().unwrap();
    let keep = ["--nodes", "3", "--replicas", "0", "--keep-dir", kept.path().to_str().unwrap()];
    let first = Demo::start(port, &keep);
    let nodes = first.nodes();
    let ids = states(&nodes);
    first.interrupt();
    let second = Demo::start(port, &keep);
    assert_eq!(second.nodes(), nodes);
    assert_eq!(states(&nodes), ids, "the same cluster goes on");
    second.interrupt();
}

#[test]
fn a_demo_of_too_few_nodes_starts_none() {
    let output = slotgate(&["demo", "--nodes", "5", "--port", &free_port().to_string()]).output().unwrap();
    expect(&output, 2, "5 nodes with 1 replicas each make 2; name 6 nodes or more");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_demo_that_is_interrupted_while_it_starts_leaves_nothing_behind() {
    let mut command = slotgate(&["demo", "--server", &server(), "--port", &free_port().to_string()]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut told = String::new();
    while !told.contains("Forming a cluster") {
        assert!(out.read_line(&mut told).unwrap() > 0, "the demo ended early:\n{told}");
    }
    // SAFETY: `kill` touches no memory; the child is not waited for yet, so its id is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    out.read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success());
    let dir = told.lines().find_map(|line| line.strip_prefix("Forming a cluster of them in ")).unwrap();
    assert!(!Path::new(dir).exists(), "{dir} is still there");
}
