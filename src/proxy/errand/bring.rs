//! A command whose keys lie in several slots, run on one node: the values of the others are brought there
//! under names of our own, and what the command changed of them goes back. Pure.
//!
//! Where all keys that the command may change lie in one slot, it runs there on these themselves: what
//! others see of it is one change, as on one server. Where they lie in several, it runs on copies of all
//! of them; what has changed is then written by [`WriteBack`], which takes notice of others' changes
//! meanwhile.

use super::exchange::{
    Transaction, Value, answered, bulk, given_up, half_way, is_error, is_in_between, is_unknown, replies_of,
    single,
};
use super::locks::{Locking, Locks};
use super::temporaries::Names;
use super::write_back::{Change, Progress, WriteBack};
use super::{Answer, Ask, Manner, Plan, Step};
use crate::command::{Access, KeyRef};
use crate::proxy::answer::error_line;
use crate::proxy::error_reply::ErrorReply;
use crate::resp::Request;
use crate::telemetry::ErrandResult;
use crate::topology::Slot;

/// How long a value stands where it does not belong, if the gateway dies: longer than a request is held
/// and a node may take for one.
const LONGEST_STAY: &str = "90000";
/// How often the command is run anew because other clients changed its keys meanwhile.
const MOST_TRIES: u8 = 100;

/// Where the command does what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It changes nothing; one transaction brings the values, runs it, and takes them away.
    Read,
    /// On the keys that it changes; the others' values must be there, whole, before.
    InPlace,
    /// On copies of the keys that it changes, in one transaction that leaves nothing behind.
    Copies,
}

#[derive(Debug)]
struct Key {
    name: Vec<u8>,
    slot: Slot,
    /// Which arguments it is.
    places: Vec<usize>,
    may_change: bool,
    /// The command takes something out of it: done last, so that it is at both places rather than at none.
    is_taken_from: bool,
    is_brought: bool,
    value: Option<Value>,
}

#[derive(Debug)]
enum Stage {
    Begin,
    Fetching,
    Placing,
    Running,
    Writing(WriteBack),
}

#[derive(Debug)]
pub struct Bring {
    command: Box<str>,
    args: Vec<Vec<u8>>,
    keys: Vec<Key>,
    slot: Slot,
    mode: Mode,
    names: Names,
    stage: Stage,
    tries: u8,
    locks: Locks,
}

impl Bring {
    /// Of a request whose keys are `found`, at least one.
    pub fn new(command: &str, request: &Request, found: &[KeyRef], is_read: bool) -> Bring {
        let changes = Access::RW.with(Access::OW).with(Access::RM);
        let mut keys: Vec<Key> = Vec::new();
        for key in found {
            let (name, place) = (request.arg(key.index as usize), key.index as usize);
            let may_change = !is_read && key.access.intersects(changes);
            let is_taken_from = key.access.contains(Access::DELETE);
            match keys.iter_mut().find(|known| known.name == name) {
                Some(known) => {
                    known.places.push(place);
                    known.may_change |= may_change;
                    known.is_taken_from &= is_taken_from;
                }
                None => keys.push(Key {
                    name: name.to_vec(),
                    slot: Slot::of_key(name),
                    places: vec![place],
                    may_change,
                    is_taken_from,
                    is_brought: false,
                    value: None,
                }),
            }
        }
        let mut changing: Vec<Slot> = keys.iter().filter(|key| key.may_change).map(|key| key.slot).collect();
        changing.dedup();
        let (mode, slot) = match changing[..] {
            _ if is_read => (Mode::Read, most_frequent(keys.iter())),
            [slot] => (Mode::InPlace, slot),
            _ => (Mode::Copies, most_frequent(keys.iter().filter(|key| !key.may_change).chain(keys.first()))),
        };
        for key in &mut keys {
            key.is_brought = key.slot != slot || (mode == Mode::Copies && key.may_change);
        }
        let several = keys.iter().filter(|key| key.may_change && mode == Mode::Copies);
        let locks = Locks::of(several.map(|key| (key.name.clone(), key.slot)).collect());
        Bring {
            command: command.into(),
            args: request.args().map(<[u8]>::to_vec).collect(),
            keys,
            slot,
            mode,
            names: Names::new(slot),
            stage: Stage::Begin,
            tries: 0,
            locks,
        }
    }

    /// The keys whose values are brought, with the names they get.
    fn brought(&self) -> impl Iterator<Item = (&Key, Vec<u8>)> {
        let named = self.keys.iter().enumerate().map(|(number, key)| (key, self.names.name(number)));
        named.filter(|(key, _)| key.is_brought)
    }

    fn fetch(&mut self) -> Step {
        self.stage = Stage::Fetching;
        let ask = |(key, _): (&Key, _)| {
            let mut transaction = Transaction::new();
            transaction.add(&[b"DUMP", &key.name[..]]);
            transaction.add(&[b"PTTL", &key.name[..]]);
            transaction.ask(Manner::Read, key.slot)
        };
        Step::Ask(self.brought().map(ask).collect())
    }

