//! The decimal number that fills a line: lengths of requests and replies.

use super::scan::{MAX_LINE, ProtocolError};

/// A length as it stands in a line: the number and where the next line begins.
pub enum Number {
    Read(i64, usize),
    /// The line is not complete yet.
    Incomplete,
    Invalid,
}

impl Number {
    #[inline]
    pub fn or_invalid(
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
pub fn read_line_number(buf: &[u8], pos: usize) -> Number {
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
