//! Carries a route out: tickets are taken and requests put on their way to nodes.

use super::core::{Core, NO_BACKEND};
use super::error_reply::ErrorReply;
use super::fanout::{Merge, Policy, group_by_slot};
use super::flight::{Aim, Held, Lane, Purpose, Tag};
use super::info;
use super::listeners;
use super::pipeline::{Entry, Place, Ticket};
use super::redirect::Cause;
use super::router::{self, All, Handling, Local, Route, ScriptUse, Split};
use super::session::Busy;
use crate::command::{CommandIx, KeyShape, Lookup, Spec};
use crate::resp::{ReplyWriter, Request, Version, write_head, write_request};
use crate::telemetry::{Family, Outcome, Reason};
use crate::topology::{NodeId, Slot};

/// Whether a command was taken care of, or must be shown again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    Done,
    NotYet,
}

impl Core {
    /// Looks at one whole command of a client.
    #[inline]
    pub fn handle(&mut self, ix: usize, request: &Request) -> Handled {
        let (command, spec) = match self.table.lookup(request) {
            Lookup::Found(command, spec) => (command, spec),
            _ => return self.handle_unknown(ix, request),
        };
        let traits = self.traits[usize::from(command.0)];
        if let (Handling::Keys, KeyShape::One(at)) = (traits.handling, spec.shape)
            && spec.takes(request.len())
            && self.sessions[ix].state.is_plain()
        {
            return self.send_one(ix, command, Slot::of_key(request.arg(usize::from(at))), request, false);
        }
        self.handle_special(ix, command, request)
    }

    fn handle_unknown(&mut self, ix: usize, request: &Request) -> Handled {
        let error = if !self.sessions[ix].state.is_authenticated {
            ErrorReply::NoAuth
        } else if let Lookup::UnknownSubcommand(container) = self.table.lookup(request) {
            let name = super::error_reply::quoted(request.get(1).unwrap_or_default());
            ErrorReply::UnknownSubcommand { container: container.name.to_string(), name }
        } else {
            super::error_reply::unknown_command(request)
        };
        self.taint(ix);
        self.refuse(ix, Family::Other, Reason::UnknownCommand, &error);
        Handled::Done
    }

    fn handle_special(&mut self, ix: usize, command: CommandIx, request: &Request) -> Handled {
        let table = self.table.clone();
        let spec = table.get(command);
        let traits = self.traits[usize::from(command.0)];
        let local = match traits.handling {
            Handling::Local(local) => Some(local),
            _ => None,
        };
        let state = &self.sessions[ix].state;
        if !state.is_authenticated && !local.is_some_and(super::local::is_allowed_unauthenticated) {
            self.refuse(ix, traits.family, Reason::NoAuth, &ErrorReply::NoAuth);
            return Handled::Done;
        }
        if state.is_subscribed_mode() && !local.is_some_and(super::pubsub::is_allowed_subscribed) {
            let name = spec.name.to_string();
            self.refuse(ix, traits.family, Reason::Unsupported, &ErrorReply::SubscribedMode { name });
            return Handled::Done;
        }
        let mut keys = std::mem::take(&mut self.keys);
        let route = router::route(traits.handling, spec, request, &mut keys);
        self.keys = keys;
        if let Some(usage) = traits.script
            && !matches!(route, Route::Refuse(_))
        {
            self.note_script(usage, request);
            if let (Route::One { slot, .. }, None) = (&route, &self.sessions[ix].state.transaction)
                && usage == ScriptUse::Calls
            {
                self.load_scripts_at(ix, command, *slot, request.frame);
            }
        }
        if self.watching.is_on && !matches!(route, Route::Refuse(_)) {
            if let Some(handled) = self.wait_while_paused(ix, command, spec, &route, request) {
                return handled;
            }
            let lines = self.monitor_lines(ix, spec, request);
            let touched = self.touched(ix, spec, request);
            let handled = self.carry_out(ix, command, spec, route, request);
            if handled == Handled::Done {
                self.feed_monitors(&lines);
                self.track(ix, spec, touched);
            }
            return handled;
        }
        self.carry_out(ix, command, spec, route, request)
    }

