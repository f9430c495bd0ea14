//! `slotgate import` from real servers into real clusters: everything arrives, nothing of others is lost,
//! and a run that was cut short is gone on with.

mod cut_short;
mod followed;
mod refused;
mod whole;

use super::support::client::Client;
use super::support::program::{expect, slotgate};
use super::support::real_cluster::{RealCluster, owner_of};
use super::support::wait_until;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use tempfile::TempDir;

/// What an import says once everything is copied and it waits for more.
const FOLLOWS: &str = "Following the source";

/// A source, a cluster, and a place for the notes.
struct Move {
    source: RealCluster,
    cluster: RealCluster,
    dir: TempDir,
}

impl Move {
    fn new(source: RealCluster, cluster: RealCluster) -> Move {
        Move { source, cluster, dir: tempfile::tempdir().unwrap() }
    }

    fn usual() -> Move {
        Move::new(RealCluster::start_standalone(), RealCluster::start_without_replicas(&[]))
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("import.state")
    }

    fn command(&self, more: &[&str]) -> Command {
        let (from, to) = (self.source.addrs()[0].to_string(), self.cluster.addrs()[1].to_string());
        let mut command = slotgate(&["import", "--from", &from, &to, "--state"]);
        command.arg(self.state()).args(more);
        command
    }

    #[track_caller]
    fn import(&self, more: &[&str], code: i32, text: &str) -> Output {
        let output = self.command(more).output().unwrap();
        expect(&output, code, text);
        output
    }

    /// Starts an import that goes on beside the test.
    fn begin(&self, more: &[&str]) -> Run {
        let mut child = self.command(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let said = [Said::hear(out), Said::hear(err)];
        Run { child, said }
    }

    /// Waits until an import that was begun has noted so many keys.
    fn wait_for_notes(&self, keys: u64) {
        wait_until("keys are brought", || {
            std::fs::metadata(self.state()).is_ok_and(|state| state.len() > 300 + 8 * keys)
        });
    }

    /// The answer of the cluster's owner of `key`.
    fn ask(&self, key: &str, words: &[&str]) -> String {
        ask(self.cluster.addrs(), key, words)
    }
}

/// What a program says, while it says it.
struct Said {
    text: Arc<Mutex<Vec<u8>>>,
    hearing: JoinHandle<()>,
}

impl Said {
    fn hear(mut from: impl Read + Send + 'static) -> Said {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let heard = text.clone();
        let hearing = thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(len @ 1..) = from.read(&mut piece) {
                heard.lock().unwrap().extend_from_slice(&piece[..len]);
            }
        });
        Said { text, hearing }
    }

    fn end(self) -> Vec<u8> {
        self.hearing.join().unwrap();
        std::mem::take(&mut self.text.lock().unwrap())
    }
}

/// An import under way.
struct Run {
    child: Child,
    said: [Said; 2],
}

impl Run {
    /// Waits until it has said `text` so often.
    fn wait_for(&self, text: &str, times: usize) {
        wait_until(text, || {
            let count =
                |said: &Said| String::from_utf8_lossy(&said.text.lock().unwrap()).matches(text).count();
            self.said.iter().map(count).sum::<usize>() >= times
        });
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.end();
    }

    fn terminate(self) -> Output {
        // SAFETY: plain call; the child is ours and not yet waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        self.end()
    }

    fn end(mut self) -> Output {
        let status = self.child.wait().unwrap();
        let [stdout, stderr] = self.said.map(Said::end);
        Output { status, stdout, stderr }
    }
}

fn ask(nodes: &[SocketAddr], key: &str, words: &[&str]) -> String {
    Client::connect(owner_of(nodes, key)).call_text(words)
}

fn count(cluster: &RealCluster) -> u64 {
    let sizes = cluster.addrs().iter().filter_map(|addr| Client::try_connect(*addr)).map(|mut client| {
        let is_primary = client.call_text(&["ROLE"]).contains("master");
        let size = client.call_text(&["DBSIZE"]).trim()[1..].parse::<u64>().unwrap();
        if is_primary { size } else { 0 }
    });
    sizes.sum()
}

fn fill(client: &mut Client, prefix: &str, keys: u32) {
    let script = "for i = 1, ARGV[2] do redis.call('SET', ARGV[1] .. i, string.rep('x', 50) .. i) end";
    assert_eq!(client.call_text(&["EVAL", script, "0", prefix, &keys.to_string()]), "$-1\r\n");
}

#[track_caller]
fn say(client: &mut Client, words: &[&str], reply: &str) {
    assert_eq!(client.call_text(words), reply, "{words:?}");
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}
