//! BYTES ↔ FRAMES: where a request or a reply ends, and the replies that we write ourselves.
//!
//! Pure: no IO, no clock. Nothing here builds a tree of values on the hot path.

mod request;

pub use request::{Request, Span};
