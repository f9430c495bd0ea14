//! Where does a node's reply end? Lengths are read, bodies skipped, nothing is copied and no tree is built.
//!
//! Pure and resumable: a reply that comes in pieces is never scanned twice.

use super::number::{Number, read_line_number};
use super::scan::{Advance, Limits, MAX_LINE};

/// The longest line of text in a reply: scripts make them of strings, of which none is longer.
const MAX_TEXT: usize = Limits::USUAL.bulk;

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
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), lead in "[*$+:~%|>!=_#,(-]{1,2}[0-9-]{0,4}(\r\n)?") {
            let bytes = [lead.into_bytes(), bytes].concat();
            let _ = ReplyScanner::default().advance(&bytes);
        }
    }
}
