//! Tickets: every command of a client takes one, and its reply waits here for its turn.
//!
//! Pure. A reply that comes in order goes straight to the client and is never stored.

use super::fanout::Merge;
use crate::telemetry::{Family, Outcome};
use std::collections::VecDeque;

/// A reply's place in line, counted from the session's first command on.
pub type Ticket = u64;

/// What a ticket waits for.
#[derive(Debug)]
pub enum Place {
    Waiting,
    /// Several nodes answer, or one node several times; the reply is made of all of it.
    Merging(Box<Merge>),
    /// Answered, but an earlier one is not.
    Ready(Vec<u8>),
}

/// One command whose reply the client has not got yet.
#[derive(Debug)]
pub struct Entry {
    pub place: Place,
    /// When the command came, in microseconds of the worker's clock.
    pub came_at: u64,
    pub family: Family,
    /// How a reply that is ready went.
    pub outcome: Outcome,
    /// The client asked for no reply (CLIENT REPLY OFF or SKIP).
    pub is_mute: bool,
}

/// The replies in flight of one session, in the order of its commands.
#[derive(Debug, Default)]
pub struct Pipeline {
    first: Ticket,
    entries: VecDeque<Entry>,
    /// Bytes of replies that wait for earlier ones.
    stored: usize,
    /// The end of the oldest batch of which a reply is owed, if one is.
    batch_end: Ticket,
}

/// An idle session keeps room for this many tickets; more is given back.
const IDLE_CAPACITY: usize = 4;

impl Pipeline {
    /// How many replies are owed.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the next ticket.
    #[inline]
    pub fn push(&mut self, entry: Entry) -> Ticket {
        self.entries.push_back(entry);
        self.first + self.entries.len() as u64 - 1
    }

    /// The commands so far came together, and the client may want their replies together.
    #[inline]
    pub fn end_batch(&mut self) {
        if self.is_batch_answered() {
            self.batch_end = self.first + self.entries.len() as u64;
        }
    }

    /// Whether no reply of a batch is owed of which another one was given.
    #[inline]
    pub fn is_batch_answered(&self) -> bool {
        self.first >= self.batch_end
    }

    /// The newest that is owed.
    pub fn last(&self) -> Option<Ticket> {
        (self.entries.len() as u64).checked_sub(1).map(|last| self.first + last)
    }

    /// Whether `ticket` is the oldest that is owed.
    #[inline]
    pub fn is_first(&self, ticket: Ticket) -> bool {
        ticket == self.first && !self.entries.is_empty()
    }

    /// The entry of a ticket that is still owed.
    #[inline]
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(ticket.checked_sub(self.first)?).ok()?)
    }

    /// Takes the oldest off, whatever its state.
    #[inline]
    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.first += 1;
        Some(entry)
    }

    /// Takes the oldest off if its reply is there.
    #[inline]
    pub fn pop_ready(&mut self) -> Option<(Entry, Vec<u8>)> {
        match self.entries.front() {
            Some(Entry { place: Place::Ready(_), .. }) => {
                let mut entry = self.pop()?;
                let Place::Ready(reply) = std::mem::replace(&mut entry.place, Place::Waiting) else {
                    return None;
                };
                self.stored -= reply.len();
                Some((entry, reply))
            }
            _ => None,
        }
    }

    /// Keeps a reply whose turn has not come; false when the ticket is not owed.
    pub fn store(&mut self, ticket: Ticket, outcome: Outcome, reply: Vec<u8>) -> bool {
        let size = reply.len();
        let Some(entry) = self.get_mut(ticket) else { return false };
        entry.outcome = outcome;
        entry.place = Place::Ready(reply);
        self.stored += size;
        true
    }

    /// Bytes of replies that wait for earlier ones.
    #[inline]
    pub fn stored(&self) -> usize {
        self.stored
    }

    /// Gives the memory of a burst back once nothing is owed.
    pub fn release(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > IDLE_CAPACITY {
            self.entries.shrink_to(IDLE_CAPACITY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> Entry {
        Entry {
            place: Place::Waiting,
            came_at: 0,
            family: Family::String,
            outcome: Outcome::Ok,
            is_mute: false,
        }
    }

    proptest! {
        #[test]
        fn replies_leave_in_the_order_of_their_commands(order in Just((0..20u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut pipeline = Pipeline::default();
            let tickets: Vec<Ticket> = (0..20).map(|_| pipeline.push(entry())).collect();
            prop_assert_eq!(&tickets, &(0..20).collect::<Vec<_>>());
            let mut left = Vec::new();
            for ticket in order {
                if pipeline.is_first(ticket) {
                    pipeline.pop();
                    left.push(ticket);
                    while let Some((_, reply)) = pipeline.pop_ready() {
                        left.push(u64::from(reply[0]));
                    }
                } else {
                    prop_assert!(pipeline.store(ticket, Outcome::Ok, vec![ticket as u8]));
                }
            }
            prop_assert_eq!(left, (0..20).collect::<Vec<_>>());
            prop_assert_eq!(pipeline.stored(), 0);
            prop_assert!(pipeline.is_empty() && pipeline.get_mut(3).is_none() && pipeline.get_mut(20).is_none());
        }
    }
}
