//! BYTES ↔ FRAMES: where a request or a reply ends, and the replies that we write ourselves.
//!
//! Pure: no IO, no clock. Nothing here builds a tree of values on the hot path.

mod inline;
mod number;
mod reply;
mod reply_scan;
mod request;
mod scan;

pub use inline::split_inline;
pub use reply::{ReplyWriter, Version, write_bulk, write_head, write_request};
pub use reply_scan::{InvalidReply, ReplyScanner};
pub use request::{Request, Span};
pub use scan::{Advance, Limits, MAX_LINE, ProtocolError, RequestProgress, RequestScan, RequestScanner};
