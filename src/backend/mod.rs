//! OUR CONNECTIONS TO NODES: requests in order on their way out, replies in order on their way back.
//!
//! Free of IO: the worker that owns a connection moves its bytes. Nothing here knows clients.

mod backoff;
mod connection;
mod handshake;
mod outbox;

pub use backoff::Backoff;
pub use connection::{Connection, Flight, Phase};
pub use handshake::{Credentials, Handshake, HandshakeError, Release};
pub use outbox::{MAX_SLICES, Outbox};
