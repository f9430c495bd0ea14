//! Finds where something in an RDB ends, from bytes that may come in pieces. Pure.
//!
//! What is walked over is not kept: memory stays the same whatever the size, and the depth is that of the
//! shapes, not of the data.

use super::shape::{Part, module_part};
use super::text::{Fault, Small};

/// A place in a shape.
#[derive(Debug)]
pub struct Walk {
    open: Vec<Frame>,
    /// Bytes to pass over before the next part.
    skip: u64,
}

/// Parts under way.
#[derive(Debug)]
struct Frame {
    parts: &'static [Part],
    at: usize,
    /// How often they come again after this time.
    again: u64,
}

impl Walk {
    /// At the beginning of these parts.
    pub fn new(parts: &'static [Part]) -> Walk {
        Walk { open: vec![Frame { parts, at: 0, again: 0 }], skip: 0 }
    }

    /// Passes over as much of the input as belongs to the parts; true when they are at their end.
    pub fn advance(&mut self, input: &mut &[u8], small: &mut Small) -> Result<bool, Fault> {
        loop {
            if self.skip > 0 {
                let passed = self.skip.min(input.len() as u64);
                *input = &input[passed as usize..];
                self.skip -= passed;
                if self.skip > 0 {
                    return Ok(false);
                }
            }
            let Some(frame) = self.open.last_mut() else { return Ok(true) };
            let Some(part) = frame.parts.get(frame.at) else {
                if frame.again == 0 {
                    self.open.pop();
                } else {
                    frame.again -= 1;
                    frame.at = 0;
                }
                continue;
            };
            match *part {
                Part::Text => {
                    let Some(head) = small.head(input)? else { return Ok(false) };
                    self.skip = head.body();
                }
                Part::Number => {
                    if small.number(input)?.is_none() {
                        return Ok(false);
                    }
                }
                Part::Bytes(len) => self.skip = u64::from(len),
                Part::Score => {
                    let Some(len) = small.bytes(input, 1) else { return Ok(false) };
                    self.skip = if len[0] >= 253 { 0 } else { u64::from(len[0]) };
                }
                Part::Repeat(parts) => {
                    let Some(count) = small.number(input)? else { return Ok(false) };
                    frame.at += 1;
                    if let Some(again) = count.checked_sub(1) {
                        self.open.push(Frame { parts, at: 0, again });
                    }
                    continue;
                }
                Part::Module => {
                    let Some(opcode) = small.number(input)? else { return Ok(false) };
                    if opcode != 0 {
                        let parts = module_part(opcode).ok_or("a module's value with an unknown part")?;
                        self.open.push(Frame { parts, at: 0, again: 0 });
                        continue;
                    }
                }
            }
            frame.at += 1;
        }
    }
}
