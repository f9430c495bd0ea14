//! Where does a client's request end, and where are its arguments? Lengths are read, bodies skipped,
//! nothing is copied and no tree is built.
//!
//! Pure and resumable: a request that comes in pieces is never scanned twice. Numbers and limits are
//! those of Redis (`src/networking.c`, `processMultibulkBuffer`), except that every line must end in
//! CRLF: what is forwarded must mean the same to the node as it does to us.

use super::Span;
use super::number::read_line_number;

/// How much one request may hold. Larger ones are protocol errors, as in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub args: usize,
    /// Bytes of one argument.
    pub bulk: usize,
    pub is_authenticated: bool,
}

impl Limits {
    /// Redis' limits for ordinary clients: 1M arguments, `proto-max-bulk-len` 512 MB.
    pub const USUAL: Limits = Limits { args: 1024 * 1024, bulk: 512 * 1024 * 1024, is_authenticated: true };
    /// Redis' limits for clients that have yet to authenticate.
    pub const UNAUTHENTICATED: Limits = Limits { args: 10, bulk: 16 * 1024, is_authenticated: false };
}

/// The longest line: an inline request or the line of a length (`PROTO_INLINE_MAX_SIZE`).
pub const MAX_LINE: usize = 64 * 1024;
/// A breach of the protocol by a client; the text is Redis' own. The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("Protocol error: too big inline request")]
    BigInline,
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    #[error("Protocol error: too big mbulk count string")]
    BigMultibulkLine,
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    #[error("Protocol error: too big bulk count string")]
    BigBulkLine,
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
}

/// What the bytes so far make of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestScan {
    /// The request ends after `len` bytes; its arguments are in [`RequestScanner::args`]. No
    /// arguments: an empty request, to be skipped without a reply.
    Complete { len: usize },
    /// An inline request, which ends after `len` bytes; its line is to be split by
    /// [`super::split_inline`].
    Inline { len: usize },
    /// More bytes are needed; the request will have at least `wants` of them.
    Incomplete { wants: usize },
}

/// Scans one request; resumes where it stopped when it is called again with more bytes of the same
/// request.
#[derive(Debug, Default)]
pub struct RequestScanner {
    args: Vec<Span>,
    /// Where the first argument not yet scanned begins; 0 until the count has been read.
    pos: usize,
    /// How many arguments are not yet scanned.
    left: usize,
}

impl RequestScanner {
    /// The arguments found so far.
    pub fn args(&self) -> &[Span] {
        &self.args
    }

    /// How many arguments are still to come.
    pub fn args_left(&self) -> usize {
        self.left
    }

    /// Where the first argument that is not complete begins.
    pub fn scanned(&self) -> usize {
        self.pos
    }

    /// Forgets everything, for the next request; keeps the memory.
    #[inline]
    pub fn reset(&mut self) {
        self.args.clear();
        self.pos = 0;
        self.left = 0;
    }

