//! BYTES ↔ FRAMES: where a request or a reply ends, and the replies that we write ourselves.
//!
//! Pure: no IO, no clock. Nothing here builds a tree of values on the hot path.

mod reply;
mod request;
mod scan;

pub use reply::{ReplyWriter, Version, write_bulk, write_head, write_request};
pub use request::{Request, Span};
pub use scan::{
    Advance, InvalidReply, Limits, MAX_LINE, ProtocolError, ReplyScanner, RequestProgress, RequestScan,
    RequestScanner, split_inline,
};
