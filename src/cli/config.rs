//! `slotgate config`: what counts and where it came from; what is wrong with a file. `config set`, which
//! is about the nodes' settings, has a file of its own.

use super::serve::ConfigFile;
use super::{Exit, config_set, environment};
use crate::config::{
    self, ConfigError, Layers, Place, SECRETS, Settings, contradictions, load_layers, locate_secret,
    read_secret,
};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Show or check slotgate's settings; change a setting of all nodes
#[derive(clap::Subcommand)]
pub enum Command {
    Show(Box<Show>),
    Check(Check),
    Set(config_set::Args),
}

/// Print the settings that 'serve' would use with the same flags, and where each came from
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate config show
  slotgate config show --config /etc/slotgate.toml --workers 2
  slotgate config show --output json | jq -r '.hold.source'

The TOML that it prints can be used as a file for --config. Passwords are not shown.")]
pub struct Show {
    /// The shape of the answer
    #[arg(long, value_enum, default_value = "toml")]
    output: Format,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    settings: Settings,
}

/// The shape of `config show`.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Toml,
    Json,
}

/// Check a settings file; names every wrong field with its line
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slotgate config check /etc/slotgate.toml
  slotgate config check slotgate.yaml && kubectl apply -f .

Looks at the file alone, not at the environment. A password file that cannot be read here is mentioned but
is no error, as it may exist only where the gateway runs. Exit code 2 when a field is wrong.")]
pub struct Check {
    /// TOML or YAML, by its ending
    file: PathBuf,
}

pub fn run(command: Command) -> anyhow::Result<Exit> {
    Ok(match command {
        Command::Show(args) => show(&args),
        Command::Check(args) => check(&args),
        Command::Set(args) => return config_set::run(args),
    })
}

fn show(args: &Show) -> Exit {
    let layers = match load_layers(&args.settings, &environment, args.file.path().as_deref()) {
        Ok(layers) => layers,
        Err(error) => return refuse(&error),
    };
    match args.output {
        Format::Toml => print!("{}", as_toml(&layers)),
        Format::Json => println!("{:#}", as_json(&layers)),
    }
    match config::Config::assemble(&layers, &environment) {
        Ok(_) => Exit::Fine,
        Err(problems) => refuse(&ConfigError::Problems(problems)),
    }
}

fn check(args: &Check) -> Exit {
    let nothing = |_: &str| None;
    let layers = match load_layers(&Settings::default(), &nothing, Some(&args.file)) {
        Ok(layers) => layers,
        Err(error) => return refuse(&error),
    };
    let problems = contradictions(&layers);
    if !problems.is_empty() {
        return refuse(&ConfigError::Problems(problems));
    }
    for note in SECRETS.iter().filter_map(|key| read_secret(&layers, &nothing, key).err()) {
        println!("note: {note}");
    }
    println!("{}: fine", args.file.display());
    Exit::Fine
}

fn refuse(error: &ConfigError) -> Exit {
    eprintln!("{error}");
    Exit::Usage
}

/// All settings as a TOML file, each line with its source as a comment.
fn as_toml(layers: &Layers) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    for key in Settings::keys() {
        lines.push(match layers.get(&key) {
            Some(entry) => {
                let value =
                    toml::Value::try_from(&entry.value).map_or_else(|_| String::new(), |v| v.to_string());
                (format!("{key} = {value}"), entry.source.to_string())
            }
            None => (format!("# {key}"), "not set".to_string()),
        });
    }
    for (key, source) in secrets(layers) {
        lines.push((format!("# {key}"), source));
    }
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(48);
    lines.iter().fold(String::new(), |mut out, (line, source)| {
        writeln!(out, "{line:width$}  # {source}").expect("writing to a string does not fail");
        out
    })
}

/// All settings by name, each with its value and source.
fn as_json(layers: &Layers) -> Value {
    let mut all = Map::new();
    for key in Settings::keys() {
        let (value, source) = match layers.get(&key) {
            Some(entry) => (entry.value.clone(), entry.source.to_string()),
            None => (Value::Null, "not set".to_string()),
        };
        all.insert(key, json!({ "value": value, "source": source }));
    }
    for (key, source) in secrets(layers) {
        all.insert(key.to_string(), json!({ "value": null, "source": source }));
    }
    Value::Object(all)
}

/// Where each password comes from, without the password.
fn secrets(layers: &Layers) -> Vec<(&'static str, String)> {
    let describe = |key| match locate_secret(layers, &environment, key) {
        Ok(Some(Place::Variable(name))) => format!("environment {name}, not shown"),
        Ok(Some(Place::File(path))) => format!("in {}, not shown", path.display()),
        Ok(None) => "not set".to_string(),
        Err(problem) => problem.message,
    };
    SECRETS.iter().map(|key| (*key, describe(key))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::File;

    #[test]
    fn what_show_prints_is_a_file_that_says_the_same() {
        let flags = Settings {
            seed: Some(vec!["a:1".parse().unwrap(), "b:2".parse().unwrap()]),
            user: Some("say \"hi\" # not a comment".to_string()),
            ..Settings::default()
        };
        let layers = Layers::gather(&flags, &|_| None, None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shown.toml");
        std::fs::write(&path, as_toml(&layers)).unwrap();
        let again =
            Layers::gather(&Settings::default(), &|_| None, Some(File::read(&path).unwrap())).unwrap();
        assert_eq!(again.settings(), layers.settings());
    }

    #[test]
    fn every_line_names_its_source() {
        let layers = Layers::gather(&Settings::default(), &|_| None, None).unwrap();
        let shown = as_toml(&layers);
        assert_eq!(shown.lines().count(), Settings::keys().len() + SECRETS.len());
        assert!(shown.lines().all(|line| line.contains("  # ")), "{shown}");
        assert_eq!(as_json(&layers)["hold"], json!({ "value": "10s", "source": "default" }));
    }
}
