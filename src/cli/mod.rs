//! The command line: one file per subcommand, each parses, calls and prints.
//!
//! Exit codes are the same everywhere: 0 fine, 1 something is wrong, 2 used wrongly, 3 refused because
//! it would not be safe.

mod add;
mod backup;
mod bootstrap;
mod call;
mod change;
mod check;
mod config;
mod config_set;
mod demo;
mod doctor;
mod explain;
mod explanation;
mod failover;
mod fix;
mod import;
mod import_progress;
mod move_slots;
mod moving;
mod nodes;
mod pace;
mod pause;
mod rebalance;
mod remove;
mod restart;
mod restore;
mod scale;
mod serve;
mod set_timeout;
mod stateful_set;
mod status;
mod status_in_kubernetes;
mod switch_all_from;

use crate::config::Settings;
use crate::control::table;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done, and nothing is wrong.
    Fine,
    /// Something was found or left wrong.
    Wrong,
    /// The command line or the settings are not usable.
    Usage,
    /// Not done, because it would not be safe.
    Refused,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Fine => 0,
            Exit::Wrong => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
        })
    }
}

/// Why a command ended early: how, and what to say.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Ended {
    exit: Exit,
    text: String,
}

impl Ended {
    /// The command line or the settings are not usable.
    fn usage(text: impl ToString) -> Ended {
        Ended { exit: Exit::Usage, text: text.to_string() }
    }

    /// It would not be safe.
    fn refused(text: impl ToString) -> Ended {
        Ended { exit: Exit::Refused, text: text.to_string() }
    }

    /// Something is wrong.
    fn wrong(text: impl ToString) -> Ended {
        Ended { exit: Exit::Wrong, text: text.to_string() }
    }
}

/// The shape in which a command prints its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

#[derive(Parser)]
#[command(
    name = "slotgate",
    version,
    about = "Makes a Redis or Valkey Cluster look like one Redis",
    long_about = "Makes a Redis or Valkey Cluster look like one Redis: plain clients connect to slotgate, which \
        sends each command to the node that has its keys.",
    after_help = "Examples:
  slotgate demo
  slotgate serve --seed redis-0:6379,redis-1:6379
  slotgate serve --seed-file nodes.txt --manage
  slotgate bootstrap redis-{0,1,2,3,4,5}:6379 --replicas 1
  slotgate check redis-0:6379
  slotgate rebalance --use-empty redis-0:6379
  slotgate remove redis-6:6379 redis-0:6379
  slotgate import --from old-redis:6379 redis-0:6379
  slotgate status redis-0:6379 --watch
  slotgate status --kubernetes --namespace tool-env
  slotgate doctor redis-0:6379
  slotgate fix redis-0:6379
  slotgate failover redis-3:6379 redis-0:6379
  slotgate backup /backup/today redis-0:6379
  slotgate explain --seed redis-0:6379 SET user:{42}:name x
  slotgate restart --wait
  slotgate scale --shards 4 --replicas 1
  slotgate config show

Exit codes: 0 fine, 1 something is wrong, 2 used wrongly, 3 refused because it would not be safe.
'slotgate help COMMAND' explains a command with examples.",
    arg_required_else_help = true,
    // The longest line of the texts below the options, which are not to be broken once more.
    term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::Args>),
    Bootstrap(bootstrap::Args),
    Check(check::Args),
    Status(status::Args),
    Doctor(doctor::Args),
    Fix(fix::Args),
    Failover(failover::Args),
    SwitchAllFrom(switch_all_from::Args),
    Call(call::Args),
    SetTimeout(set_timeout::Args),
    Add(add::Args),
    Remove(remove::Args),
    MoveSlots(move_slots::Args),
    Rebalance(rebalance::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Import(Box<import::Args>),
    Scale(scale::Args),
    Restart(restart::Args),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Demo(Box<demo::Args>),
    #[command(subcommand)]
    Config(config::Command),
    Explain(explain::Args),
}

/// Runs what the command line says. Prints errors; never panics on input.
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let ended = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Bootstrap(args) => bootstrap::run(args),
        Command::Check(args) => check::run(args),
        Command::Status(args) => status::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Fix(args) => fix::run(args),
        Command::Failover(args) => failover::run(args),
        Command::SwitchAllFrom(args) => switch_all_from::run(args),
        Command::Call(args) => call::run(args),
        Command::SetTimeout(args) => set_timeout::run(args),
        Command::Add(args) => add::run(&args),
        Command::Remove(args) => remove::run(&args),
        Command::MoveSlots(args) => move_slots::run(&args),
        Command::Rebalance(args) => rebalance::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(args),
        Command::Import(args) => import::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Restart(args) => restart::run(&args),
        Command::Pause(args) => pause::pause(&args),
        Command::Resume(args) => pause::resume(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Config(command) => config::run(command),
        Command::Explain(args) => explain::run(args),
    };
    let exit = ended.unwrap_or_else(|error| {
        // Without the chain of causes: each of our errors has its cause in its own text.
        eprintln!("slotgate: {error}");
        error.downcast_ref::<Ended>().map_or(Exit::Wrong, |ended| ended.exit)
    });
    exit.into()
}

