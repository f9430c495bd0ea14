//! A client's bytes → its commands, one after the other, until something holds it up.

use super::core::Core;
use super::dispatch::Handled;
use super::error_reply::ErrorReply;
use super::session::Busy;
use crate::resp::{
    Limits, ProtocolError, Request, RequestProgress, RequestScan, Span, split_inline, write_request,
};
use crate::telemetry::{Close, Family, Outcome, Reason};
use memchr::memchr;

/// What a client may have under way in a request that cannot be streamed (several keys, a transaction):
/// twice the largest single value that ordinary clients send.
const BUFFERED_REQUEST: usize = 64 << 20;
/// A request with more arguments than this is not scanned anew for every piece of it that comes.
const MANY_ARGS: usize = 64;

impl Core {
    /// Whether the session's socket should be read now.
    pub fn wants_bytes(&self, ix: usize) -> bool {
        self.sessions
            .get(ix)
            .is_some_and(|session| !session.is_stalled && session.closing.is_none() && !session.is_eof)
    }

    /// Bytes came from a client.
    #[inline]
    pub fn client_bytes(&mut self, ix: usize, bytes: &[u8]) {
        self.recorder.bytes_in(bytes.len() as u64);
        let session = &mut self.sessions[ix];
        session.heard_at = self.now_us;
        if !session.tail.is_empty() || session.busy.is_some() {
            session.tail.extend_from_slice(bytes);
            if session.replay.is_some() {
                session.is_stalled = true;
                return;
            }
            return self.read_tail(ix);
        }
        let consumed = self.read_commands(ix, bytes);
        if consumed < bytes.len() {
            let session = &mut self.sessions[ix];
            session.tail.extend_from_slice(&bytes[consumed..]);
        }
    }

    /// Looks at a session again that was held up.
    pub fn resume_session(&mut self, ix: usize) {
        let Some(session) = self.sessions.get_mut(ix) else { return };
        if std::mem::take(&mut session.is_paused) {
            self.stats.watch.leave_pause();
        }
        session.is_resuming = false;
        session.is_stalled = false;
        if session.closing.is_some() {
            // It may have waited only for this.
            return self.mark_session(ix);
        }
        if session.replay.is_some() && !self.replay(ix) {
            return;
        }
        self.read_tail(ix);
    }

    fn read_tail(&mut self, ix: usize) {
        loop {
            let tail = std::mem::take(&mut self.sessions[ix].tail);
            let consumed = match self.sessions[ix].busy {
                Some(Busy::Uploading { .. } | Busy::Discarding { .. }) => self.read_upload(ix, &tail),
                _ => self.read_commands(ix, &tail),
            };
            let session = &mut self.sessions[ix];
            if consumed == tail.len() {
                return self.recycle(tail);
            }
            session.tail = tail;
            session.tail.drain(..consumed);
            // An upload may have begun or ended: the rest is read in another way then.
            if consumed == 0 || session.is_stalled || session.closing.is_some() {
                return;
            }
        }
    }

