//! Puts the sources on top of each other: flags over environment over file over defaults; and
//! remembers for each value where it came from.

use super::Settings;
use super::file::File;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    /// The variable's name.
    Environment(String),
    /// The setting's name.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::Flag(key) => write!(f, "flag --{key}"),
        }
    }
}

/// A value and its source.
#[derive(Clone, Debug)]
pub struct Entry {
    pub value: Value,
    pub source: Source,
}

/// One thing that is wrong with what the user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub source: Source,
    pub key: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.source, self.key, self.message)
    }
}

/// The values that count, by name. Each is well formed by itself.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    entries: BTreeMap<String, Entry>,
}

/// Looks a variable up; given as a function so that tests need not change the process's own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment variable of a setting.
pub fn variable(key: &str) -> String {
    format!("SLOTGATE_{}", key.to_ascii_uppercase().replace('-', "_"))
}

impl Layers {
    /// Puts `flags` over `environment` over `file` over the defaults.
    ///
    /// # Errors
    /// Every variable that is not well formed.
    pub fn gather(
        flags: &Settings,
        environment: Environment<'_>,
        file: Option<File>,
    ) -> Result<Layers, Vec<Problem>> {
        let mut layers = Layers::default();
        layers.put(Settings::defaults().to_map(), |_| Source::Default);
        for (key, line, value) in file.iter().flat_map(|file| &file.entries) {
            let path = file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
            let source = Source::File { path, line: *line };
            layers.entries.insert(key.clone(), Entry { value: value.clone(), source });
        }
        layers.put(read_environment(environment)?, |key| Source::Environment(variable(key)));
        layers.put(flags.to_map(), |key| Source::Flag(key.to_string()));
        Ok(layers)
    }

    fn put(&mut self, values: Map<String, Value>, source: impl Fn(&str) -> Source) {
        for (key, value) in values {
            let source = source(&key);
            self.entries.insert(key, Entry { value, source });
        }
    }

    /// The value of a setting and where it came from, or `None` when it is not set.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All values as one.
    pub fn settings(&self) -> Settings {
        let values = self.entries.iter().map(|(key, entry)| (key.clone(), entry.value.clone()));
        serde_json::from_value(Value::Object(values.collect())).expect("each value was checked by itself")
    }

    /// A problem with the value of `key`, at the place it came from.
    pub fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        let source = self.get(key).map_or(Source::Default, |entry| entry.source.clone());
        Problem { source, key: key.to_string(), message: message.into() }
    }
}

fn read_environment(environment: Environment<'_>) -> Result<Map<String, Value>, Vec<Problem>> {
    let (mut values, mut problems) = (Map::new(), Vec::new());
    for key in Settings::keys() {
        let Some(text) = environment(&variable(&key)) else { continue };
        let value = match key.as_str() {
            "seed" => text.split(',').map(str::trim).collect(),
            _ => Value::String(text),
        };
        match Settings::check(&key, &value) {
            Ok(()) => drop(values.insert(key, value)),
            Err(error) => {
                let source = Source::Environment(variable(&key));
                problems.push(Problem { source, key, message: error.to_string() });
            }
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};
    use std::path::Path;

    fn flags(args: &[&str]) -> Settings {
        let command = Settings::augment_args(clap::Command::new("slotgate").no_binary_name(true));
        Settings::from_arg_matches(&command.try_get_matches_from(args).unwrap()).unwrap()
    }

    fn toml(text: &str) -> File {
        File::parse(Path::new("s.toml"), text).unwrap()
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        let file = toml("hold = \"1s\"\nrefresh = \"1s\"\nrequest-timeout = \"1s\"\n");
        let environment = |name: &str| match name {
            "SLOTGATE_HOLD" | "SLOTGATE_REFRESH" => Some("2s".to_string()),
            _ => None,
        };
        let layers = Layers::gather(&flags(&["--hold", "3s"]), &environment, Some(file)).unwrap();
        let seen = |key: &str| {
            let entry = layers.get(key).unwrap();
            format!("{} {}", entry.value.as_str().unwrap(), entry.source)
        };
        assert_eq!(seen("hold"), "3s flag --hold");
        assert_eq!(seen("refresh"), "2s environment SLOTGATE_REFRESH");
        assert_eq!(seen("request-timeout"), "1s s.toml:3");
        assert_eq!(seen("idle-timeout"), "0s default");
    }

    #[test]
    fn numbers_and_lists_come_from_the_environment_too() {
        let environment = |name: &str| match name {
            "SLOTGATE_WORKERS" => Some("3".to_string()),
            "SLOTGATE_SEED" => Some("a:1, b:2".to_string()),
            _ => None,
        };
        let settings = Layers::gather(&Settings::default(), &environment, None).unwrap().settings();
        assert_eq!(settings.workers.unwrap().0.get(), 3);
        let seeds: Vec<String> = settings.seed.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(seeds, ["a:1", "b:2"]);
    }

    #[test]
    fn every_wrong_variable_is_named() {
        let environment = |name: &str| match name {
            "SLOTGATE_WORKERS" => Some("many".to_string()),
            "SLOTGATE_SEED" => Some("a:1,b".to_string()),
            _ => None,
        };
        let problems = Layers::gather(&Settings::default(), &environment, None).unwrap_err();
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(shown[0].starts_with("environment SLOTGATE_SEED: seed: \"b\" is not HOST:PORT"), "{shown:?}");
        assert!(
            shown[1].starts_with("environment SLOTGATE_WORKERS: workers: not a count: \"many\""),
            "{shown:?}"
        );
    }
}
