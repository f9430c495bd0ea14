//! Where a password comes from: its variable or the file that a setting names, whichever stands
//! higher. Never from a flag, never shown.

use super::layers::{Entry, Environment, Layers, Problem, Source, variable};
use crate::secret::Secret;
use std::path::PathBuf;

/// Where a password is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// In this environment variable.
    Variable(String),
    /// In this file.
    File(PathBuf),
}

/// Finds the password called `key` (`password`, `require-password`) without reading it.
///
/// # Errors
/// When the environment names it twice, or its variable is empty.
pub fn locate(layers: &Layers, environment: Environment<'_>, key: &str) -> Result<Option<Place>, Problem> {
    let file_key = format!("{key}-file");
    let file = layers.get(&file_key);
    let name = variable(key);
    let problem = |message: &str| Problem {
        source: Source::Environment(name.clone()),
        key: key.to_string(),
        message: message.to_string(),
    };
    let is_flag = matches!(file, Some(Entry { source: Source::Flag(_), .. }));
    if let Some(text) = environment(&name).filter(|_| !is_flag) {
        if matches!(file, Some(Entry { source: Source::Environment(_), .. })) {
            return Err(problem(&format!("both {name} and {} are set; keep one", variable(&file_key))));
        }
        // An empty one is more likely a mistake than the wish to let everybody in.
        if text.is_empty() {
            return Err(problem("it is empty; unset it, or put the password into it"));
        }
        return Ok(Some(Place::Variable(name)));
    }
    Ok(file.and_then(|entry| entry.value.as_str()).map(|path| Place::File(path.into())))
}

/// Reads the password called `key`; `None` when there is none.
///
/// # Errors
/// Those of [`locate`], and a file that cannot be read or holds nothing.
pub fn read(layers: &Layers, environment: Environment<'_>, key: &str) -> Result<Option<Secret>, Problem> {
    match locate(layers, environment, key)? {
        None => Ok(None),
        Some(Place::Variable(name)) => Ok(environment(&name).map(Secret::new)),
        Some(Place::File(path)) => Secret::read(&path)
            .map(Some)
            .map_err(|error| layers.problem(&format!("{key}-file"), format!("{}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{File, Settings};
    use super::*;

    fn layers(flags: &Settings, file: &str, environment: Environment<'_>) -> Layers {
        let file = File::parse(std::path::Path::new("s.toml"), file).unwrap();
        Layers::gather(flags, environment, Some(file)).unwrap()
    }

    const FILE: &str = "password-file = \"/in/file\"\n";

    #[test]
    fn the_variable_beats_the_files_setting_and_a_flag_beats_both() {
        let environment: Environment<'_> =
            &|name| (name == "SLOTGATE_PASSWORD").then(|| "hunter2".to_string());
        let below = layers(&Settings::default(), FILE, environment);
        assert_eq!(
            locate(&below, environment, "password").unwrap(),
            Some(Place::Variable("SLOTGATE_PASSWORD".to_string()))
        );
        assert_eq!(read(&below, environment, "password").unwrap(), Some(Secret::new("hunter2")));

        let flags = Settings { password_file: Some("/in/flag".into()), ..Settings::default() };
        let above = layers(&flags, FILE, environment);
        assert_eq!(locate(&above, environment, "password").unwrap(), Some(Place::File("/in/flag".into())));
    }

    #[test]
    fn a_password_is_read_from_the_file_that_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from-file\n").unwrap();
        let layers = layers(&Settings::default(), &format!("password-file = {:?}\n", file.path()), &|_| None);
        assert_eq!(read(&layers, &|_| None, "password").unwrap(), Some(Secret::new("from-file")));
        assert_eq!(read(&layers, &|_| None, "require-password").unwrap(), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_the_line_that_names_it() {
        let layers = layers(&Settings::default(), FILE, &|_| None);
        let problem = read(&layers, &|_| None, "password").unwrap_err().to_string();
        assert!(
            problem.starts_with("s.toml:1: password-file: /in/file: cannot read it: No such file"),
            "{problem}"
        );
    }

    #[test]
    fn an_empty_or_doubled_variable_is_refused() {
        let empty: Environment<'_> = &|name| (name == "SLOTGATE_REQUIRE_PASSWORD").then(String::new);
        let problem =
            locate(&layers(&Settings::default(), "", empty), empty, "require-password").unwrap_err();
        assert!(problem.to_string().contains("SLOTGATE_REQUIRE_PASSWORD: require-password: it is empty"));
        let both: Environment<'_> = &|name| name.starts_with("SLOTGATE_PASSWORD").then(|| "/x".to_string());
        let problem = locate(&layers(&Settings::default(), "", both), both, "password").unwrap_err();
        assert!(problem.to_string().contains("both SLOTGATE_PASSWORD and SLOTGATE_PASSWORD_FILE are set"));
    }
}
