//! The rules of the election, one by one; a whole world of candidates is in the model.

use super::*;

#[path = "rules_model.rs"]
mod model;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn candidate(identity: &str) -> Candidate {
    Candidate::new(identity.into(), Timing::default())
}

fn found(holder: &str, transitions: u32, version: &str) -> Found {
    let record = Record { holder: holder.into(), duration: seconds(15), transitions };
    Found { record, version: version.into() }
}

fn written(step: Step) -> (String, u32, Option<String>) {
    match step {
        Step::Write(record, version) => (record.holder, record.transitions, version),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_lease_the_first_one_creates_it_and_leads_for_the_deadline_from_before_it_asked() {
    let (mut a, now) = (candidate("a"), Instant::now());
    assert_eq!(a.step(now), Step::Look);
    a.saw(None, now);
    assert_eq!(written(a.step(now)), ("a".into(), 0, None));
    a.wrote(found("a", 0, "1"), now, now + seconds(3));
    assert_eq!((a.leads_until(), a.term()), (Some(now + seconds(10)), 1));
    // It knows what it wrote last, and renews without a look.
    a.rested(now + seconds(5));
    assert_eq!(written(a.step(now + seconds(5))), ("a".into(), 0, Some("1".into())));
    a.wrote(found("a", 0, "2"), now + seconds(5), now + seconds(5));
    assert_eq!((a.leads_until(), a.term()), (Some(now + seconds(15)), 1), "renewed, not elected anew");
}

#[test]
fn a_holder_is_waited_for_from_when_its_last_change_was_seen() {
    let (mut b, now) = (candidate("b"), Instant::now());
    b.saw(Some(found("a", 3, "1")), now);
    assert_eq!(b.step(now + seconds(14)), Step::Rest);
    b.saw(Some(found("a", 3, "2")), now + seconds(14));
    assert_eq!(b.step(now + seconds(28)), Step::Rest, "it was renewed");
    // Seen again without a change: the time goes on from when it changed.
    b.saw(Some(found("a", 3, "2")), now + seconds(28));
    assert_eq!(written(b.step(now + seconds(29))), ("b".into(), 4, Some("2".into())));
}

#[test]
fn a_holder_that_asks_for_more_time_gets_it_and_one_that_asks_for_less_does_not() {
    for (asked, free_at) in [(40, 40), (1, 15)] {
        let (mut b, now) = (candidate("b"), Instant::now());
        let mut held = found("a", 0, "1");
        held.record.duration = seconds(asked);
        b.saw(Some(held), now);
        assert_eq!(b.step(now + seconds(free_at - 1)), Step::Rest);
        assert_eq!(written(b.step(now + seconds(free_at))).0, "b");
    }
}

#[test]
fn what_was_given_back_is_taken_at_once() {
    let (mut a, mut b, now) = (candidate("a"), candidate("b"), Instant::now());
    a.wrote(found("a", 7, "1"), now, now);
    let (record, version) = a.give_up().unwrap();
    assert_eq!((record.holder.as_str(), record.duration, record.transitions), ("", seconds(1), 7));
    assert_eq!((version.as_str(), a.leads_until()), ("1", None));
    b.saw(Some(Found { record, version: "2".into() }), now);
    assert_eq!(written(b.step(now)), ("b".into(), 8, Some("2".into())));
    assert_eq!(b.give_up(), None, "it is not b's to give back");
}

#[test]
fn who_sees_another_holder_leads_no_more_and_who_leads_no_more_looks_first() {
    let (mut a, now) = (candidate("a"), Instant::now());
    a.wrote(found("a", 0, "1"), now, now);
    a.failed();
    assert_eq!(a.step(now), Step::Look, "the write was refused or its answer lost");
    a.saw(Some(found("b", 1, "2")), now + seconds(1));
    assert_eq!((a.leads_until(), a.step(now + seconds(1))), (None, Step::Rest));
    // Stopped for a minute, and the Lease is still its own: whether it is, it must ask.
    let mut slept = candidate("a");
    slept.wrote(found("a", 0, "1"), now, now);
    slept.rested(now + seconds(60));
    assert_eq!(slept.step(now + seconds(60)), Step::Look);
    slept.saw(Some(found("a", 0, "1")), now + seconds(60));
    assert_eq!(slept.leads_until(), None);
    slept.wrote(found("a", 0, "2"), now + seconds(60), now + seconds(60));
    assert_eq!(slept.term(), 2, "somebody may have led in between");
}

#[test]
fn an_answer_that_comes_after_the_deadline_makes_nobody_lead() {
    let (mut a, now) = (candidate("a"), Instant::now());
    a.saw(None, now);
    a.wrote(found("a", 0, "1"), now, now + seconds(11));
    assert!(a.leads_until().unwrap() < now + seconds(11));
    assert_eq!(a.term(), 0);
}

#[test]
fn a_lease_that_somebody_deletes_is_not_taken_before_its_holder_must_have_noticed() {
    let (mut a, mut b, now) = (candidate("a"), candidate("b"), Instant::now());
    a.wrote(found("a", 2, "1"), now, now);
    b.saw(Some(found("a", 2, "1")), now);
    b.saw(None, now + seconds(1));
    assert_eq!(b.step(now + seconds(14)), Step::Rest);
    assert_eq!(written(b.step(now + seconds(15))), ("b".into(), 3, None));
    a.saw(None, now + seconds(2));
    assert_eq!((a.leads_until(), written(a.step(now + seconds(2)))), (None, ("a".into(), 2, None)));
}
