//! What needs every command looked at: CLIENT PAUSE and MONITOR, over all workers, and CLIENT TRACKING of a
//! worker's own clients.
//!
//! While nothing of it is under way, commands are carried out without a look. When something is, the workers'
//! [`Traits`] have [`Handling::Watched`] where a command would go straight to its node.

use super::core::Core;
use super::flight::SessionKey;
use super::notice::Notice;
use super::paused_call::Waiting;
use super::router::{Handling, Traits, traits};
use super::scripts::each_request;
use crate::command::{Flags, Lookup, Spec};
use crate::resp::Request;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Until when, and what, clients have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    pub until: Instant,
    /// Only what writes, or all.
    pub is_for_all: bool,
}

/// What is watched, shared by all workers.
#[derive(Debug, Default)]
pub struct Watch {
    /// Rises with every change; looked at once a turn.
    version: AtomicU64,
    pause: Mutex<Option<Pause>>,
    monitors: AtomicUsize,
    paused_clients: AtomicUsize,
}

impl Watch {
    /// CLIENT PAUSE: a pause that lasts is made longer and stricter, never less of either.
    fn pause(&self, wanted: Pause, now: Instant) {
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        let lasting = pause.filter(|pause| pause.until > now);
        *pause = Some(Pause {
            until: lasting.map_or(wanted.until, |lasting| lasting.until.max(wanted.until)),
            is_for_all: wanted.is_for_all || lasting.is_some_and(|lasting| lasting.is_for_all),
        });
        self.change();
    }

    fn unpause(&self) {
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.change();
    }