    fn fetched(&mut self, replies: &[Vec<u8>]) -> Step {
        let brought = self.keys.iter_mut().filter(|key| key.is_brought);
        for (key, reply) in brought.zip(replies) {
            match replies_of(reply, 2) {
                Ok(replies) => match replies.iter().find(|reply| is_error(reply)) {
                    Some(error) => return given_up(error),
                    None => key.value = Value::of(replies[0], replies[1]),
                },
                Err(error) => return given_up(error),
            }
        }
        if self.mode == Mode::InPlace && self.keys.iter().any(|key| key.value.is_some()) {
            return self.place();
        }
        self.run()
    }

    fn place(&mut self) -> Step {
        self.stage = Stage::Placing;
        let mut transaction = Transaction::new();
        for (key, name) in self.brought() {
            if let Some(value) = &key.value {
                transaction.add(&[
                    b"RESTORE",
                    &name[..],
                    LONGEST_STAY.as_bytes(),
                    &value.payload,
                    b"REPLACE",
                ]);
            }
        }
        Step::Ask(vec![transaction.ask(Manner::Write, self.slot)])
    }

    fn placed(&mut self, reply: &[u8]) -> Step {
        let count = self.keys.iter().filter(|key| key.value.is_some()).count();
        let error = match replies_of(reply, count) {
            Ok(replies) => replies.into_iter().find(|reply| is_error(reply)),
            Err(error) => Some(error),
        };
        match error {
            None => self.run(),
            Some(error) if is_unknown(error) => self.again(error),
            Some(error) if is_in_between(error) => self.go_elsewhere(),
            Some(error) => Step::Answer(Answer {
                reply: error.to_vec(),
                result: ErrandResult::Error,
                tidying: Some(self.tidying()),
            }),
        }
    }

    /// Takes away what was brought.
    fn tidying(&self) -> Ask {
        let mut args = vec![b"UNLINK".to_vec()];
        args.extend(self.brought().map(|(_, name)| name));
        single(Manner::Write, self.slot, &args)
    }

    /// Begins anew, unless it has been tried too often: with an error line, once; without, as what others
    /// did came in between.
    fn again(&mut self, why: &[u8]) -> Step {
        self.tries += if why.is_empty() { 1 } else { MOST_TRIES };
        match (self.tries > MOST_TRIES, why.is_empty()) {
            (false, _) => self.fetch(),
            (true, false) => given_up(why),
            (true, true) => self.contended(),
        }
    }

    fn contended(&self) -> Step {
        given_up(&error_line(&ErrorReply::Contended { name: self.command.to_string() }))
    }

    /// The next step while the keys are locked, if they are to be.
    fn decide(&mut self, replies: &[Vec<u8>]) -> Step {
        match &mut self.stage {
            Stage::Begin => self.fetch(),
            Stage::Fetching => self.fetched(replies),
            Stage::Placing => self.placed(&replies[0]),
            Stage::Running => self.has_run(&replies[0]),
            Stage::Writing(writing) => match writing.step(replies) {
                Progress::Ask(asks) => Step::Ask(asks),
                Progress::End(step) => step,
                Progress::Undone(why) if why.is_empty() => self.again(&why),
                Progress::Undone(why) if is_in_between(&why) => self.go_elsewhere(),
                Progress::Undone(why) => given_up(&why),
            },
        }
    }

    /// Begins anew with copies of all keys in another slot: where one is being moved, nothing can be run
    /// with keys that are there and keys that are not.
    fn go_elsewhere(&mut self) -> Step {
        let is_placed = |key: &Key| self.mode == Mode::InPlace && key.value.is_some();
        let placed = self.brought().filter(|(key, _)| is_placed(key));
        let unlink = |name: Vec<u8>| single(Manner::Write, self.slot, &[b"UNLINK", &name[..]]);
        let tidying: Vec<Ask> = placed.map(|(_, name)| unlink(name)).collect();
        self.slot = Slot::of_key(&fastrand::u64(..).to_be_bytes());
        self.names = Names::new(self.slot);
        if self.mode == Mode::InPlace {
            self.mode = Mode::Copies;
        }
        self.keys.iter_mut().for_each(|key| key.is_brought = true);
        let mut step = self.again(b"");
        if let Step::Ask(asks) = &mut step {
            // Their replies come after those that count, and say nothing.
            asks.extend(tidying);
        }
        step
    }

    fn run(&mut self) -> Step {
        self.stage = Stage::Running;
        let mut transaction = Transaction::new();
        for (key, name) in self.brought() {
            let Some(value) = &key.value else { continue };
            if self.mode == Mode::InPlace {
                // A command may copy the time to live; and what is gone meanwhile shows here.
                match value.ttl {
                    ..0 => transaction.add(&[b"PERSIST", &name[..]]),
                    _ => {
                        transaction.add(&[b"PEXPIRE", &name[..], value.restored_ttl().as_bytes()]);
                    }
                }
            } else {
                let ttl = value.restored_ttl();
                transaction.add(&[b"RESTORE", &name[..], ttl.as_bytes(), &value.payload, b"REPLACE"]);
            }
        }
        for (_, name) in self.copies() {
            transaction.add(&[b"DUMP", &name[..]]);
        }
        let mut args = self.args.clone();
        for (key, name) in self.brought() {
            key.places.iter().for_each(|place| args[*place].clone_from(&name));
        }
        transaction.add(&args);
        for (_, name) in self.copies() {
            transaction.add(&[b"DUMP", &name[..]]);
            transaction.add(&[b"PTTL", &name[..]]);
        }
        let mut unlink = vec![b"UNLINK".to_vec()];
        unlink.extend(self.brought().map(|(_, name)| name));
        transaction.add(&unlink);
        Step::Ask(vec![transaction.ask(Manner::Own, self.slot)])
    }

