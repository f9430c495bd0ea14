//! A node's reply as a small tree, for the few replies that are read whole. Off the hot path; takes RESP2
//! and RESP3, copies no text, and limits how deep a reply may nest, as a tree is read by recursion.

/// Deeper than any reply to `COMMAND` (a subcommand's key specs lie 7 deep).
const MAX_DEPTH: usize = 16;

/// One value. Maps and sets are lists here: a map's names and values in turn.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Node<'a> {
    Text(&'a [u8]),
    Number(i64),
    List(Vec<Node<'a>>),
    Error(&'a [u8]),
    /// Null, boolean, double and the like.
    Other,
}

/// Why bytes are no whole reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TreeError {
    #[error("ends before it is complete")]
    Cut,
    #[error("goes on after its end")]
    TooLong,
    #[error("nests too deep")]
    TooDeep,
    #[error("is not valid RESP")]
    Invalid,
}

/// Reads the bytes of exactly one reply.
pub(super) fn parse(bytes: &[u8]) -> Result<Node<'_>, TreeError> {
    let mut rest = bytes;
    let node = read(&mut rest, MAX_DEPTH)?;
    if rest.is_empty() { Ok(node) } else { Err(TreeError::TooLong) }
}

fn read<'a>(rest: &mut &'a [u8], depth: usize) -> Result<Node<'a>, TreeError> {
    let end = memchr::memchr(b'\n', rest).ok_or(TreeError::Cut)?;
    let line = rest[..end].strip_suffix(b"\r").ok_or(TreeError::Invalid)?;
    let (&kind, text) = line.split_first().ok_or(TreeError::Invalid)?;
    *rest = &rest[end + 1..];
    let number = || std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    let length = || number().ok_or(TreeError::Invalid);
    Ok(match kind {
        b'+' => Node::Text(text),
        b'-' => Node::Error(text),
        b':' => Node::Number(number().ok_or(TreeError::Invalid)?),
        b'_' | b'#' | b',' | b'(' => Node::Other,
        b'$' | b'=' | b'!' => match usize::try_from(length()?) {
            Ok(length) => {
                let whole =
                    length.checked_add(2).filter(|&whole| whole <= rest.len()).ok_or(TreeError::Cut)?;
                let (body, tail) = rest.split_at(whole);
                *rest = tail;
                Node::Text(body.strip_suffix(b"\r\n").ok_or(TreeError::Invalid)?)
            }
            Err(_) => Node::Other,
        },
        b'*' | b'~' | b'>' => list(length()?, rest, depth)?,
        b'%' => list(length()?.checked_mul(2).ok_or(TreeError::Invalid)?, rest, depth)?,
        _ => return Err(TreeError::Invalid),
    })
}

/// Grows with what is there, not with what is announced.
fn list<'a>(length: i64, rest: &mut &'a [u8], depth: usize) -> Result<Node<'a>, TreeError> {
    let depth = depth.checked_sub(1).ok_or(TreeError::TooDeep)?;
    if length < 0 {
        return Ok(Node::Other);
    }
    (0..length).map(|_| read(rest, depth)).collect::<Result<_, _>>().map(Node::List)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocol_versions_give_the_same_tree() {
        let tree = parse(b"*3\r\n*2\r\n$1\r\na\r\n:1\r\n*1\r\n+b\r\n$-1\r\n").unwrap();
        assert_eq!(parse(b"*3\r\n%1\r\n$1\r\na\r\n:1\r\n~1\r\n+b\r\n_\r\n").unwrap(), tree);
    }

    #[test]
    fn what_is_no_whole_reply_is_refused() {
        for (bytes, error) in [
            (&b""[..], TreeError::Cut),
            (b"*2\r\n:1\r\n", TreeError::Cut),
            (b"$5\r\nabc\r\n", TreeError::Cut),
            (b"$9223372036854775807\r\nabc\r\n", TreeError::Cut),
            (b"*9223372036854775807\r\n", TreeError::Cut),
            (b"%9223372036854775807\r\n", TreeError::Invalid),
            (b":1\r\n:1\r\n", TreeError::TooLong),
            (b"?1\r\n", TreeError::Invalid),
            (b":x\r\n", TreeError::Invalid),
            (b"\r\n", TreeError::Invalid),
            (b":1\n", TreeError::Invalid),
        ] {
            assert_eq!(parse(bytes), Err(error), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(parse(&b"*1\r\n".repeat(200_000)), Err(TreeError::TooDeep));
    }
}
