//! What workers tell each other, and questions about the clients of all of them (CLIENT LIST, KILL, UNBLOCK): each
//! worker answers for its own, and the last one hands the whole back to the worker that asked.

use super::client_line::Filter;
use super::core::Core;
use super::flight::{Aim, SessionKey};
use super::pipeline::{Entry, Place, Ticket};
use super::session::Busy;
use super::stats::Stats;
use crate::resp::{ReplyWriter, Version, write_request};
use crate::telemetry::{Close, Family, Outcome};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Something that another worker should know.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A question to answer for its own clients.
    Asked(Arc<Inquiry>),
    /// All have answered what it asked.
    Answered(Arc<Inquiry>),
    /// The nodes' settings have changed.
    Settings,
    /// What is watched has changed: pauses, monitors.
    Watch,
    /// A client is to hear that keys have changed; `None`: that any may have.
    Changed { client: u64, keys: Option<Arc<[Box<[u8]>]>> },
    /// A line for its monitors.
    Line(Arc<[u8]>),
}

type Tell = dyn Fn(usize, Notice) + Send + Sync;

/// The way to the workers, by number.
#[derive(Default)]
pub struct Peers {
    tell: OnceLock<(usize, Box<Tell>)>,
}

impl Peers {
    /// There are so many workers, and this tells one of them something.
    pub fn introduce(&self, count: usize, tell: impl Fn(usize, Notice) + Send + Sync + 'static) {
        let _ = self.tell.set((count, Box::new(tell)));
    }

    fn count(&self) -> usize {
        self.tell.get().map_or(1, |(count, _)| *count)
    }

    /// Tells all workers but one.
    pub fn tell_others(&self, me: usize, notice: &Notice) {
        (0..self.count()).filter(|other| *other != me).for_each(|other| self.tell(other, notice.clone()));
    }

    /// Tells one worker.
    pub fn tell(&self, worker: usize, notice: Notice) {
        if let Some((_, tell)) = self.tell.get() {
            tell(worker, notice);
        }
    }
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peers({})", self.count())
    }
}

/// What is asked of all workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// CLIENT LIST.
    List(Filter),
    /// CLIENT KILL; `is_old`: by an address alone, which answers OK instead of a count.
    Kill { filter: Filter, is_old: bool },
    /// CLIENT UNBLOCK.
    Unblock { filter: Filter, is_error: bool },
}

/// A question under way.
#[derive(Debug)]
pub struct Inquiry {
    question: Question,
    worker: usize,
    session: SessionKey,
    ticket: Ticket,
    version: Version,
    /// The clients that were meant, by number, each with its line.
    answers: Mutex<Vec<(u64, String)>>,
    left: AtomicUsize,
}

impl Core {
    /// Asks all workers; the client's reply comes when all have answered.
    pub fn inquire(&mut self, ix: usize, family: Family, question: Question) {
        let came_at = self.now_us;
        let session = &mut self.sessions[ix];
        let is_mute = session.state.mutes_next();
        let entry = Entry { place: Place::Waiting, came_at, family, outcome: Outcome::Ok, is_mute };
        let inquiry = Arc::new(Inquiry {
            question,
            worker: self.worker,
            ticket: session.pipeline.push(entry),
            version: session.state.version,
            session: self.key_of(ix),
            answers: Mutex::default(),
            left: AtomicUsize::new(self.stats.peers.count()),
        });
        self.stats.peers.tell_others(self.worker, &Notice::Asked(inquiry.clone()));
        self.answer_inquiry(&inquiry);
    }

