//! Kills a program with SIGKILL once it has made a given number of changes to nodes, whatever it prints.
//!
//! The nodes themselves count the changing commands that they carried out. The program runs in slices and
//! is frozen while they are asked, so that hardly ever two changes fall into one slice.

use super::PATIENCE;
use super::client::Client;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// The commands that change a node or its cluster, as `INFO commandstats` names them.
const CHANGES: &[&str] = &[
    "cluster|meet",
    "cluster|addslots",
    "cluster|addslotsrange",
    "cluster|set-config-epoch",
    "cluster|setslot",
    "cluster|replicate",
    "cluster|forget",
    "cluster|reset",
    "config|set",
    "function|restore",
    "migrate",
];

/// Commands sent in one write are carried out together, and no kill comes in between.
const TRIES: usize = 3;
/// How often a program that does not end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Less than a change takes, with the look before it.
const SLICE: Duration = Duration::from_micros(300);

/// Connections to the nodes, which count, and what is counted.
pub struct Changes {
    nodes: Vec<Client>,
    counted: fn(&str) -> bool,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    /// Killed when the nodes had taken so many changes.
    Killed(u64),
    /// By itself, and well, before it made as many changes.
    Ended,
}

impl Changes {
    pub fn of(addrs: &[SocketAddr]) -> Changes {
        Changes { nodes: addrs.iter().map(|addr| Client::connect(*addr)).collect(), counted: |_| true }
    }

    /// Counts only some of the changing commands.
    pub fn counting(self, counted: fn(&str) -> bool) -> Changes {
        Changes { counted, ..self }
    }

    fn count(&mut self) -> u64 {
        for node in &mut self.nodes {
            node.send(&["INFO", "commandstats"]);
        }
        let counted = self.counted;
        self.nodes.iter_mut().map(|node| count(&String::from_utf8_lossy(&node.read()), counted)).sum()
    }

    /// Starts the program and kills it when it has made `limit` changes; nobody else may make any.
    #[track_caller]
    pub fn run_until(&mut self, command: Command, limit: u64) -> Run {
        self.run_until_over(command, limit, || false)
    }

    /// The same with a program that does not end: when it has nothing left to do, it is killed, too.
    #[track_caller]
    pub fn run_until_over(
        &mut self,
        mut command: Command,
        limit: u64,
        mut is_over: impl FnMut() -> bool,
    ) -> Run {
        let before = self.count();
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut look = Instant::now() + LOOK_EVERY;
        loop {
            assert!(Instant::now() < deadline, "the program neither ends nor makes {limit} changes");
            signal(&child, libc::SIGSTOP);
            let has_made_all = self.count() - before >= limit;
            if has_made_all || (Instant::now() > look && is_over()) {
                child.kill().unwrap();
                child.wait().unwrap();
                return if has_made_all { Run::Killed(self.count() - before) } else { Run::Ended };
            }
            if Instant::now() > look {
                look = Instant::now() + LOOK_EVERY;
            }
            signal(&child, libc::SIGCONT);
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "a run that nobody killed ended with {status}");
                return Run::Ended;
            }
            thread::sleep(SLICE);
        }
    }
}

fn count(stats: &str, counted: fn(&str) -> bool) -> u64 {
    let calls = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        (CHANGES.contains(&name) && counted(name)).then(|| rest.split(',').next()?.parse::<u64>().ok())?
    };
    stats.lines().filter_map(calls).sum()
}

fn signal(child: &Child, signal: libc::c_int) {
    // SAFETY: `kill` touches no memory; the child is not waited for yet, so its id is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
}

/// Tries numbers of changes, one turn of several each: `trial` makes a run that is killed there, checks what
/// follows, and says how the run ended. A run that came further than it should is made again, a few times.
/// Ends with `most`, or the first number that no run reaches; gives those that were hit.
#[track_caller]
pub fn after_each(turn: usize, turns: usize, most: u64, mut trial: impl FnMut(u64) -> Run) -> Vec<u64> {
    let mut hit = Vec::new();
    for limit in (1..=most).skip(turn).step_by(turns) {
        for _ in 0..TRIES {
            match trial(limit) {
                Run::Killed(at) => {
                    hit.push(at);
                    if at == limit {
                        break;
                    }
                }
                Run::Ended => return hit,
            }
        }
    }
    hit
}
