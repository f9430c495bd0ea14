//! Tests of `fanout`.

use super::*;
use proptest::prelude::*;

fn merge(policy: Policy, is_write: bool, replies: &[&str]) -> String {
    let mut merge = Merge::new(policy, Version::Resp2, replies.len(), is_write);
    // The last one first: parts answer in any order.
    for (part, reply) in replies.iter().enumerate().rev() {
        assert_eq!(merge.add(part, reply.as_bytes(), usize::MAX), part == 0);
    }
    String::from_utf8(merge.finish()).unwrap()
}

#[test]
fn counts_are_added() {
    assert_eq!(merge(Policy::Sum, true, &[":1\r\n", ":0\r\n", ":40\r\n"]), ":41\r\n");
    assert_eq!(merge(Policy::Min, false, &[":1\r\n", ":0\r\n"]), ":0\r\n");
}

#[test]
fn one_part_that_was_ended_is_enough() {
    let idle = "-NOTBUSY No scripts in execution right now.\r\n";
    assert_eq!(merge(Policy::Kill, false, &[idle, "+OK\r\n", idle]), "+OK\r\n");
    assert_eq!(merge(Policy::Kill, false, &[idle, "-UNKILLABLE no\r\n", idle]), "-UNKILLABLE no\r\n");
    assert_eq!(merge(Policy::Kill, false, &[idle, idle]), idle);
}

#[test]
fn what_a_piece_of_a_transaction_answers_goes_on_without_its_head() {
    let merged = |count, reply: &str| merge(Policy::Elements { count }, false, &[reply]);
    assert_eq!(merged(2, "*2\r\n+OK\r\n:1\r\n"), "+OK\r\n:1\r\n");
    assert_eq!(merged(2, "-EXECABORT no\r\n"), "-EXECABORT no\r\n-EXECABORT no\r\n");
    assert_eq!(merged(2, "*-1\r\n"), "*-1\r\n*-1\r\n");
}

#[test]
fn a_transaction_begins_only_if_no_watched_key_has_changed() {
    let merged = |replies: &[&str]| merge(Policy::Guard { count: 3 }, false, replies);
    assert_eq!(merged(&["*1\r\n+PONG\r\n", "*1\r\n+PONG\r\n"]), "*3\r\n");
    assert_eq!(merged(&["*1\r\n+PONG\r\n", "*-1\r\n"]), "*-1\r\n");
    assert_eq!(merged(&["*1\r\n+PONG\r\n", "-EXECABORT no\r\n"]), "-EXECABORT no\r\n");
}

#[test]
fn a_message_is_counted_for_our_clients_and_those_of_the_node() {
    for (node, ours, carried, told) in [(0, 0, 1, 0), (1, 3, 1, 3), (4, 2, 1, 5)] {
        let policy = Policy::Reached { ours, carried };
        assert_eq!(merge(policy, true, &[&format!(":{node}\r\n")]), format!(":{told}\r\n"));
    }
}

#[test]
fn values_stand_where_their_keys_stood() {
    let policy = Policy::Values { positions: vec![2, 0, 1] };
    assert_eq!(
        merge(policy, false, &["*2\r\n$1\r\nc\r\n$-1\r\n", "*1\r\n$1\r\nb\r\n"]),
        "*3\r\n$-1\r\n$1\r\nb\r\n$1\r\nc\r\n"
    );
}

#[test]
fn arrays_are_joined_or_intersected() {
    assert_eq!(
        merge(Policy::Concat, false, &["*1\r\n$1\r\na\r\n", "*0\r\n", "*1\r\n$1\r\nb\r\n"]),
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n"
    );
    assert_eq!(
        merge(
            Policy::LogicalAnd { known: vec![false, false, true] },
            false,
            &["*3\r\n:1\r\n:1\r\n:0\r\n", "*3\r\n:1\r\n:0\r\n:0\r\n"]
        ),
        "*3\r\n:1\r\n:0\r\n:1\r\n"
    );
}

#[test]
fn a_write_that_failed_in_part_never_says_ok() {
    let failed = merge(Policy::AllSucceed, true, &["+OK\r\n", "-OOM no\r\n"]);
    assert_eq!(failed, "-OOM 1 of 2 parts failed, the others are done; the first failure: no\r\n");
    assert_eq!(merge(Policy::AllSucceed, true, &["-OOM no\r\n", "-OOM no\r\n"]), "-OOM no\r\n");
    assert_eq!(merge(Policy::Sum, false, &[":1\r\n", "-ERR x\r\n"]), "-ERR x\r\n");
}

#[test]
fn a_random_key_comes_from_a_node_that_has_keys() {
    for _ in 0..20 {
        let reply = merge(Policy::RandomKey, false, &[":0\r\n", "$-1\r\n", ":9\r\n", "$1\r\nk\r\n"]);
        assert_eq!(reply, "$1\r\nk\r\n");
    }
    assert_eq!(merge(Policy::RandomKey, false, &[":0\r\n", "$-1\r\n"]), "$-1\r\n");
}

proptest! {
    #[test]
    fn split_then_merge_gives_every_key_its_value(keys in proptest::collection::vec("[a-f]{1,2}", 1..30)) {
        let mut grouped = Vec::new();
        group_by_slot(keys.iter().map(|key| key.as_bytes()), &mut grouped);
        let parts: Vec<&[(Slot, u32)]> = grouped.chunk_by(|a, b| a.0 == b.0).collect();
        let positions = grouped.iter().map(|(_, number)| *number).collect();
        let mut merge = Merge::new(Policy::Values { positions }, Version::Resp2, parts.len(), false);
        for (part, group) in parts.iter().enumerate() {
            let mut reply = format!("*{}\r\n", group.len()).into_bytes();
            group.iter().for_each(|(_, number)| write_bulk(&mut reply, keys[*number as usize].as_bytes()));
            merge.add(part, &reply, usize::MAX);
        }
        let mut expected = format!("*{}\r\n", keys.len()).into_bytes();
        keys.iter().for_each(|key| write_bulk(&mut expected, key.as_bytes()));
        prop_assert_eq!(merge.finish(), expected);
    }
}
