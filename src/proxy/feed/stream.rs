//! One node's stream of what it changes, made fit to stand between those of other nodes. Pure.

use crate::proxy::fanout::{elements, text_of};
use crate::resp::ReplyScanner;

/// Why a stream cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Keys come from another node, and that one's stream, in which they go, may come later.
    Moving,
    NoRequest,
}

/// What came of it so far.
#[derive(Debug, Default)]
pub struct Stream {
    /// A command that is not whole yet; the scanner has seen so many bytes of it.
    bytes: Vec<u8>,
    scanner: ReplyScanner,
    scanned: usize,
    /// A transaction goes on as a whole.
    transaction: Option<Vec<u8>>,
}

impl Stream {
    /// Takes bytes, and gives those that can go on. `is_first`: it also keeps the connection alive;
    /// `has_selected`: some stream has chosen the one database that there is.
    ///
    /// # Errors
    /// The streams of all nodes are of no use any more.
    pub fn push(
        &mut self,
        bytes: &[u8],
        is_first: bool,
        has_selected: &mut bool,
    ) -> Result<Vec<u8>, Trouble> {
        self.bytes.extend_from_slice(bytes);
        let mut out = Vec::new();
        let mut start = 0;
        while start + self.scanned < self.bytes.len() {
            if self.scanned == 0 && self.bytes[start] == b'\n' {
                start += 1;
                continue;
            }
            if self.scanned == 0 && self.bytes[start] != b'*' {
                return Err(Trouble::NoRequest);
            }
            let unseen = &self.bytes[start + self.scanned..];
            let advance = self.scanner.advance(unseen).map_err(|_| Trouble::NoRequest)?;
            self.scanned += advance.consumed;
            if !advance.is_done {
                break;
            }
            let frame = &self.bytes[start..start + self.scanned];
            start += self.scanned;
            self.scanned = 0;
            self.scanner = ReplyScanner::default();
            let name = elements(frame).next().map(text_of).unwrap_or_default().to_ascii_lowercase();
            let is_passed = match &*name {
                b"select" => !std::mem::replace(has_selected, true),
                b"ping" => is_first,
                // For whoever answers it; here nobody does.
                b"replconf" => false,
                b"restore-asking" => return Err(Trouble::Moving),
                b"multi" => {
                    self.transaction = Some(Vec::new());
                    true
                }
                _ => true,
            };
            if is_passed {
                self.transaction.as_mut().unwrap_or(&mut out).extend_from_slice(frame);
            }
            if &*name == b"exec" {
                out.extend(self.transaction.take().unwrap_or_default());
            }
        }
        self.bytes.drain(..start);
        Ok(out)
    }

    /// How many bytes are kept.
    pub fn kept(&self) -> usize {
        self.bytes.len() + self.transaction.as_ref().map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::write_request;

    fn frames(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        lines.iter().for_each(|line| write_request(&mut out, line.split(' ').collect::<Vec<_>>()));
        out
    }

    #[test]
    fn commands_go_on_whole_and_transactions_too() {
        let bytes = frames(&[
            "SELECT 0",
            "set a 1",
            "MULTI",
            "SELECT 0",
            "set b 2",
            "EXEC",
            "ping",
            "REPLCONF GETACK *",
        ]);
        let expected = frames(&["SELECT 0", "set a 1", "MULTI", "set b 2", "EXEC", "ping"]);
        for cut in 0..bytes.len() {
            let (mut stream, mut has_selected) = (Stream::default(), false);
            let mut out = stream.push(&bytes[..cut], true, &mut has_selected).unwrap();
            let text = String::from_utf8_lossy(&out).into_owned();
            assert_eq!(text.contains("MULTI"), text.contains("EXEC"), "{text}");
            out.extend(stream.push(&bytes[cut..], true, &mut has_selected).unwrap());
            assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected), "{cut}");
            assert_eq!(stream.kept(), 0);
        }
        let mut has_selected = true;
        assert_eq!(
            Stream::default().push(&frames(&["SELECT 0", "PING"]), false, &mut has_selected),
            Ok(vec![])
        );
    }

    #[test]
    fn keys_that_come_from_another_node_end_it() {
        let mut has_selected = false;
        let moved = frames(&["RESTORE-ASKING k 0 x"]);
        assert_eq!(Stream::default().push(&moved, true, &mut has_selected), Err(Trouble::Moving));
        assert_eq!(Stream::default().push(b"+OK\r\n", true, &mut has_selected), Err(Trouble::NoRequest));
    }
}