    /// The keys that may change where they do not belong.
    fn copies(&self) -> impl Iterator<Item = (&Key, Vec<u8>)> {
        self.brought().filter(|(key, _)| self.mode == Mode::Copies && key.may_change)
    }

    fn has_run(&mut self, reply: &[u8]) -> Step {
        let prepared = self.keys.iter().filter(|key| key.value.is_some()).count();
        let copies = self.copies().count();
        let replies = match replies_of(reply, prepared + 3 * copies + 2) {
            Ok(replies) => replies,
            Err(error) if is_in_between(error) => return self.go_elsewhere(),
            // Nothing but copies was touched.
            Err(error) if is_unknown(error) && self.mode == Mode::Copies => return self.again(error),
            Err(error) if self.mode == Mode::InPlace && !is_unknown(error) => {
                let tidying = Some(self.tidying());
                return Step::Answer(Answer { reply: error.to_vec(), result: ErrandResult::Error, tidying });
            }
            Err(error) => return given_up(error),
        };
        let (before, rest) = replies.split_at(prepared);
        if let Some(error) = before.iter().find(|reply| is_error(reply)) {
            return given_up(error);
        }
        let (dumps, rest) = rest.split_at(copies);
        let answer = self.names.put_back(rest[0], |number| self.keys.get(number).map(|key| &key.name[..]));
        if self.mode == Mode::InPlace && before.iter().any(|reply| *reply == b":0\r\n") {
            // A value was lost with its node before the command ran: it saw less than there was.
            return match self.again(b"") {
                Step::Answer(_) => half_way(&self.command, b"values that it needs were lost on their way"),
                step => step,
            };
        }
        let changes: Vec<Change> = self
            .copies()
            .zip(dumps)
            .zip(rest[1..].chunks_exact(2))
            .filter_map(|(((key, _), before), after)| {
                let now = Value::of(after[0], after[1]);
                let is_same = bulk(before) == now.as_ref().map(|value| &value.payload[..])
                    && is_same_life(key.value.as_ref(), now.as_ref());
                (!is_same).then(|| Change {
                    key: key.name.clone(),
                    slot: key.slot,
                    before: key.value.clone(),
                    after: now,
                    is_taken_from: key.is_taken_from,
                })
            })
            .collect();
        if changes.is_empty() {
            return answered(answer);
        }
        let (writing, asks) = WriteBack::begin(&self.command, changes, answer);
        self.stage = Stage::Writing(writing);
        Step::Ask(asks)
    }
}

/// Whether a key lives about as long as before.
fn is_same_life(before: Option<&Value>, after: Option<&Value>) -> bool {
    /// An errand's step takes less, but for a failover; then the key is written without need.
    const UNNOTICED: i64 = 5000;
    match (before.map(|value| value.ttl), after.map(|value| value.ttl)) {
        (Some(before @ 0..), Some(after @ 0..)) => after <= before && before - after < UNNOTICED,
        (Some(before), Some(after)) => before < 0 && after < 0,
        _ => true,
    }
}

/// The slot of most of the keys, the first one of several.
fn most_frequent<'a>(keys: impl Iterator<Item = &'a Key>) -> Slot {
    let mut counts: Vec<(Slot, usize)> = Vec::new();
    for key in keys {
        match counts.iter_mut().find(|(slot, _)| *slot == key.slot) {
            Some((_, count)) => *count += 1,
            None => counts.push((key.slot, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max();
    let first = counts.iter().find(|(_, count)| Some(*count) == most);
    first.map_or(Slot::of_key(b""), |(slot, _)| *slot)
}

impl Plan for Bring {
    fn step(&mut self, replies: &[Vec<u8>]) -> Step {
        let step = match self.locks.step(replies) {
            Some(Locking::Ask(asks)) => Step::Ask(asks),
            Some(Locking::Refused(error)) if error.is_empty() => self.contended(),
            Some(Locking::Refused(error)) => given_up(&error),
            Some(Locking::Ended(step)) => return step,
            None => self.decide(replies),
        };
        match step {
            Step::Answer(answer) => self.locks.end(answer),
            step => step,
        }
    }
    fn keeps(&self) -> usize {
        let values = self.keys.iter().filter_map(|key| key.value.as_ref());
        let written = if let Stage::Writing(writing) = &self.stage { writing.keeps() } else { 0 };
        values.map(|value| value.payload.len()).sum::<usize>() + written
    }

    fn must_end(&self) -> bool {
        self.locks.are_held()
            || (self.mode != Mode::Read && !matches!(self.stage, Stage::Begin | Stage::Fetching))
    }
}
