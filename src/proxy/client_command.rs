//! CLIENT: the gateway's own clients, over all workers, as one server shows and treats them.

use super::client_line::{ClientKind, Filter, UnderWay};
use super::client_state::ReplyMode;
use super::core::Core;
use super::dispatch::Handled;
use super::error_reply::{ErrorReply, quoted};
use super::notice::Question;
use crate::command::{Lookup, Spec};
use crate::resp::Request;
use crate::telemetry::{Family, Outcome, Reason};
use std::time::Duration;

/// A pause longer than this is one by mistake, and its end could not be told by the clock.
const LONGEST_PAUSE: i64 = i64::MAX / 1_000_000;

/// What `CLIENT HELP` says.
const HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    The name of this connection.",
    "GETREDIR",
    "    The client that this one's tracking messages go to.",
    "ID",
    "    The number of this connection.",
    "INFO",
    "    This connection, as LIST shows it.",
    "KILL <ip:port> | [ID <id>] [TYPE <type>] [USER <name>] [ADDR <ip:port>] [LADDR <ip:port>] [SKIPME <yes|no>]",
    "    End connections.",
    "LIST [TYPE <type> | ID <id> ...]",
    "    The connections to slotgate.",
    "NO-EVICT <ON|OFF>",
    "    Whether this connection is kept when memory is short.",
    "PAUSE <milliseconds> [WRITE|ALL]",
    "    Let clients of this slotgate wait.",
    "REPLY <ON|OFF|SKIP>",
    "    Whether this connection gets replies.",
    "SETNAME <name>",
    "    Name this connection.",
    "TRACKING <ON|OFF> [REDIRECT <id>] [BCAST] [PREFIX <prefix> ...] [OPTIN] [OPTOUT] [NOLOOP]",
    "    Whether this connection is told when keys change that it may have cached.",
    "CACHING <YES|NO>",
    "    Whether the keys of the next command are cached.",
    "TRACKINGINFO",
    "    What this connection has chosen of it.",
    "UNBLOCK <id> [TIMEOUT|ERROR]",
    "    End the command that a connection waits in.",
    "UNPAUSE",
    "    End a pause.",
    "HELP",
    "    This text.",
];

impl Core {
    pub fn client(&mut self, ix: usize, family: Family, request: &Request) -> Handled {
        let subcommand = quoted(request.get(1).unwrap_or_default()).to_ascii_lowercase();
        let done = |core: &mut Core| core.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("OK"));
        let result = match (&*subcommand, request.len()) {
            ("id", 2) => {
                let id = self.sessions[ix].id as i64;
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.integer(id));
                Ok(())
            }
            ("getname", 2) => {
                let name = self.sessions[ix].state.name.clone();
                self.answer_now(ix, family, Outcome::Ok, |reply| {
                    if name.is_empty() { reply.null() } else { reply.bulk(&name) }
                });
                Ok(())
            }
            ("setname", 3) => self.set_name(ix, request.arg(2)).map(|()| done(self)),
            ("setinfo", 4) => self.set_info(ix, request.arg(2), request.arg(3)).map(|()| done(self)),
            ("reply", 3) => return self.client_reply(ix, family, request.arg(2)),
            ("info", 2) => {
                self.note_asking(request);
                let info = self.stats.client(self.sessions[ix].id);
                let line = info
                    .map(|info| self.client_line(ix, &info, self.asking, &UnderWay::default()))
                    .unwrap_or_default();
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.verbatim(&line));
                Ok(())
            }
            ("list", _) => list_filter(request).map(|filter| {
                self.note_asking(request);
                self.inquire(ix, family, Question::List(filter));
            }),
            ("kill", _) => kill_filter(request, self.sessions[ix].id).map(|(filter, is_old)| {
                self.inquire(ix, family, Question::Kill { filter, is_old });
            }),
            ("pause", 3 | 4) => pause_of(request).map(|pause| {
                self.set_pause(Some(pause));
                done(self);
            }),
            ("unblock", 3 | 4) => unblock_of(request).map(|(filter, is_error)| {
                self.inquire(ix, family, Question::Unblock { filter, is_error });
            }),
            ("unpause", 2) => {
                self.set_pause(None);
                done(self);
                Ok(())
            }
            ("no-evict" | "no-touch", 3) => on_or_off(request.arg(2)).map(|is_on| {
                let state = &mut self.sessions[ix].state;
                if subcommand == "no-evict" {
                    state.is_no_evict = is_on;
                } else {
                    state.is_no_touch = is_on;
                }
                done(self);
            }),
            ("tracking", 3..) => self.client_tracking(ix, family, request),
            ("caching", 3) => self.client_caching(ix, request.arg(2)).map(|()| done(self)),
            ("getredir", 2) => {
                let tracking = self.sessions[ix].state.tracking.as_ref();
                let redirect = tracking.map_or(-1, |options| options.redirect as i64);
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.integer(redirect));
                Ok(())
            }
            ("trackinginfo", 2) => {
                self.tracking_info(ix, family);
                Ok(())
            }
            ("help", 2) => {
                self.answer_now(ix, family, Outcome::Ok, |reply| {
                    reply.array(HELP.len());
                    HELP.iter().for_each(|line| reply.simple(line));
                });
                Ok(())
            }
            _ => {
                let name = format!("client {subcommand}");
                Err(ErrorReply::Refused { name, instead: "CLIENT HELP tells what is" })
            }
        };
        if let Err(error) = result {
            let reason =
                if matches!(error, ErrorReply::Refused { .. }) { Reason::Unsupported } else { Reason::Other };
            self.refuse(ix, family, reason, &error);
        }
        Handled::Done
    }

    /// The command that shows clients is what its own client does just now.
    fn note_asking(&mut self, request: &Request) {
        self.asking = match self.table.lookup(request) {
            Lookup::Found(command, _) => Some((command, request.frame.len())),
            _ => None,
        };
    }

    fn set_name(&mut self, ix: usize, name: &[u8]) -> Result<(), ErrorReply> {
        if !is_client_name(name) {
            return Err(ErrorReply::ClientName);
        }
        self.sessions[ix].state.name = name.into();
        Ok(())
    }

    fn set_info(&mut self, ix: usize, field: &[u8], value: &[u8]) -> Result<(), ErrorReply> {
        let state = &mut self.sessions[ix].state;
        let what = match &*field.to_ascii_lowercase() {
            b"lib-name" => &mut state.lib_name,
            b"lib-ver" => &mut state.lib_ver,
            field => {
                return Err(ErrorReply::Wrong { what: format!("Unrecognized option '{}'", quoted(field)) });
            }
        };
        if !is_client_name(value) {
            let field = quoted(field).to_ascii_lowercase();
            let what = format!("{field} cannot contain spaces, newlines or special characters.");
            return Err(ErrorReply::Wrong { what });
        }
        *what = value.into();
        Ok(())
    }

    fn client_reply(&mut self, ix: usize, family: Family, mode: &[u8]) -> Handled {
        match &*mode.to_ascii_lowercase() {
            b"on" => {
                self.sessions[ix].state.reply_mode = ReplyMode::On;
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("OK"));
            }
            b"off" => self.sessions[ix].state.reply_mode = ReplyMode::Off,
            b"skip" => {
                let state = &mut self.sessions[ix].state;
                if state.reply_mode == ReplyMode::On {
                    state.reply_mode = ReplyMode::SkipNext;
                }
            }
            _ => self.refuse(ix, family, Reason::Other, &ErrorReply::Syntax),
        }
        Handled::Done
    }
}

