//! A connection of the control plane to one node: a few questions, each with a deadline.
//!
//! Replies are decoded into trees here, which the data plane never does. A node's bytes are bounded
//! in size and in depth before they are decoded.

use crate::backend::Credentials;
use crate::resp::{ReplyScanner, write_request};
use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes;
pub use redis_protocol::resp2::types::BytesFrame as Reply;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The largest reply taken from a node: the `CLUSTER NODES` of a thousand nodes with scattered slots
/// and the `COMMAND` of a server with many modules stay below a tenth of it.
pub const MAX_REPLY: usize = 32 << 20;
/// How much room is made at once for a bulk that was announced.
const READ_AHEAD: usize = 1 << 20;
/// How deep replies may nest; `COMMAND`, the deepest that a node gives, reaches 7.
const MAX_DEPTH: usize = 16;

/// Why a node did not answer a question.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("cannot connect to {addr}: {source}")]
    Connect { addr: SocketAddr, source: io::Error },
    #[error("{addr} did not answer {what} within {limit:?}")]
    Timeout { addr: SocketAddr, what: String, limit: Duration },
    #[error("the connection to {addr} broke: {source}")]
    Broken { addr: SocketAddr, source: io::Error },
    #[error("{addr} sent something that is not a reply, or one beyond the limits")]
    Protocol { addr: SocketAddr },
    /// The node answered with an error; `text` begins with its code word.
    #[error("{addr} refused {what}: {text}")]
    Refused { addr: SocketAddr, what: String, text: String },
    #[error("{addr} answered {what} with something unexpected")]
    Unexpected { addr: SocketAddr, what: String },
}

impl NodeError {
    /// The node that it is about.
    pub fn addr(&self) -> SocketAddr {
        match self {
            NodeError::Connect { addr, .. }
            | NodeError::Timeout { addr, .. }
            | NodeError::Broken { addr, .. }
            | NodeError::Protocol { addr }
            | NodeError::Refused { addr, .. }
            | NodeError::Unexpected { addr, .. } => *addr,
        }
    }
}

/// An open, authenticated connection to one node.
#[derive(Debug)]
pub struct NodeClient {
    addr: SocketAddr,
    stream: TcpStream,
    received: BytesMut,
    limit: Duration,
    max_reply: usize,
    /// False from a question's first byte until its last reply came, so that nobody takes a late
    /// reply for another question's.
    is_usable: bool,
}

impl NodeClient {
    /// Connects and, with a password, authenticates; `limit` holds for each step and for each
    /// later question.
    ///
    /// # Errors
    /// The node cannot be reached in time, or refuses the credentials.
    pub async fn connect(
        addr: SocketAddr,
        credentials: &Credentials,
        limit: Duration,
    ) -> Result<NodeClient, NodeError> {
        let stream = match timeout(limit, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => return Err(NodeError::Connect { addr, source }),
            Err(_) => return Err(NodeError::Timeout { addr, what: "the connection attempt".into(), limit }),
        };
        stream.set_nodelay(true).map_err(|source| NodeError::Connect { addr, source })?;
        let (received, max_reply) = (BytesMut::new(), MAX_REPLY);
        let mut client = NodeClient { addr, stream, received, limit, max_reply, is_usable: true };
        if let Some(password) = &credentials.password {
            let user = credentials.user.as_deref().map(str::as_bytes);
            let auth = [Some(&b"AUTH"[..]), user, Some(password.expose())];
            client.call(&auth.into_iter().flatten().collect::<Vec<_>>()).await?;
        }
        Ok(client)
    }

    /// Where the node is.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How long each later question may take.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Whether the next question can be asked on this connection.
    pub fn is_usable(&self) -> bool {
        self.is_usable
    }

