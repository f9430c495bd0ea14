//! The parts of a reply, as far as merging needs them: bytes are sliced, never decoded into a tree. Pure.

use crate::resp::ReplyScanner;

/// The number in `:n` or a bulk; 0 when there is none.
pub fn integer(reply: &[u8]) -> i64 {
    std::str::from_utf8(text_of(reply)).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The body of a reply that is not an aggregate.
pub fn text_of(reply: &[u8]) -> &[u8] {
    let (Some(kind), Some(end)) = (reply.first(), memchr::memchr(b'\n', reply)) else { return b"" };
    match kind {
        b'$' => reply[end + 1..].strip_suffix(b"\r\n").unwrap_or_default(),
        b'=' => reply[end + 1..].strip_suffix(b"\r\n").and_then(|text| text.get(4..)).unwrap_or_default(),
        _ => reply[1..end].trim_ascii_end(),
    }
}

/// How many elements an array or set has, and their bytes.
pub fn array(reply: &[u8]) -> (usize, &[u8]) {
    let Some(end) = memchr::memchr(b'\n', reply) else { return (0, b"") };
    let count = std::str::from_utf8(reply[1..end].trim_ascii_end()).ok().and_then(|count| count.parse().ok());
    (count.unwrap_or(0), &reply[end + 1..])
}

/// The first reply of several, and the rest.
pub fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let advance = ReplyScanner::default().advance(bytes).ok()?;
    advance.is_done.then(|| bytes.split_at(advance.consumed))
}

/// The elements of an array or set.
pub fn elements(reply: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (_, mut rest) = array(reply);
    std::iter::from_fn(move || {
        let (first, after) = element(rest)?;
        rest = after;
        Some(first)
    })
}

/// The names and values of a map, or of an array that has them in turn.
pub fn pairs_of(reply: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut elements = elements(reply);
    std::iter::from_fn(move || Some((elements.next()?, elements.next()?)))
}
