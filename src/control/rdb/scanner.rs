//! The scanner: an RDB from its first to its last byte, as the bytes come. Pure.

use super::entry::{Entry, Function, Value};
use super::shape::{FUNCTION, Shape, VALKEY_9, shape_of, skipped};
use super::text::{Fault, Small, Text};
use super::walk::Walk;
use super::{CRC64, MAX_FUNCTION, MAX_KEY, RdbError, shown};
use crc::{Digest, Table};
use std::time::Duration;

/// `REDIS` and four digits, or `VALKEY` and three.
const HEADER: usize = 9;
/// The versions that can be read; beyond them are values of unknown types.
const VERSIONS: [std::ops::RangeInclusive<u16>; 2] = [7..=12, VALKEY_9..=VALKEY_9];

/// Whether values are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Only how many there are, and their sizes.
    Sizes,
    /// Their bytes, up to so many each. One is held at a time.
    Values { limit: u64 },
}

/// Something found in an RDB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    Function(Function),
    Key(Entry),
    /// The end. The checksum is that of all bytes before it, and the one that the server wrote, if it did.
    End {
        crc64: u64,
    },
}

/// Where a scan is.
#[derive(Debug)]
enum State {
    Header,
    Opcode,
    Skip(Walk),
    Database,
    Expiry { seconds: bool },
    Function(Walk),
    Key { kind: u8, text: Text },
    Value { shape: &'static Shape, key: Vec<u8>, walk: Walk },
    Checksum,
    Done,
}

/// Takes the bytes of one RDB in pieces and gives what is in it. After an error it is of no more use.
pub struct Scanner {
    keep: Keep,
    state: State,
    small: Small,
    version: u16,
    database: u64,
    expires_at: Option<Duration>,
    /// The value or function under way, as far as it is kept.
    raw: Vec<u8>,
    size: u64,
    scanned: u64,
    /// Of all bytes before the checksum.
    digest: Digest<'static, u64, Table<16>>,
}

impl Scanner {
    pub fn new(keep: Keep) -> Scanner {
        Scanner {
            keep,
            state: State::Header,
            small: Small::default(),
            version: 0,
            database: 0,
            expires_at: None,
            raw: Vec::new(),
            size: 0,
            scanned: 0,
            digest: CRC64.digest(),
        }
    }

    /// The RDB version of the header; 0 before it came.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// How many bytes were scanned.
    pub fn scanned(&self) -> u64 {
        self.scanned
    }

    /// Takes bytes from the input until something is found; `None` when all were taken, or the RDB is at
    /// its end.
    ///
    /// # Errors
    /// The bytes are no RDB, or one that cannot be used.
    pub fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Item>, RdbError> {
        loop {
            let (before, is_hashed) = (*input, !matches!(self.state, State::Checksum));
            let step = self.step(input);
            let taken = &before[..before.len() - input.len()];
            self.scanned += taken.len() as u64;
            if is_hashed {
                self.digest.update(taken);
            }
            match step.map_err(|stop| self.explain(stop))? {
                Step::Found(item) => return Ok(Some(item)),
                Step::Wants => return Ok(None),
                Step::Next => {}
            }
        }
    }

    /// Whether the end was reached; bytes after it are not the RDB's.
    ///
    /// # Errors
    /// The input ended before the RDB did.
    pub fn finish(&self) -> Result<(), RdbError> {
        if matches!(self.state, State::Done) { Ok(()) } else { Err(RdbError::Truncated(self.scanned)) }
    }

    fn explain(&self, stop: Stop) -> RdbError {
        match stop {
            Stop::Fault(what) => RdbError::Damaged { at: self.scanned, what },
            Stop::Error(error) => error,
        }
    }

