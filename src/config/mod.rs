//! The settings of `serve`: what users write, put together and handed out to the modules.
//!
//! One precedence: flags over environment (`SLOTGATE_*`) over file (`--config`) over defaults. Each
//! module owns its own `Config` and its defaults; this one only assembles them, so no module imports
//! it. Passwords never pass through here as text that could be printed.

mod file;
mod layers;
mod settings;
mod units;

pub use file::{File, FileError};
pub use layers::{Entry, Environment, Layers, Problem, Source, variable};
pub use settings::Settings;
pub use units::{Address, Count, Size, Span, UnitError};

use crate::control::discover::Seed;
use crate::secret::Secret;
use crate::{admin, proxy, telemetry::logging};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that `serve` needs, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub proxy: proxy::Config,
    pub admin: admin::Config,
    pub log: logging::Config,
    /// Nodes to start from.
    pub seeds: Vec<Seed>,
    /// A file with more of them.
    pub seed_file: Option<PathBuf>,
    /// How often the topology is read when nothing hints at a change.
    pub refresh: Duration,
    /// How long requests under way may take once the process is told to end.
    pub drain_timeout: Duration,
}

/// Settings that do not make a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<Problem>),
}

impl Config {
    /// Reads `file`, puts the layers together and assembles the configuration.
    ///
    /// # Errors
    /// Everything that is wrong, each with its field and the place it came from.
    pub fn load(
        flags: &Settings,
        environment: Environment<'_>,
        file: Option<&std::path::Path>,
    ) -> Result<(Config, Layers), ConfigError> {
        let file = file.map(File::read).transpose()?;
        let layers = Layers::gather(flags, environment, file).map_err(ConfigError::Problems)?;
        let config = Config::assemble(&layers, environment).map_err(ConfigError::Problems)?;
        Ok((config, layers))
    }

