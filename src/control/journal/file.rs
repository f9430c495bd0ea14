//! File: a journal in a file, replaced as a whole by each change, so that it is never half written.

use super::{Store, StoreError};
use futures_util::future::{BoxFuture, FutureExt as _};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// A thousand nodes and as many steps stay below a hundredth of it.
const MAX_SIZE: usize = 32 << 20;

/// A journal at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File(pub PathBuf);

impl Store for File {
    fn place(&self) -> String {
        self.0.display().to_string()
    }

    fn load(&self) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        let path = self.0.clone();
        blocking(move || match read(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .boxed()
    }

    fn save(&self, text: String) -> BoxFuture<'_, Result<(), StoreError>> {
        let path = self.0.clone();
        blocking(move || replace(&path, text.as_bytes())).boxed()
    }

    fn limit(&self) -> usize {
        MAX_SIZE
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_SIZE as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes beside the file and renames, each on disk before the next.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    // Two managers by mistake do not write into the same one.
    beside.push(format!(".{}", std::process::id()));
    let mut file = fs::File::create(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

/// Disks may be slow, and others wait for this thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let joined = tokio::task::spawn_blocking(work).await;
    let done = joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    done.map_err(|error| StoreError::Failed(error.to_string()))
}
