//! Inline requests: a line of words instead of an array, as people type it.

use super::scan::ProtocolError;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
