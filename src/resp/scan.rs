//! Where does this frame end? The hot path of both directions: lengths are read, bodies skipped,
//! nothing is copied and no tree is built.
//!
//! Pure and resumable: a frame that comes in pieces is never scanned twice. Numbers and limits are
//! those of Redis (`src/networking.c`, `processMultibulkBuffer`), except that every line must end in
//! CRLF: what is forwarded must mean the same to the node as it does to us.

use super::Span;

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
/// The longest line of text in a reply: scripts make them of strings, of which none is longer.
const MAX_TEXT: usize = Limits::USUAL.bulk;

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
    /// [`split_inline`].
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

/// A length as it stands in a line: the number and where the next line begins.
enum Number {
    Read(i64, usize),
    /// The line is not complete yet.
    Incomplete,
    Invalid,
}

impl Number {
    #[inline]
    fn or_invalid(
        self,
        buf: &[u8],
        line: usize,
        too_long: ProtocolError,
        invalid: ProtocolError,
    ) -> Result<Option<(i64, usize)>, ProtocolError> {
        match self {
            Number::Read(number, next) => Ok(Some((number, next))),
            Number::Incomplete if buf.len() - line > MAX_LINE => Err(too_long),
            Number::Incomplete => Ok(None),
            Number::Invalid => Err(invalid),
        }
    }
}

/// Reads a decimal number that begins at `pos` and fills its line up to CRLF. Most have one or two digits.
#[inline(always)]
fn read_line_number(buf: &[u8], pos: usize) -> Number {
    if let Some(&[first, second, third, fourth]) = buf.get(pos..).and_then(|rest| rest.first_chunk()) {
        let (tens, ones) = (first.wrapping_sub(b'0'), second.wrapping_sub(b'0'));
        if tens < 10 && second == b'\r' && third == b'\n' {
            return Number::Read(i64::from(tens), pos + 3);
        }
        if tens.wrapping_sub(1) < 9 && ones < 10 && third == b'\r' && fourth == b'\n' {
            return Number::Read(i64::from(tens * 10 + ones), pos + 4);
        }
    }
    read_long_number(buf, pos)
}

fn read_long_number(buf: &[u8], pos: usize) -> Number {
    let mut at = pos;
    let is_negative = buf.get(at) == Some(&b'-');
    if is_negative {
        at += 1;
    }
    let digits = at;
    let mut number: i64 = 0;
    loop {
        match buf.get(at) {
            None => return Number::Incomplete,
            Some(digit @ b'0'..=b'9') if at - digits < 18 => {
                number = number * 10 + i64::from(digit - b'0');
                at += 1;
            }
            Some(b'\r') if at > digits => break,
            Some(_) => return Number::Invalid,
        }
    }
    // As `string2ll`: a node would take `01` for a breach of the protocol and close.
    if buf[digits] == b'0' && (is_negative || at - digits > 1) {
        return Number::Invalid;
    }
    match buf.get(at + 1) {
        None => Number::Incomplete,
        Some(b'\n') => Number::Read(if is_negative { -number } else { number }, at + 2),
        Some(_) => Number::Invalid,
    }
}

fn scan_inline(buf: &[u8]) -> Result<RequestScan, ProtocolError> {
    match memchr::memchr(b'\n', buf) {
        Some(end) if end <= MAX_LINE => Ok(RequestScan::Inline { len: end + 1 }),
        None if buf.len() <= MAX_LINE => Ok(RequestScan::Incomplete { wants: buf.len() + 1 }),
        _ => Err(ProtocolError::BigInline),
    }
}

/// Splits the line of an inline request into its arguments: at white space, with Redis' quotes
/// (`"a\x41\n"`, `'it\'s'`).
///
/// # Errors
/// A quote that is not closed, or that is followed by something other than white space.
pub fn split_inline(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
    const BAD: ProtocolError = ProtocolError::UnbalancedQuotes;
    let mut args = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() || rest[0] == 0 {
            return Ok(args);
        }
        let mut arg = Vec::new();
        loop {
            match *rest {
                [b'"', ref tail @ ..] => rest = unquote_double(tail, &mut arg)?,
                [b'\'', ref tail @ ..] => rest = unquote_single(tail, &mut arg)?,
                [byte, ref tail @ ..] if !byte.is_ascii_whitespace() && byte != 0 => {
                    arg.push(byte);
                    rest = tail;
                    continue;
                }
                _ => break,
            }
            // A closing quote ends the argument.
            match rest.first() {
                None => break,
                Some(byte) if byte.is_ascii_whitespace() => break,
                Some(_) => return Err(BAD),
            }
        }
        args.push(arg);
    }
}

