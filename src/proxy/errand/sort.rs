//! SORT with BY or GET: the elements come from their node, the keys that they stand for from wherever
//! they are, and the sorting is done here. Pure.

use super::exchange::{Transaction, answered, bulk, given_up, half_way, is_error, is_unknown, single};
use super::sort_words::{Lookup, Words};
use super::{Ask, Manner, Plan, Step};
use crate::proxy::answer::error_line;
use crate::proxy::error_reply::ErrorReply;
use crate::proxy::fanout::{array, element, text_of};
use crate::resp::{ReplyWriter, Request, Version};
use crate::topology::Slot;
use std::cmp::Ordering;

/// Keys looked up for one SORT: some seconds of a node's time.
const MOST_LOOKUPS: usize = 200_000;
/// So many of them are asked for at once, so that other clients' requests come between.
const LOOKUPS_AT_ONCE: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    Elements,
    Weights,
    Values,
    Storing,
}

#[derive(Debug)]
pub struct Sort {
    words: Result<Words, ErrorReply>,
    version: Version,
    stage: Stage,
    elements: Vec<Vec<u8>>,
    /// What is still to be looked up, the next one last, and what was found.
    to_look_up: Vec<Lookup>,
    found: Vec<Vec<u8>>,
    /// How many bytes may be found.
    limit: usize,
    /// How many values the client gets or has stored.
    count: usize,
}

impl Sort {
    /// Finds up to `limit` bytes.
    pub fn new(request: &Request, version: Version, limit: usize) -> Sort {
        let (elements, to_look_up, found) = (Vec::new(), Vec::new(), Vec::new());
        let words = Words::read(request);
        Sort { words, version, stage: Stage::Begin, elements, to_look_up, found, limit, count: 0 }
    }

    /// Asks for the elements: as they come if they are sorted here, else in their order.
    fn ask_elements(&mut self, words: &Words) -> Step {
        self.stage = Stage::Elements;
        let mut args = vec![b"SORT".to_vec(), words.key.clone()];
        let mut add = |word: &[u8]| args.push(word.to_vec());
        if words.by.is_some() {
            add(b"BY");
            add(b"nosort");
        }
        if !words.sorts_by_pattern() {
            if words.is_alpha {
                add(b"ALPHA");
            }
            if words.is_descending {
                add(b"DESC");
            }
            if let Some((from, most)) = words.limit {
                add(b"LIMIT");
                add(from.to_string().as_bytes());
                add(most.to_string().as_bytes());
            }
        }
        Step::Ask(vec![single(Manner::Read, Slot::of_key(&words.key), &args)])
    }

    fn has_elements(&mut self, words: &Words, reply: &[u8]) -> Step {
        if is_error(reply) {
            return given_up(reply);
        }
        let (_, mut rest) = array(reply);
        while let Some((one, after)) = element(rest) {
            self.elements.push(text_of(one).to_vec());
            rest = after;
        }
        self.stage = Stage::Weights;
        match words.by.as_ref().filter(|_| words.sorts_by_pattern()) {
            Some(by) => {
                let pattern = std::slice::from_ref(by);
                self.look_up(pattern).unwrap_or_else(|| self.has_weights(words))
            }
            None => self.ask_values(words),
        }
    }

    /// Asks for what the patterns stand for, of each element in turn; `None` if there is nothing to ask.
    fn look_up(&mut self, patterns: &[Vec<u8>]) -> Option<Step> {
        self.to_look_up = lookups(&self.elements, patterns).filter(|lookup| ask(lookup).is_some()).collect();
        self.to_look_up.reverse();
        if self.to_look_up.len() > MOST_LOOKUPS {
            return Some(given_up(&error_line(&ErrorReply::TooManyLookups { limit: MOST_LOOKUPS })));
        }
        self.look_up_more()
    }

    /// Asks for the next of them.
    fn look_up_more(&mut self) -> Option<Step> {
        let left = self.to_look_up.len().saturating_sub(LOOKUPS_AT_ONCE);
        let asks: Vec<Ask> = self.to_look_up.drain(left..).rev().filter_map(|lookup| ask(&lookup)).collect();
        (!asks.is_empty()).then_some(Step::Ask(asks))
    }

    /// Takes in what was found; gives the next step unless all is.
    fn look_at(&mut self, replies: &[Vec<u8>]) -> Option<Step> {
        self.found.extend_from_slice(replies);
        if self.keeps() > self.limit {
            return Some(given_up(&error_line(&ErrorReply::CrossSlotTooLarge { limit: self.limit })));
        }
        self.look_up_more()
    }

    fn has_weights(&mut self, words: &Words) -> Step {
        let by = words.by.clone().unwrap_or_default();
        let found = std::mem::take(&mut self.found);
        let weights = match values(&self.elements, &[by], &found) {
            Ok(weights) => weights,
            Err(error) => return given_up(error),
        };
        let mut weighed: Vec<(Vec<u8>, Option<Vec<u8>>, f64)> = Vec::with_capacity(self.elements.len());
        for (element, weight) in std::mem::take(&mut self.elements).into_iter().zip(weights) {
            let score = match &weight {
                Some(weight) if !words.is_alpha => match number(weight) {
                    Some(score) => score,
                    None => {
                        let what = "One or more scores can't be converted into double";
                        return given_up(&error_line(&ErrorReply::Invalid { what }));
                    }
                },
                _ => 0.0,
            };
            weighed.push((element, weight, score));
        }
        weighed.sort_by(|one, other| {
            let order = match words.is_alpha {
                // No value comes before any.
                true => one.1.cmp(&other.1),
                false => {
                    one.2.partial_cmp(&other.2).unwrap_or(Ordering::Equal).then_with(|| one.0.cmp(&other.0))
                }
            };
            if words.is_descending { order.reverse() } else { order }
        });
        let range = words.range(weighed.len());
        self.elements = weighed.drain(range).map(|(element, ..)| element).collect();
        self.ask_values(words)
    }

