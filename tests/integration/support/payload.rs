//! Large values whose every byte tells where it belongs, sent and checked in pieces.

use super::client::Client;
use std::io::{BufRead as _, Read as _, Write as _};

/// No multiple of any buffer's size, so that a piece in the wrong place shows.
const PERIOD: usize = 1_000_003;

/// A value of a given size.
pub struct Payload {
    pattern: Vec<u8>,
    len: usize,
}

impl Payload {
    /// `seed` tells values of one size apart.
    pub fn new(len: usize, seed: u64) -> Payload {
        let mut random = fastrand::Rng::with_seed(seed);
        Payload { pattern: (0..len.min(PERIOD)).map(|_| random.u8(..)).collect(), len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        self.pieces(0, self.len).concat()
    }

    /// The bytes from `start` to `end`, in pieces.
    fn pieces(&self, start: usize, end: usize) -> Vec<&[u8]> {
        let (mut at, mut pieces) = (start, Vec::new());
        while at < end {
            let from = at % self.pattern.len();
            let piece = &self.pattern[from..(from + end - at).min(self.pattern.len())];
            at += piece.len();
            pieces.push(piece);
        }
        pieces
    }

    /// The beginning of `SET key value`, with the first `part` bytes of the value.
    #[track_caller]
    pub fn begin_set(&self, client: &mut Client, key: &str, part: usize) {
        let head = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), self.len);
        client.send_raw(head);
        self.send_range(client, 0, part);
    }

    /// Some bytes of the value.
    #[track_caller]
    pub fn send_range(&self, client: &mut Client, start: usize, end: usize) {
        for piece in self.pieces(start, end) {
            client.send_raw(piece);
        }
    }

    /// `SET key value`; the reply is not read.
    #[track_caller]
    pub fn send_set(&self, client: &mut Client, key: &str) {
        self.begin_set(client, key, self.len);
        client.send_raw("\r\n");
    }

    /// As much of `SET key value` as the connection takes, which may end meanwhile.
    pub fn try_set(&self, client: &mut Client, key: &str) -> std::io::Result<Vec<u8>> {
        let stream = client.reader().get_mut();
        write!(stream, "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), self.len)?;
        self.pieces(0, self.len).into_iter().try_for_each(|piece| stream.write_all(piece))?;
        stream.write_all(b"\r\n")?;
        client.try_read()
    }

    /// Reads a reply that must be this value, without keeping it.
    #[track_caller]
    pub fn expect(&self, client: &mut Client) {
        let (same, rest) = self.read_prefix(client, self.len);
        assert_eq!((same, rest), (self.len, true), "bytes of the value, and whether it ended well");
    }

    /// Reads up to `most` bytes of a reply that should be this value. Returns how many were right, and
    /// whether, after all of them, the reply ended as it should. A wrong byte fails the test.
    #[track_caller]
    pub fn read_prefix(&self, client: &mut Client, most: usize) -> (usize, bool) {
        let reader = client.reader();
        let mut head = String::new();
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return (0, false);
        }
        assert_eq!(head, format!("${}\r\n", self.len));
        self.read_on(client, 0, most)
    }

    /// The same from the middle of the value on.
    #[track_caller]
    pub fn read_on(&self, client: &mut Client, start: usize, most: usize) -> (usize, bool) {
        let reader = client.reader();
        let mut at = start;
        while at < most {
            let Ok(buffer) = reader.fill_buf() else { return (at, false) };
            if buffer.is_empty() {
                return (at, false);
            }
            let from = at % self.pattern.len();
            let count = buffer.len().min(most - at).min(self.pattern.len() - from);
            assert!(
                buffer[..count] == self.pattern[from..from + count],
                "wrong bytes at {at}..{}",
                at + count
            );
            reader.consume(count);
            at += count;
        }
        let mut end = [0; 2];
        let is_whole = at == self.len && reader.read_exact(&mut end).is_ok() && &end == b"\r\n";
        (at, is_whole)
    }
}