    fn carry_out(
        &mut self,
        ix: usize,
        command: CommandIx,
        spec: &Spec,
        route: Route,
        request: &Request,
    ) -> Handled {
        let traits = self.traits[usize::from(command.0)];
        let local = match traits.handling {
            Handling::Local(local) => Some(local),
            _ => None,
        };
        let is_in_transaction = self.sessions[ix].state.transaction.is_some();
        if matches!(route, Route::Refuse(ErrorReply::CrossSlot { .. }))
            || (is_in_transaction && route == Route::Errand)
        {
            self.report_cross_slot(command);
        }
        if is_in_transaction && !local.is_some_and(super::pinned::acts_in_transaction) {
            return self.queue(ix, spec, traits.family, route, request);
        }
        match route {
            Route::Local(local) => self.handle_local(ix, local, traits.family, request),
            Route::One { slot, has_many_keys } => self.send_one(ix, command, slot, request, has_many_keys),
            Route::Any => self.send_any(ix, command, request),
            Route::PinnedAny => self.send_script(ix, command, request),
            Route::Split(split) => self.send_split(ix, command, split, request),
            Route::All(all) => self.send_all(ix, command, all, request),
            Route::Errand => self.send_errand(ix, command, request),
            Route::Pinned { slot, .. } => self.send_blocking(ix, command, slot, request),
            Route::Refuse(_) if local == Some(Local::Exec) => {
                self.sessions[ix].state.transaction = None;
                self.unwatch(ix);
                self.refuse(ix, traits.family, Reason::Arity, &ErrorReply::ExecArity);
                Handled::Done
            }
            Route::Refuse(error) => {
                self.taint(ix);
                self.refuse(ix, traits.family, error.reason(), &error);
                Handled::Done
            }
        }
    }

    /// Forwards a request whole to the owner of its slot.
    #[inline]
    pub fn send_one(
        &mut self,
        ix: usize,
        command: CommandIx,
        slot: Slot,
        request: &Request,
        has_many_keys: bool,
    ) -> Handled {
        let session = &self.sessions[ix];
        if !session.gates.is_empty() && session.is_gated(slot) {
            return Handled::NotYet;
        }
        let ticket = self.take_ticket(ix, command, Place::Waiting);
        let tag = self.tag(ix, ticket, command, Aim::Owner(slot));
        if has_many_keys {
            // The node may answer TRYAGAIN to it and serve a later command for one of its keys.
            self.sessions[ix].gate(slot, ticket, 0, NO_BACKEND);
        }
        self.forward(tag, &[request.frame]);
        Handled::Done
    }

    pub fn send_any(&mut self, ix: usize, command: CommandIx, request: &Request) -> Handled {
        let ticket = self.take_ticket(ix, command, Place::Waiting);
        let tag = self.tag(ix, ticket, command, Aim::Any);
        self.forward(tag, &[request.frame]);
        Handled::Done
    }