/// Printable and without spaces, as CLIENT LIST shows it in a line.
pub fn is_client_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Whether a command about clients can be part of a transaction: not what all workers are asked.
pub fn is_answered_at_once(spec: &Spec) -> bool {
    !matches!(
        &*spec.name,
        "client|list" | "client|kill" | "client|unblock" | "client|reply" | "client|tracking"
    )
}

fn on_or_off(word: &[u8]) -> Result<bool, ErrorReply> {
    match &*word.to_ascii_lowercase() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(ErrorReply::Syntax),
    }
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn kind(word: &[u8]) -> Result<ClientKind, ErrorReply> {
    let unknown = || ErrorReply::Wrong { what: format!("Unknown client type '{}'", quoted(word)) };
    ClientKind::from_word(&quoted(word).to_ascii_lowercase()).ok_or_else(unknown)
}

/// `LIST [TYPE type | ID id ...]`, with the words of `src/networking.c`.
fn list_filter(request: &Request) -> Result<Filter, ErrorReply> {
    let option = request.get(2).map(<[u8]>::to_ascii_lowercase);
    match (option.as_deref(), request.len()) {
        (None, _) => Ok(Filter::default()),
        (Some(b"type"), 4) => Ok(Filter { kind: Some(kind(request.arg(3))?), ..Filter::default() }),
        (Some(b"id"), 4..) => {
            let ids = request.args().skip(3).map(|id| number(id).and_then(|id| u64::try_from(id).ok()));
            let ids = ids.collect::<Option<Vec<u64>>>();
            let ids = ids.ok_or(ErrorReply::Invalid { what: "Invalid client ID" })?;
            Ok(Filter { ids: Some(ids), ..Filter::default() })
        }
        _ => Err(ErrorReply::Syntax),
    }
}

