//! Requests on their way to a node, kept until they are answered.
//!
//! Pure. One byte stream in a few chunks: new requests are copied to its end, the connection writes
//! it out, and an answer takes the oldest request off its front. Until then the request's bytes are
//! still there to be sent elsewhere, without a copy per request.

use std::collections::VecDeque;
use std::io::IoSlice;

/// What a chunk of small requests holds: large enough that a busy turn needs one or two.
const CHUNK: usize = 32 * 1024;
/// A request from here on gets a chunk of its own, so that it is moved and not copied twice.
const LARGE: usize = CHUNK / 2;
/// How many slices one vectored write takes at most.
pub const MAX_SLICES: usize = 16;

/// The stream of requests to one node.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that are answered.
    answered: usize,
    /// Bytes from the first unanswered one on that were handed to the kernel.
    sent: usize,
    /// Bytes from the first unanswered one on.
    len: usize,
    /// An emptied chunk, to be filled next.
    spare: Option<Vec<u8>>,
}

impl Outbox {
    /// Bytes of requests that are not answered yet.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes not yet handed to the kernel.
    #[inline]
    pub fn unsent(&self) -> usize {
        self.len - self.sent
    }

    /// Whether all `len` bytes of the oldest request were handed to the kernel: only then may the
    /// node have executed it.
    pub fn was_front_sent(&self, len: usize) -> bool {
        self.sent >= len
    }

    /// Appends one request given in parts, which stay together in one chunk.
    #[inline]
    pub fn push(&mut self, parts: &[&[u8]]) {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        let chunk = self.room(size);
        for part in parts {
            chunk.extend_from_slice(part);
        }
        self.len += size;
    }

    /// Appends one request that owns its bytes; a large one is taken as it is.
    pub fn push_owned(&mut self, request: Vec<u8>) {
        if request.len() < LARGE {
            return self.push(&[&request]);
        }
        self.len += request.len();
        self.set_empty_aside();
        self.chunks.push_back(request);
    }

    #[inline]
    fn room(&mut self, size: usize) -> &mut Vec<u8> {
        let fits = self.chunks.back().is_some_and(|chunk| chunk.len() + size <= chunk.capacity());
        if !fits {
            self.set_empty_aside();
            let chunk = match self.spare.take() {
                Some(chunk) if size <= chunk.capacity() => chunk,
                _ => Vec::with_capacity(if size < LARGE { CHUNK } else { size }),
            };
            self.chunks.push_back(chunk);
        }
        self.chunks.back_mut().expect("a chunk was just added")
    }

    /// The first chunk always holds the oldest request: an emptied one does not stay before another.
    fn set_empty_aside(&mut self) {
        if self.chunks.back().is_some_and(Vec::is_empty) {
            self.spare = self.chunks.pop_back();
        }
    }

