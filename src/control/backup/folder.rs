//! The folder of a backup: files under temporary names until they are whole, readable by their owner only.
//!
//! Until the manifest is in place, whatever was written is removed when the folder is let go.

use super::manifest::{MANIFEST, Manifest};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Why a folder cannot take a backup.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{0} holds a backup already: choose another folder")]
    HasBackup(PathBuf),
    #[error("{0} is not empty, and holds no whole backup: empty it, or choose another folder")]
    NotEmpty(PathBuf),
    #[error("cannot use the folder {path}: {source}")]
    Unusable { path: PathBuf, source: io::Error },
    #[error(
        "cannot write {path}: {source}. There is no backup; what was written of it has been removed. Make room, or \
         choose another folder"
    )]
    Write { path: PathBuf, source: io::Error },
}

/// A folder that a backup is being written to.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    is_new: bool,
    /// What was written so far.
    written: Mutex<Vec<PathBuf>>,
    is_finished: AtomicBool,
}

impl Folder {
    /// A new folder, or one that is empty.
    ///
    /// # Errors
    /// There is something in it, or it cannot be made.
    pub fn open(path: &Path) -> Result<Folder, FolderError> {
        let unusable = |source| FolderError::Unusable { path: path.to_path_buf(), source };
        let is_new = !path.exists();
        if is_new {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        }
        if path.join(MANIFEST).exists() {
            return Err(FolderError::HasBackup(path.to_path_buf()));
        }
        if fs::read_dir(path).map_err(unusable)?.next().is_some() {
            return Err(FolderError::NotEmpty(path.to_path_buf()));
        }
        let path = path.to_path_buf();
        Ok(Folder { path, is_new, written: Mutex::default(), is_finished: AtomicBool::new(false) })
    }

    /// A file of this name, under a temporary one.
    pub fn create(&self, name: &str) -> Result<Part, FolderError> {
        let path = self.path.join(format!("{name}.part"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| FolderError::Write { path: path.clone(), source })?;
        self.note(path.clone());
        Ok(Part { file, path, whole: self.path.join(name) })
    }

    /// Puts a whole file into its place, on the disk for good.
    pub fn keep(&self, part: Part) -> Result<(), FolderError> {
        let write = |path: &Path, source| FolderError::Write { path: path.to_path_buf(), source };
        part.file.sync_all().map_err(|source| write(&part.path, source))?;
        self.note(part.whole.clone());
        fs::rename(&part.path, &part.whole).map_err(|source| write(&part.whole, source))
    }

    /// Makes a backup of what was written.
    pub fn finish(&self, manifest: &Manifest) -> Result<(), FolderError> {
        let mut part = self.create(MANIFEST)?;
        part.write(manifest.text().as_bytes())?;
        self.keep(part)?;
        // The names are on the disk only with the folder.
        let sync = File::open(&self.path).and_then(|folder| folder.sync_all());
        sync.map_err(|source| FolderError::Write { path: self.path.clone(), source })?;
        self.is_finished.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn note(&self, path: PathBuf) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push(path);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_finished.load(Ordering::Relaxed) {
            return;
        }
        // Of a file under its whole name, the temporary one is gone.
        for path in self.written.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = fs::remove_file(path);
        }
        if self.is_new {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// A file that is not whole yet.
#[derive(Debug)]
pub struct Part {
    file: File,
    path: PathBuf,
    whole: PathBuf,
}

impl Part {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FolderError> {
        self.file.write_all(bytes).map_err(|source| FolderError::Write { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::SystemTime;

    fn manifest() -> Manifest {
        Manifest::new(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH, Vec::new())
    }

    #[test]
    fn what_is_not_finished_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("new"), dir.path().join("old"));
        fs::create_dir(&other).unwrap();
        for path in [&path, &other] {
            let folder = Folder::open(path).unwrap();
            let mut part = folder.create("a.rdb").unwrap();
            part.write(b"bytes").unwrap();
            folder.keep(part).unwrap();
            let _unfinished = folder.create("b.rdb").unwrap();
            assert_eq!(fs::read_dir(path).unwrap().count(), 2);
        }
        assert!(!path.exists(), "a folder of ours goes, too");
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    }

    #[test]
    fn what_is_finished_stays_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let folder = Folder::open(&path).unwrap();
        folder.keep(folder.create("a.rdb").unwrap()).unwrap();
        folder.finish(&manifest()).unwrap();
        drop(folder);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!((mode(&path.join("a.rdb")), mode(&path.join(MANIFEST))), (0o600, 0o600));
        assert!(matches!(Folder::open(&path), Err(FolderError::HasBackup(_))));
        fs::remove_file(path.join(MANIFEST)).unwrap();
        assert!(matches!(Folder::open(&path), Err(FolderError::NotEmpty(_))));
    }
}
