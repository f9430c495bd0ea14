//! `slotgate import`: all keys of another server into a cluster, while it is written to.

use super::change::Change;
use super::import_progress::Progress;
use super::table::bytes;
use super::{Ended, Exit, nodes};
use crate::backend::Credentials;
use crate::config::Span;
use crate::control::discover::Seed;
use crate::control::import::{Import, ImportError, Outcome, Outlook, Settings, show};
use crate::control::loader;
use crate::control::migrate::Stop;
use crate::secret::Secret;
use serde_json::json;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// Copy all keys of another Redis or Valkey into a cluster, while the source is in use
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate import --from old-redis:6379 redis-0:6379 --dry-run
  slotgate import --from old-redis:6379 redis-0:6379
  slotgate import --from old-redis:6379 redis-0:6379 --follow --pause-source 5m --yes
  slotgate import --from old-redis:6379 --db 3 redis-0:6379 --yes --output json
  slotgate import --from old-cluster-0:6379 redis-0:6379 --follow --until-idle 30s --yes

The switch-over without a lost write:
  1. Start the import with --follow. It copies everything and then every key that is written.
  2. When it says that nothing waits, stop your writers, or let it stop them with --pause-source TIME:
     the source then takes no writes for TIME, its clients wait.
  3. Press Ctrl-C (or send SIGTERM; or have given --until-idle). It copies the last keys, compares all
     keys, and says that the app can be pointed at slotgate.
  4. Point the app at slotgate. With --pause-source, do it within TIME: afterwards the source takes
     writes again, which nobody would copy.

The source is only read; nothing but --pause-source changes how it serves. Its keys own their names: what
the cluster has under the same names is looked for first, and refused unless it is the same or --replace
is given. Run the same command again after it was cut short: it goes on, by the notes in --state.
All types, expiry times, binary keys and functions are copied. A source that is a cluster is read whole.
A source older than Redis 6 cannot tell what is written: stop its writers and add --no-watch.
--timeout is how long a connection that was lost is tried again.
Exit codes: 0 all keys are the same, 1 not so, or stopped, 2 used wrongly, 3 refused: it would not be safe.
SLOTGATE_FROM_PASSWORD is the source's password; SLOTGATE_USER and SLOTGATE_PASSWORD count as for 'serve'.")]
pub struct Args {
    /// The server to copy from
    #[arg(long, value_name = "HOST:PORT")]
    from: Seed,
    /// The ACL user towards the source
    #[arg(long, value_name = "NAME")]
    from_user: Option<String>,
    /// A file with the password towards the source (or put the password itself into SLOTGATE_FROM_PASSWORD)
    #[arg(long, value_name = "FILE")]
    from_password_file: Option<PathBuf>,
    /// The source's database to copy; needed when it has keys in another than 0
    #[arg(long, value_name = "N")]
    db: Option<u32>,
    /// Nodes of the cluster to copy into; one that answers is enough
    #[arg(value_name = "HOST:PORT", required = true)]
    nodes: Vec<Seed>,
    #[command(flatten)]
    login: nodes::Login,
    /// Keep copying what is written, until Ctrl-C, SIGTERM or --until-idle
    #[arg(long)]
    follow: bool,
    /// With --follow: end when nothing was written for so long
    #[arg(long, value_name = "TIME", requires = "follow")]
    until_idle: Option<Span>,
    /// Let the source take no writes for so long, from the last pass on (Redis 6.2 and later)
    #[arg(long, value_name = "TIME")]
    pause_source: Option<Span>,
    /// Replace what the cluster has under the same names
    #[arg(long)]
    replace: bool,
    /// Compare about so many keys at the end instead of all
    #[arg(long, value_name = "KEYS")]
    sample: Option<u64>,
    /// Do not ask the source to tell what is written; nobody may write to it
    #[arg(long, conflicts_with = "follow")]
    no_watch: bool,
    /// Where to note what was copied, for the next run [default: slotgate-import-HOST-PORT.state here]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    change: Change,
}

pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let is_json = args.change.is_json();
    let credentials = args.change.credentials(&args.login)?;
    let source_credentials = source_credentials(args)?;
    nodes::runtime()?.block_on(async {
        let addrs = nodes::resolve(&args.nodes, nodes::LIMIT).await?;
        let found = nodes::resolve(std::slice::from_ref(&args.from), nodes::LIMIT).await?;
        let source = *found.first().ok_or_else(|| Ended::wrong(format!("{} has no address", args.from)))?;
        let stop = Stop::default();
        let state = args.state.clone().unwrap_or_else(|| {
            let name = args.from.to_string().replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
            let database = args.db.filter(|db| *db > 0).map(|db| format!("-db{db}")).unwrap_or_default();
            format!("slotgate-import-{name}{database}.state").into()
        });
        let settings = Settings {
            source_name: args.from.to_string(),
            source,
            source_credentials,
            database: args.db,
            target: loader::Settings {
                addrs,
                credentials,
                limit: nodes::LIMIT,
                patience: args.change.timeout.0,
                may_replace: true,
            },
            may_replace: args.replace,
            state: state.clone(),
            wants_watch: !args.no_watch,
            follow: args.follow.then(|| args.until_idle.map(|idle| idle.0)),
            pause: args.pause_source.map(|time| time.0),
            sample: args.sample,
            stop: stop.clone(),
        };
        stop_on_signals(stop)?;
        let mut import = Import::prepare(settings).await.map_err(|error| ended(&error))?;
        if !is_json {
            describe(&import.outlook, args);
        }
        if args.change.dry_run {
            if is_json {
                println!("{}", json!({ "result": "planned", "outlook": outlook_json(&import.outlook) }));
            }
            import.check().map_err(|error| ended(&error))?;
            if !is_json {
                println!("Nothing was changed: this was a dry run.");
            }
            return Ok(Exit::Fine);
        }
        import.check().map_err(|error| ended(&error))?;
        if !args.change.is_confirmed()? {
            return Ok(Exit::Wrong);
        }
        let mut progress = Progress::new(is_json);
        let carried = import.carry_out(&mut |event| progress.hear(event)).await;
        progress.end();
        let outcome = carried.map_err(|error| match error {
            error if error.is_refusal() => ended(&error),
            error => Ended::wrong(format!(
                "{error}. What was copied stays; run the same command again to go on (by {})",
                state.display()
            )),
        })?;
        let is_whole = outcome.is_whole() && !(args.pause_source.is_some() && outcome.late > 0);
        if is_json {
            let answer =
                outcome_json(if is_whole { "imported" } else { "differs" }, &import.outlook, &outcome);
            println!("{}", serde_json::to_string_pretty(&answer)?);
        } else {
            tell(&outcome, args, is_whole);
        }
        Ok(if is_whole { Exit::Fine } else { Exit::Wrong })
    })
}

/// The first Ctrl-C or SIGTERM ends the run in order, a second one at once; the next run goes on either way.
fn stop_on_signals(stop: Stop) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_requested() {
                // Nothing of ours needs an end in order: the next run finds what is there.
                // SAFETY: both calls touch no memory; the default action of SIGINT ends the process.
                unsafe {
                    libc::signal(libc::SIGINT, libc::SIG_DFL);
                    libc::raise(libc::SIGINT);
                }
            }
            eprintln!("\nFinishing; Ctrl-C again ends at once, and the next run goes on");
            stop.request();
        }
    });
    Ok(())
}

fn source_credentials(args: &Args) -> Result<Credentials, Ended> {
    let password = match &args.from_password_file {
        Some(file) => {
            let secret = Secret::read(file);
            Some(
                secret.map_err(|error| {
                    Ended::usage(format!("--from-password-file {}: {error}", file.display()))
                })?,
            )
        }
        None => super::environment("SLOTGATE_FROM_PASSWORD").filter(|text| !text.is_empty()).map(Secret::new),
    };
    if args.from_user.is_some() && password.is_none() {
        return Err(Ended::usage(
            "--from-user needs a password: give --from-password-file, or set SLOTGATE_FROM_PASSWORD",
        ));
    }
    Ok(Credentials { user: args.from_user.clone(), password })
}

fn ended(error: &ImportError) -> Ended {
    let exit = if error.is_refusal() { Exit::Refused } else { Exit::Wrong };
    let text = error.to_string();
    let hint = match &text {
        text if text.contains("NOAUTH") || text.contains("WRONGPASS") || text.contains("refused AUTH") => {
            "; check --from-user and --from-password-file (or SLOTGATE_FROM_PASSWORD) for the source, --user and \
             --password-file for the cluster"
        }
        text if text.contains("cannot connect") => "; is it running, and is this its client port?",
        _ => "",
    };
    Ended { exit, text: format!("{text}{hint}") }
}

