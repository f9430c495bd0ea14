//! A node's replication stream, read as a replica reads it: a snapshot of all its data, then every
//! change (<https://redis.io/docs/latest/operate/oss_and_stack/management/replication/>).
//!
//! Bytes pass through, a bounded number at a time; what they mean is for others. It acknowledges that it
//! lives, and never that it has stored anything: otherwise a client's `WAIT` would count it.

use super::node_client::{NodeClient, NodeError};
use crate::backend::Credentials;
use crate::resp::{Limits, ProtocolError, RequestScan, RequestScanner, write_request};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The most bytes of a snapshot in one piece.
pub const MAX_CHUNK: usize = 64 << 10;
/// A source says something at least every ten seconds (`repl-ping-replica-period`), a newline while it
/// prepares the snapshot; it gives a silent replica up after 60 (`repl-timeout`), and so do we.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a replica says that it lives, as Redis' own do.
const ACK_EVERY: Duration = Duration::from_secs(1);
/// The mark that ends a snapshot of unknown length (`$EOF:<mark>`).
const MARK: usize = 40;
/// The longest line before the snapshot; `+FULLRESYNC` with its id and offset has 72 bytes.
const MAX_LINE: usize = 1024;

/// Why a stream was not given, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("{addr} wants a password for {what}: {text}")]
    NoAuth { addr: SocketAddr, what: String, text: String },
    #[error(
        "{addr} does not let this user be a replica ({text}): allow it with ACL SETUSER <name> +psync +replconf +ping"
    )]
    NoPermission { addr: SocketAddr, text: String },
    #[error("{addr} is still loading its data: wait until it answers PING and run the command again")]
    Loading { addr: SocketAddr },
    #[error("{addr} is a replica without a link to its primary: name the primary, or wait for the link")]
    NoPrimaryLink { addr: SocketAddr },
    #[error(
        "{addr} does not give its replication stream ({text}); managed services refuse it: use their own export"
    )]
    NotGiven { addr: SocketAddr, text: String },
    #[error("{addr} answered PSYNC with something unexpected: {text:?}")]
    Unexpected { addr: SocketAddr, text: String },
    #[error("{addr} gave its snapshot up ({text}): look at its log, it may lack memory or disk space")]
    NoSnapshot { addr: SocketAddr, text: String },
    #[error("{addr} said nothing for {SILENCE:?} in its replication stream")]
    Silent { addr: SocketAddr },
    #[error("the replication stream of {addr} broke: {source}")]
    Broken { addr: SocketAddr, source: io::Error },
    #[error("{addr} sent a command that cannot be read: {source}")]
    Command { addr: SocketAddr, source: ProtocolError },
}

/// A place in a history of changes: whose, and how many bytes of it have been read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub history: String,
    pub offset: u64,
}

/// What a source gives first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// A snapshot, to be read to its end before the changes.
    Snapshot,
    /// The changes after the place that was asked for.
    Changes,
}

/// One change, as the source sent it to its replicas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The request's words, the command's name first.
    pub words: Vec<Bytes>,
    /// Its place in the history: how many bytes have been read with it.
    pub offset: u64,
}

/// How the end of a snapshot is known.
#[derive(Clone, PartialEq, Eq, Debug)]
enum End {
    After(u64),
    Mark(Bytes),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// The line with the snapshot's length has not come.
    Head,
    Body(End),
    Changes,
}

/// A link to a source, as its replica. Dropped, it is closed.
#[derive(Debug)]
pub struct Link {
    addr: SocketAddr,
    stream: OwnedReadHalf,
    received: BytesMut,
    scanner: RequestScanner,
    place: Place,
    stage: Stage,
    /// Kept until the changes begin: the source takes an acknowledgement for a finished snapshot.
    writer: Option<OwnedWriteHalf>,
    asked: Arc<Notify>,
    acknowledging: Option<JoinHandle<()>>,
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(task) = &self.acknowledging {
            task.abort();
        }
    }
}

