//! The manifest of a backup: what was taken when from whom, and by what its files are known. No passwords,
//! no users.
//!
//! Each file has its SHA-256, which any machine can check without slotgate; the RDB's own CRC-64 is checked
//! by the scanner besides, but a server may be told to write none.

use super::source::{Giver, Source};
use crate::control::action::Party;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The manifest's file.
pub const MANIFEST: &str = "manifest.json";
/// The form of the manifest that this version writes and reads.
const FORMAT: u32 = 1;
/// Far more than the manifest of a thousand shards takes.
const MAX_MANIFEST: u64 = 64 << 20;

/// Why a folder holds no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{path} cannot be read: {source}; name the folder that 'slotgate backup' wrote")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {text}; this is no whole backup, use another one")]
    Damaged { path: PathBuf, text: String },
    #[error(
        "{path} has the form {found}, and this version of slotgate reads the form {FORMAT}: use a newer one"
    )]
    OtherForm { path: PathBuf, found: u32 },
}

/// All that is known of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Which version of slotgate took it.
    pub slotgate: String,
    /// RFC 3339, UTC.
    pub began: String,
    pub ended: String,
    pub shards: Vec<ShardEntry>,
}

/// One shard of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShardEntry {
    /// As ranges: `0-5460`.
    pub slots: Vec<String>,
    pub primary: Member,
    pub replicas: Vec<Member>,
    /// Who gave the data.
    pub source: Member,
    pub is_from_replica: bool,
    pub server: String,
    /// What the source used, in bytes.
    pub memory: u64,
    /// The history of writes that the data belongs to, and how far it is in it, in bytes.
    pub replication_id: String,
    pub replication_offset: u64,
    pub file: FileEntry,
}

/// A node as it was then.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    pub id: String,
    pub address: String,
}

/// One file of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    pub name: String,
    pub bytes: u64,
    pub keys: u64,
    /// Libraries of functions.
    pub functions: u64,
    /// The serialized size of the largest value, in bytes.
    pub largest_value: u64,
    pub rdb_version: u16,
    /// As 64 hexadecimal digits.
    pub sha256: String,
}

impl Manifest {
    pub fn new(began: SystemTime, ended: SystemTime, shards: Vec<ShardEntry>) -> Manifest {
        let text = |time| humantime::format_rfc3339_seconds(time).to_string();
        let slotgate = env!("CARGO_PKG_VERSION").to_string();
        Manifest { format: FORMAT, slotgate, began: text(began), ended: text(ended), shards }
    }

    /// As it is written.
    pub fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("texts and numbers can be written as JSON");
        text + "\n"
    }

    /// How many keys the files hold.
    pub fn keys(&self) -> u64 {
        self.shards.iter().map(|shard| shard.file.keys).sum()
    }

    /// How many bytes the files have.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.file.bytes).sum()
    }

    /// Reads the manifest of a folder. That its files are what it says is yet to be checked.
    ///
    /// # Errors
    /// There is none, or it is damaged or of another version.
    pub fn read(dir: &Path) -> Result<Manifest, ManifestError> {
        let path = dir.join(MANIFEST);
        let unreadable = |source| ManifestError::Unreadable { path: path.clone(), source };
        let damaged = |text: String| ManifestError::Damaged { path: path.clone(), text };
        let size = std::fs::metadata(&path).map_err(unreadable)?.len();
        if size > MAX_MANIFEST {
            return Err(damaged(format!("it has {size} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        let form: Form = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if form.format != FORMAT {
            return Err(ManifestError::OtherForm { path, found: form.format });
        }
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        // A name must not lead out of the folder.
        let is_plain =
            |name: &str| !name.is_empty() && !name.contains(['/', '\0']) && name != ".." && name != ".";
        match manifest.shards.iter().find(|shard| !is_plain(&shard.file.name)) {
            Some(shard) => Err(damaged(format!("{:?} is no file's name", shard.file.name))),
            None => Ok(manifest),
        }
    }
}

/// Enough of a manifest to know its form.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

impl ShardEntry {
    /// A shard as one of its givers gave it.
    pub fn new(source: &Source, giver: &Giver, replication: (String, u64), file: FileEntry) -> ShardEntry {
        let (replication_id, replication_offset) = replication;
        ShardEntry {
            slots: source.slots.iter().map(ToString::to_string).collect(),
            primary: member(source.primary),
            replicas: source.replicas.iter().copied().map(member).collect(),
            source: member(giver.node),
            is_from_replica: giver.is_replica,
            server: giver.server.clone(),
            memory: giver.memory,
            replication_id,
            replication_offset,
            file,
        }
    }
}

fn member(party: Party) -> Member {
    Member { id: party.id.to_string(), address: party.addr.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str) -> Manifest {
        let member = Member { id: "07c3".into(), address: "127.0.0.1:7000".into() };
        let file = FileEntry {
            name: name.into(),
            bytes: 100,
            keys: 3,
            functions: 1,
            largest_value: 20,
            rdb_version: 10,
            sha256: "00".repeat(32),
        };
        let shard = ShardEntry {
            slots: vec!["0-16383".into()],
            primary: member.clone(),
            replicas: vec![member.clone()],
            source: member,
            is_from_replica: true,
            server: "redis 7.0.15".into(),
            memory: 1000,
            replication_id: "ab".into(),
            replication_offset: 14,
            file,
        };
        Manifest::new(SystemTime::UNIX_EPOCH, SystemTime::now(), vec![shard])
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let written = manifest("shard-1.rdb");
        std::fs::write(dir.path().join(MANIFEST), written.text()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), written);
        assert_eq!(written.began, "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_manifest_that_is_cut_off_of_another_form_or_leads_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MANIFEST);
        assert!(matches!(Manifest::read(dir.path()), Err(ManifestError::Unreadable { .. })));
        let text = manifest("shard-1.rdb").text();
        for len in 0..text.trim_end().len() {
            std::fs::write(&path, &text[..len]).unwrap();
            assert!(matches!(Manifest::read(dir.path()), Err(ManifestError::Damaged { .. })), "{len}");
        }
        std::fs::write(&path, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
        assert!(matches!(Manifest::read(dir.path()), Err(ManifestError::OtherForm { found: 2, .. })));
        for name in ["", "..", "../x", "/etc/passwd"] {
            std::fs::write(&path, manifest(name).text()).unwrap();
            assert!(matches!(Manifest::read(dir.path()), Err(ManifestError::Damaged { .. })), "{name}");
        }
    }
}
