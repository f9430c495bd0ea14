//! What the commands that wish something of a StatefulSet have in common: look, show, ask, write the wish,
//! follow what the leader makes of it.

use super::change::ask;
use super::{Ended, Exit, Output, nodes};
use crate::config::Span;
use crate::control::edit::Edit;
use crate::control::kubernetes::{self, Config, Place};
use crate::control::pods::{Pods, StatefulSet};
use serde_json::json;
use std::io::{self, Write as _};
use tokio::time::{Duration, Instant, sleep};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A leader that is there begins within seconds.
const SILENCE: Duration = Duration::from_secs(30);

/// The StatefulSet that is meant, and how the wish is shown.
#[derive(clap::Args)]
pub struct Wishing {
    /// The namespace of the StatefulSet; without it the pod's own, or the kubeconfig's
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The StatefulSet that the nodes run in
    #[arg(long, value_name = "NAME", default_value = kubernetes::STATEFUL_SET)]
    statefulset: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Show what would be done and change nothing
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Follow until it is done; Ctrl-C ends only that
    #[arg(long)]
    wait: bool,
    /// How long to follow
    #[arg(long, value_name = "TIME", default_value = "1h", requires = "wait")]
    timeout: Span,
    /// The shape of the answer; with json, progress goes to the standard error and --yes or --dry-run is
    /// needed
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// A wish, and what it comes to.
pub struct Wish {
    pub edit: Edit,
    /// What will be done, a line each; empty when nothing is left to do.
    pub lines: Vec<String>,
}

/// How far a wish is.
pub enum Stand {
    Done,
    /// In words that change with each piece of progress.
    Going(String),
}

/// Shows what `plan` makes of the StatefulSet, asks, writes the wish, and follows it by `stand` if told to.
pub fn run(
    args: &Wishing,
    plan: impl Fn(&StatefulSet, &Pods) -> Result<Wish, Ended>,
    stand: impl Fn(&Edit, &StatefulSet, &Pods) -> Stand,
) -> anyhow::Result<Exit> {
    let is_json = args.output == Output::Json;
    if is_json && !args.yes && !args.dry_run {
        return Err(Ended::usage("--output json asks no question; add --yes or --dry-run").into());
    }
    nodes::runtime()?.block_on(async {
        let (namespace, stateful_set) = (args.namespace.clone(), args.statefulset.clone());
        let place = Place::find(&Config { namespace, stateful_set, port: kubernetes::PORT }).await?;
        let (set, pods) = look(&place).await?;
        let Wish { edit, lines } = plan(&set, &pods)?;
        if !is_json {
            lines.iter().for_each(|line| println!("{line}"));
            if set.wishes.is_paused {
                println!("Nothing begins while the StatefulSet has the annotation slotgate.dev/paused.");
            }
        }
        let answer = |result: &str, text: &str| {
            if is_json {
                println!("{:#}", json!({ "result": result, "edit": edit.to_string(), "plan": lines }));
            } else {
                println!("{text}");
            }
        };
        if lines.is_empty() {
            answer("unchanged", "Nothing is left to do; nothing was changed.");
            return Ok(Exit::Fine);
        }
        if args.dry_run {
            answer("planned", "Nothing was changed: this was a dry run.");
            return Ok(Exit::Fine);
        }
        if !args.yes && !ask()? {
            return Ok(Exit::Wrong);
        }
        place.edit(&edit).await?;
        if !args.wait {
            answer("wished", "Asked for; the leading gateway goes on with it by itself.");
            return Ok(Exit::Fine);
        }
        follow(&place, args.timeout.0, is_json, |set, pods| stand(&edit, set, pods)).await?;
        answer("done", "Done.");
        Ok(Exit::Fine)
    })
}

async fn look(place: &Place) -> anyhow::Result<(StatefulSet, Pods)> {
    let pods = place.look().await?;
    let set = pods.set.clone().unwrap_or_default();
    Ok((set, pods))
}

/// Waits until it is done, and tells of all progress.
async fn follow(
    place: &Place,
    limit: Duration,
    is_json: bool,
    stand: impl Fn(&StatefulSet, &Pods) -> Stand,
) -> anyhow::Result<()> {
    let (began, mut last, mut changed) = (Instant::now(), String::new(), Instant::now());
    let mut is_warned = false;
    let tell = |line: &str| {
        // A reader that went away does not end the work.
        let _ = if is_json { writeln!(io::stderr(), "{line}") } else { writeln!(io::stdout(), "{line}") };
    };
    loop {
        // An API server that is away for a while does not end what the leader does.
        if let Ok((set, pods)) = look(place).await {
            match stand(&set, &pods) {
                Stand::Done => return Ok(()),
                Stand::Going(text) if text != last => {
                    tell(&text);
                    (last, changed, is_warned) = (text, Instant::now(), false);
                }
                Stand::Going(_) => {}
            }
        }
        if !is_warned && changed.elapsed() >= SILENCE {
            is_warned = true;
            tell(
                "No progress for 30 s. Is a gateway running with --kubernetes and --manage for this StatefulSet? What it \
                 waits for it tells at /api/status and in its log",
            );
        }
        if began.elapsed() >= limit {
            let text =
                format!("not done within {limit:?}; the leading gateway goes on with it. Last: {last}");
            return Err(Ended::wrong(text).into());
        }
        sleep(LOOK_EVERY).await;
    }
}
