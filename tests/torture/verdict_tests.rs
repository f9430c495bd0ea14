//! The verdict is tried on made-up histories: it finds nothing in right ones, and every fault put into one.

use super::trial::history::{Deed, Disruption, Held, History, Key, Kind, Op, Outcome, Value};
use super::trial::verdict::{Verdict, Wrong, judge};
use proptest::prelude::*;
use std::time::Duration;

const CLIENTS: u32 = 4;
const KINDS: [Kind; 4] = [Kind::Counter, Kind::List, Kind::Text, Kind::Register];

/// One store that runs what it is sent in the order in which it comes, as one Redis would.
struct Store {
    held: Vec<Held>,
}

impl Store {
    fn new() -> Store {
        let empty = |kind: &Kind| match kind {
            Kind::Counter => Held::Number(0),
            Kind::List | Kind::Text => Held::Values(Vec::new()),
            Kind::Register => Held::One(None),
        };
        Store { held: KINDS.iter().map(empty).collect() }
    }

    fn run(&mut self, op: &Op) -> Outcome {
        match (&mut self.held[op.key], op.deed) {
            (Held::Number(count), Deed::Add) => {
                *count += 1;
                Outcome::Grown(*count)
            }
            (Held::Values(values), Deed::Add) => {
                values.push(op.value);
                let size = |value: &Value| value.to_string().len() as u64 + 1;
                let is_list = KINDS[op.key] == Kind::List;
                Outcome::Grown(if is_list { values.len() as u64 } else { values.iter().map(size).sum() })
            }
            (Held::One(held), Deed::Set) => {
                *held = Some(op.value);
                Outcome::Stored
            }
            (Held::One(held), Deed::Get) => Outcome::Read(*held),
            (held, deed) => panic!("{deed:?} of {held:?}"),
        }
    }
}

/// What a made-up history may hold besides requests that are run and answered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    /// Requests that are refused, or of which nobody knows.
    Errors,
    /// The same, and halfway what the last ones did is lost with their primary.
    Loss,
}

/// A history as it may come of right servers: clients in turn send pipelines, each of which overlaps with
/// those of others, and each request is run at some moment between its sending and its end.
fn right_history(seed: u64, count: usize, trouble: Trouble) -> History {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut store = Store::new();
    let mut replica = Store::new();
    let keys = KINDS.iter().map(|kind| Key { name: format!("{kind:?}"), kind: *kind, place: 0 }).collect();
    let mut history = History { keys, ..History::default() };
    let mut orders = [0u32; CLIENTS as usize];
    let mut sessions = [0u32; CLIENTS as usize];
    // Each client's requests that were sent and not yet run.
    let mut waiting: Vec<Vec<Op>> = (0..CLIENTS).map(|_| Vec::new()).collect();
    let mut now = 0;
    let mut tick = || {
        now += 1;
        Duration::from_millis(now)
    };
    let mut is_lost = trouble != Trouble::Loss;
    while history.ops.len() < count {
        let client = random.usize(..CLIENTS as usize);
        if waiting[client].is_empty() {
            let sent = tick();
            for _ in 0..random.usize(1..5) {
                let key = random.usize(..KINDS.len());
                let deed = match KINDS[key] {
                    Kind::Register if client == 0 && random.bool() => Deed::Set,
                    Kind::Register => Deed::Get,
                    _ => Deed::Add,
                };
                let value = Value { client: client as u32, order: orders[client] };
                orders[client] += 1;
                let (session, ended, outcome) = (sessions[client], sent, Outcome::Cut);
                waiting[client].push(Op { value, session, key, deed, sent, ended, outcome });
            }
            continue;
        }
        if !is_lost && history.ops.len() > count / 2 {
            is_lost = true;
            let from = tick();
            store.held.clone_from(&replica.held);
            history.disruptions.push(Disruption { from, to: tick(), places: vec![0] });
        }
        let mut op = waiting[client].remove(0);
        let has_error = trouble != Trouble::None && random.u8(..) < 20;
        op.outcome = match (has_error, random.u8(..3)) {
            (true, 0) => Outcome::Refused("TRYAGAIN not run".into()),
            (true, 1) => Outcome::Unknown("IOERR outcome unknown".into()),
            (true, _) => Outcome::Cut,
            (false, _) => store.run(&op),
        };
        if op.outcome.may_have_run() && has_error && random.bool() {
            store.run(&op);
        }
        op.ended = tick();
        if op.outcome == Outcome::Cut {
            // So ends all that waits on the connection.
            sessions[client] += 1;
            let rest = std::mem::take(&mut waiting[client]);
            history.ops.extend(rest.into_iter().map(|other| Op { ended: op.ended, ..other }));
        }
        history.ops.push(op);
        if random.u8(..) < 60 {
            replica.held.clone_from(&store.held);
        }
    }
    history.held = store.held;
    history
}

fn values(history: &mut History, kind: Kind) -> (usize, &mut Vec<Value>) {
    let key = KINDS.iter().position(|other| *other == kind).unwrap();
    match &mut history.held[key] {
        Held::Values(values) => (key, values),
        held => panic!("{held:?}"),
    }
}

fn is_done(history: &History, value: Value) -> bool {
    history.ops.iter().any(|op| op.value == value && op.outcome.is_done())
}

/// Where in the list something acknowledged stands, the `nth` of them.
fn place_of_done(history: &mut History, kind: Kind, nth: usize) -> usize {
    let there = values(history, kind).1.clone();
    let done: Vec<usize> = (0..there.len()).filter(|ix| is_done(history, there[*ix])).collect();
    done[nth % done.len()]
}

