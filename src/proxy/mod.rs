//! DATA PLANE: one client command, start to finish.

mod config;

pub use config::Config;
