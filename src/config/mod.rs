//! The settings of `serve`: what users write, put together and handed out to the modules.
//!
//! One precedence: flags over environment (`SLOTGATE_*`) over file (`--config`) over defaults. Each
//! module owns its own `Config` and its defaults; this one only assembles them, so no module imports
//! it. Passwords never pass through here as text that could be printed.

mod check;
mod file;
mod layers;
mod secrets;
mod settings;
mod units;

pub use check::contradictions;
pub use file::{File, FileError};
pub use layers::{Entry, Environment, Layers, Problem, Source, variable};
pub use secrets::{Place, locate as locate_secret, read as read_secret};
pub use settings::Settings;
pub use units::{Address, Count, Size, Span, Switch, UnitError};

use crate::backend::Credentials;
use crate::control::{kubernetes, reconcile, refresh};
use crate::secret::Secret;
use crate::{admin, proxy, telemetry::logging};
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

/// The passwords, by the names under which [`read_secret`] finds them: towards nodes, and towards
/// clients.
pub const SECRETS: [&str; 2] = ["password", "require-password"];

/// Everything that `serve` needs, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub proxy: proxy::Config,
    pub refresh: refresh::Config,
    /// Set when the cluster is to be kept whole.
    pub manage: Option<reconcile::Config>,
    /// Set when Kubernetes tells of the nodes.
    pub kubernetes: Option<kubernetes::Config>,
    /// Set when one of several gateways is elected to keep the cluster whole.
    pub lease: Option<kubernetes::lease::Config>,
    pub admin: admin::Config,
    pub log: logging::Config,
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
        file: Option<&Path>,
    ) -> Result<Config, ConfigError> {
        let layers = load_layers(flags, environment, file)?;
        Config::assemble(&layers, environment).map_err(ConfigError::Problems)
    }

    /// Makes each module's configuration of the layers, reads the passwords and checks what no field
    /// can check alone.
    ///
    /// # Errors
    /// Every problem found.
    pub fn assemble(layers: &Layers, environment: Environment<'_>) -> Result<Config, Vec<Problem>> {
        let mut problems = contradictions(layers);
        let [node_password, require_password] = SECRETS.map(|key| {
            read_secret(layers, environment, key).unwrap_or_else(|problem| {
                problems.push(problem);
                None
            })
        });
        let settings = layers.settings();
        if !problems.is_empty() {
            return Err(problems);
        }
        if settings.user.is_some() && node_password.is_none() {
            let message = "a user needs a password; give password-file as well";
            return Err(vec![layers.problem("user", message)]);
        }
        Ok(hand_out(settings, node_password, require_password))
    }
}

/// Reads `file` and puts the layers together, without the checks between fields.
///
/// # Errors
/// Every field that is unknown or not well formed.
pub fn load_layers(
    flags: &Settings,
    environment: Environment<'_>,
    file: Option<&Path>,
) -> Result<Layers, ConfigError> {
    let file = file.map(File::read).transpose()?;
    Layers::gather(flags, environment, file).map_err(ConfigError::Problems)
}

