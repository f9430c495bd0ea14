//! What the commands that move slots have in common: look, show the plan, ask, move, tell how far it is.

use super::change::Change;
use super::{Ended, Exit, nodes};
use crate::control::action::Party;
use crate::control::discover::Seed;
use crate::control::migrate::room::{memories, no_room};
use crate::control::migrate::unfinished::remedies;
use crate::control::migrate::{Event, Journey, JourneyError, Stop, ready_holders};
use crate::control::plan::rebalance::{Holder, Move};
use crate::control::view::View;
use serde_json::json;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often progress is told: on a terminal in place, elsewhere a line each time.
const TELL_EVERY: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// The arguments of every command that moves slots.
#[derive(clap::Args)]
pub struct Run {
    /// A node of the cluster; the others are found through it
    #[arg(value_name = "HOST:PORT", required = true)]
    nodes: Vec<Seed>,
    #[command(flatten)]
    login: nodes::Login,
    #[command(flatten)]
    change: Change,
}

/// Moves what `plan` says, given the view and the primaries; `resume` says how to go on after a stop.
pub fn run(
    args: &Run,
    plan: impl Fn(&View, &[Holder]) -> Result<Vec<Move>, Ended>,
    resume: impl Fn(&[Move], &Seed) -> String,
) -> anyhow::Result<Exit> {
    let is_json = args.change.is_json();
    let credentials = args.change.credentials(&args.login)?;
    nodes::runtime()?.block_on(async {
        let addrs = nodes::resolve(&args.nodes, nodes::LIMIT).await?;
        let stop = Stop::default();
        let journey = Journey {
            addrs,
            credentials,
            limit: nodes::LIMIT,
            timeout: args.change.timeout.0,
            stop: stop.clone(),
        };
        let mut view = journey.look().await;
        let open = remedies(&view);
        let planned = |view: &View| -> Result<(Vec<Holder>, Vec<Move>), Ended> {
            let holders = ready_holders(view).map_err(|error| ended(&error, ""))?;
            let moves = plan(view, &holders)?;
            Ok((holders, moves))
        };
        let (holders, mut moves) = planned(&view)?;
        let memories = memories(&moves, &journey.credentials, nodes::LIMIT).await?;
        if let Some(refusal) = no_room(&moves, &holders, &memories) {
            return Err(Ended::refused(refusal).into());
        }
        if !is_json {
            open.iter().for_each(|remedy| println!("Left by an earlier run: {remedy}"));
            moves.iter().for_each(|step| println!("{step}"));
        }
        let is_idle = open.is_empty() && moves.is_empty();
        if args.change.dry_run || is_idle {
            match (is_json, is_idle) {
                (true, _) => print_json(if is_idle { "unchanged" } else { "planned" }, &moves, None)?,
                (false, true) => println!("No slot needs to move; nothing was changed."),
                (false, false) => println!("Nothing was changed: this was a dry run."),
            }
            return Ok(Exit::Fine);
        }
        if !args.change.is_confirmed()? {
            return Ok(Exit::Wrong);
        }
        stop_on_interrupt(stop.clone());
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
            (_, moves) = planned(&view)?;
        }
        progress.begin(&moves);
        let carried = journey.carry_out(&view, moves.clone(), &mut |event| progress.hear(event)).await;
        progress.end();
        let how = resume(&moves, &args.nodes[0]);
        if let Err(error) = carried {
            return Err(ended(&error, &how).into());
        }
        let is_whole = progress.moved == progress.wanted;
        if is_json {
            print_json(if is_whole { "moved" } else { "stopped" }, &moves, Some(&progress))?;
        }
        if !is_whole {
            return Err(Ended::wrong(format!("stopped; no slot was left half-way. To go on: {how}")).into());
        }
        Ok(Exit::Fine)
    })
}

/// How a run ends that an error stopped, and how to go on.
fn ended(error: &JourneyError, resume: &str) -> Ended {
    let exit = match error {
        JourneyError::NotInOrder(_) | JourneyError::Unclear(_) => Exit::Refused,
        _ => Exit::Wrong,
    };
    let text = if resume.is_empty() { error.to_string() } else { format!("{error}. To go on: {resume}") };
    Ended { exit, text }
}