    fn ask_values(&mut self, words: &Words) -> Step {
        self.stage = Stage::Values;
        self.look_up(&words.get).unwrap_or_else(|| self.has_values(words))
    }

    fn has_values(&mut self, words: &Words) -> Step {
        let found = std::mem::take(&mut self.found);
        let itself = [b"#".to_vec()];
        let patterns = if words.get.is_empty() { &itself[..] } else { &words.get };
        let values = match values(&self.elements, patterns, &found) {
            Ok(values) => values,
            Err(error) => return given_up(error),
        };
        self.count = values.len();
        if let Some(store) = &words.store {
            return self.store(store, values);
        }
        let mut out = Vec::new();
        let mut reply = ReplyWriter { out: &mut out, version: self.version };
        reply.array(values.len());
        for value in values {
            match value {
                Some(value) => reply.bulk(value),
                None => reply.null(),
            }
        }
        answered(out)
    }

    fn store(&mut self, key: &[u8], values: Vec<Option<Vec<u8>>>) -> Step {
        self.stage = Stage::Storing;
        let mut transaction = Transaction::new();
        transaction.add(&[b"DEL", key]);
        if !values.is_empty() {
            let mut args = vec![b"RPUSH".to_vec(), key.to_vec()];
            args.extend(values.into_iter().map(Option::unwrap_or_default));
            transaction.add(&args);
        }
        Step::Ask(vec![transaction.ask(Manner::Write, Slot::of_key(key))])
    }

    fn has_stored(&self, reply: &[u8]) -> Step {
        match is_error(reply) {
            true if is_unknown(reply) => half_way("sort", reply),
            true => given_up(reply),
            false => answered(format!(":{}\r\n", self.count).into_bytes()),
        }
    }
}

/// What each pattern means for each element in turn.
fn lookups<'a>(elements: &'a [Vec<u8>], patterns: &'a [Vec<u8>]) -> impl Iterator<Item = Lookup> + use<'a> {
    elements.iter().flat_map(move |element| patterns.iter().map(move |pattern| Lookup::of(pattern, element)))
}

fn ask(lookup: &Lookup) -> Option<Ask> {
    let (key, args) = match lookup {
        Lookup::Key(key) => (key, vec![b"GET", &key[..]]),
        Lookup::Field(key, field) => (key, vec![b"HGET", &key[..], field]),
        Lookup::Element | Lookup::Nothing => return None,
    };
    Some(single(Manner::Read, Slot::of_key(key), &args))
}

/// The values that patterns stand for, of each element in turn, of which `replies` has those that were
/// asked for. What is of another type is no value.
fn values<'a>(
    elements: &[Vec<u8>],
    patterns: &[Vec<u8>],
    replies: &'a [Vec<u8>],
) -> Result<Vec<Option<Vec<u8>>>, &'a [u8]> {
    let mut replies = replies.iter();
    let mut found = Vec::with_capacity(elements.len() * patterns.len());
    for element in elements {
        for pattern in patterns {
            found.push(match Lookup::of(pattern, element) {
                Lookup::Element => Some(element.clone()),
                Lookup::Nothing => None,
                Lookup::Key(_) | Lookup::Field(..) => match replies.next() {
                    Some(reply) if is_error(reply) && !reply.starts_with(b"-WRONGTYPE") => return Err(reply),
                    Some(reply) => bulk(reply).map(<[u8]>::to_vec),
                    None => None,
                },
            });
        }
    }
    Ok(found)
}

/// A number as `strtod` reads it, all of it.
fn number(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim_start();
    if text.is_empty() {
        return Some(0.0);
    }
    let number: f64 = text.parse().ok()?;
    let is_spelled_out = text.contains(['n', 'N']);
    (number.is_finite() || (is_spelled_out && !number.is_nan())).then_some(number)
}

impl Plan for Sort {
    fn step(&mut self, replies: &[Vec<u8>]) -> Step {
        let words = match &self.words {
            Ok(words) => words.clone(),
            Err(error) => return given_up(&error_line(error)),
        };
        match self.stage {
            Stage::Begin => self.ask_elements(&words),
            Stage::Elements => self.has_elements(&words, &replies[0]),
            Stage::Weights => self.look_at(replies).unwrap_or_else(|| self.has_weights(&words)),
            Stage::Values => self.look_at(replies).unwrap_or_else(|| self.has_values(&words)),
            Stage::Storing => self.has_stored(&replies[0]),
        }
    }

    fn must_end(&self) -> bool {
        self.stage == Stage::Storing
    }

    fn keeps(&self) -> usize {
        self.elements.iter().chain(&self.found).map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_server_does() {
        for (text, expected) in [
            ("1.5", Some(1.5)),
            (" -2", Some(-2.0)),
            ("", Some(0.0)),
            ("inf", Some(f64::INFINITY)),
            ("1e999", None),
            ("nan", None),
            ("1 ", None),
            ("x", None),
        ] {
            assert_eq!(number(text.as_bytes()), expected, "{text}");
        }
    }
}