    /// The connection itself, and what was read from it beyond the last reply.
    pub fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.stream, self.received)
    }

    /// Takes replies of up to `bytes`, such as the `DUMP` of a large key.
    pub fn set_max_reply(&mut self, bytes: usize) {
        self.max_reply = bytes;
    }

    /// Asks one question. An error reply of the node is an error here.
    ///
    /// # Errors
    /// No reply in time, or the node refused.
    pub async fn call<T: AsRef<[u8]>>(&mut self, args: &[T]) -> Result<Reply, NodeError> {
        let raw = self.call_raw(args).await?;
        self.decode(raw, args)
    }

    /// Asks one question whose answer is a text.
    ///
    /// # Errors
    /// As [`NodeClient::call`], or the reply is not a text.
    pub async fn call_text<T: AsRef<[u8]>>(&mut self, args: &[T]) -> Result<String, NodeError> {
        let reply = self.call(args).await?;
        self.text(reply, args)
    }

    /// Asks several questions in one write; each answer is judged alone.
    ///
    /// # Errors
    /// The connection failed before all replies came.
    pub async fn call_all<T: AsRef<[u8]>>(
        &mut self,
        questions: &[&[T]],
    ) -> Result<Vec<Result<Reply, NodeError>>, NodeError> {
        let raws = self.exchange(questions).await?;
        Ok(raws.into_iter().zip(questions).map(|(raw, args)| self.decode(raw, args)).collect())
    }

    /// Asks several questions whose answers are texts, in one write.
    ///
    /// # Errors
    /// The first thing that went wrong.
    pub async fn call_texts<T: AsRef<[u8]>, const N: usize>(
        &mut self,
        questions: [&[T]; N],
    ) -> Result<[String; N], NodeError> {
        let replies = self.call_all(&questions).await?;
        let mut texts = [const { String::new() }; N];
        for ((text, reply), args) in texts.iter_mut().zip(replies).zip(questions) {
            *text = self.text(reply?, args)?;
        }
        Ok(texts)
    }

    /// Asks one question and gives the bytes of its reply, an error reply's too.
    ///
    /// # Errors
    /// No reply in time.
    pub async fn call_raw<T: AsRef<[u8]>>(&mut self, args: &[T]) -> Result<Bytes, NodeError> {
        let mut raws = self.exchange(&[args]).await?;
        raws.pop().ok_or(NodeError::Protocol { addr: self.addr })
    }

    /// Sends something whose answer is one of the messages that [`NodeClient::next_message`] gives.
    ///
    /// # Errors
    /// The node does not take it in time, or the connection broke.
    pub async fn send<T: AsRef<[u8]>>(&mut self, args: &[T]) -> Result<(), NodeError> {
        let (addr, limit) = (self.addr, self.limit);
        let mut request = Vec::new();
        write_request(&mut request, args.iter());
        match timeout(limit, self.stream.write_all(&request)).await {
            Ok(sent) => sent.map_err(|source| NodeError::Broken { addr, source }),
            Err(_) => Err(NodeError::Timeout { addr, what: name(args), limit }),
        }
    }

    /// The next message on a connection that has subscribed; waits without a limit. Cancel-safe: what has
    /// come of a message stays.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next_message(&mut self) -> Result<Reply, NodeError> {
        let raw = self.read_reply().await?;
        self.decode(raw, &["SUBSCRIBE"])
    }

    async fn exchange<T: AsRef<[u8]>>(&mut self, questions: &[&[T]]) -> Result<Vec<Bytes>, NodeError> {
        let addr = self.addr;
        if !self.is_usable {
            return Err(NodeError::Broken { addr, source: io::ErrorKind::NotConnected.into() });
        }
        let mut request = Vec::new();
        for args in questions {
            write_request(&mut request, args.iter());
        }
        self.is_usable = false;
        let limit = self.limit;
        let replies = timeout(limit, async {
            self.stream.write_all(&request).await.map_err(|source| NodeError::Broken { addr, source })?;
            let mut replies = Vec::with_capacity(questions.len());
            for _ in questions {
                replies.push(self.read_reply().await?);
            }
            Ok(replies)
        });
        let replies = match replies.await {
            Ok(replies) => replies?,
            Err(_) => {
                let what = questions.first().map(|args| name(args)).unwrap_or_default();
                return Err(NodeError::Timeout { addr, what, limit });
            }
        };
        self.is_usable = true;
        Ok(replies)
    }

    async fn read_reply(&mut self) -> Result<Bytes, NodeError> {
        let addr = self.addr;
        let mut scanner = ReplyScanner::default();
        let mut scanned = 0;
        loop {
            let advance =
                scanner.advance(&self.received[scanned..]).map_err(|_| NodeError::Protocol { addr })?;
            scanned += advance.consumed;
            if advance.is_done {
                return Ok(self.received.split_to(scanned).freeze());
            }
            if self.received.len() > self.max_reply {
                return Err(NodeError::Protocol { addr });
            }
            self.received.reserve((16 << 10).max(scanner.body_left().min(READ_AHEAD)));
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) => {
                    return Err(NodeError::Broken { addr, source: io::ErrorKind::UnexpectedEof.into() });
                }
                Ok(_) => {}
                Err(source) => return Err(NodeError::Broken { addr, source }),
            }
        }
    }

    fn decode<T: AsRef<[u8]>>(&self, raw: Bytes, args: &[T]) -> Result<Reply, NodeError> {
        let addr = self.addr;
        if !is_shallow(&raw, MAX_DEPTH) {
            return Err(NodeError::Protocol { addr });
        }
        match decode_bytes(&raw) {
            Ok(Some((Reply::Error(text), _))) => {
                Err(NodeError::Refused { addr, what: name(args), text: text.to_string() })
            }
            Ok(Some((reply, _))) => Ok(reply),
            Ok(None) | Err(_) => Err(NodeError::Protocol { addr }),
        }
    }

    fn text<T: AsRef<[u8]>>(&self, reply: Reply, args: &[T]) -> Result<String, NodeError> {
        match reply {
            Reply::BulkString(bytes) | Reply::SimpleString(bytes) => {
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            _ => Err(NodeError::Unexpected { addr: self.addr, what: name(args) }),
        }
    }
}