    fn change(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// A client's command has to wait.
    pub fn enter_pause(&self) {
        self.paused_clients.fetch_add(1, Ordering::Relaxed);
    }

    /// A client's command is looked at again, or the client leaves.
    pub fn leave_pause(&self) {
        self.paused_clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many clients wait for the end of a pause.
    pub fn paused_clients(&self) -> usize {
        self.paused_clients.load(Ordering::Relaxed)
    }
}

/// One worker's share of it.
#[derive(Debug, Default)]
pub struct Watching {
    version: u64,
    pub pause: Option<Pause>,
    has_monitors: bool,
    /// Of this worker.
    pub has_own_monitors: bool,
    /// Calls that wait for the end of a pause.
    pub calls: Vec<Waiting>,
    /// Every command is looked at.
    pub is_on: bool,
}

/// The traits with which every command is looked at.
fn watched(traits: &[Traits]) -> Vec<Traits> {
    let look = |traits: &Traits| match traits.handling {
        Handling::Keys => Traits { handling: Handling::Watched, ..*traits },
        _ => *traits,
    };
    traits.iter().map(look).collect()
}

impl Core {
    /// Takes over what another worker may have changed; once a turn.
    #[inline]
    pub fn follow_watch(&mut self) {
        if self.stats.watch.version.load(Ordering::Acquire) != self.watching.version {
            self.load_watch();
        }
    }

    pub fn load_watch(&mut self) {
        let watch = &self.stats.watch;
        self.watching.version = watch.version.load(Ordering::Acquire);
        let pause = *watch.pause.lock().unwrap_or_else(PoisonError::into_inner);
        self.watching.pause = pause.filter(|pause| pause.until > self.now);
        self.watching.has_monitors = watch.monitors.load(Ordering::Relaxed) > 0;
        let is_on = self.watching.pause.is_some() || self.watching.has_monitors || self.tracking.is_on();
        if std::mem::replace(&mut self.watching.is_on, is_on) != is_on {
            self.refresh_traits();
        }
        if self.watching.pause.is_none() {
            self.end_pause();
        }
    }

    /// The traits of the table's commands, as they are needed now.
    pub fn refresh_traits(&mut self) {
        let plain = traits(&self.table);
        self.traits = Arc::new(if self.watching.is_on { watched(&plain) } else { plain });
    }

    /// Lets clients go on when the time of their pause is over.
    pub fn check_pause(&mut self) {
        if self.watching.pause.is_some_and(|pause| pause.until <= self.now) {
            self.load_watch();
        }
    }

    fn end_pause(&mut self) {
        let paused: Vec<usize> =
            self.sessions.iter().filter(|(_, session)| session.is_paused).map(|(ix, _)| ix).collect();
        paused.into_iter().for_each(|ix| self.resume(ix));
        self.call_waiting();
    }

    /// CLIENT PAUSE and UNPAUSE.
    pub fn set_pause(&mut self, pause: Option<(Duration, bool)>) {
        match pause {
            Some((time, is_for_all)) => {
                let until = self.now + time;
                self.stats.watch.pause(Pause { until, is_for_all }, self.now);
            }
            None => self.stats.watch.unpause(),
        }
        self.load_watch();
        self.stats.announce_watch(self.worker);
    }

    /// Whether a command has to wait for the end of a pause.
    pub fn must_pause(&mut self, ix: usize, spec: &Spec, request: &Request) -> bool {
        let Some(pause) = self.watching.pause else { return false };
        // Else nobody could end it.
        let is_client = spec.name.starts_with("client|");
        let waits = !is_client && (pause.is_for_all || self.may_write(ix, spec, request));
        if waits && !std::mem::replace(&mut self.sessions[ix].is_paused, true) {
            self.stats.watch.enter_pause();
        }
        waits
    }

    fn may_write(&self, ix: usize, spec: &Spec, request: &Request) -> bool {
        let may_write = |spec: &Spec, request: &Request| {
            let is_writer = spec.flags.contains(Flags::WRITE) || spec.flags.contains(Flags::MAY_REPLICATE);
            is_writer && !self.is_reading_script(spec, request)
        };
        if &*spec.name != "exec" {
            return may_write(spec, request);
        }
        let mut writes = false;
        if let Some(transaction) = &self.sessions[ix].state.transaction {
            each_request(&transaction.frames, |queued| {
                if let Lookup::Found(_, spec) = self.table.lookup(queued) {
                    writes |= may_write(spec, queued);
                }
            });
        }
        writes
    }

    /// Whether a script says of itself that it does not write (redis.io: "Script flags").
    fn is_reading_script(&self, spec: &Spec, request: &Request) -> bool {
        let says_so = |body: &[u8]| {
            let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            let mut words = line.split_whitespace();
            words.next() == Some("#!lua")
                && words
                    .filter_map(|word| word.strip_prefix("flags="))
                    .any(|flags| flags.split(',').any(|flag| flag == "no-writes"))
        };
        match &*spec.name {
            "eval" => says_so(request.arg(1)),
            "evalsha" => self.known_body(request.arg(1)).is_some_and(|body| says_so(&body)),
            _ => false,
        }
    }

    /// MONITOR, or the end of it.
    pub fn set_monitor(&mut self, ix: usize, is_on: bool) {
        if std::mem::replace(&mut self.sessions[ix].state.is_monitor, is_on) != is_on {
            let watch = &self.stats.watch;
            if is_on {
                watch.monitors.fetch_add(1, Ordering::Relaxed);
            } else {
                watch.monitors.fetch_sub(1, Ordering::Relaxed);
            }
            watch.change();
            self.watching.has_own_monitors =
                self.sessions.iter().any(|(_, session)| session.state.is_monitor);
            let key = self.key_of(ix);
            self.ears.forget(key);
            self.load_watch();
            self.stats.announce_watch(self.worker);
        }
    }

    /// The lines that monitors get for a command that is about to be carried out.
    pub fn monitor_lines(&self, ix: usize, spec: &Spec, request: &Request) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.watching.has_monitors || spec.flags.contains(Flags::ADMIN) {
            return out;
        }
        let session = &self.sessions[ix];
        let Some(info) = self.stats.client(session.id) else { return out };
        let mut write = |request: &Request| write_line(&mut out, &info.addr.to_string(), request);
        match &session.state.transaction {
            // What was queued is run now.
            Some(transaction) if &*spec.name == "exec" && !transaction.is_tainted => {
                let mut own = Vec::new();
                each_request(&transaction.own.frames, |request| own.push(request.frame.to_vec()));
                let mut own = transaction.own.places.iter().zip(own).peekable();
                let mut place = 0;
                each_request(&transaction.frames, |queued| {
                    match own.next_if(|(at, _)| **at == place) {
                        Some((_, frame)) => each_request(&frame, &mut write),
                        None => write(queued),
                    }
                    place += 1;
                });
                write(request);
            }
            // Only queued.
            Some(_) if !matches!(&*spec.name, "exec" | "multi" | "discard" | "watch") => {}
            _ => write(request),
        }
        out
    }

    /// Gives lines to all monitors.
    pub fn feed_monitors(&mut self, lines: &[u8]) {
        if !lines.is_empty() {
            self.stats.peers.tell_others(self.worker, &Notice::Line(lines.into()));
            self.tell_monitors(lines);
        }
    }

    /// Gives lines to the monitors of this worker.
    pub fn tell_monitors(&mut self, lines: &[u8]) {
        let monitors: Vec<SessionKey> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.state.is_monitor)
            .map(|(ix, _)| self.key_of(ix))
            // Not before it was told that it is one.
            .filter(|key| !self.ears.is_pending(*key))
            .collect();
        for key in monitors {
            self.tell(key, lines.to_vec());
        }
    }
}

