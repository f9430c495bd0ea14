//! To be filled: random interleavings.
