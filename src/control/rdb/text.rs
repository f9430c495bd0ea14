//! Numbers and strings of an RDB, from bytes that may come in pieces. Pure.

use super::lzf;

/// The longest beginning of anything: a compressed string's mark and two numbers.
const LONGEST: usize = 1 + 9 + 9;

/// Bytes that cannot be: what is wrong with them.
pub type Fault = &'static str;

/// Collects the few bytes that must be seen together, from input that may end between them.
#[derive(Debug, Default)]
pub struct Small {
    bytes: [u8; LONGEST],
    len: usize,
}

/// What a few bytes say, or how many of them are needed to know.
enum Seen<T> {
    Whole(T),
    Wants(usize),
}

/// How a string lies in an RDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Head {
    /// As it is, so many bytes.
    Plain(u64),
    /// As a little-endian number of so many bytes, which stands for its decimal digits.
    Integer(u64),
    /// Compressed into `packed` bytes from `len`.
    Packed { packed: u64, len: u64 },
}

impl Head {
    /// How many bytes follow the head.
    pub fn body(self) -> u64 {
        match self {
            Head::Plain(len) | Head::Integer(len) => len,
            Head::Packed { packed, .. } => packed,
        }
    }
}

impl Small {
    /// The next `want` bytes (at most 19), once they are there.
    pub fn bytes(&mut self, input: &mut &[u8], want: usize) -> Option<&[u8]> {
        if !self.fill(input, want) {
            return None;
        }
        self.len = 0;
        Some(&self.bytes[..want])
    }

    /// The next number in the encoding of lengths.
    pub fn number(&mut self, input: &mut &[u8]) -> Result<Option<u64>, Fault> {
        self.read(input, number)
    }

    /// The next string's head.
    pub fn head(&mut self, input: &mut &[u8]) -> Result<Option<Head>, Fault> {
        self.read(input, head)
    }

    fn read<T>(
        &mut self,
        input: &mut &[u8],
        see: fn(&[u8]) -> Result<Seen<T>, Fault>,
    ) -> Result<Option<T>, Fault> {
        let mut want = 1;
        loop {
            if !self.fill(input, want) {
                return Ok(None);
            }
            match see(&self.bytes[..self.len])? {
                Seen::Whole(seen) => {
                    self.len = 0;
                    return Ok(Some(seen));
                }
                Seen::Wants(more) => want = more,
            }
        }
    }

    fn fill(&mut self, input: &mut &[u8], want: usize) -> bool {
        let more = want.saturating_sub(self.len).min(input.len());
        let (taken, rest) = input.split_at(more);
        self.bytes[self.len..self.len + more].copy_from_slice(taken);
        self.len += more;
        *input = rest;
        self.len >= want
    }
}

/// A number: two bits say how many bytes it has.
fn number(bytes: &[u8]) -> Result<Seen<u64>, Fault> {
    let size = size_of_number(bytes[0])?;
    if bytes.len() < size {
        return Ok(Seen::Wants(size));
    }
    Ok(Seen::Whole(number_of(&bytes[..size])))
}

fn size_of_number(first: u8) -> Result<usize, Fault> {
    match first {
        0..=0x3f => Ok(1),
        0x40..=0x7f => Ok(2),
        0x80 => Ok(5),
        0x81 => Ok(9),
        _ => Err("a length that is none"),
    }
}

fn number_of(bytes: &[u8]) -> u64 {
    let mask = if bytes.len() <= 2 { 0x3f } else { 0 };
    let first = u64::from(bytes[0] & mask);
    bytes[1..].iter().fold(first, |number, byte| number << 8 | u64::from(*byte))
}

fn head(bytes: &[u8]) -> Result<Seen<Head>, Fault> {
    Ok(match bytes[0] {
        0xc0 => Seen::Whole(Head::Integer(1)),
        0xc1 => Seen::Whole(Head::Integer(2)),
        0xc2 => Seen::Whole(Head::Integer(4)),
        0xc3 => {
            let Some(first) = bytes.get(1) else { return Ok(Seen::Wants(2)) };
            let second_at = 1 + size_of_number(*first)?;
            let Some(second) = bytes.get(second_at) else { return Ok(Seen::Wants(second_at + 1)) };
            let end = second_at + size_of_number(*second)?;
            if bytes.len() < end {
                return Ok(Seen::Wants(end));
            }
            let (packed, len) = (number_of(&bytes[1..second_at]), number_of(&bytes[second_at..end]));
            Seen::Whole(Head::Packed { packed, len })
        }
        0xc4.. => return Err("a string in an unknown encoding"),
        _ => match number(bytes)? {
            Seen::Whole(len) => Seen::Whole(Head::Plain(len)),
            Seen::Wants(want) => Seen::Wants(want),
        },
    })
}

/// A string being read to the end and decoded.
#[derive(Debug, Default)]
pub struct Text {
    head: Option<Head>,
    body: Vec<u8>,
}

impl Text {
    /// The string, once it is whole. Longer ones than `limit` bytes are refused.
    pub fn advance(
        &mut self,
        input: &mut &[u8],
        small: &mut Small,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Fault> {
        if self.head.is_none() {
            self.head = small.head(input)?;
        }
        let Some(head) = self.head else { return Ok(None) };
        let long = match head {
            Head::Packed { packed, len } => packed.max(len),
            other => other.body(),
        };
        if long > limit {
            return Err("a key that is too long");
        }
        let left = head.body() - self.body.len() as u64;
        let (taken, rest) = input.split_at(left.min(input.len() as u64) as usize);
        self.body.extend_from_slice(taken);
        *input = rest;
        if (self.body.len() as u64) < head.body() {
            return Ok(None);
        }
        self.head = None;
        let body = std::mem::take(&mut self.body);
        Ok(Some(match head {
            Head::Plain(_) => body,
            Head::Integer(_) => integer(&body).to_string().into_bytes(),
            Head::Packed { len, .. } => lzf::unpack(&body, len as usize)?,
        }))
    }
}

fn integer(bytes: &[u8]) -> i32 {
    match *bytes {
        [a] => i32::from(a as i8),
        [a, b] => i32::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}