    /// The bytes that wait to be written, in order, as far as one vectored write takes them; returns
    /// how many of `slices` were filled.
    pub fn unsent_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.answered + self.sent;
        let mut count = 0;
        for chunk in &self.chunks {
            if skip >= chunk.len() {
                skip -= chunk.len();
                continue;
            }
            if count == slices.len() {
                break;
            }
            slices[count] = IoSlice::new(&chunk[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// Notes that the kernel took the next `count` unsent bytes.
    pub fn mark_sent(&mut self, count: usize) {
        self.sent += count;
        debug_assert!(self.sent <= self.len);
    }

    /// The oldest unanswered request, of `len` bytes.
    pub fn front(&self, len: usize) -> &[u8] {
        if len == 0 {
            return b"";
        }
        &self.chunks[0][self.answered..self.answered + len]
    }

    /// Takes the oldest request, of `len` bytes, off: it is answered, or goes elsewhere.
    #[inline]
    pub fn pop_front(&mut self, len: usize) {
        if len == 0 {
            return;
        }
        self.answered += len;
        self.len -= len;
        self.sent = self.sent.saturating_sub(len);
        // One request lies in one chunk; what is passed on in pieces may end several.
        while let Some(first) = self.chunks.front_mut()
            && self.answered >= first.len()
        {
            self.answered -= first.len();
            let is_usual = first.capacity() <= CHUNK;
            if self.len == 0 && self.answered == 0 && is_usual && self.chunks.len() == 1 {
                self.chunks[0].clear();
                return;
            }
            if let Some(mut chunk) = self.chunks.pop_front()
                && is_usual
            {
                chunk.clear();
                self.spare = Some(chunk);
            }
        }
    }

    /// Bytes of memory that are taken.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum()
    }

    /// Gives the memory of an idle connection back.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = Outbox::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unsent(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = outbox.unsent_slices(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn a_request_stays_until_it_is_answered() {
        let mut outbox = Outbox::default();
        outbox.push(&[b"asking ", b"get"]);
        outbox.mark_sent(10);
        outbox.push(&[b"set"]);
        assert_eq!((outbox.front(10), unsent(&outbox)), (&b"asking get"[..], b"set".to_vec()));
        outbox.pop_front(10);
        assert!(!outbox.was_front_sent(3));
        assert_eq!(outbox.front(3), b"set");
    }

    #[test]
    fn a_request_too_large_for_an_emptied_chunk_is_the_front_all_the_same() {
        for push in [Outbox::push_owned, |outbox: &mut Outbox, request: Vec<u8>| outbox.push(&[&request])] {
            let mut outbox = Outbox::default();
            outbox.push(&[b"get"]);
            outbox.pop_front(3);
            let large = vec![b'x'; CHUNK + 1];
            push(&mut outbox, large.clone());
            assert!(outbox.front(large.len()) == large && unsent(&outbox) == large);
        }
    }

    #[test]
    fn bytes_of_several_chunks_can_be_taken_off_at_once() {
        let mut outbox = Outbox::default();
        for piece in [LARGE, 2 * CHUNK, LARGE, 5] {
            outbox.push(&[&vec![b'x'; piece]]);
        }
        outbox.mark_sent(outbox.len());
        outbox.pop_front(LARGE + 2 * CHUNK + 1);
        assert_eq!((outbox.len(), outbox.chunks.len()), (LARGE + 4, 2));
        outbox.pop_front(LARGE + 4);
        outbox.push(&[b"get"]);
        assert_eq!((outbox.front(3), unsent(&outbox)), (&b"get"[..], b"get".to_vec()));
    }

    #[test]
    fn bytes_of_several_chunks_are_taken_off_at_once() {
        let mut outbox = Outbox::default();
        let piece = vec![b'x'; CHUNK * 2];
        for _ in 0..20 {
            (0..3).for_each(|_| outbox.push(&[&piece]));
            outbox.mark_sent(piece.len() * 2 + 5);
            outbox.pop_front(piece.len() * 2 + 5);
            outbox.push(&[b"end"]);
            assert_eq!(unsent(&outbox).len(), outbox.unsent());
            outbox.mark_sent(outbox.unsent());
            outbox.pop_front(outbox.len());
            assert!(outbox.memory() <= CHUNK);
        }
    }

    proptest! {
        #[test]
        fn the_stream_is_what_was_pushed(steps in proptest::collection::vec((0..40_000usize, any::<bool>(), 0..3u8), 1..40)) {
            let (mut outbox, mut model, mut sizes) = (Outbox::default(), VecDeque::<u8>::new(), VecDeque::new());
            let mut sent = 0;
            for (n, (size, is_owned, pops)) in steps.into_iter().enumerate() {
                let size = if n % 3 == 0 { size } else { size % 100 } + 1;
                let request: Vec<u8> = (0..size).map(|i| (i + n) as u8).collect();
                model.extend(&request);
                sizes.push_back(size);
                if is_owned { outbox.push_owned(request) } else { outbox.push(&[&request[..size / 2], &request[size / 2..]]) }
                let waiting = unsent(&outbox);
                let expected: Vec<u8> = model.iter().skip(sent).copied().take(waiting.len()).collect();
                prop_assert_eq!(&waiting, &expected);
                prop_assert_eq!(outbox.unsent(), model.len() - sent);
                outbox.mark_sent(waiting.len());
                sent += waiting.len();
                for _ in 0..pops {
                    if let Some(size) = sizes.pop_front() {
                        let front: Vec<u8> = model.drain(..size).collect();
                        prop_assert_eq!(outbox.front(size), &front[..]);
                        outbox.pop_front(size);
                        sent = sent.saturating_sub(size);
                    }
                }
                prop_assert_eq!(outbox.len(), model.len());
            }
        }
    }
}
