//! What we say to a node before the first request: who we are, which protocol we speak, and: are you
//! the node that we think you are?
//!
//! Pure. An address may meanwhile belong to another cluster's node, so nothing is sent before the
//! node proved its id.

use crate::resp::{Advance, InvalidReply, ReplyScanner, Version, write_request};
use crate::topology::NodeId;

/// What a node may say to one of our first words: the longest, of HELLO, is a few hundred bytes and a
/// few tens for each module.
const MAX_REPLY: usize = 64 << 10;

/// Towards nodes: user and password, if they ask for one.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Credentials {
    pub user: Option<String>,
    pub password: Option<crate::secret::Secret>,
}

/// Why a node was not accepted; all of it ends the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("the node refused: {0}")]
    Refused(String),
    #[error("another node ({found}) answers at the address of node {expected}")]
    WrongNode { expected: NodeId, found: String },
    #[error(transparent)]
    InvalidReply(#[from] InvalidReply),
}

/// Which server a node is, as it says in its reply to HELLO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// `redis`, and not one of those that came of it.
    pub is_redis: bool,
    pub major: u16,
    pub minor: u16,
}

impl Release {
    /// Reads the fields `server` and `version` of a HELLO reply, in either protocol
    /// (<https://redis.io/docs/latest/commands/hello/>).
    fn parse(reply: &[u8]) -> Option<Release> {
        let text = std::str::from_utf8(reply).ok()?;
        // A field's name, the length of its value, the value.
        let field = |name: &str| text.split("\r\n").skip_while(|line| *line != name).nth(2);
        let mut version = field("version")?.split('.').map(|part| part.parse().ok());
        Some(Release {
            is_redis: field("server")? == "redis",
            major: version.next()??,
            minor: version.next()??,
        })
    }
}

/// The field `id` of a HELLO reply.
fn client_id(reply: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(reply).ok()?;
    text.split("\r\n").skip_while(|line| *line != "id").nth(1)?.strip_prefix(':')?.parse().ok()
}

/// The course of one handshake.
#[derive(Debug)]
pub struct Handshake {
    expected: Option<NodeId>,
    /// The node has proved who it is on another connection that is still up: it need not while it is busy
    /// with a script and only takes what ends that.
    pub is_known: bool,
    version: Version,
    /// What the node is, once it has said so; not all do.
    pub release: Option<Release>,
    /// The number of this connection at the node, likewise.
    pub client_id: Option<u64>,
    replies_left: usize,
    scanner: ReplyScanner,
    reply: Vec<u8>,
}

impl Handshake {
    /// Writes the node's first requests to `out`; `expected` is checked when given.
    pub fn begin(
        out: &mut Vec<u8>,
        version: Version,
        credentials: &Credentials,
        expected: Option<NodeId>,
    ) -> Handshake {
        let mut replies_left = 2;
        if let Some(password) = &credentials.password {
            replies_left += 1;
            let user = credentials.user.as_deref().map(str::as_bytes);
            let args = [Some(&b"AUTH"[..]), user, Some(password.expose())];
            write_request(out, args.into_iter().flatten().collect::<Vec<_>>());
        }
        write_request(out, ["HELLO", if version == Version::Resp3 { "3" } else { "2" }]);
        write_request(out, ["CLUSTER", "MYID"]);
        Handshake {
            expected,
            is_known: false,
            version,
            release: None,
            client_id: None,
            replies_left,
            scanner: ReplyScanner::default(),
            reply: Vec::new(),
        }
    }

    /// Takes bytes of the node. Returns how many belonged to the handshake, and whether it is over.
    ///
    /// # Errors
    /// The node refused, or is another one than expected.
    pub fn advance(&mut self, buf: &[u8]) -> Result<Advance, HandshakeError> {
        let mut pos = 0;
        while self.replies_left > 0 {
            let step = self.scanner.advance(&buf[pos..])?;
            self.reply.extend_from_slice(&buf[pos..pos + step.consumed]);
            pos += step.consumed;
            if self.reply.len() > MAX_REPLY {
                return Err(InvalidReply.into());
            }
            if !step.is_done {
                return Ok(Advance { consumed: pos, is_done: false });
            }
            self.replies_left -= 1;
            self.check()?;
            self.reply.clear();
        }
        Ok(Advance { consumed: pos, is_done: true })
    }

