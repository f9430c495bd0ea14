//! One request of a client, seen where it lies in the read buffer: no copy, no tree.

/// Where an argument lies inside its request's frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

/// A complete request: the bytes of its frame and the places of its arguments, the command's name
/// first.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// All bytes of the frame, as they go to a node.
    pub frame: &'a [u8],
    args: &'a [Span],
}

impl<'a> Request<'a> {
    /// A request whose arguments lie at `args`, all of them inside `frame`.
    #[inline]
    pub fn new(frame: &'a [u8], args: &'a [Span]) -> Request<'a> {
        debug_assert!(args.iter().all(|span| span.start <= span.end && span.end as usize <= frame.len()));
        Request { frame, args }
    }

    /// How many arguments there are, the command's name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Whether there is not even a name.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// Argument `ix`; 0 is the command's name. Panics from [`Request::len`] on, like a slice.
    #[inline]
    pub fn arg(&self, ix: usize) -> &'a [u8] {
        let span = self.args[ix];
        &self.frame[span.start as usize..span.end as usize]
    }

    /// Argument `ix`, or `None` when the request is shorter.
    #[inline]
    pub fn get(&self, ix: usize) -> Option<&'a [u8]> {
        (ix < self.args.len()).then(|| self.arg(ix))
    }

    /// Arguments `first` to `last` as they stand in the frame, their lengths and line ends included.
    #[inline]
    pub fn raw(&self, first: usize, last: usize) -> &'a [u8] {
        let start = match first.checked_sub(1) {
            Some(before) => self.args[before].end as usize + 2,
            None => memchr::memchr(b'\n', self.frame).map_or(0, |at| at + 1),
        };
        &self.frame[start..self.args[last].end as usize + 2]
    }

    /// All arguments, the command's name first.
    pub fn args(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator {
        let frame = self.frame;
        self.args.iter().map(move |span| &frame[span.start as usize..span.end as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Limits, RequestScanner};

    #[test]
    fn raw_arguments_keep_their_lengths() {
        let frame = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\nbc\r\n";
        let mut scanner = RequestScanner::default();
        scanner.scan(frame, Limits::USUAL).unwrap();
        let request = Request::new(frame, scanner.args());
        assert_eq!(request.raw(0, 0), b"$3\r\nSET\r\n");
        assert_eq!(request.raw(1, 2), b"$1\r\na\r\n$2\r\nbc\r\n");
        assert_eq!((request.get(2), request.get(3)), (Some(&b"bc"[..]), None));
    }
}
