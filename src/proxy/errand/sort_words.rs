//! What a SORT with BY or GET asks for, and which keys a pattern stands for. Pure.
//!
//! As `sortCommandGeneric` and `lookupKeyByPattern` read it (Redis, `src/sort.c`).

use crate::proxy::error_reply::ErrorReply;
use crate::resp::Request;

/// The options of a SORT.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Words {
    pub key: Vec<u8>,
    /// Without a star, nothing is sorted.
    pub by: Option<Vec<u8>>,
    pub get: Vec<Vec<u8>>,
    pub limit: Option<(i64, i64)>,
    pub is_descending: bool,
    pub is_alpha: bool,
    pub store: Option<Vec<u8>>,
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// Whether a SORT looks up what it does not name, which nodes of a cluster refuse.
pub fn has_patterns(request: &Request) -> bool {
    Words::read(request).is_ok_and(|words| !words.get.is_empty() || words.sorts_by_pattern())
}

impl Words {
    /// Reads a request.
    ///
    /// # Errors
    /// As a node says it.
    pub fn read(request: &Request) -> Result<Words, ErrorReply> {
        const NOT_A_NUMBER: ErrorReply =
            ErrorReply::Invalid { what: "value is not an integer or out of range" };
        let mut words = Words { key: request.get(1).unwrap_or_default().to_vec(), ..Words::default() };
        let may_store = request.arg(0).len() == b"SORT".len();
        let mut rest = request.args().skip(2);
        while let Some(word) = rest.next() {
            let mut next = || rest.next().map(<[u8]>::to_vec).ok_or(ErrorReply::Syntax);
            match word {
                _ if is(word, "asc") => words.is_descending = false,
                _ if is(word, "desc") => words.is_descending = true,
                _ if is(word, "alpha") => words.is_alpha = true,
                _ if is(word, "limit") => {
                    let (from, count) = (next()?, next()?);
                    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i64>().ok();
                    words.limit = number(&from).zip(number(&count));
                    words.limit.ok_or(NOT_A_NUMBER)?;
                }
                _ if may_store && is(word, "store") => words.store = Some(next()?),
                _ if is(word, "by") => words.by = Some(next()?),
                _ if is(word, "get") => words.get.push(next()?),
                _ => return Err(ErrorReply::Syntax),
            }
        }
        Ok(words)
    }

    /// Whether the order is that of other keys' values.
    pub fn sorts_by_pattern(&self) -> bool {
        self.by.as_ref().is_some_and(|by| by.contains(&b'*'))
    }

    /// Which of so many sorted elements are asked for.
    pub fn range(&self, count: usize) -> std::ops::Range<usize> {
        let (from, most) = self.limit.unwrap_or((0, -1));
        let from = usize::try_from(from).unwrap_or(0).min(count);
        let to = usize::try_from(most).map_or(count, |most| from.saturating_add(most).min(count));
        from..to
    }
}

/// What a pattern means for one element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// `#`: itself.
    Element,
    /// There is no star in it, so there is nothing.
    Nothing,
    Key(Vec<u8>),
    Field(Vec<u8>, Vec<u8>),
}

impl Lookup {
    pub fn of(pattern: &[u8], element: &[u8]) -> Lookup {
        if pattern == b"#" {
            return Lookup::Element;
        }
        let Some(star) = memchr::memchr(b'*', pattern) else { return Lookup::Nothing };
        let (before, after) = (&pattern[..star], &pattern[star + 1..]);
        match memchr::memmem::find(after, b"->").filter(|at| at + 2 < after.len()) {
            Some(at) => Lookup::Field([before, element, &after[..at]].concat(), after[at + 2..].to_vec()),
            None => Lookup::Key([before, element, after].concat()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_a_key_or_a_field() {
        let of = |pattern: &str| Lookup::of(pattern.as_bytes(), b"7");
        assert_eq!(of("#"), Lookup::Element);
        assert_eq!(of("w"), Lookup::Nothing);
        assert_eq!(of("w_*_*"), Lookup::Key(b"w_7_*".to_vec()));
        assert_eq!(of("w_*x->f"), Lookup::Field(b"w_7x".to_vec(), b"f".to_vec()));
        assert_eq!(of("w_*->"), Lookup::Key(b"w_7->".to_vec()));
        assert_eq!(of("a->b_*"), Lookup::Key(b"a->b_7".to_vec()));
    }

    #[test]
    fn a_limit_is_cut_to_what_there_is() {
        let range = |from, most| Words { limit: Some((from, most)), ..Words::default() }.range(5);
        assert_eq!(range(1, 2), 1..3);
        assert_eq!(range(-3, -1), 0..5);
        assert_eq!(range(3, 9), 3..5);
        assert_eq!(range(9, 1), 5..5);
        assert_eq!(range(0, 0), 0..0);
    }
}
