//! Commands in a transaction that the gateway answers itself: CLIENT, SELECT and others that are about the
//! connection, and those that it does not serve. These are refused when EXEC carries them out, as by Redis,
//! which refuses REPLICAOF on a node of a cluster no earlier: the others of the transaction are run.
//!
//! Where such a command stands, the node gets a PING. When EXEC is answered, and only if the transaction was
//! run, the command is carried out here, and its reply takes the place of the PING's.

use super::client_state::ReplyMode;
use super::core::Core;
use super::error_reply::ErrorReply;
use super::fanout::{array, element};
use super::flight::SessionKey;
use super::router::{self, Handling, Local, Route};
use super::scripts::each_request;
use crate::command::{Lookup, Spec};
use crate::resp::{Request, write_head};

/// What a node gets in the place of a command of ours.
pub const STAND_IN: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// The commands of a transaction that are carried out here.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct OwnCommands {
    pub frames: Vec<u8>,
    /// Which of the transaction's commands each of them is, counted from 0.
    pub places: Vec<u32>,
}

/// Whether a command is answered here and can be part of a transaction. Those that change how replies
/// are written cannot.
pub fn is_answered_here(route: &Route, spec: &Spec) -> bool {
    use Local::{Client, ClusterDisabled, Command, Role, Select, WhoAmI};
    match route {
        Route::Local(Client | Select | Command | Role | WhoAmI | ClusterDisabled) => {
            super::client_command::is_answered_at_once(spec)
        }
        Route::Refuse(ErrorReply::Refused { .. }) => true,
        _ => false,
    }
}

impl Core {
    /// The client's answer to EXEC: the node's, with the replies of our own commands, if it was run.
    pub fn splice(&mut self, key: SessionKey, own: &OwnCommands, reply: Vec<u8>) -> Vec<u8> {
        if !reply.starts_with(b"*") || reply.starts_with(b"*-1") || self.session_of(key).is_none() {
            return reply;
        }
        let mut replies = Vec::new();
        each_request(&own.frames, |request| replies.push(self.answer_here(key.ix as usize, request)));
        let mut ours = own.places.iter().zip(&replies).peekable();
        let (count, mut rest) = array(&reply);
        let mut out = Vec::with_capacity(reply.len());
        write_head(&mut out, b'*', count);
        for place in 0..count {
            let Some((theirs, after)) = element(rest) else { break };
            rest = after;
            match ours.next_if(|(at, _)| **at as usize == place) {
                Some((_, own)) => out.extend_from_slice(own),
                None => out.extend_from_slice(theirs),
            }
        }
        out
    }

    /// Carries a command out as if nothing else were under way, and gives its reply.
    fn answer_here(&mut self, ix: usize, request: &Request) -> Vec<u8> {
        let Lookup::Found(command, _) = self.table.lookup(request) else { return Vec::new() };
        let traits = self.traits[usize::from(command.0)];
        let session = &mut self.sessions[ix];
        let pipeline = std::mem::take(&mut session.pipeline);
        let out = std::mem::take(&mut session.out);
        let written = std::mem::take(&mut session.written);
        let gates = std::mem::take(&mut session.gates);
        let busy = session.busy.take();
        let reply_mode = std::mem::replace(&mut session.state.reply_mode, ReplyMode::On);
        match traits.handling {
            Handling::Local(local) => drop(self.handle_local(ix, local, traits.family, request)),
            handling => {
                let table = self.table.clone();
                if let Route::Refuse(error) =
                    router::route(handling, table.get(command), request, &mut Vec::new())
                {
                    self.refuse(ix, traits.family, error.reason(), &error);
                }
            }
        }
        let session = &mut self.sessions[ix];
        session.state.reply_mode = reply_mode;
        session.busy = busy;
        session.gates = gates;
        session.written = written;
        session.pipeline = pipeline;
        std::mem::replace(&mut session.out, out)
    }
}