    /// Goes on in one state, until that one is at its end or the input is.
    fn step(&mut self, input: &mut &[u8]) -> Result<Step, Stop> {
        let small = &mut self.small;
        match &mut self.state {
            State::Header => {
                let Some(header) = small.bytes(input, HEADER) else { return Ok(Step::Wants) };
                self.version = version(header)?;
                self.state = State::Opcode;
            }
            State::Opcode => {
                let Some(opcode) = small.bytes(input, 1) else { return Ok(Step::Wants) };
                let opcode = opcode[0];
                self.state = self.begin(opcode)?;
            }
            State::Skip(walk) => {
                if !walk.advance(input, small)? {
                    return Ok(Step::Wants);
                }
                self.state = State::Opcode;
            }
            State::Database => {
                let Some(database) = small.number(input)? else { return Ok(Step::Wants) };
                self.database = database;
                self.state = State::Opcode;
            }
            State::Expiry { seconds } => {
                let Some(bytes) = small.bytes(input, if *seconds { 4 } else { 8 }) else {
                    return Ok(Step::Wants);
                };
                self.expires_at = Some(match *bytes {
                    [a, b, c, d] => Duration::from_secs(positive(i32::from_le_bytes([a, b, c, d]).into())),
                    [a, b, c, d, e, f, g, h] => {
                        Duration::from_millis(positive(i64::from_le_bytes([a, b, c, d, e, f, g, h])))
                    }
                    _ => return Err("an expiry of another size".into()),
                });
                self.state = State::Opcode;
            }
            State::Function(walk) => {
                let before = *input;
                let is_whole = walk.advance(input, small)?;
                self.raw.extend_from_slice(&before[..before.len() - input.len()]);
                if self.raw.len() as u64 > MAX_FUNCTION {
                    return Err("a function library of more than 512 MiB".into());
                }
                if !is_whole {
                    return Ok(Step::Wants);
                }
                self.state = State::Opcode;
                return Ok(Step::Found(Item::Function(Function { raw: std::mem::take(&mut self.raw) })));
            }
            State::Key { kind, text } => {
                let Some(key) = text.advance(input, small, MAX_KEY)? else { return Ok(Step::Wants) };
                let kind = *kind;
                let Some(shape) = shape_of(kind, self.version) else {
                    return Err(Stop::Error(RdbError::UnknownType { kind, key: shown(&key) }));
                };
                self.size = 1;
                self.raw = if self.keep == Keep::Sizes { Vec::new() } else { vec![kind] };
                self.state = State::Value { shape, key, walk: Walk::new(shape.parts) };
            }
            State::Value { shape, key, walk } => {
                let before = *input;
                let is_whole = walk.advance(input, small)?;
                let taken = &before[..before.len() - input.len()];
                self.size += taken.len() as u64;
                if let Keep::Values { limit } = self.keep {
                    if self.size > limit {
                        return Err(Stop::Error(RdbError::TooBig { key: shown(key), limit }));
                    }
                    self.raw.extend_from_slice(taken);
                }
                if !is_whole {
                    return Ok(Step::Wants);
                }
                let raw = std::mem::take(&mut self.raw);
                let value = Value { raw, size: self.size, since: shape.since, kind: shape.name };
                let key = std::mem::take(key);
                let (database, expires_at) = (self.database, self.expires_at.take());
                self.state = State::Opcode;
                return Ok(Step::Found(Item::Key(Entry { key, database, expires_at, value })));
            }
            State::Checksum => {
                let Some(bytes) = small.bytes(input, 8) else { return Ok(Step::Wants) };
                let stored = bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                let computed = self.digest.clone().finalize();
                if stored != 0 && stored != computed {
                    return Err(Stop::Error(RdbError::Checksum { computed, stored }));
                }
                self.state = State::Done;
                return Ok(Step::Found(Item::End { crc64: computed }));
            }
            State::Done => return Ok(Step::Wants),
        }
        Ok(Step::Next)
    }

    /// What begins with this opcode, or with the value of this type.
    fn begin(&mut self, opcode: u8) -> Result<State, Stop> {
        Ok(match opcode {
            245 => {
                self.raw = vec![opcode];
                State::Function(Walk::new(FUNCTION))
            }
            246 => return Err(Stop::Error(RdbError::PreReleaseFunction)),
            252 => State::Expiry { seconds: false },
            253 => State::Expiry { seconds: true },
            254 => State::Database,
            255 => State::Checksum,
            _ => match skipped(opcode, self.version) {
                Some(parts) => State::Skip(Walk::new(parts)),
                None => State::Key { kind: opcode, text: Text::default() },
            },
        })
    }
}

/// How a step ended.
enum Step {
    /// In another state.
    Next,
    /// At the end of the input, or of the RDB.
    Wants,
    Found(Item),
}

/// Why a step could not end.
enum Stop {
    Fault(Fault),
    Error(RdbError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

fn version(header: &[u8]) -> Result<u16, Stop> {
    let digits = [b"REDIS".as_slice(), b"VALKEY"].iter().find_map(|magic| header.strip_prefix(*magic));
    let is_number = |digits: &&[u8]| digits.iter().all(u8::is_ascii_digit);
    let Some(digits) = digits.filter(is_number) else { return Err(Stop::Error(RdbError::NotRdb)) };
    let version = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    if VERSIONS.iter().any(|known| known.contains(&version)) {
        Ok(version)
    } else {
        Err(Stop::Error(RdbError::Version(version)))
    }
}

/// A time before 1970 is as much in the past as 1970.
fn positive(number: i64) -> u64 {
    number.try_into().unwrap_or(0)
}