/// Whom a CLIENT KILL of client `me` means, and whether it was by an address alone.
fn kill_filter(request: &Request, me: u64) -> Result<(Filter, bool), ErrorReply> {
    if request.len() == 3 {
        return Ok((Filter { addr: Some(quoted(request.arg(2))), ..Filter::default() }, true));
    }
    let mut filter = Filter { but: Some(me), ..Filter::default() };
    let mut args = request.args().skip(2);
    while let Some(option) = args.next() {
        let Some(value) = args.next() else { return Err(ErrorReply::Syntax) };
        match &*option.to_ascii_lowercase() {
            b"id" => {
                let id = number(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                let id = id.ok_or(ErrorReply::Invalid { what: "client-id should be greater than 0" })?;
                filter.ids = Some(vec![id]);
            }
            b"type" => filter.kind = Some(kind(value)?),
            b"addr" => filter.addr = Some(quoted(value)),
            b"laddr" => filter.laddr = Some(quoted(value)),
            // The one user that clients are.
            b"user" if value == b"default" => {}
            b"user" => {
                return Err(ErrorReply::Wrong { what: format!("No such user '{}'", quoted(value)) });
            }
            b"skipme" => {
                filter.but = match &*value.to_ascii_lowercase() {
                    b"yes" => Some(me),
                    b"no" => None,
                    _ => return Err(ErrorReply::Syntax),
                };
            }
            _ => return Err(ErrorReply::Syntax),
        }
    }
    Ok((filter, false))
}

/// Whom to unblock, and whether with an error.
fn unblock_of(request: &Request) -> Result<(Filter, bool), ErrorReply> {
    let is_error = match request.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"timeout") => false,
        Some(b"error") => true,
        Some(_) => {
            return Err(ErrorReply::Invalid { what: "CLIENT UNBLOCK reason should be TIMEOUT or ERROR" });
        }
    };
    let what = "value is not an integer or out of range";
    let id = number(request.arg(2)).ok_or(ErrorReply::Invalid { what })?;
    Ok((Filter { ids: Some(u64::try_from(id).into_iter().collect()), ..Filter::default() }, is_error))
}

/// How long to pause, and whether all or only what writes.
fn pause_of(request: &Request) -> Result<(Duration, bool), ErrorReply> {
    let is_for_all = match request.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"all") => true,
        Some(b"write") => false,
        Some(_) => return Err(ErrorReply::Invalid { what: "CLIENT PAUSE mode must be WRITE or ALL" }),
    };
    let millis = number(request.arg(2))
        .ok_or(ErrorReply::Invalid { what: "timeout is not an integer or out of range" })?;
    if millis < 0 {
        return Err(ErrorReply::Invalid { what: "timeout is negative" });
    }
    if millis > LONGEST_PAUSE {
        return Err(ErrorReply::Invalid { what: "timeout is out of range" });
    }
    Ok((Duration::from_millis(millis as u64), is_for_all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Limits, RequestScanner, write_request};

    fn with<T>(line: &str, run: impl FnOnce(&Request) -> T) -> T {
        let (mut frame, mut scanner) = (Vec::new(), RequestScanner::default());
        write_request(&mut frame, line.split(' ').collect::<Vec<_>>());
        scanner.scan(&frame, Limits::USUAL).unwrap();
        run(&Request::new(&frame, scanner.args()))
    }

    #[test]
    fn whom_to_kill_is_said_in_two_ways() {
        let killed = |line: &str| with(line, |request| kill_filter(request, 7)).map_err(|e| e.to_string());
        let old = Filter { addr: Some("1.2.3.4:5".into()), ..Filter::default() };
        assert_eq!(killed("CLIENT KILL 1.2.3.4:5"), Ok((old, true)));
        let all = Filter { ids: Some(vec![3]), kind: Some(ClientKind::Pubsub), ..Filter::default() };
        assert_eq!(killed("CLIENT KILL ID 3 TYPE pubsub SKIPME no USER default"), Ok((all, false)));
        for (line, error) in [
            ("CLIENT KILL id 10 wrong_arg", "ERR syntax error"),
            ("CLIENT KILL id str", "ERR client-id should be greater than 0"),
            ("CLIENT KILL id 0", "ERR client-id should be greater than 0"),
            ("CLIENT KILL type wrong_type", "ERR Unknown client type 'wrong_type'"),
            ("CLIENT KILL user nobody", "ERR No such user 'nobody'"),
            ("CLIENT KILL skipme maybe", "ERR syntax error"),
        ] {
            assert_eq!(killed(line), Err(error.to_string()), "{line}");
        }
    }

    #[test]
    fn a_pause_has_a_time_and_a_scope() {
        let paused = |line: &str| with(line, pause_of).map_err(|error| error.to_string());
        assert_eq!(paused("CLIENT PAUSE 100"), Ok((Duration::from_millis(100), true)));
        assert_eq!(paused("CLIENT PAUSE 100 write"), Ok((Duration::from_millis(100), false)));
        for (line, error) in [
            ("CLIENT PAUSE abc", "ERR timeout is not an integer or out of range"),
            ("CLIENT PAUSE -1", "ERR timeout is negative"),
            ("CLIENT PAUSE 9223372036854775807", "ERR timeout is out of range"),
            ("CLIENT PAUSE 1 some", "ERR CLIENT PAUSE mode must be WRITE or ALL"),
        ] {
            assert_eq!(paused(line), Err(error.to_string()), "{line}");
        }
    }
}
