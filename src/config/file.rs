//! Reads a settings file, TOML or YAML, and names what is wrong in it by field and line.

use super::Settings;
use super::layers::{Problem, Source};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// A settings file whose keys are known and whose values are well formed, each by itself.
#[derive(Clone, Debug)]
pub struct File {
    pub path: PathBuf,
    /// Name, line and value.
    pub entries: Vec<(String, usize, Value)>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {path}: {error}", path = path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{path}: its name should end in .toml, .yaml or .yml, so that the format is known", path = .0.display())]
    UnknownFormat(PathBuf),
    #[error("{path}:{line}: {message}", path = path.display())]
    Syntax { path: PathBuf, line: usize, message: String },
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Fields(Vec<Problem>),
}

impl File {
    /// Reads and parses the file.
    ///
    /// # Errors
    /// When it cannot be read, is neither TOML nor YAML, or holds a field that is unknown or wrong.
    pub fn read(path: &Path) -> Result<File, FileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| FileError::Unreadable { path: path.to_path_buf(), error })?;
        File::parse(path, &text)
    }

    /// Parses what stands in the file at `path`.
    pub(super) fn parse(path: &Path, text: &str) -> Result<File, FileError> {
        let syntax = |line, message: String| FileError::Syntax { path: path.to_path_buf(), line, message };
        let values: Map<String, Value> = match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => toml::from_str(text).map_err(|error| {
                let start = error.span().map_or(0, |span| span.start.min(text.len()));
                let line = 1 + text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
                syntax(line, error.message().to_string())
            })?,
            Some("yaml" | "yml") => serde_saphyr::from_str(text).map_err(|error| {
                let line = error.location().map_or(1, |location| location.line() as usize);
                syntax(line, error.without_snippet().to_string())
            })?,
            _ => return Err(FileError::UnknownFormat(path.to_path_buf())),
        };
        let keys = Settings::keys();
        let (mut entries, mut problems) = (Vec::new(), Vec::new());
        for (key, value) in values {
            let line = line_of(text, &key);
            let checked = if keys.contains(&key) {
                Settings::check(&key, &value).map_err(|error| error.to_string())
            } else {
                Err(unknown(&key, &keys))
            };
            match checked {
                Ok(()) => entries.push((key, line, value)),
                Err(message) => {
                    let source = Source::File { path: path.to_path_buf(), line };
                    problems.push((line, Problem { source, key, message }));
                }
            }
        }
        problems.sort_by_key(|(line, _)| *line);
        match problems.is_empty() {
            true => Ok(File { path: path.to_path_buf(), entries }),
            false => Err(FileError::Fields(problems.into_iter().map(|(_, problem)| problem).collect())),
        }
    }
}

/// The line on which a key of the top level stands; settings are flat, so the first that begins with
/// it is it.
fn line_of(text: &str, key: &str) -> usize {
    let begins_with_key = |line: &str| {
        let line = line.trim_start().trim_start_matches(['"', '\'', '[']);
        let rest = line.strip_prefix(key).map(|rest| rest.trim_start_matches(['"', '\'']).trim_start());
        rest.is_some_and(|rest| rest.starts_with(['=', ':', '.', ']']))
    };
    text.lines().position(begins_with_key).map_or(1, |ix| ix + 1)
}

fn unknown(key: &str, keys: &[String]) -> String {
    if key == "password" || key == "require-password" {
        return format!(
            "a password does not stand in this file; give {key}-file, or the variable SLOTGATE_…"
        );
    }
    let dashed = key.replace('_', "-");
    let nearest = keys.iter().map(|known| (distance(&dashed, known), known)).min();
    match nearest {
        Some((edits, known)) if edits <= 3 => format!("unknown setting; did you mean {known}?"),
        _ => "unknown setting; slotgate serve --help lists all, by the same names".to_string(),
    }
}

/// How many letters must be changed, added or taken away to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (ix, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], ix + 1);
        for (jx, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[jx + 1];
            row[jx + 1] = changed.min(row[jx] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(name: &str, text: &str) -> String {
        File::parse(Path::new(name), text).unwrap_err().to_string()
    }

    #[test]
    fn toml_and_yaml_say_the_same() {
        let toml = "# all\nworkers = 2\nseed = [\"a:1\", \"b:2\"]\nhold = \"5s\"\noutput-soft-limit = 1024\n";
        let yaml = "# all\nworkers: 2\nseed: [a:1, b:2]\nhold: 5s\noutput-soft-limit: 1024\n";
        let toml = File::parse(Path::new("s.toml"), toml).unwrap();
        let yaml = File::parse(Path::new("s.yaml"), yaml).unwrap();
        assert_eq!(toml.entries, yaml.entries);
        assert_eq!(toml.entries.len(), 4);
        assert!(toml.entries.contains(&("hold".to_string(), 4, "5s".into())));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
        let expected = ":2: max_clents: unknown setting; did you mean max-clients?";
        assert_eq!(error("s.toml", "workers = 1\nmax_clents = 3\n"), format!("s.toml{expected}"));
        assert_eq!(error("s.yaml", "workers: 1\nmax_clents: 3\n"), format!("s.yaml{expected}"));
        assert!(error("s.toml", "[proxy]\nworkers = 3\n").starts_with("s.toml:1: proxy: unknown setting"));
    }

    #[test]
    fn a_password_in_the_file_is_refused_and_not_repeated() {
        let error = error("s.yaml", "password: hunter2\n");
        assert!(error.contains("password-file") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_with_field_and_line() {
        for (name, text) in [("s.toml", "\nhold = \"x\"\n"), ("s.yml", "\nhold: x\n")] {
            assert_eq!(
                error(name, text),
                format!(
                    "{name}:2: hold: not a duration: \"x\" (write a number and a unit, such as 500ms, 10s or 5m)"
                )
            );
        }
        let wrong_type = error("s.toml", "workers = [1]\n");
        assert!(
            wrong_type.starts_with("s.toml:1: workers: invalid type: sequence, expected"),
            "{wrong_type}"
        );
        let not_a_list = error("s.yaml", "seed: a:1\n");
        assert!(
            not_a_list.starts_with("s.yaml:1: seed: invalid type: string \"a:1\", expected a sequence"),
            "{not_a_list}"
        );
    }

    #[test]
    fn all_wrong_fields_are_named_in_the_order_of_their_lines() {
        let error = error("s.toml", "workers = 0\nadmin = \"9121\"\nhold = \"x\"\n");
        let lines: Vec<&str> = error.lines().map(|line| &line[..8]).collect();
        assert_eq!(lines, ["s.toml:1", "s.toml:2", "s.toml:3"]);
    }

    #[test]
    fn what_is_no_toml_or_yaml_is_named_with_its_line() {
        assert!(error("s.toml", "workers = 1\nhold = \n").starts_with("s.toml:2: "));
        assert!(error("s.toml", "workers = 1\nworkers = 2\n").starts_with("s.toml:2: duplicate key"));
        assert!(error("s.yaml", "workers: 1\nworkers: 2\n").starts_with("s.yaml:2: "));
        assert!(error("s.yaml", "- a\n").starts_with("s.yaml:1: "));
        assert!(error("s.ini", "").contains("should end in .toml"));
    }

    #[test]
    fn an_empty_file_says_nothing() {
        for name in ["s.toml", "s.yaml"] {
            assert!(File::parse(Path::new(name), "# nothing\n").unwrap().entries.is_empty());
        }
    }
}
