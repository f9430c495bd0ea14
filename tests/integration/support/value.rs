//! Replies as trees, for comparing what two sides say rather than how they order it.

use std::collections::{BTreeMap, BTreeSet};

/// A reply as a tree in which the order of sets and maps does not count, nor the letter case of texts
/// (modules name their commands in upper case). Texts that a key spec comes with for people are left
/// out; an empty list may be a set, as releases differ in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Value {
    Null,
    Number(i64),
    Text(String),
    Error(String),
    List(Vec<Value>),
    Set(BTreeSet<Value>),
    Map(BTreeMap<Value, Value>),
}

impl Value {
    /// The tree of one whole reply.
    #[track_caller]
    pub fn of(reply: &[u8]) -> Value {
        let mut rest = std::str::from_utf8(reply).unwrap();
        let value = read(&mut rest);
        assert!(rest.is_empty(), "{rest:?} after the reply");
        value
    }

    pub fn number(&self) -> i64 {
        if let Value::Number(number) = self { *number } else { panic!("{self:?} is no number") }
    }

    pub fn text(&self) -> &str {
        if let Value::Text(text) = self { text } else { panic!("{self:?} is no text") }
    }

    pub fn items(&self) -> Vec<&Value> {
        match self {
            Value::List(items) => items.iter().collect(),
            Value::Set(items) => items.iter().collect(),
            other => panic!("{other:?} has no items"),
        }
    }

    pub fn map(&self) -> &BTreeMap<Value, Value> {
        if let Value::Map(map) = self { map } else { panic!("{self:?} is no map") }
    }

    /// The same with all lists sorted.
    pub fn unordered(&self) -> Value {
        let Value::List(items) = self else { return self.clone() };
        let mut items: Vec<Value> = items.iter().map(Value::unordered).collect();
        items.sort();
        Value::List(items)
    }
}

fn read(rest: &mut &str) -> Value {
    let (line, tail) = rest.split_once("\r\n").expect("a whole line");
    *rest = tail;
    let (kind, text) = line.split_at(1);
    let length = || text.parse::<usize>().unwrap_or_else(|_| panic!("{line:?} has no length"));
    match kind {
        "_" => Value::Null,
        "$" | "*" if text == "-1" => Value::Null,
        ":" => Value::Number(text.parse().unwrap()),
        "+" => Value::Text(text.to_lowercase()),
        "-" => Value::Error(text.to_owned()),
        "$" => {
            let (body, tail) = rest.split_at(length());
            *rest = tail.strip_prefix("\r\n").expect("a bulk ends with a line break");
            Value::Text(body.to_lowercase())
        }
        "*" if text == "0" => Value::Set(BTreeSet::new()),
        "*" => Value::List((0..length()).map(|_| read(rest)).collect()),
        "~" => {
            let items: Vec<Value> = (0..length()).map(|_| read(rest)).collect();
            let set: BTreeSet<Value> = items.iter().cloned().collect();
            assert_eq!(set.len(), items.len(), "the same twice in a set");
            Value::Set(set)
        }
        "%" => {
            let pairs = (0..length()).map(|_| (read(rest), read(rest)));
            Value::Map(pairs.filter(|(key, _)| *key != Value::Text("notes".into())).collect())
        }
        _ => panic!("{line:?} is no reply"),
    }
}