    fn check(&mut self) -> Result<(), HandshakeError> {
        let is_hello = self.replies_left == 1;
        if is_hello {
            self.release = Release::parse(&self.reply);
            self.client_id = client_id(&self.reply);
        }
        // Without HELLO a node speaks RESP2 all the same.
        if is_hello && self.version == Version::Resp2 {
            return Ok(());
        }
        if self.is_known && self.replies_left == 0 && self.reply.starts_with(b"-BUSY ") {
            return Ok(());
        }
        if let Some(error) = self.reply.strip_prefix(b"-") {
            return Err(HandshakeError::Refused(String::from_utf8_lossy(error.trim_ascii()).into_owned()));
        }
        let Some(expected) = self.expected.filter(|_| self.replies_left == 0) else { return Ok(()) };
        let id =
            self.reply.strip_prefix(b"$40\r\n").and_then(|id| id.strip_suffix(b"\r\n")).unwrap_or_default();
        if id == expected.as_str().as_bytes() {
            Ok(())
        } else {
            Err(HandshakeError::WrongNode { expected, found: String::from_utf8_lossy(id).into_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "9589b94f76e3727cae09be37b68609ca61a6a8ee";

    fn begin(version: Version) -> Handshake {
        Handshake::begin(&mut Vec::new(), version, &Credentials::default(), Some(ID.parse().unwrap()))
    }

    fn run(replies: &str) -> Result<Advance, HandshakeError> {
        begin(Version::Resp3).advance(replies.as_bytes())
    }

    #[test]
    fn a_node_says_what_it_is_in_either_protocol() {
        let fields = "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.2.10\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:9\r\n";
        for (version, head) in [(Version::Resp2, "*8"), (Version::Resp3, "%4")] {
            let mut handshake = begin(version);
            handshake.advance(format!("{head}\r\n{fields}$40\r\n{ID}\r\n").as_bytes()).unwrap();
            assert_eq!(handshake.release, Some(Release { is_redis: true, major: 7, minor: 2 }));
            assert_eq!(handshake.client_id, Some(9));
        }
    }

    #[test]
    fn a_node_that_knows_no_hello_is_spoken_to_in_the_old_protocol_only() {
        let replies = format!("-ERR unknown command 'HELLO'\r\n$40\r\n{ID}\r\n");
        let mut handshake = begin(Version::Resp2);
        assert!(handshake.advance(replies.as_bytes()).unwrap().is_done);
        assert_eq!(handshake.release, None);
        assert!(matches!(run(&replies), Err(HandshakeError::Refused(_))));
    }

    #[test]
    fn the_node_that_was_expected_is_accepted() {
        let replies = format!("%1\r\n+proto\r\n:3\r\n$40\r\n{ID}\r\n");
        assert_eq!(run(&replies), Ok(Advance { consumed: replies.len(), is_done: true }));
        assert_eq!(run(&replies[..9]).map(|advance| advance.is_done), Ok(false));
    }

    #[test]
    fn a_busy_node_is_accepted_only_where_it_is_known() {
        let replies = "%0\r\n-BUSY Redis is busy running a script.\r\n";
        assert!(matches!(run(replies), Err(HandshakeError::Refused(_))));
        let mut handshake = begin(Version::Resp3);
        handshake.is_known = true;
        assert!(handshake.advance(replies.as_bytes()).unwrap().is_done);
        let mut handshake = begin(Version::Resp3);
        handshake.is_known = true;
        assert!(handshake.advance(format!("%0\r\n$40\r\n{}\r\n", ID.replace('9', "0")).as_bytes()).is_err());
    }

    #[test]
    fn another_node_at_the_address_is_refused() {
        let replies = format!("%0\r\n$40\r\n{}\r\n", ID.replace('9', "0"));
        assert!(matches!(run(&replies), Err(HandshakeError::WrongNode { .. })));
    }

    #[test]
    fn an_error_of_the_node_is_told() {
        let refused = Err(HandshakeError::Refused("NOAUTH Authentication required.".into()));
        assert_eq!(run("-NOAUTH Authentication required.\r\n"), refused);
    }

    #[test]
    fn a_node_that_does_not_come_to_an_end_is_refused() {
        for (begin, rest) in [("+", "xxxxx"), ("*1000000\r\n", "+xx\r\n"), ("$1000000\r\n", "xxxxx")] {
            let mut out = Vec::new();
            let mut handshake = Handshake::begin(&mut out, Version::Resp3, &Credentials::default(), None);
            handshake.advance(begin.as_bytes()).unwrap();
            let is_refused = (0..MAX_REPLY / 4).any(|_| handshake.advance(rest.as_bytes()).is_err());
            assert!(is_refused, "{begin}");
        }
    }

    #[test]
    fn the_password_goes_first() {
        let mut out = Vec::new();
        let credentials =
            Credentials { user: Some("app".into()), password: Some(crate::secret::Secret::new("secret")) };
        Handshake::begin(&mut out, Version::Resp2, &credentials, None);
        assert!(out.starts_with(b"*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$6\r\nsecret\r\n*2\r\n$5\r\nHELLO"));
    }
}
