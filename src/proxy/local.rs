//! Commands that the gateway answers itself: they are about the connection, and the connection is ours.

use super::client_state::{ClientState, ReplyMode};
use super::core::Core;
use super::dispatch::Handled;
use super::error_reply::{ErrorReply, quoted};
use super::info::Facts;
use super::router::Local;
use super::stats::ClientInfo;
use crate::command;
use crate::resp::{Request, Version};
use crate::telemetry::{Close, Family, Outcome, Reason};

/// Whether a client that has yet to authenticate may say this.
pub fn is_allowed_unauthenticated(local: Local) -> bool {
    matches!(local, Local::Auth | Local::Hello | Local::Quit | Local::Reset)
}

impl Core {
    /// Answers a command that is about the connection.
    pub fn handle_local(&mut self, ix: usize, local: Local, family: Family, request: &Request) -> Handled {
        use Local::*;
        match local {
            Ping => self.ping(ix, family, request),
            Echo => self.answer_now(ix, family, Outcome::Ok, |reply| reply.bulk(request.arg(1))),
            Quit => {
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("OK"));
                self.close_after_writing(ix, Close::Client);
            }
            Select => match request.get(1).map(parse_integer) {
                Some(Some(0)) => self.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("OK")),
                Some(Some(_)) => self.refuse(ix, family, Reason::Other, &ErrorReply::DbIndex),
                _ => {
                    let what = "value is not an integer or out of range";
                    self.refuse(ix, family, Reason::Other, &ErrorReply::Invalid { what });
                }
            },
            Auth => return self.auth(ix, family, request),
            Hello => return self.hello(ix, family, request),
            Reset => return self.reset(ix, family),
            Client => return self.client(ix, family, request),
            Command => {
                let table = self.table.clone();
                self.answer_now(ix, family, Outcome::Ok, |reply| command::answer(&table, request, reply));
            }
            ClusterDisabled => self.refuse(ix, family, Reason::Unsupported, &ErrorReply::ClusterDisabled),
            Multi | Exec | Discard | Watch | Unwatch => return self.handle_transaction(ix, local, request),
            Subscribe | PSubscribe | Unsubscribe | PUnsubscribe | Publish => {
                return self.handle_pubsub(ix, local, request);
            }
            Role => self.answer_now(ix, family, Outcome::Ok, |reply| {
                reply.array(3);
                reply.bulk("master");
                reply.integer(0);
                reply.array(0);
            }),
        }
        Handled::Done
    }

    fn ping(&mut self, ix: usize, family: Family, request: &Request) {
        let is_subscribed = self.sessions[ix].state.is_subscribed_mode();
        if request.len() > 2 {
            let name = "ping".to_string();
            return self.refuse(ix, family, Reason::Arity, &ErrorReply::Arity { name });
        }
        self.answer_now(ix, family, Outcome::Ok, |reply| match (is_subscribed, request.get(1)) {
            (true, given) => {
                reply.array(2);
                reply.bulk("pong");
                reply.bulk(given.unwrap_or_default());
            }
            (false, Some(given)) => reply.bulk(given),
            (false, None) => reply.simple("PONG"),
        });
    }

    fn auth(&mut self, ix: usize, family: Family, request: &Request) -> Handled {
        let (user, password) = match request.len() {
            2 => (&b"default"[..], request.arg(1)),
            3 => (request.arg(1), request.arg(2)),
            _ => {
                self.refuse(ix, family, Reason::Other, &ErrorReply::Syntax);
                return Handled::Done;
            }
        };
        if self.config.require_password.is_none() && request.len() == 2 {
            self.refuse(ix, family, Reason::Other, &ErrorReply::AuthWithoutPassword);
        } else if self.is_right_password(user, password) {
            self.sessions[ix].state.is_authenticated = true;
            self.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("OK"));
        } else {
            self.refuse(ix, family, Reason::NoAuth, &ErrorReply::WrongPass);
        }
        Handled::Done
    }

    /// Without a required password the default user has none, as in Redis: any will do.
    fn is_right_password(&self, user: &[u8], password: &[u8]) -> bool {
        let is_known_user = user == b"default";
        is_known_user
            && self.config.require_password.as_ref().is_none_or(|required| required.matches(password))
    }

    /// `HELLO [protover [AUTH user password] [SETNAME name]]`: all of it, or nothing.
    fn hello(&mut self, ix: usize, family: Family, request: &Request) -> Handled {
        let mut version = self.sessions[ix].state.version;
        let mut is_authenticated = self.sessions[ix].state.is_authenticated;
        let mut name = None;
        let mut at = 1;
        if let Some(given) = request.get(1) {
            version = match parse_integer(given) {
                Some(2) => Version::Resp2,
                Some(3) => Version::Resp3,
                Some(_) => {
                    self.refuse(ix, family, Reason::Other, &ErrorReply::NoProto);
                    return Handled::Done;
                }
                None => {
                    let what = "Protocol version is not an integer or out of range";
                    self.refuse(ix, family, Reason::Other, &ErrorReply::Invalid { what });
                    return Handled::Done;
                }
            };
            at = 2;
        }
        while let Some(option) = request.get(at) {
            if option.eq_ignore_ascii_case(b"AUTH") && request.len() > at + 2 {
                if !self.is_right_password(request.arg(at + 1), request.arg(at + 2)) {
                    self.refuse(ix, family, Reason::NoAuth, &ErrorReply::WrongPass);
                    return Handled::Done;
                }
                is_authenticated = true;
                at += 3;
            } else if option.eq_ignore_ascii_case(b"SETNAME") && request.len() > at + 1 {
                if !is_client_name(request.arg(at + 1)) {
                    self.refuse(ix, family, Reason::Other, &ErrorReply::ClientName);
                    return Handled::Done;
                }
                name = Some(request.arg(at + 1));
                at += 2;
            } else {
                let error = ErrorReply::HelloOption { option: quoted(option) };
                self.refuse(ix, family, Reason::Other, &error);
                return Handled::Done;
            }
        }
        if !is_authenticated {
            self.refuse(ix, family, Reason::NoAuth, &ErrorReply::HelloNoAuth);
            return Handled::Done;
        }
        // Replies under way come over connections of the other version and must come first.
        if version != self.sessions[ix].state.version && !self.sessions[ix].pipeline.is_empty() {
            return Handled::NotYet;
        }
        let session = &mut self.sessions[ix];
        session.state.is_authenticated = true;
        if let Some(name) = name {
            session.state.name = name.into();
        }
        let id = session.id;
        self.set_version(ix, version);
        self.publish_client(ix);
        let server = self.stats.server();
        let (server, release) = server.split_once(' ').unwrap_or((&server, ""));
        self.answer_now(ix, family, Outcome::Ok, |reply| {
            reply.map(7);
            for (field, value) in [("server", server), ("version", release)] {
                reply.bulk(field);
                reply.bulk(value);
            }
            reply.bulk("proto");
            reply.integer(if version == Version::Resp3 { 3 } else { 2 });
            reply.bulk("id");
            reply.integer(id as i64);
            for (field, value) in [("mode", "standalone"), ("role", "master")] {
                reply.bulk(field);
                reply.bulk(value);
            }
            reply.bulk("modules");
            reply.array(0);
        });
        Handled::Done
    }

    fn reset(&mut self, ix: usize, family: Family) -> Handled {
        if !self.sessions[ix].pipeline.is_empty() {
            return Handled::NotYet;
        }
        self.unwatch(ix);
        let key = self.key_of(ix);
        self.unsubscribe_all(key);
        self.sessions[ix].state = ClientState::new(self.config.require_password.is_none());
        self.publish_client(ix);
        self.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("RESET"));
        Handled::Done
    }

    fn client(&mut self, ix: usize, family: Family, request: &Request) -> Handled {
        let subcommand = quoted(request.get(1).unwrap_or_default()).to_ascii_lowercase();
        match (&*subcommand, request.len()) {
            ("id", 2) => {
                let id = self.sessions[ix].id as i64;
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.integer(id));
            }
            ("getname", 2) => {
                let name = self.sessions[ix].state.name.clone();
                self.answer_now(ix, family, Outcome::Ok, |reply| {
                    if name.is_empty() { reply.null() } else { reply.bulk(&name) }
                });
            }
            ("setname", 3) => {
                if !is_client_name(request.arg(2)) {
                    self.refuse(ix, family, Reason::Other, &ErrorReply::ClientName);
                    return Handled::Done;
                }
                self.sessions[ix].state.name = request.arg(2).into();
                self.publish_client(ix);
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("OK"));
            }
            ("setinfo", 4) => {
                let field = request.arg(2).to_ascii_lowercase();
                let value = request.arg(3);
                let state = &mut self.sessions[ix].state;
                match &*field {
                    _ if !is_client_name(value) => {
                        let what =
                            "CLIENT SETINFO values cannot contain spaces, newlines or special characters.";
                        self.refuse(ix, family, Reason::Other, &ErrorReply::Invalid { what });
                        return Handled::Done;
                    }
                    b"lib-name" => state.lib_name = value.into(),
                    b"lib-ver" => state.lib_ver = value.into(),
                    _ => {
                        let what = "Unrecognized option for CLIENT SETINFO";
                        self.refuse(ix, family, Reason::Other, &ErrorReply::Invalid { what });
                        return Handled::Done;
                    }
                }
                self.publish_client(ix);
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("OK"));
            }
            ("reply", 3) => return self.client_reply(ix, family, request.arg(2)),
            ("info", 2) => {
                let id = self.sessions[ix].id;
                let line = self.stats.client(id).map(|info| client_line(id, &info)).unwrap_or_default();
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.verbatim(&line));
            }
            ("list", _) => {
                let lines: String =
                    self.stats.clients().iter().map(|(id, info)| client_line(*id, info)).collect();
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.verbatim(&lines));
            }
            ("no-evict" | "no-touch", 3) => {
                let is_on = match &*request.arg(2).to_ascii_lowercase() {
                    b"on" => true,
                    b"off" => false,
                    _ => {
                        self.refuse(ix, family, Reason::Other, &ErrorReply::Syntax);
                        return Handled::Done;
                    }
                };
                let state = &mut self.sessions[ix].state;
                if subcommand == "no-evict" {
                    state.is_no_evict = is_on;
                } else {
                    state.is_no_touch = is_on;
                }
                self.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("OK"));
            }
            ("getredir", 2) => self.answer_now(ix, family, Outcome::Ok, |reply| reply.integer(-1)),
            _ => {
                let name = format!("client {subcommand}");
                let instead =
                    "the gateway answers CLIENT ID, GETNAME, SETNAME, SETINFO, INFO, LIST and REPLY";
                self.refuse(ix, family, Reason::Unsupported, &ErrorReply::Refused { name, instead });
            }
        }
        Handled::Done
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

    /// Shows the other workers what a client calls itself.
    fn publish_client(&self, ix: usize) {
        let session = &self.sessions[ix];
        let state = &session.state;
        self.stats.update_client(session.id, |info| {
            info.name = state.name.clone();
            info.lib_name = state.lib_name.clone();
            info.lib_ver = state.lib_ver.clone();
            info.is_resp3 = state.version == Version::Resp3;
        });
    }

    /// The gateway's own part of INFO.
    pub fn gateway_facts(&self) -> Facts {
        Facts {
            port: self.config.listen.port(),
            clients: self.stats.connected(),
            connections: self.stats.total_connections(),
            uptime_seconds: self.stats.started.elapsed().as_secs(),
            workers: self.config.workers,
            topology_version: self.topology.version,
            shards: self.topology.shards().len(),
            nodes: self.topology.nodes().len(),
            slots_served: self.topology.served(),
            held: self.stats.shares.held(),
            max_clients: self.config.max_clients,
        }
    }
}

fn parse_integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Printable and without spaces, as CLIENT LIST shows it in a line.
fn is_client_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// One line of CLIENT LIST.
fn client_line(id: u64, info: &ClientInfo) -> String {
    format!(
        "id={id} addr={} name={} age={} db=0 resp={} lib-name={} lib-ver={} worker={}\n",
        info.addr,
        quoted(&info.name),
        info.connected_at.elapsed().as_secs(),
        if info.is_resp3 { 3 } else { 2 },
        quoted(&info.lib_name),
        quoted(&info.lib_ver),
        info.worker,
    )
}
