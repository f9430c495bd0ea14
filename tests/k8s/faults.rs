//! Faults that need more than the rights of kubectl: a machine's power switch and cable, a `kill -9`, an API
//! server that hangs.

use crate::kubectl::Kubectl;
use crate::objects;
use crate::words::say;
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

const TRIES: u32 = 5;

/// The program that knows how to break machines.
pub struct Machines {
    program: String,
}

impl Machines {
    pub fn configured() -> Option<Machines> {
        let program = std::env::var("SLOTGATE_TEST_FAULTS").ok().filter(|program| !program.is_empty())?;
        Some(Machines { program })
    }

    /// Breaks a machine by the first verb, and mends it by the other one when the guard ends: whatever happens
    /// in between, the cluster is left as it was.
    pub fn break_one(&self, machine: &str, verb: &'static str, mend: &'static str) -> Result<Broken<'_>> {
        say(&format!("  {verb} {machine}"));
        // Also what was broken by half is mended.
        let broken = Broken { machines: self, machine: machine.into(), mend, is_mended: false };
        self.run(verb, machine)?;
        Ok(broken)
    }

    /// A program that fails is asked again: a dying machine changes under its hands.
    fn run(&self, verb: &str, machine: &str) -> Result<()> {
        let mut tries = 1;
        loop {
            match self.run_once(verb, machine) {
                Err(error) if tries < TRIES => say(&format!("  once more, because: {error:#}")),
                ended => return ended,
            }
            tries += 1;
            sleep(Duration::from_millis(500));
        }
    }

    fn run_once(&self, verb: &str, machine: &str) -> Result<()> {
        let output = Command::new(&self.program)
            .args([verb, machine])
            .output()
            .with_context(|| format!("SLOTGATE_TEST_FAULTS={}", self.program))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = said.trim().lines().last().unwrap_or_default();
        ensure!(output.status.success(), "{} {verb} {machine}: {last}", self.program);
        Ok(())
    }
}

/// A machine that is broken until this ends.
pub struct Broken<'a> {
    machines: &'a Machines,
    machine: String,
    mend: &'static str,
    is_mended: bool,
}

impl Broken<'_> {
    pub fn mend(mut self) -> Result<()> {
        say(&format!("  {} {}", self.mend, self.machine));
        self.is_mended = true;
        self.machines.run(self.mend, &self.machine)
    }
}

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        if !self.is_mended
            && let Err(error) = self.machines.run(self.mend, &self.machine)
        {
            say(&format!("  {} IS STILL BROKEN: {error:#}", self.machine));
        }
    }
}

/// Ends all processes of a pod's container as `kill -9` does, without a word to anybody. From a pod that sees
/// the machine's processes, in a namespace that allows it.
pub fn kill_container(namespace: &str, machine: &str, image: &str, container: &str) -> Result<Instant> {
    ensure!(
        container.len() >= 32 && container.chars().all(|c| c.is_ascii_alphanumeric()),
        "container {container}?"
    );
    let script = format!(
        "for p in /proc/[0-9]*; do grep -q {container} $p/cgroup 2>/dev/null && kill -9 ${{p#/proc/}} && n=1; done; \
         [ \"$n\" ] || {{ echo no process of it was found; exit 1; }}"
    );
    let name = format!("killer-{:04x}", fastrand::u16(..));
    let mut pod = objects::pod(&name, machine, image, &script);
    pod["metadata"]["namespace"] = namespace.into();
    pod["spec"]["hostPID"] = true.into();
    pod["spec"]["securityContext"] = json!({ "runAsUser": 0 });
    pod["spec"]["containers"][0]["securityContext"] = json!({});
    let kubectl = Kubectl::of(namespace);
    kubectl.apply(&[pod])?;
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let phase = kubectl.get(&["pod", &name])?["status"]["phase"].take();
        match phase.as_str() {
            Some("Succeeded") => return Ok(Instant::now()),
            Some("Failed") => anyhow::bail!("kill -9: {}", kubectl.run(&["logs", &name])?.trim()),
            _ => ensure!(Instant::now() < end, "the pod {namespace}/{name} did not end within a minute"),
        }
        sleep(Duration::from_millis(100));
    }
}

/// An API server that takes requests and answers none, until this ends.
pub struct Hanging(i32);

impl Hanging {
    pub fn pid() -> Option<i32> {
        std::env::var("SLOTGATE_TEST_API_PID").ok()?.trim().parse().ok().filter(|pid| *pid > 1)
    }

    pub fn stop(pid: i32) -> Result<Hanging> {
        signal(pid, libc::SIGSTOP)?;
        Ok(Hanging(pid))
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        if let Err(error) = signal(self.0, libc::SIGCONT) {
            say(&format!("  THE API SERVER IS STILL STOPPED (kill -CONT {}): {error:#}", self.0));
        }
    }
}

fn signal(pid: i32, number: i32) -> Result<()> {
    // SAFETY: takes two numbers and touches no memory of ours.
    let result = unsafe { libc::kill(pid, number) };
    ensure!(result == 0, "process {pid}: {}", std::io::Error::last_os_error());
    Ok(())
}
