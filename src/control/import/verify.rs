//! The last word: every key of the source is compared with what the cluster has.
//!
//! A key that is written meanwhile differs for a moment and proves nothing: it is brought again and
//! compared again.

use super::compare::Difference;
use super::run::Import;
use super::source::Cursor;
use super::{Event, ImportError};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::sleep;

/// How often keys that differ are looked at again.
const ROUNDS: usize = 3;
const PAUSE: Duration = Duration::from_millis(100);
/// How many keys that differ are looked at again, and shown.
const KEPT: usize = 100_000;
const SHOWN: usize = 20;

/// What comparing gave.
#[derive(Clone, Default, Debug)]
pub struct Verification {
    /// How many keys of the source were looked at.
    pub keys: u64,
    /// How many are the same in the cluster, value and expiry.
    pub same: u64,
    /// How many of a module's type are there and could not be compared.
    pub unclear: u64,
    /// How many were written again and again, so that they could not be compared.
    pub changing: u64,
    /// How many differ, and the first of them.
    pub differing: u64,
    pub examples: Vec<(Bytes, Difference)>,
}

impl Import {
    pub(super) async fn verify(&mut self, tell: &mut impl FnMut(Event)) -> Result<Verification, ImportError> {
        let mut found = Verification::default();
        let each = match self.settings.sample {
            Some(sample) => (self.count_keys().await / sample.max(1)).max(1),
            None => 1,
        };
        let mut seen = 0u64;
        for at in 0..self.sources.len() {
            let mut cursor = Cursor::default();
            let mut doubtful = Vec::new();
            loop {
                self.check_stop()?;
                let (mut keys, next) = self.next_keys(at, cursor).await?;
                keys.retain(|_| {
                    seen += 1;
                    seen.is_multiple_of(each)
                });
                found.keys += keys.len() as u64;
                let count = keys.len() as u64;
                let compared = self.compare(at, keys).await?;
                tell(Event::Step { keys: count, bytes: 0 });
                found.same += compared.same;
                found.unclear += compared.unclear;
                doubtful.extend(compared.differing);
                cursor = next;
                // So many do not differ because somebody writes.
                if cursor.is_end() || doubtful.len() > KEPT {
                    break;
                }
            }
            self.look_again(at, doubtful, &mut found, tell).await?;
        }
        Ok(found)
    }

    async fn look_again(
        &mut self,
        at: usize,
        mut doubtful: Vec<(Bytes, Difference)>,
        found: &mut Verification,
        tell: &mut impl FnMut(Event),
    ) -> Result<(), ImportError> {
        for round in 0..ROUNDS {
            if doubtful.is_empty() {
                return Ok(());
            }
            // What consumer groups do to a stream is told by nobody.
            let streams = doubtful.iter().map(|(key, _)| key).filter(|key| self.streams.contains(*key));
            let streams: Vec<Bytes> = streams.cloned().collect();
            self.sources[at].add(streams);
            self.bring_all_written(tell).await?;
            let keys: Vec<Bytes> = doubtful.drain(..).map(|(key, _)| key).collect();
            let compared = self.compare(at, keys).await?;
            found.same += compared.same;
            found.unclear += compared.unclear;
            self.sources[at].catch_up().await?;
            for (key, how) in compared.differing {
                match self.sources[at].is_waiting(&key) {
                    true if round + 1 == ROUNDS => found.changing += 1,
                    _ => doubtful.push((key, how)),
                }
            }
            sleep(PAUSE).await;
        }
        found.differing += doubtful.len() as u64;
        doubtful.truncate(SHOWN.saturating_sub(found.examples.len()));
        found.examples.append(&mut doubtful);
        Ok(())
    }
}
