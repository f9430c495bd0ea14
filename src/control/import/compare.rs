//! Whether the source and the cluster have the same under a key.
//!
//! Two `DUMP`s of equal values mostly are equal, but for the version and checksum at their end. Where they
//! are not (a table lists its members in an order of its own; releases and settings write values down
//! differently) the values themselves are compared. The verdicts are pure; `same_content` asks.

use super::source::Value;
use crate::control::node_client::{NodeClient, NodeError, Reply};
use bytes::Bytes;
use std::fmt;

/// The two bytes of version and eight of checksum that end a `DUMP`.
const TRAILER: usize = 10;
/// By how much times may differ, in milliseconds, where a server tells only what is left: clocks differ.
const TOLERANCE: u64 = 5_000;

/// In what a key of the cluster differs from the source's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Difference {
    Missing,
    /// The source has no such key.
    Extra,
    Expiry,
    Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Difference::Missing => "is missing in the cluster",
            Difference::Extra => "is in the cluster and not in the source",
            Difference::Expiry => "expires at another time",
            Difference::Value => "has another value",
        })
    }
}

/// What can be told from what both sides say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Same,
    Differs(Difference),
    /// The values are written down differently, which need not mean that they differ.
    Unclear,
}

/// Compares what both sides have under one key.
pub fn judge(ours: Option<&Value>, theirs: Option<&Value>) -> Verdict {
    let (ours, theirs) = match (ours, theirs) {
        (None, None) => return Verdict::Same,
        (Some(_), None) => return Verdict::Differs(Difference::Missing),
        (None, Some(_)) => return Verdict::Differs(Difference::Extra),
        (Some(ours), Some(theirs)) => (ours, theirs),
    };
    let is_same_time = match (ours.expiry, theirs.expiry) {
        (None, None) => true,
        (Some(ours), Some(theirs)) => ours.abs_diff(theirs) <= TOLERANCE,
        _ => false,
    };
    if !is_same_time {
        Verdict::Differs(Difference::Expiry)
    } else if body(&ours.payload) == body(&theirs.payload) {
        Verdict::Same
    } else {
        Verdict::Unclear
    }
}

fn body(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().saturating_sub(TRAILER)]
}

/// Whether a `DUMP` is that of a stream (`RDB_TYPE_STREAM_LISTPACKS` and its later forms, `src/rdb.h`).
pub fn is_stream(payload: &[u8]) -> bool {
    matches!(payload.first(), Some(15 | 19 | 21 | 26 | 27))
}

