//! What an import has brought, on disk: the next run goes on where this one was cut short, takes its keys
//! for no one else's, and removes those that the source has lost meanwhile, and only those.
//!
//! One file: a line of JSON that says what is imported into what, then eight bytes for each key, a part
//! of its SHA-1. A key is noted before it is brought.

use rustc_hash::FxHashSet;
use sha1::{Digest as _, Sha1};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// What is imported into what.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Label {
    /// The source as it was named, with its database.
    pub source: String,
    /// The ids of the cluster's nodes; one in common is enough, as nodes come and go.
    pub cluster: Vec<String>,
}

impl Label {
    fn fits(&self, other: &Label) -> bool {
        self.source == other.source && self.cluster.iter().any(|id| other.cluster.contains(id))
    }
}

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum BroughtError {
    #[error("cannot use {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{} belongs to another import (of {source_name}): name another file with --state, or delete it",
        path.display()
    )]
    Other { path: PathBuf, source_name: String },
    #[error("{} is not the file of an import: name another one with --state", path.display())]
    Foreign { path: PathBuf },
}

/// The notes of one import.
#[derive(Debug)]
pub struct Brought {
    path: PathBuf,
    file: File,
    /// All notes; about sixteen bytes of memory for a key.
    marks: FxHashSet<u64>,
}

impl Brought {
    /// The notes of an earlier run of the same import, if there are any.
    ///
    /// # Errors
    /// The file cannot be read, or belongs to something else.
    pub fn resume(path: &Path, label: &Label) -> Result<Option<Brought>, BroughtError> {
        let io = |source| BroughtError::Io { path: path.into(), source };
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(io)?,
        };
        let mut line = Vec::new();
        BufReader::new(&file).take(1 << 20).read_until(b'\n', &mut line).map_err(io)?;
        let written: Label =
            serde_json::from_slice(&line).map_err(|_| BroughtError::Foreign { path: path.into() })?;
        if !written.fits(label) {
            return Err(BroughtError::Other { path: path.into(), source_name: written.source });
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(line.len() as u64)).map_err(io)?;
        file.read_to_end(&mut bytes).map_err(io)?;
        let (notes, rest) = bytes.as_chunks::<8>();
        let marks = notes.iter().map(|note| u64::from_le_bytes(*note)).collect();
        // A note that was cut short was of a key that was not brought.
        let end = (line.len() + bytes.len() - rest.len()) as u64;
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(io)?;
        Ok(Some(Brought { path: path.into(), file, marks }))
    }

    /// Begins the notes of a new import.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(path: &Path, label: &Label) -> Result<Brought, BroughtError> {
        let io = |source| BroughtError::Io { path: path.into(), source };
        let mut line = serde_json::to_vec(label).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(io)?;
        file.write_all(&line).and_then(|()| file.sync_all()).map_err(io)?;
        Ok(Brought { path: path.into(), file, marks: FxHashSet::default() })
    }

    /// Notes keys that are about to be brought.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note<'a>(&mut self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<(), BroughtError> {
        let new = keys.into_iter().map(mark).filter(|mark| self.marks.insert(*mark));
        let bytes: Vec<u8> = new.flat_map(u64::to_le_bytes).collect();
        self.file.write_all(&bytes).map_err(|source| BroughtError::Io { path: self.path.clone(), source })
    }

    /// Whether the key was brought; one in 10^19 others may look like one that was.
    pub fn has(&self, key: &[u8]) -> bool {
        self.marks.contains(&mark(key))
    }

    /// The import is complete: nothing is to be gone on with.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn end(self) -> Result<(), BroughtError> {
        std::fs::remove_file(&self.path).map_err(|source| BroughtError::Io { path: self.path, source })
    }
}

fn mark(key: &[u8]) -> u64 {
    let digest = Sha1::digest(key);
    let mut eight = [0; 8];
    eight.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(source: &str, ids: &[&str]) -> Label {
        Label { source: source.into(), cluster: ids.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn notes_survive_a_run_that_was_cut_short_in_the_middle_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let ours = label("a:1", &["x", "y"]);
        assert!(Brought::resume(&path, &ours).unwrap().is_none());
        let mut brought = Brought::begin(&path, &ours).unwrap();
        brought.note([&b"one"[..], b"two"]).unwrap();
        drop(brought);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"cut").unwrap();

        let mut brought = Brought::resume(&path, &label("a:1", &["y", "z"])).unwrap().unwrap();
        for _ in 0..3 {
            brought.note([&b"three"[..]]).unwrap();
        }
        drop(brought);
        let brought = Brought::resume(&path, &ours).unwrap().unwrap();
        assert_eq!(brought.marks.len(), 3);
        assert!([&b"one"[..], b"two", b"three"].iter().all(|key| brought.has(key)) && !brought.has(b"four"));
        brought.end().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn notes_of_another_import_are_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        drop(Brought::begin(&path, &label("a:1", &["x"])).unwrap());
        for other in [label("b:1", &["x"]), label("a:1", &["z"])] {
            assert!(matches!(Brought::resume(&path, &other), Err(BroughtError::Other { .. })));
        }
        std::fs::write(&path, "something of a person").unwrap();
        assert!(matches!(Brought::resume(&path, &label("a:1", &["x"])), Err(BroughtError::Foreign { .. })));
        assert!(Brought::begin(&path, &label("a:1", &["x"])).is_err(), "no file is overwritten");
    }
}