/// A question's name for messages: its first two words, but never a password.
fn name<T: AsRef<[u8]>>(args: &[T]) -> String {
    let word = |arg: &T| String::from_utf8_lossy(arg.as_ref()).into_owned();
    match args {
        [] => String::new(),
        [first, second, ..] if first.as_ref().eq_ignore_ascii_case(b"CLUSTER") => {
            format!("{} {}", word(first), word(second))
        }
        [first, ..] => word(first),
    }
}

/// Whether a complete reply nests at most `limit` deep; the decoder recurses once a level.
fn is_shallow(raw: &[u8], limit: usize) -> bool {
    let mut open: Vec<u64> = Vec::new();
    let mut rest = raw;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let number = std::str::from_utf8(&rest[1..end.max(1)])
            .ok()
            .and_then(|line| line.trim_end().parse::<i64>().ok());
        let (kind, mut next) = (rest[0], end + 1);
        match (kind, number) {
            (b'*', Some(count)) if count > 0 => {
                open.push(count as u64);
                if open.len() > limit {
                    return false;
                }
                rest = &rest[next..];
                continue;
            }
            (b'$', Some(len)) if len >= 0 => next = next.saturating_add(len as usize + 2),
            _ => {}
        }
        rest = rest.get(next..).unwrap_or_default();
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A node that answers the first bytes it gets with `reply` and then says nothing.
    async fn node_that_says(reply: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(reply).await.unwrap();
            std::future::pending::<()>().await;
        });
        addr
    }

    async fn ask(
        reply: &'static [u8],
        questions: &[&[&str]],
    ) -> Result<Vec<Result<Reply, NodeError>>, NodeError> {
        let addr = node_that_says(reply).await;
        let mut client =
            NodeClient::connect(addr, &Credentials::default(), Duration::from_millis(200)).await.unwrap();
        client.call_all(questions).await
    }

    #[tokio::test]
    async fn questions_of_one_write_get_their_own_answers() {
        let replies =
            ask(b"$2\r\nhi\r\n-ERR no\r\n:7\r\n", &[&["GET", "a"], &["CLUSTER", "INFO"], &["DBSIZE"]]);
        let replies = replies.await.unwrap();
        assert_eq!(*replies[0].as_ref().unwrap(), Reply::BulkString("hi".into()));
        assert!(replies[1].as_ref().unwrap_err().to_string().ends_with("refused CLUSTER INFO: ERR no"));
        assert_eq!(*replies[2].as_ref().unwrap(), Reply::Integer(7));
    }

    #[tokio::test]
    async fn a_silent_node_is_given_up_and_its_connection_with_it() {
        let addr = node_that_says(b"").await;
        let mut client =
            NodeClient::connect(addr, &Credentials::default(), Duration::from_millis(50)).await.unwrap();
        assert!(matches!(client.call(&["PING"]).await, Err(NodeError::Timeout { .. })));
        assert!(!client.is_usable());
        assert!(matches!(client.call(&["PING"]).await, Err(NodeError::Broken { .. })));
    }

    #[tokio::test]
    async fn a_password_is_in_no_message() {
        let password = Some(crate::secret::Secret::new("hunter2"));
        let credentials = Credentials { user: Some("slotgate".into()), password };
        assert!(!format!("{credentials:?}").contains("hunter2"));
        let addr = node_that_says(b"-WRONGPASS no\r\n").await;
        let error = NodeClient::connect(addr, &credentials, Duration::from_secs(5)).await.unwrap_err();
        assert!(error.to_string().ends_with("refused AUTH: WRONGPASS no"), "{error}");
    }

    #[tokio::test]
    async fn bytes_that_are_no_reply_are_an_error() {
        assert!(matches!(ask(b"HTTP/1.1 400\r\n", &[&["PING"]]).await, Err(NodeError::Protocol { .. })));
    }

    #[test]
    fn depth_counts_nested_arrays_only() {
        let nested = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
        assert!(is_shallow(&nested(16), 16));
        assert!(!is_shallow(&nested(17), 16));
        let flat = [b"*20\r\n".to_vec(), b"*1\r\n$3\r\n*9\r\r\n".repeat(20)].concat();
        assert!(is_shallow(&flat, 2));
    }
}
