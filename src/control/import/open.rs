//! Opens the source: one server with one database, or all primaries of another cluster.

use super::source::{About, Source, ask};
use super::{ImportError, Settings};
use crate::control::migrate::ready_holders;
use crate::control::node_client::Reply;
use crate::control::observe::observe_cluster;
use crate::topology::SLOTS;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The source, ready to be read.
#[derive(Debug)]
pub(super) struct Opened {
    pub sources: Vec<Source>,
    pub version: String,
    pub database: u32,
    pub keys: u64,
    pub bytes: u64,
    /// How often databases were swapped.
    pub swaps: u64,
}

/// Connects to the source; `ids` are those of the cluster that is imported into.
pub(super) async fn open(settings: &Settings, ids: &[String]) -> Result<Opened, ImportError> {
    let (addr, credentials, limit) = (settings.source, &settings.source_credentials, settings.target.limit);
    let mut first = Source::open(addr, credentials, 0, limit).await?;
    let about = first.about().await?;
    if !about.is_cluster {
        let database = pick(&about, settings.database)?;
        let source = Source::open(addr, credentials, database, limit).await?;
        return Ok(Opened {
            sources: vec![source],
            version: about.version,
            database,
            keys: about.databases.get(&database).copied().unwrap_or(0),
            bytes: about.used_memory,
            swaps: about.swaps,
        });
    }
    let view = observe_cluster(&[addr], credentials, limit).await;
    if view.nodes.iter().any(|node| ids.iter().any(|id| id == node.view.id().as_str())) {
        return Err(ImportError::Itself(addr));
    }
    let holders = ready_holders(&view).map_err(|error| ImportError::SourceCluster(error.to_string()))?;
    let version = about.version;
    let mut opened = Opened { sources: Vec::new(), version, database: 0, keys: 0, bytes: 0, swaps: 0 };
    for holder in holders.iter().filter(|holder| !holder.slots.is_empty()) {
        let mut source = Source::open(holder.node.addr, credentials, 0, limit).await?;
        let mut slots = vec![false; SLOTS];
        holder.slots.iter().flat_map(|range| range.slots()).for_each(|slot| slots[slot.index()] = true);
        source.slots = Some(slots);
        let about = source.about().await?;
        opened.keys += about.databases.get(&0).copied().unwrap_or(0);
        opened.bytes += about.used_memory;
        opened.swaps += about.swaps;
        opened.sources.push(source);
    }
    Ok(opened)
}

/// The database to import.
fn pick(about: &About, wanted: Option<u32>) -> Result<u32, ImportError> {
    match wanted {
        Some(database) => Ok(database),
        None if about.databases.iter().all(|(database, keys)| *database == 0 || *keys == 0) => Ok(0),
        None => Err(ImportError::Databases(about.databases.clone().into_iter().collect())),
    }
}

/// How many of these keys are of which type.
pub(super) async fn count_types(
    source: &mut Source,
    keys: &[Bytes],
) -> Result<BTreeMap<String, u64>, ImportError> {
    let word = Bytes::from_static(b"TYPE");
    let questions: Vec<[Bytes; 2]> = keys.iter().map(|key| [word.clone(), key.clone()]).collect();
    let mut types = BTreeMap::new();
    for reply in ask(&mut source.client, &questions).await.map_err(ImportError::Source)? {
        if let Reply::SimpleString(name) = reply.map_err(ImportError::Source)?
            && name.as_ref() != b"none"
        {
            *types.entry(String::from_utf8_lossy(&name).into_owned()).or_default() += 1;
        }
    }
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_than_0_must_be_chosen() {
        let about = |databases: &[(u32, u64)]| About {
            databases: databases.iter().copied().collect(),
            ..About::default()
        };
        assert_eq!(pick(&about(&[(0, 5)]), None).unwrap(), 0);
        assert_eq!(pick(&about(&[]), None).unwrap(), 0);
        assert!(pick(&about(&[(0, 5), (3, 1)]), None).is_err());
        assert!(pick(&about(&[(3, 1)]), None).is_err());
        assert_eq!(pick(&about(&[(0, 5), (3, 1)]), Some(3)).unwrap(), 3);
    }
}
