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

    /// All arguments, the command's name first.
    pub fn args(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator {
        let frame = self.frame;
        self.args.iter().map(move |span| &frame[span.start as usize..span.end as usize])
    }
}