/// The command line's definition, with the settings' defaults in the help texts.
fn command() -> clap::Command {
    let mut command = Cli::command();
    for path in [&["serve"][..], &["config", "show"]] {
        command = with_defaults(command, path);
    }
    command
}

fn with_defaults(command: clap::Command, path: &[&str]) -> clap::Command {
    if let [first, rest @ ..] = path {
        return command.mut_subcommand(first, |command| with_defaults(command, rest));
    }
    let defaults = Settings::defaults().to_map();
    command.mut_args(|arg| {
        let default = arg.get_long().and_then(|key| defaults.get(key));
        let (Some(default), Some(help)) = (default, arg.get_help().map(ToString::to_string)) else {
            return arg;
        };
        if help.contains("[default") {
            return arg;
        }
        let default = default.as_str().map_or_else(|| default.to_string(), str::to_string);
        arg.help(format!("{help} [default: {default}]"))
    })
}

/// A variable of the process's environment. Bytes that are no UTF-8 are replaced, so that a damaged
/// password is refused somewhere and never taken for none.
fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;
    use std::fs;
    use std::path::Path;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_examples() {
        fn check(command: &mut clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let names: Vec<String> =
                command.get_subcommands().map(|sub| sub.get_name().to_string()).collect();
            let help = command.render_long_help().to_string();
            assert!(!names.is_empty() || help.contains("Examples:"), "{path} has no examples");
            for name in names {
                check(command.find_subcommand_mut(&name).unwrap(), &path);
            }
        }
        check(&mut command(), "");
    }

    /// Every command line that the README and the pages of `docs/` tell people to type, with its place.
    fn told_command_lines() -> Vec<(String, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let pages = pages.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
        let mut lines = Vec::new();
        for page in [root.join("README.md")].into_iter().chain(pages) {
            let (text, mut is_code) = (fs::read_to_string(&page).unwrap(), false);
            for (number, line) in text.lines().enumerate() {
                let place = format!("{}:{}", page.display(), number + 1);
                if line.starts_with("```") {
                    is_code = !is_code;
                } else if is_code {
                    lines.extend(typed(line).map(|typed| (place, typed.to_string())));
                } else {
                    let quoted = line.split('`').skip(1).step_by(2).filter_map(typed);
                    lines.extend(quoted.map(|typed| (place.clone(), typed.to_string())));
                }
            }
        }
        lines
    }

    /// The command line in a line of a shell: from `slotgate` up to a pipe, a comment or another command.
    fn typed(line: &str) -> Option<&str> {
        let words = line.trim_start().trim_start_matches("$ ").trim_start_matches("until ");
        let words = words.trim_start_matches("target/release/");
        let ends = [" | ", " # ", "; ", " > ", " && ", " || ", " < "];
        let end = ends.iter().filter_map(|end| words.find(end)).min().unwrap_or(words.len());
        words.starts_with("slotgate ").then(|| words[..end].trim_end())
    }

    /// As a shell expands `redis-{0,1}:6379`.
    fn expanded(word: &str) -> Vec<String> {
        let parts = word.split_once('{').and_then(|(before, rest)| {
            let (choices, after) = rest.split_once('}')?;
            choices.contains(',').then_some((before, choices, after))
        });
        match parts {
            Some((before, choices, after)) => {
                choices.split(',').map(|choice| format!("{before}{choice}{after}")).collect()
            }
            None => vec![word.to_string()],
        }
    }

    /// Whether nothing follows the names of a command and its subcommand.
    fn is_name(line: &str) -> bool {
        let mut words = line.split_whitespace().skip(1);
        words.try_fold(command(), |command, word| command.find_subcommand(word).cloned()).is_some()
    }

    #[test]
    fn what_the_documents_tell_to_type_is_understood() {
        let lines = told_command_lines();
        assert!(lines.len() > 50, "found only {}", lines.len());
        for (place, line) in lines {
            let line = line.replace("...", "");
            let words = line.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
            let words = words.flat_map(expanded);
            match command().try_get_matches_from(words) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::DisplayHelp => {}
                // A mention of a command by its name alone.
                Err(error) if error.kind() == ErrorKind::MissingRequiredArgument && is_name(&line) => {}
                Err(error) => panic!("{place}: {line}\n{error}"),
            }
        }
    }

    #[test]
    fn help_tells_every_default() {
        let mut command = command();
        let serve = command.find_subcommand_mut("serve").unwrap();
        let help = serve.render_long_help().to_string();
        for (key, value) in Settings::defaults().to_map() {
            if key != "workers" {
                let default = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                let line = format!("[default: {default}]");
                assert!(help.contains(&line), "{key}: {line} is missing in\n{help}");
            }
        }
    }
}