fn describe(outlook: &Outlook, args: &Args) {
    println!(
        "Source: {} ({}), database {}: {} keys, {}B of memory{}",
        args.from,
        outlook.source_version,
        outlook.database,
        outlook.keys,
        bytes(outlook.bytes),
        types(outlook)
    );
    println!("Cluster: {} keys", outlook.target_keys);
    if outlook.is_resumed {
        println!("An earlier run was cut short: what it brought is compared, and the rest brought");
    }
    if outlook.conflicts > 0 {
        println!(
            "{} keys are in the cluster already with other values: {}",
            outlook.conflicts,
            show(&outlook.examples)
        );
    }
}

/// The shares of the types, by those that were looked at.
fn types(outlook: &Outlook) -> String {
    let seen: u64 = outlook.types.values().sum();
    let share = |(name, count): (&String, &u64)| format!("{} % {name}", (count * 100).div_ceil(seen.max(1)));
    let shares: Vec<String> = outlook.types.iter().map(share).collect();
    if shares.is_empty() { String::new() } else { format!("; of a sample {}", shares.join(", ")) }
}

fn tell(outcome: &Outcome, args: &Args, is_whole: bool) {
    let (found, report) = (&outcome.verification, &outcome.report);
    println!(
        "Brought {} values ({}B) and {} deletions in {:.1} s",
        report.restored,
        bytes(report.bytes),
        report.deleted,
        outcome.took.as_secs_f64()
    );
    println!("Compared {} keys: {} are the same", found.keys, found.same);
    if found.unclear > 0 {
        println!("{} keys of a module's type are there; their values cannot be compared", found.unclear);
    }
    if found.changing > 0 {
        println!(
            "{} keys were written all the time and could not be compared: stop their writers",
            found.changing
        );
    }
    for (key, how) in &found.examples {
        println!("  {} {how}", show(std::slice::from_ref(key)));
    }
    if found.differing > found.examples.len() as u64 {
        println!("  and {} more", found.differing - found.examples.len() as u64);
    }
    for refused in &report.refused {
        println!("  {}: {}", show(std::slice::from_ref(&refused.key)), refused.why);
    }
    match (is_whole, outcome.late, args.pause_source) {
        (true, 0, _) => println!(
            "Done. Point your app at slotgate now; what is written to the source from here on stays there."
        ),
        (true, late, _) => println!(
            "Done, but {late} keys were written or expired in the end (brought as well): stop its writers or use \
             --pause-source, and run this again before the switch-over."
        ),
        (false, late, Some(_)) if late > 0 && outcome.is_whole() => println!(
            "The pause of the source ended before the comparison did, and {late} keys were written: give --pause-source \
             more time and run this again."
        ),
        (false, ..) => println!(
            "The cluster does not have all that the source has. Run the same command again; it mends what differs."
        ),
    }
}

fn outlook_json(outlook: &Outlook) -> serde_json::Value {
    json!({
        "source": outlook.source_version,
        "database": outlook.database,
        "keys": outlook.keys,
        "bytes": outlook.bytes,
        "sampled_types": outlook.types,
        "target_keys": outlook.target_keys,
        "resumed": outlook.is_resumed,
        "conflicts": outlook.conflicts,
        "conflicting": outlook.examples.iter().map(|key| key.escape_ascii().to_string()).collect::<Vec<_>>(),
    })
}

fn outcome_json(result: &str, outlook: &Outlook, outcome: &Outcome) -> serde_json::Value {
    let (found, report) = (&outcome.verification, &outcome.report);
    let differing = found
        .examples
        .iter()
        .map(|(key, how)| json!({ "key": key.escape_ascii().to_string(), "difference": how.to_string() }));
    let refused = report.refused.iter().map(
        |refused| json!({ "key": refused.key.escape_ascii().to_string(), "why": refused.why.to_string() }),
    );
    json!({
        "result": result,
        "outlook": outlook_json(outlook),
        "restored": report.restored,
        "bytes": report.bytes,
        "deleted": report.deleted,
        "refused": report.bad,
        "refusals": refused.collect::<Vec<_>>(),
        "compared": found.keys,
        "same": found.same,
        "unclear": found.unclear,
        "changing": found.changing,
        "differing": found.differing,
        "differences": differing.collect::<Vec<_>>(),
        "written_late": outcome.late,
        "seconds": outcome.took.as_secs_f64(),
    })
}
