//! The names under which values stand for a moment in a slot that is not theirs, and a client's reply
//! with its own names put back. Pure.

use crate::proxy::slot_tag::tag_of;
use crate::resp::write_bulk;
use crate::topology::Slot;
use memchr::memmem;

/// What all such names begin with.
pub const PREFIX: &str = "slotgate:tmp:";

/// The names of one errand.
#[derive(Debug, Clone)]
pub struct Names {
    stem: String,
}

impl Names {
    /// Names in `slot` that nobody else has.
    pub fn new(slot: Slot) -> Names {
        Names { stem: format!("{PREFIX}{{{}}}:{:016x}:", tag_of(slot), fastrand::u64(..)) }
    }

    pub fn name(&self, number: usize) -> Vec<u8> {
        format!("{}{number}", self.stem).into_bytes()
    }

    /// The reply as if the keys had had their own names; `keys` tells the one for a number.
    pub fn put_back<'a>(&self, reply: &[u8], key: impl Fn(usize) -> Option<&'a [u8]>) -> Vec<u8> {
        let mut out = Vec::with_capacity(reply.len());
        let mut copied = 0;
        for at in memmem::find_iter(reply, self.stem.as_bytes()) {
            // Only a whole bulk is a name: `$<length>\r\n<name>\r\n`.
            let rest = &reply[at + self.stem.len()..];
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse().ok());
            let head = format!("${}\r\n", self.stem.len() + digits);
            let is_bulk = reply[copied..at].ends_with(head.as_bytes()) && rest[digits..].starts_with(b"\r\n");
            let Some(own) = number.filter(|_| is_bulk).and_then(&key) else { continue };
            out.extend_from_slice(&reply[copied..at - head.len()]);
            write_bulk(&mut out, own);
            copied = at + self.stem.len() + digits + 2;
        }
        out.extend_from_slice(&reply[copied..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_their_slot() {
        let slot = Slot::of_key(b"a");
        assert_eq!(Slot::of_key(&Names::new(slot).name(7)), slot);
    }

    #[test]
    fn only_whole_names_are_put_back() {
        let names = Names::new(Slot::of_key(b"a"));
        let name = String::from_utf8(names.name(12)).unwrap();
        let own = |number: usize| (number == 12).then_some(&b"own"[..]);
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let reply = format!("*4\r\n{}{}:1\r\n{}", bulk(&name), bulk(&format!("x{name}")), bulk(&names.stem));
        let expected =
            format!("*4\r\n{}{}:1\r\n{}", bulk("own"), bulk(&format!("x{name}")), bulk(&names.stem));
        assert_eq!(String::from_utf8(names.put_back(reply.as_bytes(), own)).unwrap(), expected);
    }
}