    /// Makes each module's configuration of the layers, reads the password files and checks what no
    /// field can check alone.
    ///
    /// # Errors
    /// Every problem found.
    pub fn assemble(layers: &Layers, environment: Environment<'_>) -> Result<Config, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut secret = |key: &str| {
            read_secret(layers, environment, key).unwrap_or_else(|problem| {
                problems.push(problem);
                None
            })
        };
        let (node_password, require_password) = (secret("password"), secret("require-password"));
        let settings = layers.settings();
        problems.extend(contradictions(layers, &settings));
        if settings.user.is_some() && node_password.is_none() && problems.is_empty() {
            problems.push(layers.problem("user", "a user needs a password; give password-file as well"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(hand_out(settings, node_password, require_password))
    }
}

/// Gives each module its part. What a setting leaves open keeps the module's own default.
fn hand_out(settings: Settings, node_password: Option<Secret>, require_password: Option<Secret>) -> Config {
    let (proxy, admin, log) =
        (proxy::Config::default(), admin::Config::default(), logging::Config::default());
    let defaults = Settings::defaults();
    let count = |count: Option<Count>, default: usize| count.map_or(default, |count| count.0.get());
    let size = |size: Option<Size>, default: usize| size.map_or(default, |size| size.0);
    let span =
        |span: Option<Span>, default: Option<Span>| span.or(default).map_or(Duration::ZERO, |span| span.0);
    let idle_timeout = span(settings.idle_timeout, defaults.idle_timeout);
    Config {
        proxy: proxy::Config {
            listen: settings.listen.map_or(proxy.listen, |address| address.0),
            workers: count(settings.workers, proxy.workers),
            max_clients: count(settings.max_clients, proxy.max_clients),
            idle_timeout: (!idle_timeout.is_zero()).then_some(idle_timeout),
            hold: span(settings.hold, defaults.hold),
            require_password,
            node_user: settings.user,
            node_password,
            pipeline_limit: count(settings.pipeline_limit, proxy.pipeline_limit),
            output_soft_limit: size(settings.output_soft_limit, proxy.output_soft_limit),
            output_hard_limit: size(settings.output_hard_limit, proxy.output_hard_limit),
            held_requests: count(settings.held_requests, proxy.held_requests),
            held_bytes: size(settings.held_bytes, proxy.held_bytes),
            stream_threshold: size(settings.stream_threshold, proxy.stream_threshold),
            exclusive_connections: count(settings.exclusive_connections, proxy.exclusive_connections),
            request_timeout: span(settings.request_timeout, defaults.request_timeout),
        },
        admin: admin::Config { listen: settings.admin.map_or(admin.listen, |address| address.0) },
        log: logging::Config {
            level: settings.log_level.unwrap_or(log.level),
            format: settings.log_format.unwrap_or(log.format),
        },
        seeds: settings.seed.unwrap_or_default(),
        seed_file: settings.seed_file,
        refresh: span(settings.refresh, defaults.refresh),
        drain_timeout: span(settings.drain_timeout, defaults.drain_timeout),
    }
}

/// What is wrong between fields, or with a value that is well formed but makes no sense.
fn contradictions(layers: &Layers, settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse_if = |is_wrong: bool, key: &str, message: &str| {
        if is_wrong {
            problems.push(layers.problem(key, message));
        }
    };
    if let (Some(listen), Some(admin)) = (settings.listen, settings.admin) {
        let (listen, admin) = (listen.0, admin.0);
        let overlap =
            listen.ip() == admin.ip() || listen.ip().is_unspecified() || admin.ip().is_unspecified();
        let is_same = overlap && listen.port() == admin.port() && listen.port() != 0;
        refuse_if(
            is_same,
            "admin",
            "clients and the admin server cannot share a port; give admin another one",
        );
    }
    refuse_if(
        settings.output_soft_limit > settings.output_hard_limit,
        "output-soft-limit",
        "must not be above output-hard-limit, or clients are cut before they are paused",
    );
    let shortest = Duration::from_millis(100);
    refuse_if(
        settings.refresh.is_some_and(|refresh| refresh.0 < shortest),
        "refresh",
        "must be at least 100ms, or the nodes are asked without pause",
    );
    refuse_if(
        settings.request_timeout.is_some_and(|timeout| timeout.0.is_zero()),
        "request-timeout",
        "must be above zero, or no request succeeds",
    );
    refuse_if(
        settings.stream_threshold.is_some_and(|threshold| threshold.0 < 16 << 10),
        "stream-threshold",
        "must be at least 16kb; below, owning a connection costs more than the copy it saves",
    );
    problems
}

/// The secret called `key`: from its variable or from the file that `key`-file names, whichever stands
/// higher.
fn read_secret(layers: &Layers, environment: Environment<'_>, key: &str) -> Result<Option<Secret>, Problem> {
    let file_key = format!("{key}-file");
    let file = layers.get(&file_key);
    let name = variable(key);
    let problem = |message: &str| Problem {
        source: Source::Environment(name.clone()),
        key: key.to_string(),
        message: message.to_string(),
    };
    let is_flag = matches!(file, Some(Entry { source: Source::Flag(_), .. }));
    if let Some(text) = environment(&name).filter(|_| !is_flag) {
        if matches!(file, Some(Entry { source: Source::Environment(_), .. })) {
            return Err(problem(&format!("both {name} and {} are set; keep one", variable(&file_key))));
        }
        if text.is_empty() {
            return Err(problem("it is empty; unset it, or put the password into it"));
        }
        return Ok(Some(Secret::new(text)));
    }
    let Some(path) = file.and_then(|entry| entry.value.as_str()) else { return Ok(None) };
    let secret = Secret::read(path.as_ref());
    secret.map(Some).map_err(|error| layers.problem(&file_key, format!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: Environment<'_>) -> Result<Config, String> {
        let file = File::parse(std::path::Path::new("s.toml"), text).map_err(|error| error.to_string())?;
        Layers::gather(&Settings::default(), environment, Some(file))
            .and_then(|layers| Config::assemble(&layers, environment))
            .map_err(|problems| ConfigError::Problems(problems).to_string())
    }

    const EMPTY: Environment<'static> = &|_| None;

    #[test]
    fn without_a_word_every_module_keeps_its_own_default() {
        let config = load("", EMPTY).unwrap();
        assert_eq!(format!("{:?}", config.proxy), format!("{:?}", proxy::Config::default()));
        assert_eq!(config.log, logging::Config::default());
    }

    #[test]
    fn every_setting_of_the_data_plane_reaches_it() {
        let text = "listen = \"127.0.0.1:1\"\nworkers = 2\nmax-clients = 3\nidle-timeout = \"4s\"\nhold = \"5s\"\n\
            pipeline-limit = 6\noutput-soft-limit = 7\noutput-hard-limit = 8\nheld-requests = 9\nheld-bytes = 10\n\
            stream-threshold = \"64kb\"\nexclusive-connections = 12\nrequest-timeout = \"13s\"\n";
        let proxy = load(text, EMPTY).unwrap().proxy;
        let expected = proxy::Config {
            listen: "127.0.0.1:1".parse().unwrap(),
            workers: 2,
            max_clients: 3,
            idle_timeout: Some(Duration::from_secs(4)),
            hold: Duration::from_secs(5),
            pipeline_limit: 6,
            output_soft_limit: 7,
            output_hard_limit: 8,
            held_requests: 9,
            held_bytes: 10,
            stream_threshold: 64 << 10,
            exclusive_connections: 12,
            request_timeout: Duration::from_secs(13),
            ..proxy::Config::default()
        };
        assert_eq!(format!("{proxy:?}"), format!("{expected:?}"));
    }

    #[test]
    fn contradictions_are_named_with_field_and_line() {
        for (text, expected) in [
            ("workers = 1\noutput-soft-limit = \"65mb\"\n", "s.toml:2: output-soft-limit: must not be above"),
            ("admin = \"127.0.0.1:6379\"\n", "s.toml:1: admin: clients and the admin server cannot share"),
            ("refresh = \"0s\"\n", "s.toml:1: refresh: must be at least 100ms"),
            ("user = \"gate\"\n", "s.toml:1: user: a user needs a password"),
            (
                "password-file = \"/no/such\"\n",
                "s.toml:1: password-file: /no/such: cannot read it: No such file",
            ),
        ] {
            let error = load(text, EMPTY).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_password_comes_from_a_file_or_the_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from-file\n").unwrap();
        let text = format!("password-file = {:?}\n", file.path());
        let password = |config: Config| config.proxy.node_password;
        assert_eq!(password(load(&text, EMPTY).unwrap()), Some(Secret::new("from-file")));

        let environment = |name: &str| (name == "SLOTGATE_PASSWORD").then(|| "from-environment".to_string());
        assert_eq!(password(load(&text, &environment).unwrap()), Some(Secret::new("from-environment")));
    }

    #[test]
    fn an_empty_or_doubled_password_variable_is_refused() {
        let empty = |name: &str| (name == "SLOTGATE_REQUIRE_PASSWORD").then(String::new);
        assert!(
            load("", &empty)
                .unwrap_err()
                .contains("SLOTGATE_REQUIRE_PASSWORD: require-password: it is empty")
        );
        let both = |name: &str| name.starts_with("SLOTGATE_PASSWORD").then(|| "/x".to_string());
        assert!(
            load("", &both)
                .unwrap_err()
                .contains("both SLOTGATE_PASSWORD and SLOTGATE_PASSWORD_FILE are set")
        );
    }
}
