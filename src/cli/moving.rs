//! What the commands that move slots have in common: look, show the plan, ask, move, tell how far it is.

use super::change::Change;
use super::pace::Pace;
use super::{Ended, Exit, nodes, table};
use crate::config::Span;
use crate::control::action::Party;
use crate::control::discover::Seed;
use crate::control::migrate::room::{memories, no_room};
use crate::control::migrate::unfinished::remedies;
use crate::control::migrate::{Event, Journey, JourneyError, Speed, Stop, ready_holders};
use crate::control::observe::observe_slot_loads;
use crate::control::plan::rebalance::{Holder, Move};
use crate::control::plan::rebalance_loads::{Loads, Unit};
use crate::control::problem::join;
use crate::control::view::View;
use serde_json::json;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use tokio::signal::unix::{SignalKind, signal};

/// What is done to slots and keys, for the lines of progress.
const MOVED: &str = "moved";

/// The arguments of every command that moves slots.
#[derive(clap::Args)]
pub struct Run {
    /// A node of the cluster; the others are found through it
    #[arg(value_name = "HOST:PORT", required = true)]
    nodes: Vec<Seed>,
    #[command(flatten)]
    login: nodes::Login,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    change: Change,
}

/// How much of the nodes' time moves may take.
#[derive(clap::Args)]
pub(super) struct Limits {
    /// Move at most so many keys a second
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u32).range(1..))]
    max_rate: Option<u32>,
    /// Wait while one of the two nodes takes longer than this to answer, such as 20ms
    #[arg(long, value_name = "TIME")]
    max_latency: Option<Span>,
}

impl Limits {
    pub(super) fn speed(&self, stop: &Stop) -> Speed {
        Speed::new(self.max_rate, self.max_latency.map(|span| span.0), stop.clone())
    }
}

/// Moves what `plan` says, given the primaries and, when `weighed_by` asks for it, what each slot holds; `resume` says how to go on after a stop.
pub fn run(
    args: &Run,
    weighed_by: Option<Unit>,
    plan: impl Fn(&[Holder], Option<&Loads>) -> Result<Vec<Move>, Ended>,
    resume: impl Fn(&[Move], &Seed) -> String,
) -> anyhow::Result<Exit> {
    let is_json = args.change.is_json();
    let credentials = args.change.credentials(&args.login)?;
    nodes::runtime()?.block_on(async {
        let addrs = nodes::resolve(&args.nodes, nodes::LIMIT).await?;
        nodes::all_can_write(&nodes::reach(&addrs, &credentials).await?)?;
        let stop = Stop::default();
        let journey = Journey {
            addrs,
            credentials,
            limit: nodes::LIMIT,
            timeout: args.change.timeout.0,
            stop: stop.clone(),
            speed: args.limits.speed(&stop),
        };
        let mut view = journey.look().await;
        let open = remedies(&view);
        let planned = async |view: &View| -> anyhow::Result<(Vec<Holder>, Option<Loads>, Vec<Move>)> {
            let holders = ready_holders(view).map_err(|error| ended(&error, ""))?;
            let loads = match weighed_by {
                Some(unit) => {
                    Some(observe_slot_loads(&holders, unit, &journey.credentials, nodes::LIMIT).await?)
                }
                None => None,
            };
            let moves = plan(&holders, loads.as_ref())?;
            Ok((holders, loads, moves))
        };
        let (holders, mut loads, mut moves) = planned(&view).await?;
        let memories = memories(&moves, &journey.credentials, nodes::LIMIT).await?;
        if let Some(refusal) = no_room(&moves, &holders, &memories) {
            return Err(Ended::refused(refusal).into());
        }
        if !is_json {
            open.iter().for_each(|remedy| println!("Left by an earlier run: {remedy}"));
            moves.iter().for_each(|step| println!("{step}{}", held(step, loads.as_ref())));
        }
        let is_idle = open.is_empty() && moves.is_empty();
        if args.change.dry_run || is_idle {
            match (is_json, is_idle) {
                (true, _) => {
                    print_json(if is_idle { "unchanged" } else { "planned" }, &moves, loads.as_ref(), None)?
                }
                (false, true) => println!("No slot needs to move; nothing was changed."),
                (false, false) => println!("Nothing was changed: this was a dry run."),
            }
            return Ok(Exit::Fine);
        }
        if !args.change.is_confirmed()? {
            return Ok(Exit::Wrong);
        }
        stop_on_interrupt(stop.clone())?;
        let mut progress = Progress::new(is_json);
        if !open.is_empty() {
            view = match journey.end_open(view, &mut |event| progress.hear(event)).await {
                Ok(view) => view,
                Err(error) => {
                    progress.end();
                    let how = resume(&moves, &args.nodes[0]);
                    return Err(ended(&error, &how).into());
                }
            };
            (_, loads, moves) = planned(&view).await?;
        }
        progress.begin(&moves);
        let carried = journey.carry_out(&view, moves.clone(), &mut |event| progress.hear(event)).await;
        progress.end();
        let mut how = resume(&moves, &args.nodes[0]);
        if progress.0.slots.done > 0 {
            let undo = moves.iter().map(|step| format!("{} --rollback", command(step, &args.nodes[0])));
            how += &format!("\nTo undo it: {}", undo.collect::<Vec<_>>().join("\n"));
        }
        if let Err(error) = carried {
            return Err(ended(&error, &how).into());
        }
        let is_whole = progress.0.slots.done == progress.0.slots.wanted;
        if is_json {
            print_json(if is_whole { "moved" } else { "stopped" }, &moves, loads.as_ref(), Some(&progress))?;
        }
        if !is_whole {
            return Err(Ended::wrong(format!("stopped; no slot was left half-way. To go on: {how}")).into());
        }
        Ok(Exit::Fine)
    })
}

