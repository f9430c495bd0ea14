//! discover: where to find the first nodes of a cluster.

mod named;
mod seed;
mod seed_file;

pub use named::{Named, Pause, PodsWatch};
pub use seed::{Seed, SeedError};
pub use seed_file::{SeedFile, SeedFileError, parse_seed_file};