fn unquote_double<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        rest = match *rest {
            [b'\\', b'x', high, low, ref tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
                arg.push(digit(high) << 4 | digit(low));
                tail
            }
            [b'\\', escaped, ref tail @ ..] => {
                arg.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                tail
            }
            [b'"', ref tail @ ..] => return Ok(tail),
            [byte, ref tail @ ..] => {
                arg.push(byte);
                tail
            }
            [] => return Err(ProtocolError::UnbalancedQuotes),
        }
    }
}

fn unquote_single<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        rest = match *rest {
            [b'\\', b'\'', ref tail @ ..] => {
                arg.push(b'\'');
                tail
            }
            [b'\'', ref tail @ ..] => return Ok(tail),
            [byte, ref tail @ ..] => {
                arg.push(byte);
                tail
            }
            [] => return Err(ProtocolError::UnbalancedQuotes),
        }
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

/// A node sent something that is not a reply; the connection is lost for all who wait on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node sent bytes that are not a reply")]
pub struct InvalidReply;

/// Scans one reply, RESP2 or RESP3, an attribute before it included; resumes where it stopped.
///
/// A flat count of the elements still to come is enough to find the end of any nesting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyScanner {
    /// Elements still to come.
    pending: u64,
    /// Bytes of the current bulk's body still to come, its CRLF included.
    body_left: usize,
    /// How many more bytes the line may have that is consumed in part; 0: there is none.
    line_left: usize,
}

impl Default for ReplyScanner {
    fn default() -> ReplyScanner {
        ReplyScanner { pending: 1, body_left: 0, line_left: 0 }
    }
}

impl ReplyScanner {
    /// Consumes what `buf` holds of the reply. Bytes that were consumed need not be shown again;
    /// those that were not must be.
    ///
    /// # Errors
    /// The bytes are not a reply.
    #[inline]
    pub fn advance(&mut self, buf: &[u8]) -> Result<Advance, InvalidReply> {
        let mut pos = 0;
        if self.line_left > 0 {
            let limit = std::mem::take(&mut self.line_left);
            match self.finish_line(buf, limit)? {
                Some(end) => pos = end,
                None => return Ok(Advance { consumed: buf.len(), is_done: false }),
            }
        }
        loop {
            if self.body_left > 0 {
                let step = self.body_left.min(buf.len() - pos);
                pos += step;
                self.body_left -= step;
                if self.body_left > 0 {
                    return Ok(Advance { consumed: pos, is_done: false });
                }
            }
            if self.pending == 0 {
                *self = ReplyScanner::default();
                return Ok(Advance { consumed: pos, is_done: true });
            }
            let Some(&kind) = buf.get(pos) else {
                return Ok(Advance { consumed: pos, is_done: false });
            };
            match kind {
                b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => {
                    let (number, next) = match read_line_number(buf, pos + 1) {
                        Number::Read(number, next) => (number, next),
                        Number::Incomplete => return Ok(Advance { consumed: pos, is_done: false }),
                        Number::Invalid => return Err(InvalidReply),
                    };
                    if number < -1 {
                        return Err(InvalidReply);
                    }
                    pos = next;
                    self.pending -= 1;
                    let count = number.max(0) as u64;
                    match kind {
                        b'$' | b'=' | b'!' if number >= 0 => self.body_left = number as usize + 2,
                        b'$' | b'=' | b'!' => {}
                        b'%' => self.pending = self.more(count * 2)?,
                        // An attribute's pairs come before the reply that they describe.
                        b'|' => self.pending = self.more(count * 2 + 1)?,
                        _ => self.pending = self.more(count)?,
                    }
                }
                b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {
                    self.pending -= 1;
                    let limit = if matches!(kind, b'+' | b'-' | b'(') { MAX_TEXT } else { MAX_LINE };
                    match self.finish_line(&buf[pos..], limit)? {
                        Some(end) => pos += end,
                        None => return Ok(Advance { consumed: buf.len(), is_done: false }),
                    }
                }
                _ => return Err(InvalidReply),
            }
        }
    }

    /// Where the line ends that goes on at `buf[0]` and may have `limit` more bytes; `None`: later.
    #[inline]
    fn finish_line(&mut self, buf: &[u8], limit: usize) -> Result<Option<usize>, InvalidReply> {
        let end = memchr::memchr(b'\n', buf).map(|at| at + 1);
        if end.unwrap_or(buf.len() + 1) > limit {
            return Err(InvalidReply);
        }
        if end.is_none() {
            self.line_left = limit - buf.len();
        }
        Ok(end)
    }

    /// Bytes of the current bulk still to come: how much a reader should make room for.
    pub fn body_left(&self) -> usize {
        self.body_left
    }