    fn send_split(&mut self, ix: usize, command: CommandIx, split: Split, request: &Request) -> Handled {
        let step = if split == Split::Pairs { 2 } else { 1 };
        let mut grouped = std::mem::take(&mut self.grouped);
        group_by_slot(request.args().skip(1).step_by(step), &mut grouped);
        let session = &self.sessions[ix];
        if !session.gates.is_empty() && grouped.iter().any(|(slot, _)| session.is_gated(*slot)) {
            self.grouped = grouped;
            return Handled::NotYet;
        }
        let policy = match split {
            Split::Values => {
                Policy::Values { positions: grouped.iter().map(|(_, number)| *number).collect() }
            }
            Split::Pairs => Policy::AllSucceed,
            Split::Sum => Policy::Sum,
        };
        let is_write = self.traits[usize::from(command.0)].is_write;
        let parts = grouped.chunk_by(|a, b| a.0 == b.0).count();
        let merge = Merge::new(policy, session.state.version, parts, is_write);
        let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
        let name = request.raw(0, 0);
        let raw_key = |number: u32| {
            let at = 1 + number as usize * step;
            request.raw(at, at + step - 1)
        };
        let mut tag = self.tag(ix, ticket, command, Aim::Any);
        let mut head = Vec::new();
        for (part, group) in grouped.chunk_by(|a, b| a.0 == b.0).enumerate() {
            let slot = group[0].0;
            tag.part = part as u32;
            tag.aim = Aim::Owner(slot);
            match *group {
                [(_, number)] if step == 1 => self.forward(tag, &[b"*2\r\n", name, raw_key(number)]),
                [(_, number)] => self.forward(tag, &[b"*3\r\n", name, raw_key(number)]),
                _ => {
                    head.clear();
                    write_head(&mut head, b'*', 1 + group.len() * step);
                    head.extend_from_slice(name);
                    group.iter().for_each(|(_, number)| head.extend_from_slice(raw_key(*number)));
                    self.sessions[ix].gate(slot, ticket, part as u32, NO_BACKEND);
                    self.forward(tag, &[&head]);
                }
            }
        }
        self.grouped = grouped;
        Handled::Done
    }

    fn send_all(&mut self, ix: usize, command: CommandIx, all: All, request: &Request) -> Handled {
        // What changes or counts everything comes after all that the client sent before, of which each
        // may yet have to go to another node.
        if !self.sessions[ix].pipeline.is_empty() {
            return Handled::NotYet;
        }
        let version = self.sessions[ix].state.version;
        let traits = self.traits[usize::from(command.0)];
        let firsts = self.scan_order.first_slots();
        if firsts.is_empty() {
            // Nothing is known of the cluster yet: waits like any other request.
            return self.send_any(ix, command, request);
        }
        let frame = request.frame;
        if &*self.table.get(command).name == "config|set" {
            self.doubt();
        }
        if all == All::Users
            && let Some(error) = self.own_user_in(request)
        {
            self.refuse(ix, traits.family, Reason::Unsupported, &error);
            return Handled::Done;
        }
        match all {
            All::Scan => return self.send_scan(ix, command, request),
            All::RandomKey => {
                let mut size = Vec::new();
                write_request(&mut size, ["DBSIZE"]);
                let merge = Merge::new(Policy::RandomKey, version, firsts.len() * 2, false);
                let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
                for (node, slot) in firsts.into_iter().enumerate() {
                    let mut tag = self.tag(ix, ticket, command, Aim::Owner(slot));
                    tag.part = node as u32 * 2;
                    self.forward(tag, &[&size]);
                    tag.part += 1;
                    self.forward(tag, &[frame]);
                }
            }
            All::Settings => {
                let merge = Merge::new(Policy::Settings(self.own_settings()), version, 1, false);
                let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
                let tag = self.tag(ix, ticket, command, Aim::Any);
                self.forward(tag, &[frame]);
            }
            All::Report(report) => return self.send_report(ix, command, report, firsts, request),
            All::Configure => return self.send_configure(ix, command, firsts, request),
            All::Wait => return self.send_wait(ix, command, firsts, request),
            All::Kill => return self.send_kill(ix, command, firsts, request),
            _ => {
                let policy = match all {
                    All::Sum => Policy::Sum,
                    All::Min => Policy::Min,
                    All::Concat => Policy::Concat,
                    All::LogicalAnd => Policy::LogicalAnd { known: self.known_scripts(request) },
                    All::Info => Policy::Info(Box::new(info::Request::new(request, self.gateway_facts()))),
                    All::Listeners => {
                        let nodes: Vec<NodeId> = firsts
                            .iter()
                            .filter_map(|slot| self.topology.primary_of(*slot).map(|node| node.id))
                            .collect();
                        let asked = listeners::Request::new(request, &self.stats.subscribers, &nodes);
                        Policy::Listeners(Box::new(asked))
                    }
                    _ => Policy::AllSucceed,
                };
                let is_write = traits.is_write || matches!(all, All::AllSucceed | All::Users);
                let merge = Merge::new(policy, version, firsts.len(), is_write);
                let ticket = self.take_ticket(ix, command, Place::Merging(Box::new(merge)));
                if matches!(all, All::AllSucceed | All::Users) {
                    // And what changes everything comes before all that the client sends after.
                    self.sessions[ix].busy = Some(Busy::Alone);
                }
                for (part, slot) in firsts.into_iter().enumerate() {
                    let mut tag = self.tag(ix, ticket, command, Aim::Owner(slot));
                    tag.part = part as u32;
                    self.forward(tag, &[frame]);
                }
            }
        }
        Handled::Done
    }