/// One command as MONITOR shows it (redis.io: MONITOR), without passwords.
fn write_line(out: &mut Vec<u8>, addr: &str, request: &Request) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = format!("+{}.{:06} [0 {addr}]", now.as_secs(), now.subsec_micros());
    let is_auth = request.arg(0).eq_ignore_ascii_case(b"AUTH");
    let is_hello = request.arg(0).eq_ignore_ascii_case(b"HELLO");
    let mut secrets = 0;
    for (at, arg) in request.args().enumerate() {
        if (is_auth && at > 0) || secrets > 0 {
            secrets = usize::saturating_sub(secrets, 1);
            line.push_str(" \"(redacted)\"");
            continue;
        }
        if is_hello && arg.eq_ignore_ascii_case(b"AUTH") {
            secrets = 2;
        }
        line.push_str(" \"");
        for byte in arg {
            match byte {
                b'\\' | b'"' => line.extend(['\\', char::from(*byte)]),
                b'\n' => line.push_str("\\n"),
                b'\r' => line.push_str("\\r"),
                b'\t' => line.push_str("\\t"),
                7 => line.push_str("\\a"),
                8 => line.push_str("\\b"),
                b' '..=b'~' => line.push(char::from(*byte)),
                byte => {
                    let _ = write!(line, "\\x{byte:02x}");
                }
            }
        }
        line.push('"');
    }
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::write_request;

    fn line(args: &[&[u8]]) -> String {
        let (mut frame, mut out) = (Vec::new(), Vec::new());
        write_request(&mut frame, args.to_vec());
        each_request(&frame, |request| write_line(&mut out, "1.2.3.4:5", request));
        let text = String::from_utf8(out).unwrap();
        text.split_once(' ').unwrap().1.to_string()
    }

    #[test]
    fn a_command_is_shown_with_its_client_and_on_one_line() {
        assert_eq!(
            line(&[b"SET", b"k", b"a\r\n\"\x01 b"]),
            "[0 1.2.3.4:5] \"SET\" \"k\" \"a\\r\\n\\\"\\x01 b\"\r\n"
        );
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(line(&[b"auth", b"u", b"p"]), "[0 1.2.3.4:5] \"auth\" \"(redacted)\" \"(redacted)\"\r\n");
        assert_eq!(
            line(&[b"HELLO", b"3", b"AUTH", b"u", b"p", b"SETNAME", b"n"]),
            "[0 1.2.3.4:5] \"HELLO\" \"3\" \"AUTH\" \"(redacted)\" \"(redacted)\" \"SETNAME\" \"n\"\r\n"
        );
    }

    #[test]
    fn a_pause_gets_longer_and_stricter_only() {
        let watch = Watch::default();
        let now = Instant::now();
        let in_seconds = |seconds| now + Duration::from_secs(seconds);
        watch.pause(Pause { until: in_seconds(60), is_for_all: true }, now);
        watch.pause(Pause { until: in_seconds(30), is_for_all: false }, now);
        let pause = *watch.pause.lock().unwrap();
        assert_eq!(pause, Some(Pause { until: in_seconds(60), is_for_all: true }));
        watch.unpause();
        watch.pause(Pause { until: in_seconds(30), is_for_all: false }, now);
        assert_eq!(watch.pause.lock().unwrap().map(|pause| pause.is_for_all), Some(false));
    }
}