/// Whether both servers have the same value under the key; `None` where it cannot be told, because only a
/// module knows the type and nobody may ask for a digest.
///
/// # Errors
/// One of them does not answer; a redirect is an error.
pub async fn same_content(
    ours: &mut NodeClient,
    theirs: &mut NodeClient,
    key: &Bytes,
) -> Result<Option<bool>, NodeError> {
    let kind = kind_of(ours, key).await?;
    if kind != kind_of(theirs, key).await? {
        return Ok(Some(false));
    }
    let key = key.as_ref();
    let question: Vec<&[u8]> = match kind.as_str() {
        "none" => return Ok(Some(true)),
        "string" => vec![b"GET", key],
        "list" => vec![b"LRANGE", key, b"0", b"-1"],
        "set" => vec![b"SMEMBERS", key],
        "zset" => vec![b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"],
        "hash" => vec![b"HGETALL", key],
        "stream" => vec![b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"],
        _ => vec![b"DEBUG", b"DIGEST-VALUE", key],
    };
    let is_digest = question[0] == b"DEBUG";
    match (ours.call(&question).await, theirs.call(&question).await) {
        (Ok(ours), Ok(theirs)) => Ok(Some(in_order(&kind, ours) == in_order(&kind, theirs))),
        (Err(NodeError::Refused { .. }), _) | (_, Err(NodeError::Refused { .. })) if is_digest => Ok(None),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

async fn kind_of(client: &mut NodeClient, key: &Bytes) -> Result<String, NodeError> {
    client.call_text(&[b"TYPE", key.as_ref()]).await
}

/// A value in an order and form that is the same for equal values.
fn in_order(kind: &str, reply: Reply) -> Vec<Vec<Bytes>> {
    let mut flat = Vec::new();
    match reply {
        Reply::Array(items) => items.into_iter().for_each(|item| flatten(item, &mut flat)),
        reply => flatten(reply, &mut flat),
    }
    let mut parts: Vec<Vec<Bytes>> = match kind {
        "hash" | "zset" => flat.chunks(2).map(<[Bytes]>::to_vec).collect(),
        "set" => flat.into_iter().map(|member| vec![member]).collect(),
        "stream" => {
            // How the entries are spread over a tree is not part of the value.
            let is_shape = |word: &Bytes| word.starts_with(b"radix-tree-");
            let shape: Vec<usize> = (0..flat.len().min(12)).filter(|at| is_shape(&flat[*at])).collect();
            let kept = flat.into_iter().enumerate();
            let kept = kept.filter(|(at, _)| !shape.iter().any(|shape| *at == *shape || *at == shape + 1));
            vec![kept.map(|(_, word)| word).collect()]
        }
        _ => vec![flat],
    };
    match kind {
        "zset" => {
            // Releases print the same score in different ways.
            for score in parts.iter_mut().filter_map(|pair| pair.get_mut(1)) {
                let number = std::str::from_utf8(score).ok().and_then(|text| text.parse::<f64>().ok());
                if let Some(number) = number {
                    *score = Bytes::copy_from_slice(&number.to_bits().to_be_bytes());
                }
            }
            parts
        }
        "hash" | "set" => {
            parts.sort_unstable();
            parts
        }
        _ => parts,
    }
}

/// All texts and numbers of a reply in order, before those of an array its length.
fn flatten(reply: Reply, out: &mut Vec<Bytes>) {
    match reply {
        Reply::BulkString(bytes) | Reply::SimpleString(bytes) => out.push(bytes),
        Reply::Integer(number) => out.push(number.to_string().into()),
        Reply::Null => out.push(Bytes::from_static(b"(nil)")),
        Reply::Error(text) => out.push(Bytes::copy_from_slice(text.as_bytes())),
        Reply::Array(items) => {
            out.push(format!("*{}", items.len()).into());
            items.into_iter().for_each(|item| flatten(item, out));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(payload: &'static [u8], expiry: Option<u64>) -> Value {
        Value { payload: Bytes::from_static(payload), expiry }
    }

    #[test]
    fn values_are_compared_without_the_version_and_checksum_at_their_end() {
        let (ours, theirs) = (value(b"\x00body0123456789", None), value(b"\x00body9876543210", None));
        assert_eq!(judge(Some(&ours), Some(&theirs)), Verdict::Same);
        assert_eq!(judge(Some(&ours), Some(&value(b"\x00bodi9876543210", None))), Verdict::Unclear);
        assert_eq!(judge(Some(&ours), None), Verdict::Differs(Difference::Missing));
        assert_eq!(judge(None, Some(&theirs)), Verdict::Differs(Difference::Extra));
        let expiring = |at| value(b"\x00body0123456789", Some(at));
        assert_eq!(judge(Some(&ours), Some(&expiring(9))), Verdict::Differs(Difference::Expiry));
        assert_eq!(judge(Some(&expiring(10_000)), Some(&expiring(12_000))), Verdict::Same);
        assert_eq!(
            judge(Some(&expiring(10_000)), Some(&expiring(20_000))),
            Verdict::Differs(Difference::Expiry)
        );
    }

    fn array(words: &[&'static str]) -> Reply {
        Reply::Array(
            words.iter().map(|word| Reply::BulkString(Bytes::from_static(word.as_bytes()))).collect(),
        )
    }

    #[test]
    fn the_order_of_tables_does_not_matter_and_that_of_lists_does() {
        let same = |kind, ours, theirs| in_order(kind, array(ours)) == in_order(kind, array(theirs));
        assert!(same("set", &["a", "b"], &["b", "a"]));
        assert!(same("hash", &["a", "1", "b", "2"], &["b", "2", "a", "1"]));
        assert!(!same("hash", &["a", "1", "b", "2"], &["a", "2", "b", "1"]));
        assert!(!same("list", &["a", "b"], &["b", "a"]));
        assert!(same("zset", &["a", "0.1"], &["a", "0.10000000000000001"]));
        assert!(!same("zset", &["a", "0.1"], &["a", "0.2"]));
        assert!(same(
            "stream",
            &["length", "1", "radix-tree-keys", "1", "x"],
            &["length", "1", "radix-tree-keys", "2", "x"]
        ));
        assert!(!same("stream", &["length", "1", "x"], &["length", "1", "y"]));
    }
}
