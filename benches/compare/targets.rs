//! What is measured: each target is one process on one port, started with settings as alike as the
//! programs allow: one worker thread, no logs, no TLS.

use anyhow::{Context as _, Result, bail};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;

use crate::echo::Reply;

#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The standalone node itself, without a proxy.
    Direct,
    Slotgate,
    Haproxy,
    Envoy,
    Echo,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Direct, Kind::Slotgate, Kind::Haproxy, Kind::Envoy, Kind::Echo];

    fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Slotgate => "slotgate",
            Kind::Haproxy => "haproxy",
            Kind::Envoy => "envoy",
            Kind::Echo => "echo",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Kind, String> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("there are: {}", Kind::ALL.map(Kind::name).join(", ")))
    }
}

/// A process that is being measured. Dropping it ends the process, if we started it as a target.
pub struct Target {
    pub kind: Kind,
    pub port: u16,
    pub pid: u32,
    child: Option<Child>,
}

impl Target {
    /// The node that HAProxy stands in front of; it belongs to somebody else.
    pub fn direct(node: SocketAddr, pid: u32) -> Target {
        Target { kind: Kind::Direct, port: node.port(), pid, child: None }
    }

    pub fn slotgate(program: &Path, seeds: &[SocketAddr], more: &[String], dir: &Path) -> Result<Target> {
        let port = free_port()?;
        let seeds: Vec<String> = seeds.iter().map(SocketAddr::to_string).collect();
        let mut command = Command::new(program);
        command.args(["serve", "--workers", "1", "--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--admin", "127.0.0.1:0", "--seed", &seeds.join(",")]).args(more);
        Target::spawn(Kind::Slotgate, port, command, dir)
    }

    pub fn haproxy(node: SocketAddr, dir: &Path) -> Result<Target> {
        let port = free_port()?;
        let config = dir.join("haproxy.cfg");
        let text = format!(
            "global\n  nbthread 1\n  maxconn 6000\n\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
             listen redis\n  bind 127.0.0.1:{port}\n  server node {node}\n"
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(find_program("haproxy", &["/usr/sbin/haproxy"]).context(
            "haproxy was not found: 'make compare' installs it, or leave it out with --only slotgate,echo",
        )?);
        command.arg("-db").arg("-f").arg(config);
        Target::spawn(Kind::Haproxy, port, command, dir)
    }

    /// `None` where Envoy is not installed: there is no distribution package to ask for.
    pub fn envoy(seeds: &[SocketAddr], dir: &Path) -> Result<Option<Target>> {
        // Where install-envoy puts it: beside the build's own folders.
        let ours = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("envoy").join("envoy");
        let Some(program) = find_program("envoy", &[&ours.to_string_lossy()]) else { return Ok(None) };
        let port = free_port()?;
        let config = dir.join("envoy.yaml");
        std::fs::write(&config, envoy_config(port, seeds))?;
        let mut command = Command::new(program);
        command
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"])
            .arg(config);
        Target::spawn(Kind::Envoy, port, command, dir).map(Some)
    }

    pub fn echo(reply: Reply) -> Result<Target> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--serve-echo", &reply.argument()]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = end_with_us(&mut command).spawn().context("cannot start the echo server")?;
        let mut port = String::new();
        BufReader::new(child.stdout.take().context("the echo server has no output")?).read_line(&mut port)?;
        let port = port.trim().parse().context("the echo server did not say its port")?;
        Ok(Target { kind: Kind::Echo, port, pid: child.id(), child: Some(child) })
    }

    fn spawn(kind: Kind, port: u16, mut command: Command, dir: &Path) -> Result<Target> {
        let log = dir.join(format!("{kind}.log"));
        let out = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child =
            end_with_us(&mut command).spawn().with_context(|| format!("cannot start {kind}: {command:?}"))?;
        let mut target = Target { kind, port, pid: child.id(), child: Some(child) };
        if let Err(error) = crate::wire::wait_until_serving(port, || target.has_ended()) {
            let tail = std::fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = tail.lines().rev().take(10).collect();
            bail!("{kind} does not serve: {error:#}; its last lines, newest first:\n{}", tail.join("\n"));
        }
        Ok(target)
    }

    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only when the process is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Nothing that we started may outlive us, not even when we are killed.
fn end_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        })
    }
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// `name` in one of `places`, or in `PATH`.
fn find_program(name: &str, places: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    places.iter().map(PathBuf::from).chain(in_path).find(|file| file.is_file())
}

fn envoy_config(port: u16, seeds: &[SocketAddr]) -> String {
    let mut text = format!(
        r#"
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: redis
          settings: {{op_timeout: 10s, enable_redirection: true}}
          prefix_routes: {{catch_all_route: {{cluster: redis}}}}
  clusters:
  - name: redis
    connect_timeout: 1s
    lb_policy: CLUSTER_PROVIDED
    cluster_type:
      name: envoy.clusters.redis
      typed_config:
        "@type": type.googleapis.com/google.protobuf.Struct
        value: {{cluster_refresh_rate: 5s, cluster_refresh_timeout: 1s}}
    load_assignment:
      cluster_name: redis
      endpoints:
      - lb_endpoints:
"#
    );
    for seed in seeds {
        let (ip, port) = (seed.ip(), seed.port());
        let _ = writeln!(
            text,
            "        - endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}"
        );
    }
    text
}