/// The primary that a person named by its address or the beginning of its id.
pub fn find(holders: &[Holder], name: &str) -> Result<Party, Ended> {
    let is_named =
        |party: &Party| party.addr.to_string() == name || party.id.as_str().starts_with(&name.to_lowercase());
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
        _ => Err(Ended::usage(format!("several ids begin with {name:?}: write more of it"))),
    }
}

/// The first Ctrl-C ends the run in order; a second one at once, which the next run repairs.
pub(super) fn stop_on_interrupt(stop: Stop) {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
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
}

fn print_json(result: &str, moves: &[Move], progress: Option<&Progress>) -> anyhow::Result<()> {
    let step = |step: &Move| {
        json!({
            "source": step.source.addr.to_string(),
            "target": step.target.addr.to_string(),
            "slots": step.count(),
            "ranges": step.ranges.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    let answer = json!({
        "result": result,
        "moves": moves.iter().map(step).collect::<Vec<_>>(),
        "slots_moved": progress.map_or(0, |progress| progress.moved),
        "keys_moved": progress.map_or(0, |progress| progress.keys),
        "seconds": progress.map_or(0.0, |progress| progress.began.elapsed().as_secs_f64()),
    });
    println!("{}", serde_json::to_string_pretty(&answer)?);
    Ok(())
}

/// How far the moves are, told now and then.
pub(super) struct Progress {
    is_json: bool,
    is_terminal: bool,
    began: Instant,
    told: Instant,
    wanted: usize,
    moved: usize,
    keys: u64,
}

impl Progress {
    pub(super) fn new(is_json: bool) -> Progress {
        let is_terminal = if is_json { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let now = Instant::now();
        Progress { is_json, is_terminal, began: now, told: now, wanted: 0, moved: 0, keys: 0 }
    }

    pub(super) fn begin(&mut self, moves: &[Move]) {
        *self = Progress::new(self.is_json);
        self.wanted = moves.iter().map(Move::count).sum();
    }

    pub(super) fn hear(&mut self, event: Event) {
        match event {
            Event::Moved { slots, keys } => {
                self.moved += slots;
                self.keys += keys;
                if self.told.elapsed() >= TELL_EVERY[usize::from(!self.is_terminal)] {
                    self.told = Instant::now();
                    self.say(&self.line());
                }
            }
            Event::BigKey { key, slot, bytes } => {
                self.say_alone(&format!(
                    "Big key: {key} of slot {slot} has {bytes} bytes; both nodes stand still while it moves"
                ));
            }
            Event::Note(text) => self.say_alone(&text),
        }
    }

    fn line(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let rate = self.moved as f64 / seconds;
        let left = self.wanted.saturating_sub(self.moved) as f64 / rate.max(0.001);
        format!(
            "{} of {} slots moved, {} keys, {rate:.0} slots/s, {:.0} keys/s, about {left:.0} s left",
            self.moved,
            self.wanted,
            self.keys,
            self.keys as f64 / seconds
        )
    }

    pub(super) fn end(&self) {
        if self.moved > 0 {
            let took = self.began.elapsed().as_secs_f64();
            self.say_alone(&format!("Moved {} slots with {} keys in {took:.1} s", self.moved, self.keys));
        }
    }

    /// In place on a terminal. A reader that went away does not stop the work.
    fn say(&self, line: &str) {
        let (start, end) = if self.is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let line = format!("{start}{line}{end}");
        let _ = if self.is_json {
            io::stderr().write_all(line.as_bytes()).and_then(|()| io::stderr().flush())
        } else {
            io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush())
        };
    }

    fn say_alone(&self, line: &str) {
        self.say(line);
        if self.is_terminal {
            let _ = if self.is_json { writeln!(io::stderr()) } else { writeln!(io::stdout()) };
        }
    }
}
