//! A large request, passed on to its node as it comes: it is never stored whole.
//!
//! The node must be known to serve the key before the body goes out, as the body is not kept to be
//! sent elsewhere: a harmless EXISTS asks first, over the connection that the upload will have for
//! itself.

use super::core::Core;
use super::dispatch::Handled;
use super::error_reply::ErrorReply;
use super::flight::{Aim, Lane, Purpose, SessionKey, Tag};
use super::pipeline::Place;
use super::router::Handling;
use super::session::Busy;
use crate::backend::Flight;
use crate::command::{KeyShape, Lookup};
use crate::resp::{Request, RequestProgress, write_request};
use crate::telemetry::{Outcome, Reason};
use crate::topology::Slot;

/// While a large request is passed on, its client is not read while so much waits for the node.
const UPLOAD_WINDOW: usize = 1 << 20;

impl Core {
    /// A large request has come in part: begins to stream it when that is possible, that is, when the
    /// node can be told from what is there and nothing else of the client is under way.
    pub fn begin_upload(
        &mut self,
        ix: usize,
        request: &Request,
        scanned: usize,
        progress: RequestProgress,
    ) -> Handled {
        if request.is_empty() || !self.sessions[ix].state.is_plain() {
            return Handled::NotYet;
        }
        let Lookup::Found(command, spec) = self.table.lookup(request) else { return Handled::NotYet };
        let KeyShape::One(at) = spec.shape else { return Handled::NotYet };
        let Some(key) = request.get(usize::from(at)) else { return Handled::NotYet };
        let is_plain = self.traits[usize::from(command.0)].handling == Handling::Keys;
        let session = &self.sessions[ix];
        if !is_plain || !session.pipeline.is_empty() || !session.gates.is_empty() {
            return Handled::NotYet;
        }
        let ticket = self.take_ticket(ix, command, Place::Waiting);
        let mut tag = self.tag(ix, ticket, command, Aim::Owner(Slot::of_key(key)));
        tag.lane = Lane::Exclusive;
        tag.purpose = Purpose::Probe;
        self.sessions[ix].busy = Some(Busy::Probing { scanned, progress });
        let mut probe = Vec::new();
        write_request(&mut probe, [b"EXISTS", key]);
        self.forward(tag, &[&probe]);
        Handled::Done
    }

    /// Passes on, or throws away, what `buf` holds of a large request; returns how many bytes.
    pub fn read_upload(&mut self, ix: usize, buf: &[u8]) -> usize {
        let (mut progress, target) = match self.sessions[ix].busy {
            Some(Busy::Uploading { backend, ticket, progress }) => (progress, Some((backend, ticket))),
            Some(Busy::Discarding { skip, progress }) if skip > 0 => {
                let skipped = skip.min(buf.len());
                self.sessions[ix].busy = Some(Busy::Discarding { skip: skip - skipped, progress });
                return skipped;
            }
            Some(Busy::Discarding { progress, .. }) => (progress, None),
            _ => return 0,
        };
        if let Some((backend, _)) = target
            && self.backends[backend].wire.outbox.len() > UPLOAD_WINDOW
        {
            self.sessions[ix].is_stalled = true;
            return 0;
        }
        let advance = match progress.advance(buf) {
            Ok(advance) => advance,
            Err(error) => {
                if let Some((backend, _)) = target {
                    self.sessions[ix].busy = None;
                    self.backends[backend].owner = None;
                    self.close_backend(backend, false);
                }
                self.sessions[ix].pipeline = Default::default();
                self.refuse_protocol(ix, error);
                return buf.len();
            }
        };
        match target {
            None => {
                self.sessions[ix].busy = (!advance.is_done).then_some(Busy::Discarding { skip: 0, progress });
            }
            Some((backend, ticket)) => {
                self.backends[backend].wire.outbox.push(&[&buf[..advance.consumed]]);
                self.mark_backend(backend);
                if advance.is_done {
                    self.finish_upload(ix, backend);
                } else {
                    self.sessions[ix].busy = Some(Busy::Uploading { backend, ticket, progress });
                }
            }
        }
        advance.consumed
    }

    /// The node that a large request is for has answered EXISTS.
    pub fn probe_answered(&mut self, backend: usize, tag: &Tag, reply: &[u8]) {
        let Some(session) = self.session_of(tag.session) else { return };
        let Some(Busy::Probing { scanned, progress }) = session.busy else { return };
        let ix = tag.session.ix as usize;
        if reply.starts_with(b"-") {
            self.sessions[ix].is_stalled = true;
            return self.answer(tag.session, tag.ticket, Outcome::Error, reply);
        }
        let session = &mut self.sessions[ix];
        session.busy = Some(Busy::Uploading { backend, ticket: tag.ticket, progress });
        let connection = &mut self.backends[backend];
        connection.upload = Some(Tag { purpose: Purpose::Answer, ..*tag });
        if let Aim::Asked { .. } = tag.aim {
            // Its reply comes long before the upload's; its bytes are forgotten with the upload's.
            connection.wire.outbox.push(&[super::settle::ASKING]);
            let tag = Tag { purpose: Purpose::Discard, ..*tag };
            connection.wire.flights.push_back(Flight { len: 0, skip: 0, tag });
        }
        connection.wire.outbox.push(&[&session.tail[..scanned]]);
        session.tail.drain(..scanned);
        // By way of the worker, who then also reads the socket again.
        session.is_stalled = true;
        self.mark_backend(backend);
        self.resume(ix);
    }

    /// All of a large request has been passed on: its reply is awaited.
    fn finish_upload(&mut self, ix: usize, backend: usize) {
        self.sessions[ix].busy = Some(Busy::Alone);
        let connection = &mut self.backends[backend];
        if let Some(tag) = connection.upload.take() {
            // None of the request is kept to be sent again, so what is still unwritten is forgotten
            // once written, too.
            connection.is_one_way = true;
            connection.wire.flights.push_back(Flight { len: 0, skip: 0, tag });
        }
    }

    /// The connection of an upload broke before the request was complete: it was not executed.
    pub fn upload_lost(&mut self, owner: SessionKey) {
        let Some(session) = self.session_of(owner) else { return };
        let Some(Busy::Uploading { ticket, progress, .. }) = session.busy else { return };
        session.busy = Some(Busy::Discarding { skip: 0, progress });
        self.recorder.refused(Reason::Unreachable);
        let line = super::answer::error_line(&ErrorReply::UploadMoved);
        self.answer(owner, ticket, Outcome::Refused, &line);
    }
}