    /// Looks for the end of the request that begins at `buf[0]`.
    ///
    /// # Errors
    /// The bytes are not a request, or it is larger than `limits` allows.
    #[inline]
    pub fn scan(&mut self, buf: &[u8], limits: Limits) -> Result<RequestScan, ProtocolError> {
        if self.pos == 0 {
            match buf.first() {
                None => return Ok(RequestScan::Incomplete { wants: 1 }),
                Some(b'*') => {}
                Some(_) => return scan_inline(buf),
            }
            let Some((count, next)) = read_line_number(buf, 1).or_invalid(
                buf,
                0,
                ProtocolError::BigMultibulkLine,
                ProtocolError::MultibulkLength,
            )?
            else {
                return Ok(RequestScan::Incomplete { wants: buf.len() + 1 });
            };
            if count > limits.args as i64 {
                return Err(if limits.is_authenticated || count > Limits::USUAL.args as i64 {
                    ProtocolError::MultibulkLength
                } else {
                    ProtocolError::UnauthenticatedMultibulkLength
                });
            }
            if count <= 0 {
                return Ok(RequestScan::Complete { len: next });
            }
            self.pos = next;
            self.left = count as usize;
        }
        while self.left > 0 {
            let Some(&kind) = buf.get(self.pos) else {
                return Ok(RequestScan::Incomplete { wants: self.pos + 1 });
            };
            if kind != b'$' {
                return Err(ProtocolError::ExpectedBulk(kind));
            }
            let Some((len, start)) = read_line_number(buf, self.pos + 1).or_invalid(
                buf,
                self.pos,
                ProtocolError::BigBulkLine,
                ProtocolError::BulkLength,
            )?
            else {
                return Ok(RequestScan::Incomplete { wants: buf.len() + 1 });
            };
            if len < 0 || len > limits.bulk as i64 {
                return Err(if limits.is_authenticated || len < 0 || len > Limits::USUAL.bulk as i64 {
                    ProtocolError::BulkLength
                } else {
                    ProtocolError::UnauthenticatedBulkLength
                });
            }
            let end = start + len as usize;
            if buf.len() < end + 2 {
                return Ok(RequestScan::Incomplete { wants: end + 2 });
            }
            if buf[end] != b'\r' || buf[end + 1] != b'\n' {
                return Err(ProtocolError::BulkLength);
            }
            self.args.push(Span { start: start as u32, end: end as u32 });
            self.pos = end + 2;
            self.left -= 1;
        }
        Ok(RequestScan::Complete { len: self.pos })
    }
}

fn scan_inline(buf: &[u8]) -> Result<RequestScan, ProtocolError> {
    match memchr::memchr(b'\n', buf) {
        Some(end) if end <= MAX_LINE => Ok(RequestScan::Inline { len: end + 1 }),
        None if buf.len() <= MAX_LINE => Ok(RequestScan::Incomplete { wants: buf.len() + 1 }),
        _ => Err(ProtocolError::BigInline),
    }
}

/// Follows the rest of a request whose beginning was already forwarded, so that its body can be
/// passed on in pieces that are forgotten at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestProgress {
    /// Arguments of which not even the length has been seen.
    args_left: usize,
    /// Bytes of the current argument still to come, its CRLF included.
    body_left: usize,
    bulk_limit: usize,
}

/// How far a piece of a frame reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// How many of the given bytes belong to the frame and are done with.
    pub consumed: usize,
    /// Whether the frame ends there.
    pub is_done: bool,
}

impl RequestProgress {
    /// Follows a request from where `scanner` stopped: the next byte expected is the first of an
    /// argument's length.
    pub fn of(scanner: &RequestScanner, limits: Limits) -> RequestProgress {
        RequestProgress { args_left: scanner.left, body_left: 0, bulk_limit: limits.bulk }
    }

