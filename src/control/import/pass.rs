//! Passes over keys: bring them, bring again what was written, compare and mend, remove what the source has
//! lost.
//!
//! All of it goes through one hand, key by key in turns: within a turn no key comes twice, and a turn ends
//! when the cluster has it all, so an older value never overtakes a newer one.

use super::compare::{Difference, Verdict, is_stream, judge, same_content};
use super::run::Import;
use super::source::Cursor;
use super::{Event, ImportError};
use crate::control::loader::Item;
use crate::control::node_client::NodeError;
use crate::topology::Slot;
use bytes::Bytes;
use std::collections::HashSet;

/// How many keys a turn has, at least where there are more.
const TURN: usize = 5_000;

/// How far a walk over all keys of all sources has come.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The source it is at.
    at: usize,
    /// The next keys of that source.
    cursor: Cursor,
}

/// What comparing some keys gave.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub same: u64,
    pub differing: Vec<(Bytes, Difference)>,
    /// Only their types could be compared.
    pub unclear: u64,
}

impl Import {
    /// Brings every key of every source, and meanwhile those that are written.
    pub(super) async fn bring_all(&mut self, tell: &mut impl FnMut(Event)) -> Result<(), ImportError> {
        let mut walk = Walk::default();
        while let Some((at, keys)) = self.next_turn(&mut walk).await? {
            self.bring_written(at, tell).await?;
            self.bring(at, keys, false, tell).await?;
        }
        Ok(())
    }

    /// Compares every key, and has those copied again that differ; then looks for keys that were brought
    /// and that the source has lost meanwhile.
    pub(super) async fn mend_all(&mut self, tell: &mut impl FnMut(Event)) -> Result<(), ImportError> {
        let mut walk = Walk::default();
        while let Some((at, keys)) = self.next_turn(&mut walk).await? {
            self.bring_written(at, tell).await?;
            let count = keys.len() as u64;
            let compared = self.compare(at, keys).await?;
            tell(Event::Step { keys: count - compared.differing.len() as u64, bytes: 0 });
            self.sources[at].add(compared.differing.into_iter().map(|(key, _)| key));
        }
        self.sweep().await?;
        self.bring_all_written(tell).await
    }

    /// The keys of the next turn and their source; `None` when the walk has been at every key of every source.
    pub(super) async fn next_turn(
        &mut self,
        walk: &mut Walk,
    ) -> Result<Option<(usize, Vec<Bytes>)>, ImportError> {
        let at = walk.at;
        if at == self.sources.len() {
            return Ok(None);
        }
        self.check_stop()?;
        let (keys, next) = self.next_keys(at, std::mem::take(&mut walk.cursor)).await?;
        if next.is_end() {
            walk.at += 1;
        }
        walk.cursor = next;
        Ok(Some((at, keys)))
    }

