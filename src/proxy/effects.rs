//! What the core leaves for the worker to do, as it does no IO itself.

use std::collections::VecDeque;

/// What the core wants the worker to do.
#[derive(Debug, Default)]
pub struct Effects {
    pub dirty_backends: Vec<usize>,
    pub dirty_sessions: Vec<usize>,
    /// New connections, to be opened.
    pub connects: Vec<usize>,
    /// Connections that are no longer in `Core::backends`; their sockets are to be closed.
    pub closed_backends: Vec<usize>,
    /// Sessions to be looked at again: something they waited for has happened.
    pub resuming: VecDeque<usize>,
    /// Paused connections that may be read again.
    pub readable_backends: Vec<usize>,
}

impl Effects {
    /// Whether the worker has done everything that was wished for, but for writing to nodes.
    pub fn is_empty(&self) -> bool {
        self.dirty_sessions.is_empty()
            && self.connects.is_empty()
            && self.closed_backends.is_empty()
            && self.resuming.is_empty()
            && self.readable_backends.is_empty()
    }
}