    /// Consumes what `buf` holds of the request.
    ///
    /// # Errors
    /// The bytes are no argument of a request.
    pub fn advance(&mut self, buf: &[u8]) -> Result<Advance, ProtocolError> {
        let mut pos = 0;
        loop {
            let step = self.body_left.min(buf.len() - pos);
            pos += step;
            self.body_left -= step;
            if self.body_left > 0 {
                return Ok(Advance { consumed: pos, is_done: false });
            }
            if self.args_left == 0 {
                return Ok(Advance { consumed: pos, is_done: true });
            }
            match buf.get(pos) {
                None => return Ok(Advance { consumed: pos, is_done: false }),
                Some(b'$') => {}
                Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
            }
            let number = read_line_number(buf, pos + 1).or_invalid(
                buf,
                pos,
                ProtocolError::BigBulkLine,
                ProtocolError::BulkLength,
            )?;
            let Some((len, start)) = number else {
                return Ok(Advance { consumed: pos, is_done: false });
            };
            if len < 0 || len > self.bulk_limit as i64 {
                return Err(ProtocolError::BulkLength);
            }
            pos = start;
            self.args_left -= 1;
            self.body_left = len as usize + 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::split_inline;
    use super::*;
    use proptest::prelude::*;

    fn scan_all(buf: &[u8]) -> Result<(RequestScan, Vec<Vec<u8>>), ProtocolError> {
        let mut scanner = RequestScanner::default();
        let scan = scanner.scan(buf, Limits::USUAL)?;
        let args = scanner.args().iter().map(|s| buf[s.start as usize..s.end as usize].to_vec());
        Ok((scan, args.collect()))
    }

    #[test]
    fn a_request_ends_after_its_last_argument() {
        let frame = b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\nrest";
        let (scan, args) = scan_all(frame).unwrap();
        assert_eq!(scan, RequestScan::Complete { len: frame.len() - 4 });
        assert_eq!(args, [b"GET".to_vec(), b"a\r\n".to_vec()]);
    }

    #[test]
    fn empty_requests_are_skipped() {
        for frame in [&b"*0\r\n"[..], b"*-1\r\n"] {
            assert_eq!(scan_all(frame).unwrap().0, RequestScan::Complete { len: frame.len() });
        }
    }

    #[test]
    fn protocol_errors_have_the_texts_of_redis() {
        for (bytes, text) in [
            (&b"*1048577\r\n"[..], "Protocol error: invalid multibulk length"),
            (b"*x\r\n", "Protocol error: invalid multibulk length"),
            (b"*1\r\n:1\r\n", "Protocol error: expected '$', got ':'"),
            (b"*1\r\n$-5\r\n", "Protocol error: invalid bulk length"),
            (b"*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"),
            (b"*1\r\n$1\r\nabc", "Protocol error: invalid bulk length"),
        ] {
            assert_eq!(scan_all(bytes).unwrap_err().to_string(), text);
        }
        let line = [vec![b'a'; MAX_LINE + 1], b"\n".to_vec()].concat();
        assert_eq!(scan_all(&line), Err(ProtocolError::BigInline));
        assert_eq!(scan_all(&line[..MAX_LINE + 1]), Err(ProtocolError::BigInline));
    }

    #[test]
    fn clients_without_password_have_tighter_limits() {
        let scan = |bytes: &[u8]| RequestScanner::default().scan(bytes, Limits::UNAUTHENTICATED);
        assert_eq!(scan(b"*11\r\n"), Err(ProtocolError::UnauthenticatedMultibulkLength));
        assert_eq!(scan(b"*1\r\n$16385\r\n"), Err(ProtocolError::UnauthenticatedBulkLength));
    }

    proptest! {
        #[test]
        fn any_split_of_a_request_is_read_alike(args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 1..6), cut in 0.0..1.0f64) {
            let mut frame = format!("*{}\r\n", args.len()).into_bytes();
            for arg in &args {
                frame.extend(format!("${}\r\n", arg.len()).bytes().chain(arg.iter().copied()).chain(*b"\r\n"));
            }
            let cut = (cut * frame.len() as f64) as usize;
            let mut scanner = RequestScanner::default();
            let first = scanner.scan(&frame[..cut], Limits::USUAL).unwrap();
            let RequestScan::Incomplete { wants } = first else { panic!("complete before its end") };
            prop_assert!(wants > cut && wants <= frame.len());
            let mut progress = RequestProgress::of(&scanner, Limits::USUAL);
            if scanner.scanned() > 0 {
                let rest = progress.advance(&frame[scanner.scanned()..]).unwrap();
                prop_assert_eq!(rest, Advance { consumed: frame.len() - scanner.scanned(), is_done: true });
            }
            prop_assert_eq!(scanner.scan(&frame, Limits::USUAL), Ok(RequestScan::Complete { len: frame.len() }));
            let read: Vec<Vec<u8>> = scanner.args().iter().map(|s| frame[s.start as usize..s.end as usize].to_vec()).collect();
            prop_assert_eq!(read, args);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), lead in "[*$+:~%|>!=_#,(-]{1,2}[0-9-]{0,4}(\r\n)?") {
            let bytes = [lead.into_bytes(), bytes].concat();
            let _ = RequestScanner::default().scan(&bytes, Limits::USUAL);
            let _ = split_inline(&bytes);
        }
    }
}
