//! A file of seeds that somebody else may rewrite while we run.

use super::Seed;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt as _;

/// More than ten thousand seeds; a larger file is a mistake.
const MAX_SIZE: u64 = 1 << 20;

/// Why a seed file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeedFileError {
    #[error("cannot read the seed file {0}: {1}")]
    Read(PathBuf, io::Error),
    #[error("line {line} of the seed file {path}: {error}", path = .path.display())]
    Line { path: PathBuf, line: usize, error: super::SeedError },
    #[error("the seed file {0} names no seed")]
    Empty(PathBuf),
    #[error("the seed file {0} is larger than 1 MiB")]
    TooLarge(PathBuf),
}

/// The file and what it held when it was last read.
#[derive(Debug)]
pub struct SeedFile {
    path: PathBuf,
    text: Option<String>,
}

impl SeedFile {
    pub fn new(path: PathBuf) -> SeedFile {
        SeedFile { path, text: None }
    }

    /// Reads the file; gives its seeds when its text is another than at the last read, `None` when
    /// nothing changed. The text is compared, not the time of change, which a mounted volume may
    /// keep. A file that became unreadable or wrong is told once.
    ///
    /// # Errors
    /// The file cannot be read or holds something that is not a seed, or nothing.
    pub async fn read(&mut self) -> Result<Option<Vec<Seed>>, SeedFileError> {
        let read = async {
            let mut text = String::new();
            tokio::fs::File::open(&self.path).await?.take(MAX_SIZE + 1).read_to_string(&mut text).await?;
            io::Result::Ok(text)
        };
        let text = read.await.map_err(|error| SeedFileError::Read(self.path.clone(), error))?;
        if text.len() as u64 > MAX_SIZE {
            return Err(SeedFileError::TooLarge(self.path.clone()));
        }
        if self.text.as_ref() == Some(&text) {
            return Ok(None);
        }
        let seeds = parse_seed_file(&self.path, &text);
        self.text = Some(text);
        seeds.map(Some)
    }
}

/// Reads a seed file's text: one `HOST:PORT` a line; empty lines and what follows a `#` are skipped.
///
/// # Errors
/// The first line that is not a seed, or no seed at all.
pub fn parse_seed_file(path: &Path, text: &str) -> Result<Vec<Seed>, SeedFileError> {
    let mut seeds = Vec::new();
    for (ix, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let wrong = |error| SeedFileError::Line { path: path.to_path_buf(), line: ix + 1, error };
            seeds.push(line.parse().map_err(wrong)?);
        }
    }
    if seeds.is_empty() { Err(SeedFileError::Empty(path.to_path_buf())) } else { Ok(seeds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_are_skipped() {
        let seeds = parse_seed_file(Path::new("s"), "# nodes\n\n a:1 \nb:2 # the second\n").unwrap();
        assert_eq!(seeds, ["a:1".parse().unwrap(), "b:2".parse().unwrap()]);
    }

    #[test]
    fn the_wrong_line_is_named() {
        let error = parse_seed_file(Path::new("s"), "a:1\nb\n").unwrap_err().to_string();
        assert!(error.starts_with("line 2 of the seed file s"), "{error}");
    }

    #[tokio::test]
    async fn only_a_changed_text_gives_seeds_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seeds");
        let mut file = SeedFile::new(path.clone());
        assert!(matches!(file.read().await, Err(SeedFileError::Read(..))));
        std::fs::write(&path, "a:1\n").unwrap();
        assert_eq!(file.read().await.unwrap().map(|seeds| seeds.len()), Some(1));
        assert_eq!(file.read().await.unwrap(), None);
        std::fs::write(&path, "a:1\nb:2\n").unwrap();
        assert_eq!(file.read().await.unwrap().map(|seeds| seeds.len()), Some(2));
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(file.read().await, Err(SeedFileError::Empty(_))));
        assert_eq!(file.read().await.unwrap(), None);
    }
}