    /// Another worker tells something.
    pub fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Asked(inquiry) => self.answer_inquiry(&inquiry),
            Notice::Answered(inquiry) => self.finish_inquiry(&inquiry),
            Notice::Settings => self.ask_limits(),
            Notice::Watch => self.load_watch(),
            Notice::Changed { client, keys } => self.on_redirected(client, keys.as_deref()),
            Notice::Line(line) => self.tell_monitors(&line),
        }
    }

    /// Answers for the clients of this worker.
    fn answer_inquiry(&mut self, inquiry: &Arc<Inquiry>) {
        let (Question::List(filter) | Question::Kill { filter, .. } | Question::Unblock { filter, .. }) =
            &inquiry.question;
        let is_mine = inquiry.worker == self.worker;
        let under_way = self.under_way();
        let mut meant: Vec<(usize, u64, String)> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.closing.is_none())
            .filter_map(|(ix, session)| {
                let info = self.stats.client(session.id)?;
                let asking = self.asking.filter(|_| is_mine && self.key_of(ix) == inquiry.session);
                let line = || self.client_line(ix, &info, asking, &under_way);
                filter.fits(session, &info).then(|| (ix, session.id, line()))
            })
            .collect();
        if let Question::Unblock { .. } = inquiry.question {
            meant =
                meant.into_iter().filter_map(|(ix, id, _)| Some((ix, id, self.place_of_wait(ix)?))).collect();
        }
        if let Question::Kill { .. } = inquiry.question {
            for (ix, ..) in &meant {
                // The asker's own connection ends after its reply.
                if !is_mine || self.key_of(*ix) != inquiry.session {
                    self.kill(*ix);
                }
            }
        }
        let lines = meant.into_iter().map(|(_, id, line)| (id, line));
        inquiry.answers.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
        if inquiry.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            if is_mine {
                self.finish_inquiry(inquiry);
            } else {
                self.stats.peers.tell(inquiry.worker, Notice::Answered(inquiry.clone()));
            }
        }
    }

    fn finish_inquiry(&mut self, inquiry: &Inquiry) {
        let mut answers =
            std::mem::take(&mut *inquiry.answers.lock().unwrap_or_else(PoisonError::into_inner));
        answers.sort_unstable_by_key(|(id, _)| *id);
        if let Question::Unblock { is_error, .. } = inquiry.question {
            if answers.first().and_then(|(_, place)| self.unblock_at(inquiry, place, is_error)).is_none() {
                self.answer(inquiry.session, inquiry.ticket, Outcome::Ok, b":0\r\n");
            }
            return;
        }
        let mut out = Vec::new();
        let mut reply = ReplyWriter { out: &mut out, version: inquiry.version };
        match inquiry.question {
            Question::List(_) => reply.verbatim(&answers.iter().map(|(_, line)| &**line).collect::<String>()),
            Question::Kill { is_old: true, .. } if answers.is_empty() => reply.error("ERR No such client"),
            Question::Kill { is_old: true, .. } => reply.simple("OK"),
            _ => reply.integer(answers.len() as i64),
        }
        let key = inquiry.session;
        self.answer(key, inquiry.ticket, Outcome::Ok, &out);
        if matches!(inquiry.question, Question::Kill { .. })
            && let Some(session) = self.session_of(key)
            && answers.iter().any(|(id, _)| *id == session.id)
        {
            self.close_after_writing(key.ix as usize, Close::Killed);
        }
    }

    /// The node, and the number there of the connection, that a client waits on.
    fn place_of_wait(&self, ix: usize) -> Option<String> {
        let key = self.key_of(ix);
        if self.sessions[ix].busy != Some(Busy::Blocked) {
            return None;
        }
        let mut waiting = self.backends.iter().filter(|(_, backend)| backend.owner == Some(key));
        let (_, backend) = waiting.find(|(_, backend)| !backend.wire.flights.is_empty())?;
        Some(format!("{} {}", backend.wire.addr, backend.wire.client_id?))
    }

    /// Has the node end the wait; what it says is the reply. The client that waits gets its own from there, so
    /// that no element is lost that the node hands out just now.
    fn unblock_at(&mut self, inquiry: &Inquiry, place: &str, is_error: bool) -> Option<()> {
        let (addr, client) = place.split_once(' ')?;
        let pipe = self.pipe_to(addr.parse().ok()?, inquiry.version)?;
        let (command, _) = self.table.by_name(b"client|unblock")?;
        self.session_of(inquiry.session)?;
        let tag = self.tag(inquiry.session.ix as usize, inquiry.ticket, command, Aim::Any);
        let mut frame = Vec::new();
        write_request(&mut frame, ["CLIENT", "UNBLOCK", client, if is_error { "ERROR" } else { "TIMEOUT" }]);
        self.backends[pipe].wire.push(&[&frame], 0, tag);
        self.mark_backend(pipe);
        Some(())
    }

    /// Ends a client's connection at once, as another one wishes.
    fn kill(&mut self, ix: usize) {
        let key = self.key_of(ix);
        self.stats.forget_client(self.sessions[ix].id);
        self.cut(key);
        self.sessions[ix].closing = Some(Close::Killed);
    }
}

impl Stats {
    /// Tells all workers that what is watched has changed.
    pub fn announce_watch(&self, me: usize) {
        self.peers.tell_others(me, &Notice::Watch);
    }
}