    /// Takes the next ticket of a session for a command that just came.
    #[inline]
    pub fn take_ticket(&mut self, ix: usize, command: CommandIx, place: Place) -> Ticket {
        let family = self.traits[usize::from(command.0)].family;
        let came_at = self.now_us;
        let session = &mut self.sessions[ix];
        let is_mute = session.state.mutes_next();
        session.pipeline.push(Entry { place, came_at, family, outcome: Outcome::Ok, is_mute })
    }

    /// What will be known of a request when its reply comes.
    #[inline]
    pub fn tag(&self, ix: usize, ticket: Ticket, command: CommandIx, aim: Aim) -> Tag {
        Tag {
            session: self.key_of(ix),
            ticket,
            part: 0,
            aim,
            command,
            version: self.sessions[ix].state.version,
            lane: Lane::Shared,
            purpose: Purpose::Answer,
            may_have_run: false,
            redirects: 0,
            waits: 0,
            sent_at: self.now_us,
            held_at: 0,
        }
    }

    /// Puts a request on its way, or holds it.
    #[inline]
    pub fn forward(&mut self, tag: Tag, parts: &[&[u8]]) {
        self.forward_after(tag, parts, 0);
    }

    /// The same for a request that is preceded by others, whose `skip` replies do not count.
    #[inline]
    pub fn forward_after(&mut self, tag: Tag, parts: &[&[u8]], skip: u32) {
        if tag.lane == Lane::Shared
            && let Aim::Owner(slot) = tag.aim
            && let Some((backend, shard)) = self.pipe_of(slot, tag.version)
        {
            self.recorder.shard(shard, 1);
            self.backends[backend].wire.push(parts, skip, tag);
            return self.mark_backend(backend);
        }
        let held = Held {
            tag,
            skip,
            request: parts.concat(),
            cause: Cause::Unreachable,
            retry_at: self.now_us,
            behind: 0,
            is_overtaken: false,
        };
        if let Some(held) = self.try_forward(held) {
            self.hold(held);
        }
    }

    /// Answers a client at once, in turn.
    pub fn answer_now(
        &mut self,
        ix: usize,
        family: Family,
        outcome: Outcome,
        write: impl FnOnce(&mut ReplyWriter),
    ) {
        let version = self.sessions[ix].state.version;
        let mut out = self.buffer();
        write(&mut ReplyWriter { out: &mut out, version });
        let came_at = self.now_us;
        let session = &mut self.sessions[ix];
        let is_mute = session.state.mutes_next();
        let ticket =
            session.pipeline.push(Entry { place: Place::Waiting, came_at, family, outcome, is_mute });
        let key = self.key_of(ix);
        self.answer(key, ticket, outcome, &out);
        self.recycle(out);
    }

    /// Answers a client with an error of ours; nothing was executed.
    pub fn refuse(&mut self, ix: usize, family: Family, reason: Reason, error: &ErrorReply) {
        self.recorder.refused(reason);
        self.answer_now(ix, family, Outcome::Refused, |reply| reply.error(&error.to_string()));
    }

    /// A client chose another protocol version.
    pub fn set_version(&mut self, ix: usize, version: Version) {
        self.sessions[ix].state.version = version;
        self.want_version(version);
    }
}
