//! Key extraction of the built-in commands, request by request, and of anything at all.

use proptest::prelude::*;

use super::bits::Access;
use super::keys::{KeyError, KeyRef, extract};
use super::odd::sort_patterns;
use super::spec::{KeyShape, Range, Spec};
use super::table::{Lookup, Table};
use super::testing::{with_request, words};

fn keys_of(table: &Table, line: &str) -> Result<Vec<KeyRef>, KeyError> {
    let mut keys = Vec::new();
    with_request(&words(line), |request| match table.lookup(request) {
        Lookup::Found(_, spec) => extract(spec, request, &mut keys),
        other => panic!("{line}: {other:?}"),
    })
    .map(|()| keys)
}

#[test]
fn the_keys_of_every_kind_of_command_are_found() {
    let table = Table::builtin();
    for (line, expected) in [
        ("PING", &[][..]),
        ("GET k", &[1]),
        ("set k v", &[1]),
        ("MSET a 1 b 2 c 3", &[1, 3, 5]),
        ("MGET a b c", &[1, 2, 3]),
        ("DEL a", &[1]),
        ("RENAME a b", &[1, 2]),
        ("BITOP AND d a b", &[2, 3, 4]),
        ("PFMERGE d", &[1]),
        ("PFMERGE d a b", &[1, 2, 3]),
        ("BLPOP a b 0", &[1, 2]),
        ("EVAL script 2 a b x y", &[3, 4]),
        ("EVAL script 0 x", &[]),
        ("FCALL_RO f 1 a", &[3]),
        ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", &[1, 3, 4]),
        ("ZUNION 2 a b", &[2, 3]),
        ("SINTERCARD 1 a LIMIT 2", &[2]),
        ("LMPOP 2 a b LEFT", &[2, 3]),
        ("BZMPOP 0 1 a MIN", &[3]),
        ("MSETEX 2 a 1 b 2 EX 5", &[2, 4]),
        ("OBJECT ENCODING k", &[2]),
        ("object help", &[]),
        ("MEMORY USAGE k", &[2]),
        ("XGROUP CREATE k g $", &[2]),
        ("XINFO STREAM k", &[2]),
        ("DEBUG OBJECT k", &[2]),
        ("DEBUG SLEEP 0", &[]),
        ("DEBUG DIGEST-VALUE a b", &[2, 3]),
        ("XREAD COUNT 2 STREAMS a b 0 0", &[4, 5]),
        ("XREAD STREAMS streams 0", &[2]),
        ("XREAD BLOCK 0 streams streams streams 0 0", &[4, 5]),
        ("XREADGROUP GROUP streams streams STREAMS k >", &[5]),
        ("XREADGROUP NOACK GROUP g streams STREAMS k >", &[6]),
        ("XREADGROUP GROUP g c CLAIM 5 STREAMS k >", &[7]),
        ("SORT k", &[1]),
        ("SORT k BY store LIMIT 0 1 GET store STORE d", &[1, 10]),
        ("SORT k STORE a DESC STORE b", &[1, 6]),
        ("SORT_RO k BY w_* GET #", &[1]),
        ("GEORADIUS k 0 0 1 m", &[1]),
        ("GEORADIUS k 0 0 1 m STORE a STOREDIST b", &[1, 9]),
        ("GEORADIUSBYMEMBER k m 1 m COUNT 1 ANY STORE d", &[1, 9]),
        ("MIGRATE h 1 k 0 10", &[3]),
        ("MIGRATE h 1 \"\" 0 10 COPY AUTH keys KEYS a b", &[10, 11]),
        ("SPUBLISH c m", &[1]),
        ("SSUBSCRIBE a b", &[1, 2]),
        ("SUNSUBSCRIBE", &[]),
        ("KEYS *", &[]),
        ("JSON.MGET a b $", &[1, 2]),
        ("JSON.MSET a $ 1 b $ 2", &[1, 4]),
        ("JSON.DEBUG MEMORY k $", &[2]),
        ("JSON.DEBUG HELP", &[]),
        ("CMS.MERGE d 2 a b", &[1, 3, 4]),
        ("TS.CREATERULE a b AGGREGATION avg 10", &[1, 2]),
        ("FT.SEARCH idx *", &[]),
        ("LMOVEM a b LEFT RIGHT", &[1, 2]),
        ("HIMPORT SET k f v", &[2]),
    ] {
        let keys = keys_of(&table, line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(keys.iter().map(|key| key.index).collect::<Vec<_>>(), expected, "{line}");
    }
}

#[test]
fn what_happens_to_a_key_follows_the_other_arguments() {
    let table = Table::builtin();
    for (line, words) in [
        ("SET k v", "OW update"),
        ("SET k v EX 5 GET", "RW access update"),
        ("SET k v IFEQ old", "RW update"),
        ("BITFIELD k GET u8 0 OVERFLOW SAT GET u8 1", "RO access"),
        ("BITFIELD k GET u8 0 INCRBY u8 0 1", "RW access update"),
        ("DELEX k", "RM delete"),
        ("DELEX k IFEQ v", "RW delete"),
        ("GET k", "RO access"),
        ("SPUBLISH c m", "not_key"),
    ] {
        let keys = keys_of(&table, line).unwrap();
        assert_eq!(keys[0].access.words().collect::<Vec<_>>().join(" "), words, "{line}");
    }
}

#[test]
fn a_wrong_number_of_keys_is_told_as_the_server_means_it() {
    let table = Table::builtin();
    for (line, error) in [
        ("EVAL s x a", KeyError::NotANumber),
        ("EVAL s +1 a", KeyError::NotANumber),
        ("EVAL s 01 a", KeyError::NotANumber),
        ("EVAL s -1 a", KeyError::Negative),
        ("EVAL s 2 a", KeyError::TooMany),
        ("EVAL s 9223372036854775807 a", KeyError::TooMany),
        ("EVAL s 9223372036854775808 a", KeyError::NotANumber),
        ("EVAL s 4294967297 a", KeyError::TooMany),
        ("MSETEX 4611686018427387904 a 1", KeyError::TooMany),
        ("ZUNION 0 a", KeyError::NoKeys),
        ("ZUNIONSTORE d 3 a b", KeyError::TooMany),
        ("XREAD STREAMS a b 0", KeyError::Syntax),
        ("XREAD COUNT 1 a 0", KeyError::Syntax),
        ("XREADGROUP GROUP g c STREAMS", KeyError::Syntax),
        ("SORT k STORE", KeyError::Missing),
        ("MIGRATE h 1 k 0 10 KEYS a", KeyError::Syntax),
        ("GET", KeyError::Missing),
    ] {
        assert_eq!(keys_of(&table, line), Err(error), "{line}");
    }
}

#[test]
fn the_patterns_of_sort_are_told_apart_from_keys() {
    let patterns = |line| with_request(&words(line), |request| sort_patterns(request).collect::<Vec<_>>());
    assert_eq!(patterns("SORT k BY w_* GET # GET d_* STORE get"), [3, 7]);
    assert_eq!(patterns("SORT k BY nosort GET d_*->f"), [5]);
    assert!(patterns("SORT k ALPHA").is_empty());
}

#[test]
fn the_hot_commands_have_a_shape_that_says_it_all() {
    let table = Table::builtin();
    let shape = |name: &str| table.by_name(name.as_bytes()).unwrap().1.shape;
    for name in ["get", "set", "incr", "lpush", "hset", "bitfield", "expire", "spublish"] {
        assert_eq!(shape(name), KeyShape::One(1), "{name}");
    }
    assert_eq!(shape("object|encoding"), KeyShape::One(2));
    assert_eq!(shape("mget"), KeyShape::Range(Range { first: 1, last: -1, step: 1 }));
    assert_eq!(shape("mset"), KeyShape::Range(Range { first: 1, last: -1, step: 2 }));
    assert_eq!(shape("rename"), KeyShape::Range(Range { first: 1, last: 2, step: 1 }));
    assert_eq!(shape("ping"), KeyShape::None);
    for name in ["eval", "xread", "sort", "migrate", "zunionstore", "debug"] {
        assert_eq!(shape(name), KeyShape::Special, "{name}");
    }
}

/// Whether what `extract` found is what the shape promises.
fn fits(spec: &Spec, argc: usize, found: &[u32]) -> bool {
    match spec.shape {
        KeyShape::None => found.is_empty(),
        KeyShape::One(index) => found == [u32::from(index)],
        KeyShape::Range(Range { first, last, step }) => {
            let last = if last < 0 { argc as i64 + i64::from(last) } else { i64::from(last) };
            let range = (i64::from(first)..=last).step_by(step as usize);
            range.map(|index| index as u32).eq(found.iter().copied())
        }
        KeyShape::Special => true,
    }
}

proptest! {
    #[test]
    fn any_arguments_give_keys_inside_the_request_or_an_error(
        pick in any::<prop::sample::Index>(),
        tail in prop::collection::vec(
            prop_oneof![
                "(?i)(streams|store|storedist|keys|get|set|by|limit|group|block|count|object|auth2|overflow)",
                "-?[0-9]{1,20}",
                Just("2147483648".to_owned()),
                "[a-c*#]{0,3}",
            ],
            0..12,
        ),
    ) {
        let table = Table::builtin();
        let (_, spec) = table.iter().nth(pick.index(table.len())).unwrap();
        let mut args: Vec<&[u8]> = spec.name.split('|').map(str::as_bytes).collect();
        args.extend(tail.iter().map(String::as_bytes));
        let argc = args.len();
        let mut keys = vec![KeyRef { index: 99, access: Access::NONE }];
        let found = with_request(&args, |request| extract(spec, request, &mut keys));
        let indices: Vec<u32> = keys.iter().map(|key| key.index).collect();
        prop_assert!(indices.iter().all(|&index| index > 0 && (index as usize) < argc), "{indices:?}");
        match found {
            Ok(()) if spec.takes(argc) => prop_assert!(fits(spec, argc, &indices), "{spec:?} {indices:?}"),
            Ok(()) => {}
            Err(_) => prop_assert!(keys.is_empty()),
        }
    }
}
