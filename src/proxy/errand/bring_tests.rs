//! What is asked for commands of several slots, step by step.

use super::plans::{only_reads, plan};
use super::{Ask, Manner, Plan, Step};
use crate::command::{Lookup, Table, extract};
use crate::resp::{Limits, Request, RequestScanner, Version, write_request};
use crate::topology::Slot;

/// The plan of a command, and whether it only reads.
fn plan_of(line: &str) -> Option<(Box<dyn Plan>, bool)> {
    let mut frame = Vec::new();
    write_request(&mut frame, line.split(' ').collect::<Vec<_>>());
    let mut scanner = RequestScanner::default();
    scanner.scan(&frame, Limits::USUAL).unwrap();
    let request = Request::new(&frame, scanner.args());
    let table = Table::builtin();
    let Lookup::Found(_, spec) = table.lookup(&request) else { panic!("{line} is no command") };
    let mut keys = Vec::new();
    extract(spec, &request, &mut keys).unwrap();
    let is_read = only_reads(spec, &keys);
    let plan = plan(spec, &request, Version::Resp2, usize::MAX, &mut keys)?;
    assert_eq!(plan.1, is_read);
    Some(plan)
}

fn slot(key: &str) -> Slot {
    Slot::of_key(key.as_bytes())
}

fn asks(step: Step) -> Vec<Ask> {
    match step {
        Step::Ask(asks) => asks,
        Step::Answer(answer) => panic!("answered {}", answer.reply.escape_ascii()),
    }
}

/// The keys that are fetched first, and where the command then runs.
fn first_steps(line: &str) -> (Vec<Slot>, Slot) {
    let (mut plan, _) = plan_of(line).unwrap();
    let mut fetched = asks(plan.step(&[]));
    while fetched[0].manner == Manner::Write {
        // A lock.
        fetched = asks(plan.step(&[b"+OK\r\n".to_vec()]));
    }
    assert!(fetched.iter().all(|ask| ask.manner == Manner::Read));
    let none = b"*2\r\n$-1\r\n:-2\r\n".to_vec();
    let [run] = &asks(plan.step(&vec![none; fetched.len()]))[..] else { panic!("it runs at several places") };
    assert_eq!(run.manner, Manner::Own);
    (fetched.iter().map(|ask| ask.slot).collect(), run.slot)
}

#[test]
fn as_little_as_possible_is_brought_for_a_read() {
    assert_eq!(first_steps("SINTER a b c b{a}"), (vec![slot("b"), slot("c")], slot("a")));
    assert_eq!(first_steps("ZUNION 3 x {y}1 {y}2 WITHSCORES"), (vec![slot("x")], slot("y")));
    assert_eq!(first_steps("SUNION a b b b"), (vec![slot("b")], slot("a")));
}

#[test]
fn what_writes_one_slot_runs_there() {
    assert_eq!(first_steps("SUNIONSTORE d a a{d}"), (vec![slot("a")], slot("d")));
    assert_eq!(first_steps("COPY a b"), (vec![slot("a")], slot("b")));
    assert_eq!(first_steps("BITOP AND d a b"), (vec![slot("a"), slot("b")], slot("d")));
    assert_eq!(first_steps("SORT a STORE b"), (vec![slot("a")], slot("b")));
    assert_eq!(first_steps("GEORADIUS g 15 37 9 km STORE d"), (vec![slot("g")], slot("d")));
}

#[test]
fn what_writes_several_slots_runs_on_copies_of_them() {
    for line in ["RENAME a b", "SMOVE a b m", "LMOVE a b LEFT LEFT", "LMPOP 2 a b LEFT", "MSETNX a 1 b 2"] {
        assert_eq!(first_steps(line).0, [slot("a"), slot("b")], "{line}");
    }
}

#[test]
fn who_only_reads_is_told_from_the_request() {
    for (line, expected) in [
        ("SUNION a b", true),
        ("PFCOUNT a b", true),
        ("SORT a BY w_*", true),
        ("SORT a BY w_* STORE b", false),
        ("XREAD STREAMS a b 0 0", true),
        ("XREADGROUP GROUP g c STREAMS a b > >", false),
        ("EVAL x 2 a b", false),
        ("EVAL_RO x 2 a b", true),
    ] {
        assert_eq!(plan_of(line).unwrap().1, expected, "{line}");
    }
    assert!(plan_of("SSUBSCRIBE a b").is_none());
}
