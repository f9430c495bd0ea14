//! A password that does not show itself: not in a log, not in an error, not in printed settings.
//!
//! It comes from a file or the environment, never from the command line, where others can read it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A secret's bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

/// A file that gives no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read it: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("it is empty; write the password into it, on one line")]
    Empty,
}

impl Secret {
    /// A secret of these bytes.
    pub fn new(bytes: impl AsRef<[u8]>) -> Secret {
        Secret(bytes.as_ref().into())
    }

    /// The secret that `path` holds: its content without the line end that editors append.
    ///
    /// # Errors
    /// When the file cannot be read or holds nothing.
    pub fn read(path: &Path) -> Result<Secret, SecretError> {
        let content = std::fs::read(path)?;
        let line = content.strip_suffix(b"\n").unwrap_or(&content);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() { Err(SecretError::Empty) } else { Ok(Secret::new(line)) }
    }

    /// The bytes, to be sent or compared and nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `given` is this secret, in a time that does not tell how much of it is right.
    pub fn matches(&self, given: &[u8]) -> bool {
        let differing = self.0.iter().zip(given).fold(0, |bits, (ours, theirs)| bits | (ours ^ theirs));
        std::hint::black_box(differing) == 0 && self.0.len() == given.len()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "(secret)");
    }

    #[test]
    fn only_the_whole_secret_matches() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches(b"hunter2"));
        for wrong in ["", "hunter", "hunter22", "Hunter2"] {
            assert!(!secret.matches(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_files_last_line_end_is_no_part_of_the_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "  pass word \r\n").unwrap();
        assert_eq!(Secret::read(file.path()).unwrap(), Secret::new("  pass word "));
        std::fs::write(file.path(), "\n").unwrap();
        assert!(matches!(Secret::read(file.path()), Err(SecretError::Empty)));
    }
}
