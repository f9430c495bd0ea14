//! Replies that we write ourselves, RESP2 or RESP3, and requests that we send to nodes.

use std::fmt::Display;
use std::io::Write;

/// The protocol version that a client chose by HELLO.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Version {
    #[default]
    Resp2,
    Resp3,
}

/// Writes replies to the end of a buffer in the client's protocol version.
pub struct ReplyWriter<'a> {
    pub out: &'a mut Vec<u8>,
    pub version: Version,
}

impl ReplyWriter<'_> {
    fn head(&mut self, kind: u8, value: impl Display) {
        self.out.push(kind);
        write!(self.out, "{value}\r\n").expect("writing to memory does not fail");
    }

    /// A status such as `OK`; must not hold a line break.
    pub fn simple(&mut self, text: &str) {
        self.head(b'+', text);
    }

    /// An error, its code word first; line breaks become spaces.
    pub fn error(&mut self, text: &str) {
        let line: String = text.chars().map(|c| if c == '\r' || c == '\n' { ' ' } else { c }).collect();
        self.head(b'-', line);
    }

    pub fn integer(&mut self, value: i64) {
        self.head(b':', value);
    }

    /// A number with a fraction: a bulk in RESP2.
    pub fn double(&mut self, value: f64) {
        match self.version {
            Version::Resp2 => self.bulk(value.to_string()),
            Version::Resp3 => self.head(b',', value),
        }
    }

    pub fn bulk(&mut self, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        self.head(b'$', body.len());
        self.out.extend_from_slice(body);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A text for people: a verbatim string in RESP3, a bulk in RESP2.
    pub fn verbatim(&mut self, text: &str) {
        match self.version {
            Version::Resp2 => self.bulk(text),
            Version::Resp3 => {
                self.head(b'=', text.len() + 4);
                self.out.extend_from_slice(b"txt:");
                self.out.extend_from_slice(text.as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// No value: a null bulk in RESP2.
    pub fn null(&mut self) {
        match self.version {
            Version::Resp2 => self.out.extend_from_slice(b"$-1\r\n"),
            Version::Resp3 => self.out.extend_from_slice(b"_\r\n"),
        }
    }

    /// No array: a null array in RESP2.
    pub fn null_array(&mut self) {
        match self.version {
            Version::Resp2 => self.out.extend_from_slice(b"*-1\r\n"),
            Version::Resp3 => self.out.extend_from_slice(b"_\r\n"),
        }
    }

    /// The head of an array; `len` elements must follow.
    pub fn array(&mut self, len: usize) {
        self.head(b'*', len);
    }

    /// The head of a set: an array in RESP2.
    pub fn set(&mut self, len: usize) {
        let kind = if self.version == Version::Resp3 { b'~' } else { b'*' };
        self.head(kind, len);
    }

    /// The head of an out-of-band message: an array in RESP2.
    pub fn push(&mut self, len: usize) {
        let kind = if self.version == Version::Resp3 { b'>' } else { b'*' };
        self.head(kind, len);
    }

    /// The head of a map; `len` keys and values must follow: an array of twice the length in RESP2.
    pub fn map(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.head(b'*', len * 2),
            Version::Resp3 => self.head(b'%', len),
        }
    }
}

/// Appends a request to `out`, as clients write it.
pub fn write_request<T: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    args: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
) {
    let args = args.into_iter();
    write_head(out, b'*', args.len());
    for arg in args {
        write_bulk(out, arg.as_ref());
    }
}

/// Appends one argument of a request, or a bulk reply.
#[inline]
pub fn write_bulk(out: &mut Vec<u8>, body: &[u8]) {
    write_head(out, b'$', body.len());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

/// Appends `*<n>\r\n` or the like without the formatting machinery: once a key on the split path.
#[inline]
pub fn write_head(out: &mut Vec<u8>, kind: u8, mut number: usize) {
    let mut digits = [0u8; 23];
    let mut at = digits.len() - 2;
    digits[at..].copy_from_slice(b"\r\n");
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    at -= 1;
    digits[at] = kind;
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_arrays_of_bulks() {
        let mut out = Vec::new();
        write_request(&mut out, ["GET", "0123456789"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$10\r\n0123456789\r\n");
    }

    #[test]
    fn resp2_has_arrays_where_resp3_has_maps() {
        for (version, expected) in
            [(Version::Resp2, &b"*2\r\n+a\r\n$-1\r\n"[..]), (Version::Resp3, b"%1\r\n+a\r\n_\r\n")]
        {
            let mut out = Vec::new();
            let mut reply = ReplyWriter { out: &mut out, version };
            reply.map(1);
            reply.simple("a");
            reply.null();
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn an_error_stays_on_one_line() {
        let mut out = Vec::new();
        ReplyWriter { out: &mut out, version: Version::Resp2 }.error("ERR a\r\n+OK");
        assert_eq!(out, b"-ERR a  +OK\r\n");
    }

    #[test]
    fn the_largest_number_fits() {
        let mut out = Vec::new();
        write_head(&mut out, b'$', usize::MAX);
        assert_eq!(out, format!("${}\r\n", usize::MAX).into_bytes());
    }
}
