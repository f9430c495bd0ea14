//! A lane: what goes to one node, several keys in a write, answers in order.
//!
//! It never tries anything twice by itself: what could not be done it gives back to the loader.

use super::verdict::{Refusal, Verdict, judge};
use super::{Deed, Job, LoadError, Refused, Settings, UNITS};
use crate::control::node_client::{NodeClient, NodeError, Reply};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many keys, and about how many bytes, go in one write: enough to hide the way there and back, and
/// little enough that a node serves others in between.
const KEYS_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 1 << 20;
/// What a slow network and a busy node do at least, in bytes a second.
const SLOW_RATE: u64 = 5 << 20;
/// A `DUMP` may be as large as any value.
const MAX_REPLY: usize = 1 << 30;

/// What came of a job.
pub(super) enum Outcome {
    Restored {
        bytes: usize,
    },
    Deleted,
    Refused(Refused),
    Moved {
        job: Job,
        to: SocketAddr,
    },
    Ask {
        job: Job,
        to: SocketAddr,
    },
    /// The node serves it not, or not any more, or not yet.
    Unserved {
        job: Job,
        text: String,
    },
    Ended(LoadError),
}

/// The way to one node. Dropped, what waits in it is dropped too.
#[derive(Debug)]
pub(super) struct Lane(mpsc::Sender<Job>);

impl Lane {
    /// Every job under way holds a unit of room, so that no more than [`UNITS`] can wait.
    pub fn start(addr: SocketAddr, settings: Arc<Settings>, finished: mpsc::Sender<Outcome>) -> Lane {
        let (jobs, waiting) = mpsc::channel(UNITS);
        tokio::spawn(Runner { addr, settings, finished, client: None }.run(waiting));
        Lane(jobs)
    }

    pub fn send(&self, job: Job) -> Result<(), LoadError> {
        self.0.try_send(job).map_err(|error| LoadError::Panicked(error.to_string()))
    }
}

struct Runner {
    addr: SocketAddr,
    settings: Arc<Settings>,
    finished: mpsc::Sender<Outcome>,
    client: Option<NodeClient>,
}

impl Runner {
    async fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        while let Some(job) = waiting.recv().await {
            let mut bytes = job.len();
            let mut batch = vec![job];
            while batch.len() < KEYS_AT_ONCE && bytes < BYTES_AT_ONCE {
                let Ok(job) = waiting.try_recv() else { break };
                bytes += job.len();
                batch.push(job);
            }
            self.carry_out(batch, bytes as u64).await;
        }
    }

    async fn carry_out(&mut self, mut batch: Vec<Job>, bytes: u64) {
        let replies = match self.exchange(&batch, bytes).await {
            Ok(replies) => replies,
            Err(error) => {
                let is_sent = self.client.take().is_some();
                let text = error.to_string();
                for job in &mut batch {
                    job.is_maybe_done |= is_sent;
                }
                for job in batch {
                    self.tell(Outcome::Unserved { job, text: text.clone() }).await;
                }
                return;
            }
        };
        for (job, reply) in batch.into_iter().zip(replies) {
            let outcome = match reply {
                Ok(_) => done(&job),
                Err(NodeError::Refused { text, .. }) => self.refused(job, &text).await,
                Err(error) => Outcome::Unserved { job, text: error.to_string() },
            };
            self.tell(outcome).await;
        }
    }

    /// The answers to all jobs, or the error that broke the connection.
    async fn exchange(
        &mut self,
        batch: &[Job],
        bytes: u64,
    ) -> Result<Vec<Result<Reply, NodeError>>, NodeError> {
        let may_replace = self.settings.may_replace;
        let limit = self.settings.limit + Duration::from_secs(bytes / SLOW_RATE);
        let client = self.client().await?;
        client.set_limit(limit);
        let mut questions = Vec::with_capacity(batch.len());
        for job in batch {
            if job.ask.is_some() {
                questions.push(vec![Bytes::from_static(b"ASKING")]);
            }
            questions.push(job.words(may_replace));
        }
        let questions: Vec<&[Bytes]> = questions.iter().map(Vec::as_slice).collect();
        let mut replies = client.call_all(&questions).await?.into_iter();
        let answers = batch.iter().map(|job| {
            if job.ask.is_some() {
                replies.next();
            }
            replies.next().unwrap_or(Err(NodeError::Protocol { addr: self.addr }))
        });
        Ok(answers.collect())
    }

    async fn client(&mut self) -> Result<&mut NodeClient, NodeError> {
        if self.client.as_ref().is_none_or(|client| !client.is_usable()) {
            let mut client =
                NodeClient::connect(self.addr, &self.settings.credentials, self.settings.limit).await?;
            client.set_max_reply(MAX_REPLY);
            self.client = Some(client);
        }
        self.client.as_mut().ok_or(NodeError::Protocol { addr: self.addr })
    }

    async fn refused(&mut self, job: Job, text: &str) -> Outcome {
        match judge(self.addr, text) {
            Verdict::Moved(to) => Outcome::Moved { job, to },
            Verdict::Ask(to) => Outcome::Ask { job, to },
            Verdict::Unserved => Outcome::Unserved { job, text: text.to_string() },
            Verdict::Refused(Refusal::Busy) if job.is_maybe_done && self.has_same(&job).await => done(&job),
            Verdict::Refused(why) => Outcome::Refused(Refused { key: job.key, why }),
            Verdict::End(error) => Outcome::Ended(error),
        }
    }

    /// Whether the key that is there is what this job brought before its answer was lost. Of a set the
    /// order may differ, never the length.
    async fn has_same(&mut self, job: &Job) -> bool {
        let Deed::Restore { payload, .. } = &job.deed else { return true };
        let question = [Bytes::from_static(b"DUMP"), job.key.clone()];
        let Ok(client) = self.client().await else { return false };
        let Ok(Reply::BulkString(there)) = client.call(&question).await else { return false };
        there.len() == payload.len() && there.first() == payload.first()
    }

    async fn tell(&self, outcome: Outcome) {
        // A loader that gave up wants to know nothing more.
        let _ = self.finished.send(outcome).await;
    }
}

fn done(job: &Job) -> Outcome {
    match &job.deed {
        Deed::Restore { payload, .. } => Outcome::Restored { bytes: payload.len() },
        Deed::Delete => Outcome::Deleted,
    }
}

impl Job {
    fn len(&self) -> usize {
        let payload = if let Deed::Restore { payload, .. } = &self.deed { payload.len() } else { 0 };
        self.key.len() + payload
    }

    fn words(&self, may_replace: bool) -> Vec<Bytes> {
        let word = Bytes::from_static;
        match &self.deed {
            Deed::Restore { expiry, payload } => {
                let expiry = Bytes::from(expiry.unwrap_or(0).to_string());
                let mut words =
                    vec![word(b"RESTORE"), self.key.clone(), expiry, payload.clone(), word(b"ABSTTL")];
                if may_replace {
                    words.push(word(b"REPLACE"));
                }
                words
            }
            Deed::Delete => vec![word(b"DEL"), self.key.clone()],
        }
    }
}
