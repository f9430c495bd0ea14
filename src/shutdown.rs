//! starting → ready → draining → stopped.