/// Gives each module its part. What a setting leaves open keeps the module's own default.
fn hand_out(settings: Settings, node_password: Option<Secret>, require_password: Option<Secret>) -> Config {
    let proxy = proxy::Config::default();
    let admin = admin::Config::default();
    let log = logging::Config::default();
    let defaults = Settings::defaults();
    let count = |count: Option<Count>, default: usize| count.map_or(default, |count| count.0.get());
    let size = |size: Option<Size>, default: usize| size.map_or(default, |size| size.0);
    let span =
        |span: Option<Span>, default: Option<Span>| span.or(default).map_or(Duration::ZERO, |span| span.0);
    let is_managing = settings.manage.is_some_and(|manage| manage.0);
    let refresh = refresh::Config {
        seeds: settings.seed.unwrap_or_default(),
        seed_file: settings.seed_file,
        credentials: Credentials { user: settings.user.clone(), password: node_password.clone() },
        refresh: span(settings.refresh, defaults.refresh),
        ..refresh::Config::default()
    };
    let manage = is_managing.then(|| reconcile::Config {
        seeds: refresh.seeds.clone(),
        seed_file: refresh.seed_file.clone(),
        pods: None,
        kubernetes: None,
        pause_file: settings.pause_file,
        journal_file: settings.journal_file,
        credentials: refresh.credentials.clone(),
        limit: refresh.limit,
    });
    let in_kubernetes = settings.kubernetes.is_some_and(|kubernetes| kubernetes.0);
    let kubernetes = in_kubernetes.then(|| kubernetes::Config {
        namespace: settings.namespace,
        stateful_set: settings.statefulset.unwrap_or_else(|| kubernetes::STATEFUL_SET.into()),
        port: settings.port_in_pods.map_or(kubernetes::PORT, NonZeroU16::get),
    });
    let elected = kubernetes.as_ref().filter(|_| is_managing);
    let lease = elected.map(|place| kubernetes::lease::Config::own(settings.lease, &place.stateful_set));
    let unless_zero = |time: Duration| (!time.is_zero()).then_some(time);
    Config {
        proxy: proxy::Config {
            listen: settings.listen.map_or(proxy.listen, |address| address.0),
            workers: count(settings.workers, proxy.workers),
            max_clients: count(settings.max_clients, proxy.max_clients),
            idle_timeout: unless_zero(span(settings.idle_timeout, defaults.idle_timeout)),
            write_timeout: unless_zero(span(settings.write_timeout, defaults.write_timeout)),
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
            cross_slot: settings.cross_slot.unwrap_or(proxy.cross_slot),
            cross_slot_bytes: size(settings.cross_slot_bytes, proxy.cross_slot_bytes),
            report_cross_slot: settings.report_cross_slot.map_or(proxy.report_cross_slot, |switch| switch.0),
            request_timeout: span(settings.request_timeout, defaults.request_timeout),
        },
        admin: admin::Config { listen: settings.admin.map_or(admin.listen, |address| address.0) },
        log: logging::Config {
            level: settings.log_level.unwrap_or(log.level),
            format: settings.log_format.unwrap_or(log.format),
        },
        refresh,
        manage,
        kubernetes,
        lease,
        drain_timeout: span(settings.drain_timeout, defaults.drain_timeout),
    }
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
        let text = "listen = \"127.0.0.1:1\"\nworkers = 2\nmax-clients = 3\nidle-timeout = \"4s\"\n\
            write-timeout = \"14s\"\nhold = \"5s\"\n\
            pipeline-limit = 6\noutput-soft-limit = 7\noutput-hard-limit = 8\nheld-requests = 9\nheld-bytes = 10\n\
            stream-threshold = \"64kb\"\nexclusive-connections = 12\nrequest-timeout = \"13s\"\n\
            cross-slot = \"emulate\"\ncross-slot-bytes = 14\nreport-cross-slot = true\n";
        let proxy = load(text, EMPTY).unwrap().proxy;
        let expected = proxy::Config {
            listen: "127.0.0.1:1".parse().unwrap(),
            workers: 2,
            max_clients: 3,
            idle_timeout: Some(Duration::from_secs(4)),
            write_timeout: Some(Duration::from_secs(14)),
            hold: Duration::from_secs(5),
            pipeline_limit: 6,
            output_soft_limit: 7,
            output_hard_limit: 8,
            held_requests: 9,
            held_bytes: 10,
            stream_threshold: 64 << 10,
            exclusive_connections: 12,
            request_timeout: Duration::from_secs(13),
            cross_slot: proxy::CrossSlot::Emulate,
            cross_slot_bytes: 14,
            report_cross_slot: true,
            ..proxy::Config::default()
        };
        assert_eq!(format!("{proxy:?}"), format!("{expected:?}"));
    }

    #[test]
    fn a_timeout_of_zero_is_never() {
        let proxy = load("idle-timeout = \"0s\"\nwrite-timeout = \"0s\"\n", EMPTY).unwrap().proxy;
        assert_eq!((proxy.idle_timeout, proxy.write_timeout), (None, None));
    }

    #[test]
    fn the_control_plane_gets_seeds_and_credentials() {
        let environment: Environment<'_> =
            &|name| (name == "SLOTGATE_PASSWORD").then(|| "hunter2".to_string());
        let text = "seed = [\"a:1\"]\nseed-file = \"/seeds\"\nuser = \"gate\"\nrefresh = \"3s\"\n";
        let refresh = load(text, environment).unwrap().refresh;
        assert_eq!(refresh.seeds, ["a:1".parse().unwrap()]);
        assert_eq!(refresh.seed_file, Some("/seeds".into()));
        assert_eq!(refresh.refresh, Duration::from_secs(3));
        let credentials =
            Credentials { user: Some("gate".to_string()), password: Some(Secret::new("hunter2")) };
        assert_eq!(refresh.credentials, credentials);
    }

    #[test]
    fn the_manager_starts_from_the_same_nodes_and_only_when_asked() {
        let text =
            "seed = [\"a:1\"]\nseed-file = \"/seeds\"\npause-file = \"/pause\"\njournal-file = \"/j\"\n";
        assert!(load(text, EMPTY).unwrap().manage.is_none());
        let environment: Environment<'_> = &|name| (name == "SLOTGATE_MANAGE").then(|| "yes".to_string());
        let manage = load(text, environment).unwrap().manage.unwrap();
        assert_eq!(manage.seeds, ["a:1".parse().unwrap()]);
        assert_eq!((manage.seed_file, manage.pause_file), (Some("/seeds".into()), Some("/pause".into())));
        assert_eq!(manage.journal_file, Some("/j".into()));
    }

    #[test]
    fn a_user_without_a_password_is_refused() {
        let error = load("hold = \"1s\"\nuser = \"gate\"\n", EMPTY).unwrap_err();
        assert!(error.starts_with("s.toml:2: user: a user needs a password"), "{error}");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let error = load("refresh = \"0s\"\npassword-file = \"/no/such\"\n", EMPTY).unwrap_err();
        assert_eq!(error.lines().count(), 2, "{error}");
    }
}