    /// Carries out the commands in `buf`; returns how many bytes they were. What is left is the
    /// beginning of a command, or waits.
    fn read_commands(&mut self, ix: usize, buf: &[u8]) -> usize {
        let mut scanner = std::mem::take(&mut self.scanner);
        let mut pos = 0;
        while pos < buf.len() {
            if !self.may_proceed(ix) {
                self.sessions[ix].is_stalled = true;
                break;
            }
            let limits = self.limits(ix);
            match self.sessions[ix].scan.take() {
                Some(begun) => scanner = *begun,
                None => scanner.reset(),
            }
            match scanner.scan(&buf[pos..], limits) {
                Ok(RequestScan::Complete { len }) => {
                    let request = Request::new(&buf[pos..pos + len], scanner.args());
                    if !request.is_empty() && self.handle(ix, &request) == Handled::NotYet {
                        self.sessions[ix].is_stalled = true;
                        break;
                    }
                    pos += len;
                }
                Ok(RequestScan::Inline { len }) => {
                    let line = &buf[pos..pos + len];
                    match self.handle_inline(ix, line) {
                        Ok(Handled::Done) => pos += len,
                        Ok(Handled::NotYet) => {
                            self.sessions[ix].is_stalled = true;
                            break;
                        }
                        Err(error) => {
                            self.refuse_protocol(ix, error);
                            pos = buf.len();
                        }
                    }
                }
                Ok(RequestScan::Incomplete { wants }) => {
                    if wants.max(buf.len() - pos) > self.config.stream_threshold {
                        let request = Request::new(&buf[pos..], scanner.args());
                        let progress = RequestProgress::of(&scanner, limits);
                        match self.begin_upload(ix, &request, scanner.scanned(), progress) {
                            Handled::Done => {}
                            Handled::NotYet if self.has_work(ix) => self.sessions[ix].is_stalled = true,
                            Handled::NotYet if wants.max(buf.len() - pos) > BUFFERED_REQUEST => {
                                let error = ErrorReply::RequestTooLarge { limit: BUFFERED_REQUEST };
                                self.answer_now(ix, Family::Other, Outcome::Refused, |reply| {
                                    reply.error(&error.to_string())
                                });
                                self.recorder.refused(Reason::TooLarge);
                                self.close_after_writing(ix, Close::Protocol);
                                pos = buf.len();
                            }
                            Handled::NotYet => {}
                        }
                    }
                    if scanner.args().len() > MANY_ARGS && self.sessions[ix].busy.is_none() {
                        self.sessions[ix].scan = Some(Box::new(std::mem::take(&mut scanner)));
                    }
                    break;
                }
                Err(error) => {
                    self.refuse_protocol(ix, error);
                    pos = buf.len();
                }
            }
        }
        self.scanner = scanner;
        self.sessions[ix].pipeline.end_batch();
        pos
    }

    /// Whether the next command of the client may be looked at.
    #[inline]
    pub fn may_proceed(&self, ix: usize) -> bool {
        let session = &self.sessions[ix];
        session.busy.is_none()
            && session.closing.is_none()
            && session.pipeline.len() < self.config.pipeline_limit
            && session.unwritten() + session.pipeline.stored() < self.config.output_soft_limit
    }

    fn has_work(&self, ix: usize) -> bool {
        let session = &self.sessions[ix];
        !session.pipeline.is_empty() || session.busy.is_some()
    }

    fn limits(&self, ix: usize) -> Limits {
        if self.sessions[ix].state.is_authenticated { Limits::USUAL } else { Limits::UNAUTHENTICATED }
    }

    fn handle_inline(&mut self, ix: usize, line: &[u8]) -> Result<Handled, ProtocolError> {
        let args = split_inline(line)?;
        if args.is_empty() {
            return Ok(Handled::Done);
        }
        let mut frame = Vec::new();
        write_request(&mut frame, args.iter());
        // The arguments lie behind their lengths, one after the other.
        let mut spans = Vec::with_capacity(args.len());
        let mut at = memchr(b'\n', &frame).map_or(0, |end| end + 1);
        for arg in &args {
            at += memchr(b'\n', &frame[at..]).map_or(0, |end| end + 1);
            spans.push(Span { start: at as u32, end: (at + arg.len()) as u32 });
            at += arg.len() + 2;
        }
        Ok(self.handle(ix, &Request::new(&frame, &spans)))
    }

    pub fn refuse_protocol(&mut self, ix: usize, error: ProtocolError) {
        self.recorder.refused(Reason::Protocol);
        let error = ErrorReply::Protocol(error);
        self.answer_now(ix, Family::Other, Outcome::Refused, |reply| reply.error(&error.to_string()));
        self.close_after_writing(ix, Close::Protocol);
    }

    /// The client's connection ends once all replies that are owed are written.
    pub fn close_after_writing(&mut self, ix: usize, why: Close) {
        self.sessions[ix].closing = Some(why);
        self.mark_session(ix);
    }

    /// The client sends no more; what it asked for is still answered, but for what it is blocked on.
    pub fn client_eof(&mut self, ix: usize) {
        let session = &mut self.sessions[ix];
        session.is_eof = true;
        if matches!(
            session.busy,
            Some(Busy::Uploading { .. } | Busy::Probing { .. } | Busy::Discarding { .. } | Busy::Blocked)
        ) {
            session.pipeline = Default::default();
            session.out.clear();
            session.written = 0;
        }
        if !session.is_stalled {
            session.closing = Some(Close::Client);
        }
        self.mark_session(ix);
    }

    /// The client has gone; true when the session can be closed at once, as it only waits for data.
    pub fn client_hangup(&mut self, ix: usize) -> bool {
        self.sessions.get(ix).is_some_and(|session| session.busy == Some(Busy::Blocked) || session.is_paused)
    }
}