    /// Has keys looked at again that were brought and that the source has no more.
    async fn sweep(&mut self) -> Result<(), ImportError> {
        for addr in self.loader.primaries() {
            let mut cursor = Cursor::default();
            loop {
                let (next, mut keys) = self.target.list(addr, &cursor).await?;
                keys.retain(|key| self.is_ours(key));
                for source in &mut self.sources {
                    let ours: Vec<Bytes> =
                        keys.iter().filter(|key| source.has_slot_of(key)).cloned().collect();
                    let gone = source.missing(ours).await?;
                    // Not deleted here: the source may get them back, and then the later word counts.
                    source.add(gone);
                }
                cursor = next;
                if cursor.is_end() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The keys of one turn.
    pub(super) async fn next_keys(
        &mut self,
        at: usize,
        mut cursor: Cursor,
    ) -> Result<(Vec<Bytes>, Cursor), ImportError> {
        let source = &mut self.sources[at];
        let mut keys = HashSet::new();
        loop {
            let (next, listed) = source.list(&cursor).await?;
            keys.extend(listed.into_iter().filter(|key| source.has_slot_of(key)));
            cursor = next;
            if cursor.is_end() || keys.len() >= TURN {
                return Ok((keys.into_iter().collect(), cursor));
            }
        }
    }

    /// Brings keys as they are now; those that are no more are removed from the cluster, if they were
    /// brought. No key may come twice. `is_again` when they were counted before.
    pub(super) async fn bring(
        &mut self,
        at: usize,
        keys: Vec<Bytes>,
        is_again: bool,
        tell: &mut impl FnMut(Event),
    ) -> Result<(), ImportError> {
        self.check_new(at, &keys).await?;
        for (group, bytes) in self.sources[at].weigh(keys).await? {
            let values = self.sources[at].values(&group, bytes).await?;
            if let Some(brought) = &mut self.brought {
                let present = group.iter().zip(&values).filter(|(_, value)| value.is_some());
                brought.note(present.map(|(key, _)| key.as_ref()))?;
            }
            let mut bytes = 0;
            let count = group.len() as u64;
            for (key, value) in group.into_iter().zip(values) {
                match value {
                    Some(value) => {
                        bytes += value.payload.len() as u64;
                        if is_stream(&value.payload) {
                            self.streams.insert(key.clone());
                        }
                        let (expiry, payload) = (value.expiry, value.payload);
                        self.loader.restore(Item { key, expiry, payload }).await?;
                    }
                    // A name that was never here may be someone else's: the source tells what is written in
                    // all its databases.
                    None if self.is_ours(&key) => self.loader.delete(key).await?,
                    None => {}
                }
            }
            tell(Event::Step { keys: if is_again { 0 } else { count }, bytes });
        }
        Ok(self.loader.flush().await?)
    }

    /// Refuses names that the source has only now and that someone else has in the cluster.
    async fn check_new(&mut self, at: usize, keys: &[Bytes]) -> Result<(), ImportError> {
        if self.settings.may_replace || self.outlook.target_keys == 0 {
            return Ok(());
        }
        let new = keys.iter().filter(|key| !self.is_ours(key)).cloned().collect();
        let present = self.target.present(&mut self.loader, new).await?;
        let compared = self.compare(at, present).await?;
        let taken = compared.differing.into_iter().filter(|(_, how)| *how != Difference::Extra);
        let examples: Vec<Bytes> = taken.map(|(key, _)| key).collect();
        if examples.is_empty() {
            return Ok(());
        }
        Err(ImportError::Conflicts { count: examples.len() as u64, examples })
    }

    /// Whether the key was brought by this import.
    fn is_ours(&self, key: &[u8]) -> bool {
        self.brought.as_ref().is_some_and(|brought| brought.has(key))
    }

    /// Brings once what was written to one source; says how many keys that were.
    pub(super) async fn bring_written(
        &mut self,
        at: usize,
        tell: &mut impl FnMut(Event),
    ) -> Result<usize, ImportError> {
        let keys = self.sources[at].take_written(TURN);
        let count = keys.len();
        if count > 0 {
            self.bring(at, keys, true, tell).await?;
        }
        Ok(count)
    }

    /// Brings what was written before this call to all sources.
    pub(super) async fn bring_all_written(
        &mut self,
        tell: &mut impl FnMut(Event),
    ) -> Result<(), ImportError> {
        for at in 0..self.sources.len() {
            self.sources[at].catch_up().await?;
            // What is written while this goes on need not be waited for.
            let mut left = self.sources[at].waiting();
            while left > 0 {
                let brought = self.bring_written(at, tell).await?;
                left = if brought == 0 { 0 } else { left.saturating_sub(brought) };
            }
        }
        Ok(())
    }

    /// Compares keys of a source with what the cluster has.
    pub(super) async fn compare(&mut self, at: usize, keys: Vec<Bytes>) -> Result<Compared, ImportError> {
        let mut compared = Compared::default();
        for (group, bytes) in self.sources[at].weigh(keys).await? {
            let ours = self.sources[at].values(&group, bytes).await?;
            let theirs = self.target.values(&mut self.loader, group.clone(), bytes).await?;
            for (key, ours) in group.into_iter().zip(ours) {
                if ours.as_ref().is_some_and(|value| is_stream(&value.payload)) {
                    self.streams.insert(key.clone());
                }
                match judge(ours.as_ref(), theirs.get(&key)) {
                    Verdict::Same => compared.same += 1,
                    Verdict::Differs(how) => compared.differing.push((key, how)),
                    Verdict::Unclear => match self.same_content(at, &key).await? {
                        Some(true) => compared.same += 1,
                        Some(false) => compared.differing.push((key, Difference::Value)),
                        None => compared.unclear += 1,
                    },
                }
            }
        }
        Ok(compared)
    }

    async fn same_content(&mut self, at: usize, key: &Bytes) -> Result<Option<bool>, ImportError> {
        let owner = self.loader.owner(Slot::of_key(key));
        let theirs = self.target.client(owner).await.map_err(ImportError::Target)?;
        match same_content(&mut self.sources[at].client, theirs, key).await {
            Ok(is_same) => Ok(is_same),
            // Its slot is on its way to another node: compared again, it is found there.
            Err(NodeError::Refused { addr, .. }) if addr == owner => Ok(Some(false)),
            Err(error) if error.addr() == owner => Err(ImportError::Target(error)),
            Err(error) => Err(ImportError::Source(error)),
        }
    }

    pub(super) fn check_stop(&self) -> Result<(), ImportError> {
        if self.settings.stop.is_requested() { Err(ImportError::Stopped) } else { Ok(()) }
    }
}
