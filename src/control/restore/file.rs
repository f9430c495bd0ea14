//! One file of a backup, read from end to end and compared with what the manifest says of it.

use crate::control::backup::FileEntry;
use crate::control::rdb::{Item, Keep, RdbError, Scanner};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// How much is read at once.
const PIECE: usize = 256 << 10;

/// Why a file is not the one that was taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{path} of the backup is missing: put it back, or use another backup")]
    Missing { path: PathBuf },
    #[error("{path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{path} has {found} bytes and not {wanted}, as its manifest says: use another copy of the backup"
    )]
    OtherSize { path: PathBuf, found: u64, wanted: u64 },
    #[error("{path} is damaged: its SHA-256 is not that of the manifest; use another copy of the backup")]
    OtherHash { path: PathBuf },
    #[error("{path} cannot be used: {source}")]
    Rdb { path: PathBuf, source: RdbError },
    #[error(
        "{path} holds {found} keys and not {wanted}, as its manifest says: use another copy of the backup"
    )]
    OtherCount { path: PathBuf, found: u64, wanted: u64 },
}

/// Gives all items of a file to `take`, and to `tell` how many bytes more were read, until one of them says
/// that it wants no more; then, what is left is not checked.
pub fn read(
    dir: &Path,
    entry: &FileEntry,
    keep: Keep,
    mut tell: impl FnMut(u64) -> bool,
    mut take: impl FnMut(Item) -> bool,
) -> Result<(), FileError> {
    let path = dir.join(&entry.name);
    let unreadable = |source| FileError::Unreadable { path: path.clone(), source };
    let rdb = |source| FileError::Rdb { path: path.clone(), source };
    let mut file = File::open(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing { path: path.clone() },
        _ => FileError::Unreadable { path: path.clone(), source },
    })?;
    let found = file.metadata().map_err(unreadable)?.len();
    if found != entry.bytes {
        return Err(FileError::OtherSize { path, found, wanted: entry.bytes });
    }
    let (mut scanner, mut hash, mut keys) = (Scanner::new(keep), Sha256::new(), 0);
    // A damaged file is told by its hash, whatever else the damage does to it.
    let mut problem: Option<RdbError> = None;
    let mut piece = vec![0; PIECE];
    loop {
        let len = file.read(&mut piece).map_err(unreadable)?;
        if len == 0 {
            break;
        }
        hash.update(&piece[..len]);
        if !tell(len as u64) {
            return Ok(());
        }
        let mut rest = &piece[..len];
        while problem.is_none() {
            match scanner.advance(&mut rest) {
                Ok(None) => break,
                Ok(Some(item)) => {
                    keys += u64::from(matches!(item, Item::Key(_)));
                    if !take(item) {
                        return Ok(());
                    }
                }
                Err(error) => problem = Some(error),
            }
        }
    }
    let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if sha256 != entry.sha256 {
        return Err(FileError::OtherHash { path });
    }
    problem.map_or_else(|| scanner.finish(), Err).map_err(rdb)?;
    if keys != entry.keys {
        return Err(FileError::OtherCount { path, found: keys, wanted: entry.keys });
    }
    Ok(())
}
