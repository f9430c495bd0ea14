//! discover: where to find the first nodes of a cluster.

mod seed;
mod seed_file;

pub use seed::{Seed, SeedError};
pub use seed_file::{SeedFile, SeedFileError, parse_seed_file};
