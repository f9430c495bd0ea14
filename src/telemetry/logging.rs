//! The process's log: lines for people or JSON for machines, on standard error.
//!
//! Set up once by the command that runs. Never holds a secret: secrets hide themselves when printed.

use serde::{Deserialize, Serialize};
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How much is logged and in which shape.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or a list by module as the tracing crates
    /// write it: `info,slotgate::control=debug`.
    pub level: Level,
    pub format: Format,
}

impl Default for Config {
    /// `info` tells of every change of the cluster and is silent while nothing happens.
    fn default() -> Config {
        Config { level: Level("info".to_string()), format: Format::Text }
    }
}

/// A filter that was checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Level(String);

/// A text that is no filter.
#[derive(Debug, thiserror::Error)]
#[error(
    "not a log level: {0:?} (give error, warn, info, debug or trace, or a list such as info,slotgate::proxy=debug)"
)]
pub struct LevelError(String);

impl std::str::FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Level, LevelError> {
        let is_level = |word: &str| word.parse::<tracing::level_filters::LevelFilter>().is_ok();
        // The filter's own parser takes any single word for a module's name, a mistyped level too.
        let parts_fit = text.split(',').all(|part| is_level(part.rsplit('=').next().unwrap_or(part)));
        match EnvFilter::try_new(text) {
            Ok(_) if parts_fit && !text.is_empty() => Ok(Level(text.to_string())),
            _ => Err(LevelError(text.to_string())),
        }
    }
}

impl TryFrom<String> for Level {
    type Error = LevelError;

    fn try_from(text: String) -> Result<Level, LevelError> {
        text.parse()
    }
}

impl From<Level> for String {
    fn from(level: Level) -> String {
        level.0
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. A second call changes nothing.
pub fn init(config: &Config) {
    let filter = EnvFilter::new(&config.level.0);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match config.format {
        Format::Text => {
            let layer = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
            registry.with(layer).try_init()
        }
        Format::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_writer(io::stderr);
            registry.with(layer).try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("logging had been started before");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_lists_by_module_are_taken() {
        for text in ["info", "DEBUG", "off", "warn,slotgate::control=debug"] {
            assert!(text.parse::<Level>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_mistyped_level_is_refused() {
        for text in ["", "inof", "info,slotgate=loud"] {
            let error = text.parse::<Level>().unwrap_err().to_string();
            assert!(error.contains("give error, warn, info"), "{error}");
        }
    }
}