    #[inline]
    fn more(&self, count: u64) -> Result<u64, InvalidReply> {
        self.pending.checked_add(count).ok_or(InvalidReply)
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn inline_requests_are_split_as_redis_does() {
        let split = |line: &str| split_inline(line.as_bytes());
        assert_eq!(split(" set  a 'b c'\r\n").unwrap(), [&b"set"[..], b"a", b"b c"]);
        assert_eq!(split(r#"x "\x41\n\"" 'it\'s'"#).unwrap(), [&b"x"[..], b"A\n\"", b"it's"]);
        assert_eq!(split("\r\n").unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(split("\"\"").unwrap(), [b""]);
        assert_eq!(split("a \"b"), Err(ProtocolError::UnbalancedQuotes));
        assert_eq!(split("a \"b\"c"), Err(ProtocolError::UnbalancedQuotes));
    }

    #[test]
    fn replies_of_all_types_end_where_they_end() {
        for reply in [
            &b"+OK\r\n"[..],
            b"-ERR no\r\n",
            b":1\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$5\r\na\r\nbc\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n",
            b"%1\r\n+k\r\n~2\r\n#t\r\n_\r\n",
            b"|1\r\n+ttl\r\n:1\r\n*1\r\n,1.5\r\n",
            b"=5\r\ntxt:a\r\n",
            b"!3\r\nERR\r\n",
            b"(123\r\n",
            b">2\r\n+a\r\n+b\r\n",
        ] {
            let with_more = [reply, b"+next\r\n"].concat();
            let advance = ReplyScanner::default().advance(&with_more).unwrap();
            assert_eq!(advance, Advance { consumed: reply.len(), is_done: true }, "{reply:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_reply_are_refused() {
        for bytes in [&b"hello"[..], b"$x\r\n", b"*-2\r\n", b"$99999999999999999999\r\n"] {
            assert_eq!(ReplyScanner::default().advance(bytes), Err(InvalidReply));
        }
    }

    #[test]
    fn a_line_that_does_not_end_is_consumed_as_it_comes_and_refused_at_a_limit() {
        let chunk = vec![b'1'; 1 << 20];
        for (kind, limit) in [("+", MAX_TEXT), ("-", MAX_TEXT), (":", MAX_LINE), (",", MAX_LINE)] {
            let mut scanner = ReplyScanner::default();
            let mut taken = scanner.advance(kind.as_bytes()).unwrap().consumed;
            assert_eq!(taken, 1);
            while taken < limit - 1 {
                let size = chunk.len().min(limit - 1 - taken);
                let advance = scanner.advance(&chunk[..size]).unwrap();
                assert_eq!(advance, Advance { consumed: size, is_done: false });
                taken += size;
            }
            let mut other = scanner;
            assert_eq!(other.advance(b"\n:1"), Ok(Advance { consumed: 1, is_done: true }));
            assert_eq!(scanner.advance(b"1"), Err(InvalidReply));
        }
        let line = [b":".to_vec(), chunk, b"\r\n".to_vec()].concat();
        assert_eq!(ReplyScanner::default().advance(&line), Err(InvalidReply));
    }

    fn any_reply() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            "[a-z ]{0,9}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
            any::<i64>().prop_map(|n| format!(":{n}\r\n").into_bytes()),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|body| [
                format!("${}\r\n", body.len()).into_bytes(),
                body,
                b"\r\n".to_vec()
            ]
            .concat()),
            Just(b"$-1\r\n".to_vec()),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            (proptest::collection::vec(inner, 0..4), 0..3u8).prop_map(|(items, kind)| match kind {
                0 => [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat(),
                1 => [format!("~{}\r\n", items.len()).into_bytes(), items.concat()].concat(),
                _ => {
                    [format!("%{}\r\n", items.len() / 2).into_bytes(), items[..items.len() / 2 * 2].concat()]
                        .concat()
                }
            })
        })
    }

    proptest! {
        #[test]
        fn any_split_of_a_reply_ends_alike(reply in any_reply(), cuts in proptest::collection::vec(0.0..1.0f64, 0..5)) {
            let mut ends: Vec<usize> = cuts.iter().map(|cut| (cut * reply.len() as f64) as usize).collect();
            ends.push(reply.len());
            ends.sort_unstable();
            let (mut scanner, mut done, mut finished) = (ReplyScanner::default(), 0, false);
            for end in ends {
                prop_assert!(!finished || done == end);
                if !finished {
                    let advance = scanner.advance(&reply[done..end]).unwrap();
                    done += advance.consumed;
                    finished = advance.is_done;
                }
            }
            prop_assert!(finished);
            prop_assert_eq!(done, reply.len());
        }

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
            let _ = ReplyScanner::default().advance(&bytes);
            let _ = split_inline(&bytes);
        }
    }
}
