//! Which keys of a source are written to while they are copied.
//!
//! The source tells itself: `CLIENT TRACKING ON BCAST` sends the name of every key that is written,
//! expires or is evicted (<https://redis.io/docs/latest/develop/reference/client-side-caching/>). That
//! needs no snapshot, no memory for a fork, and works where a service refuses replication. It tells nothing
//! of what consumer groups do to a stream and of `SWAPDB`: whoever uses this looks after these itself.

use super::ImportError;
use super::source::take;
use crate::backend::Credentials;
use crate::control::node_client::{NodeClient, NodeError, Reply};
use crate::resp::{ReplyScanner, write_request};
use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Beyond so many keys their names are let go of, and all are looked at instead: some hundred megabytes.
const MOST: usize = 4_000_000;
/// The longest message: a node sends all that was written in one turn of its loop.
const MAX_MESSAGE: usize = 256 << 20;

/// What was heard and not yet taken.
#[derive(Debug, Default)]
struct Heard {
    keys: HashSet<Bytes>,
    /// Keys were removed all at once, or too many were written to name them.
    is_everything: bool,
    answers: u64,
    broken: Option<Arc<io::Error>>,
}

/// A source that tells what is written to. Dropped, it ends.
#[derive(Debug)]
pub struct Watch {
    addr: SocketAddr,
    limit: Duration,
    writer: OwnedWriteHalf,
    heard: Arc<(Mutex<Heard>, Notify)>,
    listening: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Watch {
    /// Begins to watch: what is written from now on is heard.
    ///
    /// # Errors
    /// The source cannot be reached, or does not offer it.
    pub async fn begin(
        addr: SocketAddr,
        credentials: &Credentials,
        limit: Duration,
    ) -> Result<Watch, ImportError> {
        let mut client = NodeClient::connect(addr, credentials, limit).await.map_err(ImportError::Source)?;
        for words in [&["HELLO", "3"][..], &["CLIENT", "TRACKING", "ON", "BCAST"]] {
            let answer = client.call_raw(words).await.map_err(ImportError::Source)?;
            if answer.first() == Some(&b'-') {
                let text = String::from_utf8_lossy(&answer[1..]).trim_end().to_string();
                return Err(ImportError::NoWatch { addr, text });
            }
        }
        let (stream, received) = client.into_parts();
        let (reader, writer) = stream.into_split();
        let heard = Arc::<(Mutex<Heard>, Notify)>::default();
        let listening = tokio::spawn(listen(reader, received, heard.clone()));
        Ok(Watch { addr, limit, writer, heard, listening })
    }

    /// Waits until everything that was written before this call has been heard.
    ///
    /// # Errors
    /// The source does not answer, or the connection broke.
    pub async fn catch_up(&mut self) -> Result<(), ImportError> {
        // A node sends names at the end of its loop's turn, after the replies of that turn: the second reply
        // comes in a later turn than the first.
        for _ in 0..2 {
            self.ask().await?;
        }
        Ok(())
    }

    async fn ask(&mut self) -> Result<(), ImportError> {
        let addr = self.addr;
        let before = self.with(|heard| heard.answers);
        let mut request = Vec::new();
        write_request(&mut request, ["PING"]);
        let broken = |source| ImportError::Source(NodeError::Broken { addr, source });
        self.writer.write_all(&request).await.map_err(broken)?;
        let (heard, news) = (self.heard.clone(), &self.heard.1);
        let answered = timeout(self.limit, async {
            loop {
                let next = news.notified();
                {
                    let heard = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(error) = &heard.broken {
                        return Err(broken(io::Error::new(error.kind(), error.to_string())));
                    }
                    if heard.answers > before {
                        return Ok(());
                    }
                }
                next.await;
            }
        });
        let late = || NodeError::Timeout { addr, what: "PING".into(), limit: self.limit };
        answered.await.map_err(|_| ImportError::Source(late()))?
    }

    /// Takes up to `count` keys that were heard of.
    pub fn take(&self, count: usize) -> Vec<Bytes> {
        self.with(|heard| take(&mut heard.keys, count))
    }

    /// How many keys wait to be taken.
    pub fn count(&self) -> usize {
        self.with(|heard| heard.keys.len())
    }

    /// Whether every key may have changed since this was asked last.
    pub fn take_everything(&self) -> bool {
        self.with(|heard| std::mem::take(&mut heard.is_everything))
    }

    /// Whether the key waits to be taken.
    pub fn has(&self, key: &Bytes) -> bool {
        self.with(|heard| heard.is_everything || heard.keys.contains(key))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Heard) -> T) -> T {
        act(&mut self.heard.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn listen(mut reader: OwnedReadHalf, mut received: BytesMut, heard: Arc<(Mutex<Heard>, Notify)>) {
    let error = loop {
        let message = match next_message(&mut reader, &mut received).await {
            Ok(message) => message,
            Err(error) => break error,
        };
        let mut heard_now = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        match written(&message) {
            Written::Nothing => heard_now.answers += 1,
            Written::Keys(keys) => heard_now.keys.extend(keys),
            Written::Everything => heard_now.is_everything = true,
        }
        if heard_now.keys.len() > MOST {
            heard_now.keys = HashSet::new();
            heard_now.is_everything = true;
        }
        drop(heard_now);
        heard.1.notify_waiters();
    };
    heard.0.lock().unwrap_or_else(PoisonError::into_inner).broken = Some(Arc::new(error));
    heard.1.notify_waiters();
}

async fn next_message(reader: &mut OwnedReadHalf, received: &mut BytesMut) -> io::Result<Bytes> {
    let mut scanner = ReplyScanner::default();
    let mut scanned = 0;
    loop {
        let advance = scanner.advance(&received[scanned..]).map_err(io::Error::other)?;
        scanned += advance.consumed;
        if advance.is_done {
            // Copied: the names are kept long, and must not keep whole buffers alive.
            return Ok(Bytes::copy_from_slice(&received.split_to(scanned)));
        }
        if received.len() > MAX_MESSAGE {
            return Err(io::Error::other("a message of the source is too long"));
        }
        received.reserve(16 << 10);
        if reader.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What a message says was written.
#[derive(PartialEq, Eq, Debug)]
enum Written {
    /// It is the answer to a question.
    Nothing,
    Keys(Vec<Bytes>),
    Everything,
}

fn written(message: &[u8]) -> Written {
    let Some(names) = message.strip_prefix(b">2\r\n$10\r\ninvalidate\r\n") else { return Written::Nothing };
    match decode_bytes(&Bytes::copy_from_slice(names)) {
        Ok(Some((Reply::Array(names), _))) => {
            let name = |name| {
                if let Reply::BulkString(name) = name { Some(Bytes::copy_from_slice(&name)) } else { None }
            };
            Written::Keys(names.into_iter().filter_map(name).collect())
        }
        // Null: the keys were flushed. Whatever else it may be, nothing is missed this way.
        _ => Written::Everything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_keys_or_all_of_them() {
        let one = written(b">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$2\r\n\r\n\r\n");
        assert_eq!(one, Written::Keys(vec![Bytes::from_static(b"a"), Bytes::from_static(b"\r\n")]));
        for flushed in [&b">2\r\n$10\r\ninvalidate\r\n_\r\n"[..], b">2\r\n$10\r\ninvalidate\r\n*-1\r\n"] {
            assert_eq!(written(flushed), Written::Everything);
        }
        assert_eq!(written(b"+PONG\r\n"), Written::Nothing);
    }
}