impl Link {
    /// Becomes a replica of `addr`, from `place` on where the source still has what came after it, else
    /// from a snapshot on. `limit` holds for each step up to the request; how long a source takes to begin
    /// a snapshot is its own matter, as long as it shows that it lives.
    ///
    /// # Errors
    /// It cannot be reached, or does not give its stream; the text says what to do.
    pub async fn open(
        addr: SocketAddr,
        credentials: &Credentials,
        limit: Duration,
        place: Option<&Place>,
    ) -> Result<(Link, Opening), ReplicationError> {
        let mut client = NodeClient::connect(addr, credentials, limit).await?;
        client.call(&["PING"]).await.map_err(explain)?;
        // Without `eof` a source must write a file first; without `psync2` a change of history ends the link.
        client.call(&["REPLCONF", "capa", "eof", "capa", "psync2"]).await.map_err(explain)?;
        let (stream, received) = client.into_parts();
        let (stream, mut writer) = stream.into_split();
        let (history, offset) = match place {
            // The first byte wanted, counted from 1.
            Some(place) => (place.history.clone(), (place.offset + 1).to_string()),
            None => ("?".to_string(), "-1".to_string()),
        };
        let mut request = Vec::new();
        write_request(&mut request, ["PSYNC", &history, &offset]);
        writer.write_all(&request).await.map_err(|source| ReplicationError::Broken { addr, source })?;
        let mut link = Link {
            addr,
            stream,
            received,
            scanner: RequestScanner::default(),
            place: Place { history, offset: 0 },
            stage: Stage::Head,
            writer: Some(writer),
            asked: Arc::default(),
            acknowledging: None,
        };
        let answer = link.line().await?;
        let opening = link.accept(&answer, place)?;
        if opening == Opening::Changes {
            link.begin_changes();
        }
        Ok((link, opening))
    }

    /// Reads what `PSYNC` was answered with.
    fn accept(&mut self, answer: &str, asked: Option<&Place>) -> Result<Opening, ReplicationError> {
        let words: Vec<&str> = answer.split(' ').collect();
        let unexpected = || ReplicationError::Unexpected { addr: self.addr, text: answer.to_string() };
        match (&words[..], asked) {
            (["+FULLRESYNC", history, offset], _) => {
                let offset = offset.parse().map_err(|_| unexpected())?;
                self.place = Place { history: history.to_string(), offset };
                Ok(Opening::Snapshot)
            }
            (["+CONTINUE", new @ ..], Some(asked)) => {
                let history = new.first().map_or(asked.history.clone(), |new| new.to_string());
                self.place = Place { history, offset: asked.offset };
                Ok(Opening::Changes)
            }
            _ => match answer.strip_prefix('-') {
                Some(text) => Err(refusal(self.addr, "PSYNC".into(), text.to_string())),
                None => Err(unexpected()),
            },
        }
    }

    /// Where the stream is: the snapshot's place until the first change, then that of the last change.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The next piece of the snapshot, at most [`MAX_CHUNK`] bytes, or `None` after its end. Cancel-safe.
    ///
    /// # Errors
    /// The stream broke, or the source gave up.
    pub async fn read_snapshot(&mut self) -> Result<Option<Bytes>, ReplicationError> {
        loop {
            match &mut self.stage {
                Stage::Head => {
                    let line = self.line().await?;
                    self.stage = Stage::Body(self.end(&line)?);
                }
                Stage::Body(End::After(0)) => self.begin_changes(),
                Stage::Body(End::After(left)) if !self.received.is_empty() => {
                    let len = self.received.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= len as u64;
                    return Ok(Some(self.received.split_to(len).freeze()));
                }
                Stage::Body(End::Mark(mark)) if self.received.len() >= MARK => {
                    // The mark may lie across two reads, so its length is always held back.
                    let found = memchr::memmem::find(&self.received, mark);
                    let len = found.unwrap_or(self.received.len() - (MARK - 1));
                    let piece = self.received.split_to(len).freeze();
                    if found.is_some() {
                        self.received.advance(MARK);
                        self.begin_changes();
                    }
                    if !piece.is_empty() {
                        return Ok(Some(piece));
                    }
                }
                Stage::Body(_) => self.read().await?,
                Stage::Changes => return Ok(None),
            }
        }
    }