/// What a person types for one move.
pub(super) fn command(step: &Move, seed: &Seed) -> String {
    let Move { source, target, ranges } = step;
    format!("slotgate move-slots --from {source} --to {target} --slots {} {seed}", join(ranges, ","))
}

/// How a run ends that an error stopped, and how to go on.
fn ended(error: &JourneyError, resume: &str) -> Ended {
    let exit = match error {
        JourneyError::NotInOrder(_) | JourneyError::Unclear(_) => Exit::Refused,
        _ => Exit::Wrong,
    };
    let text = match error {
        JourneyError::NotInOrder(_) => format!("{error}. 'slotgate doctor' says how to repair it"),
        _ => error.to_string(),
    };
    let text = if resume.is_empty() { text } else { format!("{text}. To go on: {resume}") };
    Ended { exit, text }
}

/// The primary that a person named by its address, a name that resolves to it, or the beginning of its id.
pub fn find(holders: &[Holder], name: &str) -> Result<Party, Ended> {
    // Before anything else is under way; a name that does not resolve is nobody's.
    let addrs: Vec<SocketAddr> = name.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let is_named =
        |party: &Party| addrs.contains(&party.addr) || party.id.as_str().starts_with(&name.to_lowercase());
    let found: Vec<Party> = holders
        .iter()
        .map(|holder| holder.node)
        .filter(|party| !name.is_empty() && is_named(party))
        .collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let known: Vec<String> = holders
                .iter()
                .map(|holder| format!("{} ({})", holder.node, holder.node.id.short()))
                .collect();
            let known = known.join(", ");
            Err(Ended::usage(format!("no primary is called {name:?}; there are {known}")))
        }
        _ => Err(Ended::usage(format!(
            "{name:?} is several primaries: write more of the id, or one's address"
        ))),
    }
}

/// The first Ctrl-C, from now on, ends the run in order; a second one at once, which the next run repairs.
///
/// # Errors
/// The system lets nobody wait for signals.
pub(super) fn stop_on_interrupt(stop: Stop) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        while interrupt.recv().await.is_some() {
            if stop.is_requested() {
                // Nothing of ours needs an end in order: what is open is found by the next run.
                // SAFETY: both calls touch no memory; the default action of SIGINT ends the process.
                unsafe {
                    libc::signal(libc::SIGINT, libc::SIG_DFL);
                    libc::raise(libc::SIGINT);
                }
            }
            eprintln!(
                "\nFinishing what is under way; Ctrl-C again ends at once and leaves it to the next run"
            );
            stop.request();
        }
    });
    Ok(())
}

/// What a move takes along, where it was weighed.
fn held(step: &Move, loads: Option<&Loads>) -> String {
    loads.map_or(String::new(), |loads| format!(" ({} {})", loads.of_move(step), loads.unit))
}

fn print_json(
    result: &str,
    moves: &[Move],
    loads: Option<&Loads>,
    progress: Option<&Progress>,
) -> anyhow::Result<()> {
    let step = |step: &Move| {
        let mut shown = json!({
            "source": step.source.addr.to_string(),
            "target": step.target.addr.to_string(),
            "slots": step.count(),
            "ranges": step.ranges.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        if let Some(loads) = loads {
            shown[loads.unit.to_string()] = loads.of_move(step).into();
        }
        shown
    };
    let answer = json!({
        "result": result,
        "moves": moves.iter().map(step).collect::<Vec<_>>(),
        "slots_moved": progress.map_or(0, |progress| progress.0.slots.done),
        "keys_moved": progress.map_or(0, |progress| progress.0.keys.done),
        "seconds": progress.map_or(0.0, |progress| progress.0.seconds()),
    });
    println!("{}", serde_json::to_string_pretty(&answer)?);
    Ok(())
}

/// How far the moves are, told now and then.
pub(super) struct Progress(Pace);

impl Progress {
    pub(super) fn new(is_json: bool) -> Progress {
        Progress(Pace::new(MOVED, is_json))
    }

    pub(super) fn begin(&mut self, moves: &[Move]) {
        self.0.restart(MOVED);
        self.0.slots.wanted = moves.iter().map(|step| step.count() as u64).sum();
    }

    pub(super) fn hear(&mut self, event: Event) {
        match event {
            Event::Moved { slots, keys } => self.0.add_slots(slots as u64, keys, 0),
            Event::BigKey { key, slot, bytes } => self.0.note(&format!(
                "Big key: {key} of slot {slot} has {}B; both nodes stand still while it moves",
                table::bytes(bytes)
            )),
            Event::Note(text) => self.0.note(&text),
        }
    }

    pub(super) fn end(&self) {
        let Pace { slots, keys, .. } = &self.0;
        if slots.done > 0 {
            let took = self.0.seconds();
            self.0.note(&format!("Moved {} slots with {} keys in {took:.1} s", slots.done, keys.done));
        }
    }
}
