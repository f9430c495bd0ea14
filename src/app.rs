//! Builds every part of `serve` from the configuration and connects them.
