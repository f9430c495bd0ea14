//! A pipe that holds a program up at every line, so that a test may act in a certain step of it.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

/// A pipe that takes one line until that is read: a program which tells of each step before it does it
/// gets no further than the step whose line lies in the pipe.
pub struct OneLine {
    reader: File,
    /// Lines are copied through here to be looked at without being taken.
    copies: (File, File),
}

impl OneLine {
    /// With the end that the program writes to.
    pub fn new() -> (OneLine, File) {
        // In packet mode (O_DIRECT) each write takes a slot, and the smallest pipe has one.
        let (reader, writer) = pipe(libc::O_DIRECT);
        // SAFETY: fcntl touches no memory of ours.
        assert!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 1) } > 0);
        (OneLine { reader, copies: pipe(0) }, writer)
    }

    /// The line that lies in the pipe, which stays there; `None` when the writer is gone.
    pub fn peek(&mut self) -> Option<String> {
        let (from, to) = (self.reader.as_raw_fd(), self.copies.1.as_raw_fd());
        // SAFETY: tee touches no memory of ours.
        let len = usize::try_from(unsafe { libc::tee(from, to, 4096, 0) }).expect("tee copies between pipes");
        let mut line = vec![0; len];
        self.copies.0.read_exact(&mut line).unwrap();
        (len > 0).then(|| String::from_utf8(line).unwrap())
    }

    /// Takes the line that lies in the pipe away.
    pub fn take(&mut self) {
        assert!(self.reader.read(&mut [0; 4096]).unwrap() > 0);
    }
}

fn pipe(flags: i32) -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: pipe2 writes two descriptors, which are ours alone.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), flags | libc::O_CLOEXEC), 0);
        (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
    }
}