    /// The next change, after the snapshot has been read to its end. The source's own `PING`s come too.
    /// Cancel-safe.
    ///
    /// # Errors
    /// The stream broke, or held something that is no command.
    pub async fn next_change(&mut self) -> Result<Change, ReplicationError> {
        let addr = self.addr;
        debug_assert_eq!(self.stage, Stage::Changes);
        loop {
            let scan = self
                .scanner
                .scan(&self.received, Limits::USUAL)
                .map_err(|source| ReplicationError::Command { addr, source })?;
            match scan {
                RequestScan::Complete { len } => {
                    let frame = self.received.split_to(len).freeze();
                    let words = self.scanner.args().iter();
                    let words: Vec<Bytes> =
                        words.map(|span| frame.slice(span.start as usize..span.end as usize)).collect();
                    self.scanner.reset();
                    self.place.offset += len as u64;
                    if words.get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"GETACK")) {
                        self.asked.notify_one();
                    }
                    if !words.is_empty() {
                        return Ok(Change { words, offset: self.place.offset });
                    }
                }
                // An empty line: a sign of life.
                RequestScan::Inline { len } => {
                    self.received.advance(len);
                    self.scanner.reset();
                    self.place.offset += len as u64;
                }
                RequestScan::Incomplete { .. } => self.read().await?,
            }
        }
    }

    /// How the end of the snapshot that this line announces is known.
    fn end(&self, line: &str) -> Result<End, ReplicationError> {
        let addr = self.addr;
        if let Some(text) = line.strip_prefix('-') {
            return Err(ReplicationError::NoSnapshot { addr, text: text.to_string() });
        }
        let announced = line.strip_prefix('$').and_then(|end| match end.strip_prefix("EOF:") {
            Some(mark) => (mark.len() == MARK).then(|| End::Mark(Bytes::copy_from_slice(mark.as_bytes()))),
            None => end.parse().ok().map(End::After),
        });
        announced.ok_or_else(|| ReplicationError::Unexpected { addr, text: line.to_string() })
    }

    fn begin_changes(&mut self) {
        self.stage = Stage::Changes;
        if let Some(writer) = self.writer.take() {
            self.acknowledging = Some(tokio::spawn(acknowledge(writer, self.asked.clone())));
        }
    }

    /// The next line that is not empty, without its end.
    async fn line(&mut self) -> Result<String, ReplicationError> {
        loop {
            while self.received.first().is_some_and(|byte| *byte == b'\n' || *byte == b'\r') {
                self.received.advance(1);
            }
            if let Some(at) = memchr::memchr(b'\n', &self.received) {
                let line = self.received.split_to(at + 1);
                return Ok(String::from_utf8_lossy(&line).trim_end().to_string());
            }
            if self.received.len() > MAX_LINE {
                let text = String::from_utf8_lossy(&self.received[..MAX_LINE]).into_owned();
                return Err(ReplicationError::Unexpected { addr: self.addr, text });
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), ReplicationError> {
        let addr = self.addr;
        self.received.reserve(MAX_CHUNK);
        let mut piece = (&mut self.received).limit(MAX_CHUNK);
        match timeout(SILENCE, self.stream.read_buf(&mut piece)).await {
            Err(_) => Err(ReplicationError::Silent { addr }),
            Ok(Ok(0)) => {
                let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the source closed it");
                Err(ReplicationError::Broken { addr, source })
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(source)) => Err(ReplicationError::Broken { addr, source }),
        }
    }
}

/// Says every second, and when asked, that this replica lives and has stored nothing.
async fn acknowledge(mut writer: OwnedWriteHalf, asked: Arc<Notify>) {
    let mut request = Vec::new();
    write_request(&mut request, ["REPLCONF", "ACK", "0"]);
    while writer.write_all(&request).await.is_ok() {
        let _ = timeout(ACK_EVERY, asked.notified()).await;
    }
}

fn explain(error: NodeError) -> ReplicationError {
    match error {
        NodeError::Refused { addr, what, text } => refusal(addr, what, text),
        error => error.into(),
    }
}

fn refusal(addr: SocketAddr, what: String, text: String) -> ReplicationError {
    match text.split(' ').next().unwrap_or_default() {
        "NOAUTH" => ReplicationError::NoAuth { addr, what, text },
        "NOPERM" => ReplicationError::NoPermission { addr, text },
        "LOADING" => ReplicationError::Loading { addr },
        "NOMASTERLINK" | "MASTERDOWN" => ReplicationError::NoPrimaryLink { addr },
        _ => ReplicationError::NotGiven { addr, text },
    }
}

#[cfg(test)]
#[path = "replication_tests.rs"]
mod tests;
