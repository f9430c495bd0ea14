//! The real `slotgate` binary, serving on ports of its own choice.

use super::client::Client;
use super::{PATIENCE, end_with_us, wait_until};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running gateway. Dropping it kills the process; it also ends with the thread that started it.
pub struct Gateway {
    child: Child,
    addr: SocketAddr,
    admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// In front of the cluster of these nodes, ready to serve every slot.
    #[track_caller]
    pub fn start(seeds: &[SocketAddr]) -> Gateway {
        Gateway::start_with(seeds, &[])
    }

    /// With more arguments for `slotgate serve`.
    #[track_caller]
    pub fn start_with(seeds: &[SocketAddr], args: &[&str]) -> Gateway {
        Gateway::start_unready(seeds, args).when_ready()
    }

    /// Waits until it serves every slot.
    #[track_caller]
    pub fn when_ready(self) -> Gateway {
        let mut seen = (0, String::new());
        wait_until("/readyz says 200", || {
            seen = self.admin_get("/readyz");
            seen.0 == 200
        });
        self
    }

    /// Waits only until it accepts clients, whatever the state of the cluster.
    #[track_caller]
    pub fn start_unready(seeds: &[SocketAddr], args: &[&str]) -> Gateway {
        Gateway::start_in(seeds, args, &[])
    }

    /// The same, with more variables in its environment.
    #[track_caller]
    pub fn start_in(seeds: &[SocketAddr], args: &[&str], environment: &[(&str, &Path)]) -> Gateway {
        let seeds: Vec<String> = seeds.iter().map(SocketAddr::to_string).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_slotgate"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
        command.args(["--seed", &seeds.join(",")]).args(args);
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = end_with_us(&mut command).spawn().expect("the built slotgate binary starts");

        let log = Arc::new(Mutex::new(Vec::new()));
        let (stderr, lines) = (child.stderr.take().unwrap(), log.clone());
        // Reads on to the end: a full pipe would stop the gateway.
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let mut places = None;
        wait_until("slotgate serves clients", || {
            places = log.lock().unwrap().iter().find_map(|line| read_places(line));
            if places.is_none()
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("slotgate ended with {status}; its log:\n{}", log.lock().unwrap().join("\n"));
            }
            places.is_some()
        });
        let (addr, admin) = places.unwrap();
        Gateway { child, addr, admin, log }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A new client of the gateway.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// The status and the body of an admin page.
    #[track_caller]
    pub fn admin_get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).expect("the admin port is open");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an HTTP status");
        (status, body.to_owned())
    }

    /// The value of a metric, given with its labels as /metrics shows it; 0 when it is not there.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.admin_get("/metrics");
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The process's memory in KB (VmRSS).
    pub fn memory_kb(&self) -> u64 {
        self.status_kb("VmRSS:")
    }

    /// The most memory in KB that the process ever had (VmHWM).
    pub fn peak_memory_kb(&self) -> u64 {
        self.status_kb("VmHWM:")
    }

    fn status_kb(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Tells it to end, as a service manager does.
    pub fn terminate(&self) {
        // SAFETY: `kill` touches no memory; the child is not waited for yet, so its id is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
    }

    /// Stops it without its knowing, as a machine that runs out of everything does.
    pub fn freeze(&self) {
        // SAFETY: as above.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGSTOP) };
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        // SAFETY: as above.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGCONT) };
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("slotgate ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if thread::panicking()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            eprintln!("slotgate has ended before: {status}");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("slotgate's log:\n{}", self.log());
        }
    }
}

/// Where clients and admins connect: the fields of the line that `serve` logs once it accepts clients.
fn read_places(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let place = |field: &str| line.get(field)?.as_str()?.parse().ok();
    Some((place("listen")?, place("admin")?))
}
