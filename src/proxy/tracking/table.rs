//! Which clients have read which keys and are to be told when these change. Pure.

use crate::proxy::flight::SessionKey;
use crate::proxy::pipeline::Ticket;
use rustc_hash::FxHashMap;

/// The servers' own default for `tracking-table-max-keys`.
const USUAL_LIMIT: usize = 1_000_000;

/// A client that has read a key, and the last command by which it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    pub session: SessionKey,
    pub ticket: Ticket,
}

/// The keys that clients of one worker may have cached.
#[derive(Debug)]
pub struct Table {
    keys: FxHashMap<Box<[u8]>, Vec<Reader>>,
    items: usize,
    /// How many keys are remembered at most; 0: as many as there are.
    pub limit: usize,
}

impl Default for Table {
    fn default() -> Table {
        Table { keys: FxHashMap::default(), items: 0, limit: USUAL_LIMIT }
    }
}

impl Table {
    /// A client reads a key.
    pub fn remember(&mut self, key: &[u8], session: SessionKey, ticket: Ticket) {
        let reader = Reader { session, ticket };
        let Some(readers) = self.keys.get_mut(key) else {
            self.keys.insert(key.into(), vec![reader]);
            self.items += 1;
            return;
        };
        match readers.iter_mut().find(|other| other.session == session) {
            Some(known) => known.ticket = ticket,
            None => {
                readers.push(reader);
                self.items += 1;
            }
        }
    }

    /// A key has changed: forgets it, and gives those who are to be told.
    pub fn take(&mut self, key: &[u8]) -> Vec<Reader> {
        let sessions = self.keys.remove(key).unwrap_or_default();
        self.items -= sessions.len();
        sessions
    }

    /// Forgets a key, any one, if there are more than the limit.
    pub fn evict(&mut self) -> Option<(Box<[u8]>, Vec<Reader>)> {
        if self.limit == 0 || self.keys.len() <= self.limit {
            return None;
        }
        let key = self.keys.keys().next()?.clone();
        let sessions = self.take(&key);
        Some((key, sessions))
    }

    pub fn clear(&mut self) {
        (self.keys, self.items) = (FxHashMap::default(), 0);
    }

    /// How many keys are remembered, and how many clients for all of them.
    pub fn size(&self) -> (usize, usize) {
        (self.keys.len(), self.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_read_a_key_is_told_once() {
        let reader = |ix, ticket| Reader { session: SessionKey { ix, generation: 0 }, ticket };
        let mut table = Table::default();
        for (ix, ticket) in [(1, 5), (2, 6), (1, 7)] {
            table.remember(b"k", reader(ix, 0).session, ticket);
        }
        table.remember(b"other", reader(1, 0).session, 8);
        assert_eq!(table.size(), (2, 3));
        assert_eq!(table.take(b"k"), [reader(1, 7), reader(2, 6)]);
        assert_eq!(table.take(b"k"), []);
        assert_eq!(table.size(), (1, 1));
    }

    #[test]
    fn no_more_keys_are_remembered_than_the_limit_says() {
        let session = SessionKey { ix: 1, generation: 0 };
        let mut table = Table { limit: 2, ..Table::default() };
        (0..5u8).for_each(|key| table.remember(&[key], session, 0));
        let evicted: Vec<_> = std::iter::from_fn(|| table.evict()).collect();
        assert_eq!((evicted.len(), table.size()), (3, (2, 2)));
        assert!(evicted.iter().all(|(_, readers)| readers[0].session == session));
        table.limit = 0;
        assert_eq!(table.evict(), None);
    }
}
