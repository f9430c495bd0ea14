//! The source's functions, which are no keys: copied whole to every primary
//! (<https://redis.io/docs/latest/commands/function-restore/>).

use super::ImportError;
use super::run::Import;
use crate::control::node_client::{NodeClient, NodeError, Reply};
use bytes::Bytes;

impl Import {
    /// Brings the functions, where the source has any and they changed since this was done last.
    pub(super) async fn bring_functions(&mut self) -> Result<(), ImportError> {
        let Some(functions) = dump(&mut self.sources[0].client).await.map_err(ImportError::Source)? else {
            return Ok(());
        };
        if self.functions.as_ref() == Some(&functions) {
            return Ok(());
        }
        // Those that this import brought it may replace.
        let may_replace = self.settings.may_replace || self.functions.is_some() || self.is_resumed;
        for addr in self.loader.primaries() {
            let client = self.target.client(addr).await.map_err(ImportError::Target)?;
            let word = Bytes::from_static;
            let policy = if may_replace { word(b"REPLACE") } else { word(b"APPEND") };
            let restore = [word(b"FUNCTION"), word(b"RESTORE"), functions.clone(), policy];
            match client.call(&restore).await {
                Ok(_) => {}
                Err(NodeError::Refused { text, .. }) if text.contains("already exists") => {
                    let theirs = dump(client).await.map_err(ImportError::Target)?;
                    if theirs.as_ref() != Some(&functions) {
                        return Err(ImportError::Functions { text });
                    }
                }
                Err(error) => return Err(ImportError::Target(error)),
            }
        }
        self.functions = Some(functions);
        Ok(())
    }
}

/// All functions of a server; `None` where it has none, or is older than functions, or tells nobody.
async fn dump(client: &mut NodeClient) -> Result<Option<Bytes>, NodeError> {
    match client.call(&["FUNCTION", "LIST"]).await {
        Ok(Reply::Array(functions)) if !functions.is_empty() => {}
        Ok(_) | Err(NodeError::Refused { .. }) => return Ok(None),
        Err(error) => return Err(error),
    }
    match client.call(&["FUNCTION", "DUMP"]).await? {
        Reply::BulkString(functions) => Ok(Some(functions)),
        _ => Ok(None),
    }
}