fn list_or_text() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::List), Just(Kind::Text)]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![Just(Trouble::None), Just(Trouble::Errors), Just(Trouble::Loss)]
}

#[track_caller]
fn expect(verdict: &Verdict, wrong: &[Wrong]) {
    assert!(wrong.iter().any(|wrong| verdict.has(*wrong)), "none of {wrong:?} in {:#?}", verdict.findings);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_is_wrong_with_what_right_servers_do(seed: u64, trouble in trouble()) {
        let verdict = judge(&right_history(seed, 400, trouble));
        prop_assert!(verdict.findings.is_empty(), "{:#?}", verdict.findings);
        prop_assert!(trouble == Trouble::Loss || verdict.lost == 0);
    }

    #[test]
    fn an_acknowledged_write_that_is_gone_is_found(seed: u64, nth: usize, kind in list_or_text()) {
        let mut history = right_history(seed, 400, Trouble::Errors);
        let place = place_of_done(&mut history, kind, nth);
        values(&mut history, kind).1.remove(place);
        expect(&judge(&history), &[Wrong::Lost]);
    }

    #[test]
    fn a_write_out_of_the_middle_that_is_gone_is_no_loss_of_a_primary(seed: u64, kind in list_or_text()) {
        let mut history = right_history(seed, 400, Trouble::Loss);
        let place = place_of_done(&mut history, kind, 0);
        values(&mut history, kind).1.remove(place);
        expect(&judge(&history), &[Wrong::Hole]);
    }

    #[test]
    fn what_was_written_after_the_last_loss_of_a_primary_must_be_there(seed: u64, kind in list_or_text()) {
        let mut history = right_history(seed, 400, Trouble::Loss);
        let place = place_of_done(&mut history, kind, usize::MAX / 2);
        let end = values(&mut history, kind).1.len() - 1;
        let last = (place..=end).rev().find(|ix| {
            let value = values(&mut history, kind).1[*ix];
            is_done(&history, value)
        });
        values(&mut history, kind).1.remove(last.unwrap());
        expect(&judge(&history), &[Wrong::Lost]);
    }

    #[test]
    fn a_write_that_is_there_twice_is_found(
        seed: u64, nth: usize, trouble in trouble(), kind in list_or_text()
    ) {
        let mut history = right_history(seed, 400, trouble);
        let place = place_of_done(&mut history, kind, nth);
        let list = values(&mut history, kind).1;
        let value = list[place];
        list.insert(place + 1, value);
        expect(&judge(&history), &[Wrong::Twice]);
    }

    #[test]
    fn two_writes_of_a_client_that_changed_places_are_found(
        seed: u64, nth: usize, trouble in trouble(), kind in list_or_text()
    ) {
        let mut history = right_history(seed, 400, trouble);
        let place = place_of_done(&mut history, kind, nth);
        let list = values(&mut history, kind).1.clone();
        let other = (0..list.len()).find(|ix| {
            *ix != place && list[*ix].client == list[place].client && is_done(&history, list[*ix])
        });
        values(&mut history, kind).1.swap(place, other.unwrap());
        expect(&judge(&history), &[Wrong::Disordered]);
    }

    #[test]
    fn a_count_too_many_and_a_count_too_few_are_found(seed: u64) {
        let mut history = right_history(seed, 400, Trouble::Errors);
        let ops = history.ops.iter().filter(|op| op.key == 0);
        let most = ops.clone().filter(|op| op.outcome.may_have_run()).count() as u64;
        let least = ops.filter(|op| op.outcome.is_done()).count() as u64;
        history.held[0] = Held::Number(most + 1);
        expect(&judge(&history), &[Wrong::Twice]);
        history.held[0] = Held::Number(least - 1);
        expect(&judge(&history), &[Wrong::Lost]);
    }

    #[test]
    fn a_register_that_fell_back_is_found(seed: u64) {
        let mut history = right_history(seed, 400, Trouble::None);
        let sets: Vec<Value> =
            history.ops.iter().filter(|op| op.deed == Deed::Set).map(|op| op.value).collect();
        history.held[3] = Held::One(Some(sets[0]));
        expect(&judge(&history), &[Wrong::Stale]);
        history.held[3] = Held::One(None);
        expect(&judge(&history), &[Wrong::Stale]);
        history.held[3] = Held::One(Some(Value { client: 0, order: u32::MAX }));
        expect(&judge(&history), &[Wrong::Invented]);
    }

    #[test]
    fn a_read_of_the_past_is_found(seed: u64) {
        let mut history = right_history(seed, 400, Trouble::None);
        let first = history.ops.iter().find(|op| op.deed == Deed::Set).unwrap().value;
        let last = history.ops.iter().rposition(|op| matches!(op.outcome, Outcome::Read(_))).unwrap();
        history.ops[last].outcome = Outcome::Read(Some(first));
        expect(&judge(&history), &[Wrong::Stale]);
    }

    #[test]
    fn what_ran_though_the_client_was_told_otherwise_is_found(seed: u64, nth: usize, kind in list_or_text()) {
        let mut history = right_history(seed, 400, Trouble::None);
        let place = place_of_done(&mut history, kind, nth);
        let value = values(&mut history, kind).1[place];
        let op = history.ops.iter_mut().find(|op| op.value == value).unwrap();
        op.outcome = Outcome::Refused("TRYAGAIN not run".into());
        expect(&judge(&history), &[Wrong::RanThoughRefused]);
    }
}
