//! Commands that the gateway answers itself: they are about the connection, and the connection is ours.

use super::client_command::is_client_name;
use super::client_state::ClientState;
use super::core::Core;
use super::dispatch::Handled;
use super::ears::Hears;
use super::error_reply::{ErrorReply, quoted};
use super::info::Facts;
use super::router::Local;
use crate::command;
use crate::resp::{Request, Version};
use crate::telemetry::{Close, Family, Outcome, Reason};
use std::sync::atomic::Ordering;

/// Whether a client that has yet to authenticate may say this.
pub fn is_allowed_unauthenticated(local: Local) -> bool {
    matches!(local, Local::Auth | Local::Hello | Local::Quit | Local::Reset)
}

impl Core {
    /// Answers a command that is about the connection.
    pub fn handle_local(&mut self, ix: usize, local: Local, family: Family, request: &Request) -> Handled {
        use Local::*;
        match local {
            // A node that is busy with a script says so.
            Ping if request.len() == 1
                && self.stats.scripts.are_running()
                && !self.sessions[ix].state.is_subscribed_mode() =>
            {
                if let Some(command) = self.command_of(request) {
                    return self.send_any(ix, command, request);
                }
            }
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
            Subscribe | PSubscribe | SSubscribe | Unsubscribe | PUnsubscribe | SUnsubscribe | Publish => {
                return self.handle_pubsub(ix, local, request);
            }
            // The one user that clients can be: the nodes' users are for the nodes.
            WhoAmI => self.answer_now(ix, family, Outcome::Ok, |reply| reply.bulk("default")),
            Sync => return self.start_feed(ix, family),
            Monitor => {
                self.set_monitor(ix, true);
                self.wait_for_ears(ix, family, Hears::Commands);
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
        self.set_monitor(ix, false);
        self.stop_tracking(ix);
        self.sessions[ix].state = ClientState::new(self.config.require_password.is_none());
        self.answer_now(ix, family, Outcome::Ok, |reply| reply.simple("RESET"));
        Handled::Done
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
            paused_clients: self.stats.watch.paused_clients(),
            tracking: [
                ("tracking_clients", &self.stats.tracking.clients),
                ("tracking_total_keys", &self.stats.tracking.keys),
                ("tracking_total_items", &self.stats.tracking.items),
                ("tracking_total_prefixes", &self.stats.tracking.prefixes),
            ]
            .map(|(field, count)| (field, count.load(Ordering::Relaxed))),
        }
    }
}

fn parse_integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
